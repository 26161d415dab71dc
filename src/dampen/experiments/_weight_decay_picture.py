"""Pictures of the first study."""

import math
from pathlib import Path as FilePath
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dampen.experiments.weight_decay import Comparison, Path, Problem
from dampen.report import pictures

_COLUMNS = 2


def draw_weight_decay_comparison(comparison: Comparison, file: str | FilePath) -> None:
    """Draw train and test loss against epochs on a log axis, a panel for each weight decay."""
    n = len(comparison.weight_decays)
    rows = math.ceil(n / _COLUMNS)
    with pictures.style():
        figure = Figure(figsize=(9, 3.9 * rows + 0.7), layout="constrained")
        panels = figure.subplots(rows, min(n, _COLUMNS), sharex=True, sharey=True, squeeze=False)
        history = comparison.history
        for m, (panel, strength) in enumerate(zip(panels.flat, comparison.weight_decays, strict=False)):
            for split, look in (("train", pictures.TRAIN), ("test", pictures.TEST)):
                pictures.curve(panel, history.epochs, history.metrics[f"{split}_loss"][:, :, m], split, look)
            kind = "Without weight decay" if strength == 0 else "With weight decay"
            panel.set_title(f"{kind} (λ = {strength:g})\n‖w‖ at the end: {comparison.l2_norm[:, m].mean():.3g}")
            panel.set_yscale("log")
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
            panel.label_outer()
        for panel in list(panels.flat)[n:]:
            panel.set_visible(False)
        panels.flat[0].legend()
        problem, seeds = comparison.problem, len(history.seeds)
        figure.suptitle(
            f"Linear regression, {problem.inputs} inputs, {problem.rows} training rows"
            + (f" (mean and range of {seeds} seeds)" if seeds > 1 else "")
        )
        figure.supxlabel("epochs")
        figure.supylabel("half mean squared error (log scale)")
        pictures.save(figure, file)


def draw_weight_decay_path(path: Path, file: str | FilePath) -> None:
    """Draw test loss and weight norm against weight decay, SGD beside both closed forms."""
    with pictures.style():
        figure = Figure(figsize=(9, 6), layout="constrained")
        grid = figure.add_gridspec(2, 2, height_ratios=(4, 1.2))
        loss, norm, words = (figure.add_subplot(cell) for cell in (grid[0, 0], grid[0, 1], grid[1, :]))
        lines: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
            ("test_loss", "l2_norm", "SGD", {"color": pictures.BLUE, "linewidth": 4, "alpha": 0.6}),
            (
                "closed_form_test_loss",
                "closed_form_l2_norm",
                f"closed form: gradient descent, {path.problem.steps} steps",
                {"color": pictures.BLACK, "linestyle": "--"},
            ),
            (
                "ridge_test_loss",
                "ridge_l2_norm",
                "closed form: ridge (endless training)",
                {"color": pictures.ORANGE, "linestyle": ":", "linewidth": 2},
            ),
        )
        for of_loss, of_norm, label, look in lines:
            loss.plot(path.weight_decays, getattr(path, of_loss), label=label, **look)
            norm.plot(path.weight_decays, getattr(path, of_norm), label=label, **look)
        for value, label, style in (
            (path.best, "lowest test loss", "-"),
            (path.chosen_by_validation, "chosen by validation", "-."),
        ):
            if math.isfinite(value):
                loss.axvline(value, color=pictures.GREEN, linestyle=style, label=f"{label}: λ = {value:.3g}")
                norm.axvline(value, color=pictures.GREEN, linestyle=style)
        loss.set(xscale="log", yscale="log", title="Test loss", ylabel="half mean squared error (log scale)")
        norm.set(xscale="log", yscale="log", title="L2 norm of w", ylabel="‖w‖ (log scale)")
        figure.suptitle(
            f"{len(path.weight_decays)} weight decays trained at once (mean of {path.seeds} "
            f"{'seed' if path.seeds == 1 else 'seeds'})"
        )
        for panel in (loss, norm):
            panel.set_xlabel("weight decay λ (log scale)")
        words.set_axis_off()
        words.legend(*loss.get_legend_handles_labels(), loc="upper center", ncols=2, fontsize=9)
        words.text(0.5, 0, forgetting(path.problem), ha="center", va="bottom", fontsize=9)
        pictures.save(figure, file)


def forgetting(problem: Problem) -> str:
    """Return the caption: most of the picture shows how decay removes the random initial weights."""
    return (
        f"The rows see {min(problem.rows, problem.inputs)} directions of w; in the others only decay moves it: by the "
        f"end it has shrunk\nthe random initial weights there by (1 − lr·λ)^{problem.steps}, and ridge, which never "
        "had any, is what remains."
    )
