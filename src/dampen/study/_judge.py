"""From a confirmation to the verdict: which training, how sure, against what, and where its gain comes from."""

import math
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np

from dampen.data import Data
from dampen.engine import Adam, find_optimizer, momentum_of
from dampen.engine.knobs import KNOBS, Scales, Setting
from dampen.metrics import Metric, interval_of
from dampen.search import Training
from dampen.statistics import Estimate, against_all, bonferroni
from dampen.study import _verdict_text
from dampen.study._config import rows_a_step
from dampen.study._confirmation import LEVEL, Confirmed
from dampen.study._diagnosis import diagnose
from dampen.study._evaluate import Candidate, Evaluation
from dampen.study._findings import Against, CalibratedGain, Gain, Length, Part
from dampen.study._phases import Split
from dampen.study._protocol import Plan
from dampen.study._references import NONE, UNREGULARISED, regularisers
from dampen.study._verdict import Verdict


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
    challenger = None if regularised else confirmed.challenger
    attribution, calibrated, total = _attribution(confirmed) if searched else ({}, {}, None)
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
        chosen=challenger or confirmed.chosen,
        dropped=confirmed.dropped,
        value=plan.in_unit(own.mean),
        interval=interval_of(plan.metric, own, evaluation.n_rows, LEVEL, scale),
        references=references,
        helps=_helps(confirmed, gain, learnt) if searched else None,
        learnt=learnt,
        gain=gain,
        passed_over=_part(evaluation, recommended, challenger, _passing_over(confirmed)) if challenger else None,
        attribution=attribution,
        calibrated_attribution=calibrated,
        total=total,
        length=_length(confirmed),
        diagnosis=diagnose(data, confirmed) if searched else None,
        off=confirmed.off,
        margin=_margin_in_unit(confirmed, own.mean),
        equivalent=alike,
        mildest=min((recommended, *alike), key=partial(_strength, steps=steps, lr=plan.training.lr)),
        edges=plan.space.edges(recommended.setting) if inside and plan.space is not None else {},
        memory_epochs=_memory(plan, recommended.setting, steps),
        usual=(plan.training.lr, plan.lengths.usual),
        method=_verdict_text.method(plan, confirmed.pairs, _n_parts(attribution, learnt), searched),
        bias=_verdict_text.bias(plan, evaluation.rows.n_train),
    )


def _compared(confirmed: Confirmed) -> dict[str, Candidate]:
    """Return what the recommended training is compared with, by name: also itself without regularisation."""
    references, off = dict(confirmed.references), confirmed.off
    if off is None or off == confirmed.recommended or off in references.values():
        return references
    none = {name: references.pop(name) for name in (NONE,) if name in references}
    return {**none, "off": off, **references}


def _part(evaluation: Evaluation, other: Candidate, one: Candidate, level: float, metric: Metric | None = None) -> Part:
    """Return by how much `one` is better than `other`, by the study's metric or another one."""
    if other == one:
        return Part(0.0, (0.0, 0.0))
    estimate, low, high = evaluation.excess_in_unit(other, one, level, metric)
    return Part(estimate, (low, high))


def _against(confirmed: Confirmed, other: Candidate) -> Against:
    evaluation, recommended = confirmed.evaluation, confirmed.recommended
    plan, training = evaluation.plan, other if isinstance(other, Training) else None
    if other == recommended:
        return Against(training, plan.in_unit(evaluation.mean(recommended)), 0.0, (0.0, 0.0), None, True)
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
        plan.in_unit(mean),
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
    part, parts = _over_all(confirmed, others.values())
    best = min(parts, key=lambda other: evaluation.excess(other, recommended).mean)
    name = next(name for name, other in others.items() if other == best)
    mean = evaluation.mean(best)
    share = evaluation.excess(best, recommended).mean / abs(mean) if mean else math.nan
    companion = _part(evaluation, best, recommended, confirmed.level, evaluation.companion)
    unit = "smaller RMSE"
    if evaluation.companion.is_share:
        low, high = companion.interval
        companion, unit = Part(1000 * companion.estimate, (1000 * low, 1000 * high)), "fewer wrong of 1000 rows"
    known = companion if math.isfinite(companion.estimate) else None
    once = {training: other for other, training in reversed(others.items())}  # `off` may be one of the others
    unproven = {
        other: parts[training]
        for other, training in others.items()
        if other in once.values() and not parts[training].interval[0] > 0
    }
    calibrated = _calibrated_gain(confirmed, others.values())
    return Gain(name, part, evaluation.metric.name, share, known, unit, unproven, calibrated)


def _over_all(
    confirmed: Confirmed, others: Iterable[Training], metric: Metric | None = None
) -> tuple[Part, dict[Training, Part]]:
    """Return the gain over the best of some trainings, and that over each of them.

    The lower end is the least of all, so that it is above zero where the gain over every one of them is shown.
    """
    evaluation, recommended = confirmed.evaluation, confirmed.recommended
    excesses = {other: evaluation.excess(other, recommended, metric) for other in others}
    parts = {other: _part(evaluation, other, recommended, confirmed.level, metric) for other in excesses}
    best = parts[min(excesses, key=lambda other: excesses[other].mean)]
    _, low, _ = against_all(list(excesses.values()), confirmed.level)
    lowest = min(part.interval[0] for part in parts.values()) if math.isfinite(low) else best.interval[0]
    return Part(best.estimate, (lowest, best.interval[1])), parts


