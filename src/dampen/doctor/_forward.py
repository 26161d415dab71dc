"""Run a model on a batch, in training mode and several times in evaluation, and leave it as it was."""

import contextlib
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from dampen._checks import is_number
from dampen._tensors import describe_input, is_frame, loaded_by
from dampen.doctor._intact import every_module, intact, reseed, tensors_in
from dampen.doctor._tensor_flow import Trace, Watch
from dampen.engine.capture import ModulePath, are_probabilities, forward
from dampen.errors import InputError

Batch = Tensor | tuple[Any, ...] | list[Any] | Mapping[str, Any]
"""What a model is called with: one tensor, its arguments in order, or its arguments by name."""

_RATE = re.compile(r"_?(p|dropout\w*|drop_?(prob|rate|p|path\w*)|rate|prob|keep_prob|\w+_dropout|\w+_drop)")
_OTHER_SEEDS = (1, 2, 3)  # a few units, dropped by two seeds, can happen to be the same


@dataclass(frozen=True)
class Passes:
    """What a model did with a batch.

    Args:
        training: its pass in training mode, whose dropouts pass everything on.
        evaluation: its first pass in evaluation mode.
        draws: whether an evaluation pass with other random numbers gives another output.
        remembers: whether a second evaluation pass after the first, with the same random numbers, gives another output.
        difference: the largest difference of two outputs, relative to the largest number among them.
        rows: of the batch.
        changed: modules whose dropout in training is another one after an evaluation.
        probabilities: whether its one output is what a softmax gives.
    """

    training: Trace
    evaluation: Trace
    draws: bool
    remembers: bool
    difference: float
    rows: int | None
    changed: tuple[str, ...] = ()
    probabilities: bool = False


def run(model: nn.Module, batch: Batch) -> Passes:
    """Run a model.

    Raises:
        InputError: the model has parameters without a value, can't take the batch, or returns no tensor.
    """
    if is_frame(batch) or isinstance(batch, str | os.PathLike) or hasattr(batch, "train_rows"):
        data = "data" if hasattr(batch, "train_rows") else loaded_by(batch)
        raise InputError(
            "batch must be what the model is called with, one tensor, a tuple of arguments or a dict of them by name, "
            f"got {describe_input(batch)}: give {data}.train.features[:8]"
        )
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise InputError("no function can be watched in a scripted model: give the model before torch.jit.script")
    tensors = list(model.parameters()) + list(model.buffers())
    if any(is_lazy(t) for t in tensors):
        raise InputError("the model has lazy parameters without a shape: run it once on a batch, then diagnose it")
    if any(t.is_meta for t in tensors):
        raise InputError("the model is on the meta device, without numbers: give it a device first, or leave out batch")
    with intact(model):
        training, _ = _pass(model.train, model, batch, 0, dropping=False)
    with intact(model):
        evaluation, first = _pass(model.eval, model, batch, 0)
        _, after = _pass(model.eval, model, batch, 0)
    with intact(model):
        before = _rates(model)
        _pass(model.eval, model, batch, 0)
        again, _ = _pass(model.train, model, batch, 0, dropping=False)
        changed = _changed(training, again, before, _rates(model))
    drawn = 0.0
    for seed in _OTHER_SEEDS:
        with intact(model):
            _, other = _pass(model.eval, model, batch, seed)
        drawn = max(drawn, _difference(first, other))
    kept, limit = _difference(first, after), _tolerance(first)
    rows = next((len(t) for t in tensors_in(batch) if t.ndim), None)
    probabilities = len(first) == 1 and are_probabilities(first[0])
    return Passes(training, evaluation, drawn > limit, kept > limit, max(drawn, kept), rows, changed, probabilities)


def _rates(model: nn.Module) -> dict[str, float]:
    """Return every number that a module keeps under a name of a dropout rate, by module."""
    return {
        f"{path}\n{name}": float(value)
        for path, module, _ in every_module(model)
        for name, value in vars(module).items()
        if _RATE.fullmatch(name) and is_number(value)
    }


