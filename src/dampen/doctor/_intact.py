"""Let a model run and leave it, and every random generator, exactly as they were."""

import contextlib
import dataclasses
import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dampen.engine import forked


def every_module(model: nn.Module) -> list[tuple[str, nn.Module, bool]]:
    """Return each module once, with its path and whether it is registered.

    One that sits in a plain list, tuple or dict is not: `parameters()`, `train()`, `eval()` and `to()` pass it by.
    """
    modules = [(name, module, True) for name, module in model.named_modules()]
    seen = {id(module) for _, module, _ in modules}
    for path, module, _ in modules:  # grows while it is walked: hidden modules may hide more
        for name, value in vars(module).items():
            if name in _OWN:
                continue
            for key, hidden in _modules_in(value, name):
                for inner, part in hidden.named_modules():
                    if id(part) not in seen:
                        seen.add(id(part))
                        modules.append((".".join(filter(None, (path, key, inner))), part, False))
    return modules


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested lists, tuples, mappings and dataclasses."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from tensors_in(getattr(value, field.name, None))


@contextlib.contextmanager
def intact(model: nn.Module) -> Iterator[None]:
    """Undo on leaving what runs of a model changed, after an exception, too.

    Its parameters, buffers and other tensors, its modules' modes, attributes, hooks, and lists and dicts among the
    attributes; torch's, NumPy's and Python's random generators, which no other thread of dampen uses meanwhile, and
    generators that the model holds.
    """
    modules = [module for _, module, _ in every_module(model)]
    attributes = [dict(vars(module)) for module in modules]
    containers = [(c, c.copy()) for a in attributes for c in a.values() if isinstance(c, dict | list | set)]
    tensors = {id(t): t for a in attributes for t in tensors_in(a)}
    values = [(t, t.detach().clone(), t.requires_grad) for t in tensors.values()]
    generators = [(g, _generator_state(g)) for a in attributes for g in a.values() if isinstance(g, _GENERATORS)]
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
    with forked(devices):
        python, numpy = random.getstate(), np.random.get_state()
        try:
            yield
        finally:
            for module, before in zip(modules, attributes, strict=True):
                vars(module).clear()
                vars(module).update(before)
            for container, content in containers:
                _refill(container, content)
            for t, value, requires_grad in values:
                if not torch.equal(t.detach(), value):
                    t.data.copy_(value)
                if t.is_leaf and t.requires_grad != requires_grad:
                    t.requires_grad_(requires_grad)
            for generator, state in generators:
                _set_generator_state(generator, state)
            random.setstate(python)
            np.random.set_state(numpy)


def reseed(seed: int) -> None:
    """Seed every generator that `intact` restores."""
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would also seed a GPU that is not in use yet
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
    random.seed(seed)
    np.random.seed(seed)


_OWN = set(vars(nn.Module()))  # what every module has: registered parts, hooks
_GENERATORS = (torch.Generator, random.Random, np.random.Generator, np.random.RandomState)


def _modules_in(value: Any, name: str) -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules in nested plain containers, with the path that leads there."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, item in items:
        if isinstance(item, nn.Module):
            yield f"{name}.{key}", item
        else:
            yield from _modules_in(item, f"{name}.{key}")


def _refill(container: Any, content: Any) -> None:
    container.clear()
    if isinstance(container, list):
        container.extend(content)
    else:
        container.update(content)


def _generator_state(generator: Any) -> Any:
    if isinstance(generator, random.Random):
        return generator.getstate()
    return generator.bit_generator.state if isinstance(generator, np.random.Generator) else generator.get_state()


def _set_generator_state(generator: Any, state: Any) -> None:
    if isinstance(generator, random.Random):
        generator.setstate(state)
    elif isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    else:
        generator.set_state(state)
