"""What a study exports: weights, description, a script that really trains the same network again, ONNX."""

import ast
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import accuracy_score, log_loss, mean_absolute_error, r2_score, root_mean_squared_error
from torch import nn

import dampen
import dampen.models
from dampen.data import Preprocessing
from dampen.errors import NotExported
from dampen.export import write

DECAY = {"weight_decay": 0.2, "lr": 3e-3}
# Runs each script in its folder as a program of its own would run, where dampen can't be imported.
RUN = """
import contextlib, io, json, runpy, sys
sys.modules["dampen"] = None
said = {}
for folder in sys.argv[1:]:
    folder, _, data = folder.partition("=")
    sys.argv = ["train.py", *([data] if data else [])]
    with contextlib.redirect_stdout(io.StringIO()) as out:
        runpy.run_path(folder + "/train.py", run_name="__main__")
    said[folder] = out.getvalue()
print(json.dumps(said))
"""


def convolutions():
    first = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.GELU(), nn.Dropout2d(0.5))
    return nn.Sequential(first, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(96, 12), nn.SiLU(), nn.Dropout(0.5), last())


def last():
    return nn.Linear(12, 10)


def houses(task):
    random = np.random.default_rng(0)
    size = random.normal(80, 20, 160)
    size[::9] = np.nan
    frame = pd.DataFrame(
        {
            "size": size,
            "district": random.choice(["north", "south", "harbour"], 160),
            "built": pd.date_range("1950-01-01", periods=160, freq="170D"),
            "sure": random.uniform(0.2, 3, 160),
        }
    )
    price = np.nan_to_num(size, nan=80) + 30 * (frame["district"] == "harbour") + random.normal(0, 5, 160)
    frame["y"] = price if task == "regression" else np.where(price > 90, "dear", "cheap")
    return frame


def study(
    model, data, *, precision="float64", epochs=2, batch_size=32, schedule=None, out=None, config=None, **setting
):
    other = dict(setting) | {"weight_decay": 0.9}
    settings = [dampen.Setting(**setting), dampen.Setting(**other)]
    words = {
        "epochs": epochs,
        "batch_size": batch_size,
        "precision": precision,
        "seed": 5,
        "out": out,
        "schedule": schedule,
    }
    return dampen.compare(model, data, settings, 2, **words, **(config or {}))


NAMES = (
    *("classes", "float32", "images", "drawn otherwise", "weighted classes", "weighted numbers"),
    *("scaled columns", "file elsewhere", "sgd, one cycle", "adam, warm-up", "constant after warm-up"),
    *("variances", "weighted variances", "quantiles", "half of it"),
)


@pytest.fixture(scope="module")
def studies():
    """Studies whose trainings the script can follow, by name, each with another thing to get right."""
    digits = dampen.load("digits").subset(150)
    return {
        "classes": study(dampen.mlp(16, 8), dampen.load("wine"), dropout=(0.2, 0.6), **DECAY),
        "float32": study(dampen.mlp(16, dropout=0.3), dampen.load("diabetes"), precision="float32", **DECAY),
        "images": study(convolutions, digits, dropout=0.4, **DECAY),
        "drawn otherwise": study(dampen.linear(), dampen.load("iris"), schedule="linear", **DECAY),
        "scaled columns": study(dampen.tabular(16, 8, periodic=(0, 5)), dampen.load("wine"), dropout=0.3, **DECAY),
        "weighted classes": study(
            dampen.mlp(8), dampen.load(houses("classification"), target="y", weight="sure"), dropout=1.0, **DECAY
        ),
        "weighted numbers": study(
            dampen.mlp(8), dampen.load(houses("regression"), target="y", weight="sure"), dropout=0.1, **DECAY
        ),
        "file elsewhere": study(nn.Linear(4, 3), dampen.load("iris"), weight_decay=0.0),
        "sgd, one cycle": study(
            dampen.mlp(8),
            dampen.load("wine"),
            schedule="one-cycle",
            config={"optimizer": dampen.SGD(momentum=0.9, nesterov=True), "clip_grad_norm": 0.3},
            **{"weight_decay": 0.1, "lr": 0.1, "label_smoothing": 0.2, "l1": 0.02, "l2": 0.3},
        ),
        "adam, warm-up": study(
            dampen.mlp(8),
            dampen.load("iris"),
            schedule=dampen.Schedule("cosine", warmup=0.4),
            config={"optimizer": dampen.Adam(betas=(0.7, 0.9), eps=1e-3), "decay_filter": "all"},
            **{"weight_decay": 0.1, "l1": 0.1, "label_smoothing": 0.1, "mixup": 0.0, "ema": 0.0},  # two are off
        ),
        "constant after warm-up": study(
            dampen.mlp(8), dampen.load("diabetes"), schedule=dampen.Schedule(warmup=0.5), l2=0.1, dropout=0.2
        ),
        "variances": study(dampen.mlp(8), dampen.load("diabetes"), config={"loss": "gaussian_nll"}, **DECAY),
        "weighted variances": study(
            dampen.mlp(8),
            dampen.load(houses("regression"), target="y", weight="sure"),
            config={"loss": "beta_nll"},
            **DECAY,
        ),
        "quantiles": study(
            dampen.mlp(8),
            dampen.load("diabetes"),
            schedule=dampen.Schedule("cosine", cycles=2),
            config={"loss": "pinball"},
            dropout=0.2,
            **DECAY,
        ),
        "half of it": study(
            dampen.mlp(8),
            dampen.load("diabetes"),
            schedule=dampen.Schedule("linear", warmup=0.2, cycles=3),
            config={"loss": "half_squared_error", "optimizer": "sgd"},
            **DECAY,
        ),
    }


