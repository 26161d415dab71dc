"""Which knobs a search's good settings have in common: the importance of knobs by PED-ANOVA."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from dampen._checks import integer
from dampen._io import counted
from dampen.engine.knobs import Setting
from dampen.errors import InputError
from dampen.search._ranked import AROUND, SEARCH, Ranked

LEAST = 20  # settings, of which half are then the better ones
_TOP, _LEAST_TOP = 0.1, 20  # share of the better ones, and how many at least: four for each part of a range
_PARTS = 5  # of a range
_DRAWS = 1000
_LEVEL = 0.95


@dataclass(frozen=True)
class KnobImportance:
    """How much a knob matters.

    Args:
        share: of the importance of all knobs; 0 where the better settings have no other values than all have.
        low: lower end of its 95 % interval over settings that might have been drawn.
        high: upper end.
        p: probability of values of the better settings that differ as much, if the knob did nothing.
        matters: whether `p` is below 0.05 after Bonferroni's correction for the number of knobs.
    """

    share: float
    low: float
    high: float
    p: float
    matters: bool


@dataclass(frozen=True)
class Importance(Mapping[str, float]):
    """Each knob's share of what distinguishes the better settings, the largest first.

    Args:
        knobs: by name.
        epochs: length of the trainings that are compared, the same for all.
        n_settings: how many settings were trained for that length.
        n_better: how many of them, the best, are compared with all.
        longest: length of the longest trainings of the search, which only the better settings reached.
    """

    knobs: Mapping[str, KnobImportance]
    epochs: int
    n_settings: int
    n_better: int
    longest: int

    def __getitem__(self, name: str) -> float:
        return self.knobs[name].share

    def __iter__(self) -> Iterator[str]:
        return iter(self.knobs)

    def __len__(self) -> int:
        return len(self.knobs)

    def document(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {
            "epochs": self.epochs,
            "settings": self.n_settings,
            "better": self.n_better,
            "knobs": {
                name: {"share": k.share, "interval": [k.low, k.high], "p": k.p, "matters": k.matters}
                for name, k in self.knobs.items()
            },
        }

    def sentences(self) -> list[str]:
        """Return what it rests on, and what is shown, in words."""
        lines = [
            f"{self.n_settings} settings were trained for {counted(self.epochs, 'epoch')}; the best {self.n_better} of "
            "them are compared with all, by the values that each knob has there."
        ]
        if self.longest > self.epochs:
            lines.append("In longer trainings, which only the better settings got, other knobs may matter.")
        shown = [name for name, knob in self.knobs.items() if knob.matters]
        if not shown:
            return [*lines, "No knob is shown to matter."]
        return [*lines, f"Shown to matter: {', '.join(shown)}."]


def importance(ranked: Sequence[Ranked], epochs: int | None = None, seed: int = 0) -> Importance:
    """Return how much each knob that was searched decides on whether a setting is among the best.

    PED-ANOVA (Watanabe, Bansal and Hutter 2023, "PED-ANOVA: efficiently quantifying hyperparameter importance in
    arbitrary subspaces", equation 5): the Pearson divergence of a knob's values among the best tenth of the settings
    (at least 20 of them) from its values among all. Densities are histograms over five parts of a range that hold
    equally many settings, 0 being a part of its own where it is drawn often; so a knob's scale does not matter. What
    the divergence of a knob without effect is on average is subtracted, exactly; the test is Pearson's of homogeneity.
    Only settings with trainings of one length are compared.

    Args:
        ranked: what the rungs of a search found.
        epochs: the length to compare at; by default the one at which most settings were trained, all of them as they
            were drawn. Only the better ones reach longer trainings.
        seed: of the intervals' resampling of settings.

    Raises:
        InputError: no training of that length, fewer than 20 settings, or none that differ.
    """
    by_length = _by_length(ranked)
    if not by_length:
        raise InputError("importance needs a search: a comparison has none")
    if epochs is None:
        epochs = max(by_length, key=lambda length: (len(by_length[length]), length))
    integer("epochs", epochs)
    if epochs not in by_length:
        raise InputError(
            f"no setting was trained for {epochs} epochs: choose one of {', '.join(map(str, sorted(by_length)))}"
        )
    found = by_length[epochs]
    n = len(found)
    if n < LEAST:
        raise InputError(f"importance needs {LEAST} settings or more of one length, {epochs} epochs have {n}")
    parts = _parts_of_knobs(list(found))
    if not parts:
        raise InputError("importance needs a knob whose values differ: all settings are alike")
    costs = np.array(list(found.values()))
    n_better = min(n // 2, max(_LEAST_TOP, math.ceil(_TOP * n)))
    return Importance(_measured(parts, costs, n_better, seed), epochs, n, n_better, max(by_length))


def enough_for_importance(ranked: Sequence[Ranked]) -> bool:
    """Return whether a search has settings enough, of one length, for `importance`."""
    return max(map(len, _by_length(ranked).values()), default=0) >= LEAST


def _by_length(ranked: Sequence[Ranked]) -> dict[int, dict[Setting, float]]:
    """Return the costs of the settings that were searched, by length; without those drawn around the best one."""
    found: dict[int, dict[Setting, float]] = {}
    for rung in ranked:
        if rung.family == SEARCH and not rung.run.startswith(AROUND):
            for setting, cost in zip(rung.settings, rung.costs, strict=True):
                found.setdefault(rung.epochs, {}).setdefault(setting, cost)
    return found


def _parts_of_knobs(settings: Sequence[Setting]) -> dict[str, Int64[np.ndarray, " n"]]:
    """Return, for each knob that differs, which part of its range each setting's value is in."""
    names = dict.fromkeys(name for setting in settings for name in setting)
    parts = {name: _parts([setting.get(name) for setting in settings]) for name in names}
    return {name: part for name, part in parts.items() if part.max() > 0}


def _parts(values: Sequence[Any]) -> Int64[np.ndarray, " n"]:
    """Return the number of the part that each value is in, from 0."""
    numbers = [_number(value) for value in values]
    if any(number is None for number in numbers):
        return np.unique([repr(value) for value in values], return_inverse=True)[1]
    array = np.array(numbers, dtype=float)
    distinct, codes, counts = np.unique(array, return_inverse=True, return_counts=True)
    if len(distinct) <= _PARTS:
        return codes
    alone = counts[codes] >= len(array) / _PARTS  # 0 where a knob is off with some probability
    rest = max(1, _PARTS - len(np.unique(codes[alone])))
    parts = np.full(len(array), -1)
    parts[alone] = rest + codes[alone]
    others = array[~alone]
    if len(others):
        parts[~alone] = np.searchsorted(np.sort(others), others) * rest // len(others)  # equal values in one part
    return np.unique(parts, return_inverse=True)[1]


def _number(value: Any) -> float | None:
    """Return a value as a number, rates of layers as their mean; None where it is none."""
    if isinstance(value, tuple):
        each = [_number(rate[1] if isinstance(rate, tuple) and len(rate) == 2 else rate) for rate in value]
        return None if not each or any(rate is None for rate in each) else float(np.mean(np.array(each, dtype=float)))
    return float(value) if isinstance(value, int | float) else None


def _measured(
    parts: Mapping[str, Int64[np.ndarray, " n"]],
    costs: Float64[np.ndarray, " n"],
    n_better: int,
    seed: int,
) -> dict[str, KnobImportance]:
    from scipy.stats import chi2

    n, order = len(costs), np.argsort(costs, kind="stable")
    whole = np.ones((1, n))
    draws = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=_DRAWS).astype(float)
    raw, resampled, p = {}, {}, {}
    for name, part in parts.items():
        divergence, by_chance, df = _divergence(part[order], whole, n_better)
        statistic = float(divergence[0] / by_chance * df)  # Pearson's of the table better or not by part
        p[name] = float(chi2.sf(statistic, df))
        raw[name] = max(0.0, float(divergence[0] - by_chance))
        again, noise, _ = _divergence(part[order], draws, n_better)
        resampled[name] = np.maximum(0.0, again - noise - by_chance)  # both samples' noise is in it
    shares, of_draws = _shares(raw), _shares(resampled)
    ends = {name: np.quantile(draw, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2]) for name, draw in of_draws.items()}
    return {
        name: KnobImportance(
            float(shares[name]),
            float(ends[name][0]),
            float(ends[name][1]),
            p[name],
            p[name] < (1 - _LEVEL) / len(parts),
        )
        for name in sorted(parts, key=lambda name: (-shares[name], p[name]))
    }


