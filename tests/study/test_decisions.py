"""What a study decides before its plan, a loss and the sizes of a budget, holds for that plan alone."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import dampen
from dampen import InputError
from dampen.engine import Population
from dampen.search import Space
from dampen.study._budget import (
    Wanted,
    check_budget,
    fit_search,
    foreseen,
    full_trainings,
    member_epochs_beyond,
    seconds_per_member_epoch,
)
from dampen.study._defaults import Lengths
from dampen.study._phases import split

pytestmark = pytest.mark.usefixtures("without_shape_checks")

SPACE = {"lr": [0.03], "weight_decay": [0.0, 0.01]}
WORDS: dict[str, Any] = {"n_settings": 2, "n_seeds": 2, "epochs": 10, "confirmed": 1, "n_confirm_seeds": 2}
WORDS |= {"validation": "held-out", "batch_size": 64}
KILLED = "killed"


def rows(seed: int = 8) -> dampen.Data:
    """Rows whose noise differs much."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (600, 2)).astype(np.float32)
    return dampen.from_arrays(x, (x[:, 0] + np.exp(2 * x[:, 1]) * rng.normal(size=600)).astype(np.float32))


def tune(folder: Path, data: dampen.Data | None = None, space: Any = None, **options: Any) -> dampen.Study:
    words = {"loss": "auto", **WORDS} | options
    network = dampen.mlp(8, activation="silu")
    return dampen.tune(network, data or rows(), space or SPACE, out=folder, **words)


def killed(monkeypatch: pytest.MonkeyPatch, folder: Path, at: str = "open_folder", **options: Any) -> Path:
    """A folder as a run leaves it that is killed before it has written its plan, or elsewhere."""

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt(KILLED)

    with monkeypatch.context() as patch:
        patch.setattr(f"dampen.study._tune.{at}", die)
        with pytest.raises(KeyboardInterrupt, match=KILLED):
            tune(folder, **options)
    return folder


def begun(monkeypatch: pytest.MonkeyPatch, folder: Path, **options: Any) -> dict[str, Any]:
    """How members train in a study that is killed once its plan is written, or found to be the same."""
    killed(monkeypatch, folder, "run_search", **options)
    return json.loads((folder / "plan.json").read_text())["training"]


def without_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("something trained")

    monkeypatch.setattr(Population, "fit", refuse)


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory, _checks_of_a_room: Any) -> Path:
    """The folder of a study whose loss was chosen."""
    folder = tmp_path_factory.mktemp("decisions") / "chosen"
    with pytest.MonkeyPatch.context() as patch:
        assert begun(patch, folder)["loss"] == "gaussian_nll"
    return folder


@pytest.fixture(scope="module")
def given(chosen: Path) -> Path:
    """The folder of one whose loss was given."""
    folder = chosen.parent / "given"
    with pytest.MonkeyPatch.context() as patch:
        begun(patch, folder, loss="squared_error")
    return folder


def test_a_loss_that_a_killed_run_chose_holds_for_its_own_study_alone(monkeypatch, chosen, tmp_path):
    left = json.loads((killed(monkeypatch, tmp_path / "a") / "loss.json").read_text())
    assert left == json.loads((chosen / "loss.json").read_text())
    wrong = left | {"loss": "squared_error", "nll": {"squared_error": 1.0, "gaussian_nll": 2.0}}
    (tmp_path / "a" / "loss.json").write_text(json.dumps(wrong))
    assert "loss" not in begun(monkeypatch, tmp_path / "a")  # the same study goes by what its folder has
    without_plan = {key: wrong[key] for key in ("loss", "nll")}  # as an older version wrote it
    for name, held, options in (
        ("data", wrong, {"data": rows(1)}),
        ("space", wrong, {"space": {"lr": [0.02]}}),
        ("seed", wrong, {"seed": 1}),
        ("version", without_plan, {}),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "loss.json").write_text(json.dumps(held))
        killed(monkeypatch, tmp_path / name, **options)
        found = json.loads((tmp_path / name / "loss.json").read_text())
        assert found["nll"]["squared_error"] != 1.0, name
        assert (found == left) == (name == "version")
    shutil.copytree(chosen, tmp_path / "begun")
    (tmp_path / "begun" / "loss.json").write_text(json.dumps(without_plan | {"loss": "gaussian_nll"}))
    without_training(monkeypatch)
    assert begun(monkeypatch, tmp_path / "begun", resume=True)["loss"] == "gaussian_nll"


