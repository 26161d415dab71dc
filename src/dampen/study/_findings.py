"""What a study found, as values: the recommended training beside others, and where its gain comes from."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dampen.engine.knobs import Setting
from dampen.metrics import Metric
from dampen.search import Dimension, Training
from dampen.study._diagnosis import Diagnosis


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
class CalibratedGain:
    """What is left of a gain where each network has a temperature of its own, fitted on other rows.

    Args:
        part: the gain over the best training without regularisation.
        own: no regularisation as it is best so on the selection rows, which is one of these.
        worth: whether the gain is shown and no smaller than the margin (True), shown to be smaller (False), or neither.
    """

    part: Part
    own: Training
    worth: bool | None

    def document(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {**self.part.document(), "worth": self.worth, "own": self.own.document()}


@dataclass(frozen=True)
class Gain:
    """What regularisation buys: the recommended training against the best one without.

    Args:
        against: name of that one.
        part: the gain in the metric's unit.
        unit: the metric.
        share: of the other one's loss.
        in_target_unit: the same in the target's unit; None where it is unknown.
        target_unit: that unit.
        open: the gains over those that it is not shown to be better than, by name, each with its own interval.
        calibrated: what is left of it under temperatures; None where that is not asked.
    """

    against: str
    part: Part
    unit: str
    share: float
    in_target_unit: Part | None
    target_unit: str
    open: Mapping[str, Part] = field(default_factory=dict)
    calibrated: CalibratedGain | None = None

    def document(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        own = {"estimate": None} if self.in_target_unit is None else self.in_target_unit.document()
        return {
            "against": self.against,
            **self.part.document(),
            "unit": self.unit,
            "share": number(self.share),
            "own_unit": {**own, "unit": self.target_unit},
            "open": {name: part.document() for name, part in self.open.items()},
            "calibrated": None if self.calibrated is None else self.calibrated.document(),
        }


@dataclass(frozen=True)
class Length:
    """How long to train.

    Args:
        epochs: recommended.
        doubled: what twice as long would gain, in the metric's unit, above 0 where it is better; None where it was not
            tried.
        standard_error: of that.
        interval: of what it gains, 95 %.
        rising: whether more of the metric is better.
        shortest: whether nothing shorter was tried, though several lengths were.
    """

    epochs: int
    doubled: float | None
    standard_error: float | None
    interval: tuple[float, float] | None
    rising: bool = False
    shortest: bool = False

    def document(self) -> dict[str, Any]:
        """Return it as JSON can hold it; `difference` is the metric of twice as long minus that of the recommended."""
        doubled = None
        if self.doubled is not None and math.isfinite(self.doubled):
            sign = 1.0 if self.rising else -1.0
            doubled = {
                "difference": sign * self.doubled,
                "interval": sorted(sign * end for end in self.interval or ()),
                "standard_error": self.standard_error,
            }
        return {"epochs": self.epochs, "doubled": doubled, "shortest": self.shortest}


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What a study found.

    Args:
        metric: what it is about.
        recommended: the setting.
        regularised: whether it has a regulariser.
        chosen: the best on the selection rows, before what does nothing was left out; where no regularisation is
            recommended, the best that has some.
        dropped: regularisers that the best setting had, and that are shown to gain no more than the margin.
        value: its metric on the evaluation rows.
        interval: around it, 95 %.
        references: by name, what it was compared with; `off` is the same training without regularisation.
        helps: whether regularisation is shown to help (True), shown not to be worth it (False), or neither (None).
        learnt: whether it is shown to be better than the constant (True); False where it is not better in the estimate,
            or shown not to be by more than the margin; None where that is not settled.
        gain: over the best without regularisation; None in a comparison, or where none is recommended.
        passed_over: where no regularisation is recommended, by how much `chosen` is better; None where there is none
            with a regulariser, or one is recommended.
        attribution: what the learning rate, the length, regularisation and each regulariser contribute.
        calibrated_attribution: likewise what regularisers contribute where each network has a temperature; of an nll
            of classes alone.
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
    calibrated_attribution: Mapping[str, Part]
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
            "calibrated_attribution": {name: part.document() for name, part in self.calibrated_attribution.items()},
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


def number(value: float) -> float | None:
    """Return a number as JSON can hold it."""
    return float(value) if math.isfinite(value) else None
