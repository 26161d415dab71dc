"""Run a network under a function mode: nothing is compiled meanwhile, and a failure names its module."""

import contextlib
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from dampen.engine.capture._module_path import ModulePath
from dampen.errors import InputError


def forward(call: Callable[[], Any], where: ModulePath, mode: TorchFunctionMode, what: str) -> Any:
    """Return what a call of a network returns while a function mode sees its operations.

    Args:
        call: of the network that `where` follows.
        where: which module it is in.
        mode: sees each torch function.
        what: fails, for the message: `the network fails on a batch of shape [2, 3]`.

    Raises:
        InputError: the call fails.
    """
    with quiet(), where, mode:
        try:
            return call()
        except InputError:
            raise
        except Exception as e:
            raise InputError(f"{what}{f' in {where.current}' if where.current else ''}: {first_line(e)}") from e


_entered = threading.local()
_EXPECTED = (
    "None of the inputs have requires_grad=True",  # checkpoints in passes without gradients
    "There is a performance drop",  # an operation without a batching rule, which `explain` tells of
    "RNN module weights are not part of single contiguous chunk",  # cuDNN: a member's are slices of all members'
)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """While entered, nothing is compiled, and torch does not warn of what is so by intention."""
    if getattr(_entered, "quiet", False):  # once for a batch, not once for each of its members
        yield
        return
    with warnings.catch_warnings(), eager():
        for message in _EXPECTED:
            warnings.filterwarnings("ignore", message, UserWarning)
        _entered.quiet = True
        try:
            yield
        finally:
            _entered.quiet = False


def eager() -> contextlib.AbstractContextManager[object]:
    """While entered, functions under torch.compile run as they are written."""
    compiler = sys.modules.get("torch._dynamo")  # importing it takes seconds, and who compiles has done so
    return contextlib.nullcontext() if compiler is None else torch.compiler.set_stance("force_eager")


def first_line(e: BaseException) -> str:
    """Return the first line of an exception's message without its full stop, or its type where there is none.

    What torch says of tensors on two devices gets the usual cause and its remedy.
    """
    line = (str(e).strip() or type(e).__name__).splitlines()[0].rstrip(".")
    if "to be on the same device" in line:
        line += "; a tensor that is neither parameter nor buffer stays where it was made: use self.register_buffer"
    return line
