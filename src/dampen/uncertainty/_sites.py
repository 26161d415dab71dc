"""Which dropout a network has, and the state in which it is sampled: only what drops is random, nothing else changes.

Dropout is found by running a copy of the network, so that functions and attention count as well as layers.
"""

import contextlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from dampen._io import counted
from dampen.engine import copied, global_generators
from dampen.engine.capture import (
    CatchDropout,
    Kind,
    ModulePath,
    Place,
    RecordDropout,
    alone,
    describe_output,
    failure,
    first_line,
    forward,
    named,
)
from dampen.errors import InputError

_NORMALISATION = (nn.modules.batchnorm._NormBase,)  # batch and instance normalisation: what they do follows their mode


class NothingDrops(InputError):
    """A network without dropout."""


@dataclass(frozen=True)
class RandomPlace:
    """One place where a network drops units.

    Args:
        module: path of the module that does.
        kind: as for training.
        p: the rate.
        dim: dimension along which the rows of a batch lie; None where the mask is the same for all rows.
        row: shape of one row's part of the mask: the mask's own, with the number of entries for each row at `dim`.
    """

    module: str
    kind: Kind
    p: float
    dim: int | None
    row: tuple[int, ...]


@dataclass(frozen=True)
class Sites:
    """How a network is sampled.

    Args:
        places: where it drops units, in the order of the forward pass.
        modules: paths of those that are random, in training mode while the network is sampled.
        row_bytes: size of what the forward pass makes for one row.
        plain: why the network must run sample by sample; None if it need not.
        others: class and path of modules that are random in training otherwise than by dropout.
    """

    places: tuple[RandomPlace, ...]
    modules: frozenset[str]
    row_bytes: int
    plain: str | None
    others: tuple[str, ...] = ()


