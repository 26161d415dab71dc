"""Run one member's network once, in the ordinary way, to see what it does: where it drops, what it calls."""

import copy
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from dampen.errors import InputError
from dampen.knobs import Site
from dampen.population._dropping import Place, RecordDropout
from dampen.population._where import ModulePath


@dataclass(frozen=True)
class Probe:
    """What one training-mode forward pass of a member showed.

    Args:
        places: where it drops units.
        sites: where knobs on activations can act.
        functions: by module, the torch functions it calls.
        activation_bytes: size of what these functions return.
        stateful: the module that changes something other than a tensor while it runs, or draws from Python's or
            NumPy's generator, and what; None if there is none. What such a network does can't be recorded once.
    """

    places: tuple[Place, ...]
    sites: tuple[Site, ...]
    functions: dict[str, set[Any]]
    activation_bytes: int
    stateful: tuple[str, str] | None


def probe(network: nn.Module, state: Mapping[str, Tensor], inputs: Sequence[Tensor], additions: bool = False) -> Probe:
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
    network = copy.deepcopy(network)
    where = ModulePath(network)
    state = {name: t.clone() for name, t in state.items()}
    before = _plain_values(network)
    python, numpy = random.getstate(), np.random.get_state()
    recorded = RecordDropout(where, additions)
    replaced: list[str] = []
    network.register_forward_hook(
        lambda *_: replaced.extend(name for name, b in network.named_buffers() if b is not state.get(name))
    )
    with torch.no_grad(), torch.random.fork_rng(devices=[]), where, recorded:
        try:
            output = functional_call(network, state, tuple(inputs))
        except Exception as e:
            shapes = " and ".join(str(list(t.shape)) for t in inputs)
            name = f" in {where.current}" if where.current else ""
            raise InputError(f"the network fails on a batch of shape {shapes}{name}: {_first_line(e)}") from e
    if not isinstance(output, Tensor) or output.ndim == 0 or len(output) != len(inputs[0]):
        raise InputError(
            "the network must return one tensor with a row for each row of its input, not "
            + (f"a tensor of shape {list(output.shape)}" if isinstance(output, Tensor) else type(output).__name__)
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
    drew = random.getstate() != python, not _same(np.random.get_state(), numpy)
    random.setstate(python)
    np.random.set_state(numpy)
    stateful = _change(before, _plain_values(network))
    if any(drew):
        stateful = "", f"it draws from {'Python' if drew[0] else 'NumPy'}'s own random generator"
    sites = *recorded.sites, *(Site("module", name, shape) for name, shape in where.returned)
    return Probe(tuple(recorded.places), tuple(sites), recorded.functions, recorded.activation_bytes, stateful)


def _places_in_evaluation(network: nn.Module, state: Mapping[str, Tensor], inputs: Sequence[Tensor]) -> list[Place]:
    where = ModulePath(network)
    recorded = RecordDropout(where)
    modes = {module: module.training for module in network.modules()}
    with torch.no_grad(), torch.random.fork_rng(devices=[]), where, recorded:
        functional_call(network.eval(), dict(state), tuple(inputs))
    for module, training in modes.items():
        module.training = training
    return recorded.places


def _plain_values(network: nn.Module) -> dict[tuple[str, str], Any]:
    """Return everything that modules hold apart from tensors and modules, if it can be compared cheaply."""
    return {
        (name, attribute): value
        for name, module in network.named_modules()
        for attribute, value in vars(module).items()
        if isinstance(value, int | float | str | None) and not attribute.startswith("_")
    }


def _change(before: dict[tuple[str, str], Any], after: dict[tuple[str, str], Any]) -> tuple[str, str] | None:
    for key in after:
        if key not in before or before[key] != after[key]:
            return key[0], f"it changes its attribute {key[1]!r} while it runs"
    return None


def _same(a: Any, b: Any) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def _first_line(e: Exception) -> str:
    return (str(e).strip() or type(e).__name__).splitlines()[0].rstrip(".")
