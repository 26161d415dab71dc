"""Imports point downwards only, and no file imports itself in a circle; pyproject.toml names the layers."""

import pkgutil
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

import dampen

ROOT = Path(__file__).parents[1]


def test_the_contracts_are_kept():
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def graph():
    return grimp.build_graph("dampen", cache_dir=None, exclude_type_checking_imports=True)


def test_no_files_import_each_other_in_a_circle(graph):
    above = {file: graph.find_modules_directly_imported_by(file) for file in graph.modules}
    while free := [file for file, imported in above.items() if not imported & above.keys()]:
        for file in free:
            del above[file]
    assert not above


def test_a_room_is_there_once_dampen_is_imported(monkeypatch):
    rooms = {found.name for found in pkgutil.iter_modules(dampen.__path__) if not found.name.startswith("_")}
    for name in rooms:
        monkeypatch.delitem(vars(dampen), name, raising=False)  # another test may have imported it
    assert dampen.errors is sys.modules["dampen.errors"]
    monkeypatch.setattr(dampen, "import_module", str)  # some take seconds
    for name in rooms - {"cli", "play", "errors"}:  # play is a function, too
        assert getattr(dampen, name) == f"dampen.{name}"


def test_every_layer_is_in_the_contract(graph):
    layers = (ROOT / "pyproject.toml").read_text()
    ground = {"dampen", "dampen._hooks", "dampen._threads"}  # the front, what it hands down, and what it does first
    assert all(room in ground or room in layers for room in {*graph.find_children("dampen")})
