"""`dampen weight-decay`: the first study."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from dampen._language import shown
from dampen.cli import _options, _output, _startup
from dampen.errors import InputError

if TYPE_CHECKING:
    from dampen.experiments import weight_decay as lesson


def command(
    inputs: Annotated[int, _options.in_data("Number of input features.")] = 200,
    rows: Annotated[int, _options.in_data("Number of training rows.")] = 20,
    test_rows: Annotated[int, _options.in_data("Number of test rows.")] = 100,
    true_weight: Annotated[float, _options.in_data("True weight of every input.")] = 0.01,
    true_bias: Annotated[float, _options.in_data("True bias.")] = 0.05,
    noise: Annotated[float, _options.in_data("Standard deviation of the noise on the target.")] = 0.01,
    weight_decay: Annotated[str, _options.in_training("Strengths lambda of the penalty.")] = "0,3",
    batch_size: Annotated[int, _options.in_training("Rows per step.")] = 5,
    lr: Annotated[float, _options.in_training("Learning rate of SGD.")] = 0.003,
    epochs: Annotated[int, _options.in_training("Number of epochs.")] = 100,
    every: Annotated[int, _options.in_training("Epochs between two points of the curves.", min=1)] = 5,
    path: Annotated[
        int | None, _options.in_training("Also train this many strengths, spaced logarithmically.", min=2)
    ] = None,
    path_range: Annotated[
        str | None, _options.in_training("Smallest and largest strength of --path.", "0.01..100")
    ] = None,
    seed: _options.Seed = 0,
    seeds: _options.Seeds = 20,
    device: _options.Device = "cpu",
    plot: Annotated[
        Path | None, _options.in_output("Picture to draw, .png or .svg.", "dampen-weight-decay.png")
    ] = None,
    json: _options.Json = False,
) -> None:
    """Show what weight decay does, on 20 rows of 200 inputs.

    Linear regression with far more inputs than rows, trained without and with the penalty lambda/2 * ||w||^2 on the
    weights, never on the bias. With --path, test loss and norm along a whole range of lambda, beside the closed
    forms of gradient descent and of ridge regression.
    """
    strengths = _options.numbers(weight_decay, "--weight-decay")
    if path_range is not None and not path:
        raise InputError("--path-range is for --path: say along how many strengths, such as --path 30")
    path_from, path_to = _options.positive_range(path_range or "0.01..100", "--path-range")
    members = _options.seed_range(seed, seeds)

    with _startup.importing():
        import numpy as np

        from dampen.experiments import draw_weight_decay_comparison, draw_weight_decay_path, forgetting
        from dampen.experiments import weight_decay as lesson

    file = _options.picture(plot, "dampen-weight-decay.png")
    file_of_path = _options.picture(file.with_stem(f"{file.stem}-path"), "") if path else None
    device = _options.usable_device(device)
    problem = lesson.Problem(inputs, rows, test_rows, true_weight, true_bias, noise, batch_size, lr, epochs)

    with _output.progress("training") as advance:
        comparison = lesson.compare(
            problem,
            strengths,
            members,
            evaluate_every=every,
            device=device,
            callback=lambda e: advance(e.epoch, e.epochs),
        )
    along = None
    if path:
        with _output.progress(f"training {path} weight decays"):
            along = lesson.path(problem, np.geomspace(path_from, path_to, path).tolist(), members, device=device)

    draw_weight_decay_comparison(comparison, file)
    if along and file_of_path:
        draw_weight_decay_path(along, file_of_path)
    if json:
        _output.print_json(_document(comparison, along))
        return
    _print(comparison)
    if along:
        _print_path(along)
        _output.say(shown(forgetting(problem)).replace("\n", " "), end="\n\n")
    for written in (file, file_of_path):
        if written:
            print(written)


def _print(comparison: "lesson.Comparison") -> None:
    problem, seeds = comparison.problem, len(comparison.history.seeds)
    _output.say(
        f"Linear regression: {problem.inputs} inputs, {problem.rows} training and {problem.test_rows} test rows, "
        f"{problem.epochs} epochs of SGD, {seeds} {'seed' if seeds == 1 else 'seeds (mean ± standard deviation)'}\n"
    )
    final = comparison.history.final
    _output.print_table(
        [shown("weight decay"), shown("train loss"), shown("test loss"), shown("L2 norm of w")],
        [
            [
                f"{strength:g}",
                *(_output.with_spread(v[:, m]) for v in (final("train_loss"), final("test_loss"), comparison.l2_norm)),
            ]
            for m, strength in enumerate(comparison.weight_decays)
        ],
    )
    for m, strength in enumerate(comparison.weight_decays):
        diverged = comparison.history.diverged_at[:, m]
        if diverged.any():
            _output.say(
                f"Weight decay {strength:g} diverged with {(diverged > 0).sum()} of {seeds} seeds, first in epoch "
                f"{diverged[diverged > 0].min()}: its figures are nan. Stable steps need lr * weight decay well below "
                f"2, here it is {problem.lr * strength:g}; try a smaller --lr.\n"
            )


def _print_path(along: "lesson.Path") -> None:
    _output.say(
        f"{len(along.weight_decays)} weight decays x {along.seeds} {'seed' if along.seeds == 1 else 'seeds'} trained "
        f"in {along.seconds:.1f} s: the lowest test loss is at {along.best:.3g}, validation rows would choose "
        f"{along.chosen_by_validation:.3g}."
    )


def _document(comparison: "lesson.Comparison", along: "lesson.Path | None") -> dict[str, Any]:
    runs = []
    for m, strength in enumerate(comparison.weight_decays):
        run: dict[str, Any] = {"weight_decay": strength, "seeds": len(comparison.history.seeds)}
        for name, values in (
            ("train_loss", comparison.history.final("train_loss")),
            ("test_loss", comparison.history.final("test_loss")),
            ("l2_norm", comparison.l2_norm),
        ):
            run |= {name: values[:, m].mean(), f"{name}_std": _output.spread(values[:, m])}
        runs.append(run)
    seconds = comparison.seconds + (along.seconds if along else 0)
    return {"runs": runs, "path": _path_document(along) if along else None, "seconds": seconds}


def _path_document(along: "lesson.Path") -> dict[str, Any]:
    names = (
        "weight_decay",
        "test_loss",
        "validation_loss",
        "l2_norm",
        "closed_form_test_loss",
        "ridge_test_loss",
    )
    lines = {name: getattr(along, "weight_decays" if name == "weight_decay" else name) for name in names}
    return lines | {
        "best": along.best,
        "chosen_by_validation": along.chosen_by_validation,
        "seconds": along.seconds,
    }
