"""All members of a chunk as one: their network runs once under `vmap`, and what that does is recorded."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from dampen._io import shortened
from dampen.engine import capture
from dampen.engine._warn_once import warn
from dampen.engine.batching._dropout import BatchedDropout
from dampen.engine.capture import (
    ModulePath,
    Recorded,
    operations,
    quiet,
    record_reading,
)
from dampen.engine.compiled import Call, CompiledStep, Update, translate
from dampen.engine.execution._in_c import InC, Kept, in_c
from dampen.engine.execution._not_fusable import BRANCHES, NotFusable, Unsettled, reason
from dampen.engine.execution._program import Noise, Program
from dampen.engine.execution._replayed import Replayed
from dampen.engine.execution._sequential import OneByOne
from dampen.engine.execution._step_effects import following
from dampen.engine.optim._averaging import batch_statistics
from dampen.errors import InputError

_MOST_VALUES = 16  # recordings of one shape of batch, for as many sets of values that a network reads
_MOST_COMPILED = 4  # likewise, of those that take a second of the C compiler each

_ROWS_AT_ONCE = 256  # that a member evaluates compiled: a power of 2
_MOST_REPLAYED = (
    64  # steps that are kept as graphs of kernels: one for each chunk and shape of batch; others run plainly
)

_Run = Callable[[Program, list[Tensor], Noise, list[Tensor]], list[Tensor]]
_NO_NOISE = Noise((), 0, torch.empty(0, 0), torch.empty(0, 0), [])


class Fused(Program):
    """Runs the network once for all members, under `vmap` over seeds and settings, and records what that does.

    A recording holds for one shape of batch and one number of members; chunks of equal shape share it. Where the
    network reads a value of the batch (whether any word is padded), it holds for batches with that value, and other
    batches have others; one in which the seeds' values differ runs seed by seed.
    """

    fused = True

    def __init__(self, *args: Any):
        super().__init__(*args)
        for module in self.network.modules():
            if isinstance(module, nn.RNNBase):  # on a GPU it would look where its weights lie, which members' don't
                module.flatten_parameters = _nothing  # type: ignore[method-assign]
        self._recorded: dict[Any, list[Recorded]] = {}
        self._alone = OneByOne(*args)
        self._kept = Kept()
        # now: a network whose layers share a tensor may hold one of a recording later
        self._shapes = [(t.shape, t.dtype) for t in self.network.state_dict().values()]
        self.tried = False
        """Whether members have run as one, so that what they can't do as one is a batch's and not the network's."""
        self._uncompiled: str | None = None
        self._evaluates_compiled = False
        self._together = False  # whether members have trained or been evaluated at once, and not one by one in C
        self._waiting: list[Call] = []
        self._replayed: dict[Any, Replayed] = {}

    def take_over(self, before: Kept) -> None:
        """Go on with what another program has compiled, where both look alike.

        That both do the same is for the caller to find out, of a step; `try_evaluation` finds it out of evaluations.

        Args:
            before: of the same model: of other seeds, settings or rows.
        """
        if before.of == self._looks:
            self._kept = before

    @property
    def kept(self) -> Kept | None:
        """What is compiled, for another program to take over; None where nothing is."""
        some = self._in_c and any(self._kept.steps.values())
        return replace(self._kept, of=self._looks) if some else None

    @property
    def _looks(self) -> Any:
        recipe = self.recipe
        return self.names, recipe.loss, recipe.accuracy, recipe.precision, self._in_c, self._shapes, repr(self.network)

    @property
    def _in_c(self) -> bool:
        return self.compiling and self.on_cpu

    @property
    def compiled(self) -> str | None:
        """What is compiled, or why nothing is; None where it was not tried."""
        if self._uncompiled is not None:
            return f"no: {self._uncompiled}"
        if self._replayed:
            return "yes, as one graph of kernels"
        return "yes, a member on each core" if any(self._kept.steps.values()) else None

    @property
    def separable(self) -> bool:
        """See `Program`."""
        return self._evaluates_compiled and not self._together

    def gradients(
        self, state: list[Tensor], noise: Noise, inputs: list[Tensor], targets: Tensor
    ) -> tuple[list[Tensor], list[Tensor]]:
        """See `Program`.

        Raises:
            NotFusable: the network can't be run for all members at once.
        """
        n = len(self.names.trained)
        self._together |= self.tried
        if self._in_c and (step := self._compiled_step(state, noise, inputs, targets)) is not None:
            results = step([*state, *noise.tensors(), *inputs, targets], *state[0].shape[:2])
            return results[:n], results[n:]

        def run(program: Program, state: list[Tensor], noise: Noise, rows: list[Tensor]) -> list[Tensor]:
            *inputs, targets = rows
            if program is not self:
                gradients, sums = program.gradients(state, noise, inputs, targets)
                return [*gradients, *sums]
            key = (*_key(state, inputs), noise.effects.key)
            self.network.train()
            return self._run(key, lambda *given: self._step(given, noise), state, noise.tensors(), rows, step=True)

        results = self._by_values(run, state, noise, [*inputs, targets])
        return results[:n], results[n:]

    def queue_step(
        self,
        state: list[Tensor],
        noise: Noise,
        inputs: list[Tensor],
        targets: Tensor,
        update: Callable[[], Update],
    ) -> list[Tensor] | None:
        """See `Program`."""
        step = self._compiled_step(state, noise, inputs, targets) if self._in_c else None
        if step is None or not all(t.is_contiguous() for t in state):
            return None
        if self._waiting and self._waiting[0].step is not step:
            self.flush()
        (S, M), given = state[0].shape[:2], [*state, *noise.tensors(), *inputs, targets]
        self._waiting.append(step.prepared(given, S, M, update()))
        return self._waiting[-1].outputs

    @property
    def waiting(self) -> int:
        """See `Program`."""
        return len(self._waiting)

    def flush(self) -> None:
        """See `Program`."""
        calls, self._waiting = self._waiting, []
        if calls:
            calls[0].step.run(calls)

    def _compiled_step(
        self, state: list[Tensor], noise: Noise, inputs: list[Tensor], targets: Tensor
    ) -> CompiledStep | None:
        """Return the compiled step of one member, one that holds for this batch; None where it can't be compiled."""
        key = (*((t.shape[1:], t.dtype) for t in (*inputs, targets)), noise.effects.key)
        known = self._kept.steps.setdefault(key, [])
        if known is None:
            return None

        def one_of(s: int) -> list[Tensor]:
            rows = [t[s : s + 1] if len(t) > 1 else t for t in (*inputs, targets)]
            return [*(t[:1, :1] for t in state), *noise.only(0, 0).tensors(), *rows]

        for compiled in known:
            if compiled.holds(map(one_of, range(len(state[0])))):
                return compiled.step
        if len(known) == _MOST_COMPILED:
            return None
        alone, own = noise.only(0, 0), [t.clone() for t in one_of(0)]
        kinds = [*[(True, True)] * len(state), *noise.kinds(), *[(True, False)] * (len(inputs) + 1)]
        deciding = [*[False] * (len(own) - len(inputs) - 1), *[True] * (len(inputs) + 1)]
        self.network.train()
        found = in_c(lambda *given: self._step(given, alone), own, kinds, deciding)
        if isinstance(found, str):
            self._uncompiled = found
            if self.recipe.compile is True:
                warn(f"steps can't be compiled, and run as without compile=True: {found}", UserWarning)
        if not isinstance(found, InC):
            self._kept.steps[key] = None
            return None
        known.append(found)
        return found.step if found.holds(map(one_of, range(len(state[0])))) else None

    def try_evaluation(self, state: list[Tensor], inputs: list[Tensor], targets: Tensor) -> None:
        """Evaluate members compiled from here on, each by itself, where training is and evaluation can be.

        Args:
            state: as for `losses`.
            inputs: rows to try with, as for `losses`.
            targets: likewise.
        """
        if not (self._in_c and self._uncompiled is None and any(self._kept.steps.values())):
            return
        try:
            with quiet():
                if not self._evaluates_as_before(state, inputs, targets):
                    self._kept = replace(self._kept, evaluations={})
                    own, _ = self._one_evaluation(state, inputs, targets)
                    translate(operations(self._counted_evaluation, own))
                self._evaluates_compiled = self._rows_are_apart(state, inputs, targets)
        except InputError:
            raise
        except Exception:  # not foreseen here: evaluation says where and why, if it is the network's
            return

    def _evaluates_as_before(self, state: list[Tensor], inputs: list[Tensor], targets: Tensor) -> bool:
        """Return whether an evaluation that another program has compiled is this network's, found with a few rows."""
        rows = [*inputs, targets]
        of_row = tuple((t.shape[2:], t.dtype) for t in rows)
        for key, step in self._kept.evaluations.items():
            if step is not None and tuple((shape[1:], dtype) for shape, dtype in key) == of_row:
                size = key[0][0][0]
                *inputs, targets = (_padded(t[:, :size], size) for t in rows)
                own, _ = self._one_evaluation(state, inputs, targets)
                with torch.no_grad():
                    return _close(step(own, 1, 1), self._counted_evaluation(*own), self.recipe.dtype)
        return False

    def _rows_are_apart(self, state: list[Tensor], inputs: list[Tensor], targets: Tensor) -> bool:
        """Return whether rows that fill a batch up leave the others' losses as they are, found with three rows."""
        if targets.shape[1] < 3:
            return False
        inputs, targets = [t[:, :3] for t in inputs], targets[:, :3]
        own, _ = self._one_evaluation(state, inputs, targets)
        filled, _ = self._one_evaluation(state, [_padded(t, 4) for t in inputs], _padded(targets, 4))
        filled[-1][3] = False
        with torch.no_grad():
            alone, beside = self._counted_evaluation(*own)[0], self._counted_evaluation(*filled)[0]
        return _close([alone], [beside], self.recipe.dtype)

    def _compiled_evaluation(self, state: list[Tensor], inputs: list[Tensor], targets: Tensor) -> CompiledStep | None:
        key = tuple((t.shape[1:], t.dtype) for t in (*inputs, targets))
        if key not in self._kept.evaluations:
            found = in_c(self._counted_evaluation, *self._one_evaluation(state, inputs, targets))
            self._kept.evaluations[key] = found.step if isinstance(found, InC) else None
        return self._kept.evaluations[key]

    def _one_evaluation(
        self, state: list[Tensor], inputs: list[Tensor], targets: Tensor
    ) -> tuple[list[Tensor], list[tuple[bool, bool]]]:
        """Return what one member's evaluation takes, and whether seeds and settings have each of it for themselves."""
        counted = torch.ones(targets.shape[1], dtype=torch.bool)
        own = [*(t[:1, :1].clone() for t in state), *(t[:1] for t in inputs), targets[:1], counted]
        self.network.eval()
        return own, [*[(True, True)] * len(state), *[(True, False)] * (len(inputs) + 1), (False, False)]

    def _counted_evaluation(self, *tensors: Tensor) -> list[Tensor]:
        *given, targets, counted = tensors
        losses, right = self._by_row(self._outputs(given), targets)
        return [
            torch.where(counted, losses, 0.0).sum(-1, dtype=torch.float64),
            *((t & counted if t.dtype == torch.bool else torch.where(counted, t, 0.0)).sum(-1) for t in right),
        ]

    def rows_at_once(self, members: int, row_bytes: int) -> int:
        """See `Program`; compiled, a member's numbers are the same whatever members are beside it."""
        return _ROWS_AT_ONCE if self._evaluates_compiled else super().rows_at_once(members, row_bytes)

    def statistics(self, state: list[Tensor], noise: Noise, inputs: list[Tensor]) -> None:
        """See `Program`."""
        self._together |= self.tried

        def run(program: Program, state: list[Tensor], noise: Noise, rows: list[Tensor]) -> list[Tensor]:
            if program is not self:
                program.statistics(state, noise, rows)
                return []
            n, n_noise = len(state), len(state) + len(noise.tensors())

            def forward(*given: Tensor) -> list[Tensor]:
                # Outputs are not used, but without them a last normalisation would be dropped as unused.
                return [self._forward(given[:n], noise.given(given[n:n_noise]), given[n_noise:])]

            self.network.train()
            with batch_statistics(self.network):
                key = ("statistics", *_key(state, rows), noise.effects.key)
                return self._run(key, forward, state, noise.tensors(), rows)

        self._by_values(run, state, noise, inputs)

    def losses(self, state: list[Tensor], inputs: list[Tensor], targets: Tensor) -> list[Tensor]:
        """See `Program`."""
        if self._evaluates_compiled and targets.shape[1] <= _ROWS_AT_ONCE:
            n = targets.shape[1]
            size = 1 << (n - 1).bit_length()  # few shapes, as each is compiled
            counted = torch.arange(size) < n
            inputs, targets = [_padded(t, size) for t in inputs], _padded(targets, size)
            step = self._compiled_evaluation(state, inputs, targets)
            if step is not None:
                return step([*state, *inputs, targets, counted], *state[0].shape[:2])
        self._together |= self.tried

        def run(program: Program, state: list[Tensor], _noise: Noise, rows: list[Tensor]) -> list[Tensor]:
            *inputs, targets = rows
            if program is not self:
                return program.losses(state, inputs, targets)
            self.network.eval()
            key = ("losses", *_key(state, inputs), *(t.stride() for t in inputs))
            return self._run(key, self._evaluation, state, [], rows)

        return self._by_values(run, state, _NO_NOISE, [*inputs, targets])

    def outputs(self, state: list[Tensor], inputs: list[Tensor]) -> Tensor:
        """See `Program`."""

        def run(program: Program, state: list[Tensor], _noise: Noise, rows: list[Tensor]) -> list[Tensor]:
            if program is not self:
                return [program.outputs(state, rows)]
            self.network.eval()
            key = ("outputs", *_key(state, rows), *(t.stride() for t in rows))
            return self._run(key, lambda *given: [self._outputs(given)], state, [], rows)

        return self._by_values(run, state, _NO_NOISE, inputs)[0]

    def _by_values(self, run: "_Run", state: list[Tensor], noise: Noise, rows: list[Tensor]) -> list[Tensor]:
        """Run a batch for all members, or seed by seed where the network reads values that differ between these."""
        try:
            return run(self, state, noise, rows)
        except NotFusable:
            if not self.tried:
                raise
        if len(state[0]) == 1:
            return run(self._alone, state, noise, rows)
        each = []
        for s in range(len(state[0])):
            own = [t[s : s + 1] if len(t) > 1 else t for t in rows]
            of_seed = noise if noise is _NO_NOISE else noise.only(s)
            each.append(self._by_values(run, [t[s : s + 1] for t in state], of_seed, own))
        return [torch.cat(parts) for parts in zip(*each, strict=True)]

    def _run(
        self,
        key: Any,
        function: Callable[..., list[Tensor]],
        state: list[Tensor],
        noise: list[Tensor],
        rows: list[Tensor],
        step: bool = False,
    ) -> list[Tensor]:
        """Repeat what a function does, or record it where nothing that has been recorded holds for these tensors.

        Args:
            key: under which it is recorded.
            function: of the tensors.
            state: of all members.
            noise: of this step.
            rows: inputs and targets.
            step: whether it trains, and is repeated so often that a GPU may be given all of its kernels at once.

        Raises:
            NotFusable: it can't be recorded.
            Unsettled: it reads a value that differs from member to member.
        """
        tensors = [*state, *noise, *rows]
        recorded = self._recorded.get(key, [])
        for one in recorded:
            if one.holds(tensors):
                return self._replay(one, tensors, len(state)) if step else one.run(*tensors)
        if len(recorded) == _MOST_VALUES:
            raise Unsettled("", "it reads a value that is another one in every batch: compute with tensors throughout")
        scratch = [*(t.clone() for t in state), *tensors[len(state) :]]  # recording runs the function
        may_decide = [False] * len(self.names.trained) + [True] * len(self.names.rest)
        deciding = [*may_decide, *[False] * len(noise), *[True] * len(rows)]
        one = self._record(function, scratch, deciding)
        self._recorded.setdefault(key, []).append(one)
        return one.run(*tensors)

    def _replay(self, one: Recorded, tensors: list[Tensor], n_state: int) -> list[Tensor]:
        """Repeat a step that has been run before, as one graph of kernels where that can be."""
        if not (self.compiling and self.tried and tensors[0].is_cuda) or self._uncompiled is not None:
            return one.run(*tensors)
        key = id(one), *(t.data_ptr() for t in tensors[:n_state])
        if key not in self._replayed:
            if len(self._replayed) == _MOST_REPLAYED:
                return one.run(*tensors)
            pool = next((other.pool for other in self._replayed.values()), None)
            try:
                self._replayed[key] = Replayed(one.run, tensors, n_state, pool)
            except RuntimeError as e:  # of CUDA: out of memory, or an operation that waits for the GPU
                self._uncompiled = shortened(capture.first_line(e))
                self._replayed.clear()  # and their memory
                if self.recipe.compile is True:
                    warn(f"steps can't be one graph of kernels, and run one by one: {self._uncompiled}", UserWarning)
                return one.run(*tensors)
        n = len(self.names.trained)
        results = self._replayed[key](tensors)
        return [*results[:n], *(t.clone() for t in results[n:])]  # sums of several steps are added up later

    def _record(self, function: Callable[..., list[Tensor]], tensors: list[Tensor], deciding: list[bool]) -> Recorded:
        where = ModulePath(self.network)
        try:
            with where, quiet():
                return record_reading(function, tensors, deciding)
        except InputError:
            raise
        except capture.Unsettled as e:
            raise Unsettled(where.current, BRANCHES) from e
        except Exception as e:
            raise NotFusable(where.current, reason(e)) from e

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
            own: list[Tensor],
        ) -> Tensor:
            placed = effects.placed(rates[2], draws)
            mode = BatchedDropout(*rates[:2], uniforms, self.recipe.low, placed, own, state.values())
            with self._autocast(), following(self.network, placed), mode:
                return mode.now(functional_call(self.network, state, tuple(inputs)))

        every_setting: Any = 0, 0, None if effects.rates is None else 0
        over_settings = vmap(member, in_dims=(0, of_settings, every_setting, None, None, None))
        return vmap(over_settings, in_dims=(0, 0, None, 0, 0, 0))(
            self.names.given(state),
            shown,
            (noise.rates, noise.scales, effects.rates),
            noise.uniforms,
            effects.draws,
            noise.own,
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


def _nothing() -> None:
    pass


def _close(some: Sequence[Tensor], others: Sequence[Tensor], dtype: torch.dtype) -> bool:
    tolerance = 1e-9 if dtype == torch.float64 else 1e-4
    pairs = zip(some, others, strict=True)
    return all(torch.allclose(a, b.to(a.dtype), rtol=tolerance, atol=tolerance, equal_nan=True) for a, b in pairs)


def _padded(rows: Tensor, size: int) -> Tensor:
    """Return `[S, B, ...]` with its first row repeated up to a size."""
    missing = size - rows.shape[1]
    return torch.cat([rows, rows[:, :1].expand(-1, missing, *rows.shape[2:])], 1) if missing else rows


def _key(state: list[Tensor], inputs: list[Tensor]) -> tuple[Any, ...]:
    return (state[0].shape[:2], *(t.shape for t in inputs))
