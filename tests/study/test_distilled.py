"""One network distilled from a study's ensemble, beside plain PyTorch."""

import dataclasses
from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.model_selection import GroupKFold

import dampen
from dampen.errors import InputError
from dampen.study import _distilled

pytestmark = pytest.mark.usefixtures("without_shape_checks")
EPOCHS = {"wine": 6, "diabetes": 2}
SMALL = {"n_seeds": 3, "batch_size": 32, "lr": 0.02, "validation": "held-out"}


@cache
def study_of(name):
    """A study of two settings: of classes, or of numbers."""
    settings = [dampen.Setting(weight_decay=0.1, dropout=0.3), dampen.Setting(weight_decay=9.0, lr=1e-4)]
    return dampen.compare(dampen.mlp(8), dampen.load(name), settings, epochs=EPOCHS[name], **SMALL)


@cache
def distilled(name):
    """What the study of that name distils from its own ensemble."""
    return study_of(name).distilled()


def all_rows(study):
    """Inputs and targets that the last training has."""
    data = study.data
    rows = torch.cat([data.train_rows, data.validation_rows]).sort().values
    return dataclasses.replace(data, train_rows=rows, validation_rows=rows[:0]).train


def test_it_is_the_network_that_plain_training_on_mean_probabilities_gives():
    study, found = study_of("wine"), distilled("wine")
    rows = all_rows(study)
    with torch.no_grad():
        teacher = torch.stack([network(rows.features).softmax(-1) for network in study.ensemble()]).mean(0)
    plain = dampen.solo(
        dampen.mlp(8),
        study.setting,
        study.results.population.seeds[0],
        (rows.features, teacher),
        dataclasses.replace(study.plan.training, epochs=EPOCHS["wine"]),
        loss=lambda outputs, targets: F.cross_entropy(outputs, targets, reduction="none"),
    ).network
    for one, other in zip(found.network.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        own = found.network(rows.features).softmax(-1)
    assert not found.network.training
    assert (own - teacher).abs().mean() < (teacher - teacher.mean(0)).abs().mean()  # it has learnt what it was taught


@pytest.mark.slow
def test_of_numbers_it_learns_the_mean_prediction():
    study = study_of("diabetes")
    found, rows = distilled("diabetes"), all_rows(study)
    with torch.no_grad():
        teacher = torch.stack([network(rows.features).squeeze(-1) for network in study.ensemble()]).mean(0)
    how = dataclasses.replace(study.plan.training, epochs=EPOCHS["diabetes"])
    seed = study.results.population.seeds[0]
    plain = dampen.solo(dampen.mlp(8), study.setting, seed, (rows.features, teacher), how).network
    for one, other in zip(found.network.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["wine", pytest.param("diabetes", marks=pytest.mark.slow)])
def test_it_is_compared_on_rows_that_none_has_seen(name):
    study, found = study_of(name), distilled(name)
    assert found.n_rows == len(all_rows(study))
    assert (found.n_networks, set(found.values)) == (3, {"distilled", "ensemble", "single"})
    for other, (difference, low, high) in found.against.items():
        assert difference == pytest.approx(found.values["distilled"] - found.values[other], rel=1e-9)
        assert low < difference < high
    # a mean's cost is at most the mean cost of what is averaged (Jensen), on whichever rows
    assert found.values["ensemble"] <= found.values["single"]
    assert str(found).splitlines()[0].startswith(f"On {found.n_rows} rows that no network has seen")


@pytest.mark.slow
def test_it_is_compared_on_the_folds_that_were_given(monkeypatch):
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 5)
    X, y = rng.normal(size=(20, 4))[groups] + 0.1 * rng.normal(size=(100, 4)), rng.integers(0, 2, 20)[groups]
    folds = list(GroupKFold(4).split(X, y, groups))
    data = dampen.from_arrays(X, y, test_fraction=0.0).with_folds(folds)
    settings = [dampen.Setting(lr=0.01), dampen.Setting(lr=1e-4)]
    study = dampen.compare(dampen.mlp(8), data, settings, 4, epochs=5)
    parts, costs, of = [], [], _distilled._School.outputs_of

    def outputs_of(school, part):
        parts.append(part)
        found = of(school, part)
        costs.append(float(F.nll_loss(found["ensemble"][0], part.validation.targets)))
        return found

    monkeypatch.setattr(_distilled._School, "outputs_of", outputs_of)
    found = study.distilled()
    assert [sorted(part.validation_rows.tolist()) for part in parts] == [sorted(held.tolist()) for _, held in folds]
    assert [sorted(part.train_rows.tolist()) for part in parts] == [sorted(rest.tolist()) for rest, _ in folds]
    assert found.values["ensemble"] == pytest.approx(np.mean(costs))
    assert found.n_rows == 100


def test_an_ensemble_of_several_settings_is_distilled_too():
    assert study_of("wine").distilled(4).n_networks == 4


@pytest.mark.slow
def test_labels_are_not_smoothed_and_weights_of_1_change_nothing():
    data = dampen.load("wine")
    weighted = dataclasses.replace(data, weights=torch.ones(len(data.targets)), reading=None)
    settings = [dampen.Setting(label_smoothing=0.1), dampen.Setting(label_smoothing=0.2)]
    how = {"n_seeds": 2, "epochs": 2, "batch_size": 32, "validation": "held-out"}
    studies = [dampen.compare(dampen.mlp(4), of, settings, **how) for of in (data, weighted)]
    found = [study.distilled() for study in studies]
    assert "label_smoothing" not in found[0].setting
    for one, other in zip(*(of.network.parameters() for of in found), strict=True):
        torch.testing.assert_close(one, other)


def test_what_can_t_be_distilled_is_one_line(tmp_path):
    with pytest.raises(InputError, match="n must be a whole number, 2 or larger"):
        study_of("wine").distilled(1)
    settings = [dampen.Setting(), dampen.Setting(lr=1e-2)]
    how = {"n_seeds": 2, "epochs": 1, "validation": "held-out"}
    of_heads = dampen.compare(
        dampen.mlp(4), dampen.load("diabetes"), settings, loss="gaussian_nll", out=tmp_path / "s", **how
    )
    with pytest.raises(InputError, match="distilled is for the usual losses"):
        of_heads.distilled()
    with pytest.raises(InputError, match="read from its folder"):
        dampen.load_study(tmp_path / "s").distilled()
