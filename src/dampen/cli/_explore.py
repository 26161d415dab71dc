"""`dampen explore`: questions about regularisation, answered by training."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dampen._language import shown
from dampen.cli import _data, _options, _output, _startup
from dampen.errors import InputError

if TYPE_CHECKING:
    from dampen.engine import Event


@_data.takes_data
def command(
    reading: dict[str, Any],
    question: Annotated[
        str | None, typer.Argument(metavar="QUESTION", help="One of the questions that --list shows.")
    ] = None,
    data: _data.Source = "digits",
    hidden: Annotated[str, _options.in_training("Width of each hidden layer.")] = "256,128",
    epochs: Annotated[int | None, _options.in_training("Number of epochs.", "10 or 30 by rows", min=1)] = None,
    rows: Annotated[int | None, _options.in_data("Number of training rows: few rows overfit soon.", "all")] = None,
    lr: Annotated[float, _options.in_training("Learning rate of AdamW.")] = 1e-3,
    seed: _options.Seed = 0,
    seeds: _options.Seeds = 5,
    device: _options.Device = "cpu",
    cluster: _options.ClusterAddress = None,
    cpus_per_worker: _options.CpusPerWorker = 1,
    gpus_per_worker: _options.GpusPerWorker = None,
    plot: Annotated[Path | None, _options.in_output("Picture to draw, .png or .svg.", "dampen-QUESTION.png")] = None,
    list_: Annotated[bool, _options.flag("--list", "List the questions and stop.", panel=_options.OUTPUT)] = False,
    json: _options.Json = False,
) -> None:
    """Answer a question about regularisation on a data set, with a picture and an interval.

    Trains on four fifths of the training rows. A tenth are selection rows, which choose a decay or a rate; a tenth are
    evaluation rows. The test rows are not used.
    """
    with _startup.importing():
        from dampen.experiments import QUESTIONS, explore, ground

    if list_:
        if json:
            _output.print_json({name: question_entry.text for name, question_entry in QUESTIONS.items()})
            return
        for name, question_entry in QUESTIONS.items():
            print(f"{name:12} {shown(question_entry.text)}")
        return
    if question is None or question not in QUESTIONS:
        problem = "which question?" if question is None else f"there is no question {question!r}:"
        raise InputError(f"{problem} choose one of {', '.join(QUESTIONS)}")
    widths = _options.whole_numbers(hidden, "--hidden")
    members = _options.seed_range(seed, seeds)

    from dampen.experiments import draw_answer
    from dampen.study import workers_of

    file = _options.picture(plot, f"dampen-{question}.png", data, reading["test"])
    device = _options.usable_device(device)
    source = _data.read(data, reading)
    print_data = _data.data_printer(source, json)
    workers_asked = _options.cluster(cluster, cpus_per_worker, gpus_per_worker)
    with workers_of(workers_asked) as workers, _output.progress(question) as advance:

        def after(event: "Event") -> None:
            print_data()
            advance(event.epoch, event.epochs)

        on = ground(
            source,
            widths,
            seeds=members,
            epochs=epochs,
            rows=rows,
            lr=lr,
            device=device,
            callback=after,
            workers=workers,
        )
        answer = explore(question, on)
    draw_answer(answer, file)
    if json:
        _output.print_json(answer.document() | {"picture": str(file)})
        return
    _output.say(str(answer))
    print(file)
