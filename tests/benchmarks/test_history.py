"""Benchmarks' results: kept run by run, compared as medians, and made into a page."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))


def row(name: str, value: float, unit: str = "s", bar: float | None = None) -> dict:
    return {
        "name": name,
        "value": value,
        "unit": unit,
        "bar": bar,
        "most": True,
        "passes": None if bar is None else value <= bar,
    }


def test_every_run_adds_a_line_with_machine_commit_and_figures(tmp_path):
    from benchmarks import history

    for value in (1.0, 2.0):
        history.append("start", [row("help", value)], {"torch": "2.0", "threads": 1}, tmp_path)
    history.append("other", [], {}, tmp_path)
    assert len((tmp_path / "start.jsonl").read_text().splitlines()) == 2
    found = history.read(tmp_path)
    assert list(found) == ["other", "start"]
    assert [run["results"][0]["value"] for run in found["start"]] == [1.0, 2.0]
    run = found["start"][0]
    assert run["machine"].keys() == {"processor", "cores", "memory_gib"}
    assert run["machine"]["cores"] >= 1
    assert run["torch"] == "2.0"
    assert {"date", "commit", "load"} <= run.keys()


def test_a_benchmark_run_as_json_is_kept_under_its_own_name(tmp_path):
    program = tmp_path / "benchmarks" / "tiny.py"
    program.parent.mkdir()
    for name in ("__init__", "rows", "history"):
        (program.parent / f"{name}.py").write_text((ROOT / "benchmarks" / f"{name}.py").read_text())
    program.write_text(
        "from benchmarks import rows\nfrom benchmarks.rows import Row\n"
        "options = rows.parser('A tiny one.').parse_args()\n"
        "rows.show([Row('one', 1.5, 's', bar=2, most=True)], {'data': 'none'}, options.json)\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.tiny", "--json"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["results"][0]["passes"] is True
    (file,) = (tmp_path / "benchmarks" / "results").iterdir()
    assert file.name == "tiny.jsonl"
    (line,) = file.read_text().splitlines()
    kept = json.loads(line)
    assert (kept["data"], kept["results"][0]["name"], kept["results"][0]["bar"]) == ("none", "one", 2)
    assert kept["commit"] is None  # outside of a repository


def test_the_ratio_is_that_of_the_medians_of_rows_that_both_revisions_have():
    from benchmarks.compare import ratios

    base = [[row("a", 1.0), row("gone", 1.0)], [row("a", 4.0)], [row("a", 2.0)]]
    here = [[row("a", 1.0), row("new", 1.0)], [row("a", 1.0)], [row("a", 9.0)]]
    (found,) = ratios(base, here)
    assert (found.name, found.base, found.here, found.ratio) == ("a", 2.0, 1.0, 0.5)


def test_the_page_shows_the_latest_run_of_each_machine_beside_the_median_before_it():
    from benchmarks.page import page

    def run(processor: str, *rows: dict) -> dict:
        machine = {"processor": processor, "cores": 2, "memory_gib": 8.0}
        return {"date": "2026-01-02T03:04:05", "commit": "abc", "machine": machine, "torch": "2.0", "results": rows}

    text = page(
        {
            "start": [
                run("old", row("a|b", 9.0)),
                *(run("new", row("a|b", value, bar=3)) for value in (4.0, 8.0, 2.5)),
            ],
            "none": [],
        }
    )
    assert text.count("## ") == 1
    assert "old, 2 cores, 8 GiB; 2026-01-02, commit abc, torch 2.0." in text
    assert r"| a\|b | 9 s |  |  |  |" in text
    assert r"| a\|b | 2.5 s | 6 (2) | at most 3 | yes |" in text


def test_the_page_keeps_the_parts_that_a_later_run_left_out():
    from benchmarks.page import page

    machine = {"processor": "one", "cores": 2, "memory_gib": 8.0}
    runs = [
        {"date": "2026-01-02T03:04:05", "commit": commit, "machine": machine, "torch": "2.0", "results": [row(*values)]}
        for commit, values in (("abc", ("part", 9.0)), ("def", ("other", 2.0)), ("ghi", ("part", 7.0)))
    ]
    text = page({"start": runs})
    assert "commit def" in text
    assert "| other | 2 s |  |  |  |" in text
    assert "commit abc" not in text
    assert "| part | 7 s | 9 (1) |  |  |" in text
