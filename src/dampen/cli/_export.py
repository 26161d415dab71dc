"""`dampen export`: a study's network for use without dampen."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from dampen.cli import _options, _output
from dampen.cli._network import network_maker_of


def command(
    study: Annotated[Path, typer.Argument(help="Folder of a finished study.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to write to: new, empty or of an earlier export.", show_default="export in STUDY"),
    ] = None,
    onnx: Annotated[bool, typer.Option("--onnx", help="Write model.onnx, too, checked against PyTorch.")] = False,
    data: Annotated[
        bool | None,
        typer.Option("--data/--no-data", help="Write the rows that train.py reads.", show_default="up to 64 MiB"),
    ] = None,
    model: _options.Model = None,
    data_dir: _options.DataDir = None,
    json: _options.Json = False,
) -> None:
    """Write a study's recommended network as safetensors and readable JSON, with a script that trains it again.

    The script, train.py, is plain PyTorch without dampen: same initial weights, batches and dropout masks.
    """
    from dampen.export import write
    from dampen.study import open_study

    kept = open_study(study, model=network_maker_of(study, model), data_dir=data_dir)
    found = write(kept.winner, out or study / "export", onnx=onnx, data=data)
    if found.refused is not None:
        print(f"dampen: {found.refused}", file=sys.stderr)
    if json:
        _output.print_json({"folder": str(found.folder), "files": list(found.files), **found.document})
        return
    for name in found.files:
        print(found.folder / name)
    if found.document["train"]["needs"] is not None:
        print("train.py has no data.npz beside it: --data writes it, or name a file with the same arrays")
