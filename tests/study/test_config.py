import json

import pytest
import torch

import dampen
from dampen import SGD, InputError, Schedule, Setting, TrainConfig
from dampen.errors import NotExported
from dampen.study import written_config

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


def test_a_script_that_can_not_follow_a_configuration_is_not_written(made, tmp_path):
    _, study = made
    with pytest.warns(NotExported, match="train.py is not written"):
        exported = study.export(tmp_path / "export")
    assert exported.refused.endswith(
        "the optimizer is SGD(momentum=0.9, nesterov=False), and the script knows adamw only"
    )
    assert "train.py" not in exported.files
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
