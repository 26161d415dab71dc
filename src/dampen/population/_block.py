"""A rectangle of members, some seeds times some settings, trained in lockstep on stacked parameters."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor, nn
from torch.func import functional_call, vmap

from dampen.knobs import Setting
from dampen.population import _losses, _noise, _optimizers
from dampen.population._lanes import DropoutCall, FastLanes, RecordDropout, rates_of_calls
from dampen.population._tape import record

_EVALUATION_VALUES = 1 << 21  # values of the widest layer's output while evaluating: 8 MiB in float32


@dataclass(frozen=True)
class Recipe:
    """How a population is trained: the same for all its members, but for what their settings say.

    Args:
        loss: loss of each row.
        accuracy: whether to count right classes, too.
        batch_size: rows a step; the last batch of an epoch may be smaller.
        optimizer: `sgd`, `adam` or `adamw`.
        lr: learning rate of members whose setting has none.
        decayed: says whether a parameter, by name and value, decays.
    """

    loss: _losses.RowLoss
    accuracy: bool
    batch_size: int
    optimizer: str
    lr: float
    decayed: Callable[[str, Tensor], bool]


class Rows:
    """Features and targets on the device: one copy for all seeds, or one for each.

    Args:
        features: `[1, N, ...]`, or `[S, N, ...]`.
        targets: `[1, N]`, or `[S, N]`.
    """

    def __init__(self, features: Tensor, targets: Tensor):
        self.features, self.targets = features, targets
        self._seeds = torch.arange(len(features), device=features.device).unsqueeze(1)

    def __len__(self) -> int:
        return self.features.shape[1]

    def of_seeds(self, seeds: slice) -> "Rows":
        """Return the rows of some of the seeds."""
        return self if len(self.features) == 1 else Rows(self.features[seeds], self.targets[seeds])

    def gather(self, index: Int64[Tensor, "S B"]) -> tuple[Tensor, Tensor]:
        """Return each seed's own rows: `[S, B, ...]` and `[S, B]`."""
        return self.features[self._seeds, index], self.targets[self._seeds, index]


