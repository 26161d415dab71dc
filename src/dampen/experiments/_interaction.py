"""Dropout, decay, or both: whether their gains add up, diminish, or cancel each other.

A two-by-two factorial design; the interaction is the difference of differences (Fisher 1935, "The design of
experiments", chapter 6).
"""

from dampen.engine.knobs import Setting
from dampen.experiments._answer import Answer, Line, Panel, Points, ends, interval_document
from dampen.experiments._setup import Ground
from dampen.statistics import Estimate

DECAYS = (0.01, 0.03, 0.1, 0.3, 1.0)
RATES = (0.1, 0.2, 0.3, 0.5)


def answer(ground: Ground) -> Answer:
    """Choose the best decay alone and the best rate alone, then train the four combinations with fresh seeds."""
    none = Setting(weight_decay=0.0, dropout=0.0)
    decays = [Setting(weight_decay=d, dropout=0.0) for d in DECAYS]
    rates = [Setting(weight_decay=0.0, dropout=p) for p in RATES]
    tried = ground.trained([none, *decays, *rates])
    decay, dropout = tried.best(decays), tried.best(rates)
    both = Setting(weight_decay=decay["weight_decay"], dropout=dropout["dropout"])
    again = ground.trained([none, decay, dropout, both], fresh=True)
    main = {
        "decay": again.difference(decay, none),
        "dropout": again.difference(dropout, none),
        "both": again.difference(both, none),
    }
    better = min((decay, dropout), key=lambda s: main["decay" if s is decay else "dropout"].mean)
    added = again.difference(both, better)
    interaction = again.weighted({both: 1.0, decay: -1.0, dropout: -1.0, none: 1.0})
    name = ground.metric.name
    verdict = verdict_of(main["decay"], main["dropout"], added, interaction)
    words = {"decay": f"decay {decay['weight_decay']:g}", "dropout": f"dropout {dropout['dropout']:g}", "both": "both"}
    sentences = [
        _WORDS[verdict],
        f"Each against none, change of the {name}: "
        + "; ".join(f"{words[which]} {ends(estimate)}" for which, estimate in main.items())
        + ".",
        f"Both minus the sum of the two gains (the interaction): {ends(interaction)}.",
        f"Both minus the better one alone: {ends(added)}.",
    ]
    labels = [words["decay"], words["dropout"], "both", "interaction"]
    history = again.history
    lines = [
        Line(label, history.epochs.tolist(), history.metrics["validation_loss"][:, :, m], True, m)
        for m, label in enumerate(("neither", words["decay"], words["dropout"], "both"))
    ]
    panels = (
        Panel(
            f"change of the {name}",
            f"{name} minus that without either; left of 0 is better",
            "",
            Points(labels, [*main.values(), interaction]),
        ),
        Panel("validation loss", "epochs", "loss", lines),
    )
    more = {
        "interaction": interval_document(interaction),
        "both_minus_better": interval_document(added),
        "chosen": {"weight_decay": decay["weight_decay"], "dropout": dropout["dropout"]},
    }
    return Answer("interaction", ground.data.name, verdict, tuple(sentences), main, panels, more)


def verdict_of(decay: Estimate, dropout: Estimate, added: Estimate, interaction: Estimate) -> str:
    """Return in a word how two gains combine; all are differences of losses, below 0 is better.

    Args:
        decay: decay alone minus neither.
        dropout: dropout alone minus neither.
        added: both minus the better one alone.
        interaction: both - decay - dropout + neither.
    """
    if not any(e.excludes_zero and e.mean < 0 for e in (decay, dropout)):
        return "neither helps"
    if not interaction.excludes_zero:
        return "additive"
    if interaction.mean < 0:
        return "reinforcing"
    return "diminishing" if added.excludes_zero and added.mean < 0 else "cancelling"


_WORDS = {
    "neither helps": "Neither is shown to help here, so there is nothing to combine.",
    "additive": "Additive: the gain of both together does not differ significantly from the sum of their gains.",
    "reinforcing": "Reinforcing: together they gain more than the sum of their gains.",
    "diminishing": "Diminishing: together they gain less than the sum, but more than the better one alone.",
    "cancelling": "Cancelling: together they are not shown to be better than the better one alone.",
}
