"""Members of a chunk one after the other, for networks that can't run for all of them at once."""

from collections.abc import Callable
from itertools import product
from typing import Any

import torch
from torch import Tensor

from dampen.engine._rng import kept_generators
from dampen.engine.capture import quiet
from dampen.engine.execution._ordinary import Plainly, Step, gradient, holding, tensors_of
from dampen.engine.execution._program import Noise, Program
from dampen.engine.execution._step_effects import StepEffects
from dampen.engine.optim._averaging import batch_statistics


class OneByOne(Program):
    """Runs each member by itself, in the ordinary way: for networks whose members can't be run as one."""

    fused = False
    choice: str | None = None
    """Why members run like this although they could run as one."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        self._plainly = Plainly() if self.on_cpu else None  # a GPU's generator would have to be asked there

    def gradients(
        self, state: list[Tensor], noise: Noise, inputs: list[Tensor], targets: Tensor
    ) -> tuple[list[Tensor], list[Tensor]]:
        """See `Program`."""
        self.network.train()
        n = len(self.names.trained)
        own = tensors_of(self.network)

        def member(s: int, m: int) -> list[Tensor]:
            with holding(own, self.names.given([t[s, m] for t in state])):
                noise_of_member = noise.only(s, m)
                step = self._step_of(noise_of_member)
                shown = [t[0, 0] for t in noise_of_member.effects.inputs([t[s : s + 1] for t in inputs])]
                results = _Loss(self, noise_of_member.effects, targets[s : s + 1])
                step.backward(self.network, shown, results)
                return [*(gradient(own[name]) for name in self.names.trained), *results.sums]

        with quiet(), kept_generators():
            results = _for_each(state, member)
        return results[:n], results[n:]

    def member_step(self, noise: Noise, s: int, m: int) -> Step:
        """Return what decides a member's step."""
        return self._step_of(noise.only(s, m))

    def _step_of(self, noise: Noise) -> Step:
        effects = noise.effects
        placed = effects.placed(None if effects.rates is None else effects.rates[0], [t[0] for t in effects.draws])
        return Step(
            noise.seeds[0],
            noise.step,
            noise.rates[0].tolist(),
            [u[0] for u in noise.uniforms],
            placed,
            self.recipe.low,
            [t[0] for t in noise.own],
            self._plainly,
        )

    def shown(self, noise: Noise, s: int, m: int, inputs: list[Tensor]) -> list[Tensor]:
        """Return what a member is shown of a batch, `[B, ...]`."""
        return [t[0, 0] for t in noise.only(s, m).effects.inputs([t[s : s + 1] for t in inputs])]

    def loss(self, noise: Noise, s: int, m: int, targets: Tensor) -> "_Loss":
        """Return a member's loss as a function of its outputs."""
        return _Loss(self, noise.only(s, m).effects, targets[s : s + 1])

    @torch.no_grad()
    def statistics(self, state: list[Tensor], noise: Noise, inputs: list[Tensor]) -> None:
        """See `Program`."""
        self.network.train()
        own = tensors_of(self.network)
        with batch_statistics(self.network):
            for s, m in product(*map(range, state[0].shape[:2])):
                with holding(own, self.names.given([t[s, m] for t in state])):
                    self.member_step(noise, s, m).forward(self.network, self.shown(noise, s, m, inputs))

    @torch.no_grad()
    def losses(self, state: list[Tensor], inputs: list[Tensor], targets: Tensor) -> list[Tensor]:
        """See `Program`."""

        def sums(outputs: Tensor, s: int) -> list[Tensor]:
            row = s if len(targets) > 1 else 0
            losses, sums = self._member_sums(outputs[None, None], targets[row : row + 1])
            return [losses.sum(dtype=torch.float64), *(right.sum() for right in sums)]

        return self._evaluated(state, inputs, sums)

    @torch.no_grad()
    def outputs(self, state: list[Tensor], inputs: list[Tensor]) -> Tensor:
        """See `Program`."""
        return self._evaluated(state, inputs, lambda outputs, _: [outputs])[0]

    def _evaluated(
        self, state: list[Tensor], inputs: list[Tensor], take: Callable[[Tensor, int], list[Tensor]]
    ) -> list[Tensor]:
        """Return what `take` makes of each member's outputs in evaluation mode, given the number of its seed."""
        self.network.eval()
        own = tensors_of(self.network)

        def member(s: int, m: int) -> list[Tensor]:
            row = s if len(inputs[0]) > 1 else 0
            with holding(own, self.names.given([t[s, m] for t in state])), self._autocast():
                outputs = self.network(*(t[row] for t in inputs))
            return take(outputs, s)

        with quiet():
            return _for_each(state, member)


class _Loss:
    """The loss of a member's outputs; `sums` are those that `Program.gradients` returns."""

    def __init__(self, program: OneByOne, effects: StepEffects, targets: Tensor):
        self._program, self._effects, self._targets = program, effects, targets
        self.sums: list[Tensor] = []

    def __call__(self, outputs: Tensor) -> Tensor:
        losses, sums = self._program._member_sums(outputs[None, None], self._targets, self._effects)
        self.sums = [losses.detach().sum(dtype=torch.float64), *(right.sum() for right in sums)]
        return losses.mean()


def _for_each(state: list[Tensor], member: Callable[[int, int], list[Tensor]]) -> list[Tensor]:
    """Return what `member(s, m)` gives for every member, stacked as `[S, M, ...]`."""
    S, M = state[0].shape[:2]
    each = [member(s, m) for s in range(S) for m in range(M)]
    return [torch.stack(parts).unflatten(0, (S, M)) for parts in zip(*each, strict=True)]
