"""The verdict in words: the recommendation first, then its evidence."""

import math

from dampen.data import held_rows
from dampen.metrics import CALIBRATED
from dampen.search import Training
from dampen.study._findings import Against, Findings, Gain, Part
from dampen.study._protocol import Plan
from dampen.study._references import DEFAULT, LOSSES, NONE, STOPPED, TABULAR
from dampen.study._setting_text import setting_text

BEATEN = "Better than the network on these rows"
"""Begins the sentence about simple models that are better."""

NAMES = {
    NONE: "no regularisation",
    STOPPED: "no regularisation, stopped early",
    "off": "the same training without regularisation",
    DEFAULT: "AdamW's default decay",
    TABULAR: "the published default for tables",
    "constant": "the constant baseline",
    "linear": "a linear model",
    "boosting": "boosted trees",
}
BIASES = {
    "folds": "The data is small: the search and the evaluation used the same rows, split anew, so the figures of the "
    "selected setting may be slightly too good.",
    "held-out": "The evaluation rows took no part in the choice among settings; they decided only whether a knob "
    "without effect was removed, or all regularisation where the selected setting was no better than none.",
}

_ALIKE = 0.6  # of the rows: what five folds train on, less a quarter
_GIVEN = (
    "The search and the evaluation used the same folds, those that were given, so the figures of the selected setting "
    "may be slightly too good."
)


def bias(plan: Plan, trained: int) -> str:
    """Return what may be too good about the figures, or not hold for all rows.

    Args:
        plan: the study.
        trained: rows that each network behind the figures trains on.
    """
    folds, n = plan.data.given_folds, len(plan.data.train_rows)
    if folds is None and plan.scheme == "folds" and trained < _ALIKE * n:
        return (
            f"{BIASES[plan.scheme]} Groups are of very different sizes, so that these networks train on {trained} of "
            f"{n} rows: with all of them less regularisation may be best."
        )
    if folds is None:
        return BIASES[plan.scheme]
    held = len(held_rows(folds))
    return _GIVEN if held == n else f"{_GIVEN} The folds hold out {held} of {n} rows: the others evaluated nothing."


def method(plan: Plan, pairs: int, n_parts: int, searched: bool) -> str:
    """Return how the intervals were computed; `pairs` of trainings might have been compared."""
    seeds = len(plan.confirm_seeds)
    given = plan.data.given_folds
    text = (
        f"95 % intervals from the {len(given)} folds that were given, with {seeds} fresh seeds, corrected for the rows "
        "that folds share (Nadeau and Bengio 2003)"
        if given is not None
        else f"95 % intervals from {seeds} fresh folds with fresh seeds, corrected for the rows that folds share "
        "(Nadeau and Bengio 2003)"
        if plan.scheme == "folds"
        else f"95 % intervals from {seeds} fresh seeds crossed with the evaluation rows (two-way random effects)"
    )
    text += "; they account for variation across seeds and rows"
    if pairs > 1:
        text += f", and hold for all {pairs} pairs, whichever training is the best (Bonferroni, Dunn 1961)"
    if n_parts > 1:
        text += f"; those of the {n_parts} parts of the gain hold together"
    if searched:
        text += (
            ". Regularisation helps where it is better than every training without it (an intersection-union test, "
            "Berger 1982)"
        )
    text += "."
    if plan.same_start:
        text += (
            " The network starts from the same weights with every seed (does its function set a seed itself?): the "
            "variation across initial weights is not in the intervals."
        )
    if plan.data.groups is not None:
        text += " Rows of a group are one observation."
    if plan.data.weights is not None:
        text += " Rows count by their weights."
    return text


def sentences(verdict: Findings) -> list[str]:
    """Return a verdict in words."""
    lines = [_headline(verdict), *_beaten(verdict), _value(verdict), *_references(verdict)]
    if verdict.learnt is not False:
        lines += [*_attribution(verdict), *_length(verdict)]
    elif verdict.length.doubled is not None and verdict.length.doubled > (verdict.length.standard_error or 0.0):
        lines += _length(verdict)
    lines += _diagnosis(verdict)
    if verdict.learnt is not False:
        lines += _mildest(verdict)
        lines += [f"{knob} lies at the edge of the search space: try {d} next." for knob, d in verdict.edges.items()]
        lines += _shortest(verdict)
        lines += _memory(verdict)
    return [*lines, _margin(verdict), verdict.method, verdict.bias]


