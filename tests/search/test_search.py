"""Spaces hold what they say, draws fill them, and Optuna's proposals follow from the seed."""

import math
import sqlite3

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dampen
from dampen import Choice, Fixed, InputError, LogUniform, PerLayer, Setting, Uniform
from dampen.search import (
    SEARCH,
    STRATEGIES,
    Ranked,
    Rung,
    Space,
    TpeSampler,
    Training,
    around,
    best,
    best_stop,
    check_storage,
    export_to_optuna,
    longer,
    not_yet_longer,
    promoted,
    strategy_of,
)

SPACE = Space({"weight_decay": LogUniform(1e-5, 1.0, zero=0.1), "dropout": Uniform(0.0, 0.7), "lr": 1e-3})


@given(st.sampled_from(["sobol", "random"]), st.integers(1, 200), st.integers(0, 2**31))
def test_draws_are_distinct_lie_in_the_space_and_follow_from_the_seed(method, n, seed):
    drawn = SPACE.draw(n, method, seed)
    assert len(drawn) == n == len(set(drawn))
    for setting in drawn:
        assert setting["weight_decay"] == 0 or 1e-5 <= setting["weight_decay"] <= 1
        assert 0 <= setting["dropout"] <= 0.7
        assert setting["lr"] == 1e-3
    assert drawn == SPACE.draw(n, method, seed)


def test_decay_is_even_in_the_logarithm_and_zero_as_often_as_asked():
    decays = np.array([s["weight_decay"] for s in SPACE.draw(1024, "sobol", 1)])
    assert np.mean(decays == 0) == pytest.approx(0.1, abs=0.01)
    assert np.quantile(decays[decays > 0], [0.2, 0.4, 0.6, 0.8]) == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1], rel=0.1)


def test_sobol_points_are_spread_more_evenly_than_random_ones():
    from scipy.stats import qmc

    def discrepancy(method):
        draws = Space({"weight_decay": Uniform(0, 1), "dropout": Uniform(0, 1)}).draw(64, method, 0)
        return qmc.discrepancy(np.clip([[s["weight_decay"], s["dropout"]] for s in draws], 0, 1))

    assert discrepancy("sobol") < discrepancy("random") / 3


def test_a_grid_goes_from_end_to_end():
    grid = Space({"weight_decay": [0.0, 0.1], "dropout": Uniform(0.0, 0.6)}).draw(8, "grid", 0)
    assert grid == [Setting(weight_decay=d, dropout=p) for d in (0, 0.1) for p in np.linspace(0, 0.6, 4)]


def test_each_layer_has_a_rate_of_its_own():
    for setting in Space({"dropout": PerLayer(Uniform(0.1, 0.5), 3)}).draw(10, "random", 0):
        assert len(setting["dropout"]) == 3 == len(set(setting["dropout"]))


@pytest.mark.parametrize(
    ("dimension", "value", "expected"),
    [
        (LogUniform(1e-4, 1.0), 0.9, LogUniform(1e-4, 10.0)),
        (LogUniform(1e-4, 1.0), 1.1e-4, LogUniform(1e-5, 1.0)),
        (LogUniform(1e-4, 1.0, zero=0.1), 0.0, None),
        (LogUniform(1e-4, 1.0), 0.01, None),
        (Uniform(0.0, 0.6), 0.0, None),
        (Uniform(0.0, 0.6), 0.59, Uniform(0.0, 0.6 + 0.6 / 2)),
        (Choice([0, 0.1, 1]), 1, Choice([1, 3, 10])),
        (Choice([0, 0.1, 1]), 0.1, None),
        (Fixed(1e-3), 1e-3, None),
    ],
)
def test_a_value_at_the_edge_names_the_range_to_try_next(dimension, value, expected):
    assert dimension.wider(value) == expected


def test_an_edge_beyond_which_a_knob_cannot_go_is_not_named():
    assert Space({"dropout": [0.1, 0.3, 0.5]}).edges(Setting(dropout=0.5)) == {}
    assert Space({"weight_decay": [0.1, 0.3, 0.5]}).edges(Setting(weight_decay=0.5)) == {
        "weight_decay": Choice([0.5, 1.5, 5])
    }


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LogUniform(0, 1), "starts above 0"),
        (lambda: LogUniform(1, 1e-3), "smaller first"),
        (lambda: LogUniform(1e-3, 1, zero=1.0), "zero must be"),
        (lambda: Uniform(0, math.inf), "two finite ends"),
        (lambda: Choice([]), "at least one value"),
        (lambda: Space({}), "at least one knob"),
        (lambda: Space({"dropout": Uniform(0, 1.5)}), "dropout"),
        (lambda: Space({"decay": 1.0}), "no knob named 'decay'"),
        (lambda: SPACE.draw(0, "sobol", 0), "at least 1 setting"),
        (lambda: SPACE.draw(4, "simplex", 0), "must be one of sobol, random, grid"),
    ],
)
def test_what_makes_no_space_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def quadratic(setting):
    return (math.log10(setting["weight_decay"] or 1e-6) + 2) ** 2 + (setting["dropout"] - 0.3) ** 2


