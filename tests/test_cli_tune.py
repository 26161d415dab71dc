"""`dampen tune` and `dampen report`: what they print, write and refuse."""

import json
import re
import shutil

import pytest

from dampen.cli._tune import dimension, seconds_of
from dampen.errors import InputError
from dampen.search import Choice, LogUniform, Uniform

SMALL = ("--settings", 6, "--seeds", 2, "--epochs", 4, "--confirm-seeds", 5, "--hidden", 8)


def test_tune_opens_with_the_verdict_and_ends_with_the_report_s_path(run, tmp_path):
    code, out, err = run("tune", "wine", *SMALL)
    assert code == 0
    assert re.match(r"(Use |Nothing here)", out)
    assert "The test set, opened once" in out
    assert out.splitlines()[-1] == "dampen-runs/wine-1/report.html"
    assert (tmp_path / "dampen-runs" / "wine-1" / "report.html").is_file()
    assert re.search(r"^search: 12 members to epoch 1; \d+ s, about \d+ s left$", err, re.MULTILINE)
    assert re.search(r"^test: ", err, re.MULTILINE)


def test_the_document_is_as_promised_and_alone_on_stdout(run):
    code, out, _ = run("tune", "wine", *SMALL, "--json", "--optuna", "sqlite:///trials.db")
    document = json.loads(out)
    assert code == 0
    assert {
        "data", "metric", "recommended", "validation", "references", "indistinguishable", "mildest", "test", "trained",
        "seconds", "folder",
    } <= document.keys()  # fmt: skip
    assert {"mean", "interval"} == document["validation"].keys()
    for name in ("none", "default"):
        assert {"mean", "difference", "interval", "probability_better"} <= document["references"][name].keys()
        assert {"nll", "accuracy", "brier"} == document["test"][name].keys()
    assert {"recommended", "ensemble"} <= document["test"].keys()
    assert {"settings": 6, "seeds": 2, "members": 12, "epochs": 4}.items() <= document["trained"].items()
    import optuna

    assert len(optuna.load_study(study_name="wine-1", storage="sqlite:///trials.db").trials) == 6


def test_resume_finds_the_latest_study_and_report_is_written_again(run, tmp_path):
    first = json.loads(run("tune", "wine", *SMALL, "--json")[1])
    page = tmp_path / "dampen-runs" / "wine-1" / "report.html"
    written = page.read_bytes()
    page.unlink()
    assert json.loads(run("tune", "wine", *SMALL, "--json", "--resume")[1]) == first
    assert re.sub(rb"[0-9a-f-]{36}", b"", page.read_bytes()) == re.sub(rb"[0-9a-f-]{36}", b"", written)
    page.unlink()
    assert run("report", page.parent) == (0, f"{page}\n", "")
    assert page.is_file()
    assert json.loads(run("tune", "wine", *SMALL, "--json")[1])["folder"] == "dampen-runs/wine-2"


def test_a_network_without_hidden_layers_has_no_dropout(run):
    document = json.loads(run("tune", "wine", *SMALL[:-1], "", "--json")[1])
    assert "dropout" not in document["recommended"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["wine", "--weight-decay", "1..0.1"], "--weight-decay: a range needs two finite ends, the smaller first"),
        (["wine", "--weight-decay", "a..b"], "--weight-decay takes a range such as 1e-4..1"),
        (["wine", "--dropout", "0..1.5"], "dropout must be"),
        (["wine", "--lr", "0,1"], "lr must be"),
        (["wine", "--metric", "mse"], "must be one of nll, accuracy, brier"),
        (["wine", "--search", "simplex"], "must be one of"),
        (["wine", "--validation", "none"], "must be folds or held-out"),
        (["wine", "--budget", "5 minutes"], "--budget takes a time such as 90s"),
        (["wine", "--budget", "1s"], "too short"),
        (["wine", "--seeds", "1"], "seeds must be a whole number, 2 or larger"),
        (["wine", "--resume"], "no study of wine"),
        (["wine", "--resume", "--out", "nowhere"], "there is no study in nowhere"),
        (["nothing-of-the-kind"], "neither a data set nor a folder"),
        (["wine", "--hidden", "0"], "a hidden layer needs"),
        (["wine", "--precision", "float8"], "precision"),
        (["wine", "--schedule", "square"], "schedule must be one of"),
        (["wine", "--seed", "-1"], "--seed must be a whole number from 0 to 2^63 - 1, got -1"),
        (["wine", "--batch-size", "0"], "batch_size must be a whole number, 1 or larger"),
        (["wine", "--dropout", "0.2", "--knob", "dropout=0.5"], "--dropout and --knob dropout say the same"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(run, tmp_path, words, message):
    code, out, err = run("tune", *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert not list(tmp_path.iterdir())


def test_a_file_is_no_folder_for_a_study(run, tmp_path):
    (tmp_path / "notes").write_text("mine")
    code, out, err = run("tune", "wine", "--out", "notes")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "notes is a file: name a folder" in err
    assert (tmp_path / "notes").read_text() == "mine"


def test_a_report_needs_a_finished_and_whole_study(run, tmp_path):
    code, _, err = run("report", "nowhere")
    assert code == 2
    assert "holds no finished study" in err
    run("tune", "wine", *SMALL)
    folder = tmp_path / "dampen-runs" / "wine-1"
    for name, damage in (("curves.parquet", b"PAR1"), ("study.json", b"{")):
        shutil.copytree(folder, tmp_path / name)
        (tmp_path / name / name).write_bytes(damage)
        code, _, err = run("report", tmp_path / name)
        assert (code, err.count("\n")) == (2, 1)
        assert name in err


def test_ranges_lists_and_times_are_read():
    assert dimension("1e-5..1", "--x", log=True, zero=0.1) == LogUniform(1e-5, 1.0, 0.1)
    assert dimension("0..0.7", "--x") == Uniform(0.0, 0.7)
    assert dimension("0,0.1", "--x") == Choice([0.0, 0.1])
    assert [seconds_of(text) for text in ("90s", "5m", "1.5h", "20")] == [90, 300, 5400, 20]
    with pytest.raises(InputError):
        seconds_of("soon")
