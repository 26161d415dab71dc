"""The best weight decay and dropout against the number of training rows, and what to expect of twice as many."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from dampen.data import Data
from dampen.engine.knobs import Setting
from dampen.errors import InputError
from dampen.experiments._answer import Answer, Line, Panel, interval_document
from dampen.experiments._setup import Ground
from dampen.statistics import Estimate, over_rows
from dampen.study import costs_of_rows, usual_batch_size

SHARES = (0.125, 0.25, 0.5, 1.0)
DECAYS = (0.0, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
RATES = (0.0, 0.1, 0.2, 0.35, 0.5, 0.7)
LEAST = 8  # rows of the smallest part
_WINDOW = 2  # points to each side of the best one, through which a parabola is laid


@dataclass(frozen=True)
class Size:
    """What was found with so many rows.

    Args:
        rows: how many train.
        steps: an epoch.
        epochs: of the training.
        curve: loss on the selection rows by decay, at the best dropout for it, `[decays, S]`.
        decay: the best one for each seed; 0 where none is as good as any, or better.
        dropout: likewise.
        at_edge: how many seeds have their best decay at an end of those that were tried: none, or the largest.
        dropout_at_edge: likewise.
        loss: of the setting that is best on the mean over seeds, on the evaluation rows, for each seed.
    """

    rows: int
    steps: int
    epochs: int
    curve: Float[np.ndarray, "decays S"]
    decay: Float[np.ndarray, " S"]
    dropout: Float[np.ndarray, " S"]
    at_edge: int
    dropout_at_edge: int
    loss: Float[np.ndarray, " S"]

    @property
    def without_decay(self) -> int:
        """How many seeds are best without decay."""
        return int((self.decay == 0).sum())

    @property
    def without_dropout(self) -> int:
        """How many seeds are best without dropout."""
        return int((self.dropout == 0).sum())


def answer(ground: Ground) -> Answer:
    """Find both at an eighth, a quarter, a half and all of the rows, as many steps each, and fit a line over sizes.

    Each seed draws rows of its own, the smaller parts within the larger ones. Intervals are over seeds: initial
    weights, batches and which of these rows. All of them are the same for every seed, and so are those that choose:
    how much the best values would differ on other data is not in the intervals. The line is one of logarithms (a
    power law) for decay, as Bergsma et al. (2025, "Power lines: scaling laws for weight decay and batch size in LLM
    pre-training", arXiv 2505.13738) have it for decay's time scale. No decay has no logarithm: where a seed is best
    without, no law is fitted. Nor is a line where half of the seeds or more have their best value at an end of those
    tried, where the best one may lie beyond or, at 0, can't.

    Raises:
        InputError: an eighth of the rows is fewer than 8, or every network diverged.
    """
    n = len(ground.data.train_rows)
    if SHARES[0] * n < LEAST:
        raise InputError(
            f"scaling trains on an eighth of the rows, which {n} are too few for: give {8 * LEAST} or more"
        )
    sizes = [_size(ground, round(share * n)) for share in SHARES]
    rows, twice = [size.rows for size in sizes], 2 * n
    lr, steps = ground.training.lr, sizes[-1].steps * sizes[-1].epochs
    edge = [size.rows for size in sizes if size.without_decay or 2 * size.at_edge >= len(ground.seeds)]
    flat = [size.rows for size in sizes if 2 * size.dropout_at_edge >= len(ground.seeds)]
    law = None if edge else _lines(np.log(rows), np.log(np.stack([size.decay for size in sizes])), math.log(twice))
    line = None if flat else _lines(np.log2(rows), np.stack([size.dropout for size in sizes]), math.log2(twice))
    exponent, expected = map(over_rows, law) if law else (None, None)
    doubling, rate = map(over_rows, line) if line else (None, None)
    found = {"decay exponent": exponent, "dropout per doubling": doubling}
    sentences = [
        _decay_sentence(exponent, edge),
        *(_of_size(size, lr, steps) for size in sizes),
        _twice(twice, expected, exponent, sizes[-1], lr, steps),
        _dropout_sentence(doubling, rate, flat, twice),
        "Each 95 % interval is over seeds, each with its own parts of these rows; other data are not in it.",
    ]
    more = {
        "sizes": [_document(size, lr, steps) for size in sizes],
        "steps": steps,
        "twice": {
            "rows": twice,
            "weight_decay": _of_logs(expected) if expected else None,
            "dropout": interval_document(rate) if rate else None,
        },
    }
    main = {name: estimate for name, estimate in found.items() if estimate}
    verdict = _verdict(exponent)
    panels = _panels(sizes, ground.metric.name, (*law, twice) if law else None)
    return Answer("scaling", ground.data.name, verdict, tuple(sentences), main, panels, more)


def _size(ground: Ground, n: int) -> Size:
    """Train every decay with every dropout on n rows, other ones for each seed, for as many steps as all rows get."""
    sets = [_part(ground.data, n, seed) for seed in ground.seeds]
    judged = [replace(ground.evaluation, train_rows=part.train_rows).validation for part in sets]
    settings = [Setting(weight_decay=decay, dropout=rate) for decay in DECAYS for rate in RATES]
    population = ground.population(settings)
    of_all = len(ground.data.train_rows)
    batch = ground.training.batch_size or usual_batch_size(of_all)
    steps, steps_of_all = math.ceil(n / batch), math.ceil(of_all / batch)
    epochs = max(1, round(ground.epochs * steps_of_all / steps))
    history = ground.fit(population, sets, epochs=epochs, evaluate_every=None)
    losses = history.final("validation_loss")
    losses = np.where(np.isfinite(losses), losses, np.inf).reshape(-1, len(DECAYS), len(RATES))
    if not np.isfinite(losses).any((1, 2)).all():
        raise InputError("every network diverged: try a smaller --lr")
    by_decay, by_rate = losses.min(2), losses.min(1)
    at_decay, at_rate = by_decay.argmin(1), by_rate.argmin(1)  # the smallest of equals
    positive = np.log(DECAYS[1:])
    decay = [math.exp(lowest(positive, curve[1:])) if at else 0.0 for at, curve in zip(at_decay, by_decay, strict=True)]
    dropout = [lowest(np.array(RATES), curve) if at else 0.0 for at, curve in zip(at_rate, by_rate, strict=True)]
    best = int(losses.mean(0).argmin())
    costs = [of_seed[best].double().mean().item() for of_seed in costs_of_rows(population, judged, ground.metric)]
    return Size(
        n,
        steps,
        epochs,
        by_decay.T,
        np.array(decay),
        np.array(dropout),
        int(np.isin(at_decay, (0, len(DECAYS) - 1)).sum()),
        int(np.isin(at_rate, (0, len(RATES) - 1)).sum()),
        np.array(costs),
    )


def _part(data: Data, n: int, seed: int) -> Data:
    """Return data with the first n training rows of a seed's own order."""
    order = torch.randperm(len(data.train_rows), generator=torch.Generator().manual_seed(seed))
    return replace(data, train_rows=data.train_rows[order[:n].sort().values])


def lowest(x: Float[np.ndarray, " k"], y: Float[np.ndarray, " k"]) -> float:
    """Return where a curve is lowest: the vertex of the parabola through the points around the lowest one.

    By least squares over two points to each side; the lowest point itself where they do not make a parabola that opens
    upwards, or its vertex lies beyond them.

    >>> round(lowest(np.arange(5.0), (np.arange(5.0) - 1.7) ** 2), 6)
    1.7
    """
    at = int(np.argmin(y))
    near = slice(max(0, at - _WINDOW), at + _WINDOW + 1)
    x, y, best = x[near], y[near], float(x[at])
    kept = np.isfinite(y)
    if kept.sum() < 3:
        return best
    square, slope, _ = np.polyfit(x[kept], y[kept], 2)
    vertex = -slope / (2 * square) if square > 0 else best
    return float(vertex) if x[kept][0] <= vertex <= x[kept][-1] else best


def _lines(
    x: Float[np.ndarray, " sizes"], y: Float[np.ndarray, "sizes S"], at: float
) -> tuple[Float[np.ndarray, " S"], Float[np.ndarray, " S"]]:
    """Return the slope of each seed's least-squares line over sizes, and its value at another size."""
    slopes, intercepts = np.polyfit(x, y, 1)
    return slopes, intercepts + slopes * at


def _verdict(exponent: Estimate | None) -> str:
    if exponent is None:
        return "no power law: the best decay is none, or at an end of those tried"
    if not exponent.excludes_zero:
        return "no slope is supported"
    return "less decay for more rows" if exponent.mean < 0 else "more decay for more rows"


def _decay_sentence(exponent: Estimate | None, edge: Sequence[int]) -> str:
    if exponent is None:
        return (
            f"With {', '.join(map(str, edge))} rows some seeds are best without decay, or half or more of them with "
            "the largest one tried, so no power law is fitted."
        )
    low, high = exponent.interval()
    interval = f"{exponent.mean:+.2g} (95 % interval {low:+.2g} to {high:+.2g})"
    if not exponent.excludes_zero:
        return f"The data support no slope of the best weight decay in rows: its exponent is {interval}."
    return f"The best weight decay goes with rows to the power of {interval}."


def _of_size(size: Size, lr: float, steps: int) -> str:
    return f"{size.rows} rows: {_best_decay(size, lr, steps)}; {_best_dropout(size)}."


def _best_decay(size: Size, lr: float, steps: int) -> str:
    bare, seeds = size.without_decay, len(size.decay)
    if bare == seeds:
        return f"best without decay for {bare} of {seeds} seeds"
    decay = math.exp(np.log(size.decay[size.decay > 0]).mean())
    if bare:
        return f"best without decay for {bare} of {seeds} seeds, with {decay:.2g} (geometric mean) for the rest"
    low, high = (math.exp(end) for end in over_rows(np.log(size.decay)).interval())
    return f"weight decay {decay:.2g} ({low:.2g} to {high:.2g}), {_time_scale(decay, lr, size.steps, steps)}"


def _best_dropout(size: Size) -> str:
    bare, seeds = size.without_dropout, len(size.dropout)
    if bare == seeds:
        return f"best without dropout for {bare} of {seeds} seeds"
    rate = over_rows(size.dropout)
    low, high = (min(1.0, max(0.0, end)) for end in rate.interval())
    if bare:
        return f"dropout {rate.mean:.2g} ({low:.2g} to {high:.2g}), none for {bare} of {seeds} seeds"
    return f"dropout {rate.mean:.2g} ({low:.2g} to {high:.2g})"


def _time_scale(decay: float, lr: float, steps_an_epoch: int, steps: int) -> str:
    """Return the time scale of decay, `1 / (lr * decay)` steps (Wang and Aitchison 2024), in words."""
    scale = 1 / (lr * decay)
    return f"a time scale of {scale / steps_an_epoch:.2g} epochs or {scale / steps:.2g} of the training"


def _twice(
    twice: int, expected: Estimate | None, exponent: Estimate | None, largest: Size, lr: float, steps: int
) -> str:
    if expected is None or exponent is None:
        return f"So no forecast of decay is made for {twice} rows."
    if not exponent.excludes_zero:
        same = math.exp(float(np.log(largest.decay).mean()))
        return f"With {twice} rows start from what is best now, weight decay {same:.2g}, and search again."
    low, high = (math.exp(end) for end in expected.interval())
    decay = math.exp(expected.mean)
    return (
        f"With {twice} rows expect weight decay {decay:.2g} ({low:.2g} to {high:.2g}), in as many steps "
        f"{1 / (lr * decay) / steps:.2g} of the training, if the law goes on."
    )


def _dropout_sentence(doubling: Estimate | None, rate: Estimate | None, flat: Sequence[int], twice: int) -> str:
    if doubling is None or rate is None:
        return (
            f"With {', '.join(map(str, flat))} rows half of the seeds or more are best without dropout, or with the "
            "highest rate tried, so no slope of dropout is fitted."
        )
    low, high = doubling.interval()
    change = f"{doubling.mean:+.2g} (95 % interval {low:+.2g} to {high:+.2g})"
    if not doubling.excludes_zero:
        return f"The data support no slope of the best dropout: with each doubling of rows it changes by {change}."
    ends = [min(1.0, max(0.0, end)) for end in rate.interval()]
    return (
        f"With each doubling of rows the best dropout changes by {change}; with {twice} rows expect "
        f"{min(1.0, max(0.0, rate.mean)):.2g} ({ends[0]:.2g} to {ends[1]:.2g})."
    )


def _of_logs(estimate: Estimate) -> dict[str, Any]:
    low, high = estimate.interval()
    return {"estimate": math.exp(estimate.mean), "interval": [math.exp(low), math.exp(high)]}


def _document(size: Size, lr: float, steps: int) -> dict[str, Any]:
    decay, scales = None, None
    if not size.without_decay:
        decay = _of_logs(over_rows(np.log(size.decay)))
        scale = over_rows(-np.log(size.decay * lr))
        scales = {
            "epochs": _of_logs(replace(scale, mean=scale.mean - math.log(size.steps))),
            "share": _of_logs(replace(scale, mean=scale.mean - math.log(steps))),
        }
    return {
        "rows": size.rows,
        "epochs": size.epochs,
        "weight_decay": decay,
        "time_scale": scales,
        "dropout": None if size.without_dropout == len(size.dropout) else interval_document(over_rows(size.dropout)),
        "seeds_without_decay": size.without_decay,
        "seeds_without_dropout": size.without_dropout,
        "seeds_at_edge": size.at_edge,
        "loss": interval_document(over_rows(size.loss)),
    }


def _panels(sizes: Sequence[Size], measure: str, law: tuple[np.ndarray, np.ndarray, int] | None) -> tuple[Panel, ...]:
    rows = [size.rows for size in sizes]
    curves = [Line(f"{size.rows} rows", DECAYS, size.curve, group=i) for i, size in enumerate(sizes)]
    best = [Line("best for each seed", rows, np.stack([size.decay for size in sizes]))]
    positive = not any(size.without_decay for size in sizes)
    if law is not None:
        exponents, log_next, twice = law
        along = np.array([*rows, twice])
        fitted = np.exp(log_next + exponents * (np.log(along)[:, None] - math.log(twice)))
        best.append(Line("power law", along.tolist(), fitted, True, 1))
    dropout = [Line("best for each seed", rows, np.stack([size.dropout for size in sizes]))]
    loss = [Line("evaluation rows", rows, np.stack([size.loss for size in sizes]))]
    return (
        Panel(
            "validation rows, at the best dropout",
            "weight decay (leftmost: none)",
            measure,
            curves,
            log_x=True,
            log_y=True,
        ),
        Panel("best weight decay", "training rows", "weight decay", best, log_x=True, log_y=positive),
        Panel("best dropout", "training rows", "rate", dropout, log_x=True),
        Panel(f"{measure} with both", "training rows", measure, loss, log_x=True, log_y=True),
    )
