"""`dampen doctor`: how it finds the model, what it prints, how it ends, and that the documents show its table."""

import json
import re
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dampen
from dampen._language import speaking
from dampen.cli._doctor import row_shape
from dampen.doctor import CHECKS, markdown_table

CODE = """
import random
import torch
from torch import nn

print("imported")

def sound():
    print("called")
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))

def warned():
    model = sound()
    return model, torch.optim.AdamW(model.parameters(), lr=0.1)

def serious():
    return nn.Sequential(nn.Linear(6, 3), nn.Dropout(0.5))

def with_batch():
    model = serious()
    return model, torch.optim.SGD(model.parameters(), lr=0.1), torch.ones(2, 6)

def tokens():
    return nn.Sequential(nn.Embedding(10, 4), nn.Flatten(), nn.Linear(20, 3), nn.Dropout(0.5))

class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(6, 3, dtype=torch.float64)

    def forward(self, image, numbers):
        assert image.shape == (4, 2, 3)
        assert numbers.shape == (4, 1) and numbers.dtype == torch.int64 and numbers.max() < 9
        return self.out(nn.functional.dropout(image.flatten(1) + numbers))

live = serious()
number = 5

def fails(): raise RuntimeError("no\\nluck")
def leaves(): raise SystemExit(3)
def needs(width, *, depth): return sound()
def nothing(): return None
def pair(): return sound(), 5
def swapped(): return torch.optim.SGD(sound().parameters(), lr=0.1), sound()
"""


@pytest.fixture
def run(run, tmp_path):
    """Run the doctor in a folder that has modules; the path of imports stays as it was."""
    (tmp_path / "the_models.py").write_text(CODE)
    (tmp_path / "broken.py").write_text("1 / 0\n")
    (tmp_path / "lacking.py").write_text("import no_such_library_at_all\n")
    path = list(sys.path)

    def call(*words):
        ended = run("doctor", *words)
        assert sys.path == path
        return ended

    yield call
    for name in ("the_models", "broken", "lacking"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("module", ["the_models", "the_models.py"])
@pytest.mark.parametrize(
    ("name", "words", "code", "checks"),
    [
        ("sound", ["--input", "6"], 0, []),
        ("warned", ["--input", "6"], 0, ["decayed-bias"]),
        ("warned", ["--input", "6", "--steps", "5"], 0, ["decayed-bias", "decay-too-weak"]),
        ("warned", ["--steps", "5", "--ignore", "decayed-bias,decay-too-weak"], 0, []),
        ("serious", [], 0, []),
        ("serious", ["--input", "6"], 1, ["dropout-on-output"]),
        ("serious", ["--input", "2x6"], 1, ["dropout-on-output"]),
        ("with_batch", [], 1, ["dropout-on-output", "nothing-decays"]),
        ("tokens", ["--input", "5:10"], 1, ["dropout-on-output"]),
        ("Two", ["--input", "2x3,1:9"], 1, ["dropout-in-evaluation", "output-differs"]),
        ("live", ["--input", "6"], 1, ["dropout-on-output"]),
    ],
)
def test_the_exit_code_and_the_document_tell_what_was_found(run, module, name, words, code, checks):
    ended, out, err = run(f"{module}:{name}", *words, "--json")
    assert ended == code
    document = json.loads(out)  # what the user's own code prints is not on stdout
    assert document.keys() == {"findings"}
    assert [finding["check"] for finding in document["findings"]] == checks
    for finding in document["findings"]:
        assert finding.keys() == {"check", "where", "severity", "message", "remedy"}
        assert all(isinstance(text, str) and text for text in finding.values())
    assert "imported" in err


def test_the_text_is_the_report(run):
    code, out, _ = run("the_models:with_batch")
    assert code == 1
    assert out.startswith("serious: dropout-on-output: 1\n")
    assert "Fix: put dropout before the last layer" in out
    assert out.endswith("not looked at without the number of steps: decay-too-weak\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["the_models"], "name a module and a function, such as train:build or train.py:build; got 'the_models'"),
        (["the_models:"], "name a module and a function"),
        ([":sound"], "name a module and a function"),
        (["no_such_module:build"], "there is no module 'no_such_module', neither in this folder nor installed"),
        (["no_such/file.py:build"], "there is no file no_such/file.py"),
        (["broken:build"], "importing broken fails: ZeroDivisionError: division by zero"),
        (["broken.py:build"], "importing broken.py fails: ZeroDivisionError: division by zero"),
        (["lacking:build"], "importing lacking fails: No module named 'no_such_library_at_all'"),
        (["the_models:other"], "the_models has no 'other'"),
        (["the_models:number"], "the_models:number is not a function but int"),
        (["the_models:fails"], "the_models:fails raises RuntimeError: no luck"),
        (["the_models:leaves"], "the_models:leaves raises SystemExit: 3"),
        (["the_models:needs"], "must be a function that needs no arguments: missing a required argument: 'width'"),
        (["the_models:nothing"], "must return a model, or a model and an optimizer (and a batch); it returns NoneType"),
        (["the_models:swapped"], "it returns a tuple of (SGD, Sequential)"),
        (["the_models:pair"], "optimizer must be a torch.optim.Optimizer, or several, got int"),
        (["the_models:sound", "--input", "7"], "the model fails on a batch of [4, 7] float32 in 0: "),
        (["the_models:sound", "--input", "3x"], "--input takes the shape of one row, such as 3x32x32"),
        (["the_models:sound", "--input", "0"], "got '0'"),
        (["the_models:sound", "--input", f"64:{10**19}"], f"--input '64:{10**19}' is beyond 2147483647 numbers"),
        (["the_models:sound", "--input", "99999x99999x99999"], "is beyond 2147483647 numbers a row"),
        (["the_models:sound", "--input", ""], "got ''"),
        (["the_models:sound", "--steps", "0"], "--steps"),
        (["the_models:sound", "--ignore", "nonsense"], "there is no check 'nonsense' to ignore; the checks are"),
        ([], "MODULE:FUNCTION"),
    ],
)
def test_bad_input_ends_with_code_2_and_one_line(run, words, said):
    code, out, err = run(*words)
    lines = [line for line in err.splitlines() if line not in ("imported", "called")]
    assert (code, out, len(lines)) == (2, "", 1)
    assert lines[0].startswith("dampen: ")
    assert said in lines[0]


