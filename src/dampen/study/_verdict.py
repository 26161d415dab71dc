"""The verdict: which training, how sure, against what, and where its gain comes from."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from dampen.data import Data
from dampen.engine.knobs import KNOBS, Scales, Setting
from dampen.metrics import Metric, interval_of
from dampen.search import Dimension, Training
from dampen.statistics import Estimate, against_all, bonferroni
from dampen.study import _verdict_text
from dampen.study._config import optimizer_text, rows_a_step
from dampen.study._confirmation import LEVEL, Confirmed
from dampen.study._diagnosis import Diagnosis, diagnose
from dampen.study._evaluate import Candidate, Evaluation
from dampen.study._phases import Split
from dampen.study._protocol import Plan
from dampen.study._references import NONE, UNREGULARISED, regularisers


@dataclass(frozen=True)
class Part:
    """A difference of two trainings in the metric's unit, above 0 where it is to the better.

    Args:
        estimate: the difference.
        interval: around it.
    """

    estimate: float
    interval: tuple[float, float]

    @property
    def settled(self) -> bool:
        """Whether the interval excludes zero."""
        return self.interval[0] > 0 or self.interval[1] < 0

    def document(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {"estimate": number(self.estimate), "interval": [number(end) for end in self.interval]}


@dataclass(frozen=True)
class Against:
    """The recommended training beside another one.

    Args:
        training: the other one; None for a simple model.
        value: the metric of the other one.
        difference: the metric of the recommended one minus the other's.
        interval: around the difference.
        better: whether the recommended one is shown to be better (True), worse (False), or neither (None).
        equivalent: whether both are shown to differ by less than the margin.
    """

    training: Training | None
    value: float
    difference: float
    interval: tuple[float, float]
    better: bool | None
    equivalent: bool

    @property
    def settled(self) -> bool:
        """Whether the interval excludes zero."""
        return self.better is not None

    def document(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {
            **(self.training.document() if self.training else {"setting": None, "epochs": None, "stopped_at": None}),
            "mean": number(self.value),
            "difference": number(self.difference),
            "interval": [number(end) for end in self.interval],
            "better": self.better,
            "equivalent": self.equivalent,
        }


@dataclass(frozen=True)
class Gain:
    """What regularisation buys: the recommended training against the best one without.

    Args:
        against: name of that one.
        part: the gain in the metric's unit.
        unit: the metric.
        share: of the other one's loss.
        told: the same in the target's unit; None where it is unknown.
        told_unit: that unit.
        open: the gains over those that it is not shown to be better than, by name, each with its own interval.
    """

    against: str
    part: Part
    unit: str
    share: float
    told: float | None
    told_unit: str
    open: Mapping[str, Part] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {
            "against": self.against,
            **self.part.document(),
            "unit": self.unit,
            "share": number(self.share),
            "own_unit": {"estimate": self.told, "unit": self.told_unit},
            "open": {name: part.document() for name, part in self.open.items()},
        }


@dataclass(frozen=True)
class Length:
    """How long to train.

    Args:
        epochs: recommended.
        doubled: what twice as long would gain, in the metric's unit, above 0 where it is better; None where it was not
            tried.
        standard_error: of that.
        rising: whether more of the metric is better.
        shortest: whether nothing shorter was tried, though several lengths were.
    """

    epochs: int
    doubled: float | None
    standard_error: float | None
    rising: bool = False
    shortest: bool = False

    def document(self) -> dict[str, Any]:
        """Return it as JSON can hold it; `difference` is the metric of twice as long minus that of the recommended."""
        doubled = None
        if self.doubled is not None and math.isfinite(self.doubled):
            difference = self.doubled if self.rising else -self.doubled
            doubled = {"difference": difference, "standard_error": self.standard_error}
        return {"epochs": self.epochs, "doubled": doubled, "shortest": self.shortest}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a study found; printing it gives sentences.

    Args:
        metric: what it is about.
        recommended: the setting.
        regularised: whether it has a regulariser.
        chosen: the best on the selection rows, before what does nothing was left out.
        dropped: regularisers that the best setting had, and whose removal is shown to change nothing.
        value: its metric on the evaluation rows.
        interval: around it, 95 %.
        references: by name, what it was compared with; `off` is the same training without regularisation.
        helps: whether regularisation is shown to help (True), shown not to be worth it (False), or neither (None).
        learnt: whether it is shown to be better than the constant (True); False where it is not better in the estimate,
            or shown not to be by more than the margin; None where that is not settled.
        gain: over the best without regularisation; None in a comparison, or where none is recommended.
        passed_over: by how much the best on the selection rows is better than no regularisation where that is
            recommended nevertheless; None otherwise.
        attribution: what the learning rate, the length, regularisation and each regulariser contribute.
        total: how much better it is than no regularisation at the usual learning rate and length.
        length: how long to train.
        diagnosis: what ails it; None in a comparison.
        off: the recommended training without any regulariser; None in a comparison.
        margin: difference of the metric that is negligible.
        equivalent: trainings that are shown to differ from it by less than the margin.
        mildest: the one of them, or the recommended one, with the least regularisation: the fewest other knobs, then
            the least decay, then the least dropout.
        edges: knobs whose recommended value lies at an end of the space, with the range to try next.
        memory_epochs: decay as a time scale, `1 / (lr * weight_decay * steps in an epoch)`; None without decay.
        usual: learning rate and length that `total` is measured against.
        method: how intervals were found.
        bias: what the selection does to the figures.
        words: its sentences, of a study that was read from its folder.
    """

    metric: Metric
    recommended: Setting
    regularised: bool
    chosen: Training
    dropped: tuple[str, ...]
    value: float
    interval: tuple[float, float]
    references: Mapping[str, Against]
    helps: bool | None
    learnt: bool | None
    gain: Gain | None
    passed_over: Part | None
    attribution: Mapping[str, Part]
    total: Part | None
    length: Length
    diagnosis: Diagnosis | None
    off: Training | None
    margin: float
    equivalent: tuple[Training, ...]
    mildest: Training
    edges: Mapping[str, Dimension | str]
    memory_epochs: float | None
    usual: tuple[float, int]
    method: str
    bias: str
    words: tuple[str, ...] | None = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        return "\n".join(self.sentences())

    def sentences(self) -> list[str]:
        """Return the verdict in words, the recommendation first."""
        return _verdict_text.sentences(self) if self.words is None else list(self.words)

    def document(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {
            "metric": self.metric.name,
            "recommended": self.recommended.to_dict(),
            "chosen": self.chosen.document(),
            "dropped": list(self.dropped),
            "validation": {"mean": number(self.value), "interval": [number(end) for end in self.interval]},
            "helps": self.helps,
            "learnt": self.learnt,
            "gain": None if self.gain is None else self.gain.document(),
            "passed_over": None if self.passed_over is None else self.passed_over.document(),
            "attribution": {name: part.document() for name, part in self.attribution.items()},
            "total": None if self.total is None else self.total.document(),
            "length": self.length.document(),
            "diagnosis": None if self.diagnosis is None else self.diagnosis.document(),
            "off": None if self.off is None else self.off.document(),
            "margin": number(self.margin),
            "references": {name: other.document() for name, other in self.references.items()},
            "equivalent": [training.document() for training in self.equivalent],
            "mildest": self.mildest.document(),
            "edges": {name: str(dimension) for name, dimension in self.edges.items()},
            "memory_epochs": self.memory_epochs,
            "method": self.method,
            "bias": self.bias,
        }


def judge(plan: Plan, data: Data, confirmed: Confirmed) -> Verdict:
    """Return the verdict of a confirmation.

    Args:
        plan: the study.
        data: what it is about.
        confirmed: what was trained and evaluated for it.
    """
    evaluation, recommended = confirmed.evaluation, confirmed.recommended
    own, scale = evaluation.estimate({recommended: 1.0}), plan.target_scale[1]
    searched = confirmed.off is not None
    references = {name: _against(confirmed, other) for name, other in _compared(confirmed).items()}
    regularised = bool(regularisers(recommended.setting, plan.own_dropout))
    gain = _gain(confirmed) if searched and regularised else None
    overruled = searched and not regularised and confirmed.chosen != recommended
    attribution, total = _attribution(confirmed) if searched else ({}, None)
    learnt = _learnt(confirmed) if searched else None
    candidates = _candidates(confirmed)
    level = bonferroni(LEVEL, max(1, len(candidates)))
    alike = tuple(c for c in candidates if evaluation.excess(c, recommended).equivalent(confirmed.margin, level))
    steps = _steps(plan, evaluation.rows)
    inside = plan.space is not None and set(plan.space.dimensions) <= set(recommended.setting)
    return Verdict(
        metric=plan.metric,
        recommended=recommended.setting,
        regularised=regularised,
        chosen=confirmed.chosen,
        dropped=confirmed.dropped,
        value=plan.told(own.mean),
        interval=interval_of(plan.metric, own, evaluation.n_rows, LEVEL, scale),
        references=references,
        helps=_helps(confirmed, gain, learnt) if searched else None,
        learnt=learnt,
        gain=gain,
        passed_over=_part(evaluation, recommended, confirmed.chosen, confirmed.level) if overruled else None,
        attribution=attribution,
        total=total,
        length=_length(confirmed),
        diagnosis=diagnose(data, confirmed) if searched else None,
        off=confirmed.off,
        margin=_told_margin(confirmed, own.mean),
        equivalent=alike,
        mildest=min((recommended, *alike), key=partial(_strength, steps=steps, lr=plan.training.lr)),
        edges=plan.space.edges(recommended.setting) if inside and plan.space is not None else {},
        memory_epochs=_memory(plan, recommended.setting, steps),
        usual=(plan.training.lr, plan.lengths.usual),
        method=_verdict_text.method(plan, confirmed.chosen_among, len(attribution), searched),
        bias=_verdict_text.BIASES[plan.scheme],
    )


def number(value: float) -> float | None:
    """Return a number as JSON can hold it."""
    return float(value) if math.isfinite(value) else None


def _compared(confirmed: Confirmed) -> dict[str, Candidate]:
    """Return what the recommended training is compared with, by name: also itself without regularisation."""
    references, off = dict(confirmed.references), confirmed.off
    if off is None or off == confirmed.recommended or off in references.values():
        return references
    none = {name: references.pop(name) for name in (NONE,) if name in references}
    return {**none, "off": off, **references}


def _part(evaluation: Evaluation, other: Candidate, one: Candidate, level: float) -> Part:
    """Return by how much `one` is better than `other`."""
    if other == one:
        return Part(0.0, (0.0, 0.0))
    estimate, low, high = evaluation.told_excess(other, one, evaluation.excess(other, one), level)
    return Part(estimate, (low, high))


def _against(confirmed: Confirmed, other: Candidate) -> Against:
    evaluation, recommended = confirmed.evaluation, confirmed.recommended
    plan, training = evaluation.plan, other if isinstance(other, Training) else None
    if other == recommended:
        return Against(training, plan.told(evaluation.mean(recommended)), 0.0, (0.0, 0.0), None, True)
    mean = evaluation.mean(other)
    if not math.isfinite(mean):  # it diverged, with a seed at least
        return Against(training, math.nan, math.nan, (math.nan, math.nan), True, False)
    excess = evaluation.excess(other, recommended)
    part = _part(evaluation, other, recommended, confirmed.level)
    better = excess.mean > 0 if part.settled else None
    sign = 1.0 if evaluation.metric.rising else -1.0
    low, high = sorted(sign * end for end in part.interval)
    return Against(
        training,
        plan.told(mean),
        sign * part.estimate,
        (low, high),
        better,
        excess.equivalent(confirmed.margin),
    )


def _unregularised(confirmed: Confirmed) -> dict[str, Training]:
    """Return the trainings without regularisation that did not diverge, by name."""
    trainings = {n: c for n, c in confirmed.references.items() if n in UNREGULARISED and isinstance(c, Training)}
    if confirmed.off is not None:
        trainings["off"] = confirmed.off
    return {name: t for name, t in trainings.items() if math.isfinite(confirmed.evaluation.mean(t))}


def _gain(confirmed: Confirmed) -> Gain | None:
    """Return the gain over the best training without regularisation: own learning rate and length, stopped, or off."""
    evaluation, recommended = confirmed.evaluation, confirmed.recommended
    others = _unregularised(confirmed)
    if not others:
        return None
    excesses = {name: evaluation.excess(other, recommended) for name, other in others.items()}
    name = min(excesses, key=lambda other: excesses[other].mean)
    _, low, _ = against_all(list(excesses.values()), confirmed.level)
    estimate = excesses[name]
    gain = evaluation.told_excess(others[name], recommended, estimate, confirmed.level)
    parts = {name: _part(evaluation, other, recommended, confirmed.level) for name, other in others.items()}
    lowest = min(part.interval[0] for part in parts.values())
    share = estimate.mean / abs(evaluation.mean(others[name])) if evaluation.mean(others[name]) else math.nan
    unit = "fewer wrong of 1000 rows" if evaluation.companion.is_share else "smaller RMSE"
    part = Part(gain[0], (min(lowest, gain[1]) if math.isfinite(low) else gain[1], gain[2]))
    told_companion = evaluation.told_companion(others[name], recommended)
    once = {training: other for other, training in reversed(others.items())}  # `off` may be one of the others
    unproven = {other: part for other, part in parts.items() if other in once.values() and not part.interval[0] > 0}
    return Gain(name, part, evaluation.metric.name, share, told_companion, unit, unproven)


def _helps(confirmed: Confirmed, gain: Gain | None, learnt: bool | None) -> bool | None:
    """Return whether regularisation is shown to help.

    It must be better than each training without it, which as an intersection-union test needs no correction for their
    number (Berger 1982), by more than the margin in the estimate, and something must have been learnt at all.
    """
    evaluation, recommended = confirmed.evaluation, confirmed.recommended
    own_dropout = evaluation.plan.own_dropout
    if not regularisers(recommended.setting, own_dropout):
        if learnt is False or not regularisers(confirmed.chosen.setting, own_dropout):
            return False
        excess = evaluation.excess(recommended, confirmed.chosen)
        worthless = excess.equivalent(confirmed.margin) or excess.interval(confirmed.level)[1] < confirmed.margin
        return False if worthless else None
    if gain is None:
        return None
    others = _unregularised(confirmed).values()
    excesses = [evaluation.excess(other, recommended) for other in others]
    mean, low, _ = against_all(excesses, confirmed.level)
    _, _, high = against_all(excesses, bonferroni(confirmed.level, len(excesses)))
    if learnt is False or high < confirmed.margin:
        return False
    return True if low > 0 and mean >= confirmed.margin and learnt else None


def _learnt(confirmed: Confirmed) -> bool | None:
    """Return whether the recommended training is shown to beat the constant baseline (True), or no better (False)."""
    evaluation = confirmed.evaluation
    excess = evaluation.excess("constant", confirmed.recommended)
    low, high = excess.interval(confirmed.level)
    return True if low > 0 else False if excess.mean <= 0 or high < confirmed.margin else None


def _attribution(confirmed: Confirmed) -> tuple[dict[str, Part], Part | None]:
    """Return what each part of the recommended training contributes, and all of them together.

    Three steps lead from no regularisation with the usual learning rate and length to the recommended training, and add
    up: a learning rate of its own, a length of its own, and regularisation with the learning rate and length that go
    with it. `together` is what is lost without all regularisers, and each of them what is lost without it alone, the
    rest left as it is.
    """
    recommended, off, own, usual_length, usual = (
        confirmed.recommended,
        confirmed.off,
        confirmed.own,
        confirmed.usual_length,
        confirmed.usual,
    )
    assert off is not None
    assert own is not None
    assert usual_length is not None
    assert usual is not None
    pairs = {"lr": (usual, usual_length), "length": (usual_length, own)}
    if own != recommended:
        pairs["regularisation"] = (own, recommended)
    if len(confirmed.removed) > 1:
        pairs["together"] = (off, recommended)
    pairs |= {knob: (training, recommended) for knob, training in confirmed.removed.items()}
    level = bonferroni(confirmed.level, max(1, sum(other != better for other, better in pairs.values())))
    evaluation = confirmed.evaluation
    parts = {name: _part(evaluation, other, better, level) for name, (other, better) in pairs.items()}
    return parts, None if usual == recommended else _part(evaluation, usual, recommended, confirmed.level)


def _length(confirmed: Confirmed) -> Length:
    evaluation, recommended, doubled = confirmed.evaluation, confirmed.recommended, confirmed.doubled
    tried = {rung.epochs for bracket in evaluation.plan.brackets for rung in bracket.rungs}
    shortest = len(tried) > 1 and 1 < recommended.epochs <= min(tried)
    excess: Estimate | None = None if doubled is None else evaluation.excess(recommended, doubled)
    if doubled is None or excess is None or not math.isfinite(excess.mean):
        return Length(recommended.epochs, None, None, evaluation.metric.rising, shortest)
    gain = evaluation.told_excess(recommended, doubled, excess, LEVEL)
    slope = gain[0] / excess.mean if excess.mean else evaluation.plan.told(1.0) - evaluation.plan.told(0.0)
    return Length(recommended.epochs, gain[0], abs(slope) * excess.error, evaluation.metric.rising, shortest)


def _candidates(confirmed: Confirmed) -> list[Training]:
    """Return what was confirmed at the recommended or another length of its own, the recommended one left out."""
    references = [c for name, c in confirmed.references.items() if isinstance(c, Training) and c.stopped_at is None]
    candidates = [
        *confirmed.finalists,
        *references,
        *confirmed.removed.values(),
        *([confirmed.off] if confirmed.off else []),
    ]
    evaluation = confirmed.evaluation
    return [c for c in dict.fromkeys(candidates) if c != confirmed.recommended and math.isfinite(evaluation.mean(c))]


def _told_margin(confirmed: Confirmed, cost: float) -> float:
    """Return the margin in the metric's unit, at the recommended training's cost."""
    plan = confirmed.evaluation.plan
    margin = plan.metric.told_difference(cost + confirmed.margin, cost, (0.0, 0.0), plan.target_scale[1])[0]
    return abs(margin)


def _steps(plan: Plan, rows: Split) -> int:
    """Return the steps of an epoch."""
    data = (rows.of_seeds or [rows.sets])[0]
    return math.ceil(len(data.train_rows) / rows_a_step(plan.training))  # type: ignore[union-attr]


def _memory(plan: Plan, setting: Setting, steps: int) -> float | None:
    if "decay_timescale" in setting:
        return setting["decay_timescale"]
    decay, lr = setting.get("weight_decay", 0.0), setting.get("lr", plan.training.lr)
    average = optimizer_text(plan.training).startswith(("AdamW", "adamw", "sgd", "SGD"))  # Adam rescales its decay
    return 1 / (lr * decay * steps) if decay and average else None


def _strength(training: Training, steps: int, lr: float) -> tuple[int, float, float]:
    """Return how many other knobs a setting turns, then its decay in a step, then its mean dropout rate."""
    setting = training.setting
    usual = ("weight_decay", "decay_timescale", "dropout", "lr")
    others = sum(knob.on(setting) and not isinstance(knob.acts, Scales) for n, knob in KNOBS.items() if n not in usual)
    rate = setting.get("dropout", 0.0)
    rates: Any = rate if isinstance(rate, tuple) else (rate,)
    mean = float(np.mean([r[1] if isinstance(r, tuple) else r for r in rates])) if len(rates) else 0.0
    if "decay_timescale" in setting:
        return others, 1 / (setting["decay_timescale"] * steps), mean
    return others, setting.get("weight_decay", 0.0) * setting.get("lr", lr), mean
