"""What all tests share: shapes checked at run time, and the folder with real data."""

import dataclasses
import functools
import gc
import os
import random
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from unittest import mock

os.environ.setdefault("OMP_NUM_THREADS", "1")  # what the tests compute is small: a second thread only adds waiting

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


# Calls of a function that each test checks: the first, and one of so many of those that follow.
OFTEN, SELDOM = (60, 17), (5, 101)  # seldom where it is a function within a function, whose check is made at each run
_calls: Counter[str] = Counter()


def _often_enough(**how):
    """Decorate as the import hook does, but check the first calls of a function in each test, and then a few.

    The steps of a training are alike, and checking every one of them takes most of its time. What a check needs is made
    at the first call that is checked, which takes a millisecond.
    """
    decorate = _JAXTYPED(**how)

    def decorated(one):
        if isinstance(one, type):
            if dataclasses.is_dataclass(one) and "__init__" in vars(one):
                one.__init__ = decorated(one.__init__)
            return one
        within = "<locals>" in one.__qualname__
        if within and jaxtyping.config.jaxtyping_disable:
            return one
        name, checked = f"{one.__module__}.{one.__qualname__}", None
        first, every = SELDOM if within else OFTEN

        @functools.wraps(one)
        def called(*args, **kwargs):
            nonlocal checked
            __tracebackhide__ = True
            if jaxtyping.config.jaxtyping_disable:
                return one(*args, **kwargs)
            _calls[name] += 1
            if _calls[name] > first and _calls[name] % every:
                return one(*args, **kwargs)
            if checked is None:
                checked = decorate(one)
            return checked(*args, **kwargs)

        return called

    return decorated


_JAXTYPED = jaxtyping.jaxtyped
jaxtyping.jaxtyped = _often_enough
jaxtyping.install_import_hook([f"dampen.{row}" for row in CHECKED], "beartype.beartype")
# Rooms whose tests train whole studies through what other rooms' tests have checked: checking takes most of their time.
UNCHECKED = ("cli", "estimators", "export", "integrations", "report")
SIMPLE = ("test_simple_models", "_simple_models")  # who tests the simple models beside a network
collect_ignore = [
    f"data/fuzz/{name}.py" for name in ("fuzz", "fuzz_changes", "fuzz_families")
]  # test_fuzz.py runs them
torch.set_num_threads(1)  # the tests' tensors are small: a second thread only adds waiting

hypothesis.settings.register_profile("dampen", deadline=None, max_examples=25, derandomize=bool(os.environ.get("CI")))
hypothesis.settings.load_profile("dampen")


@pytest.fixture(scope="module", autouse=True)
def _checks_of_a_room(request):
    jaxtyping.config.update("jaxtyping_disable", request.path.parent.name in UNCHECKED)


@pytest.fixture(scope="module", autouse=True)
def _quick_simple_models(request):
    """Fit fewer penalties and trees beside networks, where they are not tested: half of a small study's time."""
    from dampen.study import _simple_models

    quick = {} if request.path.stem in SIMPLE else {"PENALTIES": (0.1, 10.0), "FOLDS": 2, "BOOSTING_MOST": 10}
    whole = {name: getattr(_simple_models, name) for name in quick}
    for name, value in quick.items():
        setattr(_simple_models, name, value)
    yield whole
    for name, value in whole.items():
        setattr(_simple_models, name, value)


@pytest.hookimpl(tryfirst=True)
def _count_calls_anew():
    _calls.clear()


def _collect_garbage_seldom():
    """Look for cycles less often, and not among what was collected: that takes a twentieth of the tests' time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


# The examples in docstrings do not lie below this folder.
EVERYWHERE = ModuleType("everywhere")
EVERYWHERE.pytest_runtest_setup = _count_calls_anew
EVERYWHERE.pytest_collection_finish = _collect_garbage_seldom
EVERYWHERE._checks_of_a_room = _checks_of_a_room
EVERYWHERE._quick_simple_models = _quick_simple_models


def pytest_configure(config):
    """Train otherwise wherever a test of the engine does not say how: for `make test-gpu` and `make test-compiled`."""
    config.pluginmanager.register(EVERYWHERE)
    given = {"device": os.environ.get("DAMPEN_TEST_DEVICE"), "compile": os.environ.get("DAMPEN_TEST_COMPILE") == "1"}
    given = {name: value for name, value in given.items() if value}
    if given:
        from dampen.engine import TrainConfig

        as_usual = TrainConfig.__init__

        def otherwise(self, **fields):
            as_usual(self, **given | fields)

        TrainConfig.__init__ = otherwise
    if given.get("compile"):  # what has no translation runs as without, and is compared all the same
        config.addinivalue_line("filterwarnings", "ignore:steps can't be compiled:UserWarning")


@pytest.fixture
def whole_simple_models(_quick_simple_models, monkeypatch):
    """Fit simple models as they are: where another process makes the same study."""
    for name, value in _quick_simple_models.items():
        monkeypatch.setattr(f"dampen.study._simple_models.{name}", value)


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
