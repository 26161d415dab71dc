"""Kills, full disks, two at once: a folder is as it was or as it should be, and what a user keeps in it stays."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import dampen
from dampen import InputError, Setting
from dampen._io import locked, save_tensors, write_whole
from dampen.export import write
from dampen.study import load_study

SETTINGS = [Setting(weight_decay=0.1), Setting(weight_decay=1.0)]
WORDS = {"n_seeds": 2, "epochs": 2, "batch_size": 32}
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
OPTIONS = {  # of `dampen tune`, each with another way through it
    "folds": [],
    "held-out": ["--validation", "held-out"],
    "tpe": ["--search", "tpe"],
    "hyperband": ["--search", "hyperband"],
    "budget": ["--budget", "30s"],
}
SMALL = ["--settings", 4, "--seeds", 1, "--epochs", 4, "--confirm-seeds", 2, "--hidden", 8, "--confirmed", 1]
# The command, in processes forked from one that has imported everything: moments count from the first of its own work.
FORKED = """
import os, resource, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
import torch, pandas, pyarrow.parquet, safetensors.torch, optuna, sklearn.ensemble, scipy.stats, plotly.graph_objects
torch.set_num_threads(1)
import dampen.study, dampen.export, dampen.report
dampen.study._simple_models.PENALTIES, dampen.study._simple_models.BOOSTING_MOST = (0.1, 10.0), 10  # as in conftest.py
from dampen.cli import main
for line in sys.stdin:
    folder, size, words = eval(line)
    child = os.fork()
    if not child:
        os.chdir(folder)
        for stream, name in enumerate((os.devnull, "../out", "../err")):
            os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC), stream)
        if size is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        sys.argv = ["dampen", *words]
        main()
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""


def compare(folder, **options):
    return dampen.compare(dampen.mlp(4), dampen.load("iris"), SETTINGS, out=folder, **WORDS | options)


def test_a_user_s_files_stay_when_a_study_is_resumed(tmp_path):
    folder = tmp_path / "study"
    compare(folder)
    mine = [folder / ".gitignore", folder / ".env", folder / "checkpoints" / ".keep", folder / ".study.json-notes"]
    mine += [folder / "notes.txt", folder / ".git" / "HEAD", folder / ".dampen-tmp-mine", folder / "curves" / ".x"]
    for file in mine:
        file.parent.mkdir(exist_ok=True)
        file.write_text("mine")
    for place in (folder, folder / "checkpoints" / "test-1"):
        (place / ".dampen-tmp-abcd_123.json").write_text("of a killed one")
    compare(folder, resume=True)
    assert all(file.read_text() == "mine" for file in mine)
    assert not list(folder.rglob(".dampen-tmp-abcd_123.json"))


@pytest.mark.parametrize("resume", [False, True])
def test_a_study_killed_before_its_plan_was_written_is_begun_again(tmp_path, resume):
    (tmp_path / "study").mkdir()
    for name in (".dampen-tmp-abcd_123.json", ".dampen-lock", "budget.json"):
        (tmp_path / "study" / name).write_text("")
    compare(tmp_path / "study", resume=resume)
    assert (tmp_path / "study" / "study.json").is_file()
    assert not list((tmp_path / "study").glob(".*"))


def test_resume_needs_a_folder(tmp_path):
    with pytest.raises(InputError, match=r"there is no study in .* to resume"):
        compare(tmp_path / "study", resume=True)
    assert not (tmp_path / "study").exists()
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match=r"there is no study in .* to resume"):
        compare(tmp_path / "study", resume=True)


def test_one_folder_has_one_writer(tmp_path):
    with locked(tmp_path / "study"), pytest.raises(InputError, match="another process is writing to") as caught:
        compare(tmp_path / "study")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "study").exists()  # nothing came of either
    compare(tmp_path / "study")
    assert not list((tmp_path / "study").glob(".*"))
    winner = load_study(tmp_path / "study").winner()
    with locked(tmp_path / "export"), pytest.raises(InputError, match="another process is writing to"):
        write(winner, tmp_path / "export")


def test_a_lock_of_a_killed_process_does_not_hold(tmp_path):
    program = "import os\nfrom pathlib import Path\nfrom dampen._io import locked\n"
    program += "with locked(Path('study')):\n    print('held', flush=True)\n    input()"
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    with pytest.raises(InputError, match="another process is writing to"), locked(tmp_path / "study"):
        pass
    process.kill()
    process.communicate()
    assert (tmp_path / "study" / ".dampen-lock").exists()
    with locked(tmp_path / "study"):
        pass
    assert not list((tmp_path / "study").iterdir())