def test_resuming_with_a_loss_that_is_chosen_leaves_the_folder_of_another_study_as_it_is(monkeypatch, chosen, given):
    without_training(monkeypatch)
    for folder, options, message in (
        (given, {}, r"loss \(squared_error there, auto here\)"),
        (given, {"data": rows(1)}, r"the data 'arrays' has changed"),
        (chosen, {"data": rows(1)}, r"the data 'arrays' has changed"),
        (chosen, {"seed": 1}, r"seed \(0 there, 1 here\)"),
    ):
        before = files(folder)
        with pytest.raises(InputError, match=message):
            tune(folder, resume=True, **options)
        assert files(folder) == before


def test_a_study_resumes_with_the_name_of_its_loss(monkeypatch, chosen, given):
    without_training(monkeypatch)
    begun(monkeypatch, chosen, resume=True, loss="gaussian_nll")
    begun(monkeypatch, given, resume=True, loss=None)  # the usual one, by name or without
    for loss in ("squared_error", None):
        with pytest.raises(InputError, match=r"loss \(gaussian_nll there, squared_error here\)"):
            tune(chosen, resume=True, loss=loss)
    with pytest.raises(InputError, match=r"loss \(squared_error there, pinball here\)"):
        tune(given, resume=True, loss="pinball")


def test_sizes_that_a_killed_run_found_for_a_budget_hold_for_its_own_study_alone(monkeypatch, tmp_path):
    monkeypatch.setattr("dampen.study._budget.seconds_per_member_epoch", lambda *_: 0.1)
    words: dict[str, Any] = {"loss": None, "n_settings": None, "budget": 60.0, "epochs": 2}
    folder = killed(monkeypatch, tmp_path / "a", **words)
    left = json.loads((folder / "budget.json").read_text())
    killed(monkeypatch, folder, **words)
    assert json.loads((folder / "budget.json").read_text()) == left
    for change in ({"budget": 600.0}, {"data": rows(1)}, {"epochs": 3}):
        killed(monkeypatch, folder, **words | change)
        now = json.loads((folder / "budget.json").read_text())
        assert now["plan"] != left["plan"]
        if "data" not in change:
            assert now["settings"] != left["settings"]
        killed(monkeypatch, folder, **words)


@pytest.mark.parametrize(("cocktail", "seeds", "least"), [(False, 3, 8), (True, 1, 64)])
def test_a_budget_is_planned_by_what_the_searched_knobs_take(monkeypatch, tmp_path, cocktail, seeds, least):
    asked: list[Any] = []

    def rate(model: Any, data: Any, training: Any, space: Any, epochs: int) -> float:
        asked.append((set(space.dimensions), epochs))
        return 0.01

    monkeypatch.setattr("dampen.study._budget.seconds_per_member_epoch", rate)
    words: dict[str, Any] = {"loss": None, "n_settings": None, "n_seeds": None, "epochs": 4, "cocktail": cocktail}
    held = json.loads((killed(monkeypatch, tmp_path / "a", budget=60.0, **words) / "budget.json").read_text())
    assert held["seeds"] == seeds
    assert held["settings"] >= least
    ((knobs, epochs),) = asked
    assert epochs == 4
    assert {"lr", "weight_decay"} <= knobs
    assert ("mixup" in knobs) == cocktail


def confirming(lengths: Lengths, longest: int, regularisers: int, families: int = 3, calibrating: int = 0) -> int:
    """Epochs of a seed: the recommended one, twice, without each, without all; the references never train longest."""
    return (full_trainings(3, regularisers) + calibrating) * longest + 2 * families * lengths.planned


