"""The training of a lesson: the chosen setting beside none, with the same seeds, and what there is to see of it."""

import math
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from dampen.engine import Population, Stepper
from dampen.models import mlp
from dampen.play import _points, _surface
from dampen.play._lesson import QUANTITIES, Lesson
from dampen.play._paired import Difference, difference
from dampen.play._points import Points
from dampen.uncertainty import mc_dropout

NONE, CHOSEN = 0, 1  # numbers of the settings
_LONGEST_CURVE = 200  # points of a curve: as many as a screen shows; every second one goes when there are more
_ALONG = 1.0  # seconds between two places of a slider that is drawn along
_BINS = 40
UNITS = 16  # of a layer that are shown
_MASKS = 30  # Monte-Carlo samples of a live picture


@dataclass(frozen=True)
class Mark:
    """A slider that moved while it trained.

    Args:
        step: the last step before.
        name: of the quantity.
        value: the new one.
    """

    step: int
    name: str
    value: int | float


@dataclass(frozen=True)
class Band:
    """A curve with the spread of the seeds: mean, and mean minus and plus the standard deviation."""

    mean: list[float]
    low: list[float]
    high: list[float]


@dataclass(frozen=True)
class Snapshot:
    """What there is to see of a training at a moment; pairs are without regularisation, and with the chosen setting.

    Args:
        step: steps taken.
        epoch: complete epochs.
        per_second: steps a second, lately.
        steps: of the curves' points.
        train: training loss, without noise, penalties and smoothing.
        test: test loss.
        norm: L2 norm of the weights, mean over seeds.
        marks: sliders that moved.
        pictures: of the surface, as images; empty where one input is shown.
        line: with one input: its values, and the band of what is predicted there.
        edges: of the histogram's bins.
        counts: share of all weights in each bin.
        kept: which units of a member the next step keeps, for one row of its batch, by layer.
        difference: by how much the chosen setting is better on the test rows.
        accuracy: on the test rows, where classes are predicted.
        train_accuracy: on the training rows, likewise.
        diverged: members that have diverged, of each.
    """

    step: int
    epoch: int
    per_second: float
    steps: list[int]
    train: tuple[Band, Band]
    test: tuple[Band, Band]
    norm: tuple[list[float], list[float]]
    marks: tuple[Mark, ...]
    pictures: tuple[str, ...]
    line: tuple[list[float], Band, Band] | None
    edges: list[float]
    counts: tuple[list[float], list[float]]
    kept: list[list[bool]]
    difference: Difference
    accuracy: tuple[float, float] | None
    train_accuracy: tuple[float, float] | None
    diverged: tuple[int, int]