@given(st.lists(st.integers(1, 99), min_size=1, max_size=4), st.none() | st.integers(1, 10**6))
def test_every_shape_is_read_as_it_is_written(shape, below):
    text = "x".join(map(str, shape)) + ("" if below is None else f":{below}")
    assert row_shape(text) == (tuple(shape), below)


@given(st.text(alphabet="0123x:,. -n", max_size=8))
def test_any_other_text_is_refused_with_what_was_given(text):
    sizes = re.split("[x:]", text.strip())
    shape, _, below = text.strip().partition(":")
    wellformed = all(size.isdecimal() and int(size) for size in sizes) and not set("x:") & set(below)
    if wellformed:
        assert row_shape(text) == (tuple(map(int, shape.split("x"))), int(below) if below else None)
        return
    with pytest.raises(dampen.InputError, match=re.escape(f"got {text!r}")):
        row_shape(text)


@pytest.mark.parametrize(("language", "page"), [("en", "doctor.md"), ("zh", "doctor.zh.md")])
def test_the_documents_show_the_table_of_checks(language, page):
    text = (Path(__file__).parents[2] / "docs" / page).read_text(encoding="utf-8")
    shown = text.partition("<!-- checks -->\n")[2].partition("<!-- /checks -->")[0].strip()
    with speaking(language):
        assert shown == markdown_table(), "put what dampen.doctor.markdown_table() returns between the marks"


def test_a_check_s_table_row_names_only_severities_in_order_from_the_worst():
    order = ["serious", "warning", "note"]
    assert all(list(check.severity) == [s for s in order if s in check.severity] for check in CHECKS)
