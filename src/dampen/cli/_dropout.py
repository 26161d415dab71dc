"""`dampen dropout`: the second study."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from dampen._language import shown
from dampen.cli import _data, _options, _output, _startup

if TYPE_CHECKING:
    from dampen.engine import Event, History
    from dampen.experiments import dropout as lesson


@_data.takes_data
def command(
    reading: dict[str, Any],
    data: _data.Source = "digits",
    rates: Annotated[str, _options.in_training("Dropout rate of each hidden layer.")] = "0.3,0.5",
    hidden: Annotated[str, _options.in_training("Width of each hidden layer.")] = "256,128",
    epochs: Annotated[int, _options.in_training("Number of epochs.")] = 10,
    batch_size: Annotated[int, _options.in_training("Rows per step.")] = 128,
    lr: Annotated[float, _options.in_training("Learning rate of Adam.")] = 1e-3,
    seed: _options.Seed = 0,
    seeds: _options.Seeds = 3,
    device: _options.Device = "cpu",
    plot: Annotated[Path | None, _options.in_output("Picture to draw, .png or .svg.", "dampen-dropout.png")] = None,
    json: _options.Json = False,
) -> None:
    """Train a network with dropout, epoch by epoch, beside the same network without.

    Both start from the same initial weights and see the same batches. Training figures are running means over an
    epoch's batches, with dropout active; test figures are measured after the epoch, without.
    """
    layer_rates = _options.numbers(rates, "--rates")
    widths = _options.whole_numbers(hidden, "--hidden")
    members = _options.seed_range(seed, seeds)

    with _startup.importing():
        from dampen.engine import Epoch
        from dampen.experiments import draw_dropout
        from dampen.experiments import dropout as lesson

    file = _options.picture(plot, "dampen-dropout.png", data, reading["test"])
    device = _options.usable_device(device)
    source = _data.read(data, reading)
    print_data = _data.data_printer(source, json)
    with _output.progress("training", shown=json) as advance:

        def after(event: "Event") -> None:
            print_data()
            advance(event.epoch, event.epochs)
            if isinstance(event, Epoch) and not json:
                _output.say(lesson.epoch_line(event))

        comparison = lesson.compare(
            source,
            layer_rates,
            widths,
            members,
            epochs=epochs,
            batch_size=batch_size,
            lr=lr,
            device=device,
            callback=after,
        )
    draw_dropout(comparison, file)
    if json:
        _output.print_json(_document(comparison))
        return
    _print(comparison)
    print(file)


def _print(comparison: "lesson.Comparison") -> None:
    from dampen.experiments.dropout import DROPOUT, NO_DROPOUT

    seeds = len(comparison.history.seeds)
    metrics = list(comparison.fitted)
    print()
    _output.say(
        f"After {comparison.history.epochs[-1]} epochs, training rows measured as the test rows are, without dropout"
        f"{f'; mean ± standard deviation of {seeds} seeds' if seeds > 1 else ''}:"
    )
    rows = [
        [
            f"{shown(metric)}{shown(name)}",
            *(
                _output.with_spread(values[:, m])
                for values in (
                    comparison.fitted[metric],
                    comparison.history.final(f"test_{metric}"),
                    comparison.gap(metric),
                )
            ),
        ]
        for metric in metrics
        for name, m in ((", with dropout", DROPOUT), (", without", NO_DROPOUT))
    ]
    _output.print_table(["", shown("train"), shown("test"), shown("gap")], rows)
    for metric in reversed(metrics):
        _output.say(_sentence(comparison, metric))
    print()


def _sentence(comparison: "lesson.Comparison", metric: str) -> str:
    """Return the effect of dropout on a test metric in words."""
    effect = comparison.effect(metric)
    name = f"Test {metric}"
    if not math.isfinite(effect.mean):
        return f"{name}: a network diverged, so there is nothing to compare; try a smaller --lr."
    better = effect.mean > 0 if metric == "accuracy" else effect.mean < 0
    sentence = f"{name}: dropout changes it by {effect.mean:+.4f}"
    if effect.n == 1:
        tendency = "better with dropout" if better else "no worse without dropout"
        return f"{sentence}, {tendency}; one seed has no interval: raise --seeds."
    sentence += f" (95 % interval {effect.low:+.4f} to {effect.high:+.4f} over {effect.n} seeds)"
    if effect.excludes_zero:
        return f"{sentence}: dropout {'helps' if better else 'hurts'} here."
    if better:
        return f"{sentence}: better with dropout on average, but not significantly over these seeds."
    return f"{sentence}: without dropout it is no worse on average, but not significantly better over these seeds."


def _document(comparison: "lesson.Comparison") -> dict[str, Any]:
    from dampen.experiments.dropout import DROPOUT, NO_DROPOUT

    return {
        "data": comparison.data.name,
        "epochs": _epochs(comparison.history, DROPOUT),
        "no_dropout": {"epochs": _epochs(comparison.history, NO_DROPOUT)},
        "gap": {
            name: {metric: comparison.gap(metric)[:, m].mean() for metric in comparison.fitted}
            for name, m in (("dropout", DROPOUT), ("no_dropout", NO_DROPOUT))
        },
        "effect": {
            metric: {"difference": e.mean, "interval": [e.low, e.high], "seeds": e.n}
            for metric in comparison.fitted
            for e in [comparison.effect(metric)]
        },
        "seconds": comparison.seconds,
    }


def _epochs(history: "History", setting: int) -> list[dict[str, Any]]:
    """Return the curves as rows: means over seeds, accuracies null where there are no classes."""
    rows = []
    for i, epoch in enumerate(history.epochs):
        row: dict[str, Any] = {"epoch": epoch}
        for name in ("train_loss", "train_accuracy", "test_loss", "test_accuracy"):
            row[name] = history.metrics[name][i, :, setting].mean() if name in history.metrics else None
        rows.append(row)
    return rows
