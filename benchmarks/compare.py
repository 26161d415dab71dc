"""Two revisions, one benchmark: run alternately, each in processes of its own, and the ratio of their medians.

The other revision is checked out into a worktree that is removed afterwards; this one is the working tree as it stands.
Run as `make bench-compare BASE=REV BENCH=population ROWS=12800`, or `python -m benchmarks.compare --base REV`; what
follows `--` is passed on to the benchmark.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.history import ROOT


@dataclass(frozen=True)
class Ratio:
    """A row of both revisions.

    Args:
        name: what is measured.
        unit: of the figures.
        base: the median of the other revision.
        here: the median of this one.
    """

    name: str
    unit: str
    base: float
    here: float

    @property
    def ratio(self) -> float:
        """This revision's figure as a multiple of the other's."""
        return self.here / self.base if self.base else float("nan")


@contextlib.contextmanager
def checked_out(revision: str) -> Iterator[Path]:
    """Give a folder with a revision's files while the context lasts."""
    with tempfile.TemporaryDirectory(prefix="dampen-bench-") as parent:
        folder = Path(parent) / "base"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", str(folder), revision], cwd=ROOT, check=True)
        try:
            yield folder
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(folder)], cwd=ROOT, check=True)


def run(folder: Path, benchmark: str, words: Sequence[str]) -> list[dict[str, Any]]:
    """Return the rows of a benchmark of the files in a folder."""
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{benchmark}", "--json", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder / "src")},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)["results"]


def ratios(base: Sequence[Sequence[dict[str, Any]]], here: Sequence[Sequence[dict[str, Any]]]) -> list[Ratio]:
    """Return medians over runs and their ratios, of the rows that both revisions have."""

    def values(runs: Sequence[Sequence[dict[str, Any]]]) -> dict[tuple[str, str], list[float]]:
        found: dict[tuple[str, str], list[float]] = {}
        for row in (row for rows in runs for row in rows):
            found.setdefault((row["name"], row["unit"]), []).append(row["value"])
        return found

    of_base, of_here = values(base), values(here)
    return [
        Ratio(name, unit, statistics.median(of_base[name, unit]), statistics.median(figures))
        for (name, unit), figures in of_here.items()
        if (name, unit) in of_base
    ]


def main() -> None:
    """Run both revisions by turns and print the ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--base", required=True, help="revision to compare with")
    parser.add_argument("--bench", default="population", help="name of the benchmark")
    parser.add_argument("--runs", type=int, default=3, help="runs of each revision")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("words", nargs="*", help="options of the benchmark, after --")
    options = parser.parse_args()
    base, here = [], []
    with checked_out(options.base) as folder:
        for turn in range(options.runs):
            order = [(base, folder), (here, ROOT)]
            for runs, files in order if turn % 2 == 0 else order[::-1]:
                runs.append(run(files, options.bench, options.words))
    found = ratios(base, here)
    if options.json:
        print(json.dumps([vars(row) | {"ratio": row.ratio} for row in found], indent=1))
        return
    print(f"{options.bench}: medians of {options.runs} runs each, {options.base} and the working tree")
    for row in found:
        print(f"{row.name:76} {row.base:10.4g} {row.here:10.4g} {row.unit:8} {row.ratio:6.3f}")


if __name__ == "__main__":
    main()