def _calibrated_gain(confirmed: Confirmed, others: Iterable[Training]) -> CalibratedGain | None:
    """Return what is left of the gain where each network has a temperature, and no regularisation its best length so.

    What regularisation gains may be that networks are less sure, which a temperature mends as well.
    """
    evaluation, own = confirmed.evaluation, confirmed.once_calibrated
    if own is None or evaluation.calibrated is None:
        return None
    part, parts = _over_all(
        confirmed, [*others, *([own] if math.isfinite(evaluation.mean(own)) else [])], evaluation.calibrated
    )
    excesses = [evaluation.excess(other, confirmed.recommended, evaluation.calibrated) for other in parts]
    _, _, high = against_all(excesses, bonferroni(confirmed.level, len(excesses)))
    worth = True if part.interval[0] > 0 and part.estimate >= confirmed.margin else None
    return CalibratedGain(part, own, False if high < confirmed.margin else worth)


def _helps(confirmed: Confirmed, gain: Gain | None, learnt: bool | None) -> bool | None:
    """Return whether regularisation is shown to help.

    It must be better than each training without it, which as an intersection-union test needs no correction for their
    number (Berger 1982), by more than the margin in the estimate, and something must have been learnt at all. Where
    none is recommended, what is best with it on the selection rows must be shown to gain less than the margin: that the
    selection rows prefer none shows nothing.
    """
    evaluation, recommended = confirmed.evaluation, confirmed.recommended
    own_dropout = evaluation.plan.own_dropout
    if not regularisers(recommended.setting, own_dropout):
        if learnt is False or confirmed.challenger is None:
            return False
        excess = evaluation.excess(recommended, confirmed.challenger)
        level = _passing_over(confirmed)
        worthless = excess.equivalent(confirmed.margin, level) or excess.interval(level)[1] < confirmed.margin
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


def _passing_over(confirmed: Confirmed) -> float:
    """Return the coverage of what the best with regularisation gains over none, which may be the better of two."""
    return bonferroni(confirmed.level, 1 if confirmed.recommended == confirmed.chosen else 2)


def _learnt(confirmed: Confirmed) -> bool | None:
    """Return whether the recommended training is shown to beat the constant baseline (True), or no better (False)."""
    evaluation = confirmed.evaluation
    excess = evaluation.excess("constant", confirmed.recommended)
    low, high = excess.interval(confirmed.level)
    return True if low > 0 else False if excess.mean <= 0 or high < confirmed.margin else None


def _attribution(confirmed: Confirmed) -> tuple[dict[str, Part], dict[str, Part], Part | None]:
    """Return what each part of the recommended training contributes, under temperatures, too, and all of them together.

    Three steps lead from no regularisation with the usual learning rate and length to the recommended training, and add
    up: a learning rate of its own, a length of its own, and regularisation with the learning rate and length that go
    with it. `together` is what is lost without all regularisers, and each of them what is lost without it alone, the
    rest left as it is; what of this a temperature would mend is told by the same two networks under one each.
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
    lost = [name for name in pairs if name not in ("lr", "length", "regularisation")] if evaluation.calibrated else []
    calibrated = {name: _part(evaluation, *pairs[name], level, evaluation.calibrated) for name in lost}
    return parts, calibrated, None if usual == recommended else _part(evaluation, usual, recommended, confirmed.level)


def _n_parts(attribution: Mapping[str, Part], learnt: bool | None) -> int:
    """Return how many parts are told with an interval: the two ends of the others are the same training."""
    return 0 if learnt is False else sum(part.interval != (0.0, 0.0) for part in attribution.values())


def _length(confirmed: Confirmed) -> Length:
    evaluation, recommended, doubled = confirmed.evaluation, confirmed.recommended, confirmed.doubled
    tried = {rung.epochs for bracket in evaluation.plan.brackets for rung in bracket.rungs}
    searched = confirmed.off is not None  # a comparison has no length to be searched from
    lengths = evaluation.plan.lengths
    several = len(tried) > 1 or lengths.longest > lengths.planned
    shortest = searched and several and 1 < recommended.epochs <= min(tried)
    excess: Estimate | None = None if doubled is None else evaluation.excess(recommended, doubled)
    if doubled is None or excess is None or not math.isfinite(excess.mean):
        return Length(recommended.epochs, None, None, None, evaluation.metric.rising, shortest)
    gain, *ends = evaluation.excess_in_unit(recommended, doubled, LEVEL)
    slope = gain / excess.mean if excess.mean else evaluation.plan.in_unit(1.0) - evaluation.plan.in_unit(0.0)
    error = abs(slope) * excess.error
    return Length(recommended.epochs, gain, error, (ends[0], ends[1]), evaluation.metric.rising, shortest)


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


def _margin_in_unit(confirmed: Confirmed, cost: float) -> float:
    """Return the margin in the metric's unit, at the recommended training's cost."""
    plan = confirmed.evaluation.plan
    margin = plan.metric.difference_in_unit(cost + confirmed.margin, cost, (0.0, 0.0), plan.target_scale[1])[0]
    return abs(margin)


def _steps(plan: Plan, rows: Split) -> int:
    """Return the steps of an epoch."""
    return math.ceil(rows.n_train / rows_a_step(plan.training))


def _memory(plan: Plan, setting: Setting, steps: int) -> float | None:
    if "decay_timescale" in setting:
        return setting["decay_timescale"]
    decay, lr = setting.get("weight_decay", 0.0), setting.get("lr", plan.training.lr)
    optimizer = find_optimizer(plan.training.optimizer)
    average = not isinstance(optimizer, Adam) or optimizer.decoupled  # Adam rescales its coupled decay
    return (1 - momentum_of(optimizer)) / (lr * decay * steps) if decay and average else None


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
