"""What all tests share: shapes checked at run time, and the folder with real data."""

import os
import random
import sys
from pathlib import Path
from unittest import mock

import hypothesis
import jaxtyping
import pytest
import torch

# beartype picks which item of a sequence to check by Python's global generator, whose use by a network the engine
# looks for: give it a generator of its own.
with mock.patch("random.getrandbits", random.Random(0).getrandbits):
    import beartype.door  # noqa: F401

os.environ["DAMPEN_LANG"] = "en"  # whatever the locale of the machine

# Every row that handles tensors; typer's context in dampen.cli is not of the type that it asks commands to name.
CHECKED = (
    "data",
    "engine",
    "experiments",
    "export",
    "metrics",
    "models",
    "play",
    "report",
    "statistics",
    "study",
    "uncertainty",
)


def _unless_disabled(**how):
    """Decorate as the import hook does, but leave functions within functions as they are while checks are off.

    Those are decorated anew whenever the function around them runs, which takes a millisecond each.
    """
    decorate = _JAXTYPED(**how)

    def decorated(function):
        inner = "<locals>" in getattr(function, "__qualname__", "") and not isinstance(function, type)
        return function if inner and jaxtyping.config.jaxtyping_disable else decorate(function)

    return decorated


_JAXTYPED = jaxtyping.jaxtyped
jaxtyping.jaxtyped = _unless_disabled
jaxtyping.install_import_hook([f"dampen.{row}" for row in CHECKED], "beartype.beartype")
# Rooms whose tests train whole studies through what other rooms' tests have checked: checking takes most of their time.
UNCHECKED = ("cli", "estimators", "export", "integrations", "report")
collect_ignore = [
    f"data/fuzz/{name}.py" for name in ("fuzz", "fuzz_changes", "fuzz_families")
]  # test_fuzz.py runs them
torch.set_num_threads(1)  # the tests' tensors are small: a second thread only adds waiting

hypothesis.settings.register_profile("dampen", deadline=None, max_examples=25, derandomize=bool(os.environ.get("CI")))
hypothesis.settings.load_profile("dampen")


def pytest_configure():
    """Train otherwise wherever a test of the engine does not say how: for `make test-gpu` and `make test-compiled`."""
    given = {"device": os.environ.get("DAMPEN_TEST_DEVICE"), "compile": os.environ.get("DAMPEN_TEST_COMPILE") == "1"}
    given = {name: value for name, value in given.items() if value}
    if given:
        from dampen.engine import TrainConfig

        as_usual = TrainConfig.__init__

        def otherwise(self, **fields):
            as_usual(self, **given | fields)

        TrainConfig.__init__ = otherwise


@pytest.fixture(scope="module", autouse=True)
def _checks_of_a_room(request):
    jaxtyping.config.update("jaxtyping_disable", request.path.parent.name in UNCHECKED)


@pytest.fixture
def without_shape_checks():
    """Leave shapes unchecked: for trainings long enough that checking would take most of their time."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run the command line in an empty folder: gives its exit code, stdout and stderr."""
    from dampen.cli import main

    monkeypatch.chdir(tmp_path)

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["dampen", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code or 0, *capsys.readouterr()

    return call


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with complete data sets, named by DAMPEN_DATA or beside the repository."""
    folder = Path(os.environ.get("DAMPEN_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not (folder / "fashion-mnist").is_dir():
        pytest.skip(f"there is no folder {folder} with fashion-mnist in it; name one in DAMPEN_DATA")
    return folder