def _headline(verdict: Findings) -> str:
    best = f"{setting_text(verdict.recommended)}, {_epochs(verdict.length.epochs)}"
    if verdict.diagnosis is None:
        return _comparison(verdict, best)
    if verdict.learnt is False:
        constant = verdict.references["constant"]
        return (
            f"The network is not significantly better than the constant baseline, which predicts {_constant(verdict)}: "
            f"{verdict.metric.name} {verdict.value:.4g} against {constant.value:.4g}. Its regularisation is not "
            "assessed."
        )
    gain, margin = verdict.gain, verdict.margin
    if not verdict.regularised and verdict.helps is None and verdict.passed_over is not None:
        if verdict.passed_over.interval[0] > 0:
            return (
                f"Whether regularisation helps is open: no regularisation ({best}) is best on the selection rows, but "
                f"on the evaluation rows the best setting with some, {_chosen(verdict)}, is better "
                f"({_passed_over(verdict)}). More rows or seeds can tell."
            )
        how = "not significantly better" if verdict.passed_over.estimate > 0 else "not better"
        return (
            f"No setting is significantly better than no regularisation; use none ({best}). The best one with some on "
            f"the selection rows, {_chosen(verdict)}, was {how} on the evaluation rows ({_passed_over(verdict)})."
        )
    if not verdict.regularised:
        return f"Use no regularisation ({best}): {_why_none(verdict)}."
    if gain is None:
        return f"Use {best}: without regularisation every training diverged."
    size = (
        f"{verdict.metric.name} {'+' if verdict.metric.rising else '-'}{abs(gain.part.estimate):.4g} "
        f"({_gain_ends(verdict)})"
    )
    if verdict.helps:
        more = _own_unit(verdict) + _once_calibrated(gain)
        return f"Use {best}: regularisation helps, {size} against {_name(verdict, gain.against)}.{more}"
    if verdict.helps is False:
        if gain.part.interval[1] < 0:
            return (
                f"Regularisation does not help: {_name(verdict, gain.against)} is better than the best with it, {best}."
            )
        return (
            f"The gain from regularisation is negligible: the best setting, {best}, has {_listed(verdict, gain.part)}, "
            f"over {_name(verdict, gain.against)}, and the margin is {_number(margin, digits=2)}."
        )
    if gain.part.interval[0] > 0 and gain.part.estimate >= margin and verdict.learnt is None:
        return (
            f"Use {best}: it is better than {_name(verdict, gain.against)}, by {_sized(verdict, gain.part)}, but not "
            f"significantly better than the constant baseline, which predicts {_constant(verdict)}."
        )
    if gain.part.interval[0] > 0:
        return (
            f"Use {best}: it is better than {_name(verdict, gain.against)}, but by {_sized(verdict, gain.part)}, "
            "which may be negligible."
        )
    open_parts = gain.open or {gain.against: gain.part}
    shown = [NONE] if NONE in open_parts else list(open_parts)
    names = " or ".join(_name(verdict, name) for name in shown)
    least = min(open_parts, key=lambda name: open_parts[name].estimate)
    part = open_parts[least]
    over = "" if shown == [least] else f"over {_name(verdict, least)}"
    if part.estimate > 0:
        return (
            f"No setting is significantly better than {names}. The best estimate is {best}: a gain of "
            f"{_sized(verdict, part)}{over and f' {over}'}, not significant."
        )
    return (
        f"No setting is significantly better than {names}: {best}, the best on the selection rows, was not better on "
        f"the evaluation rows ({over and f'{over}: '}{_listed(verdict, part)})."
    )


def _sized(verdict: Findings, part: Part) -> str:
    """Return a difference with its interval and its metric."""
    return f"{_number(part.estimate, digits=2)} ({_ends(part.interval)}) in {verdict.metric.name}"


def _listed(verdict: Findings, part: Part) -> str:
    """Return a gain, or a loss where it is negative, with its interval for use in parentheses."""
    low, high = part.interval
    kind, size, ends = (
        ("loss", -part.estimate, (-high, -low)) if part.estimate < 0 else ("gain", part.estimate, part.interval)
    )
    return f"a {kind} of {_number(size, digits=2)} in {verdict.metric.name}, {_ends(ends)}"


