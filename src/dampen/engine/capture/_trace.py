"""Run one member's network once, in the ordinary way, to see what it does: where it drops, what it calls."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from dampen._checks import is_number
from dampen.engine import _losses, _rng
from dampen.engine._copies import attributes, copied
from dampen.engine.capture._draws import Draw
from dampen.engine.capture._forward import forward, quiet
from dampen.engine.capture._module_path import ModulePath, named
from dampen.engine.capture._outputs import are_probabilities, describe_output
from dampen.engine.capture._record_dropout import RecordDropout
from dampen.engine.capture._sites import Place
from dampen.engine.knobs import Site
from dampen.errors import InputError

_MUCH_LATER = 100_000  # of a number that counts
_PASSES = 5  # each must move a generator before that is the network's doing: another thread may draw, too


@dataclass(frozen=True)
class Trace:
    """What one training-mode forward pass of a member showed.

    Args:
        places: where it drops units.
        sites: where knobs on activations can act.
        functions: by module, the torch functions it calls.
        activation_bytes: size of what these functions return.
        stateful: the module that changes something other than a tensor while it runs, or draws from Python's or
            NumPy's generator, and what; None if there is none. What such a network does can't be recorded once.
        ends: `softmax` or `sigmoid` where its outputs are probabilities, None where they are not.
        one_output: whether it gives one number a row.
        last: the function that gave its outputs.
        draws: where it draws random numbers of its own.
        map_bytes: sizes of what its convolutions return.
    """

    places: tuple[Place, ...]
    sites: tuple[Site, ...]
    functions: dict[str, set[Any]]
    activation_bytes: int
    stateful: tuple[str, str] | None
    ends: str | None = None
    one_output: bool = False
    last: str = ""
    draws: tuple[Draw, ...] = ()
    map_bytes: tuple[int, ...] = ()


@_rng.alone()
def trace(network: nn.Module, state: Mapping[str, Tensor], inputs: Sequence[Tensor], additions: bool = False) -> Trace:
    """Run a copy of a network on a batch.

    Args:
        network: in training mode.
        state: one member's parameters and buffers.
        inputs: one batch `[B, ...]` for each argument.
        additions: whether to look for residual branches, too.

    Raises:
        InputError: the network can't take such a batch, gives something else than one tensor with a row for each, or
            puts a new tensor in the place of a buffer.
    """
    network, fresh = copied(network), network
    where = ModulePath(network)
    state = {name: t.clone() for name, t in state.items()}
    before = attributes(network)
    generators = _generators()
    recorded = RecordDropout(where, additions)
    replaced: list[str] = []
    network.register_forward_hook(
        lambda *_: replaced.extend(name for name, b in network.named_buffers() if b is not state.get(name))
    )
    shapes = " and ".join(str(list(t.shape)) for t in inputs)
    with torch.no_grad(), _rng.forked():
        try:
            output = forward(
                lambda: functional_call(network, state, tuple(inputs)),
                where,
                recorded,
                f"the network fails on a batch of shape {shapes}",
            )
        except InputError as e:
            if len(inputs[0]) == 1 and "more than 1 value" in str(e):
                raise InputError(f"{e}; choose another batch_size") from e.__cause__
            raise
    if not isinstance(output, Tensor) or output.ndim == 0 or len(output) != len(inputs[0]):
        raise InputError(
            f"the network must return one tensor with a row for each row of its input, not {describe_output(output)}"
        )
    always = _places_in_evaluation(network, state, inputs)
    if always:
        raise InputError(
            f"the network drops units in evaluation mode, too (in {always[0].module or 'its own forward'}): call "
            "F.dropout(x, p, self.training), without the last argument it never stops"
        )
    if replaced:
        raise InputError(
            f"the network puts a new tensor in the place of its buffer {replaced[0]}: update buffers in place "
            f"(self.{replaced[0]}.copy_(...)), so that every member can have its own"
        )
    draws_from = _draws_from(fresh, state, inputs, _moved(generators))
    if draws_from:
        random.setstate(generators["Python"])
        np.random.set_state(generators["NumPy"])
    changed = _changed(before, attributes(network))
    if changed:
        carried = _carried(fresh, network, state, inputs)
        if carried is not None:
            module, attribute = carried if carried in changed else changed[0]
            raise InputError(
                f"the network keeps {attribute!r} ({named(network, module)}) from one batch to the next, and what it "
                "computes depends on that: make it a buffer that is updated in place (self.register_buffer(...), then "
                f"self.{attribute}.copy_(...)), so that every member can have its own"
            )
    stateful = next(
        (
            (module, f"it changes its attribute {name!r} while it runs")
            for module, name in changed
            if _is_plain(network, module, name)
        ),
        None,
    )
    if draws_from:
        stateful = "", f"it draws from {draws_from[0]}'s own random generator"
    sites = *recorded.sites, *(Site("module", name, shape) for name, shape in where.returned)
    ends = "sigmoid" if recorded.last == (id(output), "sigmoid") and output.ndim > 1 and output.shape[1] > 1 else None
    ends = "softmax" if are_probabilities(output) else ends
    return Trace(
        tuple(recorded.places),
        tuple(sites),
        recorded.functions,
        recorded.activation_bytes,
        stateful,
        ends,
        _losses.has_one_output(output),
        recorded.last[1] if recorded.last[0] == id(output) else "",
        tuple(recorded.draws),
        tuple(recorded.map_bytes),
    )


def _changed(before: Mapping[tuple[str, str], Any], after: Mapping[tuple[str, str], Any]) -> list[tuple[str, str]]:
    return [key for key, value in after.items() if key not in before or before[key] != value]


def _generators() -> dict[str, Any]:
    """Return the states of the random generators that all threads share."""
    return {"Python": random.getstate(), "NumPy": np.random.get_state()}


def _moved(before: Mapping[str, Any]) -> list[str]:
    """Return which generators are not in the states any more that `_generators` returned."""
    return [name for name, state in _generators().items() if not _same(state, before[name])]


def _draws_from(
    network: nn.Module, state: Mapping[str, Tensor], inputs: Sequence[Tensor], moved: list[str]
) -> list[str]:
    """Return which of the generators that a pass has moved are moved by every further one, too."""
    if not moved:
        return []
    network, own = copied(network), {name: t.clone() for name, t in state.items()}
    for _ in range(_PASSES):
        before = _generators()
        with torch.no_grad(), _rng.forked(), quiet():
            functional_call(network, own, tuple(inputs))
        now = _moved(before)
        moved = [name for name in moved if name in now]
        if not moved:
            break
    return moved


def _carried(
    fresh: nn.Module, used: nn.Module, state: Mapping[str, Tensor], inputs: Sequence[Tensor]
) -> tuple[str, str] | None:
    """Return an attribute by which a pass depends on the passes before it, if it does: used is a copy that has run."""

    def run(network: nn.Module) -> Tensor:
        own = {name: t.clone() for name, t in state.items()}
        with torch.no_grad(), _rng.global_generators(0, 0), quiet():
            return functional_call(network.train(), own, tuple(inputs))

    before = attributes(used)
    first, again = run(copied(fresh)), run(used)
    moving = _changed(before, attributes(used))
    differs = not _alike(first, again)
    for module, name in moving:
        value = getattr(used.get_submodule(module), name)
        if not differs and is_number(value):  # what comes much later
            setattr(used.get_submodule(module), name, value + _MUCH_LATER)
            try:
                differs = not _alike(first, run(used))
            except Exception:  # it can't be so large, say as an index: then it matters
                differs = True
            if differs:
                return module, name
    return (moving or _changed(attributes(fresh), attributes(used)))[0] if differs else None


def _alike(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-5, atol=1e-6 * float(a.abs().max()), equal_nan=True)


def _is_plain(network: nn.Module, module: str, name: str) -> bool:
    return isinstance(getattr(network.get_submodule(module), name), int | float | str | None)


def _places_in_evaluation(network: nn.Module, state: Mapping[str, Tensor], inputs: Sequence[Tensor]) -> list[Place]:
    where = ModulePath(network)
    recorded = RecordDropout(where)
    modes = {module: module.training for module in network.modules()}
    with torch.no_grad(), _rng.forked(), quiet(), where, recorded:
        functional_call(network.eval(), dict(state), tuple(inputs))
    for module, training in modes.items():
        module.training = training
    return recorded.places


def _same(a: Any, b: Any) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
