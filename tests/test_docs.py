"""docs/design.md names functions that exist, in the order in which a study enters them; every link leads to a file."""

import json
import os
import re
import subprocess
import sys
from importlib import import_module
from operator import attrgetter
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
DESIGN = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
HOPS = re.findall(r"^\| \d+ \| `([\w.]+):([\w.]+)` \|", DESIGN, re.MULTILINE)
UP = set(re.findall(r"^\| `(\w+)` \| `(\w+)` \|", DESIGN, re.MULTILINE))
FILES = re.findall(r"`((?:\w+/)+(?:\w+\.py)?)`", DESIGN.split("## Where to add what")[1].split("## One way")[0])
PAGES = [*(ROOT / "docs").glob("*.md"), *ROOT.glob("README*.md"), ROOT / "CONTRIBUTING.md"]

# Writes down which of the functions on stdin are entered, in order, and each call between two files of dampen.
PROFILED = """
import json, sys
from pathlib import Path

import dampen

root = Path(dampen.__file__).parent
hops, entered, calls, names = set(json.load(sys.stdin)), [""], set(), {}

def name_of(code):
    if code not in names:
        path = Path(code.co_filename)
        names[code] = ".".join(("dampen", *path.relative_to(root).with_suffix("").parts)).removesuffix(".__init__") \\
            if path.is_relative_to(root) else None
    return names[code]

def profiler(frame, event, argument):
    if event != "call" or (called := name_of(frame.f_code)) is None or frame.f_code.co_name == "<module>":
        return
    hop = f"{called}:{frame.f_code.co_qualname}"
    if hop in hops and hop != entered[-1]:
        entered.append(hop)
    above = frame.f_back
    while above is not None and name_of(above.f_code) is None:
        above = above.f_back
    if above is not None and above.f_code.co_name != "<module>":
        calls.add((name_of(above.f_code), called))

sys.setprofile(profiler)
try:
    from dampen.cli import main
    main()
except SystemExit as stopped:
    assert not stopped.code, stopped.code
finally:
    sys.setprofile(None)
Path("profile.json").write_text(json.dumps([entered, sorted(calls)]))
"""


def test_the_way_through_names_functions_that_exist():
    assert len(HOPS) > 20
    for module, name in HOPS:
        assert callable(attrgetter(name)(import_module(module))), f"{module}:{name}"


def test_where_to_add_names_files_that_exist():
    assert len(FILES) > 10
    within = ("", "engine/knobs/")
    assert [f for f in FILES if not any((ROOT / "src" / "dampen" / folder / f).exists() for folder in within)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page):
    targets = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    assert [t for t in targets if not t.startswith("http") and not (page.parent / t).exists()] == []


@pytest.mark.parametrize(("page", "words"), [("cluster.md", "{:.1f} times as long"), ("cluster.zh.md", "{:.1f} 倍")])
def test_what_two_workers_of_one_core_take_is_what_was_measured(page, words):
    last = json.loads((ROOT / "benchmarks" / "results" / "cluster.jsonl").read_text().splitlines()[-1])
    ratio = next(row["value"] for row in last["results"] if row["name"] == "2 workers of 1 core / one of 2")
    assert words.format(ratio) in (ROOT / "docs" / page).read_text(encoding="utf-8")


def rank(room: str) -> int:
    """Return how far below the top a room is, by the contract in pyproject.toml."""
    import tomllib

    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    layers = next(c["layers"] for c in contracts if c["type"] == "layers")
    places = {name: i for i, layer in enumerate(layers) for name in re.findall(r"dampen\.(\w+)", layer)}
    return places.get(room, -1)


@pytest.mark.slow
def test_the_way_through_is_what_a_study_does(tmp_path):
    rng = np.random.default_rng(0)
    area, rooms = rng.normal(90, 30, 120), rng.integers(1, 7, 120)
    lines = (f"{a:.1f},{r},{2000 * a + n:.0f}" for a, r, n in zip(area, rooms, rng.normal(0, 2e4, 120), strict=True))
    (tmp_path / "houses.csv").write_text("\n".join(["area,rooms,price", *lines]))
    options = "--settings 2 --seeds 1 --epochs 2 --confirm-seeds 2 --hidden 4 --confirmed 1 --out study"
    hops = [":".join(hop) for hop in HOPS]
    subprocess.run(
        [sys.executable, "-c", PROFILED, "tune", "houses.csv", "--target", "price", *options.split()],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
        input=json.dumps(hops),
        text=True,
        capture_output=True,
        check=True,
    )
    entered, calls = json.loads((tmp_path / "profile.json").read_text())

    rest = iter(entered)
    assert [hop for hop in hops if hop not in rest] == []  # each comes after the one before

    between = {tuple(module.split(".")[:2][-1] for module in pair) for pair in calls}
    assert {(a, b) for a, b in between if a != b and rank(a) >= rank(b)} - UP == set()
