"""All members of a chunk as one: their network runs once under `vmap`, and what that does is recorded."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, vmap

from dampen._io import shortened
from dampen.engine.batching._dropout import BatchedDropout
from dampen.engine.capture import ModulePath, quiet, record
from dampen.engine.compiled import CompiledStep, NoCompiler, Untranslatable, Update
from dampen.engine.execution._program import Noise, Program
from dampen.engine.execution._step_effects import following
from dampen.engine.optim._averaging import batch_statistics
from dampen.errors import InputError


class NotFusable(RuntimeError):
    """A network whose members can't be run as one.

    Args:
        module: path of the module that stands in the way, `""` for the network itself.
        reason: what it does.
    """

    def __init__(self, module: str, reason: str):
        super().__init__(reason)
        self.module, self.reason = module, reason


class Fused(Program):
    """Runs the network once for all members, under `vmap` over seeds and settings, and records what that does.

    A recording holds for one shape of batch and one number of members; chunks of equal shape share it.
    """

    fused = True

    def __init__(self, *args: Any):
        super().__init__(*args)
        self._steps: dict[Any, Callable[..., list[Tensor]]] = {}
        self._compiled: dict[Any, CompiledStep | None] = {}
        self.compiling = False
        """Whether steps are compiled, where they can be."""
        self.uncompiled: str | None = None
        """Why a step is not, if one is not."""
        self._evaluations: dict[Any, Callable[..., list[Tensor]]] = {}

    def gradients(
        self, state: list[Tensor], noise: Noise, inputs: list[Tensor], targets: Tensor
    ) -> tuple[list[Tensor], list[Tensor]]:
        """See `Program`.

        Raises:
            NotFusable: the network can't be run for all members at once.
        """
        key = (*_key(state, inputs), noise.effects.key)
        tensors = [*state, *noise.tensors(), *inputs, targets]
        n = len(self.names.trained)
        if self.compiling and (step := self._compiled_step(state, noise, inputs, targets)) is not None:
            results = step(tensors, *state[0].shape[:2])
            return results[:n], results[n:]
        if key not in self._steps:
            scratch = [*(t.clone() for t in state), *tensors[len(state) :]]  # recording runs the step
            self.network.train()
            self._steps[key] = self._record(lambda *given: self._step(given, noise), scratch)
        results = self._steps[key](*tensors)
        return results[:n], results[n:]

    def step(
        self,
        state: list[Tensor],
        noise: Noise,
        inputs: list[Tensor],
        targets: Tensor,
        update: Callable[[], Update],
    ) -> list[Tensor] | None:
        """See `Program`."""
        step = self._compiled_step(state, noise, inputs, targets) if self.compiling else None
        if step is None or not all(t.is_contiguous() for t in state):
            return None
        return step([*state, *noise.tensors(), *inputs, targets], *state[0].shape[:2], update())

    def _compiled_step(
        self, state: list[Tensor], noise: Noise, inputs: list[Tensor], targets: Tensor
    ) -> CompiledStep | None:
        """Return the compiled step of one member; None where it can't be compiled."""
        key = (*_key(state, inputs)[1:], noise.effects.key)
        if key not in self._compiled:
            alone = noise.only(0, 0)
            own = [*(t[:1, :1].clone() for t in state), *alone.tensors(), *(t[:1] for t in inputs), targets[:1]]
            kinds = [*[(True, True)] * len(state), *noise.kinds(), *[(True, False)] * (len(inputs) + 1)]
            self.network.train()
            try:
                with quiet():
                    step = CompiledStep(lambda *given: self._step(given, alone), [t.contiguous() for t in own], kinds)
            except (Untranslatable, NoCompiler) as e:
                step, self.uncompiled = None, str(e)
            self._compiled[key] = step
        return self._compiled[key]

    def statistics(self, state: list[Tensor], noise: Noise, inputs: list[Tensor]) -> None:
        """See `Program`."""
        key = ("statistics", *_key(state, inputs), noise.effects.key)
        tensors = [*state, *noise.tensors(), *inputs]
        n, n_noise = len(state), len(state) + len(noise.tensors())

        def forward(*given: Tensor) -> list[Tensor]:
            # Outputs are not used, but without them a last normalisation would be dropped as unused.
            return [self._forward(given[:n], noise.given(given[n:n_noise]), given[n_noise:])]

        if key not in self._steps:
            scratch = [*(t.clone() for t in state), *tensors[n:]]  # recording runs the pass
            self.network.train()
            with batch_statistics(self.network):
                self._steps[key] = self._record(forward, scratch)
        self._steps[key](*tensors)

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
            with where, quiet():
                return record(function, tensors)
        except InputError:
            raise
        except Exception as e:
            raise NotFusable(where.current, _reason(e)) from e

    def _step(self, tensors: Sequence[Tensor], noise: Noise) -> list[Tensor]:
        n, n_state = len(self.names.trained), len(self.names.trained) + len(self.names.rest)
        leaves = [p.detach().requires_grad_() for p in tensors[:n]]
        n_noise = n_state + len(noise.tensors())
        noise = noise.given(tensors[n_state:n_noise])
        *inputs, targets = tensors[n_noise:]
        outputs = self._forward([*leaves, *tensors[n:n_state]], noise, inputs)
        losses, sums = self._member_sums(outputs, targets, noise.effects)
        of_mean = torch.full_like(losses, 1 / losses.shape[-1])  # each member's loss is the mean over its rows
        gradients = torch.autograd.grad(losses, leaves, of_mean, allow_unused=True)
        return [
            *(torch.zeros_like(p) if g is None else g for g, p in zip(gradients, leaves, strict=True)),
            losses.detach().sum(-1, dtype=torch.float64),
            *sums,
        ]

    def _forward(self, state: Sequence[Tensor], noise: Noise, inputs: Sequence[Tensor]) -> Tensor:
        """Return outputs in training mode, `[S, M, B, ...]`."""
        effects = noise.effects
        shown, of_settings = list(inputs), [None] * len(inputs)
        if effects.changes_inputs:
            shown = effects.inputs(inputs)
            of_settings = [0 if t.shape[1] > 1 else None for t in shown]
            shown = [t if t.shape[1] > 1 else t.squeeze(1) for t in shown]

        def member(
            state: dict[str, Tensor],
            inputs: Sequence[Tensor],
            rates: tuple[Tensor, Tensor, Tensor | None],
            uniforms: list[Tensor],
            draws: list[Tensor],
        ) -> Tensor:
            placed = effects.placed(rates[2], draws)
            mode = BatchedDropout(*rates[:2], uniforms, self.recipe.low, placed, state.values())
            with self._autocast(), following(self.network, placed), mode:
                return mode.now(functional_call(self.network, state, tuple(inputs)))

        every_setting: Any = 0, 0, None if effects.rates is None else 0
        over_settings = vmap(member, in_dims=(0, of_settings, every_setting, None, None))
        return vmap(over_settings, in_dims=(0, 0, None, 0, 0))(
            self.names.given(state),
            shown,
            (noise.rates, noise.scales, effects.rates),
            noise.uniforms,
            effects.draws,
        )

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
            mode = BatchedDropout(none, none, [], self.recipe.low, state=state.values())
            with self._autocast(), mode:
                return mode.now(functional_call(self.network, state, tuple(inputs)))

        over_settings = vmap(member, in_dims=(0, None))
        shared = len(inputs[0]) == 1
        over_members = vmap(over_settings, in_dims=(0, None if shared else 0))
        return over_members(self.names.given(tensors[:n_state]), [t[0] for t in inputs] if shared else list(inputs))