def test_a_budget_keeps_time_for_every_part_and_steps_down_by_tenths():
    wanted = Wanted(None, 1, Lengths(5, 10, 40, 80), fixed=False, confirmed=3)

    def searched(settings: int, seeds: int, lengths: Lengths) -> float:
        return settings * seeds * lengths.planned

    def planned(regularisers: int, budget: float = 4000.0) -> int:
        settings, seeds, lengths = fit_search(budget, 1.0, replace(wanted, regularisers=regularisers), searched)
        assert lengths.longest == lengths.planned
        assert searched(settings, seeds, lengths) <= budget / 2
        confirmed = 3 * confirming(lengths, lengths.planned, regularisers)
        assert confirmed <= 0.47 * budget < 1.25 * confirmed or lengths.planned == 40
        return lengths.planned

    with pytest.raises(InputError, match=r"a budget of 3 s is too short: the smallest study takes \d+ s"):
        fit_search(1.2, 1.0, wanted, searched, given=3.0)  # 1.8 s are spent
    assert [full_trainings(3, n) for n in (0, 1, 2, 3, 5)] == [5, 6, 8, 10, 14]
    assert [planned(n) for n in (2, 3, 5, 9)] == [40, 36, 28, 22]
    calibrating = replace(wanted, calibrating=10)  # ensembles that folds are left out by take their part
    assert fit_search(4000.0, 1.0, calibrating, searched)[2].planned == 25
    assert fit_search(4000.0, 1.0, replace(wanted, tempered=2), searched)[2].planned == 36


def test_the_smallest_budget_that_is_named_is_enough():
    wanted = Wanted(None, 1, Lengths(1, 1, 1, 1), fixed=False, confirmed=3)
    for rate in (0.01, 0.1, 1.0, 10.0):
        with pytest.raises(InputError) as refusal:
            fit_search(0.1, rate, wanted, lambda n, seeds, lengths: n * seeds)
        named = re.search(r"takes (\d+) s", str(refusal.value))
        assert named is not None
        fit_search(float(named[1]), rate, wanted, lambda n, seeds, lengths: n * seeds)


def test_a_budget_keeps_time_for_the_seeds_and_the_knobs_that_are_asked_for(monkeypatch, tmp_path):
    asked: list[Wanted] = []

    def fitted(left: Any, rate: Any, wanted: Wanted, *_: Any) -> Any:
        asked.append(wanted)
        return 8, 1, Lengths(1, 1, 1, 1)

    monkeypatch.setattr("dampen.study._budget.seconds_per_member_epoch", lambda *_: 0.01)
    monkeypatch.setattr("dampen.study._budget.fit_search", fitted)
    how: dict[str, Any] = {"loss": None, "n_settings": None, "n_seeds": None, "epochs": 1, "budget": 60.0}
    killed(monkeypatch, tmp_path / "a", **how, n_confirm_seeds=None)
    space = {name: [0.1] for name in ("weight_decay", "l1", "input_noise", "dropconnect", "mixup")}
    killed(monkeypatch, tmp_path / "b", **how, n_confirm_seeds=50, space={"lr": [0.01], **space})
    assert [(wanted.confirm_seeds, wanted.regularisers) for wanted in asked] == [(3, 2), (50, 5)]


def test_a_budget_that_trains_longer_plans_for_it_and_leaves_room_beyond():
    wanted = Wanted(None, 1, Lengths(5, 10, 40, 80), fixed=False, confirmed=1, families=2, doublings=3)

    def searched(settings: int, seeds: int, lengths: Lengths) -> float:
        return settings * seeds * lengths.planned + member_epochs_beyond(lengths, 16, 4)

    settings, _, lengths = fit_search(7000.0, 1.0, wanted, searched)
    longest = 8 * lengths.planned
    assert settings == 8  # the least: time goes into length
    assert (lengths.planned, foreseen(lengths).longest, lengths.longest) == (19, longest, 4 * longest)
    confirmed = 3 * (full_trainings(1, 2) * longest + 4 * lengths.planned)
    assert 0.9 * 0.97 * 7000 < searched(8, 1, foreseen(lengths)) + confirmed <= 0.97 * 7000
    more, _, lengths = fit_search(60_000.0, 1.0, wanted, searched)  # enough for the longest: then for more settings
    assert (more, lengths.planned) == (562, 40)
    assert searched(more, 1, foreseen(lengths)) <= 30_000
    fixed = replace(wanted, lengths=Lengths(1, 5, 5, 5), fixed=True)
    assert fit_search(7000.0, 1.0, fixed, searched)[2] == Lengths(1, 5, 5, 5)
    shorter = fit_search(300.0, 1.0, wanted, searched)[2]  # not even trainings of one epoch can be doubled thrice
    assert (shorter.planned, foreseen(shorter).longest) == (1, 4)


