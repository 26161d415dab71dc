"""Networks of different seeds must be one function of their parameters and buffers, or members could not be stacked."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dampen.engine._copies import copied
from dampen.engine._model import Builder
from dampen.engine._rng import global_generators
from dampen.engine.capture import named, quiet
from dampen.engine.execution._ordinary import holding, tensors_of
from dampen.errors import InputError

_ROWS = 8  # that are tried
_REPEATS = 5  # of a network that may draw random numbers of its own, which would differ in one of them
_TOLERANCE = 1e-4  # of the outputs' norm: rounding is less, another function is more


def check_alike(build: Builder, inputs: Sequence[Tensor], input_shape: tuple[int, ...], outputs: int) -> None:
    """Refuse a model whose networks differ from seed to seed in more than parameters and buffers; tries three seeds.

    Args:
        build: makes the networks.
        inputs: `[B, ...]` for each of the network's arguments.
        input_shape: of a row.
        outputs: classes, or target columns.

    Raises:
        InputError: as `check_shapes` and `check_function`.
    """
    networks = [build(seed, input_shape, outputs) for seed in range(3)]
    check_shapes(networks)
    check_function(networks, inputs)


def check_shapes(networks: Sequence[nn.Module]) -> None:
    """Refuse networks whose parameters and buffers have different names or shapes.

    Raises:
        InputError: what makes them draws their architecture, too.
    """
    first, *others = ({name: list(t.shape) for name, t in tensors_of(network).items()} for network in networks)
    for other in others:
        if other != first:
            name = next(n for n in (*first, *other) if first.get(n) != other.get(n))
            shapes = " and ".join(str(network.get(name, "missing")) for network in (first, other))
            raise InputError(
                f"the function makes networks of different shapes for different seeds ({name}: {shapes}): members "
                "share one architecture, so let nothing but weights depend on random numbers"
            )


def check_function(networks: Sequence[nn.Module], inputs: Sequence[Tensor]) -> None:
    """Refuse networks whose outputs differ with the same parameters and buffers.

    Args:
        networks: one of each seed.
        inputs: `[B, ...]` for each of the network's arguments.

    Raises:
        InputError: they hold something else that was drawn, such as a tensor that is no buffer.
    """
    if len(networks) < 2:
        return
    rows = [t[:_ROWS] for t in inputs]
    first = copied(networks[0])
    for network in networks[1:]:
        own = copied(network)
        for training in (False, True):
            try:
                outputs = _outputs(own, own, rows, training)
                outputs_of_first = _outputs(first, own, rows, training)
                again = (_outputs(own, own, rows, training) for _ in range(_REPEATS))  # random in a way of its own?
                if _apart(outputs, outputs_of_first) and not any(_apart(outputs, other) for other in again):
                    raise InputError(_difference_line(networks[0], network))
            except InputError:
                raise
            except Exception:
                return  # the error of the training names the layer


def _outputs(network: nn.Module, given: nn.Module, rows: Sequence[Tensor], training: bool) -> Any:
    """Return a network's outputs with another's parameters and buffers, which stay unchanged."""
    state = {name: t.detach().clone() for name, t in tensors_of(given).items()}
    with torch.no_grad(), quiet(), global_generators(0, 0), holding(tensors_of(network), state):
        return network.train(training)(*rows)


def _apart(a: Any, b: Any) -> bool:
    if not isinstance(a, Tensor) or not isinstance(b, Tensor) or not a.is_floating_point():
        return False
    if a.shape != b.shape:
        return True
    distance = (a.double() - b.double()).norm()
    return bool(distance > _TOLERANCE * a.double().norm())


def _difference_line(network: nn.Module, other: nn.Module) -> str:
    """Name what the two hold differently beside parameters and buffers, as far as it can be found."""
    modules = dict(other.named_modules())
    for path, module in network.named_modules():
        attributes = vars(modules[path]) if path in modules else {}
        for name, value in vars(module).items():
            if name.startswith("_") or name not in attributes or not _differs(value, attributes[name]):
                continue
            remedy = (
                "put these layers into a nn.ModuleList, so that they are trained and kept"
                if any(isinstance(v, nn.Module) for v in _parts(value))
                else f"register it (self.register_buffer('{name}', ...)) where it is a tensor, or let it not be random"
            )
            return (
                f"{name} of {named(network, path)} is neither parameter nor buffer and differs between the seeds' "
                f"networks, whose members are stacked by these: {remedy}"
            )
    return (
        "the seeds' networks give different outputs with the same parameters and buffers: something else in them is "
        "random (a tensor in a closure, a function, a hook); register it as a buffer, or draw it from a fixed seed"
    )


def _differs(a: Any, b: Any) -> bool:
    of_a, of_b = _parts(a), _parts(b)
    if len(of_a) != len(of_b) or any(type(x) is not type(y) for x, y in zip(of_a, of_b, strict=True)):
        return True
    for x, y in zip(of_a, of_b, strict=True):
        if isinstance(x, Tensor):
            if x.shape != y.shape or not torch.equal(x, y):
                return True
        elif isinstance(x, nn.Module):
            state, other = tensors_of(x), tensors_of(y)
            if state.keys() != other.keys() or any(_differs(state[k], other[k]) for k in state):
                return True
        elif _plain(x) != _plain(y):
            return True
    return False


def _plain(value: Any) -> Any:
    """Return a number or a text as it is, of a function its name, of anything else nothing."""
    return value if isinstance(value, int | float | str) else getattr(value, "__qualname__", None)


def _parts(value: Any) -> list[Any]:
    """Return what a list, a tuple or a mapping holds; of anything else itself."""
    if isinstance(value, dict):
        return [part for item in value.values() for part in _parts(item)]
    if isinstance(value, list | tuple):
        return [part for item in value for part in _parts(item)]
    return [value]