def _key(state: list[Tensor], inputs: list[Tensor]) -> tuple[Any, ...]:
    return (state[0].shape[:2], *(t.shape for t in inputs))


def _reason(e: Exception) -> str:
    """Return in a few words why a network could not be run for all members at once, and what would change that."""
    message = " ".join(str(e).split()).removeprefix("vmap: ")
    for sign, reason in _REASONS.items():
        if sign in message:
            return reason
    operator = re.search(r"(?:not implemented for|batching rule for) (aten::\w+(?:\.\w+)?)", message)
    if operator:
        return f"torch has no batching rule for one of its operations ({operator[1]})"
    return shortened(re.split(r"(?<=\w)[.:] ", message)[0]).rstrip(".") or type(e).__name__


_ITEM = "it reads a tensor's value (.item() or the like): compute with tensors throughout"
_BRANCHES = "its control flow depends on the values of a tensor: choose by torch.where instead"
_DRAWS = (
    "it draws random numbers of its own: nn.Dropout and F.dropout can be fused, so draw masks by F.dropout of a tensor "
    "of ones"
)
_IN_PLACE = (
    "it changes in place a tensor that all members share: leave in-place operations out (inplace=False; x = x + y for "
    "x += y)"
)
_REASONS = {
    "data-dependent control flow": _BRANCHES,
    "value at runtime": _BRANCHES,
    ".item()": _ITEM,
    "_local_scalar_dense": _ITEM,
    "called random operation": _DRAWS,
    "randomness": _DRAWS,
    "embedding_renorm_": "its embedding changes its weights in the forward pass: leave max_norm out",
    "there exists a Tensor `other` in extra_args that has more elements": _IN_PLACE,
    "custom autograd.Function": "its autograd.Function has no vmap rule: give it setup_context and "
    "generate_vmap_rule = True",
    "In order to use an autograd.Function": "its autograd.Function has no vmap rule: give it setup_context and "
    "generate_vmap_rule = True",
    "generate_vmap_rule": "its autograd.Function has no vmap rule: give it generate_vmap_rule = True",
    "modified inplace": _IN_PLACE,
    "doesn't match the broadcast shape": _IN_PLACE,
    "data pointer": "it leaves torch (numpy(), tolist() or the like): compute with tensors throughout",
    "requires_grad_()": "it calls requires_grad_() in its forward pass: torch.func.grad would not",
    "accessing `data`": "it uses .data of a tensor: use .detach(), or change parameters under torch.no_grad()",
}
