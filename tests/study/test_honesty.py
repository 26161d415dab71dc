"""The verdict's intervals cover the truth, the choice of the best included; what must be found is found."""

import importlib.util
import json
import math
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import dampen
from dampen import tune
from dampen.experiments import weight_decay as lesson

STUDIES = 200
PROGRAM = Path(__file__).with_name("honesty.py")
pytestmark = pytest.mark.usefixtures("without_shape_checks")


@cache
def answers(kind, n):
    """Run studies in a process of its own, which takes hours."""
    done = subprocess.run([sys.executable, PROGRAM, kind, str(n)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_coin_flips_teach_nothing_and_nothing_helps(capsys):
    spec = importlib.util.spec_from_file_location("honesty", PROGRAM)
    honesty = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(honesty)
    honesty.main("coins", 1, 0)
    found = json.loads(capsys.readouterr().out)
    assert found["helps"] == found["learnt"] == [1, 0.0]


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", ["lr", "coins", "linear"])
def test_regularisation_is_not_said_to_help_where_it_does_not(kind):
    n, share = answers(kind, STUDIES)["helps"]
    assert n == STUDIES
    assert share <= 0.05


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_gain_of_twice_the_margin_is_found():
    n, share = answers("decay", STUDIES)["found at twice the margin"]
    assert n > STUDIES / 4
    assert share >= 0.8


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", ["lr", "linear", "decay"])
def test_intervals_cover_and_signs_are_right(kind):
    found = answers(kind, STUDIES)
    assert found["covered"][1] >= 0.93
    assert found["signs"][1] >= 0.95
    assert found.get("equivalent", [0, 1.0])[1] >= 0.95


def test_the_first_lesson_s_decay_is_found_and_settled():
    """Twenty rows of 200 inputs: without decay the initial weights stay and spoil every prediction."""
    data = lesson.Problem().draw(0)
    found = tune(
        dampen.linear(),
        data,
        {"weight_decay": dampen.LogUniform(1e-2, 30, zero=0.1), "lr": 0.003},
        n_settings=8,
        n_seeds=1,
        epochs=100,
        confirmed=1,
        batch_size=5,
    )
    none = found.verdict.references["none"]
    assert (found.verdict.helps, found.verdict.learnt) == (None, None)  # ten rows: is it better than their mean?
    assert none.interval[1] < 0
    assert none.better
    assert found.verdict.recommended["weight_decay"] > 1
    assert found.test["recommended"]["mse"]["interval"][1] < found.test["none"]["mse"]["interval"][0] / 10
    assert "it is better than no regularisation, by " in found.sentences()[0]
    assert "but not significantly better than the constant baseline, which predicts the mean." in found.sentences()[0]


def test_where_nothing_can_help_nothing_is_claimed():
    """A network that ends at once has no time to overfit: no setting is better, and none is said to be."""
    data = dampen.load("iris")
    few = {"n_settings": 3, "n_seeds": 1, "epochs": 1, "confirmed": 1, "n_confirm_seeds": 3}
    found = tune(dampen.mlp(8), data, {"weight_decay": [0.0, 1e-9, 1e-8]}, search="grid", lr=1e-5, **few)
    assert found.verdict.helps is False
    assert math.isclose(found.verdict.references["none"].difference, 0, abs_tol=1e-3)
    assert "regularisation helps" not in str(found.verdict)
