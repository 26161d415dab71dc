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
from dampen import Population, Setting, tune
from dampen.search import Ranked, Rung, Training, best_calibrated, longer, promoted
from dampen.study import _defaults, _protocol, load_study
from dampen.study._findings import CalibratedGain, Part

pytestmark = pytest.mark.usefixtures("without_shape_checks")

NETWORK = dampen.mlp(16)
LENGTHS = _defaults.Lengths(4, 4, 32, 32)
SIZES = {"batch_size": 8, "search": "grid", "n_settings": 2, "n_seeds": 1, "confirmed": 1, "n_confirm_seeds": 5}
SPACE = {"weight_decay": [1.0], "lr": [0.03, 0.1]}


def classes(n=240, inputs=6):
    """Return rows that long trainings tell apart and are too sure of; of the training part five folds are cut alike."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(n, inputs, generator=generator)
    y = (x[:, 0] * x[:, 1] > 0) ^ (torch.rand(n, generator=generator) < 0.1)
    return dampen.from_arrays(x.numpy(), y.numpy(), test_fraction=1 / 6)


def studied(folder=None, data=None, rows=20, **options):
    """Return a study of few settings, of data with rows enough for temperatures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_defaults, "usual_lengths", lambda *_: LENGTHS)
        patch.setattr(_protocol, "FIT_A_TEMPERATURE", rows)
        return tune(NETWORK, classes() if data is None else data, SPACE, out=folder, **SIZES, **options)


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
            lambda a, half=half: nll(a, ~half).sum() + a**2 / (2 * math.log(4) ** 2),
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
    none = study.verdict.references["none"].training
    assert gain.calibrated.own == Training(own[2], own[1]) != none  # it is not the best of uncalibrated ones
    trainings = [study.verdict.references[name].training for name in ("none", "none_stopped_early", "off")]
    others = [costs[key(training)] for training in [*trainings, Training(own[2], own[1])]]
    mine = costs[key(study.recommended)]
    best = min(others, key=np.mean)

    def ends(differences, level=0.95):
        error = math.sqrt((1 / 5 + 1 / 4) * differences.var(ddof=1))
        return scipy.stats.t(4, differences.mean(), error).interval(level)

    lost = study.verdict.calibrated_attribution
    assert list(lost) == ["weight_decay"]
    off = others[2] - mine
    assert lost["weight_decay"].estimate == pytest.approx(off.mean(), abs=2e-5)
    n = sum(part.interval != (0.0, 0.0) for part in study.verdict.attribution.values())
    assert lost["weight_decay"].interval == pytest.approx(ends(off, 1 - 0.05 / n), abs=1e-4)
    part, most = gain.calibrated.part, max(ends(other - mine, 1 - 0.05 / 4)[1] for other in others)
    margin = study.verdict.margin
    assert gain.calibrated.worth is (
        False if most < margin else True if part.interval[0] > 0 and part.estimate >= margin else None
    )
    assert part.estimate == pytest.approx((best - mine).mean(), abs=2e-5)
    assert part.interval[0] == pytest.approx(min(ends(other - mine)[0] for other in others), abs=1e-4)
    assert part.interval[1] == pytest.approx(ends(best - mine)[1], abs=1e-4)


def test_no_regularisation_has_the_length_that_is_best_under_temperatures(study, tmp_path):
    by_it = studied(tmp_path / "s", metric="calibrated-nll")
    costs = [
        {(s, rung.epochs): cost for rung in found if rung.family == "none" for s, cost in of(rung)}
        for found, of in (
            (study.ranked, lambda rung: zip(rung.settings, rung.calibrated, strict=True)),
            (by_it.ranked, lambda rung: zip(rung.settings, rung.costs, strict=True)),
        )
    ]
    alike = costs[0].keys() & costs[1].keys()  # the same trainings
    assert len(alike) > 2
    assert [costs[0][training] for training in alike] == pytest.approx([costs[1][training] for training in alike])
    assert not any(rung.calibrated for rung in by_it.ranked)
    assert by_it.verdict.calibrated_attribution == {}


def test_a_study_that_is_opened_again_has_it(study):
    again = load_study(study.folder)
    assert again.verdict.calibrated_attribution == study.verdict.calibrated_attribution
    assert again.verdict.gain.calibrated == study.verdict.gain.calibrated
    assert again.verdict.gain.in_target_unit == study.verdict.gain.in_target_unit
    rungs = json.loads((study.folder / "search.json").read_text())
    assert all(("calibrated" in rung) == (rung["family"] == "none") for rung in rungs)


