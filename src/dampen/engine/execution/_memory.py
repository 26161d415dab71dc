"""How many members train at a time: as many as the cache holds well, and as the memory holds at all."""

import math
import os
from pathlib import Path

import torch

from dampen.errors import InputError

# Of a chunk, measured on two cores with 1 MiB of L2 cache each and 32 MiB of L3: a step slows down beyond, and small
# chunks pay Python's time more often.
_PARAMETER_BYTES = 16 << 20  # with three times as many for gradients and the optimizer's numbers
_ACTIVATION_BYTES = 48 << 20
_SHARE_OF_MEMORY = 0.25  # of what is free, for the activations of one chunk


def members_at_once(parameter_bytes: int, activation_bytes: int, device: torch.device) -> int:
    """Return how many members a chunk should have.

    Args:
        parameter_bytes: of one member's parameters.
        activation_bytes: of what one member's forward pass keeps.
        device: where they train.
    """
    in_memory = _SHARE_OF_MEMORY * free_memory(device) / max(1, 2 * activation_bytes + parameter_bytes)
    in_cache = min(_PARAMETER_BYTES / max(1, parameter_bytes), _ACTIVATION_BYTES / max(1, activation_bytes))
    return max(1, int(min(in_memory, in_cache if device.type == "cpu" else math.inf)))


def check_memory(members: int, state_bytes: int, device: torch.device) -> None:
    """Refuse a population whose weights and optimizer numbers alone do not fit into memory.

    Raises:
        InputError: they do not.
    """
    needed, free = members * state_bytes, free_memory(device)
    if needed > free:
        raise InputError(
            f"{members} members need {needed / 2**30:.1f} GiB for weights and optimizer, {free / 2**30:.1f} GiB are "
            f"free on {device}: train at most {max(1, int(free // state_bytes))} at a time"
        )


def free_memory(device: torch.device) -> float:
    """Return the bytes that are free on a device; 4 GiB where that is unknown."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    free = 4.0 * 2**30
    try:
        with open("/proc/meminfo") as lines:
            free = next(int(line.split()[1]) * 1024.0 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        if hasattr(os, "sysconf") and "SC_AVPHYS_PAGES" in os.sysconf_names:
            free = float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return max(min(free, _free_in_container()), 0.0)


def _free_in_container() -> float:
    """Return the bytes below the memory limit of this Linux control group, infinite where there is none."""
    group = Path("/sys/fs/cgroup")
    try:
        limit = float((group / "memory.max").read_text())  # "max", no limit, is no number
        used = float((group / "memory.current").read_text())
        statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return math.inf
    return limit - used + float(statistics.get("inactive_file", 0))  # cached files give way


def cut(shape: tuple[int, int], at_once: int) -> list[tuple[slice, slice]]:
    """Cut seeds times settings into rectangles of at most `at_once` members, evenly and as few as can be.

    A seed's settings stay together where they can: they share its batches and its noise.
    """
    S, M = shape
    per_row = math.ceil(M / math.ceil(M / min(M, at_once)))  # settings in a chunk
    per_column = min(S, max(1, at_once // M))  # seeds in a chunk
    per_column = math.ceil(S / math.ceil(S / per_column))
    return [
        (slice(s, min(S, s + per_column)), slice(m, min(M, m + per_row)))
        for s in range(0, S, per_column)
        for m in range(0, M, per_row)
    ]
