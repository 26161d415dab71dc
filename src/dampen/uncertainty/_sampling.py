"""A network's outputs under many dropout masks: many samples at a time, within the memory that is allowed."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.func import vmap

from dampen.engine import free_memory, warn
from dampen.engine.capture import Place, Staged, in_one_line, quiet, rates_at, record_staged
from dampen.engine.compiled import CompiledStep, NoCompiler, Untranslatable
from dampen.engine.knobs.noise.dropout import Rates
from dampen.errors import InputError, NotFusedWarning, NotSampled
from dampen.uncertainty._masks import Masked, Numbers
from dampen.uncertainty._sites import RandomPlace, Sites, answer, check_rows, find, sampling, tensor_of

# Measured with 784-256-128-10 on two cores with 2 MiB of L2 cache each: fewer bytes cost more calls, more the cache.
_AT_ONCE_BYTES = 48 << 20  # of everything that a forward pass makes, for all samples and rows that run at once
_ROWS = 256  # at once: enough for the layers before the first dropout to run well
_SHARE_OF_MEMORY = 0.25
_OUTPUTS = 1 << 19  # numbers that are handed over together: fewer cost more calls
_KEPT_BYTES = 64 << 20  # of the numbers behind the samples' masks: more are drawn again for other rows
_ALIVE = 2  # bytes for each one counted by the forward pass's functions: what they make inside counts, too
_WORTH_COMPILING = 2 << 30  # bytes that all passes make, from which on compiled code makes up for the compiler's time
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}  # of outputs, relative to their largest; other types: 0.05


@dataclass(frozen=True)
class Part:
    """Some samples of some rows.

    Args:
        start: the first row.
        stop: the row after the last.
        first: number of the first sample.
        outputs: `[T, B, ...]`.
        repeats: how many samples each of them stands for, where nothing is random.
    """

    start: int
    stop: int
    first: int
    outputs: Tensor
    repeats: int = 1


Function = Callable[[list[Tensor], list[Tensor], list[Tensor]], Tensor]
"""Takes inputs, numbers of rows and numbers of samples; returns the network's outputs, `[T, B, ...]`."""


