"""How much memory there is: what a file announces is compared with it before anything is allocated."""

import contextlib
import os
from pathlib import Path

from dampen.errors import InputError

_UNKNOWN = 8e9  # bytes, where the system gives none
_UNITS = (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3))
_STEPS = 4  # copies of an array on its way to a network's inputs: as read, as float64, as float32, joined


def free_bytes() -> float:
    """Return how many bytes may be allocated: what is available on Linux, what is free elsewhere, within a limit."""
    free = _UNKNOWN
    with contextlib.suppress(ValueError, OSError, AttributeError):
        free = float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text().splitlines()  # counts caches that give way
        free = 1024.0 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    with contextlib.suppress(ImportError, OSError, ValueError, IndexError):
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
            free = min(free, max(0.0, float(limit - used)))
    return free


def check(n_bytes: int, what: str) -> None:
    """Refuse what would not fit, with the copies that are made of it.

    Raises:
        InputError: it opens with `what`.
    """
    if n_bytes * _STEPS > free_bytes():
        raise InputError(
            f"{what} holds {_size_text(n_bytes)}, more than a quarter of the free memory; give a part of it"
        )


def _size_text(n_bytes: int) -> str:
    unit, size = next(((unit, size) for unit, size in _UNITS if n_bytes >= size), ("bytes", 1))
    return f"{n_bytes / size:.3g} {unit}"
