"""The lines of a benchmark's result, and how they are printed."""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from benchmarks import history


@dataclass(frozen=True)
class Row:
    """One line of the result.

    Args:
        name: what is measured.
        value: the figure.
        unit: of the figure; `x` for a ratio.
        bar: what it should reach, if there is a bar.
        most: whether the bar is the largest value that passes instead of the smallest.
    """

    name: str
    value: float
    unit: str = "x"
    bar: float | None = None
    most: bool = False

    @property
    def passes(self) -> bool | None:
        """Whether the bar is reached."""
        if self.bar is None:
            return None
        return self.value <= self.bar if self.most else self.value >= self.bar


def parser(text: str | None) -> argparse.ArgumentParser:
    """Return a parser with the option that all benchmarks have."""
    found = argparse.ArgumentParser(description=text)
    found.add_argument("--json", action="store_true", help="print one JSON document")
    return found


def show(rows: Sequence[Row], facts: Mapping[str, Any], as_json: bool) -> None:
    """Print the rows, as one JSON document together with what else is to be known or as a table.

    As JSON they are kept in `results/`, too.
    """
    if as_json:
        results = [asdict(row) | {"passes": row.passes} for row in rows]
        known = {**facts, "threads": torch.get_num_threads(), "torch": torch.__version__}
        print(json.dumps({**known, "results": results}, indent=1))
        history.append(history.running(), results, known)
        return
    for row in rows:
        bar = "" if row.bar is None else f"  ({'at most' if row.most else 'at least'} {row.bar:g}: {row.passes})"
        print(f"{row.name:76} {row.value:8.3g} {row.unit}{bar}")
    for name, fact in facts.items():
        print(f"{name}: {fact}")
