"""`dampen tune` and `dampen report`: what they print, write and refuse."""

import contextlib
import io
import json
import re
import shlex
import shutil
import sys

import numpy as np
import pytest

from dampen.cli import main
from dampen.cli._tune import dimension, seconds_of
from dampen.errors import InputError
from dampen.search import Choice, LogUniform, Uniform

SMALL = ("--settings", 4, "--seeds", 1, "--epochs", 2, "--confirmed", 1, "--confirm-seeds", 2, "--hidden", 8)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Hold a folder with a finished study, and what the command has printed."""
    where, out = tmp_path_factory.mktemp("finished"), io.StringIO()
    words = ("dampen", "tune", "wine", *SMALL, "--json", "--optuna", "sqlite:///trials.db")
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out):
        patch.chdir(where)
        patch.setattr(sys, "argv", [*map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
    assert not ended.value.code
    return where, out.getvalue()


@pytest.fixture
def run_again(run, finished, tmp_path):
    """Run the command line in a folder that has the finished study."""
    shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
    return run


def test_tune_opens_with_the_verdict_and_ends_with_the_report_s_path(run_again, tmp_path):
    code, out, err = run_again("tune", "wine", *SMALL)
    assert code == 0
    assert re.match(r"(Use |Nothing |Regularisation )", out)
    assert "The test rows " in out
    assert "The test set, opened once" in out
    assert out.splitlines()[-1] == "dampen-runs/wine-2/report.html"
    assert (tmp_path / "dampen-runs" / "wine-2" / "report.html").is_file()
    members = 4 + 3 * 3  # the settings, and three references with three learning rates each
    assert re.search(rf"^search: {members} members to epoch 1; \d+ s(, about \d+ s left)?$", err, re.MULTILINE)
    assert re.search(r"^test: ", err, re.MULTILINE)


def test_the_document_is_as_promised_and_alone_on_stdout(finished):
    where, out = finished
    document = json.loads(out)
    assert {
        "data", "metric", "recommended", "validation", "helps", "learnt", "gain", "attribution", "length", "diagnosis",
        "references", "equivalent", "mildest", "margin", "test", "trained", "sentences", "seconds", "folder",
    } <= document.keys()  # fmt: skip
    assert {"mean", "interval"} == document["validation"].keys()
    for name in ("none", "none_stopped_early", "default", "tabular-default", "constant", "linear", "boosting"):
        assert {"mean", "difference", "interval", "better", "equivalent"} <= document["references"][name].keys()
        assert {"nll", "accuracy", "brier"} <= document["test"][name].keys() <= {"nll", "accuracy", "brier", "against"}
    assert {"recommended", "ensemble"} <= document["test"].keys()
    assert {"settings": 4, "seeds": 1, "members": 4, "epochs": 2}.items() <= document["trained"].items()
    import optuna

    assert len(optuna.load_study(study_name="wine-1", storage=f"sqlite:///{where}/trials.db").trials) == 4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--optuna", "nonsense"), "can't write to the Optuna storage nonsense"),
        (("--optuna", "sqlite:///trials.db", "--resume"), "has a study called 'wine-1' already"),
    ],
)
def test_an_optuna_storage_that_will_not_do_is_refused_before_anything_trains(run_again, tmp_path, words, said):
    code, out, err = run_again("tune", "wine", *SMALL, *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err
    assert [folder.name for folder in (tmp_path / "dampen-runs").iterdir()] == ["wine-1"]


def test_resume_finds_the_latest_study_and_report_is_written_again(run_again, finished, tmp_path):
    page = tmp_path / "dampen-runs" / "wine-1" / "report.html"
    written = page.read_bytes()
    page.unlink()
    assert json.loads(run_again("tune", "wine", *SMALL, "--json", "--resume")[1]) == json.loads(finished[1])
    assert re.sub(rb"[0-9a-f-]{36}", b"", page.read_bytes()) == re.sub(rb"[0-9a-f-]{36}", b"", written)
    page.unlink()
    assert run_again("report", page.parent) == (0, f"{page}\n", "")
    assert page.is_file()


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
        (
            ["wine", "--metric", "auc"],
            "--metric must be one of nll, accuracy, brier, mc-nll, calibrated-nll, mse, rmse, mae, r2; got 'auc'",
        ),
        (["wine", "--task", "ranking"], "--task must be one of classification, regression; got 'ranking'"),
        (["wine", "--search", "simplex"], "--search must be one of sobol, random, grid, tpe, hyperband; got 'simplex'"),
        (["wine", "--validation", "none"], "--validation must be one of folds, held-out; got 'none'"),
        (["wine", "--budget", "5 minutes"], "--budget takes a time such as 90s"),
        (["wine", "--budget", "1s"], "too short"),
        (["wine", "--seeds", "0"], "seeds must be a whole number, 1 or larger"),
        (["wine", "--confirm-seeds", "1"], "--confirm-seeds must be a whole number, 2 or larger"),
        (["wine", "--margin", "-0.1"], "margin must be a share of the loss from 0 to below 1, got -0.1"),
        (["wine", "--margin", "1"], "margin must be a share of the loss from 0 to below 1, got 1.0"),
        (["wine", "--margin", "nan"], "margin must be a share of the loss from 0 to below 1, got nan"),
        (["wine", "--margin", "much"], "--margin"),
        (["wine", "--resume"], "no study of wine"),
        (["wine", "--resume", "--out", "nowhere"], "there is no study in nowhere"),
        (["nothing-of-the-kind"], "neither a data set nor a folder"),
        (["wine", "--hidden", "0"], "a hidden layer needs"),
        (["wine", "--precision", "float8"], "--precision must be one of float32, float64, bfloat16; got 'float8'"),
        (
            ["wine", "--schedule", "square"],
            "--schedule must be one of constant, cosine, linear, one-cycle; got 'square'",
        ),
        (["wine", "--seed", "-1"], "--seed must be a whole number from 0 to 2^63 - 1, got -1"),
        (["wine", "--batch-size", "0"], "--batch-size must be a whole number, 1 or larger"),
        (["wine", "--dropout", "0.2", "--knob", "dropout=0.5"], "--dropout and --knob dropout set the same knob"),
        (["wine", "--weight-decay", "0.1", "--knob", "decay_timescale=1..10"], "--knob decay_timescale exclude each"),
        (["wine", "--per-layer", "--hidden", ""], "--per-layer is for dropout, and the network drops no units"),
        (["wine", "--cocktail", "--search", "grid"], "search fewer knobs, or by another strategy"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(run, tmp_path, words, message):
    code, out, err = run("tune", *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert not list(tmp_path.iterdir())


def test_a_budget_far_too_short_for_a_large_file_is_refused_by_its_first_rows(run, tmp_path):
    rng = np.random.default_rng(0)
    lines = [f"{rng.normal():.4f},{rng.normal():.4f},{i % 2}\n" for i in range(1000)]
    n = 2_000_000
    (tmp_path / "rows.csv").write_text("a,b,y\n" + "".join(lines) * (n // 1000) + "ragged,1,2,3\n")
    code, out, err = run("tune", "rows.csv", "--target", "y", "--hidden", 4, "--budget", "1s")
    assert (code, out, err.count("\n")) == (2, "", 1)
    told = re.search(r"by its first (\d+) rows the smallest study on about (\S+) training rows takes at least", err)
    assert int(told[1]) < n / 5
    assert float(told[2]) == pytest.approx(0.75 * n, rel=0.01)


def test_what_the_first_rows_of_a_large_file_cannot_tell_of_a_network_passes(run, monkeypatch, tmp_path):
    """A file that is sorted by class, whose head lacks one; a network that returns a mean and a variance."""
    monkeypatch.setattr("dampen.data._head._LARGE", 1000)
    monkeypatch.setattr("dampen.data._head._HEAD", 1000)
    rng = np.random.default_rng(0)
    lines = [f"{rng.normal():.4f},{rng.normal():.4f},{i // 100}\n" for i in range(300)]
    (tmp_path / "rows.csv").write_text("a,b,y\n" + "".join(lines))
    (tmp_path / "nets.py").write_text("from torch import nn\n\n\ndef make(inputs):\n    return nn.Linear(2, 3)\n")
    words = (
        "tune",
        "rows.csv",
        "--target",
        "y",
        "--budget",
        "9s",
        "--epochs",
        1,
        "--settings",
        2,
        "--confirm-seeds",
        2,
    )
    assert run(*words, "--model", "nets.py:make", "--task", "classification")[0] == 0
    of_two = "from torch import nn\n\n\ndef make(inputs):\n    return nn.Linear(2, 2)\n"
    (tmp_path / "two.py").write_text(of_two)
    assert run(*words, "--model", "two.py:make", "--task", "regression", "--loss", "gaussian_nll")[0] == 0


def test_a_file_is_no_folder_for_a_study(run, tmp_path):
    (tmp_path / "notes").write_text("mine")
    code, out, err = run("tune", "wine", "--out", "notes")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "notes is a file: name a folder" in err
    assert (tmp_path / "notes").read_text() == "mine"


def test_what_goes_on_after_ctrl_c_is_named_as_a_shell_reads_it(run, monkeypatch):
    def interrupted(*arguments, out, **options):
        out.mkdir()
        (out / "plan.json").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr("dampen.study.tune", interrupted)
    code, _, err = run("tune", "wine", *SMALL, "--out", "my wines")
    assert code == 130
    _, _, command = err.partition("dampen: interrupted; the same command with ")
    assert shlex.split(command)[:3] == ["--resume", "--out", "my wines"]


def test_a_report_needs_a_finished_and_whole_study(run, finished, tmp_path):
    code, _, err = run("report", "nowhere")
    assert code == 2
    assert "there is no study nowhere, here or in dampen-runs" in err
    (tmp_path / "empty").mkdir()
    code, _, err = run("report", "empty")
    assert code == 2
    assert "empty holds no finished study" in err
    folder = finished[0] / "dampen-runs" / "wine-1"
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
