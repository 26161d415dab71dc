"""What a verdict makes of unusual networks, spaces and rows."""

import json
import shutil

import pytest
import torch
from torch import nn

import dampen
from dampen import Choice, InputError, tune
from dampen.study import load_study

TINY = {"n_settings": 2, "n_seeds": 1, "epochs": 4, "confirmed": 1, "n_confirm_seeds": 2}


@pytest.fixture(autouse=True)
def _plainly(without_shape_checks):
    """Train without the run-time checks of shapes: other tests have them."""


def dropping(inputs, outputs):
    return nn.Sequential(nn.Linear(inputs, 16), nn.ReLU(), nn.Dropout(0.6), nn.Linear(16, outputs))


@pytest.fixture(scope="module")
def wine():
    return dampen.load("wine")


def test_a_network_s_own_dropout_is_a_regulariser(wine):
    found = tune(dropping, wine, {"weight_decay": [0.0], "lr": [0.01]}, **TINY)
    own = "dropout" not in found.verdict.recommended
    assert found.plan.own_dropout
    assert found.verdict.regularised == own == ("dropout" in found.verdict.attribution)
    assert found.verdict.references["none"].training.setting["dropout"] == 0.0
    assert not tune(dampen.mlp(4), wine, {"weight_decay": [0.0]}, **TINY).plan.own_dropout


def test_wilson_s_interval_counts_each_row_once_however_often_folds_are_drawn():
    x = torch.linspace(-1, 1, 60).unsqueeze(1)
    data = dampen.from_arrays(x.numpy(), (x[:, 0] > 0).long().numpy(), test_fraction=0)
    how = TINY | {"n_confirm_seeds": 10, "epochs": 30, "metric": "accuracy"}
    verdict = tune(dampen.mlp(8), data, {"weight_decay": [0.0], "lr": [0.05]}, **how).verdict
    right = verdict.value == 1.0
    assert not right or verdict.interval == pytest.approx((60 / (60 + 1.959964**2), 1.0), abs=1e-4)
    assert verdict.interval[0] < 0.99


def test_tpe_ends_where_the_space_is_exhausted(wine):
    space = {"weight_decay": Choice([0.0, 0.1]), "lr": 0.01}
    found = tune(dampen.mlp(4), wine, space, search="tpe", **TINY | {"n_settings": 8})
    assert {s["weight_decay"] for rung in found.ranked if rung.family == "search" for s in rung.settings} == {0.0, 0.1}


def test_a_single_test_row_has_a_value_and_no_interval(wine, tmp_path):
    from dataclasses import replace

    one = replace(wine, test_rows=wine.test_rows[:1])
    found = tune(dampen.mlp(4), one, {"weight_decay": [0.0, 0.1]}, out=tmp_path / "s", **TINY)
    assert found.test["recommended"]["nll"]["interval"] is None
    assert json.loads((tmp_path / "s" / "study.json").read_text())["test"]["recommended"]["nll"]["mean"] is not None


@pytest.fixture(scope="module")
def kept(wine, tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept") / "s"
    tune(dampen.mlp(4), wine, {"weight_decay": [0.0, 0.1]}, out=folder, **TINY)
    return folder


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"length": {"epochs": "3\nimport os"}}, "length.epochs: expected `int`, got `str`"),
        ({"checkpoints": {"test": "../../elsewhere"}}, "checkpoints.* expected `str` matching"),
    ],
)
def test_a_stranger_s_study_names_no_code_and_no_paths(kept, tmp_path, change, message):
    folder = tmp_path / "s"
    shutil.copytree(kept, folder)
    document = json.loads((folder / "study.json").read_text()) | change
    (folder / "study.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match=message):
        _ = load_study(folder).winner()


def test_another_population_s_checkpoint_is_not_taken_for_this_one(kept, wine, tmp_path):
    folder = tmp_path / "s"
    shutil.copytree(kept, folder)
    held = json.loads((folder / "study.json").read_text())
    (folder / "study.json").unlink()
    places = sorted(p.name for p in (folder / "checkpoints").iterdir() if p.name.startswith("confirmation"))
    first, second = (folder / "checkpoints" / name for name in places[:2])
    shutil.rmtree(second)
    shutil.copytree(first, second)
    again = tune(dampen.mlp(4), wine, {"weight_decay": [0.0, 0.1]}, out=folder, resume=True, **TINY)
    assert again.document()["references"] == held["references"]