def _constant(verdict: Findings) -> str:
    return "the mean" if verdict.metric.task == "regression" else "the class frequencies"


def _comparison(verdict: Findings, best: str) -> str:
    others = [other for other in verdict.references.values() if not _same(verdict, other)]
    unsettled = sum(not other.settled for other in others)
    small = [o for o in others if o.settled and abs(o.difference) < verdict.margin]
    worse = [name for name, other in verdict.references.items() if other.better is False]
    if worse:
        name = _name(verdict, worse[0])
        return f"The best on the selection rows is {best}, but on the evaluation rows {name} is better."
    open_ones = "the other one" if len(others) == 1 else f"{unsettled} of {len(others)} others"
    sure = f"{open_ones} may be as good" if unsettled else "better than every other one"
    note = ", though some differences are negligible" if small and not unsettled else ""
    return f"The best is {best}: {sure}{note}."


def _value(verdict: Findings) -> str:
    value = f"{verdict.value:.4g} (95 % interval {_ends(verdict.interval)})"
    if _beaten(verdict):
        return f"The network's {verdict.metric.name} is {value}."
    return f"Its {verdict.metric.name} is {value}."


def _references(verdict: Findings) -> list[str]:
    lines = []
    for name, other in verdict.references.items():
        if _same(verdict, other):
            continue
        what = _name(verdict, name)
        if math.isnan(other.value):
            lines.append(f"Against {what}, which diverged, there is nothing to compare.")
            continue
        how = {True: "better", False: "worse", None: "no significant difference"}[other.better]
        if other.equivalent:
            how = "equivalent"
        ends, difference = _ends(other.interval, "+"), _number(other.difference, "+")
        line = f"Against {what}{_with(other)} ({other.value:.4g}): {difference} ({ends}), {how}."
        by_loss = other.training is None or other.training.stopped_at is None or verdict.metric.name in LOSSES
        lines.append(line if by_loss else f"{line} It stops where its validation loss is least, whatever the metric.")
    return lines


def _with(other: Against) -> str:
    if other.training is None:
        return ""
    lr = other.training.setting.get("lr")
    rate = "" if lr is None else f"learning rate {lr:.2g}, "
    if other.training.stopped_at == other.training.epochs:
        return f" with {rate}after the last of {_epochs(other.training.epochs)}"
    if other.training.stopped_at is not None:
        return f" with {rate}after epoch {other.training.stopped_at} of {other.training.epochs}"
    return f" with {rate}{_epochs(other.training.epochs)}"


def _attribution(verdict: Findings) -> list[str]:
    parts, total = verdict.attribution, verdict.total
    if not parts or total is None or math.isnan(total.estimate):
        return []
    lr, epochs = verdict.usual
    words = {"lr": "a better learning rate", "length": "a better length", "regularisation": "regularisation"}
    worse = words | {"lr": "another learning rate", "length": "another length"}
    named = {name: (words if part.estimate > 0 else worse)[name] for name, part in parts.items() if name in words}
    steps = [
        f"{named[name]} {_number(part.estimate, '+', 2)} ({_ends(part.interval, '+', 2)})"
        for name, part in parts.items()
        if name in named and part.interval != (0.0, 0.0) and not math.isnan(part.estimate)
    ]
    lines = []
    if steps:
        lines.append(
            f"Where the gain comes from: no regularisation with learning rate {lr:g} and {_epochs(epochs)} is "
            f"{abs(total.estimate):.2g} {'worse' if total.estimate >= 0 else 'better'}; {', '.join(steps)}."
        )
    losses = [_loss(_knob(name), part) for name, part in parts.items() if name not in words]
    if losses:
        lines.append(f"At the same learning rate and length: {'; '.join(losses)}.")
    calibrated = {name: p for name, p in verdict.calibrated_attribution.items() if not math.isnan(p.estimate)}
    if calibrated:
        told = "; ".join(_loss(_knob(name), part) for name, part in calibrated.items())
        lines.append(f"At the same learning rate and length, with a temperature for each network: {told}.")
    return lines


def _loss(knob: str, part: Part) -> str:
    """Return what is lost without a knob."""
    if math.isnan(part.estimate):
        return f"without {knob} it diverges"
    low, high = part.interval
    how, ends = ("worse", (low, high)) if part.estimate >= 0 else ("better", (-high, -low))
    sure = "" if part.settled else ", not significant"
    return f"without {knob} it would be {abs(part.estimate):.2g} {how} ({_ends(ends, '+', 2)}{sure})"