@pytest.fixture(scope="module")
def exported(studies, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    return {name: one.export(folder / name.replace(" ", "-")) for name, one in studies.items()}


@pytest.fixture(scope="module")
def repeated(exported, tmp_path_factory):
    """What each script says, and the weights that it came to."""
    elsewhere = tmp_path_factory.mktemp("data") / "rows.npz"
    named = exported["file elsewhere"].folder
    shutil.move(named / "data.npz", elsewhere)
    folders = [f"{e.folder}={elsewhere}" if e.folder == named else str(e.folder) for e in exported.values()]
    done = subprocess.run(  # noqa: PLW1510  (what it said is shown)
        [sys.executable, "-W", "error", "-c", RUN, *folders],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        cwd=elsewhere.parent,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    return {name: (said[str(e.folder)], load_file(e.folder / "trained.safetensors")) for name, e in exported.items()}


@pytest.mark.parametrize("name", NAMES)
def test_the_script_comes_to_the_weights_of_the_study(studies, repeated, name):
    tolerance = 1e-4 if name == "float32" else 1e-9  # the others are float64
    weights = studies[name].model().state_dict()
    assert weights.keys() == repeated[name][1].keys()
    for key, mine in weights.items():
        torch.testing.assert_close(repeated[name][1][key], mine, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", NAMES)
def test_the_script_prints_the_network_s_own_test_metrics(studies, exported, repeated, name):
    plan = studies[name].plan
    rows, (mean, deviation) = studies[name].winner().data.test, plan.target_scale
    network = studies[name].model()
    with torch.no_grad():
        outputs = network(rows.features.to(next(network.parameters()).dtype)).double().numpy()
    weights = None if rows.weights is None else rows.weights.numpy()
    if plan.data.task == "classification":
        targets, shares = rows.targets.numpy(), torch.from_numpy(outputs).softmax(1).numpy()
        wanted = {
            "accuracy": accuracy_score(targets, outputs.argmax(1), sample_weight=weights),
            "nll": log_loss(targets, shares, sample_weight=weights, labels=range(plan.data.outputs)),
        }
    else:
        targets, found = rows.targets.numpy() * deviation + mean, outputs[:, 0] * deviation + mean
        wanted = {
            "rmse": root_mean_squared_error(targets, found, sample_weight=weights),
            "mae": mean_absolute_error(targets, found, sample_weight=weights),
        } | ({"r2": r2_score(targets, found)} if weights is None else {})
    *lines, apart = repeated[name][0].splitlines()
    assert [line.partition(": ")[0] for line in lines] == ["trained.safetensors", "model.safetensors"]
    for line in lines:
        printed = {word.split()[0]: float(word.split()[1]) for word in line.partition(": ")[2].split(", ")}
        assert printed == pytest.approx(wanted, rel=1e-3)
    told = exported[name].document["test"]
    assert {key: told[key] for key in wanted} == pytest.approx(wanted, rel=1e-4)
    assert float(apart.removeprefix("apart by ").split()[0]) < 1e-4


def test_only_what_the_seed_does_not_give_is_written_as_initial_weights(studies, exported):
    written = {name for name, e in exported.items() if "initial.safetensors" in e.files}
    assert written == {"drawn otherwise"}
    torch.manual_seed(studies["drawn otherwise"].winner().seed)
    wanted = dampen.linear()(inputs=4, outputs=3).state_dict()
    found = load_file(exported["drawn otherwise"].folder / "initial.safetensors")
    assert all(torch.equal(found[key], t) for key, t in wanted.items())


def built(layer):
    """Make a network from its description alone."""
    if "layers" in layer:
        return nn.Sequential(*map(built, layer["layers"]))
    home = dampen.models if layer["type"] in ("Scaling", "Periodic") else nn
    return getattr(home, layer["type"])(**layer["arguments"])


@pytest.mark.parametrize("name", NAMES)
def test_the_description_and_the_weights_make_the_network(studies, exported, name):
    folder = exported[name].folder
    document = json.loads((folder / "model.json").read_text())
    network = built(document["architecture"])
    own = studies[name].model()
    dtype = next(own.parameters()).dtype
    network.to(dtype).eval().load_state_dict(load_file(folder / "model.safetensors"))
    data = studies[name].plan.data
    if data.columns is None:
        raw = data.features[data.test_rows].numpy().astype(np.float32)
        scaling = document["preprocessing"]
        inputs = (raw - np.float32(scaling["mean"])) / np.float32(scaling["std"])
    else:
        kept = Preprocessing.from_document(json.loads((folder / "preprocessing.json").read_text()))
        frame = houses(data.task).drop(columns="y")
        inputs = kept.inputs(frame)[data.test_rows].numpy()
        assert document["preprocessing"]["inputs"] == data.columns.inputs(data.outputs)
    rows = studies[name].winner().data.test.features
    assert torch.equal(torch.from_numpy(inputs), rows)
    with torch.no_grad():
        assert torch.equal(network(rows.to(dtype)), own(rows.to(dtype)))
    rates = [module.p for module in own.modules() if isinstance(module, nn.Dropout | nn.Dropout2d)]
    assert [m.p for m in network.modules() if isinstance(m, nn.Dropout | nn.Dropout2d)] == rates
    decaying = {key for key, told in document["parameters"].items() if told["decays"]}
    everything = studies[name].plan.training.decay_filter == "all"
    weights = {key for key, p in own.named_parameters() if everything or (p.ndim > 1 and not key.endswith("bias"))}
    assert decaying == weights
    if data.task == "regression":
        assert (document["target"]["mean"], document["target"]["deviation"]) == studies[name].plan.target_scale


class Own(nn.Module):
    """A network of one's own class."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Dropout(0.1), nn.Linear(5, 3))

    def forward(self, x):
        return self.layers(x) * 2


def drawn_by_numpy():
    network = nn.Sequential(nn.Linear(4, 3))
    with torch.no_grad():
        network[0].bias.copy_(torch.from_numpy(np.random.default_rng().random(3)))
    return network


def one_layer_twice():
    layer = nn.Linear(4, 4)
    return nn.Sequential(layer, nn.ReLU(), layer, nn.Linear(4, 3))


def partly_frozen():
    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3))
    network[0].requires_grad_(False)
    return network


def hooked():
    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3))
    network[1].register_forward_hook(lambda module, inputs, output: output + 1)
    return network


def self_normalising():
    return nn.Sequential(nn.Linear(4, 4), nn.SELU(), nn.AlphaDropout(0.1), nn.Linear(4, 3))


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (dampen.mlp(4), {"ema": 0.9, "input_noise": 0.1, **DECAY}, "the setting turns ema, input_noise"),
        (Own, DECAY, "and the network has Own"),
        (self_normalising, DECAY, "and the network has AlphaDropout"),
        (one_layer_twice, DECAY, "runs one of its layers twice"),
        (partly_frozen, DECAY, "the network's parameter 0.weight is not trained"),
        (drawn_by_numpy, DECAY, "initial weights do not follow from torch's seed"),
        (hooked, DECAY, "computes something that its layers' arguments do not describe"),
    ],
)
@pytest.mark.filterwarnings("ignore::dampen.errors.NotFusedWarning")
def test_a_training_that_the_script_can_t_follow_exports_the_model_and_says_why(tmp_path, model, options, message):
    found = study(model, dampen.load("iris"), epochs=1, **options)
    held = {"format": 1, "made_by": {"dampen": "0"}, "files": ["model.json", "train.py"]}
    (tmp_path / "model.json").write_text(json.dumps(held))  # an earlier export, whose script is no longer true
    (tmp_path / "train.py").write_text("")
    with pytest.warns(NotExported, match=message):
        told = found.export(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"model.json", "model.safetensors"}
    assert message in told.document["train"]["refused"]
    weights = load_file(tmp_path / "model.safetensors")
    for name, t in found.model().state_dict().items():
        assert torch.equal(weights[name], t)


def squared(outputs, targets):
    return (outputs[:, 0] - targets).square()


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"precision": "bfloat16"}, "the training's precision is bfloat16"),
        ({"device": "cuda:1"}, "the training ran on cuda:1"),
        ({"schedule": dampen.Schedule("one-cycle", 0.01)}, "one-cycle without a step on which it rises"),
        ({"loss": squared}, "the loss is a function of your own"),
    ],
)
def test_a_training_in_another_way_is_named(studies, tmp_path, training, message):
    winner = studies["classes"].winner()
    told = write(replace(winner, training=replace(winner.training, **training)), tmp_path)
    assert message in told.refused
    assert {file.name for file in tmp_path.iterdir()} == {"model.json", "model.safetensors"}


def test_a_name_of_data_can_t_become_code(studies, tmp_path):
    winner = studies["classes"].winner()
    name = 'a"""\nraise SystemExit("no")\n"""\\'
    write(replace(winner, description=replace(winner.description, name=name)), tmp_path)
    assert "raise SystemExit" in (tmp_path / "train.py").read_text()
    body = ast.parse((tmp_path / "train.py").read_text()).body
    assert not any(isinstance(node, ast.Raise) for node in body)
    assert max(map(len, (tmp_path / "train.py").read_text().splitlines())) <= 120


def test_rows_are_left_out_on_demand(studies, tmp_path):
    told = studies["file elsewhere"].export(tmp_path / "new", data=False)
    assert "data.npz" not in told.files
    assert told.document["train"] == {"refused": None, "needs": "data.npz"}


def test_a_folder_that_holds_something_else_is_left_alone(studies, tmp_path):
    (tmp_path / "thesis.tex").write_text("text")
    with pytest.raises(dampen.InputError, match="holds no export"):
        studies["file elsewhere"].export(tmp_path)
    with pytest.raises(dampen.InputError, match="is a file"):
        studies["file elsewhere"].export(tmp_path / "thesis.tex")
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_earlier_export_is_replaced_but_no_file_that_somebody_else_wrote_or_changed(studies, tmp_path):
    export = partial(studies["file elsewhere"].export, data=False)
    told = export(tmp_path)
    assert export(tmp_path).document["files"] == told.document["files"]
    script = tmp_path / "train.py"
    before = script.read_text()
    script.write_text(before + "# my own\n")
    with pytest.raises(dampen.InputError, match=r"train.py has been changed since it was exported"):
        export(tmp_path)
    script.write_text(before)
    (tmp_path / "data.npz").write_bytes(b"mine")
    with pytest.raises(dampen.InputError, match=r"data.npz is not of the export beside it"):
        export(tmp_path)
    assert (tmp_path / "data.npz").read_bytes() == b"mine"
    mine = tmp_path / "mine"
    mine.mkdir()
    for name in ("model.json", "train.py"):
        (mine / name).write_text("{}")
    with pytest.raises(dampen.InputError, match="mine is not empty and holds no export"):
        export(mine)
    assert (mine / "train.py").read_text() == "{}"


@pytest.mark.parametrize("name", ["images", "weighted numbers", "variances"])
def test_onnx_answers_raw_rows_in_the_target_s_unit(studies, tmp_path, name):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    import onnxruntime

    told = studies[name].export(tmp_path / "new", onnx=True)
    session = onnxruntime.InferenceSession(tmp_path / "new" / "model.onnx", providers=["CPUExecutionProvider"])
    data, (mean, deviation) = studies[name].winner().data, studies[name].plan.target_scale
    inputs = data.test.features
    rows = inputs if data.columns is not None else data.features[data.test_rows].float()
    network = studies[name].model().float()
    with torch.no_grad():
        wanted = network(inputs) * deviation + mean
        if "variances" in name:  # Gaussian: the noise's standard deviation scales as the target does
            wanted[:, 1] = torch.exp(network(inputs)[:, 1]).sqrt() * deviation
    for n in (1, 7, len(rows)):
        (found,) = session.run(None, {"features": rows[:n].numpy()})
        torch.testing.assert_close(
            torch.from_numpy(found), wanted[:n], rtol=1e-4, atol=1e-4 * float(wanted.abs().max())
        )
    assert told.document["onnx"]["apart_from_torch"] < 1e-4


class Deciding(nn.Module):
    """A network whose way depends on its numbers: no graph holds it."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x):
        h = self.layer(x)
        return h if h.detach().sum().item() > 0 else h + 1


@pytest.mark.filterwarnings("ignore::dampen.errors.NotFusedWarning")
def test_what_onnx_can_t_hold_is_refused_in_one_line_and_nothing_is_written(tmp_path):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    found = study(Deciding, dampen.load("iris"), epochs=1, **DECAY)
    with pytest.raises(dampen.InputError, match="can't be written as ONNX") as raised:
        found.export(tmp_path / "new", onnx=True)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "new").exists()


def test_without_its_packages_onnx_is_refused_in_one_line(studies, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(dampen.InputError, match=r"ONNX needs .*onnxruntime.*: pip install 'dampen\[onnx\]'"):
        studies["file elsewhere"].export(tmp_path / "new", onnx=True)
    assert not Path(tmp_path / "new").exists()
