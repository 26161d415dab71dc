import json
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

import dampen
from dampen import SGD, InputError, Schedule, Setting, TrainConfig
from dampen.study import read_config, written_config

SETTINGS = [Setting(), Setting(weight_decay=0.5)]
SPACE = {"weight_decay": [0.0, 0.1]}
TINY = {"n_settings": 2, "n_seeds": 1, "n_confirm_seeds": 2, "confirmed": 1, "search": "grid"}
CONFIG = TrainConfig(
    epochs=2,
    optimizer=SGD(momentum=0.9),
    lr=0.02,
    schedule=Schedule("cosine", warmup=0.25),
    clip_grad_norm=1.0,
    decay_filter="all",
    precision="float64",
)


@pytest.fixture(scope="module")
def rows():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 2, 2, generator=generator)  # no table, so that no simple models are fitted
    return dampen.from_arrays(x, (x.sum((1, 2)) + torch.randn(60, generator=generator) > 0).long())


@pytest.fixture(scope="module")
def made(rows, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "study"
    return folder, dampen.compare(dampen.mlp(4), rows, SETTINGS, 2, config=CONFIG, out=folder)


def found(study):
    return {name: value for name, value in study.document().items() if name not in ("seconds", "folder")}


def test_a_search_by_configuration_is_the_search_by_keywords(rows, without_shape_checks):
    words = {"epochs": 2, "lr": 0.01, "batch_size": 50}
    first = dampen.tune(dampen.mlp(4), rows, SPACE, **words, **TINY)
    again = dampen.tune(dampen.mlp(4), rows, SPACE, config=TrainConfig(**words | {"lr": 9.0}), lr=0.01, **TINY)
    assert found(first) == found(again)
    plan = first.document()["plan"]
    assert plan["training"] == {
        "batch_size": "50",
        "even_batches": "True",
        "optimizer": "adamw",
        "lr": "0.01",
        "schedule": "cosine",
        "precision": "float32",
        "device": "cpu",
    }
    assert plan["lengths"]["longest"] == 2


def test_a_studys_network_is_that_of_a_solo_run_with_its_configuration(made, rows):
    _, study = made
    winner = study.winner()
    alone = dampen.solo(dampen.mlp(4), winner.setting, winner.seed, rows, CONFIG, batch_size=32)
    for name, t in winner.network.state_dict().items():
        assert torch.allclose(t, alone.network.state_dict()[name], rtol=1e-9), name


def test_a_configuration_is_kept_and_resumed_with_the_same_one_alone(made, rows):
    folder, study = made
    kept = json.loads((folder / "plan.json").read_text())["training"]
    assert kept["optimizer"] == "SGD(momentum=0.9, nesterov=False)"
    assert kept["schedule"] == "Schedule(kind='cosine', warmup=0.25)"
    assert (kept["clip_grad_norm"], kept["decay_filter"], kept["batch_size"]) == ("1.0", "all", "32")
    assert written_config(dampen.load_study(folder, rows).winner().training) == kept
    again = dampen.compare(dampen.mlp(4), rows, SETTINGS, 2, config=CONFIG, out=folder, resume=True)
    assert found(again) == found(study)
    with pytest.raises(InputError, match=r"clip_grad_norm \(1.0 there, none here\)"):
        dampen.compare(dampen.mlp(4), rows, SETTINGS, 2, config=CONFIG, clip_grad_norm=None, out=folder, resume=True)
    with pytest.raises(InputError, match=r"optimizer \(SGD\(momentum=0.9, nesterov=False\) there, adamw here\)"):
        dampen.compare(dampen.mlp(4), rows, SETTINGS, 2, config=CONFIG, optimizer="adamw", out=folder, resume=True)


def test_an_export_follows_the_configuration(made, tmp_path):
    _, study = made
    exported = study.export(tmp_path / "export")
    assert exported.refused is None
    script = (tmp_path / "export" / "train.py").read_text()
    assert "torch.optim.SGD(groups, lr=LR, momentum=0.9)" in script
    assert "clip_grad_norm_(network.parameters(), 1.0)" in script
    training = json.loads((tmp_path / "export" / "model.json").read_text())["training"]
    assert (training["clip_grad_norm"], training["lr"], training["batch_size"]) == ("1.0", 0.02, 32)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"early_stopping": 3}, "early_stopping can't be part of a study"),
        ({"loss": lambda outputs, targets: outputs.sum(-1)}, "loss can't be a function in a study"),
        ({"decay_filter": lambda name, p: True}, "decay_filter can't be a function in a study"),
        ({"loss": "squared_error"}, "loss 'squared_error' is not for classification"),
        ({"config": {"lr": 0.1}}, "config must be a TrainConfig, got dict"),
    ],
)
def test_what_no_study_can_repeat_is_refused_before_its_folder_is_made(
    rows, tmp_path, options, line, without_shape_checks
):
    for call in (
        lambda out: dampen.tune(dampen.mlp(4), rows, SPACE, out=out, **options),
        lambda out: dampen.compare(dampen.mlp(4), rows, SETTINGS, out=out, **options),
    ):
        with pytest.raises(InputError) as refused:
            call(tmp_path / "study")
        assert line in str(refused.value)
        assert "\n" not in str(refused.value)
        assert not (tmp_path / "study" / "plan.json").exists()


