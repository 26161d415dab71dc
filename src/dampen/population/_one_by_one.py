"""Members of a chunk one after the other, for networks that can't run for all of them at once."""

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor
from torch.func import functional_call

from dampen.population import _noise
from dampen.population._average import batch_statistics
from dampen.population._dropping import PairedDropout
from dampen.population._program import Noise, Program
from dampen.population._turned import following


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
            outputs = self._forward(given, noise, s, m, inputs)
            losses, sums = self._member_sums(outputs[None, None], targets[s : s + 1], noise.only(s, m).extra)
            gradients = torch.autograd.grad(losses.mean(), leaves, allow_unused=True)
            return [
                *(torch.zeros_like(p) if g is None else g for g, p in zip(gradients, leaves, strict=True)),
                losses.detach().sum(dtype=torch.float64),
                *(right.sum() for right in sums),
            ]

        found = _for_each(state, member)
        return found[:n], found[n:]

    def _forward(self, given: dict[str, Tensor], noise: Noise, s: int, m: int, inputs: list[Tensor]) -> Tensor:
        """Return a member's outputs in training mode, `[B, ...]`."""
        mine = noise.only(s, m)
        extra = mine.extra
        placed = extra.placed(None if extra.rates is None else extra.rates[0], [t[0] for t in extra.draws])
        drop = PairedDropout(mine.rates[0].tolist(), [u[0] for u in mine.uniforms], placed)
        shown = [t[0, 0] for t in extra.inputs([t[s : s + 1] for t in inputs])]
        generators = _noise.global_generators(noise.seeds[s], noise.step)
        with generators, self._autocast(), following(self.network, placed), drop:
            return functional_call(self.network, given, tuple(shown))

    @torch.no_grad()
    def statistics(self, state: list[Tensor], noise: Noise, inputs: list[Tensor]) -> None:
        """See `Program`."""
        self.network.train()
        with batch_statistics(self.network):
            for s, m in product(*map(range, state[0].shape[:2])):
                self._forward(self.names.given([t[s, m] for t in state]), noise, s, m, inputs)

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
            losses, sums = self._member_sums(outputs[None, None], targets[mine : mine + 1])
            return [losses.sum(dtype=torch.float64), *(right.sum() for right in sums)]

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