def _changed(training: Trace, again: Trace, before: dict[str, float], after: dict[str, float]) -> tuple[str, ...]:
    """Return the modules that drop otherwise in training, or hold another rate, than before an evaluation."""
    first, second = ([(drop.module, drop.p) for drop in trace.drops] for trace in (training, again))
    more = [*(drop for drop in first if drop not in second), *(drop for drop in second if drop not in first)]
    held = [key.partition("\n")[0] for key, value in before.items() if after.get(key, value) != value]
    return tuple(dict.fromkeys(path or "the model" for path in [*held, *(module for module, _ in more)]))


def _pass(
    mode: Callable[[], Any], model: nn.Module, batch: Batch, seed: int, *, dropping: bool = True
) -> tuple[Trace, list[Tensor]]:
    """Run a model once; return what was seen, and the numbers that came out."""
    mode()
    batch = _copy(batch)
    where = ModulePath(model)
    watch = Watch(where, tensors_in(batch), dropping=dropping)
    reseed(seed)
    with torch.enable_grad(), _eagerly():
        output = forward(lambda: _call(model, batch), where, watch, f"the model fails on {_in_words(batch)}")
    numbers = [t.detach().clone() for t in tensors_in(output) if not t.is_sparse]
    if not numbers:
        raise InputError(
            f"the model must return a tensor, or tensors in a tuple, dict or dataclass, not {type(output).__name__}"
        )
    watch.finish(output)
    return watch.trace, numbers


def _call(model: nn.Module, batch: Batch) -> Any:
    if isinstance(batch, Mapping):
        return model(**batch)
    return model(*batch) if isinstance(batch, list | tuple) else model(batch)


def _copy(value: Any) -> Any:
    """Return a copy for the model to do with what it likes."""
    if isinstance(value, Tensor):
        return value.detach().clone().requires_grad_(value.requires_grad)
    if isinstance(value, Mapping):
        return {key: _copy(item) for key, item in value.items()}
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return type(value)(_copy(item) for item in value)
    return value


def _eagerly() -> Any:
    """Return a context in which parts that are compiled run as written: in compiled code no function can be watched.

    Where the compiler is not loaded nothing is compiled, and loading it takes a second and more.
    """
    if "torch._dynamo" not in sys.modules or not hasattr(torch.compiler, "set_stance"):
        return contextlib.nullcontext()
    return torch.compiler.set_stance("force_eager")


def _difference(outputs: list[Tensor], other: list[Tensor]) -> float:
    if [t.shape for t in outputs] != [t.shape for t in other]:
        return float("inf")
    return max(_relative(a.double(), b.double()) for a, b in zip(outputs, other, strict=True))


def _relative(a: Tensor, b: Tensor) -> float:
    if a.numel() == 0 or torch.equal(a, b):
        return 0.0
    if not torch.equal(a.isfinite(), b.isfinite()):
        return float("inf")
    finite = a.isfinite()
    scale = torch.maximum(a.abs(), b.abs())[finite].max() if finite.any() else torch.ones(())
    return float((a - b)[finite].abs().max() / scale) if finite.any() and scale > 0 else 0.0


def _tolerance(outputs: list[Tensor]) -> float:
    """Return the relative difference that sums in another order can make, on a GPU for one."""
    precisions = [torch.finfo(t.dtype).eps for t in outputs if t.is_floating_point()]
    return max(precisions, default=0.0) ** 0.5


def _in_words(batch: Batch) -> str:
    shapes = ", ".join(f"{list(t.shape)} {str(t.dtype).removeprefix('torch.')}" for t in tensors_in(batch))
    spread = " (a tuple or list is spread over forward's arguments: give inputs only, no targets)"
    return f"a batch of {shapes or 'no tensors'}{spread if isinstance(batch, list | tuple) and len(batch) > 1 else ''}"
