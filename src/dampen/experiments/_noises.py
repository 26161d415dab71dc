"""Dropout on weights instead of activations, and other noises against it."""

from dampen.engine.knobs import Setting
from dampen.experiments._answer import LEVEL, Answer, Panel, Points, by_sign, ends
from dampen.experiments._setup import Ground
from dampen.statistics import Estimate, bonferroni

RATES = (0.1, 0.2, 0.3, 0.5)
NOISES = {
    "dropout": "dropout of units",
    "dropconnect": "dropout of weights (DropConnect)",
    "gaussian_dropout": "Gaussian dropout",
    "input_dropout": "dropout of inputs",
    "input_noise": "normal noise on inputs",
}


def answer(ground: Ground) -> Answer:
    """Let validation rows choose the strength of each noise; train all with fresh seeds, against none and dropout."""
    none = Setting(dropout=0.0)
    each = {name: [Setting(**{"dropout": 0.0} | {name: p}) for p in RATES] for name in NOISES}
    tried = ground.trained([none, *(setting for settings in each.values() for setting in settings)])
    chosen = {name: tried.best(settings) for name, settings in each.items()}
    again = ground.trained([none, *chosen.values()], fresh=True)
    against_none = {name: again.difference(setting, none) for name, setting in chosen.items()}
    others = {name: again.difference(s, chosen["dropout"]) for name, s in chosen.items() if name != "dropout"}
    main = {f"{name} minus none": e for name, e in against_none.items()}
    main |= {f"{name} minus dropout": e for name, e in others.items()}
    measure = ground.metric.name
    level = bonferroni(LEVEL, len(others))
    verdict = by_sign(others, "{} than dropout: ", "better", "worse", level)
    verdict = verdict or "no noise differs significantly from dropout"
    label = {name: f"{NOISES[name]} {chosen[name][name]:g}" for name in NOISES}
    sentences = [
        f"{verdict[0].upper()}{verdict[1:]}; each at the strength that validation rows choose.",
        f"Minus dropout of units, in {measure}, with 95 % intervals that hold together: "
        + "; ".join(f"{label[n]} {e.mean:+.3g} ({_to(e, level)})" for n, e in others.items())
        + ".",
        f"Against no noise, in {measure}: " + "; ".join(f"{label[n]} {ends(e)}" for n, e in against_none.items()) + ".",
    ]
    panel = Panel(
        f"change of the {measure}",
        f"{measure} minus that without noise; left of 0 is better",
        "",
        Points([label[name] for name in against_none], list(against_none.values())),
    )
    more = {"chosen": {name: setting[name] for name, setting in chosen.items()}}
    return Answer("noises", ground.data.name, verdict, tuple(sentences), main, (panel,), more)


def _to(estimate: Estimate, level: float) -> str:
    return " to ".join(f"{end:+.3g}" for end in estimate.interval(level))
