"""A user's own knob: the page that shows how to add one, run; and what is refused."""

import json
import re
from pathlib import Path
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dampen import InputError, Population, Setting, solo
from dampen.engine.knobs import (
    KNOBS,
    Knob,
    OnGradient,
    Scales,
    find_knob,
    number,
    register_installed_knobs,
    register_knob,
)
from dampen.search import LogUniform, Space

PAGE = Path(__file__).parents[3] / "docs" / "add-a-knob.md"
CODE = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[0].partition("\nsettings = ")[0]
"""The page's example up to where its knob is registered; test_documents runs the rest."""


@pytest.fixture(autouse=True)
def registry_as_it_was():
    with mock.patch.dict(KNOBS):
        yield


@pytest.fixture
def page():
    exec(CODE, {})


def test_fused_and_solo_follow_a_hand_written_loop(page):
    def network():
        return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))

    x = torch.randn(30, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = torch.arange(30) % 3
    how = {"epochs": 15, "batch_size": 30, "optimizer": "sgd", "lr": 0.3, "precision": "float64"}
    settings, seeds = [Setting(cauchy=0.0), Setting(cauchy=0.02), Setting(cauchy=0.3, weight_decay=0.1)], [5, 8]
    population = Population(network, settings, seeds)
    assert population.explain((x, y), **how).reason is None  # fused
    population.fit((x, y), **how)
    for setting in settings:
        for seed in seeds:
            mine = population.initial_model(seed).double()
            for _ in range(15):
                loss = F.cross_entropy(mine(x), y)
                for name, p in mine.named_parameters():
                    if name.endswith("weight"):
                        loss = loss + setting["cauchy"] * (1 + p**2).log().sum()
                        loss = loss + setting.get("weight_decay", 0.0) / 2 * (p**2).sum()
                mine.zero_grad()
                loss.backward()
                with torch.no_grad():
                    for p in mine.parameters():
                        p.sub_(0.3 * p.grad)
            alone = solo(network, setting, seed, (x, y), **how).network
            for found in (population.member(setting, seed), alone):
                for p, q in zip(found.parameters(), mine.parameters(), strict=True):
                    assert torch.allclose(p, q, rtol=1e-9, atol=1e-12)


def test_settings_spaces_and_the_command_line_know_it(page, run):
    with pytest.raises(InputError, match="cauchy must be a finite number, 0 or larger, got -1"):
        Setting(cauchy=-1)
    assert all(1e-3 <= one["cauchy"] <= 1 for one in Space({"cauchy": LogUniform(1e-3, 1)}).draw(4, "sobol", seed=0))
    code, out, _ = run("knobs", "--json")
    assert code == 0
    assert [one["source"] for one in json.loads(out)["knobs"] if one["name"] == "cauchy"] == [
        "Gelman et al. 2008, sec. 2"
    ]


def test_a_knob_whose_file_is_read_again_takes_the_former_one_s_place(page):
    first = KNOBS["cauchy"]
    exec(CODE, {})
    assert KNOBS["cauchy"] is not first


def knob(name="mine", **others):
    given = {"read": number(name if isinstance(name, str) else "x"), "acts": OnGradient(lambda w, v, s: v * w)}
    return Knob(**{"name": name, "enters": "gradient", "about": "", "values": "", "source": ""} | given | others)


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"name": "dropout"}, "there is a knob named 'dropout' already"),
        ({"name": "cauchy"}, "there is a knob named 'cauchy' already"),
        ({"name": "my knob"}, "a knob's name must be a lower-case Python identifier, got 'my knob'"),
        ({"name": "lambda"}, "lower-case Python identifier, got 'lambda'"),
        ({"name": "Mine"}, "lower-case Python identifier, got 'Mine'"),
        ({"name": ""}, "lower-case Python identifier, got ''"),
        ({"name": "seed"}, "a knob can't be named 'seed'"),
        ({"acts": None}, "the knob mine does nothing"),
        ({"excludes": ("nothing_such",)}, "the knob mine refers to 'nothing_such', which is no knob"),
        ({"acts": Scales(("l3",), lambda value, step, steps: 1.0)}, "the knob mine refers to 'l3'"),
        ({"neutral": -1.0}, "the knob mine refuses its own neutral value: mine must be"),
    ],
)
def test_a_knob_that_cannot_be_one_is_refused_in_one_line(page, wrong, line):
    before = dict(KNOBS)
    with pytest.raises(InputError) as refused:
        register_knob(knob(**wrong))
    assert line in str(refused.value)
    assert "\n" not in str(refused.value)
    assert before == KNOBS


class Installed:
    """An entry point of an installed package."""

    def __init__(self, load):
        self.name, self.value, self.load = "mine", "my_package:KNOB", load


@pytest.fixture
def installed(monkeypatch):
    def install(load):
        points = {"dampen.knobs": [Installed(load)]}
        monkeypatch.setattr("dampen.engine.knobs._registry.entry_points", lambda group: points[group])
        register_installed_knobs.cache_clear()

    yield install
    register_installed_knobs.cache_clear()


def test_an_installed_package_s_knob_is_found_when_a_setting_names_it(installed):
    installed(knob)
    assert Setting(mine=0.5)["mine"] == 0.5
    assert find_knob("mine") is KNOBS["mine"]


def test_an_installed_knob_that_fails_is_told_in_one_line(installed):
    def fails():
        raise ImportError("no module named numbat")

    installed(fails)
    with pytest.raises(
        InputError, match=r"^the knob mine \(my_package:KNOB\) can't be imported: no module named numbat$"
    ):
        Setting(mine=0.5)