def test_a_keyword_that_there_is_not_is_named(rows):
    with pytest.raises(TypeError, match="unexpected keyword argument 'settings'"):
        dampen.tune(dampen.mlp(4), rows, SPACE, settings=3)


@pytest.mark.parametrize(
    "make",
    [
        lambda: TrainConfig(optimizer=SGD(momentum=np.float64(0.9))),
        lambda: TrainConfig(optimizer=dampen.Adam(betas=[0.9, np.float32(0.5)], eps=np.float64(1e-6))),
        lambda: TrainConfig(schedule=Schedule("cosine", warmup=np.float64(0.25)), batch_size=8),
        lambda: TrainConfig(schedule=Schedule("linear", cycles=3)),
        lambda: TrainConfig(lr=np.float32(0.003), clip_grad_norm=Fraction(1, 3)),
    ],
)
def test_numbers_of_any_kind_are_kept_as_plain_ones(make, without_shape_checks):
    config = replace(make(), batch_size=8, schedule=make().schedule or "constant")
    assert read_config(json.loads(json.dumps(written_config(config)))) == config
    assert "np." not in repr(config)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SGD(momentum="0.9"), "momentum must be a number from 0 to below 1, got '0.9'"),
        (lambda: SGD(momentum=None), "momentum must be a number"),
        (lambda: SGD(0.9, nesterov="yes"), "nesterov must be True or False, got 'yes'"),
        (lambda: dampen.Adam(betas=0.9), "betas must be two numbers from 0 to below 1, got 0.9"),
        (lambda: dampen.Adam(betas=("a", 0.9)), "each of betas must be a number"),
        (lambda: dampen.Adam(eps="a"), "eps must be a finite number, 0 or larger, got 'a'"),
        (lambda: Schedule("linear", warmup="a"), "the schedule's warm-up must be a number from 0 to below 1, got 'a'"),
        (lambda: Schedule(["linear"]), "schedule must be one of"),
        (lambda: Schedule("cosine", cycles=1.5), "the schedule's cycles must be a whole number, 1 or larger, got 1.5"),
        (lambda: Schedule("one-cycle", cycles=2), "a schedule of 2 cycles is cosine or linear, got one-cycle"),
        (lambda: TrainConfig(precision=["float32"]), "precision must be one of"),
        (lambda: TrainConfig(lr=True), "lr must be a finite number larger than 0, got True"),
    ],
)
def test_what_is_no_such_number_is_refused(make, message, without_shape_checks):
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"margin": "a"}, "margin must be a share"),
        ({"budget": "10"}, "budget must be a number of seconds above 0, got '10'"),
        ({"device": "cuda:97"}, "there is no device cuda:97: torch sees"),
        ({"optimizer": "adam", "space": {"decay_timescale": 5.0}}, "decay_timescale"),
    ],
)
def test_what_no_study_can_do_is_refused_before_a_folder_is_made(
    rows, tmp_path, options, message, without_shape_checks
):
    with pytest.raises(InputError, match=message):
        dampen.tune(dampen.mlp(4), rows, epochs=2, out=tmp_path / "study", **TINY | options)
    assert not (tmp_path / "study").exists()


def test_a_decay_s_time_scale_counts_sgd_s_momentum(rows):
    config = {"optimizer": SGD(momentum=0.9), "lr": 0.05, "batch_size": 10, "epochs": 1}
    verdict = dampen.compare(dampen.mlp(4), rows, [Setting(weight_decay=d) for d in (0.01, 0.02)], 2, **config).verdict
    w = torch.nn.Parameter(torch.ones((), dtype=torch.float64))
    decay = verdict.recommended["weight_decay"]
    optimizer = torch.optim.SGD([w], lr=0.05, momentum=0.9, weight_decay=decay)
    for _ in range(4000):  # a gradient of 0: the decay alone
        w.grad = torch.zeros_like(w)
        optimizer.step()
    steps_to_1_over_e = -4000 / w.detach().log().item()  # the formula has it to first order in the decay
    steps_an_epoch = 4  # 60 rows, of which folds and test rows leave 36 or 38
    assert verdict.memory_epochs * steps_an_epoch == pytest.approx(
        steps_to_1_over_e, rel=0.06
    )  # to first order in the decay


def test_a_time_scale_is_the_decay_that_it_states_under_momentum_too():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(21, 3, generator=generator), torch.randn(21, 1, generator=generator)
    config = TrainConfig(epochs=3, batch_size=3, optimizer=SGD(momentum=0.9), precision="float64")
    stated, plain = Setting(decay_timescale=4, lr=0.02), Setting(weight_decay=0.1 / (0.02 * 4 * 7), lr=0.02)
    population = dampen.Population(lambda: torch.nn.Linear(3, 1), [stated, plain], [0])
    population.fit(rows, config)
    alone = dampen.solo(lambda: torch.nn.Linear(3, 1), stated, 0, rows, config)
    for network in (population.member(stated, 0), alone.network):
        torch.testing.assert_close(network.state_dict(), population.member(plain, 0).state_dict(), rtol=1e-9, atol=0)
