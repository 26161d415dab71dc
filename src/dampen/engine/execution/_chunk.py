"""A chunk: a rectangle of members, some seeds times some settings, that train in lockstep on stacked parameters."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from dampen.engine import _rng
from dampen.engine._batches import batches
from dampen.engine._config import Recipe
from dampen.engine._dataset import Rows
from dampen.engine.capture import Place, Trace, in_one_line
from dampen.engine.compiled import Update
from dampen.engine.execution._active_knobs import ActiveKnobs
from dampen.engine.execution._program import Names, Noise, Program, noise_at, rates_of, scaled
from dampen.engine.knobs import Setting
from dampen.engine.knobs.weights import decay_timescale
from dampen.engine.optim import _optimizers
from dampen.engine.optim._averaging import Average, running_statistics
from dampen.engine.optim._weight_knobs import AroundStep
from dampen.errors import InputError

_BLOCK_STEPS, _BLOCK_BYTES = 16, 4 << 20  # that are taken together: what steps take of rows and noise stays in a cache


class Chunk:
    """Members, what they have learnt and how far they are.

    Args:
        seeds: the S seeds.
        settings: the M settings.
        names: of the state's tensors.
        state: trained parameters, then frozen ones and buffers, `[S, M, ...]` each; updated in place.
    """

    def __init__(self, seeds: Sequence[int], settings: Sequence[Setting], names: Names, state: list[Tensor]):
        self.seeds, self.settings, self.names, self.state = tuple(seeds), tuple(settings), names, state
        self.shape = len(self.seeds), len(self.settings)
        self.epoch = 0  # complete epochs
        self.batch = 0  # complete batches of the epoch after these
        self.even_batches = True  # how that epoch is cut, from its first batch on
        self.sums: list[Tensor] = []  # over the rows of these batches
        self.held = np.zeros(self.shape, dtype=bool)  # members that have diverged or stopped and change no more
        self.best: list[Tensor] | None = None  # with early stopping: what each member was in its best epoch
        self.best_loss = np.full(self.shape, np.inf)
        self.best_epoch = np.zeros(self.shape, dtype=np.int64)
        self.active = ActiveKnobs(self.settings)
        self.optimizer: _optimizers.Stacked | None = None
        self.start: list[Tensor] | None = None  # initial weights `[S, 1, ...]`, where a knob needs them
        self.average: Average | None = None  # where a setting keeps one
        self._around: AroundStep | None = None
        self.row_bytes = 1
        self._resumed: tuple[dict[str, list[Tensor]], int] = {}, 0
        self._hold: list[tuple[Tensor, Tensor, Tensor]] = []
        self._rates: dict[tuple[Place, ...], tuple[Tensor, Tensor]] = {}

    @property
    def trained(self) -> list[Tensor]:
        """The parameters that have a gradient."""
        return self.state[: len(self.names.trained)]

    @property
    def shown(self) -> list[Tensor]:
        """The state that members are evaluated with and end as: averages, where a setting keeps one."""
        return self.state if self.average is None else self.average.shown(self.state)

    def prepare(
        self,
        recipe: Recipe,
        decayed: Sequence[bool],
        row_bytes: int,
        steps_per_epoch: int,
        normalised: Collection[str] = (),
    ) -> None:
        """Make the optimizer, or give the one that there is this recipe's numbers.

        Args:
            recipe: how members train.
            decayed: for each trained parameter, whether it decays.
            row_bytes: what the forward pass of one member on one row keeps.
            steps_per_epoch: how many there are.
            normalised: parameters whose layer a normalisation follows.

        Raises:
            InputError: the members have been trained with another optimizer.
        """
        _optimizers.check_timescale(recipe.optimizer, self.settings)
        self.row_bytes = row_bytes
        slots, steps = self.optimizer_state()

        def of_members(values: Sequence[float]) -> Tensor:
            return torch.tensor(values, dtype=torch.float64).expand(self.shape)

        lr = of_members([setting.get("lr", recipe.lr) for setting in self.settings])
        momentum = _optimizers.momentum_of(recipe.optimizer)
        decays = of_members(
            [decay_timescale.weight_decay_of(s, recipe.lr, steps_per_epoch, momentum) for s in self.settings]
        )
        self.optimizer = recipe.optimizer.stacked(self.trained, lr, decays, decayed)
        if self.start is None and any(acts.needs_start for _, acts in self.active.gradient):
            self.start = [p[:, :1].clone() for p in self.trained]
        start = dict(zip(self.names.trained, self.start or (), strict=False))
        around = AroundStep(self.active, self.names.trained, self.trained, decayed, lr, start, normalised)
        self._around = None if around.idle else around
        if self.average is None and self.active.averages:
            self.average = Average(self.active, self.state)
        if steps and set(slots) != set(self.optimizer.slots):
            raise InputError(
                f"the population has been trained with another optimizer than {recipe.optimizer}: go on with the same"
            )
        for name, tensors in slots.items():
            for slot, other in zip(self.optimizer.slots[name], tensors, strict=True):
                slot.copy_(other)
        self.optimizer.steps = steps
        self._resumed = {}, 0

    def replace(self, settings: Sequence[Setting]) -> None:
        """Give the members other settings; `prepare` has to follow.

        Raises:
            InputError: a knob that has to be turned from the first step on is turned now.
        """
        active, before = ActiveKnobs(settings), self.settings
        averages = dict.fromkeys(knob for knob, _ in (*active.averages, *self.active.averages))
        if not self.optimizer_state()[1]:
            self.average = None  # `prepare` makes that of the new ones
        else:
            late = [knob.name for knob, acts in active.gradient if acts.needs_start and self.start is None]
            late += [k.name for k in averages if [s.get(k.name) for s in settings] != [s.get(k.name) for s in before]]
            if late:
                raise InputError(f"{late[0]} must be turned from the first step on: start again with it")
        self.settings, self.active, self._rates = tuple(settings), active, {}

    def optimizer_state(self) -> tuple[dict[str, list[Tensor]], int]:
        """Return the optimizer's numbers, a tensor for each trained parameter, and how many steps it has taken."""
        return (self.optimizer.slots, self.optimizer.steps) if self.optimizer else self._resumed

    def resume(self, slots: dict[str, list[Tensor]], steps: int) -> None:
        """Go on with an optimizer's numbers, and hold the members that are held."""
        self._resumed = slots, steps
        self._hold_them()

    def move(self, device: torch.device, dtype: torch.dtype) -> None:
        """Bring all tensors to a device and their floating-point numbers to a type."""

        def moved(tensors: list[Tensor]) -> list[Tensor]:
            return [t.to(device, dtype if t.is_floating_point() else None) for t in tensors]

        slots, steps = self.optimizer_state()
        self.optimizer = None
        self.state = moved(self.state)
        self.best = None if self.best is None else moved(self.best)
        self.start = None if self.start is None else moved(self.start)
        if self.average is not None:
            self.average = Average(self.active, self.state, moved(self.average.tensors))
        self.sums = [t.to(device) for t in self.sums]
        self._rates = {}
        self.resume({name: moved(tensors) for name, tensors in slots.items()}, steps)

    def train_epoch(
        self,
        program: Program,
        trace: Callable[[Sequence[Tensor]], Trace],
        rows: Rows,
        interrupted: Callable[[], bool],
        steps_at_once: int = 1,
    ) -> dict[str, Float64[np.ndarray, "S M"]] | None:
        """Train every member to the end of its epoch on its seed's rows, in its seed's order.

        Args:
            program: finds gradients.
            trace: finds what the network does on a batch of one member.
            rows: of this chunk's seeds.
            interrupted: called after each step but the last, or after some; True stops there.
            steps_at_once: how many steps may be taken together.

        Returns:
            `loss` and, if the recipe counts it, `accuracy`: means over the rows as they were met; NaN where all members
            are held. None if it was interrupted: the next call goes on from there.
        """
        assert self.optimizer is not None
        recipe, N = program.recipe, len(rows)
        if self.held.all():
            self.epoch += 1
            return dict.fromkeys(("loss", "accuracy")[: 1 + recipe.accuracy], np.full(self.shape, np.nan))
        if not self.batch:
            self.even_batches = recipe.even_batches
        spans = batches(N, recipe.batch_size, self.even_batches)
        per_epoch = len(spans)
        steps = recipe.epochs * per_epoch
        order = torch.stack([_rng.batch_order(N, seed, self.epoch + 1) for seed in self.seeds])
        order = order.to(rows.targets.device)
        pending: list[list[Tensor]] = []
        try:
            while self.batch < per_epoch:
                step = self.epoch * per_epoch + self.batch
                inputs, targets = rows.gather(order[:, spans[self.batch]])
                scales = self.active.scales(step, steps)
                noise = self._noise(step, steps, trace, inputs, targets)
                factor = recipe.schedule.factor(step, steps)
                with in_one_line(program.network, _batches(inputs)):
                    pending.append(self._step(program, noise, inputs, targets, factor, scales, steps))
                self.batch += 1
                together = min(steps_at_once, _together(noise, inputs))
                if 0 < program.waiting < together and self.batch < per_epoch:
                    continue
                self._taken(program, pending)
                if self.batch < per_epoch and interrupted():
                    return None
        finally:
            self._taken(program, pending)
        means = _means(self.sums, N)
        self.epoch, self.batch, self.sums = self.epoch + 1, 0, []
        if self.average is not None:
            held = torch.from_numpy(self.held)
            self.average.update("epoch", self.state, self.epoch, recipe.epochs, held)
            stale = self.average.stale(self.epoch, recipe.epochs) & ~held
            if stale.any():
                self._find_statistics(self.average, stale, program, trace, rows, [order[:, span] for span in spans])
        return means

    def _taken(self, program: Program, pending: list[list[Tensor]]) -> None:
        """Take the steps that wait, and add up their sums."""
        program.flush()
        if not pending:
            return
        for t, held, values in self._hold:
            t[held] = values
        for sums in pending:
            self.sums = [a + b for a, b in zip(self.sums, sums, strict=True)] if self.sums else list(sums)
        pending.clear()

    def _step(
        self,
        program: Program,
        noise: Noise,
        inputs: list[Tensor],
        targets: Tensor,
        factor: float,
        scales: Mapping[str, Tensor],
        steps: int,
    ) -> list[Tensor]:
        """Take a step of so many, and return sums over the batch's rows as `Program.gradients` does."""
        optimizer, clip = self.optimizer, program.recipe.clip_grad_norm
        assert optimizer is not None
        decay, done = scales.get("weight_decay"), optimizer.steps + 1

        def update() -> Update:
            return optimizer.update(factor, decay, **self._afterwards(factor, scales, done, steps))

        if clip is None and self._shrinks_at_most:
            sums = program.queue_step(self.state, noise, inputs, targets, update)
            if sums is not None:
                if self.average is not None and self.average.each_step and not self._averages_with_weights:
                    program.flush()
                    self._average(done, steps)
                return sums
            program.flush()  # the steps before this one, where it alone can't be queued
        gradients, sums = program.gradients(self.state, noise, inputs, targets)
        if clip is not None:
            _optimizers.clip_(gradients, clip)
        if self._around is not None:
            self._around.before(gradients, factor, scales)
        optimizer.step(gradients, factor, decay)
        if self._around is not None:
            self._around.after(factor, scales)
        self._average(done, steps)
        return sums

    def _afterwards(self, factor: float, scales: Mapping[str, Tensor], done: int, steps: int) -> dict[str, Any]:
        """Return what an optimizer's step that compiled code takes does besides."""
        afterwards: dict[str, Any] = {}
        if self._around is not None:
            afterwards["thresholds"] = self._around.thresholds(factor, scales)
        if self.average is not None and self._averages_with_weights:
            shares = self.average.shares("step", done, steps, torch.from_numpy(self.held))
            if shares is not None:
                afterwards |= {"shares": shares, "averages": self.average.tensors}
        return afterwards

    def _average(self, done: int, steps: int) -> None:
        if self.average is not None:
            self.average.update("step", self.state, done, steps, torch.from_numpy(self.held))

    @property
    def _shrinks_at_most(self) -> bool:
        """Whether a step moves weights towards 0 at most, besides the optimizer's own."""
        return self._around is None or self._around.shrinks_only

    @property
    def _averages_with_weights(self) -> bool:
        """Whether trained weights are all that an average is of, so that the step which changes them renews it."""
        return not self.names.rest

    def _find_statistics(
        self,
        average: Average,
        stale: Bool[Tensor, "S M"],
        program: Program,
        trace: Callable[[Sequence[Tensor]], Trace],
        rows: Rows,
        parts: Sequence[Tensor],
    ) -> None:
        """Give averaged weights the mean of their batches' statistics in this epoch, as torch's `update_bn` does."""
        wanted = set(running_statistics(program.network))
        places = [i for i, name in enumerate((*self.names.trained, *self.names.rest)) if name in wanted]
        if not places:
            return
        state = [t.clone() for t in average.tensors]
        totals = [torch.zeros_like(state[i]) for i in places]
        for batch, index in enumerate(parts):
            inputs, targets = rows.gather(index)
            noise = self._noise(
                (self.epoch - 1) * len(parts) + batch, program.recipe.epochs * len(parts), trace, inputs, targets
            )
            with in_one_line(program.network, _batches(inputs)):
                program.statistics(state, noise, inputs)
            for total, i in zip(totals, places, strict=True):
                total.add_(state[i])
        stale = stale.to(state[0].device)
        for total, i in zip(totals, places, strict=True):
            average.tensors[i][stale] = (total / len(parts))[stale]

    def _noise(
        self,
        step: int,
        steps: int,
        trace: Callable[[Sequence[Tensor]], Trace],
        inputs: Sequence[Tensor],
        targets: Tensor,
    ) -> Noise:
        """Draw the noise of a step of so many."""
        traced = trace([t[0] for t in inputs])
        where = traced.places
        if where not in self._rates:
            self._rates[where] = rates_of(self.settings, where, self.state[0])
        scales = self.active.scales(step, steps)
        rates = scaled(self._rates[where], scales.get("dropout"))
        effects = self.active.at(self.seeds, step, traced.sites, inputs, targets, scales)
        return noise_at(self.seeds, step, rates, where, targets.device, effects, traced.draws)

    @torch.no_grad()
    def evaluate(
        self, program: Program, rows: Rows, of_seeds: slice = slice(None)
    ) -> dict[str, Float64[np.ndarray, "S M"]]:
        """Return `loss` and perhaps `acc` of every member, or of those of some seeds, in evaluation mode."""
        state = [t[of_seeds] for t in self.shown]
        totals: list[Tensor] = []
        size = program.rows_at_once(self.held.size, self.row_bytes)
        for inputs, targets in _spans(rows, size):
            with in_one_line(program.network, _batches(inputs)):
                sums = program.losses(state, inputs, targets)
            totals = [a + b for a, b in zip(totals, sums, strict=True)] if totals else sums
        return _means(totals, len(rows))

    @torch.no_grad()
    def outputs(self, program: Program, rows: Rows, of_seeds: slice = slice(None)) -> Tensor:
        """Return all rows' outputs of every member, or of those of some seeds, in evaluation mode, `[S, M, N, ...]`."""
        state = [t[of_seeds] for t in self.shown]
        outputs = []
        for inputs, _ in _spans(rows, Program.rows_at_once(program, self.held.size, self.row_bytes)):
            with in_one_line(program.network, _batches(inputs)):
                outputs.append(program.outputs(state, inputs))
        return torch.cat(outputs, dim=2)

    def separable(self, program: Program) -> bool:
        """Return whether members come to the same numbers, bit for bit, whatever others are in their chunk."""
        average = self.average is None or self._averages_with_weights  # of epochs, too: element by element
        apart = self._shrinks_at_most and average and program.recipe.clip_grad_norm is None
        return apart and program.separable  # what torch multiplies of all at once may round as the whole is cut

    def finite(self) -> Bool[np.ndarray, "S M"]:
        """Return which members have only finite parameters."""
        finite = torch.ones(self.shape, dtype=torch.bool, device=self.state[0].device)
        for p in self.trained:
            finite &= p.isfinite().view(*self.shape, -1).all(-1)
        return finite.cpu().numpy()

    def norms(self, decayed: Sequence[bool]) -> Float64[np.ndarray, "S M"]:
        """Return the L2 norm of each member's decaying parameters."""
        squares = torch.zeros(self.shape, dtype=torch.float64, device=self.state[0].device)
        for p, on in zip(self.shown, decayed, strict=False):
            if on:
                squares += torch.linalg.vector_norm(p.reshape(*self.shape, -1), dim=-1, dtype=torch.float64).square()
        return squares.sqrt().cpu().numpy()

    def hold(self, members: Bool[np.ndarray, "S M"]) -> Bool[np.ndarray, "S M"]:
        """Let members change no more, and return those that are new."""
        new = members & ~self.held
        if new.any():
            self.held = self.held | new
            self._hold_them()
        return new

    def _hold_them(self) -> None:
        held = torch.from_numpy(self.held).to(self.state[0].device)
        self._hold = [(t, held, t[held].clone()) for t in self.state] if self.held.any() else []

    def watch(self, loss: Float64[np.ndarray, "S M"], patience: int | None) -> Bool[np.ndarray, "S M"]:
        """Keep the state of members with a new smallest validation loss; return those that had none for too long.

        Args:
            loss: on the validation rows.
            patience: epochs without a smaller one, for settings without a patience; None leaves these alone.
        """
        waits = np.array([setting.get("patience", patience) or np.inf for setting in self.settings], dtype=float)
        better = (loss < self.best_loss) & ~self.held & np.isfinite(waits)
        shown = self.shown
        if self.best is None:
            self.best = [t.clone() for t in shown]
        if better.any():
            on_device = torch.from_numpy(better).to(self.state[0].device)
            for best, t in zip(self.best, shown, strict=True):
                best[on_device] = t[on_device]
        self.best_loss = np.where(better, loss, self.best_loss)
        self.best_epoch = np.where(better, self.epoch, self.best_epoch)
        return (self.epoch - self.best_epoch >= waits) & ~self.held

    def restore_best(self, members: Bool[np.ndarray, "S M"]) -> None:
        """Give members the state of their best epoch."""
        if self.best is not None and members.any():
            on_device = torch.from_numpy(members & (self.best_epoch > 0)).to(self.state[0].device)
            averages = self.average.tensors if self.average is not None else self.state
            for best, t, average in zip(self.best, self.state, averages, strict=True):
                t[on_device] = average[on_device] = best[on_device]
            self._hold_them()


def _spans(rows: Rows, size: int) -> Iterator[tuple[list[Tensor], Tensor]]:
    for start in range(0, len(rows), size):
        yield rows.span(start, start + size)


def _means(totals: list[Tensor], n_rows: int) -> dict[str, Float64[np.ndarray, "S M"]]:
    names = ("loss", "accuracy")
    return {name: (total.double() / n_rows).cpu().numpy() for name, total in zip(names, totals, strict=False)}


def _batches(inputs: Sequence[Tensor]) -> Callable[[], list[list[Tensor]]]:
    """Return what gives the batch of each seed, of inputs `[S, B, ...]`."""
    return lambda: [[t[s] for t in inputs] for s in range(len(inputs[0]))]


def _together(noise: Noise, inputs: Sequence[Tensor]) -> int:
    """Return how many steps with so many numbers are taken together."""
    given = sum(t[0].numel() * t.element_size() for t in (*noise.tensors(), *inputs))
    return max(1, min(_BLOCK_STEPS, _BLOCK_BYTES // max(1, given)))