def _knob(name: str) -> str:
    return "any of it" if name == "together" else f"its {name.replace('_', ' ')}"


def _length(verdict: Findings) -> list[str]:
    length = verdict.length
    if length.doubled is None or length.standard_error is None or length.interval is None:
        return []
    long, by, (low, high) = 2 * length.epochs, f"{length.doubled:.2g}", length.interval
    ends = _ends(length.interval, "+", 2)
    if low > 0:
        return [f"With {long} epochs it would be better still, by {by} ({ends})."]
    if length.doubled > length.standard_error:
        return [f"With {long} epochs it may be better still, by {by} ({ends}), which is not significant."]
    enough = f"{_epochs(length.epochs)} {'is' if length.epochs == 1 else 'are'} enough: with {long}"
    if high < 0:
        return [f"{enough} it is worse, by {-length.doubled:.2g} ({_ends((-high, -low), '+', 2)})."]
    return [f"{enough} it is no better ({_number(length.doubled, '+', 2)}, {ends})."]


def _diagnosis(verdict: Findings) -> list[str]:
    diagnosis = verdict.diagnosis
    if diagnosis is None:
        return []
    lines = []
    if diagnosis.overfits_from is not None:
        lines.append(f"Without regularisation it overfits from epoch {diagnosis.overfits_from} on.")
    if diagnosis.underfits:
        lines.append("It underfits: longer trainings than those that were tried would be better.")
    copies, tested = diagnosis.leaks.get("copies", 0), diagnosis.leaks.get("test_copies", 0)
    if copies:
        lines.append(f"{'1 row is a copy' if copies == 1 else f'{copies} rows are copies'} of another one.")
    if tested:
        rows = (
            "1 test row is equal to a training row" if tested == 1 else f"{tested} test rows are equal to training rows"
        )
        lines.append(f"{rows}: the test figures may be too good.")
    for name in diagnosis.leaks.get("identifiers", []):
        lines.append(
            f"Column '{name}' looks like an identifier that repeats: if its rows belong together, these figures are "
            f"too good; --group {name} keeps them together."
        )
    return lines


def _beaten(verdict: Findings) -> list[str]:
    """Return what is to be used instead of the network."""
    beaten_by = () if verdict.diagnosis is None else verdict.diagnosis.beaten_by
    simple = " and ".join(NAMES[name] for name in beaten_by if name != STOPPED)
    return [f"{BEATEN}: {simple}. Consider using that instead."] if simple else []


def _shortest(verdict: Findings) -> list[str]:
    epochs = verdict.length.epochs
    if not verdict.length.shortest:
        return []
    return [
        f"{_epochs(epochs)} is the shortest length that was tried: search again with --epochs {epochs} "
        f"(epochs={epochs} in Python), which also tries shorter ones."
    ]


def _mildest(verdict: Findings) -> list[str]:
    lines = []
    gone = _dropped(verdict)
    if gone and verdict.gain is not None:
        lines.append(f"{gone[0].upper()}{gone[1:]}: removed.")
    mildest = verdict.mildest
    if (mildest.setting, mildest.epochs) != (verdict.recommended, verdict.length.epochs):
        lines.append(
            f"The mildest training shown to be as good, within the margin: {setting_text(mildest.setting)}, "
            f"{_epochs(mildest.epochs)}."
        )
    return lines


def _why_none(verdict: Findings) -> str:
    gone = _dropped(verdict)
    if gone:
        return gone
    part = verdict.passed_over
    if part is None:
        return "no setting with some was trained for the verdict"
    best, size = _chosen(verdict), _passed_over(verdict)
    if part.interval[1] < 0:
        return f"the best setting with some, {best}, is worse ({size})"
    if part.estimate > 0:
        return f"the best setting with some, {best}, gains less than the margin ({size})"
    return f"the best setting with some, {best}, is no better ({size})"


def _chosen(verdict: Findings) -> str:
    return f"{setting_text(verdict.chosen.setting)}, {_epochs(verdict.chosen.epochs)}"


def _passed_over(verdict: Findings) -> str:
    part = verdict.passed_over
    assert part is not None
    return _listed(verdict, part)