def propose(seed, batches=8, n=12):
    tpe, found = TpeSampler(SPACE, seed, n), []
    for _ in range(batches):
        asked = tpe.ask(n)
        tpe.tell(10, asked, [quadratic(s) for s in asked], True)
        tpe.close()
        found.append(asked)
    return found


def ranked(family, epochs, **costs):
    """Settings `a`, `b` ... with their costs at a length, the best first, each with its least loss at epoch 1."""
    decays = {name: Setting(weight_decay=float(ord(name))) for name in costs}
    order = sorted(costs, key=costs.__getitem__)
    stops = tuple((1, costs[name]) for name in order)
    return Ranked("r", family, 0, epochs, tuple(map(decays.get, order)), tuple(map(costs.get, order)), stops)


def named(settings):
    return "".join(chr(round(setting["weight_decay"])) for setting in settings)


def test_a_reference_keeps_the_same_share_of_its_settings_as_the_search():
    found = {SEARCH: ranked(SEARCH, 1, a=3.0, b=1.0, c=2.0, d=4.0), "none": ranked("none", 1, e=2.0, f=1.0, g=3.0)}
    going = promoted(found, Rung(1, 2), 4, {"none": found["none"].settings})
    assert {name: named(settings) for name, settings in going.items()} == {SEARCH: "bc", "none": "fe"}


def test_a_family_trains_longer_while_its_best_gains_more_than_half_a_percent():
    before = [ranked(SEARCH, 4, a=1.0, b=2.0), ranked("none", 4, c=1.0), ranked("default", 4, d=1.0)]
    now = [ranked(SEARCH, 8, a=1.5, b=0.9), ranked("none", 8, c=0.996), ranked("default", 8, d=math.inf)]
    assert {name: named(settings) for name, settings in longer([*before, *now], 8).items()} == {SEARCH: "ba"}
    assert not longer([*before, ranked(SEARCH, 8, a=math.inf)], 8)


def test_the_best_that_has_not_trained_longer_is_tried_with_the_next_of_its_length():
    found = [ranked(SEARCH, 4, a=1.0, b=2.0, c=1.5), ranked(SEARCH, 8, a=1.1), ranked("none", 8, e=0.1)]
    assert not_yet_longer(found) == ([], 0)  # twice as long it was worse
    found.append(ranked(SEARCH, 4, f=0.9))
    settings, epochs = not_yet_longer(found)
    assert (named(settings), epochs) == ("fc", 4)  # a has trained longer
    assert not_yet_longer([ranked(SEARCH, 4, a=math.inf)]) == ([], 0)


def test_the_best_of_a_family_has_its_best_length_and_the_shorter_one_of_equals():
    found = [ranked(SEARCH, 4, a=1.0, b=0.5), ranked(SEARCH, 8, a=0.7, b=0.5, c=math.inf), ranked("none", 4, d=0.1)]
    a, b = Setting(weight_decay=97.0), Setting(weight_decay=98.0)
    assert best(found, SEARCH) == [Training(b, 4), Training(a, 8)]
    assert best_stop(found, SEARCH) == Training(b, 4, 1)
    assert best_stop(found, "default") is None


def test_new_settings_lie_around_the_best_and_train_as_long():
    space = Space({"weight_decay": Uniform(0.0, 200.0)})
    drawn, epochs = around(space, [ranked(SEARCH, 4, a=1.0), ranked(SEARCH, 8, a=0.5, b=0.6)], 3, 0)
    assert (len(set(drawn)), epochs) == (3, 8)
    assert all(abs(setting["weight_decay"] - 97) < 60 for setting in drawn)
    assert around(None, [ranked(SEARCH, 4, a=1.0)], 3, 0) == ([], 0)


@pytest.mark.parametrize("rates", [{"2": 0.3}, [[0.1, 0.3], [0.2, 0.4]]])
def test_rates_of_layers_that_are_given_stay_what_they_are_beside_knobs_that_change(rates):
    space = Space({"dropout": rates, "l1": LogUniform(1e-5, 0.1, zero=0.5), "lr": [1e-3, 1e-2]})
    first = space.draw(1, "sobol", 0)[0]
    for setting in space.changed(first, 6, {first}, 0):
        assert sum(setting[name] != first[name] for name in first) == 1
    assert space.around(first).draw(4, "sobol", 0)


def test_what_a_rung_found_comes_back_from_its_document():
    rung = ranked(SEARCH, 4, a=1.0, b=math.inf)
    document = rung.document("rmse", [1.0, None])
    assert document["rmse"] == [1.0, None]
    assert Ranked.from_document(document) == rung


