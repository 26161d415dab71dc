"""`dampen doctor`: what is wrong with how a model is regularised."""

import inspect
import math
import re
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dampen.cli import _options, _output, _startup
from dampen.cli._import_string import error_text, from_here, named
from dampen.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

_ROWS = 4  # of the batch that is made up
_FOUND_SERIOUS = 1  # exit code
_MOST = 2**31 - 1  # numbers a row: what torch can count, whatever the memory
_SHAPE = re.compile(r"(\d+(?:x\d+)*)(?::(\d+))?")


def command(
    target: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:FUNCTION",
            help="A function that returns a model, or a model and an optimizer (and a batch), such as train:build or "
            "train.py:build.",
        ),
    ],
    input: Annotated[
        str | None,
        _options.in_data(
            "Shape of one row of the input: 3x32x32, or 64:1000 for 64 whole numbers below 1000; commas between "
            "several inputs. With it the forward pass is checked, too.",
            metavar="SHAPE",
        ),
    ] = None,
    steps: Annotated[
        int | None, _options.in_training("Length of the training in steps, to check whether decay can act.", min=1)
    ] = None,
    ignore: Annotated[str, _options.in_output("Checks to leave out, separated by commas.", metavar="CHECK,CHECK")] = "",
    json: _options.Json = False,
) -> None:
    """Find mistakes in the weight decay and dropout of a model and its optimizer.

    Exits with 1 if something serious is found, otherwise with 0.
    """
    shapes = [row_shape(text) for text in input.split(",")] if input is not None else None
    names = [name.strip() for name in ignore.split(",") if name.strip()]
    with from_here():  # what the user's code prints is no report
        with _startup.importing():
            from dampen.doctor import diagnose
        _leave_compiler_out()
        model, optimizer, batch = _made(target)

        if shapes is not None:
            batch = tuple(_batch(shape, below, model) for shape, below in shapes)
        report = diagnose(model, optimizer, batch, steps=steps, ignore=names)
    if json:
        _output.print_json(report.document())
    else:
        print(report)
    if report.serious:
        raise typer.Exit(_FOUND_SERIOUS)


def _leave_compiler_out() -> None:
    """Keep an optimizer's first parameter group from importing torch's compiler, which takes a second and more.

    torch marks the function as one that the compiler leaves alone, and imports the compiler to do so. The mark below is
    torch's own (`torch/_compile.py`); a torch without it imports the compiler as ever.
    """
    from torch.optim import Optimizer

    add = getattr(Optimizer.add_param_group, "__wrapped__", None)
    if add is not None and "torch._dynamo" not in sys.modules:
        vars(add).setdefault("__dynamo_disable", add)


def row_shape(text: str) -> tuple[tuple[int, ...], int | None]:
    """Read `3x32x32` or `64:1000`: the shape of a row, and what its whole numbers are below."""
    match = _SHAPE.fullmatch(text.strip())
    shape = tuple(int(n) for n in match[1].split("x")) if match else ()
    below = int(match[2]) if match and match[2] else None
    if match is None or 0 in shape or below == 0:
        raise InputError(
            f"--input takes the shape of one row, such as 3x32x32, or 64:1000 for 64 whole numbers below 1000; "
            f"got {text!r}"
        )
    if max(math.prod(shape), below or 0) > _MOST:
        raise InputError(f"--input {text!r} is beyond {_MOST} numbers a row, or whole numbers of that size")
    return shape, below


def _batch(shape: tuple[int, ...], below: int | None, model: "nn.Module") -> "Tensor":
    """Make up a batch for a model, the same for every call."""
    import torch

    generator = torch.Generator().manual_seed(0)
    parameter = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    if below is not None:
        return torch.randint(below, (_ROWS, *shape), generator=generator).to(parameter.device)
    return torch.randn(_ROWS, *shape, generator=generator).to(parameter.device, parameter.dtype)


def _made(target: str) -> tuple["nn.Module", Any, Any]:
    """Return the model, the optimizer and the batch that a function returns; None for what it does not return."""
    from torch import nn

    function = named(target, "returns a model")
    made = function if isinstance(function, nn.Module) else _call(target, function)
    parts: tuple[Any, ...] = tuple(made) if isinstance(made, list | tuple) else (made,)
    if not 1 <= len(parts) <= 3 or not isinstance(parts[0], nn.Module):
        kinds = ", ".join(type(part).__name__ for part in parts)
        returned = f"a {type(made).__name__} of ({kinds})" if isinstance(made, list | tuple) else kinds
        raise InputError(
            f"{target} must return a model, or a model and an optimizer (and a batch); it returns {returned}"
        )
    return parts[0], parts[1] if len(parts) > 1 else None, parts[2] if len(parts) > 2 else None


def _call(target: str, function: Any) -> Any:
    if not callable(function):
        raise InputError(f"{target} is not a function but {type(function).__name__}: name one that returns a model")
    try:
        inspect.signature(function).bind()
    except TypeError as e:
        raise InputError(f"{target} must be a function that needs no arguments: {e}") from None
    except ValueError:  # a builtin may have no signature
        pass
    try:
        return function()
    except (Exception, SystemExit) as e:
        raise InputError(f"{target} raises {error_text(e)}") from e
