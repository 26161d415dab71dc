"""How a member's network is made: from a function, or from a module whose parameters are drawn again."""

import inspect
import math
from collections.abc import Callable

import torch
from torch import nn

from dampen.engine._copies import copied, hooks_of
from dampen.engine._rng import forked
from dampen.engine.execution._ordinary import named
from dampen.errors import InputError

Model = Callable[..., nn.Module] | nn.Module
"""A function that returns a network, or a network that is drawn again for every seed.

A function may take `inputs` (numbers in a row), `outputs` (classes or target columns) and `input_shape` (shape of a
row): what it names is given.
"""


class Builder:
    """Makes networks whose initial weights depend on the seed alone.

    Args:
        model: a function or a module.

    Raises:
        InputError: a function with other required parameters, or a module with parameters that can't be drawn again.
    """

    def __init__(self, model: Model):
        self._model = model
        if isinstance(model, nn.Module):
            self._check_module(model)
            self.wants: tuple[str, ...] = ()
        elif callable(model):
            self.wants = _wanted(model)
        else:
            raise InputError(f"model must be a function that returns a nn.Module, or a nn.Module, got {model!r}")

    def __call__(self, seed: int, input_shape: tuple[int, ...] = (), outputs: int = 1) -> nn.Module:
        """Return the network of a seed; torch's global generators are left as they were, even by a model that seeds."""
        devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
        with forked(devices):
            torch.manual_seed(seed)
            return self.make(input_shape, outputs)

    def outline(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module | None:
        """Return a network without memory for its parameters; None where a function can't make one so."""
        try:
            with torch.device("meta"):
                return self(0, input_shape, outputs)
        except Exception:
            return None

    def make(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        """Return a network drawn from torch's global generator as it is."""
        if isinstance(self._model, nn.Module):
            network = unwrapped(copied(self._model))
            network.apply(_draw_again)
        else:
            given = {"inputs": math.prod(input_shape), "outputs": outputs, "input_shape": input_shape}
            network = self._model(**{name: given[name] for name in self.wants})
        if not isinstance(network, nn.Module):
            raise InputError(f"model must return a nn.Module, it returned {type(network).__name__}")
        network = unwrapped(network)
        for name, p in network.named_parameters():
            if isinstance(p, nn.parameter.UninitializedParameter):
                raise InputError(
                    f"the network's parameter {name} has no shape yet: let the function that makes the network run it "
                    "once on a batch"
                )
        for name, t in (*network.named_parameters(), *network.named_buffers()):
            if t.is_complex():
                raise InputError(
                    f"the network's tensor {name} is complex ({str(t.dtype).removeprefix('torch.')}), members are "
                    "real: keep its real and imaginary parts ([..., 2]), and use torch.view_as_complex in forward"
                )
        return network

    def _check_module(self, model: nn.Module) -> None:
        model = unwrapped(model)
        for name, module in model.named_modules():
            if next(module.parameters(recurse=False), None) is not None and _reset_of(module) is None:
                raise InputError(
                    f"{type(module).__name__} ({name or 'the network itself'}) has parameters and no "
                    "reset_parameters(), so that its weights can't be drawn again for each seed: give a function that "
                    "makes the network instead"
                )
        for name, p in model.named_parameters():
            if any(hooks_of(p)):
                raise InputError(
                    f"{name} has a hook on its gradient, but its weights are drawn again for each seed: give a "
                    "function that makes the network and registers the hook"
                )
        kept = _not_drawn_again(model)
        if kept is not None:
            module, _, own = kept.rpartition(".")
            raise InputError(
                f"reset_parameters() of {named(model, module.partition('.parametrizations')[0])} does not draw {own} "
                "again, so that every seed would start from the same weights: give a function that makes the network "
                "instead"
            )


def initial_weights_repeat(model: Model, inputs: int | tuple[int, ...], outputs: int) -> bool:
    """Return whether every seed starts from the same weights, as where a function seeds itself or loads weights.

    Parameters that hold one value throughout, such as biases of zeros, are not compared; a network of these alone is
    meant to start so.

    Args:
        model: a function or a module.
        inputs: shape of a row, or how many numbers are in one.
        outputs: classes, or target columns.

    Raises:
        InputError: as `Builder`.

    >>> initial_weights_repeat(lambda inputs, outputs: nn.Linear(inputs, outputs), 4, 2)
    False
    """
    build = Builder(model)
    shape = (inputs,) if isinstance(inputs, int) else tuple(inputs)
    one, other = (dict(build(seed, shape, outputs).named_parameters()) for seed in (0, 1))
    varied = [name for name, p in one.items() if p.numel() and (p != p.flatten()[0]).any()]
    return bool(varied) and all(name in other and torch.equal(one[name], other[name]) for name in varied)


def unwrapped(network: nn.Module) -> nn.Module:
    """Return a network without torch.compile: the population compiles nothing, and records what modules do.

    Raises:
        InputError: a part of it is a torch.jit script, whose dropout can't be captured.
    """
    while isinstance(inner := getattr(network, "_orig_mod", None), nn.Module):
        network = inner
    for path, module in list(network.named_modules()):
        if isinstance(module, torch.jit.ScriptModule):
            raise InputError(
                f"{getattr(module, 'original_name', 'a module')} ({path or 'the network itself'}) is a torch.jit "
                "script, whose dropout can't be seen: give the Python module that it was made of"
            )
        if getattr(module, "_compiled_call_impl", None) is not None:  # module.compile()
            module._compiled_call_impl = None
        for name, child in list(module.named_children()):
            inner = child
            while isinstance(deeper := getattr(inner, "_orig_mod", None), nn.Module):
                inner = deeper
            if inner is not child:
                module._modules[name] = inner
    return network


def _not_drawn_again(model: nn.Module) -> str | None:
    """Return a parameter that drawing again leaves as it is, if there is one that does not hold one value throughout.

    Weight and spectral normalisation are such a case: they keep what they normalise under another name.
    """
    network = copied(model)
    parameters = dict(network.named_parameters())
    with torch.no_grad(), forked():
        moved = {name: p.mul_(1.5).add_(0.25).clone() for name, p in parameters.items()}
        network.apply(_draw_again)
    for name, p in parameters.items():
        if p.numel() and torch.equal(p, moved[name]) and (p != p.flatten()[0]).any():
            return name
    return None


def _reset_of(module: nn.Module) -> Callable[[], object] | None:
    return getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)


def _draw_again(module: nn.Module) -> None:
    reset = _reset_of(module)
    if reset is not None:
        reset()


def _wanted(model: Callable[..., nn.Module]) -> tuple[str, ...]:
    try:
        parameters = inspect.signature(model).parameters.values()
    except (TypeError, ValueError):
        return ()
    known = ("inputs", "outputs", "input_shape")
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    for p in parameters:
        if p.name not in known and p.default is p.empty and p.kind not in kinds:
            raise InputError(
                f"the function that makes the network wants {p.name!r}; it may take inputs, outputs and input_shape, "
                "or nothing (wrap it: lambda: make(...))"
            )
    return tuple(p.name for p in parameters if p.name in known)
