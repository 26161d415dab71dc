"""What finds the gradients and losses of a chunk's members, and the noise that it is given for a step."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dampen.engine import _losses, _rng
from dampen.engine._config import Recipe
from dampen.engine.capture import Draw, Place, rates_at
from dampen.engine.compiled import Update
from dampen.engine.execution._step_effects import NOTHING, StepEffects
from dampen.engine.knobs import Setting
from dampen.engine.knobs.noise.dropout import keep_scale

_EVALUATION_BYTES = 48 << 20  # of activations while evaluating


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
        effects: what other knobs bring.
        own: for each place where the network draws random numbers of its own, `[S, ...]`.
    """

    seeds: Sequence[int]
    step: int
    rates: Float[Tensor, "M places"]
    scales: Float[Tensor, "M places"]
    uniforms: list[Tensor] = field(repr=False)
    effects: StepEffects = NOTHING
    own: list[Tensor] = field(default_factory=list, repr=False)

    def tensors(self) -> list[Tensor]:
        """Return what a recorded step takes."""
        return [self.rates, self.scales, *self.uniforms, *self.own, *self.effects.tensors()]

    def kinds(self) -> list[tuple[bool, bool]]:
        """Return of each of these tensors whether its first dimensions are those of seeds and of settings."""
        effects = self.effects
        of_settings, of_seeds = (False, True), (True, False)
        rates = [of_settings] if effects.at and effects.rates is not None else []
        own = [of_settings, of_settings, *[of_seeds] * (len(self.uniforms) + len(self.own))]
        return [*own, *[(True, True)] * len(effects.of_batch), *rates, *[of_seeds] * len(effects.draws)]

    def given(self, tensors: Sequence[Tensor]) -> "Noise":
        """Return the same with other tensors, in the order of `tensors()`."""
        n_drop, n = 2 + len(self.uniforms), 2 + len(self.uniforms) + len(self.own)
        rates, scales, *uniforms = tensors[:n_drop]
        own, effects = list(tensors[n_drop:n]), self.effects.given(tensors[n:])
        return replace(self, rates=rates, scales=scales, uniforms=uniforms, effects=effects, own=own)

    def only(self, s: int, m: int | None = None) -> "Noise":
        """Return what decides for one member, or for all of a seed's."""
        uniforms = [u[s : s + 1] for u in self.uniforms]
        own = [t[s : s + 1] for t in self.own]
        settings = slice(None) if m is None else slice(m, m + 1)
        rates, scales = self.rates[settings], self.scales[settings]
        return Noise(self.seeds[s : s + 1], self.step, rates, scales, uniforms, self.effects.only(s, m), own)


