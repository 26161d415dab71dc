"""One network distilled from a study's ensemble, beside plain PyTorch."""

import dataclasses
from functools import cache

import pytest
import torch
import torch.nn.functional as F

import dampen
from dampen.errors import InputError

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
