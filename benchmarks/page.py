"""The page docs/benchmarks.md, made from the files in `results/`: `make docs`, or `python -m benchmarks.page`."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks import history

_HEAD = """# Benchmarks

Made by `make docs` from `benchmarks/results/`, where each `python -m benchmarks.NAME --json` adds a line; no figure
here is written by hand. The latest run on each machine, and of parts that it left out the latest of theirs, beside
the median of the runs before it there; `load` is how many processes ran on the machine meanwhile.
`make bench-compare BASE=REV BENCH=NAME` compares two revisions."""


def page(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Return the page of every benchmark's runs."""
    return "\n\n".join([_HEAD, *(_benchmark(name, runs) for name, runs in found.items() if runs)]) + "\n"


def _benchmark(name: str, runs: Sequence[Mapping[str, Any]]) -> str:
    machines: dict[str, list[Mapping[str, Any]]] = {}
    for run in runs:
        machines.setdefault(_machine(run["machine"]), []).append(run)
    return "\n\n".join([f"## {name}", *(part for of_it in machines.values() for part in _runs(of_it))])


def _machine(facts: Mapping[str, Any]) -> str:
    memory = "" if facts.get("memory_gib") is None else f", {facts['memory_gib']:g} GiB"
    return f"{facts['processor']}, {facts['cores']} cores{memory}"


def _runs(runs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a table for each run that has measured something last, the latest run first."""
    shown: set[str] = set()
    for i, run in reversed(list(enumerate(runs))):
        rows = [row for row in run["results"] if row["name"] not in shown]
        if rows:
            shown |= {row["name"] for row in rows}
            yield _table(run, rows, runs[:i])


def _table(run: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], earlier: Sequence[Mapping[str, Any]]) -> str:
    before: dict[tuple[str, str], list[float]] = {}
    for row in (row for one in earlier for row in one["results"]):
        before.setdefault((row["name"], row["unit"]), []).append(row["value"])
    known = {"date", "commit", "machine", "results", "load", "torch"}
    others = "".join(
        f"; {name} {value}" for name, value in run.items() if name not in known and value not in ("", None)
    )
    load = "" if run.get("load") is None else f"; load {run['load']:g}"
    when = f"{run['date'][:10]}, commit {run['commit']}, torch {run.get('torch')}"
    lines = ["| what | figure | before | bar | reached |", "| --- | --- | --- | --- | --- |"]
    lines += [_line(row, before.get((row["name"], row["unit"]), [])) for row in rows]
    facts = f"{_machine(run['machine'])}; {when}{load}{others}."
    return f"{_cell(facts)}\n\n" + "\n".join(lines)


def _line(row: Mapping[str, Any], before: Sequence[float]) -> str:
    bar = "" if row["bar"] is None else f"at {'most' if row['most'] else 'least'} {row['bar']:g}"
    reached = {None: "", True: "yes", False: "no"}[row["passes"]]
    figure = f"{row['value']:.3g} {row['unit']}".strip()
    earlier = f"{median(before):.3g} ({len(before)})" if before else ""
    return "| " + " | ".join(map(_cell, (row["name"], figure, earlier, bar, reached))) + " |"


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("<", "&lt;").replace("\n", " ")


if __name__ == "__main__":
    print(page(history.read()), end="")