def test_a_study_goes_on_from_another_directory(tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    rows = "a,b,y\n" + "".join(f"{i % 7},{i % 5},{i % 3}\n" for i in range(60))
    (tmp_path / "there" / "rows.csv").write_text(rows)
    monkeypatch.chdir(tmp_path / "there")
    data = dampen.load("rows.csv", target="y", task="classification")
    first = dampen.compare(dampen.mlp(4), data, SETTINGS, out="study", **WORDS)
    monkeypatch.chdir(tmp_path)
    again = dampen.load("there/rows.csv", target="y", task="classification")
    found = dampen.compare(dampen.mlp(4), again, SETTINGS, out="there/study", resume=True, **WORDS)
    assert found.verdict.document() == first.verdict.document()
    (tmp_path / "there" / "rows.csv").write_text(rows.replace("0,0,0", "0,1,0"))
    other = dampen.load("there/rows.csv", target="y", task="classification")
    with pytest.raises(InputError, match="its rows, columns or splits differ"):
        dampen.compare(dampen.mlp(4), other, SETTINGS, out="there/study", resume=True, **WORDS)


def test_a_file_of_weights_has_the_same_bytes_each_time(tmp_path):
    tensors = {name: torch.ones(2) for name in "abc"}
    about = {f"key {i}": "é" * i for i in range(6)}  # which the library writes in the order of a hash table
    for i in range(20):
        save_tensors(tensors, tmp_path / str(i), about)
    assert len({file.read_bytes() for file in tmp_path.iterdir()}) == 1
    assert load_file(tmp_path / "0")["a"].tolist() == [1, 1]
    with safe_open(tmp_path / "0", "pt") as held:
        assert held.metadata() == about


def test_an_export_that_was_killed_does_not_block_the_next(tmp_path):
    compare(tmp_path / "study")
    winner = load_study(tmp_path / "study").winner()
    (tmp_path / "export" / ".dampen-staged").mkdir(parents=True)
    (tmp_path / "export" / ".dampen-staged" / "data.npz").write_text("half")
    (tmp_path / "export" / "train.py").write_text("of the one that was killed")
    found = write(winner, tmp_path / "export")
    assert sorted(f.name for f in (tmp_path / "export").iterdir()) == sorted(found.files)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "train.py").write_text("mine")
    with pytest.raises(InputError, match="is not empty and holds no export"):
        write(winner, tmp_path / "mine")
    assert (tmp_path / "mine" / "train.py").read_text() == "mine"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), OSError(27, "File too large")])
def test_a_file_that_can_not_be_written_whole_is_not_there(tmp_path, error):
    (tmp_path / "file.json").write_text("before")

    def fail(file):
        file.write_text("half")
        raise error

    with pytest.raises(InputError, match=error.strerror) as caught:
        write_whole(tmp_path / "file.json", fail)
    assert "\n" not in str(caught.value)
    assert [(f.name, f.read_text()) for f in tmp_path.iterdir()] == [("file.json", "before")]


# Kills


class Commands:
    """Runs `dampen` in forked processes, which begin at once with their own work."""

    def __init__(self):
        self._process = subprocess.Popen(
            [sys.executable, "-c", FORKED], env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, folder, *words, kill_after=None, size=None):
        """Return the exit status of a command, which is killed after so many seconds, or may write so many bytes."""
        self._process.stdin.write(repr((str(folder), size, [str(word) for word in words])) + "\n")
        self._process.stdin.flush()
        child = int(self._process.stdout.readline())
        if kill_after is not None:
            time.sleep(kill_after)
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        return int(self._process.stdout.readline())

    def close(self):
        self._process.communicate()


@pytest.fixture(scope="module")
def commands():
    found = Commands()
    yield found
    found.close()


@pytest.fixture
def place(tmp_path):
    (tmp_path / "place").mkdir()
    return tmp_path / "place"


def contents(folder):
    """Return what a folder holds, but for what tells of time."""
    found = {}
    for file in sorted(folder.rglob("*")):
        name = str(file.relative_to(folder))
        if file.is_file() and name not in ("time.json", "report.html"):
            found[name] = file.read_bytes()
    if "study.json" in found:
        document = json.loads(found["study.json"])
        found["study.json"] = {name: value for name, value in document.items() if name not in ("seconds", "folder")}
    return found


def moments(n, longest, seed):
    """Return moments of a run that takes so long: a fifth of them within its first 100 ms."""
    draw = random.Random(seed)
    return [draw.uniform(0, 0.1) if i % 5 == 0 else draw.uniform(0, longest) for i in range(n)]


@pytest.mark.parametrize(
    ("way", "n"),
    [
        ("folds", 2),
        *(pytest.param(way, 32, marks=[pytest.mark.slow, pytest.mark.timeout(3000)]) for way in OPTIONS),
    ],
)
def test_a_study_that_is_killed_again_and_again_ends_as_one_that_is_not(place, commands, way, n):
    words = ["tune", "iris", *SMALL, *OPTIONS[way]]
    begun = time.perf_counter()
    assert commands.run(place, *words, "--out", "whole") == 0
    longest = time.perf_counter() - begun
    if way == "budget":  # what fits the time is measured: give the other the same
        (place / "killed").mkdir()
        shutil.copy(place / "whole" / "budget.json", place / "killed")
    (place / "killed").mkdir(exist_ok=True)
    study, status = place / "killed", None
    (study / ".gitignore").write_text("*")
    for moment in moments(n, longest / 2, seed=n):
        resume = ["--resume"] * study.exists()
        if not (study / "plan.json").exists():
            (study / ".gitignore").unlink(missing_ok=True)  # a new study wants an empty folder
        status = commands.run(place, *words, "--out", "killed", *resume, kill_after=moment)
        assert status in (0, signal.SIGKILL)
        if (study / "plan.json").exists():
            (study / ".gitignore").write_text("*")
        if status == 0:
            break
    if status != 0:
        assert commands.run(place, *words, "--out", "killed", "--resume") == 0
    assert (study / ".gitignore").read_text() == "*"
    (study / ".gitignore").unlink()
    mine, theirs = contents(study), contents(place / "whole")
    assert mine.keys() == theirs.keys()
    assert mine["study.json"] == theirs["study.json"]
    assert {name for name in mine if mine[name] != theirs[name]} <= {"budget.json"}


