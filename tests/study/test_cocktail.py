"""Cocktails: which regularisers are searched where, each on or off, and a study of them."""

import re

import pytest
import torch

from dampen import InputError, Setting, TrainConfig, load, load_study, mlp, tabular, tune
from dampen.search import Choice, LogUniform, Space, Uniform
from dampen.study._cocktail import cocktail_space
from dampen.study._references import regularisers

pytestmark = pytest.mark.usefixtures("without_shape_checks")

ONLY_IMAGES = {"cutmix", "random_shift", "horizontal_flip"}


def space_of(name, model, **options):
    return cocktail_space(model, load(name), TrainConfig(epochs=1, batch_size=32, **options), 1)


def test_what_can_act_is_searched():
    table, images = set(space_of("wine", tabular(8))), set(space_of("digits", mlp(8)))
    assert images - table == ONLY_IMAGES
    assert {"weight_decay", "lr", "dropout", "l1", "ema", "mixup", "label_smoothing", "input_noise"} <= table
    assert "drop_path" not in table  # it has no residual branch
    numbers = set(space_of("diabetes", tabular(8)))
    assert "label_smoothing" not in numbers
    assert {"mixup", "l1"} <= numbers


def test_every_regulariser_is_on_and_off_and_conditions_hold():
    space = Space(space_of("digits", mlp(8)))
    settings = space.draw(256, "sobol", 0)
    for name in set(space.dimensions) - {"lr"}:
        on = sum(bool(setting[name]) for setting in settings) / len(settings)
        assert 0.1 < on < 0.75, name
    assert not any(s["mixup"] and s["cutmix"] for s in settings)
    assert not any(s["decay_start"] and not s["weight_decay"] for s in settings)
    assert min(len(regularisers(s)) for s in settings) <= 2
    assert sum(len(regularisers(s)) for s in settings) / len(settings) < 5  # more of them underfit together


def test_around_a_cocktail_about_one_knob_is_turned_on_or_off():
    space = Space(space_of("digits", mlp(8)))
    best = Setting(**dict.fromkeys(space.dimensions, 0.0) | {"lr": 0.001, "dropout": 0.2, "mixup": 0.3})
    near = space.around(best).draw(256, "sobol", 1)
    switched = [set(regularisers(setting)) ^ {"dropout", "mixup"} for setting in near]
    assert 0.5 < sum(map(len, switched)) / len(near) < 2
    assert set.union(*switched) >= {"dropout", "mixup", "weight_decay", "l1", "input_noise", "random_shift"}
    assert all(3e-4 <= setting["lr"] <= 3e-3 for setting in near)
    few = Space({name: space.dimensions[name] for name in ("weight_decay", "lr", "dropout")})
    of_few = few.around(Setting(weight_decay=0.0, lr=0.001, dropout=0.2)).draw(64, "sobol", 1)
    assert sum(bool(s["weight_decay"]) for s in of_few) == 32
    assert all(setting["dropout"] for setting in of_few)


def test_a_condition_changes_no_value_that_must_be_on():
    space = Space({"weight_decay": [0.0], "decay_schedule": ["linear"]})
    assert space.draw(1, "random", 0) == [Setting(weight_decay=0.0, decay_schedule="linear")]
    with pytest.raises(InputError, match="not both"):
        Space({"mixup": 0.2, "cutmix": 1.0})


def test_a_range_with_zero_holds_zero_so_often():
    dimension = Uniform(0.2, 0.6, zero=0.25)
    values = [dimension.at((k + 0.5) / 1000) for k in range(1000)]
    assert values.count(0.0) == 250
    assert min(v for v in values if v) == pytest.approx(0.2, abs=1e-3)
    assert max(values) == pytest.approx(0.6, abs=1e-3)
    assert dimension.grid(4) == pytest.approx([0.0, 0.2, 0.4, 0.6])
    assert str(dimension) == "0.2..0.6 or 0"
    assert dimension.wider(0.0) is None
    assert isinstance(dimension.around(0.0), Uniform)
    with pytest.raises(InputError, match="zero must be"):
        Uniform(0.0, 1.0, zero=1.0)


def test_a_study_of_a_cocktail_tells_what_each_part_is_worth(tmp_path):
    given = {"decay_timescale": LogUniform(1.0, 30.0), "lr": Choice([0.01])}
    options = {"n_settings": 24, "epochs": 2, "n_confirm_seeds": 2, "confirmed": 1, "out": tmp_path / "study"}
    study = tune(tabular(8), load("wine"), given, cocktail=True, **options)
    space = study.plan.space.dimensions
    assert {"decay_timescale", "l1", "ema", "input_noise", "decay_start"} <= set(space)
    assert "weight_decay" not in space
    looked = [rung.run for rung in study.ranked if rung.run.startswith("search-around")]
    assert looked == ["search-around", "search-around-2", "search-around-3", "search-around-4"]
    assert str(space["l1"]).endswith("or 0")
    if study.verdict.regularised:
        assert set(regularisers(study.verdict.recommended)) <= set(study.verdict.attribution)
    assert torch.isfinite(torch.tensor(study.verdict.value))
    assert not [sentence for sentence in study.verdict.sentences() if re.search(r"(mixup|l1|noise) 0,", sentence)]
    found = study.importance()
    assert set(found) <= set(space)
    assert (found.n_settings, found.n_better) == (24, 12)
    assert load_study(tmp_path / "study").importance() == found
    study.report(tmp_path / "report.html")
    assert "Which knobs matter" in (tmp_path / "report.html").read_text()
