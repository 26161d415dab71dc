"""The verdict: which setting, how sure, against what; from trainings that the search did not see."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from dampen.errors import InputError
from dampen.knobs import KNOBS, Scales, Setting
from dampen.population import Population
from dampen.search import Dimension
from dampen.statistics import Estimate, over_folds, over_seeds_and_rows
from dampen.study._metrics import Metric
from dampen.study._plan import Plan, Split, plain
from dampen.study._run import costs_of_rows, mean_costs

LEVEL = 0.95


@dataclass(frozen=True)
class Against:
    """The recommended setting beside another one.

    Args:
        setting: the other one.
        value: the metric of the other one.
        difference: the metric of the recommended one minus the other's.
        interval: around the difference, 95 %.
        probability_better: that the recommended one is truly better.
    """

    setting: Setting
    value: float
    difference: float
    interval: tuple[float, float]
    probability_better: float

    @property
    def settled(self) -> bool:
        """Whether the interval excludes zero."""
        return self.interval[0] > 0 or self.interval[1] < 0


@dataclass(frozen=True)
class Verdict:
    """What a study found; printing it tells.

    Args:
        metric: what judged.
        recommended: the setting.
        value: its metric on the judging rows.
        interval: around it, 95 %.
        references: by name, what it was compared with.
        indistinguishable: confirmed settings whose difference from the recommended one is not settled.
        mildest: the one of them, or the recommended one, with the least regularisation: the fewest other knobs, then
            the least decay, then the least dropout.
        edges: knobs whose recommended value lies at an end of the space, with the range to try next.
        epochs: length of training.
        memory_epochs: decay as a time scale, `1 / (lr * weight_decay * steps in an epoch)`; None without decay.
        method: how intervals were found.
        bias: what the selection does to the figures.
    """

    metric: Metric
    recommended: Setting
    value: float
    interval: tuple[float, float]
    references: Mapping[str, Against]
    indistinguishable: tuple[Setting, ...]
    mildest: Setting
    edges: Mapping[str, Dimension]
    epochs: int
    memory_epochs: float | None
    method: str
    bias: str

    @property
    def regularisation_helps(self) -> bool:
        """Whether the recommended setting is better than no regularisation, and that is settled."""
        none = self.references.get("none")
        return none is not None and none.settled and none.probability_better > 0.5

    def __str__(self) -> str:
        return "\n".join(self.sentences())

    def sentences(self) -> list[str]:
        """Return the verdict in words, the answer first."""
        none = self.references.get("none")
        name = self.metric.name
        best = tell(self.recommended)
        for which in ("default", "tabular-default"):
            if which in self.references and self.references[which].setting == self.recommended:
                best += f" ({_WORDS[which]})"
        said: list[str] = []
        if none is None:
            unsettled = sum(not other.settled for other in self.references.values()) - 1  # itself
            sure = f"{unsettled} others may be as good" if unsettled else "and better than every other one"
            said.append(f"The best is {tell(self.recommended)}: {sure}.")
        elif none.setting == self.recommended:
            said.append(f"Use no regularisation ({tell(self.recommended)}): nothing that was tried is better.")
        elif self.regularisation_helps:
            said.append(f"Use {best}: regularisation helps.")
        elif none.settled:
            said.append(f"Use no regularisation ({tell(none.setting)}): it is better than all that was tried.")
        elif none.probability_better > 0.5:
            said.append(
                f"Nothing here is shown to beat no regularisation. The best guess is {best}; the "
                "difference may be luck."
            )
        else:
            said.append(
                f"Nothing here beats no regularisation: {best}, first on the rows that rank, did not do better on "
                "those that judge."
            )
        said.append(f"Its {name} is {self.value:.4g} (95 % interval {_ends(self.interval)}).")
        for which, other in self.references.items():
            if math.isnan(other.value):
                said.append(f"{_WORDS.get(which, which).capitalize()} diverged.")
            elif other.setting != self.recommended:
                chance = _probability(other.probability_better)
                said.append(
                    f"Against {_WORDS.get(which, which)} ({other.value:.4g}): {other.difference:+.4g} "
                    f"({_ends(other.interval, '+')}), truly better with probability {chance}."
                )
        if self.indistinguishable:
            n = len(self.indistinguishable)
            said.append(
                f"{n} other confirmed {'setting' if n == 1 else 'settings'} can't be told apart from it; the mildest "
                f"that will do is {tell(self.mildest)}."
            )
        for knob, dimension in self.edges.items():
            said.append(f"{knob} lies at the edge of what was searched: try {dimension} next.")
        if self.memory_epochs is not None and self.memory_epochs > 10 * self.epochs:
            said.append(
                f"This decay hardly acts: it forgets over {self.memory_epochs:.3g} epochs, 1 / (lr * weight_decay * "
                f"steps per epoch), and the training has {self.epochs}."
            )
        elif self.memory_epochs is not None:
            said.append(
                f"This decay forgets over {self.memory_epochs:.3g} epochs, 1 / (lr * weight_decay * steps per epoch) "
                "(Wang and Aitchison 2024): with another learning rate, batch size or amount of data, choose the decay "
                "that keeps this number."
            )
        return [*said, self.method, self.bias]

    def document(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {
            "metric": self.metric.name,
            "recommended": plain(self.recommended),
            "validation": {"mean": _number(self.value), "interval": [_number(end) for end in self.interval]},
            "references": {
                name: {
                    "setting": plain(other.setting),
                    "mean": _number(other.value),
                    "difference": _number(other.difference),
                    "interval": [_number(end) for end in other.interval],
                    "probability_better": _number(other.probability_better),
                }
                for name, other in self.references.items()
            },
            "indistinguishable": [plain(setting) for setting in self.indistinguishable],
            "mildest": plain(self.mildest),
            "regularisation_helps": self.regularisation_helps,
            "edges": {name: str(dimension) for name, dimension in self.edges.items()},
            "memory_epochs": self.memory_epochs,
            "method": self.method,
            "bias": self.bias,
        }


def judge(plan: Plan, population: Population, rows: Split, references: Mapping[str, Setting]) -> Verdict:
    """Return the verdict of a confirmation.

    Args:
        plan: the study.
        population: the confirmed members, references among them.
        rows: those that rank and those that judge.
        references: by name.
    """
    settings = population.settings
    ranking = mean_costs(population, rows.ranking, plan.metric).mean(0)
    if not np.isfinite(ranking).any():
        raise InputError("every confirmed setting diverged, no regularisation too: search lower learning rates")
    best = int(ranking.argmin())
    costs = [c.double().numpy() for c in costs_of_rows(population, rows.judging, plan.metric)]

    def estimate(weights: Mapping[int, float]) -> Estimate:
        """Estimate a weighted sum of settings' costs."""
        each = [np.sum([w * seed[m] for m, w in weights.items()], axis=0) for seed in costs]
        if not all(np.isfinite(e).all() for e in each):
            return Estimate(math.inf, math.nan, 1.0)
        if plan.scheme == "folds":
            return over_folds(np.array([e.mean() for e in each]), _test_share(rows))
        return over_seeds_and_rows(np.stack(each))

    own = estimate({best: 1.0})

    def against(m: int) -> Against:
        if m == best:
            return Against(settings[m], plan.told(own.mean), 0.0, (0.0, 0.0), 0.5)
        found, other = estimate({best: 1.0, m: -1.0}), estimate({m: 1.0}).mean
        if not math.isfinite(other):  # the other one diverged, with a seed at least
            return Against(settings[m], math.nan, math.nan, (math.nan, math.nan), 1.0)
        difference, low, high = plan.metric.told_difference(
            own.mean, other, found.interval(LEVEL), plan.target_scale[1]
        )
        return Against(settings[m], plan.told(other), difference, (low, high), found.probability_below(0.0))

    others = [m for m in range(len(settings)) if m != best and np.isfinite(ranking[m])]
    alike = [settings[m] for m in others if not against(m).settled]
    recommended = settings[best]
    interval = plan.metric.told_interval(own.interval(LEVEL), plan.target_scale[1])
    return Verdict(
        plan.metric,
        recommended,
        plan.told(own.mean),
        interval,
        {name: against(settings.index(setting)) for name, setting in references.items()},
        tuple(alike),
        min((recommended, *alike), key=partial(_strength, steps=_steps(plan, rows))),
        plan.space.edges(recommended) if set(plan.space.dimensions) <= set(recommended) else {},
        plan.epochs,
        _memory(plan, recommended, rows),
        _METHODS[plan.scheme].format(seeds=len(population.seeds))
        + " Rows of a group are one observation." * (plan.data.groups is not None)
        + " Rows count by their weights." * (plan.data.weights is not None),
        _BIASES[plan.scheme],
    )


