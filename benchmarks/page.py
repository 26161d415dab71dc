"""The page docs/benchmarks.md, made from the files in `results/`: `make docs`, or `python -m benchmarks.page`."""

from collections.abc import Mapping, Sequence
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
    alike: list[list[Mapping[str, Any]]] = []
    for run in runs:
        before = next((of_it for of_it in alike if _share(run, of_it)), None)
        if before is None:
            alike.append([run])
        else:
            before.append(run)
    return "\n\n".join([f"## {name}", *map(_runs, alike)])


def _share(run: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether others were on the same machine and measured something that a run measures, too."""
    same = [other for other in others if _machine(other["machine"]) == _machine(run["machine"])]
    return not {row["name"] for row in run["results"]}.isdisjoint(row["name"] for o in same for row in o["results"])


def _machine(facts: Mapping[str, Any]) -> str:
    memory = "" if facts.get("memory_gib") is None else f", {facts['memory_gib']:g} GiB"
    return f"{facts['processor']}, {facts['cores']} cores{memory}"


def _runs(runs: Sequence[Mapping[str, Any]]) -> str:
    last, before = runs[-1], {}
    for row in (row for run in runs[:-1] for row in run["results"]):
        before.setdefault((row["name"], row["unit"]), []).append(row["value"])
    known = {"date", "commit", "machine", "results", "load", "torch"}
    others = "".join(
        f"; {name} {value}" for name, value in last.items() if name not in known and value not in ("", None)
    )
    load = "" if last.get("load") is None else f"; load {last['load']:g}"
    when = f"{last['date'][:10]}, commit {last['commit']}, torch {last.get('torch')}"
    facts = f"{_machine(last['machine'])}; {when}{load}{others}."
    lines = ["| what | figure | before | bar | reached |", "| --- | --- | --- | --- | --- |"]
    lines += [_line(row, before.get((row["name"], row["unit"]), [])) for row in last["results"]]
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