def test_tpe_learns_and_follows_from_the_seed():
    found = propose(0)
    cost = [np.median([quadratic(s) for s in batch]) for batch in found]
    assert cost[-1] < cost[0] / 3
    assert found == propose(0)
    assert found != propose(1)
    assert len({s for batch in found for s in batch}) == 96


def test_tpe_in_a_space_that_is_exhausted_proposes_what_is_left():
    tpe = TpeSampler(Space({"weight_decay": [0.0, 0.1, 1.0]}), 0, 2)
    asked = tpe.ask(10)
    assert len(asked) <= 3
    tpe.tell(1, asked, [1.0] * len(asked), True)
    tpe.close()
    assert not set(tpe.ask(10)) & set(asked)


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_name_is_short_for_a_strategy(name):
    strategy = strategy_of(name)
    assert (strategy.name, strategy.eta, strategy.halving) == (name, 2, True)
    assert strategy_of(strategy) is strategy
    assert strategy == STRATEGIES[name](eta=2) != STRATEGIES[name](eta=3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: dampen.SuccessiveHalving(eta=1), "eta must be a whole number, 2 or larger, got 1"),
        (lambda: dampen.Hyperband(halving=False), "Hyperband drops settings by halving"),
        (
            lambda: strategy_of("simplex"),
            "the search must be one of sobol, random, grid, tpe, hyperband, got 'simplex'",
        ),
    ],
)
def test_a_strategy_that_cannot_be_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_an_optuna_storage_has_every_setting_with_its_curve(tmp_path):
    import optuna

    drawn = Space(dict(SPACE.dimensions) | {"dropout": PerLayer(Uniform(0, 0.7), 2)}).draw(6, "sobol", 0)
    space = Space(dict(SPACE.dimensions) | {"dropout": PerLayer(Uniform(0, 0.7), 2)})
    url = f"sqlite:///{tmp_path}/o.db"
    costs = [float(k) for k in range(6)]
    export_to_optuna(url, "mine", space, [(1, drawn, costs), (3, drawn[:2], [0.5, math.inf])])
    study = optuna.load_study(study_name="mine", storage=url)
    assert [t.state.name for t in study.trials] == ["COMPLETE"] + ["PRUNED"] * 5
    assert study.trials[0].intermediate_values == {1: 0.0, 3: 0.5}
    assert study.trials[2].params["dropout.1"] == drawn[2]["dropout"][1]
    assert [t.params["weight_decay.zero"] for t in study.trials] == [s["weight_decay"] == 0 for s in drawn]
    with pytest.raises(InputError, match="has a study called 'mine' already"):
        export_to_optuna(url, "mine", space, [(1, drawn, costs)])
    with pytest.raises(InputError, match="can't write to the Optuna storage"):
        export_to_optuna("nonsense://", "mine", space, [(1, drawn, costs)])


def test_an_optuna_storage_has_choices_that_were_written_as_whole_numbers(tmp_path):
    import optuna

    space = Space({"max_norm": [1, 2], "dropout": [(0, 0.5), (0.5, 0)], "drop_path": PerLayer(Choice([0, 1 / 2]), 2)})
    drawn = space.draw(99, "grid", 0)
    url = f"sqlite:///{tmp_path}/o.db"
    export_to_optuna(url, "mine", space, [(1, drawn, range(len(drawn)))])
    trials = optuna.load_study(study_name="mine", storage=url).trials
    assert len(trials) == 16
    for trial, setting in zip(trials, drawn, strict=True):
        assert trial.params["max_norm"] == setting["max_norm"]
        assert trial.params["dropout"] == str(setting["dropout"])
        assert (trial.params["drop_path.0"], trial.params["drop_path.1"]) == setting["drop_path"]


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("nonsense", "can't write to the Optuna storage nonsense: .*; a file works as sqlite:///studies.db"),
        ("redis://here", "can't write to the Optuna storage redis://here"),
        ("sqlite://", "is in memory and ends with the command"),
        ("sqlite:///{}/nowhere/o.db", "No such file or directory"),
        ("sqlite:///{}/rows.csv", "file is not a database"),
        ("sqlite:///{}/app.db", "is another program's database, with a table 'accounts'"),
    ],
)
def test_a_storage_that_can_t_be_used_is_refused_beforehand_and_nothing_is_changed(tmp_path, storage, message):
    (tmp_path / "rows.csv").write_text("a,b\n" * 500)
    with sqlite3.connect(tmp_path / "app.db") as base:
        base.execute("create table accounts (a)")
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(InputError, match=message):
        check_storage(storage.format(tmp_path), "mine")
    check_storage(f"sqlite:///{tmp_path}/new.db", "mine")
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
