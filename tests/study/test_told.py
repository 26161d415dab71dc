"""What a study tells beside its verdict: of outputs that can't reach, of another study's folder, of the time left."""

import copy
import warnings

import pytest
import torch
from torch import nn

import dampen
from dampen import OutputsWarning
from dampen.study import _runner, check_network
from dampen.study._plan_differences import differs

pytestmark = pytest.mark.usefixtures("without_shape_checks")

PLAN = {
    "format": 2,
    "data": {"name": "houses", "source": "houses.csv", "fingerprint": "0a"},
    "target_scale": [0.0, 1.0],
    "model": "make",
    "metric": "mse",
    "space": {"weight_decay": "0..1", "lr": "0.1"},
    "brackets": [{"settings": 4, "rungs": [[2, 2]], "drawn": None}],
    "families": {"none": [{"lr": 0.1}]},
    "refined": 0,
    "seeds": [0, 1],
    "lengths": {"first": 1, "usual": 2, "planned": 2, "longest": 2},
    "training": {"batch_size": "32", "lr": "0.001"},
    "versions": {"torch": "2"},
}


class Ends(nn.Module):
    def __init__(self, inputs, end):
        super().__init__()
        self.layer, self.end = nn.Linear(inputs, 1), end

    def forward(self, x):
        return self.end(self.layer(x))


@pytest.mark.parametrize(
    ("end", "reach"),
    [
        (torch.relu, "relu, whose values are never below 0"),
        (nn.Sequential(nn.ReLU(inplace=True), nn.Flatten(0)), "relu, whose values are never below 0"),
        (lambda h: h.sigmoid().squeeze(1), "sigmoid, whose values are from 0 to 1"),
        (nn.Softmax(1), "softmax, whose values are from 0 to 1"),
        (nn.Tanh(), "tanh, whose values are from -1 to 1"),
        (nn.Softplus(), "softplus, whose values are never below 0"),
    ],
)
def test_a_regression_network_whose_last_activation_bounds_it_is_told(end, reach):
    with pytest.warns(OutputsWarning, match=f"the network ends in a {reach}"):
        (note,) = check_network(lambda inputs: Ends(inputs, end), dampen.load("diabetes"))
    assert "standardised" in note


@pytest.mark.parametrize("end", [nn.Identity(), nn.LeakyReLU(), lambda h: 3 * torch.tanh(h), lambda h: h + h.relu()])
def test_a_regression_network_that_reaches_every_number_is_not(end):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check_network(lambda inputs: Ends(inputs, end), dampen.load("diabetes")) == ()


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (
            ("data", "fingerprint"),
            "1b",
            "the data 'houses' (houses.csv) has changed since the study there began: its rows",
        ),
        (
            ("data",),
            {"name": "digits", "source": "digits", "fingerprint": "1b"},
            "is of the data 'digits', this one of 'houses' (houses.csv)",
        ),
        (("lengths", "planned"), 8, "the study there has other values: epochs (8 there, 2 here)"),
        (("brackets", 0, "settings"), 9, "the study there has other values: settings (9 there, 4 here)"),
        (("training", "batch_size"), "8", "the study there has other values: batch_size (8 there, 32 here)"),
        (("space", "weight_decay"), "0..2", "the study there has other values: weight_decay (0..2 there, 0..1 "),
        (("seeds",), [0], "the study there has other values: seeds (1 there, 2 here)"),
        (("model",), "other", "the study there has other values: the network (other there, make here)"),
        (("families",), {}, "the study there has other values: how its settings are drawn or halved"),
    ],
)
def test_another_study_s_folder_is_told_by_the_option_that_differs(path, value, words):
    held = copy.deepcopy(PLAN)
    at = held
    for part in path[:-1]:
        at = at[part]
    at[path[-1]] = value
    assert words in differs(held, PLAN)


def test_versions_and_the_folder_of_a_network_s_file_are_no_difference():
    held = PLAN | {"versions": {}, "model": "a/nets.py:make"}
    assert differs(held, PLAN | {"model": "b/nets.py:make"}) is None


def test_the_time_left_is_told_from_a_twentieth_of_the_study_on(monkeypatch):
    monkeypatch.setattr(_runner, "_KNOWN_SECONDS", 0.0)
    seen = []
    options = {"n_settings": 2, "n_seeds": 1, "epochs": 2, "confirmed": 1, "n_confirm_seeds": 2}
    dampen.tune(dampen.linear(), dampen.load("wine"), {"weight_decay": [0.0, 1.0]}, **options, callback=seen.append)
    assert all((at.left is None) == (at.share < 0.05) for at in seen)
    monkeypatch.setattr(_runner, "_KNOWN_SECONDS", 1e9)
    seen.clear()
    dampen.tune(dampen.linear(), dampen.load("wine"), {"weight_decay": [0.0, 1.0]}, **options, callback=seen.append)
    assert seen
    assert all(at.left is None for at in seen)