_METHODS = {
    "folds": "Intervals: {seeds} fresh folds with fresh seeds, corrected for the rows that folds share (Nadeau and "
    "Bengio 2003); they carry the luck of seeds and of rows.",
    "held-out": "Intervals: {seeds} fresh seeds crossed with the judging rows (two-way random effects); they carry the "
    "luck of seeds and of rows.",
}
_BIASES = {
    "folds": "The data is small: the same rows, split anew, ranked and judged, so the recommended setting's advantage "
    "may be slightly overstated. The test rows were not seen.",
    "held-out": "The rows that judged took no part in the choice.",
}
_WORDS = {
    "none": "no regularisation",
    "default": "AdamW's default",
    "tabular-default": "the published default for tables",
}


def tell(setting: Setting) -> str:
    """Return a setting in words."""

    def value(v: Any) -> str:
        if isinstance(v, tuple):
            return "(" + ", ".join(f"{p[0]}: {p[1]:.3g}" if isinstance(p, tuple) else f"{p:.3g}" for p in v) + ")"
        return f"{v:.3g}" if isinstance(v, int | float) else str(v)

    return ", ".join(f"{name.replace('_', ' ')} {value(v)}" for name, v in setting.items()) or "the network as it is"


def _steps(plan: Plan, rows: Split) -> int:
    """Return the steps of an epoch."""
    data = rows.sets[0] if isinstance(rows.sets, list) else rows.sets
    return math.ceil(len(data.train_rows) / plan.training["batch_size"])


