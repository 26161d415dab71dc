"""Cocktails: which regularisers are searched where, each on or off, and a study of them."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dampen import InputError, Setting, TrainConfig, from_arrays, load, load_study, mlp, tabular, tune
from dampen.search import SEARCH, Choice, LogUniform, PerLayer, Ranked, Space, Uniform, around, crossings
from dampen.study._cocktail import cocktail_space
from dampen.study._defaults import Lengths
from dampen.study._references import regularisers
from dampen.study._search import _Search

pytestmark = pytest.mark.usefixtures("without_shape_checks")

ONLY_IMAGES = {"cutmix", "random_shift", "horizontal_flip"}


def space_of(name, model, **options):
    return cocktail_space(model, load(name), TrainConfig(epochs=1, batch_size=32, **options), 1)


def test_cocktails_of_classes_are_compared_by_how_well_they_tell_them_apart():
    """One number mends how sure networks are, where there are rows enough to fit it."""
    how = {"n_settings": 4, "n_seeds": 1, "n_confirm_seeds": 2, "epochs": 2}
    digits = load("digits")
    study = tune(mlp(8), digits, cocktail=True, **how)
    assert study.plan.metric.name == study.verdict.metric.name == "calibrated-nll"
    assert sum("the temperature that the other half of the rows fit" in line for line in study.verdict.sentences()) == 1
    network, one = study.ensemble(1)[0], study.model()
    rows = study.data.test.features[:5]
    ratio = (one(rows) / network(rows)).detach()
    assert torch.allclose(ratio, ratio[:1, :1].expand_as(ratio), rtol=1e-3)  # all by one temperature
    given = tune(mlp(8), digits, cocktail=True, metric="nll", **how)
    assert given.plan.metric.name == "nll"
    assert not any("the temperature that the other half" in line for line in given.verdict.sentences())
    for name, metric in (("wine", "nll"), ("diabetes", "mse")):  # of few rows, and numbers
        assert tune(tabular(8), load(name), cocktail=True, **how).plan.metric.name == metric
    assert tune(mlp(8), digits, **how).plan.metric.name == "nll"
    even = np.ones(len(digits.targets))
    for weights, metric in ((even, "calibrated-nll"), (np.where(even.cumsum() % 2, 1, 0.1), "nll")):  # worth 160 rows
        weighted = from_arrays(digits.features.float().numpy(), digits.targets.numpy(), weights=weights)
        assert tune(mlp(8), weighted, cocktail=True, **how).plan.metric.name == metric


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


def best_one(space, **values):
    return Setting(**dict.fromkeys(space.dimensions, 0.0) | {"lr": 0.001} | values)


def test_around_a_cocktail_one_knob_is_changed_each_in_turn():
    space = Space(space_of("digits", mlp(8)))
    best = best_one(space, dropout=0.2, mixup=0.3)
    near = space.changed(best, 26, {best}, 1)
    changes = [[name for name in best if setting[name] != best[name]] for setting in near]
    assert len(set(near)) == 26
    assert {len(names) for names in changes} == {1}
    firsts = [names[0] for names in changes]
    acting = set(space.dimensions) - {"decay_start", "cutmix"}  # no decay that could start late, and mixup is on
    assert set(firsts) == acting
    assert max(map(firsts.count, acting)) <= 3
    assert {setting["mixup"] for setting in near} > {0.0, 0.3}
    assert all(3e-4 <= setting["lr"] <= 3e-3 for setting in near)
    decays = [setting["weight_decay"] for setting in near if setting["weight_decay"]]
    assert all(0.01 <= decay <= 1.0 for decay in decays)  # not only the lower end, where it would do nothing


def test_what_has_been_tried_is_not_drawn_again():
    space = Space({"lr": [0.01], "random_shift": [0, 1], "mixup": Uniform(0.1, 1.0, zero=0.5)})
    best = best_one(space, lr=0.01, random_shift=1)
    other = best_one(space, lr=0.01)
    assert other not in space.changed(best, 8, {best, other}, 0)
    assert other in space.changed(best, 8, {best}, 0)
    assert space.changed(best, 0, set(), 0) == []


def test_two_settings_are_crossed_to_one_that_has_not_been_tried():
    space, coins = Space(space_of("digits", mlp(8))), np.random.default_rng(0)
    base = best_one(space)
    shifted, decayed = (best_one(space, **on) for on in ({"random_shift": 1.0}, {"weight_decay": 0.1}))
    both = space.crossed(shifted, decayed, {base, shifted, decayed}, coins)
    assert both == best_one(space, random_shift=1.0, weight_decay=0.1)
    assert space.crossed(shifted, decayed, {base, shifted, decayed, both}, coins) is None
    mixed, cut = best_one(space, mixup=0.2), best_one(space, cutmix=0.4)
    children = [space.crossed(mixed, cut, set(), coins) for _ in range(20)]
    assert not any(child["mixup"] and child["cutmix"] for child in children)  # which exclude each other
    assert len(set(children)) > 1  # by other coins each time


def test_what_is_turned_on_is_mild_at_first_and_numbers_go_one_further():
    space = Space(space_of("digits", mlp(8)))
    near = space.changed(best_one(space), 60, set(), 3)
    assert 0.05 < max(setting["label_smoothing"] for setting in near) <= 0.08  # a third of 0.02 to 0.2
    assert {setting["random_shift"] for setting in near} == {0, 1}
    shifted = space.changed(best_one(space, random_shift=1), 60, set(), 3)
    assert {setting["random_shift"] for setting in shifted} == {0, 1, 2}
    assert Choice(["linear", "cosine", "constant"]).other("cosine", False, 0.9) == "constant"
    assert Choice([3.0]).other(3.0, False, 0.5) == 3.0


def test_a_round_has_crossings_of_the_next_best_and_then_single_changes():
    space = Space(space_of("digits", mlp(8)))
    ranking = [best_one(space, **on) for on in ({"random_shift": 1.0}, {"weight_decay": 0.1}, {"dropout": 0.2}, {})]
    found = [Ranked("r", SEARCH, 0, 8, tuple(ranking), (1.0, 1.1, 1.2, 1.3), ((1, 1.0),) * 4)]
    found.append(
        Ranked("r", SEARCH, 0, 16, (ranking[2],), (0.9,), ((1, 1.0),))
    )  # the best of all, in a longer training
    drawn, epochs = around(space, found, 10, 0, epochs=8)
    assert (len(set(drawn)), epochs) == (10, 8)
    assert drawn[0] == best_one(space, random_shift=1.0, weight_decay=0.1)
    assert drawn[1] == best_one(space, random_shift=1.0, dropout=0.2)
    assert not set(drawn) & set(ranking)
    assert {sum(setting[name] != ranking[0][name] for name in setting) for setting in drawn[2:]} == {1}
    assert around(space, found, 2, 0, epochs=8)[0][0] == drawn[0]  # crossings come first, and are half at most
    assert around(space, found, 10, 0)[1] == 16


def test_the_best_are_crossed_so_that_what_each_gained_comes_together():
    space = Space(space_of("digits", mlp(8)))
    one, two = {"random_shift": 1.0}, {"weight_decay": 0.1}
    ranking = [best_one(space, **on) for on in (one, {}, two, {"dropout": 0.2})]
    found = [Ranked("r", SEARCH, 0, 8, tuple(ranking), (1.0, 1.1, 1.2, 1.3), ((1, 1.0),) * 4)]
    both, other = best_one(space, **one, **two), best_one(space, **one, dropout=0.2)
    assert crossings(space, found, 6, 0, 8) == [both, other]
    assert crossings(space, found, 1, 0, 8) == [both]
    assert crossings(space, found, 6, 0, 16) == []
    found.append(Ranked("r", SEARCH, 0, 4, (both,), (2.0,), ((1, 1.0),)))  # tried, if only in a shorter training
    assert crossings(space, found, 6, 0, 8) == [other]
    assert crossings(Space({"weight_decay": LogUniform(1e-3, 1.0, zero=0.5), "lr": 0.1}), found, 6, 0, 8) == []


def test_what_helped_in_short_trainings_is_left_out_of_longer_ones():
    space = Space(space_of("digits", mlp(8)))
    on = {"random_shift": 1.0, "weight_decay": 0.1, "input_dropout": 0.1, "decay_start": 0.25}
    best = best_one(space, **on)
    without = [
        best_one(space, **{n: v for n, v in on.items() if n not in gone})
        for gone in (
            {"weight_decay", "decay_start"},
            {"input_dropout"},
            {"random_shift"},
        )  # what decay has goes with it
    ]
    assert set(space.without_each(best)) == set(without)
    assert space.without_each(best_one(space)) == []
    fixed = Space({"weight_decay": LogUniform(0.1, 1.0), "random_shift": [1.0, 2.0], "dropout": Uniform(0.1, 0.2)})
    assert fixed.without_each(Setting(weight_decay=0.1, random_shift=1.0, dropout=0.1)) == []
    dropped = best_one(space, dropout=0.2, mixup=0.3)
    assert set(space.without_each(dropped)) == {best_one(space, mixup=0.3), best_one(space, dropout=0.2)}
    layers = Space({"dropout": PerLayer(Uniform(0.0, 0.5, zero=0.2), 2), "lr": [0.1]})
    assert layers.without_each(Setting(dropout=(0.1, 0.2), lr=0.1)) == [Setting(dropout=(0.0, 0.0), lr=0.1)]
    dropping = Space({"dropout": Uniform(0.0, 0.7), "lr": [0.1]})
    assert dropping.without_each(Setting(dropout=0.2, lr=0.1)) == [Setting(dropout=0.0, lr=0.1)]
    found = [Ranked("r", SEARCH, 0, 4, (without[1],), (2.0,), ((1, 1.0),))]  # which shows nothing of longer ones
    found.append(Ranked("r", SEARCH, 0, 8, (best, without[2], best_one(space)), (1.0, 1.1, 1.2), ((1, 1.0),) * 3))
    near, _ = around(space, found, 8, 0, epochs=8)
    assert (set(near[:2]), len(set(near)), best in near) == (set(without[:2]), 8, False)
    assert set(around(space, found, 4, 0, epochs=8)[0][:1]) < set(without[:2])  # a quarter at most
    crossed = crossings(space, found, 4, 0, 8)
    assert set(crossed[:2]) == set(without[:2])
    assert 2 < len(crossed) == len(set(crossed) - {best, without[2]})  # and what crosses them
    assert crossings(space, found, 2, 0, 8)[0] in without[:2]  # half at most


def test_few_knobs_are_all_changed_together():
    few = Space({name: space_of("digits", mlp(8))[name] for name in ("weight_decay", "lr", "dropout")})
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


def test_references_train_on_beside_what_crossings_find(monkeypatch):
    a, b, n, d = (Setting(lr=lr) for lr in (0.1, 0.2, 0.3, 0.4))
    costs = {a: {10: 1.0, 20: 0.9, 40: 0.9, 80: 0.9}, b: {20: 0.8, 40: 0.7, 80: 0.7}}
    costs |= {n: {10: 1.0, 20: 0.9, 40: 0.8, 80: 0.8}, d: {10: 1.0, 20: 0.9, 40: 0.9}}
    trained = []

    class Searching(_Search):
        def _rung(self, run, _bracket, epochs, alive):
            trained.append((epochs, {name: list(of) for name, of in alive.items()}))
            for name, of in alive.items():
                found = tuple(costs[setting][epochs] for setting in of)
                self.found.append(Ranked(run, name, 0, epochs, tuple(of), found, ((1, 1.0),) * len(of)))

    plan = SimpleNamespace(lengths=Lengths(10, 10, 10, 80), brackets=(), seeds=(0,), seed=0, rounds=4, space=None)
    search = Searching.__new__(Searching)
    search.plan, search.clock, search.found = plan, None, []
    for name, one, lengths in (
        (SEARCH, a, (10, 20)),
        (SEARCH, b, (20,)),
        ("none", n, (10, 20)),
        ("default", d, (10, 20, 40)),
    ):
        for epochs in lengths:
            search._rung("r", 0, epochs, {name: [one]})
    trained.clear()
    search._try_longer(1)
    assert trained == [(40, {"none": [n], SEARCH: [b, a]}), (80, {"none": [n], SEARCH: [b, a]})]


@pytest.mark.parametrize("gains", [True, False])
@pytest.mark.parametrize(("most", "together"), [(100, 5), (4, 2)])
def test_the_best_first_trains_longer_beside_itself_without_each_of_its_knobs_where_there_is_time(
    monkeypatch, most, together, gains
):
    """Whether it has gained by its last doubling, and goes on, or not, and is tried all the same."""
    space = Space(space_of("digits", mlp(8)))
    on = {"random_shift": 1.0, "weight_decay": 0.1, "input_dropout": 0.1}
    first, second = best_one(space, **on), best_one(space, dropout=0.2)
    new = iter([best_one(space, mixup=0.1 * i) for i in range(1, 9)])
    trained = []

    class Searching(_Search):
        def _rung(self, run, _bracket, epochs, alive):
            of = alive[SEARCH]
            trained.append((epochs, set(of)))
            least = 10 / epochs if gains else 1 - epochs / 1e4
            found = {s: (1 if s == first else 2 if s == second else 9) * least for s in of}
            order = sorted(of, key=lambda s: found[s])
            costs = tuple(found[s] for s in order)
            self.found.append(Ranked(run, SEARCH, 0, epochs, tuple(order), costs, ((1, 1.0),) * len(of)))

    def lasting(_decision, _found, epochs, longest, members):
        return min(2 * epochs, longest) if members <= most else 0

    monkeypatch.setattr("dampen.study._search.around", lambda *_: ([next(new)], 10))
    monkeypatch.setattr("dampen.study._search.crossings", lambda *_: [])
    lengths = Lengths(first=5, usual=10, planned=10, longest=40)
    plan = SimpleNamespace(brackets=[], rounds=2, refined=4, seed=0, seeds=(0,), lengths=lengths, space=space)
    plan.search = "sobol"
    clock = SimpleNamespace(lasting=lasting, affords=lambda *arguments: arguments[4])
    searching = Searching(SimpleNamespace(folder=None, plan=plan), clock)
    searching._rung("search-1-1", 0, 10, {SEARCH: [first, second]})
    searching._go_on()
    beyond = [settings for epochs, settings in trained if {first, second} <= settings and epochs > 10]
    without = set(space.without_each(first))
    assert [len(settings & without) for settings in beyond] == [0, together - 2]
    assert max(epochs for epochs, _ in trained) == 40


def test_what_the_last_round_finds_trains_longer_although_what_was_best_before_gained_nothing(monkeypatch):
    a, b, c = (Setting(lr=lr) for lr in (0.1, 0.2, 0.3))
    costs = {(a, 10): 1.0, (a, 20): 1.1, (b, 10): 0.9, (b, 20): 0.8, (b, 40): 0.85, (c, 10): 1.5, (c, 20): 2.0}
    costs[a, 40] = 1.0
    trained = []

    class Searching(_Search):
        def _rung(self, run, _bracket, epochs, alive):
            for family, settings in alive.items():
                order = sorted(settings, key=lambda s: costs[s, epochs])
                found = tuple(costs[s, epochs] for s in order)
                self.found.append(Ranked(run, family, 0, epochs, tuple(order), found, ((1, 1.0),) * len(order)))
            trained.append((run, epochs, set(alive[SEARCH])))

    def around(_space, _found, _n, seed, epochs=None):
        return ([b] if seed == 3 else []), epochs or 10

    monkeypatch.setattr("dampen.study._search.around", around)
    lengths = Lengths(first=5, usual=10, planned=10, longest=80)
    plan = SimpleNamespace(brackets=[], rounds=4, refined=4, seed=0, lengths=lengths, space=None, search="sobol")
    searching = Searching(SimpleNamespace(folder=None, plan=plan), None)
    searching._rung("search-1-1", 0, 10, {SEARCH: [a, c]})
    searching._go_on()
    assert trained[1:] == [
        ("search-longer-1", 20, {a, c}),
        ("search-around-4", 10, {b}),
        ("search-longer-2", 20, {b}),
        ("search-longer-3", 40, {b, a}),
    ]


def test_a_study_of_a_cocktail_tells_what_each_part_is_worth(tmp_path):
    given = {"decay_timescale": LogUniform(1.0, 30.0), "lr": Choice([0.01])}
    options = {"n_settings": 24, "epochs": 2, "n_confirm_seeds": 2, "confirmed": 1, "out": tmp_path / "study"}
    study = tune(tabular(8), load("wine"), given, cocktail=True, **options)
    space = study.plan.space.dimensions
    assert {"decay_timescale", "l1", "ema", "input_noise", "decay_start"} <= set(space)
    assert "weight_decay" not in space
    looked = [rung.run for rung in study.ranked if rung.run.startswith("search-around")]
    assert looked == ["search-around", "search-around-2", "search-around-3", "search-around-4", "search-around-5"]
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
