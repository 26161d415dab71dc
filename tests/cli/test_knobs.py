"""`dampen knobs`, its table in the documents, and `--knob NAME=RANGE`."""

import contextlib
import json
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

from dampen._language import speaking
from dampen.cli._knobs import ranges
from dampen.engine.knobs import KNOBS
from dampen.errors import InputError
from dampen.search import Choice, LogUniform, Uniform

ROOT = Path(__file__).parents[2]
SMALL = ("--settings", 3, "--seeds", 1, "--epochs", 1, "--confirmed", 1, "--confirm-seeds", 2, "--hidden", 4)


# Shapes are checked by other tests of studies: here that would take most of the time.
def test_every_knob_is_listed_with_its_source(run):
    code, out, _ = run("knobs")
    assert code == 0
    for knob in KNOBS.values():
        assert any(line.split()[:1] == [knob.name] for line in out.splitlines())
    code, out, _ = run("knobs", "--json")
    listed = json.loads(out)["knobs"]
    assert [one["name"] for one in listed] == list(KNOBS)
    assert all(one["about"].endswith(".") and one["values"] and one["source"] for one in listed)


@pytest.mark.parametrize(("language", "page"), [("en", "knobs.md"), ("zh", "knobs.zh.md")])
def test_the_table_in_the_documents_is_the_code_s(run, language, page):
    with speaking(language):
        _, out, _ = run("knobs", "--markdown")
    written = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert written.endswith(out), f"docs/{page} is behind the code: `make docs` writes its table anew"
    assert len(out.splitlines()) == 2 + len(KNOBS)


@pytest.mark.parametrize("knob", KNOBS.values(), ids=lambda knob: knob.name)
def test_a_knob_says_where_it_enters_and_takes_its_neutral_value(knob):
    assert knob.enters in ("data", "target", "activation", "loss", "gradient", "parameter", "time")
    if knob.neutral is not None:
        assert knob.read(knob.neutral) == knob.neutral


def test_ranges_lists_and_values_are_read():
    found = ranges(["l1=1e-6..1e-2", "max_norm=1,2.5,inf", "decay_schedule=constant,cosine", "swa=0..0.9", "ema=0.9"])
    assert found == {
        "l1": LogUniform(1e-6, 1e-2, 0.1),
        "max_norm": Choice([1, 2.5, float("inf")]),
        "decay_schedule": Choice(["constant", "cosine"]),
        "swa": Uniform(0.0, 0.9),
        "ema": Choice([0.9]),
    }
    assert ranges(["decay_timescale=1..100"]) == {"decay_timescale": LogUniform(1.0, 100.0)}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["l1"], "--knob takes NAME=RANGE"),
        (["l1="], "--knob takes NAME=RANGE"),
        (["warmth=1"], "no knob named 'warmth'"),
        (["l1=0.1", "l1=0.2"], "l1 is given twice"),
        (["l1=0..1"], "--knob l1: its range is logarithmic and starts above 0 (0 itself is tried, too)"),
        (["l1=1..0.1"], "--knob l1: a range needs two finite ends"),
        (["l1=-1"], "--knob l1: l1 must be a finite number, 0 or larger"),
        (["l1=a..b"], "--knob l1 takes a range"),
        (["l1=1..2..3"], "--knob l1 takes a range"),
        (["ema=0.5..1"], "--knob ema: ema must be a finite number from 0 to below 1"),
        (["decay_schedule=square"], "one of constant, linear, cosine"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_is_allowed(run, words, said):
    code, out, err = run("tune", "wine", *(part for word in words for part in ("--knob", word)))
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text):
    for word in (text, f"l1={text}", f"dropout={text}"):
        with contextlib.suppress(InputError):
            for name, dimension in ranges([word]).items():
                assert name == word.partition("=")[0]
                for value in dimension.grid(3):
                    KNOBS[name].read(value)


def test_knobs_are_searched_beside_the_usual_ones(run):
    knobs = ("--knob", "l1=1e-4..1e-2", "--knob", "decay_schedule=linear,cosine", "--knob", "decay_timescale=1..10")
    code, out, _ = run("tune", "wine", *SMALL, *knobs, "--json")
    assert code == 0
    folder = Path(json.loads(out)["folder"])
    rungs = json.loads((folder / "search.json").read_text())
    tried = [setting for rung in rungs if rung["family"] == "search" for setting in rung["settings"]]
    assert all(set(setting) == {"l1", "decay_schedule", "decay_timescale", "dropout", "lr"} for setting in tried)
    assert {setting["decay_schedule"] for setting in tried} == {"linear", "cosine"}
    assert "decay_schedule" in (folder / "report.html").read_text()
    best = min(tried, key=lambda setting: setting["l1"])
    assert best["l1"] == 0 or 1e-4 <= best["l1"] <= 1e-2


def test_patience_is_no_part_of_a_study(run):
    code, _, err = run("tune", "wine", *SMALL, "--knob", "patience=2,3")
    assert code == 2
    assert "patience can't be part of a study" in err