def test_a_cocktail_of_a_large_file_needs_the_time_of_one_confirmed_setting(monkeypatch):
    monkeypatch.setattr("dampen.study._budget.seconds_per_member_epoch", lambda *_: 1.0)
    given: Any = {"model": dampen.mlp(8), "part": rows(), "times": 10.0, "confirmed": None, "batch_size": 64}
    # two epochs of each would take longer; 3 % are kept of the half that confirms
    least = {n: 3 * (full_trainings(n, 2) + 6) * 10 / 0.47 for n in (1, 3)}
    check_budget(least[1] / 2 + 1, cocktail=True, **given)
    with pytest.raises(InputError, match="is too short"):
        check_budget(least[1] / 2 - 1, cocktail=True, **given)
    check_budget(least[3] / 2 + 1, **given)
    with pytest.raises(InputError, match="is too short"):
        check_budget(least[3] / 2 - 1, **given)


def test_what_a_search_trains_beyond_its_brackets():
    assert member_epochs_beyond(Lengths(5, 10, 40, 40), 3, 1) == 3 * 40
    assert member_epochs_beyond(Lengths(5, 10, 40, 40), 16, 4) == (4 * 16 + 6) * 40
    assert member_epochs_beyond(Lengths(5, 10, 10, 80), 16, 4) == 16 * (10 + 20 + 40) + 6 * 80 + 2 * (20 + 40 + 80)


def test_the_measured_training_has_the_knobs_that_are_searched(monkeypatch):
    turned: list[set[str]] = []
    fit = Population.fit

    def noted(self: Population, *args: Any, **options: Any) -> Any:
        turned.append(set().union(*self.settings))
        return fit(self, *args, **options)

    monkeypatch.setattr(Population, "fit", noted)
    training = dampen.TrainConfig(epochs=1, batch_size=64, loss="squared_error")
    space = Space({"l1": [0.0, 1e-3], "dropconnect": [0.1]})
    assert seconds_per_member_epoch(dampen.mlp(8), rows(), training, space, 4) > 0
    assert turned == [{"l1", "dropconnect"}] * 2


def test_sizes_that_are_given_are_not_replaced_by_those_of_a_folder(monkeypatch, given):
    without_training(monkeypatch)
    plan = json.loads((given / "plan.json").read_text())
    held = {"settings": 2, "seeds": 2, "lengths": plan["lengths"], "confirm_seeds": 2}
    budget = {"loss": "squared_error", "resume": True, "budget": 60.0}
    (given / "plan.json").write_text(json.dumps(plan | {"budget": 60.0}))
    (given / "budget.json").write_text(json.dumps(held))
    try:
        with pytest.raises(InputError, match=r"settings \(2 there, 1 here\)"):
            tune(given, n_settings=1, **budget)
        with pytest.raises(InputError, match=r"seeds \(2 there, 3 here\)"):
            tune(given, n_seeds=3, **budget)
    finally:
        (given / "plan.json").write_text(json.dumps(plan))
        (given / "budget.json").unlink()


@pytest.mark.parametrize("n_seeds", [1, 12])
def test_the_confirmation_s_folds_of_groups_are_none_of_the_search_s(n_seeds):
    rng = np.random.default_rng(0)
    data = dampen.from_arrays(rng.normal(size=(120, 3)), rng.normal(size=120), groups=np.arange(120) // 3)
    plan: Any = SimpleNamespace(data=data, scheme="folds", seed=7, seeds=range(n_seeds))
    of = [
        [tuple(rows.validation_rows.tolist()) for rows in split(plan, seeds, again).of_seeds or []]
        for seeds, again in ((plan.seeds, False), (range(10), True))
    ]
    assert [len(set(folds)) for folds in of] == [n_seeds, 10]
    assert not set(of[0]) & set(of[1])
