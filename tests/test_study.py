"""A study: what it returns, what its folder holds, and that death does it no harm."""

import json
import random
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss, mean_absolute_error, mean_squared_error, r2_score

import dampen
from dampen import InputError, LogUniform, Setting, Uniform, compare, tune
from dampen.study._metrics import find
from dampen.study._plan import Bracket, Rung, first_share, rungs, split

SMALL = {"settings": 6, "seeds": 2, "epochs": 4, "confirmed": 2, "confirm_seeds": 5}
SPACE = {"weight_decay": LogUniform(1e-3, 1.0, zero=0.1), "dropout": Uniform(0.0, 0.5)}
PROGRAM = """
import sys, dampen
log = open("log", "a", buffering=1)
tell = lambda at: print(("search", "confirmation", "test").index(at.phase), at.epochs, file=log)
small = {"settings": 6, "seeds": 2, "epochs": 9, "confirmed": 2, "confirm_seeds": 5, "out": "study"}
resume = len(sys.argv) > 1
dampen.tune(dampen.mlp(16, dropout=0.2), dampen.load("wine"), resume=resume, callback=tell, **small)
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


def test_halving_keeps_a_third_and_ends_at_full_length():
    assert rungs(10, 64, 3, 3, True) == (Rung(1, 22), Rung(3, 8), Rung(10, 3))
    assert rungs(30, 64, 3, 3, True) == (Rung(1, 22), Rung(3, 8), Rung(10, 3), Rung(30, 3))
    assert rungs(10, 64, 3, 3, False) == (Rung(10, 3),)
    assert rungs(1, 64, 3, 3, True) == (Rung(1, 3),)
    assert rungs(9, 2, 3, 3, True) == (Rung(9, 3),)


def test_where_epochs_are_long_the_first_one_is_short():
    assert first_share(375.0, 10, 3) == 1 / 3
    assert first_share(299.0, 10, 3) == 1.0
    assert first_share(375.0, 1, 3) == 1.0
    assert rungs(10, 64, 3, 3, True, 1 / 3) == (Rung(1, 22), Rung(2, 8), Rung(4, 3), Rung(10, 3))
    assert rungs(2, 64, 3, 3, True, 1 / 3) == (Rung(1, 22), Rung(2, 3))
    bracket = Bracket(64, rungs(10, 64, 3, 3, True, 1 / 3), (), 1 / 3)
    assert bracket.member_epochs(2) == pytest.approx(2 * (64 / 3 + 22 + 8 * 2 + 3 * 6))


def test_a_short_first_epoch_passes_over_a_part_of_the_same_rows():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1000, 3, generator=generator)
    data = dampen.from_arrays(x.numpy(), (x.sum(1) > 0).long().numpy(), test_fraction=0.1)
    seen = []
    options = SMALL | {"confirm_seeds": 2, "batch_size": 2, "validation": "held-out"}
    found = tune(network(), data, SPACE, **options, callback=lambda at: seen.append(at.share))
    assert found.plan.brackets[0].first == 1 / 3
    full = found.frame()[lambda frame: frame["phase"] != "search"].groupby(["phase", "setting"]).ngroups
    assert found.member_epochs == pytest.approx(2 * (6 * (1 / 3 + 1) + 2 * 2) + 2 * 4 * full)
    assert seen == sorted(seen)
    rows = split(found.plan, found.plan.seeds, again=False)
    first, every = set(rows.first.train_rows.tolist()), set(rows.sets.train_rows.tolist())
    assert first < every
    assert len(first) == round(len(every) / 3)


def test_a_verdict_speaks_of_every_reference_and_of_what_it_rests_on(study):
    verdict = study.verdict
    assert set(verdict.references) == {"none", "default", "tabular-default"}
    assert verdict.references["none"].setting["weight_decay"] == 0 == verdict.references["none"].setting["dropout"]
    assert verdict.references["default"].setting["weight_decay"] == 0.01
    assert verdict.references["tabular-default"].setting == Setting(weight_decay=0.02, dropout=0.15, lr=1e-3)
    for other in verdict.references.values():
        assert other.interval[0] <= other.difference <= other.interval[1]
        assert other.difference == pytest.approx(verdict.value - other.value)
        assert 0 <= other.probability_better <= 1
    text = str(verdict)
    assert "5 fresh folds" in text
    assert "may be slightly overstated" in text
    assert verdict.mildest in (verdict.recommended, *verdict.indistinguishable)


@pytest.mark.parametrize(
    ("difference", "interval", "chance", "words"),
    [
        (-0.5, (-0.6, -0.4), 1.0, "Use weight decay 0.1: regularisation helps."),
        (-0.1, (-0.4, 0.2), 0.7, "Nothing here is shown to beat no regularisation. The best guess is weight decay 0.1"),
        (0.1, (-0.2, 0.4), 0.3, "Nothing here beats no regularisation: weight decay 0.1, first on the rows that rank,"),
        (0.5, (0.4, 0.6), 0.0, "Use no regularisation (weight decay 0): it is better than all that was tried."),
    ],
)
def test_a_verdict_opens_with_what_the_interval_against_none_allows(study, difference, interval, chance, words):
    none = replace(
        study.verdict.references["none"],
        setting=Setting(weight_decay=0.0),
        difference=difference,
        interval=interval,
        probability_better=chance,
    )
    verdict = replace(study.verdict, recommended=Setting(weight_decay=0.1), references={"none": none})
    assert verdict.sentences()[0].startswith(words)


def test_the_confirmation_uses_seeds_and_folds_that_the_search_did_not(study):
    frame = study.frame()
    seeds = frame.groupby("phase")["seed"].unique().map(set)
    assert not seeds["search"] & seeds["confirmation"]
    assert not seeds["confirmation"] & seeds["test"]
    assert frame[frame["phase"] == "search"].groupby(["weight_decay", "dropout"]).ngroups == 6
    assert frame.groupby("phase")["epoch"].max().tolist() == [4, 4, 4]


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
    found = tune(dampen.mlp(8), data, metric="rmse", **SMALL)
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


def test_a_study_in_memory_is_the_same(study, wine):
    assert without_time(tune(network(), wine, SPACE, **SMALL).document()) == without_time(study.document())


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
        ({"resume": True, "seed": 1}, "holds another study, its"),
        ({"resume": True, "metric": "accuracy"}, "its metric differs"),
        ({"resume": True, "data": "iris"}, "its data differs"),
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
        ({"settings": 0}, "settings must be a whole number, 1 or larger"),
        ({"seeds": 1}, "seeds must be a whole number, 2 or larger"),
        ({"seed": -1}, "seed must be a whole number, 0 or larger"),
        ({"eta": 1}, "eta"),
        ({"epochs": 0}, "epochs"),
        ({"metric": "mse"}, "must be one of nll, accuracy, brier, mc-nll for classification"),
        ({"search": "simplex"}, "must be one of"),
        ({"validation": "loo"}, "folds or held-out"),
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


def test_a_folder_that_is_no_study_is_refused(wine, tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="is not empty and holds no study"):
        tune(network(), wine, SPACE, out=tmp_path, **SMALL)
    assert [file.name for file in tmp_path.iterdir()] == ["letter.txt"]


def test_a_network_that_drops_nothing_is_not_asked_for_dropout(wine):
    with pytest.raises(InputError, match="drops no units"):
        tune(dampen.linear(), wine, SPACE, **SMALL)
    found = tune(dampen.linear(), wine, **SMALL)
    assert set(found.verdict.recommended) <= {"weight_decay", "lr", "dropout"}
    assert set(found.verdict.references) == {"none", "default"}


@pytest.mark.parametrize("search", ["grid", "random", "tpe", "hyperband"])
def test_every_search_reaches_a_verdict_and_repeats(wine, search):
    first, second = (
        tune(
            network(), wine, SPACE | {"lr": LogUniform(1e-3, 1e-2)}, search=search, **SMALL | {"settings": 8}
        ).document()
        for _ in range(2)
    )
    assert without_time(first) == without_time(second)
    assert first["trained"]["settings"] == 8


def test_rates_of_each_layer_are_searched(wine):
    found = tune(dampen.mlp(8, 8, dropout=0.1), wine, per_layer=True, **SMALL)
    curves = found.frame()
    assert curves["dropout"].map(str).str.startswith("(").any()
    assert {len(s["dropout"]) for rung in found.ranked for s in rung.settings} == {2}


def test_folds_are_equally_long_and_do_not_overlap(study):
    rows = split(study.plan, tuple(range(10)), again=True)
    assert len({(len(f.train_rows), len(f.validation_rows)) for f in rows.sets}) == 1
    for repeat in (rows.sets[:5], rows.sets[5:]):
        judged = torch.cat([f.validation_rows for f in repeat])
        assert len(judged.unique()) == len(judged) > 0.95 * len(study.plan.data.train_rows)
        assert all(not set(f.validation_rows.tolist()) & set(f.train_rows.tolist()) for f in repeat)


def test_held_out_rows_rank_and_judge_apart(wine):
    found = tune(network(), wine, SPACE, validation="held-out", **SMALL)
    assert "took no part in the choice" in str(found.verdict)


def test_a_setting_that_diverges_is_last_and_does_no_harm(wine):
    found = tune(
        network(), wine, {"weight_decay": [0.0, 0.1, 1e30], "lr": 1.0}, search="grid", **SMALL | {"settings": 3}
    )
    last = found.ranked[0].settings[-1]
    assert last["weight_decay"] == 1e30
    assert np.isinf(found.ranked[0].costs[-1])
    json.dumps(found.document(), allow_nan=False)


def test_compare_names_the_best_and_says_whether_that_is_settled(wine):
    settings = {"none": Setting(dropout=0.0), "much": Setting(dropout=0.9), "some": Setting(dropout=0.1)}
    found = compare(network(), wine, settings, seeds=5, epochs=20)
    assert found.verdict.recommended in (settings["none"], settings["some"])
    assert found.verdict.references["much"].settled
    assert found.ranked == ()
    unnamed = compare(network(), wine, list(settings.values()), seeds=5, epochs=2)
    assert set(unnamed.verdict.references) == {"dropout 0", "dropout 0.9", "dropout 0.1"}
    with pytest.raises(InputError, match="at least 2 different settings"):
        compare(network(), wine, [Setting(dropout=0.1)] * 2)
    with pytest.raises(InputError, match="no search to export"):
        found.export_to_optuna("sqlite://")


def test_progress_tells_phases_and_what_is_left(wine):
    seen = []
    tune(network(), wine, SPACE, callback=seen.append, **SMALL)
    assert list(dict.fromkeys(at.phase for at in seen)) == ["search", "confirmation", "test"]
    assert [at.share for at in seen] == sorted(at.share for at in seen)
    assert seen[-1].share > 0.9
    assert all(at.left is None or at.left >= 0 for at in seen)
    assert seen[-1].best is not None


def test_a_budget_is_kept_and_remembered(wine, tmp_path, monkeypatch):
    import time

    started = time.perf_counter()
    found = tune(network(), wine, SPACE, budget=12.0, out=tmp_path / "s")
    assert time.perf_counter() - started < 12 * 1.15 + 2  # two for a machine that is busy
    assert len(found.plan.confirm_seeds) >= 3
    assert found.plan.settings >= 8
    again = tune(network(), wine, SPACE, budget=12.0, out=tmp_path / "s", resume=True)
    assert again.document() == found.document()


def killed(folder, moments):
    """Run a study that is killed at each of these moments after its start, resume it, and return what it found."""
    for after in [*moments, None]:
        again = ["again"] * (folder / "study" / "plan.json").exists()
        process = subprocess.Popen([sys.executable, "-c", PROGRAM, *again], cwd=folder)
        try:
            assert process.wait(after) == 0
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return without_time(json.loads((folder / "study" / "study.json").read_text()))


@pytest.mark.parametrize("n", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_kill_9_at_random_moments_changes_nothing(tmp_path, n):
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    expected = killed(tmp_path / "whole", [])
    draw = random.Random(0)
    assert killed(tmp_path / "killed", [draw.uniform(1.4, 2.6) for _ in range(n)]) == expected
    assert not list((tmp_path / "killed").rglob(".*"))
    rows = [tmp_path / run / "study" / "calibration.safetensors" for run in ("whole", "killed")]
    assert rows[0].read_bytes() == rows[1].read_bytes()
    names = [{file.relative_to(tmp_path / run) for file in (tmp_path / run).rglob("*")} for run in ("whole", "killed")]
    assert names[0] == names[1]
    stages = [tuple(map(int, line.split())) for line in (tmp_path / "killed" / "log").read_text().splitlines()]
    assert stages == sorted(stages)  # what had ended, and so been kept, was not trained again


def test_the_sampled_metric_ranks_and_judges_by_the_mean_under_dropout(wine):
    settings = [Setting(dropout=0.2), Setting(dropout=0.6)]
    found = compare(network(), wine, settings, seeds=2, epochs=3, metric="mc-nll")
    assert set(found.test["recommended"]) == {"mc-nll", "nll", "accuracy", "brier"}
    truth = wine.test.targets.numpy()
    each = [
        log_loss(truth, dampen.mc_dropout(model, wine.test, 20, seed).probabilities)
        for model, seed in zip(found.ensemble(), (2_000_000, 2_000_001), strict=True)
    ]
    assert found.test["recommended"]["mc-nll"]["mean"] == pytest.approx(np.mean(each), rel=1e-4)
    assert found.test["recommended"]["mc-nll"] != found.test["recommended"]["nll"]
    with pytest.raises(InputError, match="must be one of mse"):
        compare(network(), dampen.load("diabetes"), settings, seeds=2, metric="mc-nll")
