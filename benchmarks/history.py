"""What benchmarks have found: `results/` has a file of JSON lines for each, in which every run adds a line."""

import datetime
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"


def append(
    benchmark: str, results: Sequence[Mapping[str, Any]], facts: Mapping[str, Any], folder: Path = RESULTS
) -> Path:
    """Add a run to a benchmark's file.

    Args:
        benchmark: its name, such as `population`.
        results: its rows: name, value, unit, bar, most, passes.
        facts: what else is to be known: data, rows, threads, version of torch.
        folder: of the files.
    """
    run = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,  # of everything on the machine
        **facts,
        "results": list(results),
    }
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{benchmark}.jsonl"
    with file.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(run, ensure_ascii=False) + "\n")
    return file


def read(folder: Path = RESULTS) -> dict[str, list[dict[str, Any]]]:
    """Return every benchmark's runs, the oldest first."""
    return {
        file.stem: [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        for file in sorted(folder.glob("*.jsonl"))
    }


def running() -> str:
    """Return the name of the benchmark that this process runs: `population` of `python -m benchmarks.population`."""
    main = sys.modules["__main__"]
    return main.__spec__.name.rpartition(".")[2] if main.__spec__ else Path(str(main.__file__)).stem


def machine() -> dict[str, Any]:
    """Return the processor's model, the cores that this process may use, and the memory in GiB."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = None
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
    return {"processor": _processor(), "cores": cores, "memory_gib": memory}


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def commit() -> str | None:
    """Return the commit that is checked out, with `+` where files differ from it; None outside of a repository."""
    revision = _git("rev-parse", "--short=12", "HEAD")
    changed = _git("status", "--porcelain", "--", "src", "benchmarks/*.py")
    return revision and revision + ("+" if changed else "")


def _git(*words: str) -> str | None:
    try:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
