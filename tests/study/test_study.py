"""A study: what it returns, what its folder holds, and that death does it no harm."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss, mean_absolute_error, mean_squared_error, r2_score

import dampen
from dampen import InputError, LogUniform, Setting, Uniform, compare, tune
from dampen.metrics import find
from dampen.search import Bracket, Rung, rungs
from dampen.study import _defaults
from dampen.study._phases import split

pytestmark = pytest.mark.usefixtures("without_shape_checks")  # those of simple models and edges tests check them

SMALL = {"n_settings": 6, "n_seeds": 2, "epochs": 4, "confirmed": 2, "n_confirm_seeds": 3}
MINI = {"n_settings": 2, "n_seeds": 1, "epochs": 2, "confirmed": 1, "n_confirm_seeds": 2}
SPACE = {"weight_decay": LogUniform(1e-3, 1.0, zero=0.1), "dropout": Uniform(0.0, 0.5)}
PROGRAM = """
import sys, dampen
log = open("log", "a", buffering=1)
tell = lambda at: print(("search", "confirmation", "test").index(at.phase), at.epochs, file=log)
small = {"n_settings": 6, "n_seeds": 2, "epochs": 8, "confirmed": 2, "n_confirm_seeds": 2, "out": "study"}
resume = len(sys.argv) > 1
dampen.tune(dampen.mlp(16, dropout=0.2), dampen.load("wine"), resume=resume, callback=tell, **small)
"""


BUDGET = """
import time, dampen
from dampen import LogUniform, Setting, Uniform
network, wine = dampen.mlp(8, dropout=0.2), dampen.load("wine")
dampen.compare(network, wine, [Setting(), Setting(weight_decay=0.1)], n_seeds=2, epochs=1)  # imports what is needed
space = {"weight_decay": LogUniform(1e-3, 1.0, zero=0.1), "dropout": Uniform(0.0, 0.5)}
started = time.process_time()
dampen.tune(network, wine, space, budget=6.0, out="study")
print(time.process_time() - started)
"""


def network():
    return dampen.mlp(8, dropout=0.2)


def without_time(document):
    return {name: value for name, value in document.items() if name not in ("seconds", "folder")}


@pytest.fixture(scope="module")
def wine():
    return dampen.load("wine")


@pytest.fixture(scope="module")
def study(wine, tmp_path_factory):
    return tune(network(), wine, SPACE, out=tmp_path_factory.mktemp("runs") / "wine", **SMALL)


def test_halving_keeps_a_half_and_trains_it_twice_as_long():
    assert rungs(8, 64, 3, 2, True) == (Rung(1, 32), Rung(2, 16), Rung(4, 8), Rung(8, 3))
    assert rungs(40, 64, 3, 2, True, first=10) == (Rung(10, 32), Rung(20, 16), Rung(40, 3))
    assert rungs(64, 4, 3, 2, True) == (Rung(16, 3), Rung(32, 3), Rung(64, 3))  # no more rungs than settings halve
    assert rungs(10, 64, 3, 3, True) == (Rung(1, 22), Rung(3, 8), Rung(10, 3))
    assert rungs(8, 64, 3, 2, False) == (Rung(8, 3),)
    assert rungs(1, 64, 3, 2, True) == (Rung(1, 3),)


def test_a_strategy_says_how_many_settings_survive_and_for_how_long_they_train(wine):
    words = MINI | {"n_settings": 9, "epochs": 9, "search": dampen.SuccessiveHalving(eta=3)}
    found = tune(dampen.linear(), wine, {"weight_decay": Uniform(0.0, 0.1), "lr": [0.01]}, **words)
    searched = [(rung.epochs, len(rung.settings)) for rung in found.ranked if rung.family == "search"]
    assert searched[:3] == [(1, 9), (3, 3), (9, 1)]
    assert found.document()["plan"]["search"] == "sobol"


def test_every_rung_trains_anew_for_its_own_length():
    bracket = Bracket(64, rungs(8, 64, 3, 2, True), ())
    assert bracket.member_epochs(5) == 5 * (64 * 1 + 32 * 2 + 16 * 4 + 8 * 8)


def test_what_a_search_trains_is_what_its_rungs_add_up_to(study):
    assert [(rung.run, rung.family, rung.epochs, len(rung.settings)) for rung in study.ranked] == [
        ("search-1-1", "search", 1, 6),
        ("search-1-1", "none", 1, 1),
        ("search-1-1", "default", 1, 1),
        ("search-1-1", "tabular-default", 1, 1),
        ("search-1-2", "search", 2, 3),
        ("search-1-2", "none", 2, 1),
        ("search-1-2", "default", 2, 1),
        ("search-1-2", "tabular-default", 2, 1),
        ("search-1-3", "search", 4, 2),
        ("search-1-3", "none", 4, 1),
        ("search-1-3", "default", 4, 1),
        ("search-1-3", "tabular-default", 4, 1),
    ]
    frame = study.frame()
    last = frame.groupby(["run", "setting", "seed"])["epoch"].max()
    assert study.member_epochs == last.sum()
    assert (last.groupby("run").max() <= frame.groupby("run")["length"].first()).all()


def test_lengths_double_while_longer_trainings_are_better(wine, monkeypatch):
    monkeypatch.setattr(_defaults, "usual_lengths", lambda *_: _defaults.Lengths(1, 2, 4, 16))
    options = MINI | {"epochs": None, "lr": 3e-3, "n_confirm_seeds": 5}  # it learns slowly
    found = tune(dampen.linear(), wine, {"weight_decay": [0.0, 0.1]}, search="grid", **options)
    assert [rung.epochs for rung in found.ranked if rung.family == "search"] == [2, 4, 8, 16]
    assert found.verdict.length.epochs == found.recommended.epochs == 16
    assert {other.training.epochs for other in found.verdict.references.values() if other.training} == {16}
    assert found.verdict.length.interval[0] > 0
    assert found.verdict.diagnosis.underfits
    assert any("With 32 epochs it would be better still" in sentence for sentence in found.sentences())
    assert found.document()["trained"]["epochs"] == 32
    gain = found.verdict.length.doubled
    nearly = replace(found.verdict.length, standard_error=gain / 1.5, interval=(-0.3 * gain, 2.3 * gain))
    sentences = replace(found.verdict, length=nearly).sentences()
    assert any("32 epochs it may be better still" in s and "not significant" in s for s in sentences)


def test_lengths_stay_where_longer_trainings_are_worse(monkeypatch):
    monkeypatch.setattr(_defaults, "usual_lengths", lambda *_: _defaults.Lengths(1, 2, 4, 64))
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(80, 20, generator=generator), torch.randn(80, generator=generator)  # nothing to learn
    data = dampen.from_arrays(x.numpy(), y.numpy())
    options = MINI | {"epochs": None}
    found = tune(dampen.mlp(8), data, {"weight_decay": [0.0, 0.01]}, search="grid", lr=0.02, **options)
    assert max(rung.epochs for rung in found.ranked) == 4
    costs = {rung.epochs: min(rung.costs) for rung in found.ranked if rung.family == "search"}
    assert costs[4] > costs[2]
    assert found.verdict.length.epochs == 2


def test_the_confirmation_uses_seeds_and_folds_that_the_search_did_not(study):
    frame = study.frame()
    seeds = frame.groupby("phase")["seed"].unique().map(set)
    assert not seeds["search"] & seeds["confirmation"]
    assert not seeds["confirmation"] & seeds["test"]
    assert set(frame["length"]) <= {1, 2, 4}
    assert (frame["epoch"] <= frame["length"]).all()


def test_the_test_metrics_are_scikit_learns(study, wine):
    outputs = torch.stack([model(wine.test.features) for model in study.ensemble()])
    mean = outputs.softmax(-1).mean(0).detach().numpy()
    truth = wine.test.targets.numpy()
    told = study.test["ensemble"]
    assert told["nll"]["mean"] == pytest.approx(log_loss(truth, mean), rel=1e-4)
    assert told["accuracy"]["mean"] == pytest.approx(accuracy_score(truth, mean.argmax(1)))
    each = [accuracy_score(truth, o.argmax(-1)) for o in outputs]
    assert study.test["recommended"]["accuracy"]["mean"] == pytest.approx(np.mean(each))


def test_regression_is_told_in_the_target_s_own_units(tmp_path):
    data = dampen.load("diabetes")
    found = tune(dampen.mlp(8), data, metric="rmse", **MINI)
    mean, deviation = found.plan.target_scale
    outputs = [m(data.test.features).squeeze(-1).detach() * deviation + mean for m in found.ensemble()]
    truth = data.test.targets.numpy()
    told = {name: value["mean"] for name, value in found.test["recommended"].items()}
    assert told["mse"] == pytest.approx(np.mean([mean_squared_error(truth, o) for o in outputs]), rel=1e-4)
    assert told["rmse"] == pytest.approx(told["mse"] ** 0.5)
    assert told["mae"] == pytest.approx(np.mean([mean_absolute_error(truth, o) for o in outputs]), rel=1e-4)
    assert told["r2"] == pytest.approx(np.mean([r2_score(truth, o) for o in outputs]), rel=1e-4)
    none = found.verdict.references["none"]
    assert none.difference == pytest.approx(found.verdict.value - none.value)
    assert found.verdict.value > 20


def test_the_noise_of_regression_is_that_of_other_rows():
    generator = torch.Generator().manual_seed(0)
    targets = torch.randn(4000, generator=generator, dtype=torch.float64)
    outputs = targets[:, None] + 0.3 * torch.randn(4000, 1, generator=generator, dtype=torch.float64)
    expected = torch.distributions.Normal(0.0, 0.3).entropy().item()
    assert find("nll", "regression").cost(outputs, targets).mean().item() == pytest.approx(expected, abs=0.02)


def test_a_finished_study_is_read_and_not_trained_again(study, wine, monkeypatch):
    def never(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr(dampen.Population, "fit", never)
    again = tune(network(), wine, SPACE, out=study.folder, resume=True, **SMALL)
    assert again.document() == study.document()
    pd.testing.assert_frame_equal(again.frame(), study.frame())
    assert all(torch.equal(a, b) for a, b in zip(again.model().parameters(), study.model().parameters(), strict=True))


@pytest.fixture(scope="module")
def in_memory(wine):
    seen = []
    return tune(network(), wine, SPACE, callback=seen.append, **SMALL), seen


def test_a_study_in_memory_is_the_same(study, in_memory):
    assert without_time(in_memory[0].document()) == without_time(study.document())


def test_the_folder_holds_what_a_stranger_needs(study):
    from safetensors import safe_open

    document = json.loads((study.folder / "study.json").read_text())
    assert document == study.document()
    assert document["plan"]["versions"]["torch"] == torch.__version__
    assert document["plan"]["data"]["fingerprint"]
    curves = pd.read_parquet(study.folder / "curves.parquet")
    assert {"phase", "epoch", "seed", "weight_decay", "dropout", "train_loss", "validation_loss"} <= set(curves)
    with safe_open(study.folder / "model.safetensors", "pt") as file:
        about, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert json.loads(about["setting"]) == document["recommended"]
    assert all(torch.equal(tensors[name], t) for name, t in study.model().state_dict().items())
    assert not list(study.folder.rglob(".*"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, "holds a study already"),
        ({"resume": True, "seed": 1}, r"holds another study: .*seed \(0 there, 1 here\)"),
        ({"resume": True, "metric": "accuracy"}, r"metric \(nll there, accuracy here\)"),
        ({"resume": True, "data": "iris"}, "is of the data 'wine'.*, this one of 'iris'"),
        ({"resume": True, "out": None}, "needs the folder"),
    ],
)
def test_a_folder_of_another_study_is_refused(study, wine, change, message):
    before = {file: file.read_bytes() for file in study.folder.rglob("*") if file.is_file()}
    options = SMALL | {"out": study.folder} | change
    data = dampen.load(options.pop("data")) if "data" in options else wine
    with pytest.raises(InputError, match=message):
        tune(network(), data, SPACE, **options)
    assert {file: file.read_bytes() for file in study.folder.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_settings": 0}, "n_settings must be a whole number, 1 or larger"),
        ({"n_seeds": 0}, "n_seeds must be a whole number, 1 or larger"),
        ({"n_confirm_seeds": 1}, "n_confirm_seeds must be a whole number, 2 or larger"),
        ({"seed": -1}, "seed must be a whole number, 0 or larger"),
        ({"epochs": 0}, "epochs"),
        ({"metric": "mse"}, "must be one of nll, accuracy, brier, mc-nll, calibrated-nll for classification"),
        ({"search": "simplex"}, "must be one of"),
        ({"validation": "loo"}, "folds or held-out"),
        ({"margin": -0.1}, "margin must be a share of the loss from 0 to below 1, got -0.1"),
        ({"margin": 1.0}, "margin must be a share"),
        ({"margin": float("nan")}, "margin must be a share"),
        ({"budget": -1.0}, "seconds above 0"),
        ({"budget": 0.1}, "too short"),
        ({"precision": "float8"}, "precision"),
        ({"space": {"dropout": Uniform(0.0, 1.5)}}, "dropout"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_written(wine, tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        tune(network(), wine, options.pop("space", SPACE), out=tmp_path / "s", **SMALL | options)
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("budget", [None, 5.0])
def test_a_folder_that_is_no_study_is_refused(wine, tmp_path, budget):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="is not empty and holds no study"):
        tune(network(), wine, SPACE, out=tmp_path, budget=budget, **SMALL)
    assert [file.name for file in tmp_path.iterdir()] == ["letter.txt"]


@pytest.mark.parametrize("resume", [True, False])
@pytest.mark.parametrize(("file", "what"), [("study.json", "a finished study"), ("search.json", "a part of a study")])
def test_a_study_without_its_plan_is_called_so(wine, tmp_path, file, what, resume):
    (tmp_path / file).write_text("{}")
    with pytest.raises(
        InputError, match=rf"holds {what} whose plan.json is missing: it can't be resumed.* choose another"
    ):
        tune(network(), wine, SPACE, out=tmp_path, resume=resume, **SMALL)
    assert [file.name for file in tmp_path.iterdir()] == [file]


def test_a_network_that_drops_nothing_is_not_asked_for_dropout(wine):
    with pytest.raises(InputError, match="drops no units"):
        tune(dampen.linear(), wine, SPACE, **MINI)
    found = tune(dampen.linear(), wine, **MINI)
    assert set(found.verdict.recommended) <= {"weight_decay", "lr", "dropout"}
    assert "tabular-default" not in found.verdict.references


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("grid", "random", "hyperband")]


@pytest.mark.parametrize("search", [*SLOW, "tpe"])
def test_every_search_reaches_a_verdict_and_repeats(wine, search):
    space = {"weight_decay": LogUniform(1e-3, 1.0), "lr": LogUniform(1e-3, 1e-2)}
    first, second = (
        tune(dampen.linear(), wine, space, search=search, **MINI | {"n_settings": 4}).document() for _ in range(2)
    )
    assert without_time(first) == without_time(second)
    assert first["trained"]["settings"] == 4


def test_rates_of_each_layer_are_searched(wine):
    found = tune(dampen.mlp(8, 8, dropout=0.1), wine, per_layer=True, **MINI)
    curves = found.frame()
    assert curves["dropout"].map(str).str.startswith("(").any()
    assert {len(s["dropout"]) for rung in found.ranked if rung.family == "search" for s in rung.settings} == {2}


def test_folds_are_equally_long_and_do_not_overlap(study):
    rows = split(study.plan, tuple(range(10)), again=True)
    assert len({(len(f.train_rows), len(f.validation_rows)) for f in rows.sets}) == 1
    for repeat in (rows.sets[:5], rows.sets[5:]):
        judged = torch.cat([f.validation_rows for f in repeat])
        assert len(judged.unique()) == len(judged) > 0.95 * len(study.plan.data.train_rows)
        assert all(not set(f.validation_rows.tolist()) & set(f.train_rows.tolist()) for f in repeat)


def test_held_out_rows_rank_and_judge_apart(wine):
    found = tune(network(), wine, SPACE, validation="held-out", **MINI)
    assert "took no part in the choice" in str(found.verdict)


def test_a_setting_that_diverges_is_last_and_does_no_harm(wine):
    found = tune(
        network(), wine, {"weight_decay": [0.0, 0.1, 1e30], "lr": 1.0}, search="grid", **MINI | {"n_settings": 3}
    )
    last = found.ranked[0].settings[-1]
    assert last["weight_decay"] == 1e30
    assert np.isinf(found.ranked[0].costs[-1])
    json.dumps(found.document(), allow_nan=False)


def test_compare_names_the_best_and_says_whether_that_is_settled(wine):
    settings = {"none": Setting(dropout=0.0), "much": Setting(dropout=0.9), "some": Setting(dropout=0.1)}
    found = compare(network(), wine, settings, n_seeds=3, epochs=20)
    assert found.verdict.recommended in (settings["none"], settings["some"])
    assert found.verdict.references["much"].settled
    assert found.ranked == ()
    assert found.recommended.epochs == 20
    unnamed = compare(network(), wine, list(settings.values()), n_seeds=2, epochs=2)
    assert set(unnamed.verdict.references) == {"dropout 0", "dropout 0.9", "dropout 0.1"}
    with pytest.raises(InputError, match="at least 2 different settings"):
        compare(network(), wine, [Setting(dropout=0.1)] * 2)
    for name in ("linear", "off", "default"):  # which a verdict calls a linear model, and so on
        with pytest.raises(InputError, match=f"a setting's name must be a text, but none of .*; got '{name}'"):
            compare(network(), wine, {name: Setting(), "some": settings["some"]})
    with pytest.raises(InputError, match=r"called 'none' must have no regularisation, got dropout 0\.5"):
        compare(network(), wine, {"none": Setting(dropout=0.5), "some": settings["some"]})
    alike = [Setting(weight_decay=0.01234), Setting(weight_decay=0.01235)]
    found = compare(network(), wine, alike, n_seeds=2, epochs=1)
    assert set(found.verdict.references) == {"weight decay 0.01234", "weight decay 0.01235"}
    with pytest.raises(InputError, match="no search to export"):
        found.export_to_optuna("sqlite://")


def test_progress_tells_phases_and_what_is_left(in_memory):
    _, seen = in_memory
    assert list(dict.fromkeys(at.phase for at in seen)) == ["search", "confirmation", "test"]
    assert [at.share for at in seen] == sorted(at.share for at in seen)
    assert seen[-1].share > 0.9
    assert all(at.left is None or at.left >= 0 for at in seen)
    assert seen[-1].best is not None


def test_a_budget_is_kept_and_remembered(wine, tmp_path, whole_simple_models):
    """In a process of its own: the tests' checks of types take time that no study has.

    On one thread, so that its processor time is at most the time that passes, which the budget is about.
    """
    one = os.environ | {"OMP_NUM_THREADS": "1"}
    call = [sys.executable, "-c", BUDGET]
    done = subprocess.run(call, cwd=tmp_path, env=one, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 6 * 1.15  # of the processor: what other programs take is not the study's
    again = tune(network(), wine, SPACE, budget=6.0, out=tmp_path / "study", resume=True)
    document = json.loads((tmp_path / "study" / "study.json").read_text())
    assert without_time(again.document()) == without_time(document)
    assert len(again.plan.confirm_seeds) >= 3
    assert again.plan.settings >= 8


@pytest.mark.slow
def test_a_study_goes_on_from_wherever_it_died(tmp_path, monkeypatch):
    """Every training dies once, right at its first epoch: of rungs, of doubled lengths, around the best, and so on."""
    monkeypatch.setattr(_defaults, "usual_lengths", lambda *_: _defaults.Lengths(2, 4, 4, 16))
    generator = torch.Generator().manual_seed(1)
    x, noise = torch.randn(60, 25, generator=generator), torch.randn(60, generator=generator)
    data = dampen.from_arrays(x.numpy(), (x[:, 0] + x[:, 1] + 3 * noise).numpy(), test_fraction=1 / 6)
    seen, found = set(), None

    def make(inputs, outputs):
        return torch.nn.Linear(inputs, outputs)

    def die(at):
        if (now := (at.phase, at.epochs, at.members)) not in seen:
            seen.add(now)
            raise KeyboardInterrupt

    def run(folder, **options):
        words = MINI | {"n_settings": 16, "epochs": None, "out": folder} | options
        return tune(make, data, {"weight_decay": [0.0, 0.1], "lr": LogUniform(1e-3, 0.3)}, **words)

    while found is None:
        with contextlib.suppress(KeyboardInterrupt):
            found = run(tmp_path / "died", resume=(tmp_path / "died" / "plan.json").exists(), callback=die)
    assert {phase for phase, *_ in seen} == {"search", "confirmation", "test"}
    assert {"search-longer-1", "search-around"} <= {rung.run for rung in found.ranked}
    assert without_time(found.document()) == without_time(run(tmp_path / "whole").document())
    assert [vars(rung) for rung in found.ranked] == [vars(rung) for rung in run(tmp_path / "whole", resume=True).ranked]
    names = [{file.relative_to(tmp_path / of) for file in (tmp_path / of).rglob("*")} for of in ("died", "whole")]
    assert names[0] == names[1]


def killed(folder, moments):
    """Run a study that is killed after each of these numbers of steps, resume it, and return what it found."""
    log = folder / "log"
    log.touch()
    for steps in [*moments, None]:
        again, before = ["again"] * (folder / "study" / "plan.json").exists(), log.stat().st_size
        process = subprocess.Popen([sys.executable, "-c", PROGRAM, *again], cwd=folder)
        while steps is not None and process.poll() is None and log.stat().st_size < before + 4 * steps:
            time.sleep(0.003)  # a line of the log has four characters
        if steps is not None:
            process.kill()
        assert process.wait() in (0, -signal.SIGKILL) if steps is not None else process.wait() == 0
    return without_time(json.loads((folder / "study" / "study.json").read_text()))


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 20])
def test_kill_9_at_random_moments_changes_nothing(tmp_path, n):
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    expected = killed(tmp_path / "whole", [])
    draw = random.Random(0)
    assert killed(tmp_path / "killed", [draw.randint(1, 15) for _ in range(n)]) == expected
    assert not list((tmp_path / "killed").rglob(".*"))
    rows = [tmp_path / run / "study" / "calibration.safetensors" for run in ("whole", "killed")]
    assert rows[0].read_bytes() == rows[1].read_bytes()
    names = [{file.relative_to(tmp_path / run) for file in (tmp_path / run).rglob("*")} for run in ("whole", "killed")]
    assert names[0] == names[1]
    stages = [tuple(map(int, line.split())) for line in (tmp_path / "killed" / "log").read_text().splitlines()]
    assert stages == sorted(stages)  # what had ended, and so been kept, was not trained again


def test_the_sampled_metric_ranks_and_judges_by_the_mean_under_dropout(wine):
    settings = [Setting(dropout=0.2), Setting(dropout=0.6)]
    found = compare(network(), wine, settings, n_seeds=2, epochs=3, metric="mc-nll")
    assert set(found.test["recommended"]) == {"mc-nll", "nll", "accuracy", "brier"}
    truth = wine.test.targets.numpy()
    each = [
        log_loss(truth, dampen.mc_dropout(model, wine.test, 20, seed).probabilities)
        for model, seed in zip(found.ensemble(), (2_000_000, 2_000_001), strict=True)
    ]
    assert found.test["recommended"]["mc-nll"]["mean"] == pytest.approx(np.mean(each), rel=1e-4)
    assert found.test["recommended"]["mc-nll"] != found.test["recommended"]["nll"]
    with pytest.raises(InputError, match="must be one of mse"):
        compare(network(), dampen.load("diabetes"), settings, n_seeds=2, metric="mc-nll")
