"""What is left of a gain where each network has a temperature, against scipy's fit of these and Student's t."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.optimize
import scipy.special
import scipy.stats
import torch

import dampen
from dampen import Population, tune
from dampen.search import Training
from dampen.study import _defaults, load_study
from dampen.study._findings import CalibratedGain, Part

pytestmark = pytest.mark.usefixtures("without_shape_checks")

NETWORK = dampen.mlp(16)
LENGTHS = _defaults.Lengths(4, 4, 16, 16)
SIZES = {"batch_size": 8, "search": "grid", "n_settings": 2, "n_seeds": 1, "confirmed": 1, "n_confirm_seeds": 5}
SPACE = {"weight_decay": [1.0], "lr": [0.01, 0.03]}


def classes(n=120, inputs=20):
    """Return rows of which a third have the wrong class, and whose training part is cut into five alike folds."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(n, inputs, generator=generator)
    y = (x[:, 0] > 0) ^ (torch.rand(n, generator=generator) < 0.3)
    return dampen.from_arrays(x.numpy(), y.numpy(), test_fraction=1 / 6)


def studied(folder, **options):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_defaults, "usual_lengths", lambda *_: LENGTHS)
        return tune(NETWORK, classes(), SPACE, out=folder, **SIZES, **options)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return studied(tmp_path_factory.mktemp("runs") / "s")


def calibrated_nll(logits, targets):
    """Return the mean nll of rows under the temperature that the other half of them, and a prior, is fitted by."""
    one = torch.randperm(len(targets), generator=torch.Generator().manual_seed(len(targets))).numpy() % 2 == 0
    costs = np.empty(len(targets))

    def nll(log_sharpness, rows):
        each = scipy.special.log_softmax(logits[rows] * math.exp(log_sharpness), -1)
        return -each[np.arange(len(each)), targets[rows]]

    for half in (one, ~one):
        fit = scipy.optimize.minimize_scalar(
            lambda a, half=half: nll(a, ~half).sum() + a**2 / (2 * math.log(2) ** 2),
            bounds=(-4, 4),
            method="bounded",
            options={"xatol": 1e-7},
        )
        costs[half] = nll(fit.x, half)
    return costs.mean()


def costs_of(study):
    """Return the calibrated nll of each confirmed training in each fold, from the folder's checkpoints alone."""
    folds, found = classes().folds(5, 1, seed=1), {}
    runs = study.frame().groupby("run")[["length", "epoch"]].max()
    for folder in (study.folder / "checkpoints").glob("confirmation-*"):
        population = Population.load(folder, NETWORK, (folds[0].train.features, folds[0].train.targets))
        length, epoch = runs.loc[folder.name]
        for setting in population.settings:
            means = []
            for seed, fold in zip(population.seeds, folds, strict=True):
                with torch.no_grad():
                    logits = population.member(setting, seed)(fold.validation.features).double().numpy()
                means.append(calibrated_nll(logits, fold.validation.targets.numpy()))
            found[setting, length, epoch] = np.array(means)
    return found


def key(training):
    return training.setting, training.epochs, training.trained


def test_what_is_left_is_over_the_best_without_regularisation_of_calibrated_ones(study):
    costs, gain = costs_of(study), study.verdict.gain
    ranked = [rung for rung in study.ranked if rung.family == "none"]
    own = min(
        (cost, rung.epochs, setting)
        for rung in ranked
        for setting, cost in zip(rung.settings, rung.calibrated, strict=True)
    )
    assert gain.calibrated.epochs == own[1]
    trainings = [study.verdict.references[name].training for name in ("none", "none_stopped_early", "off")]
    others = [costs[key(training)] for training in [*trainings, Training(own[2], own[1])]]
    mine = costs[key(study.recommended)]
    best = min(others, key=np.mean)

    def ends(differences):
        error = math.sqrt((1 / 5 + 1 / 4) * differences.var(ddof=1))
        return scipy.stats.t(4, differences.mean(), error).interval(0.95)

    part = gain.calibrated.part
    assert part.estimate == pytest.approx((best - mine).mean(), abs=2e-5)
    assert part.interval[0] == pytest.approx(min(ends(other - mine)[0] for other in others), abs=1e-4)
    assert part.interval[1] == pytest.approx(ends(best - mine)[1], abs=1e-4)


def test_no_regularisation_has_the_length_that_is_best_under_temperatures(study, tmp_path):
    by_it = studied(tmp_path / "s", metric="calibrated-nll")
    both = [{rung.run: rung for rung in of.ranked if rung.family == "none"} for of in (study, by_it)]
    for name, rung in both[0].items():
        if name in both[1] and set(rung.settings) == set(both[1][name].settings):  # the same trainings
            theirs = dict(zip(both[1][name].settings, both[1][name].costs, strict=True))
            assert [theirs[s] for s in rung.settings] == pytest.approx(rung.calibrated)
    assert both[0].keys() & both[1].keys()
    assert all(not rung.calibrated for rung in by_it.ranked)
    assert by_it.verdict.gain is None or by_it.verdict.gain.calibrated is None


def test_a_study_that_is_opened_again_has_it(study):
    again = load_study(study.folder)
    assert again.verdict.gain.calibrated == study.verdict.gain.calibrated
    assert again.verdict.gain.in_target_unit == study.verdict.gain.in_target_unit
    rungs = json.loads((study.folder / "search.json").read_text())
    assert all(("calibrated" in rung) == (rung["family"] == "none") for rung in rungs)


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (Part(0.5, (0.1, 0.9)), "the gain is 0.5 (0.1 to 0.9)."),
        (Part(0.5, (-0.1, 1.1)), "the gain is 0.5 (-0.1 to 1.1): a temperature may do as much."),
        (Part(0.05, (0.01, 0.3)), "the gain is 0.05 (0.01 to 0.3): a temperature may do as much."),
        (Part(0.01, (-0.03, 0.05)), "the gain is 0.01 (-0.03 to 0.05): a temperature does as much."),
    ],
)
def test_the_headline_says_what_a_temperature_does(study, part, words):
    gain = replace(study.verdict.gain, calibrated=CalibratedGain(part, 16))
    verdict = replace(study.verdict, helps=True, learnt=True, margin=0.1, gain=gain)
    sentences = verdict.sentences()
    assert sentences[0].endswith(f"With a temperature for each network {words}")
    assert any("no regularisation is best after 16 epochs, of the lengths that were tried" in s for s in sentences)


def test_weighted_rows_have_no_temperature():
    weighted = replace(classes(), weights=torch.rand(120) + 0.5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_defaults, "usual_lengths", lambda *_: LENGTHS)
        found = tune(NETWORK, weighted, SPACE, **SIZES)
    assert all(not rung.calibrated for rung in found.ranked)
    assert found.verdict.gain is None or found.verdict.gain.calibrated is None
