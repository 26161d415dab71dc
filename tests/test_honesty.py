"""The verdict's intervals cover the truth, the choice of the best included; what must be found is found."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

import dampen
from dampen import tune
from dampen.lessons import weight_decay as lesson

MOST = 10  # misses in a hundred studies


def misses(kind, scheme):
    """Run the hundred studies in a process of its own, where no types are checked: that would take thrice as long."""
    program = Path(__file__).with_name("honesty.py")
    done = subprocess.run([sys.executable, program, kind, scheme], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("kind", ["helps", "hurts", "noise"])
def test_intervals_of_folds_cover(kind):
    found = misses(kind, "folds")
    assert max(found.values()) <= MOST, found


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["helps", "hurts", "noise"])
def test_intervals_of_held_out_rows_cover(kind):
    found = misses(kind, "held-out")
    assert max(found.values()) <= MOST, found


def test_the_first_lesson_s_decay_is_found_and_settled():
    """Twenty rows of 200 inputs: without decay the initial weights stay and spoil every prediction."""
    data = lesson.Problem().draw(0)
    found = tune(
        dampen.linear(),
        data,
        {"weight_decay": dampen.LogUniform(1e-2, 30, zero=0.1), "lr": 0.003},
        epochs=100,
        batch_size=5,
    )
    none = found.verdict.references["none"]
    assert found.verdict.regularisation_helps
    assert none.interval[1] < 0
    assert none.probability_better > 0.999
    assert found.verdict.recommended["weight_decay"] > 1
    assert found.test["recommended"]["mse"]["interval"][1] < found.test["none"]["mse"]["interval"][0] / 10
    assert "regularisation helps" in str(found.verdict)


def test_where_nothing_can_help_nothing_is_claimed():
    """A network that ends at once has no time to overfit: no setting is better, and none is said to be."""
    data = dampen.load("iris")
    found = tune(dampen.mlp(8), data, {"weight_decay": [0.0, 1e-9, 1e-8]}, search="grid", epochs=1, lr=1e-5)
    assert not found.verdict.regularisation_helps
    assert math.isclose(found.verdict.references["none"].difference, 0, abs_tol=1e-3)
    assert "regularisation helps" not in str(found.verdict)
