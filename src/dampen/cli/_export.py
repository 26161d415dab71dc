"""`dampen export`: a study's network for use without dampen."""

import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

from dampen._language import shown
from dampen.cli import _options, _output, _startup
from dampen.cli._network import network_maker_of
from dampen.errors import NotExported


def command(
    study: _options.Study,
    model: _options.Model = None,
    data_dir: _options.DataDir = None,
    out: Annotated[
        Path | None, _options.in_output("Folder to write to: new, empty or of an earlier export.", "export in STUDY")
    ] = None,
    onnx: Annotated[
        bool, _options.flag("--onnx", "Also write model.onnx, checked against PyTorch.", panel=_options.OUTPUT)
    ] = False,
    data: Annotated[
        bool | None,
        typer.Option(
            "--data/--no-data",
            help="Write the rows that train.py reads.",
            show_default="up to 64 MiB",
            rich_help_panel=_options.OUTPUT,
            metavar="",
        ),
    ] = None,
    json: _options.Json = False,
) -> None:
    """Write a study's recommended network as safetensors and readable JSON, with a script that trains it again.

    The script, train.py, is plain PyTorch without dampen: same initial weights, batches and dropout masks.
    """
    with _startup.importing():
        from dampen.study import load_study, study_folder

    folder = study_folder(study)
    made = network_maker_of(folder, model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotExported)
        exported = load_study(folder, model=made, data_dir=data_dir).export(
            out or folder / "export", onnx=onnx, data=data
        )
    if exported.refused is not None:
        print(f"dampen: {_output.printable(shown(exported.refused))}", file=sys.stderr)
    if json:
        _output.print_json({"folder": str(exported.folder), "files": list(exported.files), **exported.document})
        return
    for name in exported.files:
        print(exported.folder / name)
    if exported.document["train"]["needs"] is not None:
        _output.say("train.py has no data.npz beside it: --data writes it, or name a file with the same arrays")
