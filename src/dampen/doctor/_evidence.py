"""What the checks look at: the model, its optimizers by group, and what its forward pass did."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from dampen._checks import is_number
from dampen.doctor._forward import Passes
from dampen.doctor._intact import every_module
from dampen.engine.knobs.noise.dropout import Dropout


@dataclass(frozen=True)
class Rate:
    """A dropout rate that a module holds.

    Args:
        path: of the module.
        module: the module.
        attribute: its attribute with the rate.
        p: the rate.
    """

    path: str
    module: nn.Module
    attribute: str
    p: float

    @property
    def layer(self) -> bool:
        """Whether dropping is all that the module does."""
        return not isinstance(self.module, nn.MultiheadAttention | nn.RNNBase)


@dataclass(frozen=True)
class Group:
    """A parameter group of an optimizer, read alike for all optimizers.

    Args:
        optimizer: which holds it.
        name: how a report calls it.
        parameters: its tensors.
        settings: what the optimizer keeps for it.
    """

    optimizer: torch.optim.Optimizer
    name: str
    parameters: tuple[Tensor, ...]
    settings: dict[str, Any]

    @property
    def of_torch(self) -> bool:
        """Whether the steps are those of torch: a class of one's own may decay as it likes."""
        return str(getattr(type(self.optimizer).step, "__module__", "")).startswith("torch.optim")

    @property
    def weight_decay(self) -> float:
        """The decay, 0 where the optimizer has none."""
        return float(self.settings.get("weight_decay") or 0)

    @property
    def lr(self) -> float:
        """The peak learning rate: a warm-up that has just begun has set a smaller one."""
        return max(float(self.settings.get(name) or 0) for name in ("lr", "initial_lr", "max_lr"))

    @property
    def decoupled(self) -> bool | None:
        """Whether decay shrinks the weights directly; None for an optimizer that torch does not have."""
        if not self.of_torch:
            return None
        if isinstance(self.optimizer, _DECOUPLED):
            return True
        if isinstance(self.optimizer, _ADAPTIVE):
            return bool(self.settings.get("decoupled_weight_decay", False))
        return False if isinstance(self.optimizer, torch.optim.SGD) else None

    @property
    def shrinkage(self) -> float | None:
        """The share of a weight that decay takes in a step; None where it depends on gradients.

        `lr * weight_decay`, and under SGD with momentum `1 / (1 - momentum)` times as much: every step's decay is
        repeated by the momentum (with dampening, less).
        """
        if self.decoupled:
            return self.lr * self.weight_decay
        if self.decoupled is None or not isinstance(self.optimizer, torch.optim.SGD):
            return None
        momentum = float(self.settings["momentum"])
        gain = (1 - float(self.settings["dampening"])) / (1 - momentum) if 0 < momentum < 1 else 1.0
        return self.lr * self.weight_decay * gain


@dataclass(frozen=True)
class Case:
    """What is diagnosed.

    Args:
        model: the network, as it came.
        optimizers: none where none was given.
        steps: length of the training, None if unknown.
        passes: what the model did with a batch, None without one.
    """

    model: nn.Module
    optimizers: Sequence[torch.optim.Optimizer]
    steps: int | None
    passes: Passes | None

    @property
    def ran(self) -> Passes:
        """What the model did with the batch; computed only for checks that need a batch."""
        assert self.passes is not None
        return self.passes

    @cached_property
    def modules(self) -> list[tuple[str, nn.Module, bool]]:
        """Each module, hidden ones too: path, module, whether it is registered."""
        return every_module(self.model)

    @cached_property
    def rates(self) -> list[Rate]:
        """Every dropout rate that a module holds."""
        rates = []
        for path, module, _ in self.modules:
            attribute = _rate_attribute(module)
            value = getattr(module, attribute, None) if attribute else None
            if attribute and is_number(value):
                rates.append(Rate(path, module, attribute, float(value)))
        return rates

    @cached_property
    def names(self) -> dict[int, str]:
        """A name for each parameter of the model, by its id; one that several places share has all their names."""
        paths: dict[int, list[str]] = {}
        for name, p in self.model.named_parameters(remove_duplicate=False):
            paths.setdefault(id(p), []).append(name)
        return {key: first + (f" (also {' and '.join(rest)})" if rest else "") for key, (first, *rest) in paths.items()}

    @cached_property
    def owners(self) -> dict[int, list[tuple[nn.Module, str]]]:
        """For each parameter, by its id, every module that holds it and the attribute; tied weights have several."""
        owners: dict[int, list[tuple[nn.Module, str]]] = {}
        for module in self.model.modules():
            for name, p in vars(module)["_parameters"].items():
                if p is not None:
                    owners.setdefault(id(p), []).append((module, name))
        return owners

    @cached_property
    def groups(self) -> list[Group]:
        """Every parameter group of every optimizer."""
        return [
            Group(optimizer, f"{label}'s group {i}", tuple(settings["params"]), settings)
            for label, optimizer in zip(self._labels, self.optimizers, strict=True)
            for i, settings in enumerate(optimizer.param_groups)
        ]

    @property
    def _labels(self) -> list[str]:
        kinds = [type(optimizer).__name__ for optimizer in self.optimizers]
        return kinds if len(kinds) < 2 else [f"optimizer {i} ({kind})" for i, kind in enumerate(kinds)]

    def decayed(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the model's trained parameters that decay, each once."""
        seen: set[int] = set()
        for group in self.groups:
            for p in group.parameters if group.weight_decay else ():
                if p.requires_grad and id(p) in self.names and id(p) not in seen:
                    seen.add(id(p))
                    yield self.names[id(p)], p


def steps_in_words(rate: float) -> str:
    """Return over how many steps weights forget, if a step takes this share of them."""
    return f"{1 / rate:.3g} steps" if rate < 1 else "a single step"


def lost(rate: float, steps: int) -> float:
    """Return the share of a weight that decay alone takes in a training."""
    return -math.expm1(steps * math.log1p(-rate)) if rate < 1 else 1.0


def _rate_attribute(module: nn.Module) -> str | None:
    if isinstance(module, nn.modules.dropout._DropoutNd | Dropout):
        return "p"
    if isinstance(module, nn.MultiheadAttention | nn.RNNBase):
        return "dropout"
    if "drop" in type(module).__name__.lower() and not list(module.children()):
        return next((name for name in ("p", "drop_prob", "drop_rate", "rate", "prob") if hasattr(module, name)), None)
    return None


_DECOUPLED = tuple(getattr(torch.optim, name) for name in ("AdamW", "Adafactor", "Muon") if hasattr(torch.optim, name))
_ADAPTIVE = (
    *(torch.optim.Adam, torch.optim.NAdam, torch.optim.RAdam, torch.optim.Adamax),
    *(torch.optim.RMSprop, torch.optim.Adagrad, torch.optim.Adadelta, torch.optim.Rprop),
)
