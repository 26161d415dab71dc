"""`--help`: options in panels; a wrong choice is one line with the choices that the library has."""

import re

import numpy as np
import pytest

from dampen import Schedule, from_arrays, linear, tune
from dampen.errors import InputError
from dampen.search import METHODS


@pytest.fixture
def panels(run, monkeypatch):
    """Return a function from a command to the options in each of its panels."""
    monkeypatch.setenv("COLUMNS", "200")

    def read(*words: str) -> dict[str, list[str]]:
        code, out, err = run(*words, "--help")
        assert (code, err) == (0, "")
        boxes = re.findall(r"^╭─ ([\w ]+?) ─+╮$(.*?)^╰", out, re.MULTILINE | re.DOTALL)
        return {title: re.findall(r"^│ (?:\*  )? *(--[\w-]+)", body, re.MULTILINE) for title, body in boxes}

    return read


def refused(call, *arguments, **options) -> str:
    """Return the choices in an error's line, each in the words that the error has."""
    with pytest.raises(InputError) as caught:
        call(*arguments, **options)
    return re.search(r"must be one of (.*?)( for|, got|; got)", str(caught.value))[1]


COMMANDS = ["tune", "explore", "dropout", "weight-decay", "doctor", "knobs", "export", "predict", "trust"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_in_a_panel_and_panels_keep_their_order(panels, command):
    order = ["Arguments", "Options", "Data", "Prediction", "Search", "Training", "Output"]
    shown = panels(command)
    assert list(shown) == [title for title in order if title in shown]
    assert shown["Options"] == ["--help"]


@pytest.mark.parametrize("command", ["tune", "explore", "dropout"])
def test_a_command_that_trains_has_panels_for_data_training_and_output(panels, command):
    shown = panels(command)
    assert {"--target", "--task", "--group", "--data-dir"} <= set(shown["Data"])
    assert {"--hidden", "--seed", "--device"} <= set(shown["Training"])
    assert "--json" in shown["Output"]


def test_tune_has_a_panel_for_the_search(panels):
    assert {"--weight-decay", "--dropout", "--knob", "--settings", "--metric", "--budget"} <= set(
        panels("tune")["Search"]
    )


def test_a_default_that_depends_on_the_data_is_at_most_four_words(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    defaults = re.findall(r"\[default: \((.*?)\)\]", run("tune", "--help")[1])
    assert len(defaults) > 10
    assert [words for words in defaults if len(words.split()) > 4] == []


def test_choices_are_those_of_the_library(run):
    rows, classes, numbers = np.eye(12, dtype=np.float32), np.arange(12) % 2, np.linspace(0, 1, 12)
    metrics = [
        *refused(tune, linear(), from_arrays(rows, classes), metric="nothing").split(", "),
        *refused(tune, linear(), from_arrays(rows, numbers, task="regression"), metric="nothing").split(", "),
    ]
    for option, choices in {
        "--search": METHODS,
        "--schedule": refused(Schedule, "nothing").split(", "),
        "--metric": dict.fromkeys(metrics),
        "--task": ("classification", "regression"),
        "--validation": ("folds", "held-out"),
    }.items():
        expected = f"dampen: {option} must be one of {', '.join(choices)}; got 'nothing'\n"
        assert run("tune", "wine", option, "nothing") == (2, "", expected)
