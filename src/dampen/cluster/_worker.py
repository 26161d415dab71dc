"""What a worker does: train a slice of a population for some epochs, and hand back what it came to."""

import platform
import socket
import time
import warnings
from importlib.metadata import version
from typing import NamedTuple

import numpy as np
import torch

from dampen.cluster._rows import Packed, unpacked
from dampen.engine import Part, Programs, Slice, TrainConfig
from dampen.errors import InputError

_programs: dict[str, Programs] = {}  # of the model that this process has last trained: recorded once, not in each task


class Reached(NamedTuple):
    """How far a slice came.

    Args:
        epoch: that all its members have trained for.
        ended: whether none of them goes on: all have diverged or stopped.
        seconds: that it took.
        node: name of the machine.
        separable: whether its members' numbers do not depend on their slice.
    """

    epoch: int
    ended: bool
    seconds: float
    node: str
    separable: bool


def versions() -> dict[str, str]:
    """Return the versions on which a result's last digits depend."""
    return {
        "dampen": version("dampen"),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "Python": ".".join(platform.python_version_tuple()[:2]),
    }


def check_versions(driver: dict[str, str]) -> None:
    """Refuse to train beside another version.

    Raises:
        InputError: one of them differs from the driver's.
    """
    for name, here in versions().items():
        if here != driver[name]:
            raise InputError(
                f"the worker on {socket.gethostname()} has {name} {here}, the study runs with {driver[name]}, so that "
                "results could differ: install the same version on every machine"
            )


def train(
    model: str,
    one: Slice,
    rows: Packed,
    config: TrainConfig,
    part: Part | None,
    until: int,
    evaluate_every: int | None,
    driver: dict[str, str],
    threads: int,
) -> tuple[Reached, Part]:
    """Train a slice up to an epoch.

    Args:
        model: a name of what makes the networks, no other's.
        one: the slice.
        rows: of each seed of its population.
        config: how members train.
        part: what the members hold; None before their first epoch.
        until: the epoch.
        evaluate_every: as for `Population.fit`.
        driver: the versions that the study runs with.
        threads: of the processor.

    Raises:
        InputError: this worker has other versions, or the network fails.
    """
    begun = time.perf_counter()
    check_versions(driver)
    torch.set_num_threads(threads)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the driver has warned already
        if model not in _programs:
            _programs.clear()
        programs = _programs.setdefault(model, {})
        every = evaluate_every
        found = one.train(unpacked(rows), config, part, until=until, evaluate_every=every, programs=programs)
    ended = bool(found.snapshot.members["held"].all())
    separable = programs[one.key][0].separable
    return Reached(found.epoch, ended, time.perf_counter() - begun, socket.gethostname(), separable), found