def _divergence(
    parts: Int64[np.ndarray, " n"], weights: Float64[np.ndarray, "draws n"], n_better: int
) -> tuple[Float64[np.ndarray, " draws"], float, int]:
    """Return the Pearson divergence of the better settings' parts from all, for each draw, and that of chance.

    By chance the better ones are drawn without replacement, so that the share of each part q has the variance
    `q (1 - q) / m (n - m) / (n - 1)`; summed over parts divided by q: `(parts - 1) / m (n - m) / (n - 1)`.

    Args:
        parts: of settings, the best first.
        weights: how often each was drawn.
        n_better: m, how many are better; of settings that are drawn several times the last in part.
    """
    n, df = len(parts), int(parts.max())
    before = np.cumsum(weights, 1) - weights
    better = np.clip(n_better - before, 0, weights)
    indicator = np.eye(df + 1)[parts]
    q, top = weights @ indicator / n, better @ indicator / n_better
    terms = np.where(q > 0, (top - q) ** 2 / np.where(q > 0, q, 1), 0)
    return terms.sum(1), df / n_better * (n - n_better) / (n - 1), df


def _shares(of_knobs: Mapping[str, Any]) -> dict[str, Any]:
    total = np.sum(list(of_knobs.values()), axis=0)
    return {name: value / np.where(total > 0, total, 1) for name, value in of_knobs.items()}
