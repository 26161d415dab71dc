"""What ails a training: overfitting, underfitting, leaks, simpler models that do better."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from dampen.data import Data, leaks
from dampen.search import Training
from dampen.statistics import over_rows
from dampen.study._confirmation import Confirmed

_RISE = 0.01  # share of the validation loss by which it must have risen since its least for overfitting


@dataclass(frozen=True)
class Diagnosis:
    """What ails a training.

    Args:
        overfits_from: the epoch from which the validation loss rises without regularisation, at the recommended
            learning rate and length, or else for `none`; None if it does not.
        underfits: whether a training twice as long is better, significantly and by more than the margin; None
            where none was made.
        leaks: what makes figures too good: see `dampen.data.leaks`.
        beaten_by: simple models, and no regularisation stopped early, that are shown to be better.
    """

    overfits_from: int | None
    underfits: bool | None
    leaks: dict[str, Any]
    beaten_by: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {**vars(self), "beaten_by": list(self.beaten_by)}


def diagnose(data: Data, confirmed: Confirmed) -> Diagnosis:
    """Return what ails the recommended training."""
    evaluation, recommended = confirmed.evaluation, confirmed.recommended
    underfits = None
    if confirmed.doubled is not None:
        longer = evaluation.excess(recommended, confirmed.doubled)
        underfits = bool(longer.interval()[0] > 0 and longer.mean > confirmed.margin)
    rivals = {n: c for n, c in confirmed.references.items() if n in ("linear", "boosting", "none_stopped_early")}
    excesses = {n: evaluation.excess(c, recommended) for n, c in rivals.items()}
    level, margin = confirmed.level, confirmed.margin  # as for each comparison
    beaten = [n for n, e in excesses.items() if e.interval(level)[1] < 0 and not e.equivalent(margin)]
    unregularised = [t for t in (confirmed.off, confirmed.references.get("none")) if isinstance(t, Training)]
    rises = [start for training in unregularised if (start := _overfits_from(confirmed, training)) is not None]
    return Diagnosis(rises[0] if rises else None, underfits, leaks(data).document(), tuple(beaten))


def _overfits_from(confirmed: Confirmed, training: Training) -> int | None:
    """Return the epoch of the least mean validation loss, if it has risen since by more than noise would do."""
    population = confirmed.trained.population(training)
    history = population.history
    curves = history.metrics["validation_loss"][:, :, population.settings.index(training.setting)]  # [E, S]
    means = curves.mean(1)
    if not np.isfinite(means).all() or len(means) < 3:
        return None
    least = int(means.argmin())
    rise, enough = curves[-1] - curves[least], _RISE * abs(means[least])
    if (curves[[least, -1]] > 0).all():  # as a share, which varies less from fold to fold
        rise, enough = np.log(curves[-1] / curves[least]), _RISE
    settled = len(rise) == 1 or over_rows(rise).interval()[0] > 0
    return int(history.epochs[least]) if settled and rise.mean() > enough else None