@pytest.mark.parametrize(
    ("command", "n"),
    [
        ("export", 1),
        *(
            pytest.param(c, 14, marks=[pytest.mark.slow, pytest.mark.timeout(1000)])
            for c in ("export", "predict", "report")
        ),
    ],
)
def test_a_command_that_is_killed_leaves_a_whole_file_or_none(place, commands, command, n):
    compare(place / "study")
    words = {
        "export": ["export", "study", "--out", "out"],
        "predict": ["predict", "study", "iris", "--rows", "all", "--out", "out/lines.csv"],
        "report": ["report", "study"],
    }[command]
    out = place / ("study" if command == "report" else "out")
    out.mkdir(exist_ok=True)
    begun = time.perf_counter()
    assert commands.run(place, *words) == 0
    longest = time.perf_counter() - begun
    whole = {file.name: file.read_bytes() for file in out.iterdir() if file.is_file()}
    for moment in moments(n, longest, seed=n):
        if command != "report":
            shutil.rmtree(out)
            out.mkdir()
        assert commands.run(place, *words, kill_after=moment) in (0, signal.SIGKILL)
        for file in out.iterdir():
            assert not file.is_file() or file.name.startswith(".dampen-") or file.read_bytes() == whole[file.name]
        assert commands.run(place, *words) == 0
        assert all((out / name).read_bytes() == content for name, content in whole.items())


# Full disks


def on_a_small_disk(size, folder, *words):
    """Run a command on a disk of so many KiB, or where none can be made with files of that size at most."""
    command = [sys.executable, "-c", "from dampen.cli import main; main()", *map(str, words)]
    script = f'mount -t tmpfs -o size={size}k none "{folder}/disk" && cd "{folder}/disk" && "$@"; status=$?; '
    script += "find . -mindepth 1 -name '.*' | grep -q . && exit 99; "
    script += 'mount -o remount,size=1g "$PWD" && "$@" $RETRY > /dev/null 2>&1 || exit 98; exit $status'
    retry = "--resume" if words[0] == "tune" else ""
    return subprocess.run(
        ["unshare", "-Urm", "sh", "-c", script, "sh", *command],
        cwd=folder,
        env={**ENVIRONMENT, "RETRY": retry, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def can_mount(folder):
    try:
        done = subprocess.run(
            ["unshare", "-Urm", "mount", "-t", "tmpfs", "none", folder], capture_output=True, check=False
        )
    except OSError:
        return False
    return done.returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("command", ["export", "predict", "tune"])
@pytest.mark.parametrize("size", [4 * (i + 1) for i in range(30)])
def test_a_full_disk_is_one_line_and_the_same_command_works_with_more_space(tmp_path, command, size):
    (tmp_path / "disk").mkdir()
    if not can_mount(tmp_path / "disk"):
        pytest.skip("a small disk can't be made here")
    compare(tmp_path / "study")
    words = {
        "export": ["export", "../study", "--out", "out"],
        "predict": ["predict", "../study", "iris", "--rows", "all", "--out", "lines.csv"],
        "tune": ["tune", "iris", *SMALL, "--out", "study"],
    }[command]
    done = on_a_small_disk(size, tmp_path, *words)
    assert done.returncode in (0, 2), done.stderr
    assert "Traceback" not in done.stderr
    if done.returncode == 2:
        line = done.stderr.splitlines()[-1]
        assert line.startswith("dampen: ")
        assert "can't be written: No space left on device" in line


@pytest.mark.slow
@pytest.mark.parametrize("command", ["export", "predict", "report", "tune"])
def test_a_file_that_grows_too_large_is_one_line_and_the_next_try_works(place, commands, command):
    compare(place / "study")
    words = {
        "export": ["export", "study"],
        "predict": ["predict", "study", "iris", "--rows", "all", "--samples", 0, "--out", "lines.csv"],
        "report": ["report", "study"],
        "tune": ["tune", "iris", *SMALL, "--out", "other"],
    }[command]
    before = {file for file in place.rglob("*") if file.is_file()}
    assert commands.run(place, *words, size=1000) == 2 << 8
    line = (place.parent / "err").read_text().splitlines()[-1]
    assert line.startswith("dampen: ")
    assert "can't be written: File too large" in line
    left = {file.name for file in place.rglob("*") if file.is_file() and file not in before}
    assert left <= {"plan.json"}
    assert commands.run(place, *words, *["--resume"] * bool(left)) == 0