class LessonTraining:
    """Trains a lesson; see `_live.Training`, which runs it in a process of its own.

    Args:
        lesson: what is trained.
        points: on what; by default the lesson's own.
    """

    def __init__(self, lesson: Lesson, points: Points | None = None):
        self.lesson, self._points = lesson, points
        self._begin()

    @property
    def speed(self) -> int | float:
        """Steps a second at most."""
        return self.lesson.speed

    def advance(self) -> None:
        """Take a step."""
        self._stepper.advance(1)

    def change(self, lesson: Lesson) -> None:
        """Go on with another lesson: from the next step on where its live quantities changed, else from the start."""
        before, self.lesson = self.lesson, lesson
        if not before.trains_on(lesson):
            self._begin()
            return
        moved = [n for n, q in QUANTITIES.items() if q.live and getattr(before, n) != getattr(lesson, n)]
        if before.settings != lesson.settings:
            self._stepper.replace(lesson.settings)
            self._mark([name for name in moved if name != "speed"])

    def _mark(self, names: list[str]) -> None:
        """Note that sliders moved; one that is drawn along leaves a single mark, where it ends."""
        now, step = time.monotonic(), self._stepper.step
        if not step:
            return
        along = {name for name in names if now - self._moved.get(name, -math.inf) < _ALONG}
        last = {mark.name: mark for mark in self._marks}
        kept = [mark for mark in self._marks if not (mark.name in along and mark is last[mark.name])]
        self._marks = [*kept, *(Mark(step, name, getattr(self.lesson, name)) for name in names)]
        self._moved |= dict.fromkeys(names, now)

    def reset(self) -> None:
        """Start again."""
        self._begin()

    def _begin(self) -> None:
        lesson = self.lesson
        self.points = points = self._points or _points.draw(lesson)
        self._population = Population(mlp(*[lesson.width] * lesson.depth), lesson.settings, lesson.seeds)
        rows = points.inputs, points.targets
        self._stepper = Stepper(self._population, rows, batch_size=lesson.batch_size, lr=lesson.lr)
        self._marks: list[Mark] = []
        self._moved: dict[str, float] = {}  # when each slider did last
        self._steps: list[int] = []
        self._curves: list[Float[np.ndarray, "3 2 3"]] = []  # training loss, test loss, norm: mean and band of each
        self._every = 1  # steps between two points of a curve at least
        self._clock = (0, time.monotonic())
        self._per_second = 0.0

    @torch.no_grad()
    def snapshot(self) -> Snapshot:
        """Return what there is to see now."""
        points, n_train, n_test = self.points, len(self.points.inputs), len(self.points.test_inputs)
        rows = torch.cat([points.inputs, points.test_inputs, points.grid])
        outputs = torch.stack(self._population.outputs((rows, points.targets[:1].expand(len(rows), *_rest(points)))))
        train, test, grid = outputs.split([n_train, n_test, len(points.grid)], dim=2)
        train_losses, test_losses = _losses(train, points.targets), _losses(test, points.test_targets)
        norms = self._stepper.norms()
        self._record(np.stack([train_losses.mean(2), test_losses.mean(2), norms]))
        curves = np.stack(self._curves)
        diverged = self._stepper.diverged
        step = self._stepper.step
        edges, counts = self._histogram()
        pictures, line = self._pictures(grid)
        return Snapshot(
            step=step,
            epoch=self._stepper.epoch,
            per_second=self._speed(step),
            steps=list(self._steps),
            train=(_band(curves[:, 0, NONE]), _band(curves[:, 0, CHOSEN])),
            test=(_band(curves[:, 1, NONE]), _band(curves[:, 1, CHOSEN])),
            norm=(_rounded(curves[:, 2, NONE, 0]), _rounded(curves[:, 2, CHOSEN, 0])),
            marks=tuple(self._marks),
            pictures=pictures,
            line=line,
            edges=edges,
            counts=counts,
            kept=[u[0].flatten()[:UNITS].tolist() for u in self._stepper.kept(self.lesson.settings[1], self._first)],
            difference=difference(test_losses),
            accuracy=_accuracies(test, points.test_targets),
            train_accuracy=_accuracies(train, points.targets),
            diverged=(int(diverged[:, NONE].sum()), int(diverged[:, CHOSEN].sum())),
        )

    @property
    def _first(self) -> int:
        return self.lesson.seeds[0]

    def _record(self, values: Float[np.ndarray, "3 S 2"]) -> None:
        """Add a point to the curves, or move the last one where the training stands."""
        step = self._stepper.step
        if len(self._steps) > 1 and step - self._steps[-2] < self._every:
            self._steps.pop()
            self._curves.pop()
        self._steps.append(step)
        self._curves.append(_with_band(values, 1))
        if len(self._steps) > _LONGEST_CURVE:
            self._steps, self._curves = self._steps[::2], self._curves[::2]
            self._every = max(1, 2 * step // _LONGEST_CURVE)

    def _speed(self, step: int) -> float:
        before, at = self._clock
        now = time.monotonic()
        if step < before or now - at > 1:
            self._clock = step, now
            self._per_second = max(0.0, (step - before) / (now - at))
        return self._per_second

    def _pictures(self, outputs: Float[Tensor, "S 2 G C"]) -> tuple[tuple[str, ...], Any]:
        """Return the surface of both settings: as images, or as lines where there is one input."""
        if len(self.points.shown) == 1:
            values = self.points.grid[:, self.points.shown[0]]
            scale = outputs.squeeze(3).numpy()
            return (), (_rounded(values.numpy()), *(_band(_with_band(scale[:, m], 0)) for m in (NONE, CHOSEN)))
        probabilities = outputs.movedim(3, 0).softmax(0).movedim(0, 3).numpy()  # a short last axis is slow
        if self.lesson.surface == "mean":
            return tuple(_surface.of_classes(probabilities[:, m].mean(0)) for m in (NONE, CHOSEN)), None
        if self.lesson.surface == "seeds":
            deviations = [probabilities[:, m].std(0).max(1) for m in (NONE, CHOSEN)]
        else:
            deviations = [np.zeros(len(self.points.grid)), self._over_masks()]
        return tuple(_surface.of_spread(deviation) for deviation in deviations), None

    def _over_masks(self) -> Float[np.ndarray, " G"]:
        """Return the standard deviation over dropout masks of the first seed's chosen member."""
        setting = self.lesson.settings[CHOSEN]
        if not self.lesson.dropout:
            return np.zeros(len(self.points.grid))
        member = self._population.member(setting, self._first)
        found = mc_dropout(member, self.points.grid, _MASKS, task="classification")
        return found.deviation.amax(1).numpy()  # type: ignore[union-attr]

    def _histogram(self) -> tuple[list[float], tuple[list[float], list[float]]]:
        """Return bins and the share of all weights in each; the outermost bins hold what lies beyond, too."""
        state = self._population.state()
        weights = torch.cat([t.flatten(2) for t in state.values() if t.ndim > 3], dim=2).numpy()
        span = max(0.5, math.ceil(2 * float(np.nan_to_num(np.abs(weights[:, NONE])).max())) / 2)
        edges = np.linspace(-span, span, _BINS + 1)
        counts = [np.histogram(weights[:, m].clip(-span, span), edges)[0] for m in (NONE, CHOSEN)]
        return _rounded(edges), tuple(_rounded(c / max(1, c.sum())) for c in counts)  # type: ignore[return-value]


def _rest(points: Points) -> tuple[int, ...]:
    return tuple(points.targets.shape[1:])


def _losses(outputs: Float[Tensor, "S 2 N C"], targets: Tensor) -> Float[np.ndarray, "S 2 N"]:
    """Return each row's loss: cross-entropy, or the squared error."""
    if targets.is_floating_point():
        return (outputs - targets).square().mean(3).double().numpy()
    S, M, N, C = outputs.shape
    every = targets.expand(S, M, N).reshape(-1)
    return F.cross_entropy(outputs.reshape(-1, C), every, reduction="none").view(S, M, N).double().numpy()


def _accuracies(outputs: Float[Tensor, "S 2 N C"], targets: Tensor) -> tuple[float, float] | None:
    if targets.is_floating_point():
        return None
    none, chosen = (outputs.argmax(3) == targets).float().mean((0, 2)).tolist()
    return none, chosen


def _with_band(values: np.ndarray, seeds: int) -> np.ndarray:
    """Return mean, mean minus and mean plus the standard deviation over the axis of the seeds, as the last axis."""
    mean, deviation = values.mean(seeds), values.std(seeds)
    return np.stack([mean, mean - deviation, mean + deviation], -1)


def _band(values: Float[np.ndarray, "E 3"]) -> Band:
    return Band(*(_rounded(column) for column in values.T))


def _rounded(values: np.ndarray) -> list[float]:
    """Return numbers short enough to be sent many times a second; NaN where a number is not finite."""
    return np.where(np.isfinite(values), values, np.nan).astype(float).round(4).tolist()


def lesson_training(lesson: Lesson) -> LessonTraining:
    """Make the training of a lesson on its own points."""
    return LessonTraining(replace(lesson))