class Block:
    """Members that share an architecture: parameters `[S, M, ...]`, one forward and one backward pass for all.

    Args:
        network: any member's network; its own parameters are not used.
        seeds: the S seeds.
        settings: the M settings.
        parameters: by name, `[S, M, ...]`; updated in place.
        buffers: by name, `[S, M, ...]`; updated in place by layers that keep running statistics.
    """

    def __init__(
        self,
        network: nn.Module,
        seeds: Sequence[int],
        settings: Sequence[Setting],
        parameters: dict[str, Tensor],
        buffers: dict[str, Tensor],
    ):
        self.network, self.seeds, self.settings = network, seeds, settings
        self.parameters, self.buffers = parameters, buffers
        self.diverged = torch.zeros(len(seeds), len(settings), dtype=torch.bool)
        self._frozen: list[tuple[Tensor, Tensor]] = []
        self._steps: dict[torch.Size, _Step] = {}
        self._evaluations: dict[tuple[torch.Size, tuple[int, ...]], Callable[..., list[Tensor]]] = {}

    def prepare(self, recipe: Recipe) -> None:
        """Make the optimizer."""
        self._recipe = recipe
        first = next(iter(self.parameters.values()))
        S, M = self.diverged.shape

        def of_members(knob: str, default: float) -> Tensor:
            values = [setting.get(knob, default) for setting in self.settings]
            return torch.tensor(values, dtype=first.dtype, device=first.device).expand(S, M)

        self._update = _optimizers.make(
            recipe.optimizer,
            list(self.parameters.values()),
            of_members("lr", recipe.lr),
            of_members("weight_decay", 0.0),
            [recipe.decayed(name, p[0, 0]) for name, p in self.parameters.items()],
        )

    def train_epoch(self, rows: Rows, epoch: int, first_step: int) -> dict[str, Float64[np.ndarray, "S M"]]:
        """Train every member for an epoch on its seed's rows, in its seed's order.

        Returns:
            `loss` and, if the recipe counts it, `acc`: means over the rows as they were met.
        """
        N, B = len(rows), self._recipe.batch_size
        order = torch.stack([_noise.batch_order(N, seed, epoch) for seed in self.seeds])
        order = order.to(rows.features.device)
        self.network.train()
        totals: list[Tensor] = []
        for number, start in enumerate(range(0, N, B), first_step):
            features, targets = rows.gather(order[:, start : start + B])
            if features.shape not in self._steps:
                self._steps[features.shape] = self._record_step(features, targets)
            step = self._steps[features.shape]
            found = step.run(*self._state(), features, targets, *step.noise(number))
            self._update(found[: len(self.parameters)])
            self._hold_frozen()
            totals = _add(totals, found[len(self.parameters) :])
        return self._means(totals, N)

    @torch.no_grad()
    def evaluate(self, rows: Rows) -> dict[str, Float64[np.ndarray, "S M"]]:
        """Return `loss` and perhaps `acc` of every member over all rows, in evaluation mode."""
        self.network.eval()
        S, M = self.diverged.shape
        widest = max((p.shape[2] for p in self.parameters.values() if p.ndim > 2), default=1)
        size = max(1, _EVALUATION_VALUES // (S * M * widest))
        totals: list[Tensor] = []
        for start in range(0, len(rows), size):
            features, targets = (t[:, start : start + size] for t in (rows.features, rows.targets))
            key = (features.shape, features.stride())
            if key not in self._evaluations:
                self._evaluations[key] = self._record_evaluation(features, targets)
            totals = _add(totals, self._evaluations[key](*self._state(), features, targets))
        return self._means(totals, len(rows))

    def finite(self) -> Bool[np.ndarray, "S M"]:
        """Return which members have only finite parameters."""
        finite = torch.ones_like(self.diverged)
        for p in self.parameters.values():
            finite &= p.isfinite().view(*finite.shape, -1).all(-1).cpu()
        return finite.numpy()

    def freeze(self, dead: Bool[np.ndarray, "S M"]) -> Bool[np.ndarray, "S M"]:
        """Stop the members that have diverged from changing any more, and return those that are new."""
        new = torch.from_numpy(dead) & ~self.diverged
        if new.any():
            self.diverged |= new
            on_device = self.diverged.to(next(iter(self.parameters.values())).device)
            self._frozen = [(on_device, p[on_device].clone()) for p in self.parameters.values()]
        return new.numpy()

    def _hold_frozen(self) -> None:
        for p, (dead, values) in zip(self.parameters.values(), self._frozen, strict=False):
            p[dead] = values

    def _state(self) -> list[Tensor]:
        return [*self.parameters.values(), *self.buffers.values()]

    def _record_step(self, features: Tensor, targets: Tensor) -> "_Step":
        """Record forward and backward pass for batches `[S, B, ...]` of this shape."""
        one = {name: t[0, 0] for name, t in (self.parameters | self.buffers).items()}
        calls = dropout_calls(self.network, one, features[0])
        rates = [rates_of_calls(setting.get("dropout"), calls) for setting in self.settings]
        step = _Step(self.seeds, calls, torch.tensor(rates, dtype=features.dtype, device=features.device))
        n_parameters, n_state = len(self.parameters), len(self._state())

        def member(state: dict[str, Tensor], x: Tensor, rates: Tensor, uniforms: Sequence[Tensor]) -> Tensor:
            with FastLanes(lambda layer, p: rates[layer], lambda layer, shape: uniforms[layer]):
                return functional_call(self.network, state, (x,))

        over_settings = vmap(member, in_dims=(0, None, 0, None))
        over_members = vmap(over_settings, in_dims=(0, 0, None, 0))

        def run(*tensors: Tensor) -> list[Tensor]:
            leaves = [p.detach().requires_grad_() for p in tensors[:n_parameters]]
            x, y, rates, *uniforms = tensors[n_state:]
            outputs = over_members(self._named([*leaves, *tensors[n_parameters:n_state]]), x, rates, uniforms)
            losses, *counts = self._losses(outputs, y)
            gradients = torch.autograd.grad(losses.mean(-1).sum(), leaves, allow_unused=True)
            zeros = [torch.zeros_like(p) if g is None else g for g, p in zip(gradients, leaves, strict=True)]
            return [*zeros, losses.detach().sum(-1, dtype=torch.float64), *counts]

        state = [t.clone() for t in self._state()]  # recording runs the step, which may change running statistics
        step.run = record(run, [*state, features, targets, *step.noise(0)])
        return step

    def _record_evaluation(self, features: Tensor, targets: Tensor) -> Callable[..., list[Tensor]]:
        """Record the forward pass on rows `[S, B, ...]`, or `[1, B, ...]` where all seeds share them."""
        n_state = len(self._state())

        def member(state: dict[str, Tensor], x: Tensor) -> Tensor:
            with FastLanes(_never, _never):
                return functional_call(self.network, state, (x,))

        def run(*tensors: Tensor) -> list[Tensor]:
            state, (x, y) = self._named(tensors[:n_state]), tensors[n_state:]
            over_settings = vmap(member, in_dims=(0, None))
            if len(x) == 1:
                outputs = vmap(over_settings, in_dims=(0, None))(state, x[0])
            else:
                outputs = vmap(over_settings)(state, x)
            losses, *counts = self._losses(outputs, y)
            return [losses.sum(-1, dtype=torch.float64), *counts]

        return record(run, [*self._state(), features, targets])

    def _losses(self, outputs: Tensor, targets: Tensor) -> list[Tensor]:
        """Return the losses `[S, M, B]` and, if the recipe counts them, the number of right rows `[S, M]`."""
        S, M, B = outputs.shape[:3]
        flat = outputs.flatten(0, 2)
        expanded = targets.unsqueeze(1).expand(S, M, B).flatten()
        losses = self._recipe.loss(flat, expanded).view(S, M, B)
        if not self._recipe.accuracy:
            return [losses]
        return [losses, _losses.correct(flat.detach(), expanded).view(S, M, B).sum(-1)]

    def _named(self, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
        return dict(zip([*self.parameters, *self.buffers], tensors, strict=True))

    def _means(self, totals: list[Tensor], n_rows: int) -> dict[str, Float64[np.ndarray, "S M"]]:
        return {
            name: (total.double() / n_rows).cpu().numpy() for name, total in zip(("loss", "acc"), totals, strict=False)
        }


class _Step:
    """A recorded training step and the noise that it needs.

    Args:
        seeds: the S seeds.
        calls: the dropout calls of one forward pass.
        rates: rate of each member and call, `[M, calls]`.
    """

    run: Callable[..., list[Tensor]]

    def __init__(self, seeds: Sequence[int], calls: Sequence[DropoutCall], rates: Tensor):
        self._seeds, self._calls, self._rates = seeds, calls, rates

    def noise(self, number: int) -> list[Tensor]:
        """Return the rates and, for each call, the uniforms `[S, ...]` of step `number`."""
        device = self._rates.device
        return [
            self._rates,
            *(
                _noise.dropout_uniforms(self._seeds, number, layer, call.shape, device)
                for layer, call in enumerate(self._calls)
            ),
        ]


def dropout_calls(network: nn.Module, state: Mapping[str, Tensor], features: Tensor) -> list[DropoutCall]:
    """Return the dropout calls of one forward pass of one member on a batch of features `[B, ...]`."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]), RecordDropout() as recorded:
        functional_call(network, {name: t.clone() for name, t in state.items()}, (features,))
    return recorded.calls


def _add(totals: list[Tensor], found: list[Tensor]) -> list[Tensor]:
    return [a + b for a, b in zip(totals, found, strict=True)] if totals else found


def _never(*_: object) -> Tensor:
    raise AssertionError("dropout is not active in evaluation mode")
