"""The verdict of a study's document."""

import math
from collections.abc import Mapping
from typing import Any

from dampen.engine.knobs import Setting
from dampen.errors import InputError
from dampen.metrics import METRICS
from dampen.search import Training
from dampen.study._diagnosis import Diagnosis
from dampen.study._findings import Against, CalibratedGain, Gain, Length, Part
from dampen.study._references import regularisers
from dampen.study._verdict import Verdict


def verdict_of(document: Mapping[str, Any]) -> Verdict:
    """Return the verdict of a finished study, in the words of its folder.

    Args:
        document: as `Study.document` returns it, checked.

    Raises:
        InputError: its metric is unknown.
    """
    plan, gain, length = document["plan"], document["gain"], document["length"]
    task = "classification" if tuple(plan["target_scale"]) == (0, 1) else "regression"
    metrics = [metric for metric in METRICS.values() if metric.name == document["metric"]]
    if not metrics:
        raise InputError(f"study.json is damaged: there is no metric {document['metric']!r}")
    metric = next((metric for metric in metrics if metric.task == task), metrics[0])
    recommended, validation = Setting.from_dict(document["recommended"]), document["validation"]
    doubled = length["doubled"]
    change = None if doubled is None else _number(doubled["difference"])
    return Verdict(
        metric=metric,
        recommended=recommended,
        regularised=gain is not None or bool(regularisers(recommended, False)),
        chosen=_training(document["chosen"]),
        dropped=tuple(document["dropped"]),
        value=_number(validation["mean"]),
        interval=_ends(validation["interval"]),
        references={name: _against(other) for name, other in document["references"].items()},
        helps=document["helps"],
        learnt=document["learnt"],
        gain=None if gain is None else _gain(gain),
        passed_over=_part(document.get("passed_over")),
        attribution=_parts(document["attribution"]),
        calibrated_attribution=_parts(document.get("calibrated_attribution", {})),
        total=_part(document["total"]),
        length=Length(
            length["epochs"],
            change if change is None or metric.rising else -change,
            None if doubled is None else doubled["standard_error"],
            None if doubled is None else _gained(doubled, metric.rising),
            metric.rising,
            length.get("shortest", False),
        ),
        diagnosis=_diagnosis(document["diagnosis"]),
        off=None if document["off"] is None else _training(document["off"]),
        margin=_number(document["margin"]),
        equivalent=tuple(_training(other) for other in document["equivalent"]),
        mildest=_training(document["mildest"]),
        edges=document["edges"],
        memory_epochs=document["memory_epochs"],
        usual=(float(plan["training"]["lr"]), plan["lengths"]["usual"]),
        method=document["method"],
        bias=document["bias"],
        words=tuple(s for s in document["sentences"] if not s.startswith("The test rows ")),
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _ends(interval: Any) -> tuple[float, float]:
    low, high = map(_number, interval)
    return low, high


def _gained(doubled: Mapping[str, Any], rising: bool) -> tuple[float, float]:
    """Return the interval of what twice as long gains; of earlier versions' studies two standard errors around it."""
    difference, error = _number(doubled["difference"]), _number(doubled["standard_error"])
    sign = 1.0 if rising else -1.0
    low, high = _ends(doubled.get("interval") or (difference - 2 * error, difference + 2 * error))
    low, high = sorted((sign * low, sign * high))
    return low, high


def _training(document: Mapping[str, Any]) -> Training:
    return Training(Setting.from_dict(document["setting"]), document["epochs"], document["stopped_at"])


def _of_part(document: Mapping[str, Any]) -> dict[str, Any]:
    return {"estimate": _number(document["estimate"]), "interval": _ends(document["interval"])}


def _parts(documents: Mapping[str, Any]) -> dict[str, Part]:
    return {name: Part(**_of_part(part)) for name, part in documents.items()}


def _part(document: Mapping[str, Any] | None) -> Part | None:
    return None if document is None else Part(**_of_part(document))


def _against(document: Mapping[str, Any]) -> Against:
    return Against(
        training=None if document["setting"] is None else _training(document),
        value=_number(document["mean"]),
        difference=_number(document["difference"]),
        interval=_ends(document["interval"]),
        better=document["better"],
        equivalent=document["equivalent"],
    )


def _gain(document: Mapping[str, Any]) -> Gain:
    own, calibrated = document["own_unit"], document.get("calibrated")
    return Gain(
        against=document["against"],
        part=Part(**_of_part(document)),
        unit=document["unit"],
        share=_number(document["share"]),
        in_target_unit=None if own["estimate"] is None else _part({"interval": [None, None], **own}),
        target_unit=own["unit"],
        open=_parts(document.get("open", {})),
        calibrated=None if calibrated is None else _calibrated(calibrated),
    )


def _calibrated(document: Mapping[str, Any]) -> CalibratedGain:
    return CalibratedGain(Part(**_of_part(document)), _training(document["own"]), document["worth"])


def _diagnosis(document: Mapping[str, Any] | None) -> Diagnosis | None:
    return None if document is None else Diagnosis(**{**document, "beaten_by": tuple(document["beaten_by"])})
