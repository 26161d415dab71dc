"""Every random number that training draws, as a function of (seed, step, layer, element) only.

Two members with the same seed therefore see the same noise, whatever else is trained beside them, in whatever
order, and from whatever step they continue.
"""

import hashlib
import math
import random
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

_BATCH_ORDER, _DROPOUT, _GLOBAL, _NAMED = 0, 1, 2, 3  # streams of numbers that must not coincide; names come last
_entered = threading.local()
_lock = threading.RLock()
_MANY = 1 << 10  # numbers, of which NumPy's generator would take long


def batch_order(n_rows: int, seed: int, epoch: int) -> Int64[Tensor, " N"]:
    """Return the order in which a seed's members see their `n_rows` training rows in an epoch (drawn on the CPU)."""
    return torch.randperm(n_rows, generator=_generator("cpu", seed, epoch, _BATCH_ORDER))


def dropout_uniforms(
    seeds: Sequence[int],
    step: int,
    shapes: Sequence[Sequence[int]],
    device: str | torch.device = "cpu",
    drawing: bool = True,
) -> list[Float[Tensor, "S ..."]]:
    """Return the uniforms in [0, 1) behind every dropout layer at one step, float32, one draw for each seed.

    A float64 run draws the same numbers as a float32 run, so that both drop the same units. The CPU's numbers come
    from NumPy's SFC64, which is faster than torch's generator there; another device has its own.

    Args:
        seeds: the S seeds.
        step: number of the training step, from 0.
        shapes: of the uniforms of each layer.
        device: where they are needed.
        drawing: whether any unit is dropped; else all are 0, and lie in memory like those that are drawn.
    """
    sizes = [math.prod(shape) for shape in shapes]
    make = torch.empty if drawing else torch.zeros
    drawn = make(len(seeds), sum(sizes), device=device, dtype=torch.float32)
    if not sizes:
        return []
    if drawing:
        _fill(drawn, seeds, step)
    return [part.view(len(seeds), *shape) for part, shape in zip(drawn.split(sizes, dim=1), shapes, strict=True)]


def _fill(drawn: Float[Tensor, "S _"], seeds: Sequence[int], step: int) -> None:
    for row, seed in zip(drawn, seeds, strict=True):
        if drawn.device.type == "cpu":
            _uniform(row.numpy(), _numpy((seed, step, _DROPOUT)))
        else:
            row.uniform_(generator=_generator(drawn.device, seed, step, _DROPOUT))


def _numpy(stream: Sequence[int]) -> np.random.Generator:
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(stream)))


def _uniform(out: np.ndarray, generator: np.random.Generator) -> None:
    """Fill a row of float32 with what `generator.random` gives, many of them in half its time."""
    bits = generator.bit_generator
    if out.size < _MANY or out.size % 2 or bits.state["has_uint32"]:  # half of 64 bits is left, or would be
        generator.random(dtype=np.float32, out=out)
        return
    halves = bits.random_raw(out.size // 2).astype("<u8", copy=False).view("<u4")
    halves >>= 8  # to the 24 bits that a float32 has
    out[...] = halves.view("<i4")  # the same numbers, which are converted faster
    out *= np.float32(2**-24)


class StepDraws:
    """A knob's random numbers at one step (`dampen.engine.knobs.Draws`): a stream of its own for each seed.

    Args:
        seeds: the S seeds.
        step: number of the training step, from 0.
        name: of the stream: the knob's, and the site's number where it has several.
        device: where the numbers are needed.
    """

    def __init__(self, seeds: Sequence[int], step: int, name: str, device: str | torch.device = "cpu"):
        self.n_seeds, self._device = len(seeds), torch.device(device)
        stream = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=7).digest(), "little") + _NAMED
        self._streams = [(seed, step, stream) for seed in seeds]

    @cached_property
    def _on_cpu(self) -> list[np.random.Generator]:
        return [_numpy(stream) for stream in self._streams]

    @cached_property
    def _torch(self) -> list[torch.Generator]:
        return [_generator(self._device, *stream) for stream in self._streams]

    def uniform(self, *shape: int) -> Float[Tensor, "S ..."]:
        """Return numbers in [0, 1), `[S, *shape]`, float32."""
        if self._device.type != "cpu":
            return torch.stack([torch.rand(shape, generator=g, device=self._device) for g in self._torch])
        drawn = np.empty((self.n_seeds, math.prod(shape)), dtype=np.float32)
        for row, generator in zip(drawn, self._on_cpu, strict=True):
            _uniform(row, generator)
        return torch.from_numpy(drawn).view(self.n_seeds, *shape)

    def normal(self, *shape: int) -> Float[Tensor, "S ..."]:
        """Return standard normal numbers, `[S, *shape]`, float32, from torch's generators, which are twice as fast."""
        drawn = torch.empty(self.n_seeds, *shape, device=self._device, dtype=torch.float32)
        for row, generator in zip(drawn, self._torch, strict=True):
            row.normal_(generator=generator)
        return drawn


