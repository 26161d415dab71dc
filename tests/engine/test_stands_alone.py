"""The engine needs torch, numpy, safetensors and jaxtyping alone, and nobody reaches into its private modules."""

import ast
import dataclasses
import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement
from torch import nn

import dampen
from dampen import InputError, Population, Setting, TrainConfig, solo
from dampen.engine import TrainOptions

SOURCE = Path(dampen.__file__).parent
NEEDED = ("torch", "numpy", "safetensors", "jaxtyping")
ROWS = torch.randn(20, 3, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 2
TRAINING = """
import importlib.util
import torch
from torch import nn
from dampen.engine import Population, Setting, TrainConfig, solo

there = [name for name in ("pandas sklearn plotly typer pyarrow matplotlib PIL scipy msgspec rich pooch").split()
         if importlib.util.find_spec(name)]
assert not there, there
rows = torch.randn(20, 3), torch.arange(20) % 2
model = lambda: nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.2), nn.Linear(4, 2))
population = Population(model, [Setting(dropout=0.1), Setting(weight_decay=0.1, l1=0.01)], seeds=[0, 1])
config = TrainConfig(epochs=2, precision="float64")
population.fit(rows, config)
alone = solo(model, Setting(dropout=0.1), 1, rows, config).network
for mine, theirs in zip(population.member(Setting(dropout=0.1), 1).parameters(), alone.parameters()):
    assert torch.allclose(mine, theirs, rtol=1e-9)
try:
    Population(model, [Setting(mixup=0.2)], [0]).fit(rows, epochs=1)
except ValueError as e:
    print(e)
"""


def closure(names):
    """Return distributions and all that they require here."""
    found, rest = {}, list(names)
    while rest:
        name = rest.pop()
        if name not in found:
            found[name] = importlib.metadata.distribution(name)
            wanted = [Requirement(text) for text in found[name].requires or ()]
            rest += [one.name for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]
    return found.values()


def test_it_trains_where_only_its_own_requirements_are_installed(tmp_path):
    for distribution in closure(NEEDED):
        for name in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            there = Path(str(distribution.locate_file(name)))
            if not (tmp_path / name).exists():
                (tmp_path / name).symlink_to(there)
    (tmp_path / "dampen").symlink_to(SOURCE)
    done = subprocess.run(
        [sys.executable, "-S", "-c", TRAINING],  # without site-packages
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "mixup draws its shares by scipy, which is not installed: pip install scipy\n"


def imported(file):
    """Return the modules and names that a file imports, in types and in functions, too."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{name.name}" for name in node.names)


def test_no_other_package_imports_its_private_modules():
    others = [file for file in SOURCE.rglob("*.py") if "engine" not in file.relative_to(SOURCE).parts]
    private = [
        (file.name, name)
        for file in others
        for name in imported(file)
        if name.startswith("dampen.engine.") and any(part.startswith("_") for part in name.split("."))
    ]
    assert len(others) > 50
    assert not private


def test_the_keywords_of_a_training_are_the_fields_of_its_configuration():
    assert list(TrainOptions.__annotations__) == [field.name for field in dataclasses.fields(TrainConfig)]


def network():
    return nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.3), nn.Linear(4, 2))


def test_a_configuration_trains_as_the_same_keywords_do_and_keywords_replace_its_fields():
    options = {"epochs": 3, "batch_size": 7, "lr": 0.02, "schedule": "cosine", "clip_grad_norm": 0.5}
    config = TrainConfig(**options)
    settings, seeds = [Setting(weight_decay=0.1), Setting(dropout=0.5)], [1, 2]
    states = []
    for given in ((options, None), ({}, config), ({"epochs": 3, "lr": 0.02}, TrainConfig(**options | {"lr": 9.0}))):
        population = Population(network, settings, seeds)
        population.fit(ROWS, given[1], **given[0])
        states.append(population.state())
    for name, t in states[0].items():
        assert torch.equal(t, states[1][name])
        assert torch.equal(t, states[2][name])
    alone = [solo(network, settings[1], 2, ROWS, *given).network for given in ((config,),)]
    alone.append(solo(network, settings[1], 2, ROWS, **options).network)
    for mine, theirs in zip(alone[0].parameters(), alone[1].parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert Population(network, settings, seeds).explain(ROWS, config).members == 4


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda: TrainConfig(epochs=True), "epochs must be a whole number, 1 or larger, got True"),
        (lambda: TrainConfig(epochs=1, device="tpu9000"), "device must be cpu, cuda"),
        (lambda: TrainConfig(epochs=1, optimizer="lion"), "optimizer must be sgd, adam, adamw"),
        (lambda: TrainConfig(epochs=1, decay_filter="biases"), "decay_filter must be 'weights', 'all' or a function"),
        (lambda: Population(network, [Setting()], [0]).fit(ROWS), "how long to train is not given: epochs=20"),
        (lambda: Population(network, [Setting()], [0]).fit(ROWS, {"epochs": 2}), "config must be a TrainConfig"),
    ],
)
def test_a_configuration_that_is_none_is_refused_in_one_line(call, line, without_shape_checks):
    with pytest.raises(InputError) as refused:
        call()
    assert line in str(refused.value)
    assert "\n" not in str(refused.value)
