"""With and without dropout, over many epochs: which one is ahead, and when."""

import numpy as np

from dampen.engine.knobs import Setting
from dampen.experiments._answer import Answer, Line, Panel, ends, word_of
from dampen.experiments._setup import Ground, undiverged
from dampen.statistics import over_seeds_and_rows

TIMES = 3  # as many epochs as other questions train
RATE = 0.5
_WORDS = ("dropout helps", "dropout hurts")


def answer(ground: Ground) -> Answer:
    """Train with and without dropout for long; compare at the end and at each one's best epoch."""
    epochs = TIMES * ground.epochs
    without, with_dropout = 0, 1
    population = ground.population([Setting(dropout=0.0), Setting(dropout=RATE)])
    costs = []
    for epoch in range(1, epochs + 1):
        ground.fit(population, epochs=epochs, until=epoch)
        costs.append(ground.judged(population))
    history = population.history
    undiverged(history.final("validation_loss"))
    at = np.nanargmin(history.metrics["validation_loss"].mean(1), axis=0)  # the best epoch of each, by choosing rows
    end = over_seeds_and_rows(undiverged(costs[-1][:, with_dropout] - costs[-1][:, without]))
    best = over_seeds_and_rows(undiverged(costs[at[with_dropout]][:, with_dropout] - costs[at[without]][:, without]))
    name = ground.metric.name
    verdicts = {"end": word_of(end, *_WORDS), "best": word_of(best, *_WORDS)}
    sentences = [
        f"After {epochs} epochs dropout {RATE:g} changes the {name} by {ends(end)}: {verdicts['end']}.",
        f"Each at its best epoch ({at[with_dropout] + 1} with dropout, {at[without] + 1} without), it changes it by "
        f"{ends(best)}: {verdicts['best']}.",
    ]
    if end.excludes_zero and not best.excludes_zero:
        low, high = best.interval()
        sentences.append(
            "With early stopping neither is shown to be better: the interval allows a gain by dropout of up to "
            f"{max(0.0, -low):.3g} and a loss of up to {max(0.0, high):.3g}."
        )
    curves, x = history.metrics, history.epochs.tolist()
    words = [("loss", name)] + [("accuracy", "accuracy")] * ("train_accuracy" in history.metrics)
    panels = tuple(
        Panel(
            word,
            "epochs",
            word,
            [
                Line(f"{rows}, {label}", x, curves[f"{split}_{metric}"][:, :, m], held, m)
                for m, label in ((without, "no dropout"), (with_dropout, f"dropout {RATE:g}"))
                for split, rows, held in (("train", "training", False), ("validation", "validation", True))
            ],
            log_y=metric == "loss",
        )
        for metric, word in words
    )
    main = {"at the end": end, "at the best epochs": best}
    more = {"best_epoch": {"dropout": int(at[with_dropout]) + 1, "none": int(at[without]) + 1}, "epochs": epochs}
    return Answer("epochs", ground.data.name, verdicts["end"], tuple(sentences), main, panels, more)
