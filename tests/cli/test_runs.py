"""`dampen runs`: studies are listed, shown, put side by side and removed, and nothing else is."""

import errno
import json
import os
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import shellingham
import typer

from dampen._language import speaking
from dampen.cli._examples import EXAMPLES
from dampen.study import _kept, kept, remove_study, side_by_side

TINY = ("--settings", 2, "--seeds", 1, "--epochs", 1, "--confirm-seeds", 2, "--confirmed", 1, "--hidden", "4")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder in which `dampen tune` has made one study."""
    folder = tmp_path_factory.mktemp("runs")
    mp = pytest.MonkeyPatch()
    mp.chdir(folder)
    from dampen.cli import main

    mp.setattr(sys, "argv", ["dampen", "tune", "wine", *map(str, TINY)])
    with pytest.raises(SystemExit) as ended:
        main()
    mp.undo()
    assert not ended.value.code
    return folder / "dampen-runs"


@pytest.fixture
def runs(made, tmp_path):
    """Two studies of which the second differs in an option, one that has not ended, and what is no study."""
    place = tmp_path / "dampen-runs"
    for name in ("wine-1", "wine-2", "half"):
        shutil.copytree(made / "wine-1", place / name)
    document = json.loads((place / "wine-2" / "study.json").read_text())
    document["plan"]["seed"] = 7
    (place / "wine-2" / "study.json").write_text(json.dumps(document))
    (place / "half" / "study.json").unlink()
    (place / "torn").mkdir()
    (place / "torn" / "plan.json").write_bytes((place / "half" / "plan.json").read_bytes())
    (place / "torn" / "study.json").write_text('{"data": "wine", "colu')
    (place / "foreign").mkdir()
    (place / "foreign" / "plan.json").write_text('{"steps": ["buy milk"]}')
    (place / "foreign" / "notes.txt").write_text("mine")
    (place / "file").write_text("mine")
    for i, name in enumerate(("half", "torn", "wine-1", "wine-2")):
        for file in (place / name).glob("*.json"):
            os.utime(file, (1_700_000_000 + i, 1_700_000_000 + i))
    return place


def everything(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_list_has_studies_alone_the_latest_first_and_changes_nothing(run, runs):
    before = everything(runs)
    code, out, err = run("runs", "--help")
    assert (code, err) == (0, "")
    code, out, err = run("runs")
    names = re.findall(r"^ *(wine-2|wine-1|torn|half|foreign|file) ", out, re.MULTILINE)
    assert (code, names) == (0, ["wine-2", "wine-1", "torn", "half"])
    assert "unfinished" in out
    assert re.fullmatch(r"dampen: note: .*torn/study.json is damaged.*\n", err)
    document = json.loads(run("runs", "list", "--json")[1])
    assert [study["state"] for study in document["studies"]] == ["finished", "finished", "damaged", "unfinished"]
    assert json.loads(run("runs", "--json")[1]) == document
    code, out, err = run("runs", "--json", "show", "wine-1")
    assert (code, out, err) == (2, "", "dampen: --json stands after the command: dampen runs show ... --json\n")
    assert everything(runs) == before


def test_a_study_that_is_removed_meanwhile_is_left_out(run, runs, monkeypatch):
    found = _kept.named

    def then_removed(place):
        names = found(place)
        remove_study(runs / "wine-1")
        shutil.rmtree(runs / "half")
        return names

    monkeypatch.setattr(_kept, "named", then_removed)
    assert [study.folder.name for study in kept(runs)] == ["wine-2", "torn"]


def test_figures_are_those_of_the_studys_document(run, runs):
    document = json.loads((runs / "wine-1" / "study.json").read_text())
    shown = next(s for s in json.loads(run("runs", "list", "--json")[1])["studies"] if s["folder"].endswith("wine-1"))
    assert shown["value"] == document["validation"]["mean"]
    assert shown["setting"] == document["recommended"]
    assert shown["test"] == document["test"]["recommended"][document["metric"]]


def test_a_finished_study_is_shown_as_tune_printed_it(run, runs):
    document = json.loads((runs / "wine-1" / "study.json").read_text())
    for name in ("wine-1", runs / "wine-1"):
        code, out, err = run("runs", "show", name)
        assert (code, err) == (0, "")
        assert out.splitlines()[: len(document["sentences"])] == document["sentences"]
    assert json.loads(run("runs", "show", "wine-1", "--json")[1])["sentences"] == document["sentences"]


def test_every_command_takes_a_study_by_its_name(run, runs):
    page = runs / "wine-1" / "report.html"
    page.unlink()
    assert run("report", "wine-1") == (0, "dampen-runs/wine-1/report.html\n", "")
    assert page.is_file()
    code, out, _ = run("export", "wine-1")
    assert (code, out.splitlines()[0].startswith("dampen-runs/wine-1/export/")) == (0, True)
    for command in ("predict", "trust"):
        assert run(command, "wine-1", "no.csv") == (2, "", "dampen: there is no file no.csv; correct the name\n")


def test_which_knobs_matter_is_shown_where_settings_are_enough(run, runs):
    code, out, err = run("runs", "show", "wine-1", "--importance")
    assert (code, out) == (2, "")
    assert err == "dampen: importance needs 20 settings or more of one length, 1 epochs have 2\n"
    file = runs / "wine-1" / "search.json"
    rung = json.loads(file.read_text())[0]
    n, metric = 40, json.loads((runs / "wine-1" / "study.json").read_text())["metric"]
    costs = [i / n for i in range(n)]
    settings = [{"weight_decay": 0.01 * (7 * i % n), "lr": 0.001 * (i + 1)} for i in range(n)]
    rung |= {"settings": settings, "costs": costs, metric: costs, "stops": [[1, 0.5]] * n}
    file.write_text(json.dumps([rung]))
    code, out, err = run("runs", "show", "wine-1", "--importance")
    assert (code, err) == (0, "")
    assert "Shown to matter: lr." in out.splitlines()
    assert re.search(r"^ +lr +\d+ % +\d+ to 100 % ", out, re.MULTILINE)
    document = json.loads(run("runs", "show", "wine-1", "--importance", "--json")[1])["importance"]
    assert (document["settings"], document["better"], next(iter(document["knobs"]))) == (40, 20, "lr")


def test_two_studies_side_by_side_tell_what_differs(run, runs):
    code, out, err = run("runs", "compare", "wine-1", "wine-2")
    assert (code, err) == (0, "")
    assert "wine-1 and wine-2 differ in: seed: 0 and 7." in out
    document = json.loads(run("runs", "compare", "wine-1", "wine-2", "--json")[1])
    assert document["differences"] == [[], ["seed: 0 and 7"]]
    assert document == json.loads(json.dumps(side_by_side(["dampen-runs/wine-1", "dampen-runs/wine-2"])))


def test_studies_of_one_name_and_those_of_long_names_are_told_apart(run, runs, tmp_path, monkeypatch):
    shutil.copytree(runs / "wine-2", tmp_path / "other" / "wine-1")
    code, out, err = run("runs", "compare", "wine-1", "other/wine-1", "wine-2")
    assert (code, err) == (0, "")
    assert "dampen-runs/wine-1 and other/wine-1 differ in: seed: 0 and 7." in out
    assert "dampen-runs/wine-1 and wine-2 differ in: seed: 0 and 7." in out
    longer = ["x" * 50 + middle + "y" * 50 for middle in ("first", "other")]
    for name in longer:
        shutil.copytree(runs / "wine-1", tmp_path / name)
    assert f"{longer[0]} and {longer[1]} differ in: nothing" in run("runs", "compare", *longer)[1]
    monkeypatch.chdir(runs / "wine-1")
    assert "wine-1 and wine-2 differ in: seed: 0 and 7." in run("runs", "compare", ".", "../wine-2")[1]
    assert re.search("^ *wine-1 ", run("runs", "list", ".")[1], re.MULTILINE)


def test_lists_and_comparisons_are_chinese_but_for_names_and_measures(run, runs):
    document = json.loads((runs / "wine-2" / "study.json").read_text())
    document["plan"]["metric"], document["plan"]["model"] = "accuracy", "mine"
    (runs / "wine-2" / "study.json").write_text(json.dumps(document | {"diagnosis": None}))
    pages = []
    for learnt, helps in ((True, True), (True, False), (True, None), (False, False)):
        document = json.loads((runs / "wine-1" / "study.json").read_text())
        (runs / "wine-1" / "study.json").write_text(json.dumps(document | {"learnt": learnt, "helps": helps}))
        with speaking("en"):
            pages += [run("runs", "--lang", "zh")[1], run("runs", "compare", "wine-1", "wine-2", "--lang", "zh")[1]]
    known = {"wine", "half", "torn", "nll", "lr", "seed", "metric", "accuracy"}
    assert set(re.findall("[a-z]{2,}", "".join(pages))) <= known
    assert "wine-1 和 wine-2 的不同之处：网络; metric：nll 和 accuracy; seed：0 和 7。" in pages[1]


def test_other_rows_and_other_metrics_are_told(runs):
    document = json.loads((runs / "wine-2" / "study.json").read_text())
    document["plan"]["data"]["fingerprint"], document["metric"] = "0" * 32, "brier"
    (runs / "wine-2" / "study.json").write_text(json.dumps(document))
    found = side_by_side([runs / "wine-1", runs / "wine-2"])
    assert [note.split(",")[0] for note in found["notes"]] == [
        "they were made on different rows or splits",
        "their metrics differ",
    ]
    assert found["differences"][1][0] == "data"


@pytest.mark.parametrize(
    "words",
    [
        ("list", "nowhere"),
        ("list", "dampen-runs/file"),
        ("show", "nowhere"),
        ("show", "half"),
        ("show", "torn"),
        ("show", "foreign"),
        ("show", "file"),
        ("compare", "wine-1"),
        ("compare", "wine-1", "half"),
        ("compare", "wine-1", "torn"),
        ("remove", "wine-1"),
        ("remove", "foreign", "--yes"),
        ("remove", "wine-1", "foreign", "--yes"),
        ("remove", "file", "--yes"),
        ("remove", "dampen-runs", "--yes"),
        ("remove", "nowhere", "--yes"),
        ("remove", "link", "--yes"),
        ("remove",),
        ("no-such-command",),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_lost(run, runs, words):
    (runs / "link").symlink_to(runs / "wine-1", target_is_directory=True)
    before = everything(runs)
    code, out, err = run("runs", *words)
    assert (code, out) == (2, "")
    assert re.fullmatch(r"dampen: .+\n", err)
    assert everything(runs) == before


def test_removing_takes_a_study_whole_and_leaves_what_is_ones_own(run, runs):
    (runs / "wine-1" / "notes.txt").write_text("mine")
    code, out, err = run("runs", "remove", "wine-1", "wine-2", "torn", "half", "--yes")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "removed dampen-runs/wine-1; 1 of your own files stayed there"
    assert sorted(everything(runs)) == sorted(
        runs / name for name in ("file", "foreign/notes.txt", "foreign/plan.json", "wine-1/notes.txt")
    )
    assert kept(runs) == ()


def test_a_study_that_is_written_to_is_not_removed(run, runs):
    from dampen._io import locked

    with locked(runs / "half"):
        assert kept(runs / "half")[0].state == "running"
        before = everything(runs)
        code, _, err = run("runs", "remove", "half", "--yes")
        assert (code, everything(runs)) == (2, before)
        assert "is writing to" in err
    assert remove_study(runs / "half") == ()


def test_a_question_is_asked_on_a_terminal(run, runs, monkeypatch):
    for answer, code in (("n\n", 2), ("\n", 2), ("y\n", 0)):
        stdin = type("Terminal", (), {"isatty": lambda self: True, "readline": lambda self, answer=answer: answer})()
        monkeypatch.setattr(sys, "stdin", stdin)
        assert run("runs", "remove", "wine-2")[0] == code
        assert (runs / "wine-2").exists() == (code == 2)


def test_every_command_has_examples_that_its_options_allow(run, monkeypatch):
    from dampen.cli._main import _PANELS, _application

    names = {name for commands in _PANELS.values() for name in commands}
    assert names == {name for name in EXAMPLES if name and " " not in name}
    root = typer.main.get_command(_application(()))
    for lines in EXAMPLES.values():
        for line in lines:
            program, *words = shlex.split(line)
            assert program == "dampen"
            command, context = root, None
            while hasattr(command, "commands") and words and words[0] in command.commands:
                command = command.commands[words.pop(0)]
            if "--help" not in words:
                command.make_context(line, words, parent=context)
    monkeypatch.setenv("COLUMNS", "200")
    for line in EXAMPLES["tune"]:
        assert line in run("tune", "--help")[1]


def test_completion_knows_commands_options_and_studies(run, runs, monkeypatch):
    monkeypatch.setenv("_DAMPEN_COMPLETE", "complete_bash")
    for words, expected in {
        "ru": "runs",
        "tune --see": "--seed",
        "runs show wi": "wine-1",
        "predict wi": "wine-1",
    }.items():
        monkeypatch.setenv("COMP_WORDS", f"dampen {words}")
        monkeypatch.setenv("COMP_CWORD", str(len(words.split())))
        assert expected in run()[1].split()


def test_the_script_of_the_shell_that_is_named_is_shown_or_installed(run, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for shell, part in {
        "bash": "complete -o default -F",
        "zsh": "#compdef dampen",
        "fish": "complete --command",
    }.items():
        code, out, err = run("--show-completion", shell)
        assert (code, err) == (0, "")
        assert part in out
        assert "_DAMPEN_COMPLETE" in out
    (tmp_path / ".bashrc").write_text("alias a=b\n")
    code, out, err = run("--install-completion", "bash")
    assert (code, err) == (0, "")
    script = tmp_path / ".bash_completions" / "dampen.sh"
    assert f"The completion for bash is in {script}" in out
    assert script.read_text().strip() == run("--show-completion", "bash")[1].strip()
    with speaking("en"):
        assert run("--install-completion", "bash", "--lang", "zh")[1].startswith(f"bash 的补全在 {script}")
    assert (tmp_path / ".bashrc").read_text().split("\n")[:1] == ["alias a=b"]
    assert str(script) in (tmp_path / ".bashrc").read_text()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--show-completion", "nonsense"], "got nonsense"),
        (["--install-completion=nonsense"], "got nonsense"),
        (["--show-completion", "bash", "zsh"], "takes one shell at most, got bash zsh"),
        (["--show-completion"], "none was found around this command: name yours"),
        (["--install-completion"], "none was found around this command: name yours"),
        (["--install-completion", "bash"], "is left as it is"),
        (["--install-completion", "fish"], r"\.config"),
    ],
)
def test_a_completion_that_can_t_be_made_is_one_line(run, tmp_path, monkeypatch, words, line):
    def nowhere():
        raise shellingham.ShellDetectionFailure

    monkeypatch.setattr(shellingham, "detect_shell", nowhere)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".bashrc").write_bytes(b"# \xe9t\xe9\n")
    (tmp_path / ".config").write_text("a file")
    code, out, err = run(*words)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert re.search(line, err)
    assert (tmp_path / ".bashrc").read_bytes() == b"# \xe9t\xe9\n"


@pytest.mark.parametrize(("shell", "name"), [("bash", ".bashrc"), ("zsh", ".zshrc")])
def test_a_start_up_file_is_as_it_was_where_the_disk_is_full(run, tmp_path, monkeypatch, shell, name):
    file, write = tmp_path / name, Path.write_text

    def full(self, text, *how, **more):
        write(self, text[:3] if self.name == name else text, *how, **more)
        if self.name == name:
            raise OSError(errno.ENOSPC, "No space left on device", str(self))

    monkeypatch.setenv("HOME", str(tmp_path))
    file.write_text("alias a=b\n")
    monkeypatch.setattr(Path, "write_text", full)
    code, out, err = run("--install-completion", shell)
    assert (code, out) == (2, "")
    assert re.fullmatch(r"dampen: the completion can't be installed: .*No space left on device; .*\n", err)
    assert file.read_text() == "alias a=b\n"


def test_own_files_stay_wherever_they_lie_and_no_name_means_the_folder_one_is_in(run, tmp_path, monkeypatch):
    study = tmp_path / "mine"
    for name in ("plan.json", "study.json", "loss.json", "curves/a.parquet", "checkpoints/b/population.safetensors"):
        (study / name).parent.mkdir(parents=True, exist_ok=True)
        (study / name).write_text('{"data": {"name": "x"}}')
    (study / "trust.html").write_bytes(b"<!doctype html><head><title>When to trust it? wine</title>")
    own = [study / name for name in ("export/notes.md", "report.html", "curves/a.json", "curves/My rows.parquet")]
    own += [study / "checkpoints" / name for name in ("mine.txt", "labels.json", "b/notes.json", "b/c/d.safetensors")]
    for file in own:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("mine")
    monkeypatch.chdir(study)
    for name in ("", " ", ".", str(study)):
        code, _, err = run("runs", "remove", name, "--yes")
        assert code == 2
        assert len(err.splitlines()) == 1
    assert (study / "plan.json").is_file()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(_kept, "_is_study", lambda folder: True)
    _kept.remove_study(study)
    assert sorted(path for path in study.rglob("*") if path.is_file()) == sorted(own)


def test_odd_names_are_shown_in_one_line_each_as_they_are(run, runs):
    odd = ("red\x1b[31m\x07\nline", os.fsdecode(b"bytes\xff"), "long" * 60)
    for name in odd:
        shutil.copytree(runs / "half", runs / name)
    for name in ("wine-1/study.json", "wine-2/study.json", f"{odd[0]}/plan.json"):
        document = json.loads((runs / name).read_text())
        if "plan" in document:
            document |= {"data": "\u202e\x1b]0;title\x07" + "d" * 5000, "sentences": ["\x1b[2Ja"]}
        else:
            document["data"]["name"] = "\r\n\x9b31m"
        (runs / name).write_text(json.dumps(document))
    code, out, err = run("runs")
    assert (code, len(err.splitlines())) == (0, 1)
    assert len(out.split("\n")) == 3 + 7 + 2  # an empty line, head and rule, 7 studies, an empty line
    for words in (("list",), ("compare", "wine-1", "wine-2"), ("show", "wine-1"), ("show", odd[0])):
        _, out, err = run("runs", *words)
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\ud800-\udfff]", out + err)
        assert max(map(len, out.splitlines()), default=0) < 400
    code, out, err = run("runs", "list", "--json")
    assert (code, err) == (0, "")
    out.encode("utf-8")
    assert {os.path.basename(study["folder"]) for study in json.loads(out)["studies"]} >= set(odd)


def test_a_study_of_a_later_version_is_refused_by_name(run, runs):
    file = runs / "wine-1" / "study.json"
    document = json.loads(file.read_text())
    document["plan"]["format"] = 99
    file.write_text(json.dumps(document))
    for words in (("runs", "show", "wine-1"), ("report", file.parent), ("predict", file.parent, "wine")):
        code, out, err = run(*words)
        assert (code, out) == (2, "")
        assert "its plan has format 99, this version reads up to 2; update dampen" in err
    code, out, err = run("runs", "list", file.parent)
    assert (code, len(err.splitlines())) == (0, 1)
    assert "of a later version of dampen" in err
    assert run("runs", "remove", "wine-1", "--yes")[0] == 0


def test_a_page_of_ones_own_is_neither_written_over_nor_removed(run, runs):
    page = runs / "wine-1" / "report.html"
    page.write_text("<p>mine</p>")
    code, out, err = run("report", page.parent)
    assert (code, out) == (2, "")
    assert "is no page of dampen's: it is not overwritten" in err
    assert run("runs", "remove", "wine-1", "wine-2", "--yes")[0] == 0
    assert page.read_text() == "<p>mine</p>"
    assert not (runs / "wine-2").exists()