def sample(
    network: nn.Module,
    inputs: Sequence[Tensor],
    samples: int,
    seed: int,
    *,
    member: int = 0,
    first_row: int = 0,
    max_bytes: int | None = None,
    dropout: Rates | None = None,
    take: Callable[[Part], object],
) -> bool:
    """Hand over a network's outputs for rows under dropout, part by part: all samples of some rows, then the next rows.

    Returns whether samples differ: not where the network drops units at rates of 0 only.

    Args:
        network: any; it leaves as it came.
        inputs: `[N, ...]` for each of its arguments.
        samples: how many.
        seed: of the masks.
        member: which network of an ensemble.
        first_row: number of the first row, for a part of longer data.
        max_bytes: that intermediate results may take.
        dropout: rates instead of the network's own, as in a `Setting`.
        take: is called with each part.

    Raises:
        InputError: as for `mc_dropout`.
    """
    N = len(inputs[0])
    sites = find(network, inputs)
    if dropout is not None:
        rates = rates_of(sites.places, dropout)
        places = tuple(replace(place, p=p) for place, p in zip(sites.places, rates, strict=True))
        sites = replace(sites, places=places)
    if sites.others:
        warn(
            f"random in training in a way of their own, and left out of the samples: {', '.join(sites.others)}; build "
            "them of nn.Dropout or F.dropout, whose masks can be sampled",
            NotSampled,
            stacklevel=4,
        )
    if all(place.p == 0 for place in sites.places):
        for start in range(0, N, _ROWS):
            with sampling(network, frozenset()), quiet():
                here = [t[start : start + _ROWS] for t in inputs]
                output = answer(network, here)
            check_rows(output, len(here[0]))
            take(Part(start, start + len(output), 0, output.unsqueeze(0), samples))
        return False
    rows, at_once = cut(N, samples, sites, inputs, max_bytes)
    limit = _KEPT_BYTES if max_bytes is None else min(_KEPT_BYTES, max_bytes // 8)
    drawn = at_once * math.ceil(samples / at_once)  # the last samples run with some more: one shape serves all
    few = drawn * sum(math.prod(place.row) for place in sites.places) * 4 <= limit
    numbers = Numbers(sites.places, seed, member, inputs[0].device, keep=drawn if few else 0)
    together = min(_OUTPUTS, limit // 8)
    with sampling(network, sites.modules), quiet():
        batched: Batched | None = None if sites.plain else Batched(network, sites)
        for start in range(0, N, rows):
            begin = max(0, min(start, N - rows))  # the last rows run with some of those before: one shape serves all
            here = [t[begin : begin + rows] for t in inputs]
            b = numbers.of_rows(first_row + begin, first_row + begin + len(here[0]))
            if batched is not None:
                with in_one_line(network, lambda here=here: [here]):
                    batched = batched.on(here, b, numbers.of_samples(0, at_once)) if start == 0 else batched.at(here, b)
                if batched is not None and start == 0 and N * samples * sites.row_bytes >= _WORTH_COMPILING:
                    batched.compile(here, b, numbers.of_samples(0, 1))
            if batched is None and start == 0:
                warn(
                    "the network can't be sampled many times at once: it runs once for each sample, with the same "
                    "results, but slower",
                    NotFusedWarning,
                    stacklevel=4,
                )
            held: list[Tensor] = []
            for first in range(0, samples, at_once):
                a = numbers.of_samples(first, first + at_once)
                with in_one_line(network, lambda here=here: [here]):
                    outputs = batched.late(a) if batched is not None else one_by_one(network, sites, here, b, a)
                held.append(outputs[: samples - first, start - begin :])
                n, last = sum(map(len, held)), first + at_once >= samples
                if last or n * held[0][0].numel() >= together:
                    joined = held[0] if len(held) == 1 else torch.cat(held)
                    take(Part(start, begin + len(here[0]), min(first + at_once, samples) - n, joined))
                    held = []
    return True


def rates_of(places: Sequence[RandomPlace], dropout: Rates) -> list[float]:
    """Return the rate at each place under a setting's `dropout`."""
    return rates_at(dropout, [Place(place.module, place.kind, place.p, place.row) for place in places])


class Batched:
    """Runs a network for many samples at once: its operations under `vmap`, recorded once and cut in two.

    What comes before the first dropout runs once for some rows, what follows runs for every sample.
    """

    def __init__(self, network: nn.Module, sites: Sites):
        self._network, self._found = network, sites
        self._step: CompiledStep | None = None

    def on(self, inputs: list[Tensor], b: list[Tensor], a: list[Tensor]) -> "Batched | None":
        """Record on the first rows; None if the network can't run so, or returns something else then."""
        try:
            staged = self._recorded(inputs, b, a)
        except InputError:
            raise
        except Exception:  # no batching rule, or a decision by a tensor's value: sample by sample then
            return None
        if staged is None:
            return None
        self._early, self._late = staged.early, staged.late
        self.at(inputs, b)
        return self if self._right(inputs, b, a) else None

    def compile(self, inputs: list[Tensor], b: list[Tensor], a: list[Tensor]) -> None:
        """Let compiled code do what follows the first dropout, a sample on each core, where it can be compiled.

        Args:
            inputs: the first rows.
            b: their numbers.
            a: one sample's numbers.
        """
        if any(t.device.type != "cpu" for t in inputs):
            return
        staged = self._recorded(inputs, b, a)
        if staged is None:
            return
        known = staged.early(*inputs, *b)
        kinds = [*[(False, False)] * len(known), *[(True, False)] * len(a)]
        try:
            self._step = CompiledStep(staged.recording, [*known, *a], kinds, axes=1)
        except (Untranslatable, NoCompiler):
            return
        late, early = self._late, self._early

        def compiled(*tensors: Tensor) -> list[Tensor]:
            assert self._step is not None
            return self._step(tensors, len(tensors[-1]), 1)

        self._late, self._early = compiled, staged.early
        self.at(inputs, b)
        if not self._right(inputs, b, a):
            self._late, self._early = late, early
            self.at(inputs, b)

    def _recorded(self, inputs: list[Tensor], b: list[Tensor], a: list[Tensor]) -> Staged | None:
        n, places = len(inputs), self._found.places

        def function(*tensors: Tensor) -> list[Tensor]:
            given, of_rows, of_samples = tensors[:n], tensors[n : n + len(places)], tensors[n + len(places) :]

            def one(of_sample: list[Tensor]) -> Tensor:
                with Masked(places, of_sample, of_rows, in_place=False):
                    return tensor_of(self._network(*given))

            return [vmap(one)(list(of_samples))]

        with quiet():
            return record_staged(function, [*inputs, *b], a)

    def _right(self, inputs: list[Tensor], b: list[Tensor], a: list[Tensor]) -> bool:
        """Return whether the first and the last sample are what the network itself gives."""
        outputs = self.late(a)
        ends = sorted({0, len(outputs) - 1})
        alone = one_by_one(self._network, self._found, inputs, b, [t[ends] for t in a])
        scale = alone.nan_to_num(0, 0, 0).abs().max().clamp_min(1e-30)  # what is not finite is refused later
        apart = float(_TOLERANCE.get(alone.dtype, 0.05) * scale)
        return bool(torch.isclose(outputs[ends], alone, rtol=0, atol=apart, equal_nan=True).all())

    def at(self, inputs: list[Tensor], b: list[Tensor]) -> "Batched":
        """Go to other rows, as many as before."""
        self._known = self._early(*inputs, *b)
        return self

    def late(self, a: list[Tensor]) -> Tensor:
        """Return the network's outputs for these rows and some samples."""
        return self._late(*self._known, *a)[0]


def one_by_one(network: nn.Module, sites: Sites, inputs: list[Tensor], b: list[Tensor], a: list[Tensor]) -> Tensor:
    """Run the whole network for each sample."""
    outputs = []
    for t in range(len(a[0])):
        masked = Masked(sites.places, [numbers[t] for numbers in a], b, in_place=True)
        outputs.append(answer(network, inputs, mode=masked))
    return torch.stack(outputs)


def cut(N: int, samples: int, sites: Sites, inputs: Sequence[Tensor], max_bytes: int | None) -> tuple[int, int]:
    """Return how many rows and how many samples run at once.

    Raises:
        InputError: `max_bytes` is too little for one sample of one row.
    """
    device = inputs[0].device
    masks = sum(math.prod(place.row) * (4 + inputs[0].element_size()) for place in sites.places)
    each = _ALIVE * (sites.row_bytes + masks)
    free = _SHARE_OF_MEMORY * free_memory(device)
    room = min(free, _AT_ONCE_BYTES) if device.type == "cpu" else free
    if max_bytes is not None:
        if max_bytes < each:
            raise InputError(f"max_bytes must be at least {each}, what one sample of one row takes; got {max_bytes}")
        room = min(room, max(each, max_bytes * 3 // 4))  # the rest is for numbers and outputs that are kept a while
    work = max(1, int(room // each))
    rows = min(N, _ROWS, max(1, work // min(8, samples)))
    rows = math.ceil(N / math.ceil(N / rows))
    at_once = min(samples, max(1, work // rows))
    return rows, math.ceil(samples / math.ceil(samples / at_once))
