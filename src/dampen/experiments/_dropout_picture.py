"""The picture of the second study."""

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dampen.experiments.dropout import DROPOUT, NO_DROPOUT, Comparison
from dampen.report import pictures


def draw_dropout(comparison: Comparison, file: str | Path) -> None:
    """Draw the learning curves with and without dropout, loss above and, for classes, accuracy below."""
    history = comparison.history
    kinds = [("loss", "loss per row" if comparison.data.task == "regression" else "cross-entropy (nats)")]
    if "train_accuracy" in history.metrics:
        kinds.append(("accuracy", "accuracy (share of rows)"))
    rates = ", ".join(f"{rate:g}" for rate in comparison.rates)
    with pictures.style():
        figure = Figure(figsize=(9, 3.4 * len(kinds) + 0.8), layout="constrained")
        panels = figure.subplots(len(kinds), 2, sharex=True, sharey="row", squeeze=False)
        for row, (metric, unit) in zip(panels, kinds, strict=True):
            for panel, setting in zip(row, (NO_DROPOUT, DROPOUT), strict=True):
                for split, look in (("train", pictures.TRAIN), ("test", pictures.TEST)):
                    values = history.metrics[f"{split}_{metric}"][:, :, setting]
                    pictures.curve(panel, history.epochs, values, split, look)
                panel.xaxis.set_major_locator(MaxNLocator(integer=True))
            row[0].set_ylabel(unit)
        panels[0, 0].set_title("Without dropout")
        panels[0, 1].set_title(f"With dropout ({rates})")
        panels[0, 0].legend()
        seeds = len(history.seeds)
        figure.suptitle(
            f"Dropout on {comparison.data.name}" + (f" (mean and range of {seeds} seeds)" if seeds > 1 else ""),
            parse_math=False,  # a file's name is no formula
        )
        figure.supxlabel("epochs\ntrain: running mean over the epoch's batches, dropout active; test: after the epoch")
        pictures.save(figure, file)
