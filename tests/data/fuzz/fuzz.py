"""Reads changed files for as long as it is told: each ends in a result or in an `InputError`, within memory.

`python tests/data/fuzz/fuzz.py --minutes 60` runs every family by turns, each in processes of its own, and keeps what
fails in `fuzz-failures`, the input beside the traceback; with `npz --examples 500` it runs one.
"""

import argparse
import contextlib
import faulthandler
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

BATCH = 250  # inputs of one process
MEMORY = 1 << 30  # bytes that reading an input may take beside what the process has taken before
SECONDS = 60  # that an input may take
NAMES = ("tables", "npz", "arrow", "images", "idx", "studies", "preprocessing", "weights")


def children(names: Sequence[str], seed: int, n: int, made: Path, failures: Path) -> None:
    """Read `n` inputs of each family, and print how many ended how as JSON."""
    import warnings

    faulthandler.enable()
    warnings.simplefilter("ignore")
    print(json.dumps({name: _child(name, seed, n, made / name, failures) for name in names}))


def _child(name: str, seed: int, n: int, made: Path, failures: Path) -> dict[str, int]:
    import hypothesis
    from fuzz_families import FAMILIES
    from hypothesis import HealthCheck, Phase

    family = FAMILIES[name]
    made.mkdir(parents=True, exist_ok=True)
    if not (made / "ready").exists():
        family.made(made)
        (made / "ready").touch()
    inputs = family.inputs(made)
    endings: Counter[str] = Counter()
    current = failures / f"{name}-{seed}-current"
    base = _address_space()
    resource.setrlimit(resource.RLIMIT_AS, (base + 2 * MEMORY, resource.RLIM_INFINITY))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=n,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(inputs)
    def read(given: Any) -> None:
        shutil.rmtree(current, ignore_errors=True)
        (current / given.name).parent.mkdir(parents=True, exist_ok=True)
        (current / given.name).write_bytes(given.content)  # a process that dies leaves it
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            (folder / given.name).parent.mkdir(parents=True, exist_ok=True)
            (folder / given.name).write_bytes(given.content)
            ending, why = _ending(family, folder, given, made)
        endings[ending] += 1
        if ending == "other":
            kept = failures / f"{name}-{seed}-{endings.total()}"
            shutil.copytree(current, kept)
            (kept / "traceback.txt").write_text(why)

    read()
    shutil.rmtree(current, ignore_errors=True)
    taken = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    return {**endings, "bytes": taken}


def _ending(family: Any, folder: Path, given: Any, made: Path) -> tuple[str, str]:
    from dampen import InputError

    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        family.use(folder, given, made)
    except InputError as e:
        if len(str(e)) > 4000 or "\n" in str(e).strip():
            return "other", f"not one line: {e}"
        return "InputError", ""
    except KeyboardInterrupt:
        raise
    except BaseException:  # a panic in a Rust library is no Exception
        return "other", traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return "result", ""


def _late(*_: object) -> None:
    raise TimeoutError(f"longer than {SECONDS} s")


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def run(names: Sequence[str], seed: int, n: int, made: Path, failures: Path) -> dict[str, dict[str, int]]:
    """Read `n` inputs of each family in one process; return how many of each ended how."""
    words = [sys.executable, __file__, "--child", ",".join(names), "--seed", seed, "--examples", n]
    words += ["--made", made, "--failures", failures]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
    ended = subprocess.run(list(map(str, words)), capture_output=True, text=True, env=environment, check=False)
    with contextlib.suppress(ValueError, IndexError):
        return json.loads(ended.stdout.splitlines()[-1])
    name = next((name for name in names if (failures / f"{name}-{seed}-current").exists()), names[0])
    place = failures / f"{name}-{seed}-death"
    with contextlib.suppress(OSError):
        (failures / f"{name}-{seed}-current").rename(place)
    place.mkdir(parents=True, exist_ok=True)
    (place / "stderr.txt").write_text(f"exit code {ended.returncode}\n{ended.stderr}")
    return {name: {"death": 1}}


def main() -> int:
    """Run families for some minutes or for so many inputs; 1 where something failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("families", nargs="*", metavar="FAMILY", help=", ".join(NAMES))
    parser.add_argument("--minutes", type=float, default=60, help="for all families together")
    parser.add_argument("--examples", type=int, help="inputs of each family, instead of minutes")
    parser.add_argument("--together", action="store_true", help="all families in one process: sooner, less apart")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--failures", type=Path, default=Path("fuzz-failures"))
    parser.add_argument("--made", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.child:
        signal.signal(signal.SIGALRM, _late)
        children(told.child.split(","), told.seed, told.examples, told.made, told.failures)
        return 0
    unknown = set(told.families) - set(NAMES)
    if unknown:
        parser.error(f"{', '.join(unknown)}: the families are {', '.join(NAMES)}")
    told.failures.mkdir(parents=True, exist_ok=True)
    names, end = told.families or NAMES, time.monotonic() + 60 * told.minutes
    found: dict[str, Counter[str]] = {name: Counter() for name in names}
    most: Counter[str] = Counter()
    turn, left = told.seed, told.examples if told.examples is not None else sys.maxsize
    groups = [list(names)] if told.together else [[name] for name in names]
    with tempfile.TemporaryDirectory() as scratch:
        while left and (told.examples is not None or time.monotonic() < end):
            n = min(BATCH, left)
            left -= n
            for group in groups:
                for name, endings in run(group, turn, n, Path(scratch), told.failures).items():
                    most[name] = max(most[name], endings.pop("bytes", 0))
                    found[name] += Counter(endings)
                    print(f"{name} {turn}: {dict(endings)}", file=sys.stderr)
            turn += 1
    bad = 0
    for name, endings in found.items():
        bad += endings["other"] + endings["death"] + (most[name] > MEMORY)
        print(f"{name}: {endings.total()} inputs, {dict(endings)}, {most[name] / 1e6:.0f} MB at most")
    print(f"{sum(e.total() for e in found.values())} inputs, {bad} failures" + f", see {told.failures}" * bool(bad))
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
