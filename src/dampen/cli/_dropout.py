"""`dampen dropout`: the second study."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from dampen.cli import _data, _options, _output

if TYPE_CHECKING:
    from dampen.engine import Event, History
    from dampen.experiments import dropout as lesson


@_data.takes_data
def command(
    reading: dict[str, Any],
    data: _data.Source = "digits",
    rates: Annotated[str, _options.in_training("Dropout rate of each hidden layer.")] = "0.3,0.5",
    hidden: Annotated[str, _options.in_training("Width of each hidden layer.")] = "256,128",
    epochs: Annotated[int, _options.in_training("Passes over the training rows.")] = 10,
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

    from dampen.engine import Epoch
    from dampen.experiments import draw_dropout
    from dampen.experiments import dropout as lesson

    file = _options.picture(plot, "dampen-dropout.png", data, reading["test"])
    device = _options.usable_device(device)
    source = _data.read(data, reading)
    tell_data = _data.teller(source, json)
    with _output.progress("training", shown=json) as advance:

        def after(event: "Event") -> None:
            tell_data()
            advance(event.epoch, event.epochs)
            if isinstance(event, Epoch) and not json:
                print(lesson.epoch_line(event), flush=True)

        found = lesson.compare(
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
    draw_dropout(found, file)
    if json:
        _output.print_json(_document(found))
        return
    _print(found)
    print(file)


def _print(found: "lesson.Comparison") -> None:
    from dampen.experiments.dropout import DROPOUT, NO_DROPOUT

    seeds = len(found.history.seeds)
    metrics = list(found.fitted)
    print(
        f"\nAfter {found.history.epochs[-1]} epochs, training rows measured as the test rows are, without dropout"
        f"{f'; mean ± standard deviation of {seeds} seeds' if seeds > 1 else ''}:"
    )
    rows = [
        [
            f"{metric}, {name}",
            *(
                _output.with_spread(values[:, m])
                for values in (found.fitted[metric], found.history.final(f"test_{metric}"), found.gap(metric))
            ),
        ]
        for metric in metrics
        for name, m in (("with dropout", DROPOUT), ("without", NO_DROPOUT))
    ]
    _output.print_table(["", "train", "test", "gap"], rows)
    for metric in reversed(metrics):
        print(_sentence(found, metric))
    print()


def _sentence(found: "lesson.Comparison", metric: str) -> str:
    """Say what dropout did to a test metric, as the numbers have it."""
    effect = found.effect(metric)
    name = f"Test {metric}"
    if not math.isfinite(effect.mean):
        return f"{name}: a network diverged, so there is nothing to compare; try a smaller --lr."
    better = effect.mean > 0 if metric == "accuracy" else effect.mean < 0
    said = f"{name}: dropout changes it by {effect.mean:+.4f}"
    if effect.n == 1:
        tendency = "better with dropout" if better else "no worse without dropout"
        return f"{said}, {tendency}; one seed has no interval: raise --seeds."
    said += f" (95 % interval {effect.low:+.4f} to {effect.high:+.4f} over {effect.n} seeds)"
    if effect.excludes_zero:
        return f"{said}: dropout {'helps' if better else 'hurts'} here."
    if better:
        return f"{said}: better with dropout on average, but not significantly over these seeds."
    return f"{said}: without dropout it is no worse on average, but not significantly better over these seeds."


def _document(found: "lesson.Comparison") -> dict[str, Any]:
    from dampen.experiments.dropout import DROPOUT, NO_DROPOUT

    return {
        "data": found.data.name,
        "epochs": _epochs(found.history, DROPOUT),
        "no_dropout": {"epochs": _epochs(found.history, NO_DROPOUT)},
        "gap": {
            name: {metric: found.gap(metric)[:, m].mean() for metric in found.fitted}
            for name, m in (("dropout", DROPOUT), ("no_dropout", NO_DROPOUT))
        },
        "effect": {
            metric: {"difference": e.mean, "interval": [e.low, e.high], "seeds": e.n}
            for metric in found.fitted
            for e in [found.effect(metric)]
        },
        "seconds": found.seconds,
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