def rates_of(settings: Sequence[Setting], places: Sequence[Place], like: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rate of each setting at each place, float64, and what kept units are multiplied by, `[M, places]`."""
    rates = torch.tensor([rates_at(s.get("dropout"), places) for s in settings], dtype=torch.float64)
    rates = rates.view(len(settings), len(places))
    return rates.to(like.device), keep_scale(rates).to(like.device, like.dtype)


def scaled(rates: tuple[Tensor, Tensor], share: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return what `rates_of` returned with each setting's rates times a share `[M]` of theirs."""
    if share is None:
        return rates
    now = rates[0] * share.unsqueeze(1).to(rates[0].device)
    return now, keep_scale(now).to(rates[1].dtype)


def noise_at(
    seeds: Sequence[int],
    step: int,
    rates: tuple[Tensor, Tensor],
    places: Sequence[Place],
    device: torch.device,
    effects: StepEffects = NOTHING,
    draws: Sequence[Draw] = (),
) -> Noise:
    """Draw a step's noise; on a CPU no uniforms where nobody drops anything: all are 0, so that all units are kept."""
    drawing = device.type != "cpu" or bool(rates[0].any())
    uniforms = _rng.dropout_uniforms(seeds, step, [p.shape for p in places], device, drawing)
    own = _rng.own_draws(seeds, step, [(d.kind, d.shape) for d in draws], device)
    return Noise(seeds, step, *rates, uniforms, effects, own)


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
        self.unreached: tuple[str, ...] = ()
        """Parameters that no loss reaches."""
        self.compiling = False
        """Whether steps are compiled, where they can be."""

    @property
    def on_cpu(self) -> bool:
        """Whether the members are on the CPU."""
        return self._device == "cpu"

    @property
    def separable(self) -> bool:
        """Whether members' numbers have so far been, bit for bit, what they are whatever members are beside them."""
        return False

    def serves(self, recipe: Recipe, device: torch.device, compiling: bool = False) -> bool:
        """Return whether this program can go on under another recipe."""
        if self.fused and self.compiling != compiling:
            return False
        own_recipe = self.recipe
        return (own_recipe.loss, own_recipe.accuracy, own_recipe.precision, self._device) == (
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

    def queue_step(
        self,
        state: list[Tensor],
        noise: Noise,
        inputs: list[Tensor],
        targets: Tensor,
        update: Callable[[], Update],
    ) -> list[Tensor] | None:
        """Prepare a whole step, the optimizer's update of `state` included: `flush` takes all that are waiting.

        Args:
            state: as for `gradients`.
            noise: likewise.
            inputs: likewise.
            targets: likewise.
            update: returns what the optimizer does; called if the step will be taken.

        Returns:
            The sums that `gradients` returns, once it is taken; None where this program has no such step.
        """
        return None

    @property
    def waiting(self) -> int:
        """How many steps are prepared."""
        return 0

    def flush(self) -> None:
        """Take the steps that are prepared."""

    def statistics(self, state: list[Tensor], noise: Noise, inputs: list[Tensor]) -> None:
        """Run the forward pass in training mode and leave the batch's own statistics in the running ones of `state`."""
        raise NotImplementedError

    def rows_at_once(self, members: int, row_bytes: int) -> int:
        """Return how many rows to evaluate at once, which suits the cache.

        Args:
            members: how many are evaluated.
            row_bytes: of one member's activations on one row.
        """
        return max(1, _EVALUATION_BYTES // (members * row_bytes))

    def losses(self, state: list[Tensor], inputs: list[Tensor], targets: Tensor) -> list[Tensor]:
        """Return the same sums in evaluation mode; rows may be `[1, B, ...]` where all seeds share them."""
        raise NotImplementedError

    def outputs(self, state: list[Tensor], inputs: list[Tensor]) -> Tensor:
        """Return every member's outputs for rows in evaluation mode, `[S, M, B, ...]`; rows as for `losses`."""
        raise NotImplementedError

    def _autocast(self) -> contextlib.AbstractContextManager[object]:
        if self.recipe.low is None:
            return contextlib.nullcontext()
        return torch.autocast(self._device, self.recipe.low, cache_enabled=False)

    def _member_sums(
        self, outputs: Tensor, targets: Tensor, effects: StepEffects = NOTHING
    ) -> tuple[Float[Tensor, "S M B"], list[Tensor]]:
        """Return the losses of rows, and the number of right ones `[S, M]` if that is wanted."""
        losses, right = self._by_row(outputs, targets, effects)
        return losses, [t.sum(-1) for t in right]

    def _by_row(
        self, outputs: Tensor, targets: Tensor, effects: StepEffects = NOTHING
    ) -> tuple[Float[Tensor, "S M B"], list[Tensor]]:
        """Return the losses of rows, and which are right `[S, M, B]` if that is wanted."""
        S, M, B = outputs.shape[:3]
        outputs = outputs.to(self.recipe.dtype)
        rows, every = outputs.flatten(0, 2), _losses.for_members(targets, S, M).flatten(0, 2)
        if effects.changes_losses:
            losses = effects.losses(self.recipe.loss, outputs, targets)
        else:
            losses = _losses.by_row(self.recipe.loss, rows, every).view(S, M, B)
        if not self.recipe.accuracy:
            return losses, []
        if _losses.has_one_output(rows):
            plain = _losses.by_row(self.recipe.loss, rows.detach(), every)
            right = _losses.correct_of_one(self.recipe.loss, plain, rows.detach(), every)
        else:
            right = _losses.correct(rows.detach(), every)
        return losses, [right.view(S, M, B)]
