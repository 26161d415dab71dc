"""`dampen tune`: from a data set to a verdict; and `dampen report`: its picture, again."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dampen._io import counted, shortened
from dampen.cli import _data, _knobs, _network, _options, _output
from dampen.errors import InputError

if TYPE_CHECKING:
    from dampen.study import Progress, Study

_RUNS = Path("dampen-runs")


@_data.takes_data
def tune(
    reading: dict[str, Any],
    data: _data.Source = "digits",
    weight_decay: Annotated[
        str | None,
        typer.Option(help="Range (0 is tried, too), list or number.", show_default="1e-5..1; of tables 1e-3..10"),
    ] = None,
    dropout: Annotated[str | None, typer.Option(help="Range, list or number.", show_default="0..0.7")] = None,
    lr: Annotated[
        str | None,
        typer.Option(
            help="Range, list or number.", show_default="1e-4..3e-3, from 5000 rows on 3e-4..3e-3; of tables to 1e-2"
        ),
    ] = None,
    knob: Annotated[
        list[str] | None,
        typer.Option(
            help="Another knob to search, NAME=RANGE, NAME=LIST or NAME=VALUE: l1=1e-6..1e-2. May be repeated; dampen "
            "knobs lists all. One that states another one anew (decay_timescale) takes its place.",
            show_default=False,
        ),
    ] = None,
    per_layer: Annotated[bool, typer.Option("--per-layer", help="Search a dropout rate for each layer.")] = False,
    hidden: Annotated[
        str | None,
        typer.Option(
            help="Width of each hidden layer; '' for a linear model.",
            show_default="256,128; of tables below 1000 rows 64,32",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:FUNCTION",
            help="What makes your own network, such as nets:make or nets.py:make; told inputs, outputs and input_shape "
            "if it asks for them.",
        ),
    ] = None,
    insert_dropout: Annotated[
        bool, typer.Option("--insert-dropout", help="Put dropout after each hidden activation of your network.")
    ] = False,
    settings: Annotated[
        int | None, typer.Option(help="Settings to try.", show_default="64 below 1000 rows, 32 below 5000, else 24")
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(help="The longest training.", show_default="as long as longer trainings are better"),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(help="nll, accuracy, brier, mc-nll; mse, rmse, mae, r2, nll.", show_default="nll or mse"),
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(
            help="Share of the loss below which a difference does not matter.",
            show_default="0.01, or a tenth of the spread between seeds",
        ),
    ] = None,
    search: Annotated[str, typer.Option(help="sobol, random, grid, tpe or hyperband.")] = "sobol",
    no_halving: Annotated[
        bool, typer.Option("--no-halving", help="Train every setting for the longest training.")
    ] = False,
    confirmed: Annotated[int, typer.Option(help="How many of the best settings train again for the verdict.")] = 3,
    confirm_seeds: Annotated[
        int | None,
        typer.Option(help="Fresh seeds behind the verdict.", show_default="10 below 1000 rows, 5 below 5000, else 3"),
    ] = None,
    budget: Annotated[
        str | None, typer.Option(help="Time for all of it, 90s, 5m or 1h: settings, seeds and epochs follow from it.")
    ] = None,
    validation: Annotated[
        str | None, typer.Option(help="folds or held-out.", show_default="folds below 5000 rows")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Rows a step.", show_default="32 below 5000 rows, else 128")
    ] = None,
    schedule: Annotated[
        str | None,
        typer.Option(
            help="Of the learning rate: constant, cosine, linear or one-cycle.",
            show_default="cosine",
        ),
    ] = None,
    precision: Annotated[str, typer.Option(help="float32, float64 or bfloat16.")] = "float32",
    out: Annotated[
        Path | None, typer.Option(help="Folder for the study.", show_default="dampen-runs/DATA-1, -2 ...")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the study in --out, or with the latest one.")
    ] = False,
    optuna: Annotated[
        str | None, typer.Option(help="Also write the search to this Optuna storage, sqlite:///studies.db for one.")
    ] = None,
    seed: _options.Seed = 0,
    seeds: Annotated[
        int | None,
        typer.Option(
            help="Seeds of each setting in the search.", show_default="5 below 1000 rows, 3 below 5000, else 1"
        ),
    ] = None,
    device: _options.Device = "cpu",
    json: _options.Json = False,
) -> None:
    """Find how much weight decay and dropout a network needs, whether they help, and how sure that is.

    Tries many settings at once, for as long as longer trainings are better. Trains the best again with fresh seeds,
    beside no regularisation and the framework's default with learning rates and lengths of their own, and gives a
    verdict with intervals, where the gain comes from, the test result and a report.
    """
    _options.seed_range(seed, seeds or 1)
    asked: dict[str, Any] = {}
    if weight_decay is not None:
        asked["weight_decay"] = dimension(weight_decay, "--weight-decay", log=True, zero=0.1)
    if dropout is not None:
        asked["dropout"] = dimension(dropout, "--dropout")
    if lr is not None:
        asked["lr"] = dimension(lr, "--lr", log=True)
    others = _knobs.ranges(knob or [])
    for name in asked:
        if name in others:
            option = f"--{name.replace('_', '-')}"
            raise InputError(f"{option} and --knob {name} say the same: give one of them")
    widths = None if hidden is None else _options.whole_numbers(hidden, "--hidden") if hidden else []
    if model is not None and hidden is not None:
        raise InputError("--hidden shapes dampen's own network, --model names yours: give one of them")
    if model is None and insert_dropout:
        raise InputError("--insert-dropout is for your own network: name it with --model")

    from dampen.engine.knobs import KNOBS
    from dampen.search import PerLayer
    from dampen.study import tune as run
    from dampen.study import usual_network, usual_space

    device = _options.usable_device(device)
    seconds = None if budget is None else seconds_of(budget)
    if seconds is not None and not resume and device == "cpu":
        _check_budget(seconds, data, reading, widths, model, insert_dropout, confirmed, batch_size)
    source = _data.read(data, reading)
    if model:
        network, places, said = _network.own(model, insert_dropout, source)
    else:
        network = usual_network(source, widths)
        places, said = len(network.hidden), []
    excluded = {name for other in others for name in KNOBS[other].excludes}
    space = {name: value for name, value in (usual_space(source, places) | asked).items() if name not in excluded}
    space |= others
    if per_layer and places and "dropout" in space:
        space["dropout"] = PerLayer(space["dropout"], places)
    folder = out or _folder(source.name, resume)
    tell_data = _data.teller(source, json, said)
    with _told_how_to_go_on(folder), _output.progress("tuning") as advance:
        found = run(
            network,
            source,
            space,
            settings=settings,
            seeds=seeds,
            epochs=epochs,
            metric=metric,
            margin=margin,
            search=search,
            halving=not no_halving,
            confirmed=confirmed,
            confirm_seeds=confirm_seeds,
            budget=seconds,
            validation=validation,
            batch_size=batch_size,
            schedule=schedule,
            precision=precision,
            device=device,
            seed=seed,
            out=folder,
            resume=resume,
            callback=_teller(advance, tell_data),
        )
    tell_data()
    page = folder / "report.html"
    found.report(page)
    if optuna is not None:
        found.export_to_optuna(optuna, folder.name)
    if json:
        _output.print_json(found.document())
        return
    _print(found)
    print(page)


def report(
    study: Annotated[Path, typer.Argument(help="Folder of a finished study.")],
) -> None:
    """Write the report of a finished study again, and print where it is."""
    from dampen.report import write_study
    from dampen.study import read_results

    found = read_results(study)
    write_study(study / "report.html", found.document, found.frame, found.rungs)
    print(study / "report.html")


def dimension(text: str, option: str, *, log: bool = False, zero: float = 0.0) -> Any:
    """Read `1e-5..1`, `0,0.1,0.3` or `0.1`."""
    from dampen.search import Choice, LogUniform, Uniform

    if ".." not in text:
        return Choice(_options.numbers(text, option))
    try:
        low, high = (float(word) for word in text.split(".."))
        return LogUniform(low, high, zero) if log else Uniform(low, high)
    except ValueError as e:
        if isinstance(e, InputError):
            raise InputError(f"{option}: {e}") from None
        raise InputError(
            f"{option} takes a range such as 1e-4..1, a list such as 0,0.1 or a number; got {text!r}"
        ) from None


def seconds_of(text: str) -> float:
    """Read `90s`, `5m` or `1.5h` as seconds."""
    unit = {"s": 1.0, "m": 60.0, "h": 3600.0}.get(text[-1:])
    try:
        return float(text[:-1]) * unit if unit is not None else float(text)
    except ValueError:
        raise InputError(f"--budget takes a time such as 90s, 5m or 1h; got {text!r}") from None


def _check_budget(
    seconds: float,
    data: str,
    reading: dict[str, Any],
    widths: list[int] | None,
    model: str | None,
    insert_dropout: bool,
    confirmed: int,
    batch_size: int | None,
) -> None:
    """Refuse a time that is far too short for a large file before all of it is read."""
    from dampen.study import check_budget, usual_network

    head = _data.read_head(data, reading)
    if head is not None:
        part, times = head
        network = _network.own(model, insert_dropout, part)[0] if model else usual_network(part, widths)
        check_budget(seconds, network, part, times, confirmed, batch_size)


def _folder(name: str, resume: bool) -> Path:
    """Return the next free folder for a data set, or with `resume` the latest one."""
    name = shortened(name, 100)
    taken = [n for n in range(1, 10_000) if (_RUNS / f"{name}-{n}").exists()]
    if resume and not taken:
        raise InputError(f"there is no study of {name} in {_RUNS} to resume: name its folder in --out")
    last = max(taken, default=0)
    return _RUNS / f"{name}-{last if resume else last + 1}"


@contextlib.contextmanager
def _told_how_to_go_on(folder: Path) -> Iterator[None]:
    """Name, when Ctrl-C is pressed, the option that goes on."""
    try:
        yield
    except KeyboardInterrupt:
        if (folder / "plan.json").is_file():
            print(
                f"dampen: interrupted; the same command with --resume --out {folder} goes on from here", file=sys.stderr
            )
        raise


def _teller(advance: Any, first: Any) -> Any:
    """Return a callback: a bar where stderr is a terminal, else a line for each rung and phase; `first` comes first."""
    told: set[tuple[str, int, int]] = set()

    def tell(at: "Progress") -> None:
        first()
        best = "" if at.best is None else f", best so far {at.best:.4g}"
        now = f"{at.phase}: {counted(at.members, 'member')} to epoch {at.epochs}{best}"
        advance(at.share, 1, now)
        if not sys.stderr.isatty() and (at.phase, at.members, at.epochs) not in told:
            told.add((at.phase, at.members, at.epochs))
            left = "" if at.left is None else f", about {at.left:.0f} s left"
            print(f"{now}; {at.seconds:.0f} s{left}", file=sys.stderr)

    return tell


def _print(found: "Study") -> None:
    for sentence in found.sentences():
        print(sentence)
    if found.test:
        print("\nThe test set, opened once (mean, 95 % interval over seeds and rows):")
        metrics = list(found.test["ensemble"])
        rows = [[name, *(_figure(result[m]) for m in metrics)] for name, result in found.test.items()]
        _output.print_table(["", *metrics], rows)


def _figure(result: dict[str, Any]) -> str:
    if result["mean"] is None:
        return "diverged"
    mean, *ends = (f"{value + 0.0:.4g}" for value in (result["mean"], *(result["interval"] or ())))  # no -0
    return f"{mean} ({' to '.join(ends)})" if ends else mean