def own_draws(
    seeds: Sequence[int],
    step: int,
    draws: Sequence[tuple[str, Sequence[int]]],
    device: str | torch.device = "cpu",
) -> list[Float[Tensor, "S ..."]]:
    """Return the numbers of each place where a network draws its own at one step, a stream for each seed and place.

    Args:
        seeds: the S seeds.
        step: number of the training step, from 0.
        draws: kind, `uniform` or `normal`, and shape of each.
        device: where they are needed.
    """
    streams = [StepDraws(seeds, step, f"own/{number}", device) for number in range(len(draws))]
    return [
        (stream.normal if kind == "normal" else stream.uniform)(*shape)
        for stream, (kind, shape) in zip(streams, draws, strict=True)
    ]


@contextmanager
def alone() -> Iterator[None]:
    """Let no other thread of the engine use the global generators, which all threads share."""
    with _lock:
        yield


@contextmanager
def forked(devices: Sequence[int] = ()) -> Iterator[None]:
    """Leave torch's global generators as they were, `alone`.

    Args:
        devices: GPUs whose generators are meant, too.
    """
    with alone(), torch.random.fork_rng(devices=list(devices), device_type="cuda"):
        yield


@contextmanager
def global_generators(seed: int, step: int) -> Iterator[None]:
    """Let whatever draws from the global generators of torch, NumPy and Python draw by (seed, step) alone.

    They are left as they were. For networks that are random in a way of their own.
    """
    number = _hash(seed, step, _GLOBAL)
    with kept_generators():
        torch.default_generator.manual_seed(number)  # torch.manual_seed formats a traceback for devices not yet in use
        if torch.cuda.is_initialized():
            torch.cuda.manual_seed_all(number)
        random.seed(number)
        np.random.seed(number % 2**32)
        yield


@contextmanager
def kept_generators() -> Iterator[None]:
    """Leave the global generators of torch, NumPy and Python as they were; the outermost of nested ones does it."""
    if getattr(_entered, "kept", False):
        yield
        return
    with alone(), _kept():
        yield


@contextmanager
def _kept() -> Iterator[None]:
    python, numpy = random.getstate(), np.random.get_state()
    _entered.kept = True
    try:
        with _forked():
            yield
    finally:
        _entered.kept = False
        random.setstate(python)
        np.random.set_state(numpy)


@contextmanager
def _forked() -> Iterator[None]:
    """Leave torch's global generators as they were; `fork_rng` alone takes longer where only the CPU's is in use."""
    if torch.cuda.is_initialized():
        with torch.random.fork_rng():
            yield
        return
    state = torch.default_generator.get_state()
    try:
        yield
    finally:
        torch.default_generator.set_state(state)


def _generator(device: str | torch.device, seed: int, step: int, stream: int) -> torch.Generator:
    """Return a generator whose state is a hash of its arguments: counters close to each other share nothing."""
    return torch.Generator(device).manual_seed(_hash(seed, step, stream))


def _hash(*numbers: int) -> int:
    digest = hashlib.blake2b(struct.pack(f"<{len(numbers)}q", *numbers), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