def _memory(plan: Plan, setting: Setting, rows: Split) -> float | None:
    if "decay_timescale" in setting:
        return setting["decay_timescale"]
    decay, lr = setting.get("weight_decay", 0.0), setting.get("lr", plan.training["lr"])
    return 1 / (lr * decay * _steps(plan, rows)) if decay else None


def _test_share(rows: Split) -> float:
    assert isinstance(rows.sets, list)
    return float(np.mean([len(data.validation_rows) / len(data.train_rows) for data in rows.sets]))


def _strength(setting: Setting, steps: int) -> tuple[int, float, float]:
    """Return how many other knobs a setting turns, then its decay in a step, then its mean dropout rate."""
    usual = ("weight_decay", "decay_timescale", "dropout", "lr")
    others = sum(knob.on(setting) and not isinstance(knob.acts, Scales) for n, knob in KNOBS.items() if n not in usual)
    rate = setting.get("dropout", 0.0)
    rates: Sequence[Any] = rate if isinstance(rate, tuple) else (rate,)
    mean = float(np.mean([r[1] if isinstance(r, tuple) else r for r in rates])) if len(rates) else 0.0
    if "decay_timescale" in setting:
        return others, 1 / (setting["decay_timescale"] * steps), mean
    return others, setting.get("weight_decay", 0.0) * setting.get("lr", 1.0), mean


def _ends(interval: tuple[float, float], sign: str = "") -> str:
    return f"{interval[0]:{sign}.4g} to {interval[1]:{sign}.4g}"


def _probability(p: float) -> str:
    return "unknown" if math.isnan(p) else "above 0.999" if p > 0.999 else "below 0.001" if p < 0.001 else f"{p:.3f}"


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
