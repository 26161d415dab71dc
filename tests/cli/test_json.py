"""What both commands print: the lines, the document, and that one agrees with the other."""

import contextlib
import io
import json
import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from unittest import mock

import pytest

from dampen.cli import main

WEIGHT_DECAY = ("weight-decay", "--seeds", 2, "--epochs", 5, "--path", 3)
DROPOUT = ("dropout", "wine", "--seeds", 2, "--hidden", "8,4")
METRICS = ("train_loss", "test_loss", "l2_norm")
LINE = re.compile(
    r"Epoch (\d+)/10 — Train: loss=(\d+\.\d{4}), acc=([01]\.\d{4}) \| Test: loss=(\d+\.\d{4}), acc=([01]\.\d{4})"
)


def dampen(folder: Path, *words: object) -> str:
    """Run a command in `folder`; return what it printed on stdout, having printed nothing on stderr."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(folder),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.object(sys, "argv", ["dampen", *map(str, words)]),
        pytest.raises(SystemExit) as ended,
    ):
        main()
    assert not ended.value.code
    assert err.getvalue() == ""
    return out.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("documents")


@pytest.fixture(scope="module")
def weight_decay(folder):
    """The document of a small run, and the words of the same run."""
    return json.loads(dampen(folder, *WEIGHT_DECAY, "--json")), dampen(folder, *WEIGHT_DECAY)


@pytest.fixture(scope="module")
def dropout(folder):
    return json.loads(dampen(folder, *DROPOUT, "--json")), dampen(folder, *DROPOUT)


def without_seconds(value):
    if isinstance(value, dict):
        return {key: without_seconds(item) for key, item in value.items() if key != "seconds"}
    return [without_seconds(item) for item in value] if isinstance(value, list) else value


def test_the_weight_decay_document_has_every_run_with_its_spread(weight_decay):
    document, _ = weight_decay
    assert document.keys() == {"runs", "path", "seconds"}
    assert [(run["weight_decay"], run["seeds"]) for run in document["runs"]] == [(0, 2), (3, 2)]
    for run in document["runs"]:
        assert run.keys() == {"weight_decay", "seeds", *METRICS, *(f"{name}_std" for name in METRICS)}
        assert all(value >= 0 for value in run.values())
    assert document["seconds"] > 0


def test_the_document_of_the_path_has_a_value_for_each_strength_and_names_the_lowest(weight_decay):
    path = weight_decay[0]["path"]
    for name in ("test_loss", "l2_norm", "closed_form_test_loss", "ridge_test_loss"):
        assert len(path[name]) == 3
    assert path["weight_decay"] == pytest.approx([0.01, 1, 100])
    assert path["best"] == path["weight_decay"][path["test_loss"].index(min(path["test_loss"]))]


def test_without_path_the_document_has_null_there_and_one_seed_has_no_spread(folder):
    document = json.loads(dampen(folder, "weight-decay", "--seeds", 1, "--epochs", 1, "--json"))
    assert document["path"] is None
    assert [run["test_loss_std"] for run in document["runs"]] == [None, None]


def test_the_weight_decay_table_agrees_with_the_document(weight_decay):
    document, text = weight_decay
    for run in document["runs"]:
        row = next(line for line in text.splitlines() if line.split()[:1] == [f"{run['weight_decay']:g}"])
        means, spreads = row.replace("±", "").split()[1::2], row.replace("±", "").split()[2::2]
        assert means == [f"{run[name]:.4g}" for name in METRICS]
        assert spreads == [f"{run[f'{name}_std']:.2g}" for name in METRICS]
    path = document["path"]
    assert f"lowest test loss is at {path['best']:.3g}," in text
    assert f"would choose {path['chosen_by_validation']:.3g}." in text


def test_the_last_lines_are_the_pictures_paths(folder, weight_decay, dropout):
    pictures = ["dampen-weight-decay.png", "dampen-weight-decay-path.png"]
    assert weight_decay[1].splitlines()[-2:] == pictures
    assert dropout[1].splitlines()[-1] == "dampen-dropout.png"
    assert all((folder / name).is_file() for name in [*pictures, "dampen-dropout.png"])


def test_the_dropout_document_has_every_epoch_with_and_without(dropout):
    document, _ = dropout
    assert document["data"] == "wine"
    assert document["seconds"] > 0
    assert document["no_dropout"].keys() == {"epochs"}
    for epochs in (document["epochs"], document["no_dropout"]["epochs"]):
        assert [epoch["epoch"] for epoch in epochs] == list(range(1, 11))
        for epoch in epochs:
            assert epoch.keys() == {"epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy"}
            assert 0 <= epoch["train_accuracy"] <= 1


def test_the_epoch_lines_agree_with_the_document(dropout):
    document, text = dropout
    lines = [LINE.fullmatch(line) for line in text.splitlines()[:10]]
    for line, epoch in zip(lines, document["epochs"], strict=True):
        assert line
        assert int(line[1]) == epoch["epoch"]
        assert list(line.groups()[1:]) == [
            f"{epoch[name]:.4f}" for name in ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
        ]


def test_a_regression_has_no_accuracy(folder):
    small = ("dropout", "diabetes", "--epochs", 1, "--seeds", 1)
    document, text = json.loads(dampen(folder, *small, "--json")), dampen(folder, *small)
    (epoch,) = document["epochs"]
    assert epoch["train_accuracy"] is epoch["test_accuracy"] is None
    line = f"Epoch 1/1 — Train: loss={epoch['train_loss']:.4f} | Test: loss={epoch['test_loss']:.4f}"
    assert text.splitlines()[0] == line


def test_the_same_seed_gives_the_same_document_and_another_seed_another(folder, dropout):
    def again(words, *more):
        return without_seconds(json.loads(dampen(folder, *words, *more, "--json")))

    assert again(DROPOUT, "--seed", 0) == without_seconds(dropout[0])
    assert again(DROPOUT, "--seed", 1) != without_seconds(dropout[0])


def test_runs_with_seeds_in_common_have_those_seeds_results_in_common(folder):
    def loss(seed, seeds):
        words = ("weight-decay", "--epochs", 2, "--seed", seed, "--seeds", seeds, "--json")
        return json.loads(dampen(folder, *words))["runs"][1]["test_loss"]

    assert loss(4, 2) == pytest.approx((loss(4, 1) + loss(5, 1)) / 2, rel=1e-5)


def test_a_strength_that_diverges_is_null_and_leaves_the_other_alone(folder):
    small = (
        "weight-decay",
        "--seeds",
        2,
        "--epochs",
        20,
        "--json",
        "--weight-decay",
    )  # lr * 3000 = 9: w grows by 8 a step
    both, alone = (json.loads(dampen(folder, *small, strengths))["runs"] for strengths in ("0,3000", "0"))
    assert both[1]["test_loss"] is None
    assert both[0] == pytest.approx(alone[0], rel=1e-3)  # float32, and another layout in memory
    assert "3000 diverged with 2 of 2 seeds" in dampen(folder, *small[:5], "--weight-decay", "0,3000")


def test_the_picture_is_drawn_where_plot_says_as_svg(tmp_path):
    (tmp_path / "figures").mkdir()
    dampen(tmp_path, "weight-decay", "--seeds", 1, "--epochs", 1, "--path", 2, "--json", "--plot", "figures/x.svg")
    assert [file.name for file in tmp_path.iterdir()] == ["figures"]
    assert sorted(file.name for file in (tmp_path / "figures").iterdir()) == ["x-path.svg", "x.svg"]
    for file in (tmp_path / "figures").iterdir():
        assert ET.parse(file).getroot().tag == "{http://www.w3.org/2000/svg}svg"
