"""What starting costs: the libraries that a command leaves alone. Times are not measured here."""

import gc
import os
import subprocess
import sys

import pytest

HEAVY = ("matplotlib", "numpy", "optuna", "pandas", "plotly", "pyarrow", "pydantic", "scipy", "sklearn", "torch")
COMPILER = ("sympy", "torch._dynamo", "torch._inductor")
OTHERS = tuple(sorted({*HEAVY, *COMPILER} - {"torch", "numpy", "pydantic"}))  # than what every study has
MODEL = """
import torch
from torch import nn
def build():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4, 2))
    return model, torch.optim.AdamW(model.parameters()), torch.zeros(4, 3)
"""


def loaded_by(code: str, names: tuple[str, ...], folder, *words: str) -> list[str]:
    """Return which modules a process has loaded when it ends."""
    script = (
        f"import sys\ntry: {code}\n"
        f"finally: print('LOADED', *(name for name in {names!r} if name in sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *words],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.stderr.rpartition("LOADED")[2].split()


RUN = "from dampen.cli import main; main()"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import dampen", ()),
        ("import dampen; dampen.InputError", ()),
        (RUN, ()),
        (RUN, ("--version",)),
        (RUN, ("--help",)),
        (RUN, ("tune", "--help")),
        (RUN, ("tunne",)),
        (RUN, ("tune", "--bad")),
    ],
)
def test_what_needs_no_data_loads_no_library_that_computes(tmp_path, code, words):
    assert loaded_by(code, HEAVY, tmp_path, *words) == []


def test_the_version_needs_nothing_that_reads_options(tmp_path):
    assert loaded_by(RUN, ("typer", "rich"), tmp_path, "--version") == []


def test_a_wrong_option_of_a_command_loads_no_torch(tmp_path):
    assert loaded_by(RUN, ("numpy", "torch"), tmp_path, "tune", "--seed", "-1") == []
    assert loaded_by(RUN, ("numpy", "torch"), tmp_path, "weight-decay", "--weight-decay", "much") == []


def test_opening_a_study_and_then_the_doctor_and_knobs_load_torch_alone_and_not_its_compiler(tmp_path):
    """In one process, as each begins with torch: what an earlier one loads is told by the later ones, too."""
    (tmp_path / "net.py").write_text(MODEL)
    code = "exec(open('steps.py').read())"
    (tmp_path / "steps.py").write_text(f"""
import dampen.study, dampen.report, dampen.experiments, dampen.uncertainty
assert 'pydantic' not in sys.modules, 'opening a study loads pydantic'
from dampen.cli import main
for words in ('doctor', 'net.py:build'), ('knobs',):
    sys.argv = ['dampen', *words]
    try: main()
    except SystemExit as ended: assert not ended.code, words
    print('LOADED AFTER', words[0], *(name for name in {OTHERS!r} if name in sys.modules), file=sys.stderr)
""")
    assert loaded_by(code, OTHERS, tmp_path) == []


def test_the_garbage_collector_is_on_when_a_command_works_and_afterwards(run, monkeypatch):
    from dampen.cli import _output

    monkeypatch.setattr(_output, "print_json", lambda document: print(gc.isenabled()))
    assert run("knobs", "--json") == (0, "True\n", "")
    assert gc.isenabled()