class Sampling(CatchDropout):
    """Keeps normalisation that a module calls as a function in evaluation, whatever the module's mode."""

    def other(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Run a function that drops nothing."""
        if func is F.batch_norm:
            args, kwargs = _in_evaluation(*args, **kwargs)
        return func(*args, **kwargs)


class Watch(RecordDropout):
    """Records where a forward pass drops units while normalisation is in evaluation, and drops nothing.

    Args:
        where: the module that a forward pass is in.
    """

    def __init__(self, where: ModulePath):
        super().__init__(where)
        self.drew: dict[str, None] = {}
        """Modules that have drawn random numbers."""
        self._states = _generator_states()

    def look(self) -> None:
        """Note the module that runs if random numbers have been drawn since the last look."""
        states = _generator_states()
        if states != self._states:
            self.drew[self._where.current] = None
            self._states = states

    def recurrent(self, number: int, func: Any, args: Any, place_of_p: int, kwargs: Any) -> Any:
        """Note the place; its mask has the shape `[rows, gaps between layers, steps, outputs]`."""
        result = func(*args[:place_of_p], 0.0, *args[place_of_p + 1 :], **kwargs)
        gaps, output = args[place_of_p - 1] - 1, result[0]
        p = float(args[place_of_p]) if gaps else 0.0  # nothing lies between one layer and itself
        packed = place_of_p == 6
        batch_first = not packed and args[-1]
        rows = (gaps, *output.shape) if packed else (output.shape[0 if batch_first else 1], gaps)
        steps = () if packed else (output.shape[1 if batch_first else 0], output.shape[2])
        self.places.append(Place(self._where.current, "recurrent", p, (*rows, *steps)))
        return result

    def other(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Note the call, and the module if it draws random numbers."""
        if func is F.batch_norm:
            args, kwargs = _in_evaluation(*args, **kwargs)
        result = super().other(func, args, kwargs)
        self.look()
        return result


def find(network: nn.Module, inputs: Sequence[Tensor]) -> Sites:
    """Run a copy of a network on a few rows to see where it drops units.

    Args:
        network: in whatever mode.
        inputs: `[N, ...]` for each of its arguments.

    Raises:
        InputError: it can't be copied or run, gives no tensor with a row for each row, drops no units, draws random
            numbers in another way, or changes its buffers where it drops.
    """
    for module in network.modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise InputError("the network is a torch.jit script, whose dropout can't be seen: give the Python module")
    try:
        # Parameters are shared with the copy, not copied: nothing changes them.
        twin = copied(network, shared=True)
    except Exception as e:
        raise InputError(f"the network can't be copied to see where it drops units: {first_line(e)}") from e
    for module in twin.modules():
        module.training = not isinstance(module, _NORMALISATION)
    with global_generators(0, 0):
        seen, *_ = _watched(twin, _few(inputs, 2))
    modules = frozenset(place.module for place in seen.places)
    others = tuple(named(network, module) for module in seen.drew if module not in modules)
    if not modules and others:
        raise NothingDrops(
            f"random in training in a way of their own, which can't be sampled: {', '.join(others)}; nothing in the "
            "network is nn.Dropout or F.dropout: build it of these, or predict without samples"
        )
    if not modules:
        raise NothingDrops(
            "the network drops no units, so that all samples would be the same: predict without samples, or build "
            "dropout into it"
        )
    set_random(twin, modules)
    before = {name: b.clone() for name, b in twin.named_buffers()}
    with global_generators(0, 0):
        states = _generator_states()
        two, output = _watched(twin, _few(inputs, 2))
        drew = _generator_states() != states
    if drew:
        raise InputError(
            "the network draws random numbers in another way than by dropout while it drops: put the dropout into "
            "modules of its own, such as nn.Dropout"
        )
    for name, b in twin.named_buffers():
        if not torch.equal(b, before[name]):
            raise InputError(
                f"the network changes its buffer {name} while it drops: put the dropout into modules of its own, "
                "such as nn.Dropout, so that the rest can stay in evaluation mode"
            )
    check_rows(output, 2)
    three, output = _watched(twin, _few(inputs, 3))
    check_rows(output, 3)
    if len(two.places) != len(three.places):
        raise InputError("the network drops units in another number of places when a batch has more rows")
    places = tuple(_place(a, b) for a, b in zip(two.places, three.places, strict=True))
    recurrent = next((place.module for place in places if place.kind == "recurrent"), None)
    plain = (
        None if recurrent is None else f"{recurrent or 'the network'} is recurrent: torch has no batching rule for it"
    )
    return Sites(places, modules, max(1, three.activation_bytes - two.activation_bytes), plain, others)


def set_random(network: nn.Module, modules: frozenset[str]) -> None:
    """Set these modules, and only themselves, to training mode, everything else to evaluation mode."""
    for name, module in network.named_modules():
        module.training = name in modules


@contextlib.contextmanager
def sampling(network: nn.Module, modules: frozenset[str]) -> Iterator[None]:
    """Let a network be random where it drops units and nowhere else; it leaves as it came."""
    came = {module: module.training for module in network.modules()}
    buffers = {name: b.clone() for name, b in network.named_buffers()}
    set_random(network, modules)
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in came.items():
            module.training = training
        for name, b in network.named_buffers():
            if not torch.equal(b, buffers[name]):
                b.copy_(buffers[name])


def _watched(network: nn.Module, inputs: Sequence[Tensor]) -> tuple[Watch, Any]:
    where = ModulePath(network)
    watch = Watch(where)
    shapes = " and ".join(str(list(t.shape)) for t in inputs)
    with torch.no_grad():
        output = forward(
            lambda: answer(network, inputs, where), where, watch, f"the network fails on a batch of shape {shapes}"
        )
    watch.look()
    return watch, output


def answer(
    network: nn.Module,
    inputs: Sequence[Tensor],
    where: ModulePath | None = None,
    mode: contextlib.AbstractContextManager[Any] | None = None,
) -> Any:
    """Return a network's outputs for rows.

    Args:
        network: any.
        inputs: one batch for each of its arguments.
        where: the module that a forward pass is in; without it a network that fails runs again, to find the module.
        mode: is entered meanwhile.

    Raises:
        InputError: it fails.
    """
    try:
        with mode or contextlib.nullcontext():
            return tensor_of(network(*inputs))
    except (InputError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as e:
        whole = [str(t.dtype).removeprefix("torch.") for t in inputs if not t.is_floating_point()]
        kind = f"; x holds {whole[0]} numbers: x.float() makes them real ones" if whole and "dtype" in str(e) else ""
        error = alone(network, inputs, kind) if where is None else None
        raise error or failure(e, inputs, "" if where is None else where.current, kind) from e


def check_rows(output: Any, n: int) -> None:
    """Make sure that outputs have a row for each of n rows.

    Raises:
        InputError: it returned something else than one tensor with a row for each.
    """
    if not isinstance(output, Tensor) or output.ndim == 0 or len(output) != n:
        of = f" for {counted(n, 'row')}" if isinstance(output, Tensor) else ""
        raise InputError(
            f"the network must return one tensor with a row for each row of its input, not "
            f"{describe_output(output)}{of}"
        )


def check_initialised(network: nn.Module) -> None:
    """Make sure that a network has its weights.

    Raises:
        InputError: it has lazy layers that have not run yet.
    """
    for name, t in (*network.named_parameters(), *network.named_buffers()):
        if is_lazy(t):
            raise InputError(
                f"the network's {name} has no shape yet, it is of a lazy layer: load the weights that were trained, or "
                "run the network once"
            )


def tensor_of(output: Any) -> Any:
    """Return the logits of what a network returned, where it is an object that holds them."""
    logits = None if isinstance(output, Tensor) else getattr(output, "logits", None)
    return logits if isinstance(logits, Tensor) else output


def _place(two: Place, three: Place) -> RandomPlace:
    """Find from the masks of two and of three rows along which dimension rows lie."""
    module, kind, p = two.module, two.kind, float(two.p)
    a, b = two.shape, three.shape
    if a == b:
        return RandomPlace(module, kind, p, None, a)
    changed = [d for d in range(len(a)) if len(a) == len(b) and a[d] != b[d]]
    if len(changed) != 1 or a[changed[0]] * 3 != b[changed[0]] * 2 or a[changed[0]] % 2:
        raise InputError(
            f"the mask of the dropout in {module or 'the network'} has no rows that belong to those of the input "
            f"(shape {list(a)} for 2 rows, {list(b)} for 3; packed sequences are such a case): samples of a row would "
            "depend on its batch"
        )
    d = changed[0]
    return RandomPlace(module, kind, p, d, (*a[:d], a[d] // 2, *a[d + 1 :]))


def _few(inputs: Sequence[Tensor], n: int) -> list[Tensor]:
    """Return n rows, repeated where there are fewer."""
    return [t[torch.arange(n, device=t.device) % len(t)] for t in inputs]


def _in_evaluation(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    training = training and running_mean is None
    return (input, running_mean, running_var, weight, bias, training, momentum, eps), {}


def _generator_states() -> tuple[Any, ...]:
    return (
        torch.get_rng_state().numpy().tobytes(),
        random.getstate(),
        *(part.tobytes() if isinstance(part, np.ndarray) else part for part in tuple(np.random.get_state())),
    )