@pytest.mark.parametrize(
    ("part", "worth", "words"),
    [
        (Part(0.5, (0.1, 0.9)), True, "the gain is 0.5 (0.1 to 0.9)."),
        (Part(0.5, (-0.1, 1.1)), None, "the gain is 0.5 (-0.1 to 1.1): a temperature may do as much."),
        (
            Part(-0.01, (-0.03, 0.05)),
            False,
            "the gain is -0.01 (-0.03 to 0.05), no more than the margin: a temperature does as much.",
        ),
        (
            Part(-0.1, (-0.2, -0.01)),
            False,
            "no regularisation is better: the gain is -0.1 (-0.2 to -0.01).",
        ),
    ],
)
def test_the_headline_says_what_a_temperature_does(study, part, worth, words):
    lost = {"weight_decay": Part(0.2, (0.1, 0.3))}
    gain = replace(study.verdict.gain, calibrated=CalibratedGain(part, study.verdict.gain.calibrated.own, worth))
    verdict = replace(study.verdict, helps=True, learnt=True, margin=0.1, gain=gain, calibrated_attribution=lost)
    sentences = verdict.sentences()
    assert sentences[0].endswith(f"With a temperature for each network {words}")
    told = "with a temperature for each network: without its weight decay it would be 0.2 worse (+0.1 to +0.3)."
    assert any(sentence.endswith(told) for sentence in sentences)
    n = study.verdict.gain.calibrated.own.epochs
    assert any("Temperatures are fitted on the other half of the evaluation rows" in s for s in sentences)
    assert any(f"no regularisation was best after {n} epochs on the selection rows" in s for s in sentences)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (Part(6.2, (-0.3, 12.7)), "6 fewer of 1000 rows (0 to 13)."),
        (Part(-3.0, (-8.0, 2.0)), "3 more of 1000 rows (-2 to 8)."),
        (Part(0.0, (0.0, 0.0)), "0 fewer of 1000 rows."),  # none was told apart: how sure that is is not known
    ],
)
def test_wrong_rows_have_an_interval_where_rows_tell(study, wrong, words):
    gain = replace(study.verdict.gain, in_target_unit=wrong, calibrated=None)
    assert replace(study.verdict, helps=True, learnt=True, gain=gain).sentences()[0].endswith(words)


def test_few_rows_and_ones_whose_weights_leave_few_have_no_temperature():
    uneven = torch.where(torch.arange(len(classes().features)) % 10 > 0, 0.1, 1.0)
    weighted = replace(classes(), weights=uneven)
    for found in (studied(rows=200), studied(data=weighted)):
        assert not any(rung.calibrated for rung in found.ranked)
        assert found.verdict.calibrated_attribution == {}
        assert found.verdict.gain is None or found.verdict.gain.calibrated is None


def rung(epochs, family, costs, calibrated=()):
    settings = tuple(Setting(lr=0.1 * (i + 1)) for i in range(len(costs)))
    return Ranked("r", family, 0, epochs, settings, costs, ((1, 1.0),) * len(costs), calibrated)


def test_no_regularisation_trains_on_beside_the_search_while_temperatures_make_it_better():
    found = [rung(4, "none", (1.0, 1.1), (0.9, 0.8)), rung(8, "none", (1.2, 1.3), (0.7, 0.6))]
    assert longer(found, 8) == {}
    found += [rung(4, "search", (1.0,)), rung(8, "search", (0.5,))]
    assert longer(found, 8) == {"search": [Setting(lr=0.1)], "none": [Setting(lr=0.2)]}
    found.append(rung(8, "none", (0.8, 0.9), (0.8, 0.7)))
    assert longer([found[0], *found[2:]], 8)["none"] == [Setting(lr=0.1), Setting(lr=0.2)]  # the best of either kind
    assert best_calibrated(found[:2], "none") == Training(Setting(lr=0.2), 8)
    assert best_calibrated([*found[:2], rung(16, "none", (1.0,))], "none") is None  # an earlier version's


def test_halving_keeps_what_is_best_under_temperatures():
    ranked = {
        "none": rung(4, "none", (1.0, 1.1, 1.2, 1.3), (0.9, 0.8, 0.7, 0.8)),
        "search": rung(4, "search", (1.0, 1.1)),
    }
    none = ranked["none"].settings
    going = promoted(ranked, Rung(4, 2), 8, {"none": none})
    assert going == {"search": ranked["search"].settings[:2], "none": [none[0], none[2]]}