def _dropped(verdict: Findings) -> str:
    if not verdict.dropped:
        return ""
    names = " and ".join(name.replace("_", " ") for name in verdict.dropped)
    return f"{names} {'is' if len(verdict.dropped) == 1 else 'are'} shown to gain no more than the margin"


def _memory(verdict: Findings) -> list[str]:
    if verdict.memory_epochs is None:
        return []
    if verdict.memory_epochs > 10 * verdict.length.epochs:
        return [
            f"This weight decay has little effect: its time scale is {verdict.memory_epochs:.3g} epochs, 1 / (lr * "
            f"weight_decay * steps per epoch), and the training lasts {verdict.length.epochs}."
        ]
    return [
        f"The time scale of this weight decay is {verdict.memory_epochs:.3g} epochs, 1 / (lr * weight_decay * steps "
        "per epoch) (Wang and Aitchison 2024): with another learning rate or batch size, choose the weight decay "
        "that keeps it. With another amount of data search again: the best time scale changes with the rows per "
        "parameter (Bergsma et al. 2025)."
    ]


def _margin(verdict: Findings) -> str:
    text = f"Differences of {verdict.metric.name} below {verdict.margin:.2g} are treated as negligible."
    if verdict.metric.name == CALIBRATED:
        text += (
            " It is the nll under the temperature that the other half of the rows fit (Berta et al. 2025): how well "
            "classes are told apart. Other figures are of probabilities as they are, before they are calibrated."
        )
    if verdict.calibrated_attribution:
        text += " Temperatures are fitted on the other half of the evaluation rows (Berta et al. 2025)."
    if verdict.helps and verdict.gain is not None and verdict.gain.calibrated is not None:
        epochs = _epochs(verdict.gain.calibrated.own.epochs)
        text += (
            f" With them no regularisation was best after {epochs} on the selection rows, of the lengths that were "
            "tried."
        )
    return text


def _own_unit(verdict: Findings) -> str:
    gain = verdict.gain
    if gain is None or gain.in_target_unit is None or verdict.metric.name in ("accuracy", "rmse"):
        return ""
    own, ends = gain.in_target_unit.estimate, gain.in_target_unit.interval
    low, high = ends if own >= 0 else (-ends[1], -ends[0])
    known = low < high  # not of an earlier version, nor where no row was told apart
    if "1000" in gain.target_unit:
        around = f" ({round(low)} to {round(high)})" if known else ""
        return f" It misclassifies {round(abs(own))} {'fewer' if own >= 0 else 'more'} of 1000 rows{around}."
    if not known:
        return f" Its RMSE is {abs(own):.4g} {'smaller' if own >= 0 else 'larger'}."
    return f" Its RMSE is {abs(own):.4g} ({_ends((low, high))}) {'smaller' if own >= 0 else 'larger'}."


def _once_calibrated(gain: Gain) -> str:
    """Return what is left of a gain under temperatures: what is, is no matter of certainty."""
    if gain.calibrated is None:
        return ""
    part, worth = gain.calibrated.part, gain.calibrated.worth
    size, ends = _number(part.estimate, digits=2), _ends(part.interval)
    if part.interval[1] < 0:
        return f" With a temperature for each network no regularisation is better: the gain is {size} ({ends})."
    if worth is False:
        return (
            f" With a temperature for each network the gain is {size} ({ends}), no more than the margin: a "
            "temperature does as much."
        )
    if worth is None:
        return f" With a temperature for each network the gain is {size} ({ends}): a temperature may do as much."
    return f" With a temperature for each network the gain is {size} ({ends})."


def _gain_ends(verdict: Findings) -> str:
    assert verdict.gain is not None
    low, high = verdict.gain.part.interval
    sign = "+" if verdict.metric.rising else "-"
    return f"{sign}{low:.4g} to {sign}{high:.4g}"


def _name(verdict: Findings, name: str) -> str:
    return NAMES.get(name, name)


def _same(verdict: Findings, other: Against) -> bool:
    return other.training == Training(verdict.recommended, verdict.length.epochs)


def _epochs(n: int) -> str:
    return f"{n} epoch{'s' * (n != 1)}"


def _ends(interval: tuple[float, float], sign: str = "", digits: int = 4) -> str:
    return " to ".join(_number(end, sign, digits) for end in interval)


def _number(value: float, sign: str = "", digits: int = 4) -> str:
    return f"{value:{sign}.{digits}g}" if value else "0"
