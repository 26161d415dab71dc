"""`dampen tune`: from a data set to a verdict; and `dampen report`: its picture, again."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from dampen._io import RUNS, shortened
from dampen._language import language, part, shown
from dampen.cli import _data, _knobs, _network, _options, _output, _startup
from dampen.cli._import_string import network_maker
from dampen.errors import InputError

if TYPE_CHECKING:
    from dampen.search import Importance
    from dampen.study import Progress, Study


@_data.takes_data
def tune(
    reading: dict[str, Any],
    data: _data.Source = "digits",
    weight_decay: Annotated[
        str | None,
        _options.in_search("Weight decays: range (0 is tried, too), list or number.", "1e-5..1; tables 1e-3..10"),
    ] = None,
    dropout: Annotated[str | None, _options.in_search("Range, list or number.", "0..0.7")] = None,
    lr: Annotated[str | None, _options.in_search("Range, list or number.", "depends on the data")] = None,
    knob: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=RANGE",
            help="Another knob to search, with a range, a list or a value: l1=1e-6..1e-2. May be repeated; dampen "
            "knobs lists all. A knob that restates another one (decay_timescale) replaces it.",
            show_default=False,
            rich_help_panel=_options.SEARCH,
        ),
    ] = None,
    per_layer: Annotated[
        bool, _options.flag("--per-layer", "Search a dropout rate for each layer.", panel=_options.SEARCH)
    ] = False,
    cocktail: Annotated[
        bool,
        _options.flag(
            "--cocktail",
            "Search every regulariser that can act here, each on or off, in 512 settings.",
            panel=_options.SEARCH,
        ),
    ] = False,
    settings: Annotated[int | None, _options.in_search("Number of settings to try.", "24..64 by rows")] = None,
    search: Annotated[
        Literal["sobol", "random", "grid", "tpe", "hyperband"],
        _options.in_search("How settings are drawn: sobol, random, grid, tpe or hyperband.", metavar="METHOD"),
    ] = "sobol",
    no_halving: Annotated[
        bool, _options.flag("--no-halving", "Train every setting for the full length.", panel=_options.SEARCH)
    ] = False,
    metric: Annotated[
        Literal["nll", "accuracy", "brier", "mc-nll", "calibrated-nll", "mse", "rmse", "mae", "r2"] | None,
        _options.in_search(
            "Metric by which settings are compared: nll, accuracy, brier, mc-nll, calibrated-nll (a cocktail's "
            "default from 1000 rows on) for classes; mse, rmse, mae, r2, nll for numbers.",
            "nll or mse",
            metavar="METRIC",
        ),
    ] = None,
    margin: Annotated[
        float | None,
        _options.in_search("Share of the loss below which a difference is negligible.", "0.01 or seed spread"),
    ] = None,
    validation: Annotated[
        Literal["folds", "held-out"] | None,
        _options.in_search("How rows are set aside for evaluation: folds or held-out.", "folds below 5000 rows"),
    ] = None,
    confirmed: Annotated[
        int | None,
        _options.in_search("Number of best settings that train again for the verdict.", "3, budgeted cocktail 1"),
    ] = None,
    confirm_seeds: Annotated[
        int | None, _options.in_search("Number of fresh seeds for the verdict.", "3..10 by rows")
    ] = None,
    seeds: Annotated[
        int | None, _options.in_search("Number of seeds of each setting in the search.", "1..5 by rows")
    ] = None,
    budget: Annotated[
        str | None,
        _options.in_search(
            "Time for the whole study, such as 90s, 5m or 1h; sets the number of settings, seeds and epochs.",
            metavar="TIME",
        ),
    ] = None,
    hidden: Annotated[
        str | None, _options.in_training("Width of each hidden layer; '' for a linear model.", "depends on the data")
    ] = None,
    model: Annotated[
        str | None,
        _options.in_training(
            "Factory for your own network, such as nets:make or nets.py:make; may accept inputs, outputs, input_shape.",
            metavar="MODULE:FUNCTION",
        ),
    ] = None,
    insert_dropout: Annotated[
        bool,
        _options.flag(
            "--insert-dropout",
            "Put dropout after each hidden activation of your network.",
            panel=_options.TRAINING,
        ),
    ] = False,
    epochs: Annotated[
        int | None, _options.in_training("Number of epochs of the longest training.", "while longer trainings gain")
    ] = None,
    batch_size: Annotated[int | None, _options.in_training("Rows per step.", "32..128 by rows")] = None,
    schedule: Annotated[
        Literal["constant", "cosine", "linear", "one-cycle"] | None,
        _options.in_training(
            "Schedule of the learning rate: constant, cosine, linear or one-cycle.", "cosine", metavar="SCHEDULE"
        ),
    ] = None,
    loss: Annotated[
        Literal["squared_error", "gaussian_nll", "beta_nll", "pinball", "auto"] | None,
        _options.in_training(
            "For numbers: squared_error; gaussian_nll, beta_nll (a mean and variance a row); pinball (quantiles); auto "
            "(squared_error or gaussian_nll, by validation rows).",
            "squared_error",
            metavar="LOSS",
        ),
    ] = None,
    precision: Annotated[
        Literal["float32", "float64", "bfloat16"],
        _options.in_training("float32, float64 or bfloat16.", metavar="DTYPE"),
    ] = "float32",
    seed: _options.Seed = 0,
    device: _options.Device = "cpu",
    cluster: _options.ClusterAddress = None,
    cpus_per_worker: _options.CpusPerWorker = 1,
    gpus_per_worker: _options.GpusPerWorker = None,
    out: Annotated[Path | None, _options.in_output("Folder for the study.", "dampen-runs/DATA-1, -2 ...")] = None,
    resume: Annotated[
        bool,
        _options.flag("--resume", "Continue the study in --out, or the latest one.", panel=_options.OUTPUT),
    ] = False,
    optuna: Annotated[
        str | None,
        _options.in_output(
            "Also write the search to this Optuna storage, such as sqlite:///studies.db.", metavar="URL"
        ),
    ] = None,
    json: _options.Json = False,
) -> None:
    """Find how much weight decay and dropout a network needs, whether they help, and how sure that is.

    Tries many settings at once, for as long as longer trainings are better. Trains the best again with fresh seeds,
    beside no regularisation and the framework's default with learning rates and lengths of their own, and gives a
    verdict with intervals, where the gain comes from, the test result and a report.
    """
    _options.seed_range(seed, seeds or 1)
    sizes: dict[str, Any] = {}
    if weight_decay is not None:
        sizes["weight_decay"] = dimension(weight_decay, "--weight-decay", log=True, zero=0.1)
    if dropout is not None:
        sizes["dropout"] = dimension(dropout, "--dropout")
    if lr is not None:
        sizes["lr"] = dimension(lr, "--lr", log=True)
    if knob and model is not None:
        network_maker(model)  # its file may register a knob
    others = _knobs.ranges(knob or [])
    for name in sizes:
        if name in others:
            option = f"--{name.replace('_', '-')}"
            raise InputError(f"{option} and --knob {name} set the same knob: give one of them")
    widths = None if hidden is None else _options.whole_numbers(hidden, "--hidden") if hidden else []
    if model is not None and hidden is not None:
        raise InputError("--hidden shapes dampen's own network, --model names yours: give one of them")
    if model is None and insert_dropout:
        raise InputError("--insert-dropout is for your own network: name it with --model")

    with _startup.importing():
        from dampen.engine.knobs import KNOBS
        from dampen.search import PerLayer, check_storage, enough_for_importance, strategy_of
        from dampen.study import tune as run
        from dampen.study import usual_network, usual_space, with_ids

    strategy = strategy_of(search, halving=not no_halving)
    device = _options.usable_device(device)
    seconds = None if budget is None else seconds_of(budget)
    if seconds is not None and not resume and device == "cpu":
        of_head = None if loss == "auto" else loss
        _check_budget(seconds, data, reading, widths, model, insert_dropout, confirmed, batch_size, cocktail, of_head)
    source = _data.read(data, reading)
    if model:
        network, places, network_notes = _network.own(model, insert_dropout, source, None if loss == "auto" else loss)
        shown = with_ids(network, source)  # whose columns stay as they are where it embeds them
    else:
        network, shown = usual_network(source, widths), source
        places, network_notes = len(network.hidden), []
    excluded = {name: other for other in others for name in KNOBS[other].excludes}
    for name in sizes:
        if name in excluded:
            option = f"--{name.replace('_', '-')}"
            raise InputError(f"{option} and --knob {excluded[name]} exclude each other: give one of them")
    usual = {} if cocktail else usual_space(source, places)
    space = {name: value for name, value in usual.items() if name not in excluded} | sizes | others
    if per_layer and cocktail:
        raise InputError("--cocktail searches one dropout rate: leave --per-layer out")
    if per_layer:
        if not places or "dropout" not in space:
            raise InputError("--per-layer is for dropout, and the network drops no units: leave it out")
        space["dropout"] = PerLayer(space["dropout"], places)
    folder = out or _folder(source.name, resume)
    if optuna is not None:
        check_storage(optuna, folder.name)
    print_data = _data.data_printer(shown, json, network_notes)
    with _hint_to_resume(folder), _output.progress("tuning") as advance:
        study = run(
            network,
            source,
            space,
            n_settings=settings,
            n_seeds=seeds,
            epochs=epochs,
            metric=metric,
            margin=margin,
            search=strategy,
            cocktail=cocktail,
            confirmed=confirmed,
            n_confirm_seeds=confirm_seeds,
            budget=seconds,
            validation=validation,
            batch_size=batch_size,
            schedule=schedule,
            loss=loss,
            precision=precision,
            device=device,
            seed=seed,
            out=folder,
            resume=resume,
            cluster=_options.cluster(cluster, cpus_per_worker, gpus_per_worker),
            callback=_progress_callback(advance, print_data),
        )
    print_data()
    page = folder / "report.html"
    study.report(page)
    if optuna is not None:
        study.export_to_optuna(optuna, folder.name)
    of_knobs = study.importance() if cocktail and enough_for_importance(study.ranked) else None
    if json:
        _output.print_json(study.document() | ({} if of_knobs is None else {"importance": of_knobs.document()}))
        return
    print_study(study)
    if of_knobs is not None:
        print_importance(of_knobs)
    if loss == "auto":
        _output.say(f"Note: {study.plan.notes[-1]}.")
    print(page)


def report(
    study: _options.Study,
) -> None:
    """Write the report of a finished study again, and print where it is."""
    with _startup.importing():
        from dampen.study import load_study, study_folder

    folder = study_folder(study)
    load_study(folder).report(folder / "report.html")
    print(folder / "report.html")


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
    confirmed: int | None,
    batch_size: int | None,
    cocktail: bool,
    loss: str | None,
) -> None:
    """Refuse a time that is far too short for a large file before all of it is read."""
    from dampen.study import check_budget, usual_network

    head = _data.read_head(data, reading)
    if head is None:
        return
    part, times = head
    if loss is not None and part.task == "classification":  # all rows may be numbers to predict
        return
    if model is None:
        network = usual_network(part, widths)
    else:
        try:
            network = _network.own(model, insert_dropout, part, loss)[0]
        except InputError:  # the first rows need not have every class: all of them will tell
            return
    check_budget(seconds, network, part, times, confirmed, batch_size, cocktail, loss)


def _folder(name: str, resume: bool) -> Path:
    """Return the next free folder for a data set, or with `resume` the latest one."""
    name = shortened(name, 100)
    taken = [n for n in range(1, 10_000) if (RUNS / f"{name}-{n}").exists()]
    if resume and not taken:
        raise InputError(f"there is no study of {name} in {RUNS} to resume: name its folder in --out")
    last = max(taken, default=0)
    return RUNS / f"{name}-{last if resume else last + 1}"


@contextlib.contextmanager
def _hint_to_resume(folder: Path) -> Iterator[None]:
    """Name, when Ctrl-C is pressed, the option that goes on."""
    try:
        yield
    except KeyboardInterrupt:
        if (folder / "plan.json").is_file():
            line = shown(f"interrupted; the same command with --resume --out {quote(str(folder))} goes on from here")
            print(f"dampen: {_output.printable(line)}", file=sys.stderr)
        raise


def _progress_callback(advance: Any, first: Any) -> Any:
    """Return a callback: a bar where stderr is a terminal, else a line for each rung and phase; `first` comes first."""
    printed: set[tuple[str, int, int]] = set()

    def report(at: "Progress") -> None:
        first()
        advance(at.share, 1, str(at))
        if not sys.stderr.isatty() and (at.phase, at.members, at.epochs) not in printed:
            printed.add((at.phase, at.members, at.epochs))
            print(f"{at}{at.in_time()}", file=sys.stderr)

    return report


def print_study(study: "Study") -> None:
    """Print a verdict, and the figures on the test rows."""
    for sentence in study.sentences():
        _output.say(sentence)
    if study.test:
        print()
        _output.say("The test set, opened once (mean, 95 % interval over seeds and rows):")
        metrics = list(study.test["recommended"])
        rows = [[_name(name), *(_figure(result[m]) for m in metrics)] for name, result in study.test.items()]
        _output.print_table(["", *map(shown, metrics)], rows)


def print_importance(found: "Importance") -> None:
    """Print which knobs matter, with what that rests on."""
    print()
    for sentence in found.sentences():
        _output.say(sentence)
    rows = [
        [name, f"{100 * k.share:.0f} %", part(f"{100 * k.low:.0f} to {100 * k.high:.0f} %"), f"{k.p:.2g}"]
        for name, k in found.knobs.items()
    ]
    _output.print_table([shown(name) for name in ("knob", "share", "95 % interval", "p")], rows)


def _name(name: str) -> str:
    """Return a reference's name: in English as options and documents have it."""
    from dampen.study import REFERENCE_NAMES

    return name if language() == "en" else part(str(REFERENCE_NAMES.get(name, name)))


def _figure(result: dict[str, Any]) -> str:
    if result["mean"] is None:
        return shown("diverged")
    mean, *ends = (f"{value + 0.0:.4g}" for value in (result["mean"], *(result["interval"] or ())))  # no -0
    return f"{mean} ({part(' to '.join(ends))})" if ends else mean
