"""How gradients and losses of all members of a chunk are found: by one recorded program, or member by member."""

import contextlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, vmap

from dampen.errors import InputError
from dampen.knobs import Setting
from dampen.knobs.dropout import keep_scale
from dampen.population import _losses, _noise
from dampen.population._dropping import PairedDropout, Place, rates_at
from dampen.population._lanes import FastLanes
from dampen.population._recipe import Recipe
from dampen.population._tape import record
from dampen.population._where import ModulePath


class NotFusable(RuntimeError):
    """A network whose members can't be run as one.

    Args:
        module: path of the module that stands in the way, `""` for the network itself.
        reason: what it does.
    """

    def __init__(self, module: str, reason: str):
        super().__init__(reason)
        self.module, self.reason = module, reason


@dataclass(frozen=True)
class Names:
    """What the tensors of a chunk's state are called, in their order: trained ones first.

    Args:
        trained: parameters with a gradient.
        rest: frozen parameters and buffers.
    """

    trained: tuple[str, ...]
    rest: tuple[str, ...]

    def given(self, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return the tensors by name."""
        return dict(zip((*self.trained, *self.rest), tensors, strict=True))


@dataclass(frozen=True)
class Noise:
    """What decides what a step drops.

    Args:
        seeds: the S seeds.
        step: number of the training step.
        rates: rate of each setting at each place, float64.
        scales: what a kept unit is multiplied by there.
        uniforms: for each place, `[S, ...]`.
    """

    seeds: Sequence[int]
    step: int
    rates: Float[Tensor, "M places"]
    scales: Float[Tensor, "M places"]
    uniforms: list[Tensor] = field(repr=False)

    def tensors(self) -> list[Tensor]:
        """Return what a recorded step takes."""
        return [self.rates, self.scales, *self.uniforms]


def rates_of(settings: Sequence[Setting], places: Sequence[Place], like: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rate of each setting at each place, float64, and what kept units are multiplied by, `[M, places]`."""
    rates = torch.tensor([rates_at(s.get("dropout"), places) for s in settings], dtype=torch.float64)
    rates = rates.view(len(settings), len(places))
    return rates.to(like.device), keep_scale(rates).to(like.device, like.dtype)


def noise_at(
    seeds: Sequence[int], step: int, rates: tuple[Tensor, Tensor], places: Sequence[Place], device: torch.device
) -> Noise:
    """Draw a step's noise."""
    return Noise(seeds, step, *rates, _noise.dropout_uniforms(seeds, step, [p.shape for p in places], device))


class Program:
    """Finds losses and gradients of members; `Fused` and `OneByOne` do it in different ways.

    Args:
        network: any member's network; its own parameters are not used.
        names: of the state's tensors.
        recipe: loss and precision.
        device: where the members are.
    """

    fused: bool

    def __init__(self, network: nn.Module, names: Names, recipe: Recipe, device: torch.device):
        self.network, self.names, self.recipe, self._device = network, names, recipe, device.type

    @property
    def on_cpu(self) -> bool:
        """Whether the members are on the CPU."""
        return self._device == "cpu"

    def serves(self, recipe: Recipe, device: torch.device) -> bool:
        """Say whether this program can go on under another recipe."""
        mine = self.recipe
        return (mine.loss, mine.accuracy, mine.precision, self._device) == (
            recipe.loss,
            recipe.accuracy,
            recipe.precision,
            device.type,
        )

    def gradients(
        self, state: list[Tensor], noise: Noise, inputs: list[Tensor], targets: Tensor
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Run forward and backward pass in training mode; running statistics in `state` are updated.

        Args:
            state: `[S, M, ...]` each.
            noise: for this step.
            inputs: `[S, B, ...]` each.
            targets: `[S, B, ...]`.

        Returns:
            A gradient for each trained parameter; and sums over the rows, `[S, M]`: of the loss in float64 and, if
            the recipe counts them, of right classes.
        """
        raise NotImplementedError

    def losses(self, state: list[Tensor], inputs: list[Tensor], targets: Tensor) -> list[Tensor]:
        """Return the same sums in evaluation mode; rows may be `[1, B, ...]` where all seeds share them."""
        raise NotImplementedError

    def outputs(self, state: list[Tensor], inputs: list[Tensor]) -> Tensor:
        """Return what every member says of rows in evaluation mode, `[S, M, B, ...]`; rows as for `losses`."""
        raise NotImplementedError

    def _autocast(self) -> contextlib.AbstractContextManager[object]:
        if self.recipe.low is None:
            return contextlib.nullcontext()
        return torch.autocast(self._device, self.recipe.low, cache_enabled=False)

    def _sums(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the losses of rows `[N]`, and the number of right ones as `[N]` of 0 and 1 if that is wanted."""
        outputs = outputs.to(self.recipe.dtype)
        losses = _losses.by_row(self.recipe.loss, outputs, targets)
        return losses, [_losses.correct(outputs.detach(), targets)] if self.recipe.accuracy else []


class Fused(Program):
    """Runs the network once for all members, under `vmap` over seeds and settings, and records what that does.

    A recording holds for one shape of batch and one number of members; chunks of equal shape share it.
    """

    fused = True

    def __init__(self, *args: Any):
        super().__init__(*args)
        self._steps: dict[Any, Callable[..., list[Tensor]]] = {}
        self._evaluations: dict[Any, Callable[..., list[Tensor]]] = {}

    def gradients(
        self, state: list[Tensor], noise: Noise, inputs: list[Tensor], targets: Tensor
    ) -> tuple[list[Tensor], list[Tensor]]:
        """See `Program`.

        Raises:
            NotFusable: the network can't be run for all members at once.
        """
        key = _key(state, inputs)
        tensors = [*state, *noise.tensors(), *inputs, targets]
        if key not in self._steps:
            scratch = [*(t.clone() for t in state), *tensors[len(state) :]]  # recording runs the step
            self.network.train()
            self._steps[key] = self._record(lambda *given: self._step(given, len(noise.tensors())), scratch)
        found = self._steps[key](*tensors)
        n = len(self.names.trained)
        return found[:n], found[n:]

    def losses(self, state: list[Tensor], inputs: list[Tensor], targets: Tensor) -> list[Tensor]:
        """See `Program`."""
        key = (*_key(state, inputs), *(t.stride() for t in inputs))
        if key not in self._evaluations:
            self.network.eval()
            self._evaluations[key] = self._record(self._evaluation, [*state, *inputs, targets])
        return self._evaluations[key](*state, *inputs, targets)

    def outputs(self, state: list[Tensor], inputs: list[Tensor]) -> Tensor:
        """See `Program`."""
        key = ("outputs", *_key(state, inputs), *(t.stride() for t in inputs))
        if key not in self._evaluations:
            self.network.eval()
            self._evaluations[key] = self._record(lambda *given: [self._outputs(given)], [*state, *inputs])
        return self._evaluations[key](*state, *inputs)[0]

    def _record(self, function: Callable[..., list[Tensor]], tensors: list[Tensor]) -> Callable[..., list[Tensor]]:
        where = ModulePath(self.network)
        try:
            with where, warnings.catch_warnings():
                # Operations without a batching rule run member by member: slower, and what explain() is for.
                warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)
                return record(function, tensors)
        except InputError:
            raise
        except Exception as e:
            raise NotFusable(where.current, _reason(e)) from e

    def _step(self, tensors: Sequence[Tensor], n_noise: int) -> list[Tensor]:
        n, n_state = len(self.names.trained), len(self.names.trained) + len(self.names.rest)
        leaves = [p.detach().requires_grad_() for p in tensors[:n]]
        rates, scales, *uniforms = tensors[n_state : n_state + n_noise]
        *inputs, targets = tensors[n_state + n_noise :]

        def member(
            state: dict[str, Tensor], inputs: Sequence[Tensor], rates: Tensor, scales: Tensor, uniforms: list[Tensor]
        ) -> Tensor:
            with self._autocast(), FastLanes(rates, scales, uniforms, self.recipe.low):
                return functional_call(self.network, state, tuple(inputs))

        over_settings = vmap(member, in_dims=(0, None, 0, 0, None))
        outputs = vmap(over_settings, in_dims=(0, 0, None, None, 0))(
            self.names.given([*leaves, *tensors[n:n_state]]), inputs, rates, scales, uniforms
        )
        losses, sums = self._member_sums(outputs, targets)
        of_mean = torch.full_like(losses, 1 / losses.shape[-1])  # each member's loss is the mean over its rows
        gradients = torch.autograd.grad(losses, leaves, of_mean, allow_unused=True)
        return [
            *(torch.zeros_like(p) if g is None else g for g, p in zip(gradients, leaves, strict=True)),
            losses.detach().sum(-1, dtype=torch.float64),
            *sums,
        ]

    def _evaluation(self, *tensors: Tensor) -> list[Tensor]:
        *given, targets = tensors
        losses, sums = self._member_sums(self._outputs(given), targets)
        return [losses.sum(-1, dtype=torch.float64), *sums]

    def _outputs(self, tensors: Sequence[Tensor]) -> Tensor:
        """Return outputs in evaluation mode, given the state and then the inputs."""
        n_state = len(self.names.trained) + len(self.names.rest)
        inputs = tensors[n_state:]
        none = tensors[0].new_empty(0)

        def member(state: dict[str, Tensor], inputs: Sequence[Tensor]) -> Tensor:
            with self._autocast(), FastLanes(none, none, [], self.recipe.low):
                return functional_call(self.network, state, tuple(inputs))

        over_settings = vmap(member, in_dims=(0, None))
        shared = len(inputs[0]) == 1
        over_members = vmap(over_settings, in_dims=(0, None if shared else 0))
        return over_members(self.names.given(tensors[:n_state]), [t[0] for t in inputs] if shared else list(inputs))

    def _member_sums(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return losses `[S, M, B]`, and the number of right rows `[S, M]` if that is wanted."""
        S, M, B = outputs.shape[:3]
        every = targets.unsqueeze(1).expand(S, M, *targets.shape[1:]).flatten(0, 2)
        losses, correct = self._sums(outputs.flatten(0, 2), every)
        return losses.view(S, M, B), [right.view(S, M, B).sum(-1) for right in correct]


class OneByOne(Program):
    """Runs each member by itself, in the ordinary way: for networks whose members can't be run as one."""

    fused = False

    def gradients(
        self, state: list[Tensor], noise: Noise, inputs: list[Tensor], targets: Tensor
    ) -> tuple[list[Tensor], list[Tensor]]:
        """See `Program`."""
        self.network.train()
        n = len(self.names.trained)

        def member(s: int, m: int) -> list[Tensor]:
            leaves = [p[s, m].detach().requires_grad_() for p in state[:n]]
            given = self.names.given([*leaves, *(t[s, m] for t in state[n:])])
            drop = PairedDropout(noise.rates[m].tolist(), [u[s] for u in noise.uniforms])
            with _noise.global_generators(noise.seeds[s], noise.step), self._autocast(), drop:
                outputs = functional_call(self.network, given, tuple(t[s] for t in inputs))
            losses, correct = self._sums(outputs, targets[s])
            gradients = torch.autograd.grad(losses.mean(), leaves, allow_unused=True)
            return [
                *(torch.zeros_like(p) if g is None else g for g, p in zip(gradients, leaves, strict=True)),
                losses.detach().sum(dtype=torch.float64),
                *(right.sum() for right in correct),
            ]

        found = _for_each(state, member)
        return found[:n], found[n:]

    @torch.no_grad()
    def losses(self, state: list[Tensor], inputs: list[Tensor], targets: Tensor) -> list[Tensor]:
        """See `Program`."""
        self.network.eval()

        def member(s: int, m: int) -> list[Tensor]:
            mine = s if len(targets) > 1 else 0
            with self._autocast():
                outputs = functional_call(
                    self.network, self.names.given([t[s, m] for t in state]), tuple(t[mine] for t in inputs)
                )
            losses, correct = self._sums(outputs, targets[mine])
            return [losses.sum(dtype=torch.float64), *(right.sum() for right in correct)]

        return _for_each(state, member)

    @torch.no_grad()
    def outputs(self, state: list[Tensor], inputs: list[Tensor]) -> Tensor:
        """See `Program`."""
        self.network.eval()

        def member(s: int, m: int) -> list[Tensor]:
            mine = s if len(inputs[0]) > 1 else 0
            with self._autocast():
                given = self.names.given([t[s, m] for t in state])
                return [functional_call(self.network, given, tuple(t[mine] for t in inputs))]

        return _for_each(state, member)[0]


def _for_each(state: list[Tensor], member: Callable[[int, int], list[Tensor]]) -> list[Tensor]:
    """Return what `member(s, m)` gives for every member, stacked as `[S, M, ...]`."""
    S, M = state[0].shape[:2]
    each = [member(s, m) for s in range(S) for m in range(M)]
    return [torch.stack(parts).unflatten(0, (S, M)) for parts in zip(*each, strict=True)]


def _key(state: list[Tensor], inputs: list[Tensor]) -> tuple[Any, ...]:
    return (state[0].shape[:2], *(t.shape for t in inputs))


def _reason(e: Exception) -> str:
    """Say in a few words why a network could not be run for all members at once."""
    said = " ".join(str(e).split())
    for sign, reason in _REASONS.items():
        if sign in said:
            return reason
    return said[:200].rstrip(".") or type(e).__name__


_REASONS = {
    "data-dependent control flow": "its control flow depends on the values of a tensor",
    "value at runtime": "its control flow depends on the values of a tensor",
    ".item()": "it reads a tensor's value (.item() or the like)",
    "_local_scalar_dense": "it reads a tensor's value (.item() or the like)",
    "called random operation": "it draws random numbers of its own",
    "randomness": "it draws random numbers of its own",
}
