"""How a user's network fails on a batch: one line with the module, and an embedding's numbers checked beforehand."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from dampen.engine._copies import copied
from dampen.engine._rng import forked
from dampen.engine.capture._forward import first_line
from dampen.engine.capture._module_path import ModulePath
from dampen.errors import InputError

_ROWS = 256  # at once, of those that hold a column's least and largest numbers
_COLUMNS = 4096  # that are looked at one by one
_LOOKS_UP = (F.embedding, F.embedding_bag)


def failure(e: BaseException, inputs: Sequence[Tensor], module: str = "", remedy: str = "") -> InputError:
    """Return the message for a network's failure on a batch: the batch's shape, the module and the error's first line.

    Args:
        e: what was raised.
        inputs: the batch, `[B, ...]` for each argument.
        module: path of the module that failed.
        remedy: what to do, with the sign that it begins with.
    """
    shapes = " and ".join(str(list(t.shape)) for t in inputs)
    name = f" in {module}" if module else ""
    return InputError(f"the network fails on a batch of shape {shapes}{name}: {first_line(e)}{remedy}")


def alone(network: nn.Module, inputs: Sequence[Tensor], remedy: str = "") -> InputError | None:
    """Return the error of a network that runs on a batch once more, by itself; None where it does not fail.

    Args:
        network: the user's, in whatever mode.
        inputs: the batch, `[B, ...]` for each argument.
        remedy: as for `failure`.
    """
    where = ModulePath(network)
    try:
        with torch.no_grad(), forked(), where:
            network(*inputs)
    except Exception as e:
        return failure(e, inputs, where.current, remedy)
    return None


@contextlib.contextmanager
def in_one_line(network: nn.Module, batches: Callable[[], Sequence[Sequence[Tensor]]]) -> Iterator[None]:
    """Turn what a network raises into an `InputError` that names the batch and the module; want of memory stays itself.

    Args:
        network: the user's; after an error it runs again by itself, to find the module.
        batches: returns what it was given, one batch `[B, ...]` for each argument, or several of which one fails.
    """
    try:
        yield
    except (InputError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as e:
        given = batches()
        for inputs in given:
            error = alone(network, inputs)
            if error is not None:
                raise error from e
        raise failure(e, given[0], getattr(e, "module", "")) from e


def check_ids(network: nn.Module, inputs: Sequence[Tensor]) -> None:
    """Refuse rows with a number that one of the network's embeddings has no row for.

    Fused members lie side by side, where such a number would be another member's row. Only rows with a column's least
    or largest number are tried: what is made of a number on its way to an embedding hardly turns their order round.

    Args:
        network: in whatever mode; it leaves as it came.
        inputs: `[N, ...]` for each of its arguments.

    Raises:
        InputError: there is such a number.
    """
    if not len(inputs[0]):
        return
    tried = [t for t in inputs if t[0].numel() and _is_whole(t)]
    if not tried and any(isinstance(module, nn.Embedding | nn.EmbeddingBag) for module in network.modules()):
        tried = [t for t in inputs if t[0].numel() and t.is_floating_point() and bool((t == t.round()).all())]
    if not tried:
        return
    rows = torch.cat([_rows_of_ends(t) for t in tried]).unique()
    try:
        twin = copied(network, shared=not _renormalises(network)).eval()
    except Exception:  # the run itself reports more
        return
    for some in rows.split(_ROWS):
        batch = [t[some] for t in inputs]
        where = ModulePath(twin)
        with torch.no_grad(), forked(), where, LookUps(where, batch), contextlib.suppress(_Other):
            _run(twin, batch)


def _renormalises(network: nn.Module) -> bool:
    """Return whether an embedding changes its weights in every pass, also in one that only looks."""
    bounded = (m.max_norm for m in network.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag))
    return any(norm is not None for norm in bounded)


def _rows_of_ends(t: Tensor) -> Tensor:
    """Return the rows that hold the least or the largest number of a column, of all columns together if they are many.

    The numbers are `[N, ...]`.
    """
    columns = t.reshape(len(t), -1)
    if columns.shape[1] > _COLUMNS:
        return torch.stack([columns.amin(1).argmin(), columns.amax(1).argmax()])
    return torch.cat([columns.argmin(0), columns.argmax(0)])


class _Other(Exception):
    """A failure that is reported elsewhere."""


def _run(network: nn.Module, batch: Sequence[Tensor]) -> None:
    try:
        network(*batch)
    except InputError:
        raise
    except Exception as e:
        raise _Other from e


def _is_whole(t: Tensor) -> bool:
    return not t.is_floating_point() and not t.is_complex() and t.dtype != torch.bool


class LookUps(TorchFunctionMode):
    """Looks at the indices that embeddings get.

    Args:
        where: entered around the same forward pass.
        inputs: of the network.
    """

    def __init__(self, where: ModulePath, inputs: Sequence[Tensor]):
        super().__init__()
        self._where, self._inputs = where, inputs

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Refuse a number without a row."""
        kwargs = kwargs or {}
        if func in _LOOKS_UP:
            ids = args[0] if args else kwargs["input"]
            weight = args[1] if len(args) > 1 else kwargs["weight"]
            self._check(ids, len(weight))
        return func(*args, **kwargs)

    def _check(self, ids: Tensor, n: int) -> None:
        if not ids.numel():
            return
        low, high = (int(end) for end in ids.aminmax())
        if low >= 0 and high < n:
            return
        name = f"the network's embedding '{self._where.current}'" if self._where.current else "the network's embedding"
        self.refuse(name, high if high >= n else low, n)

    def refuse(self, name: str, wrong: int, n: int) -> None:
        """Refuse a number that an embedding of n rows lacks.

        Raises:
            InputError: always.
        """
        held = any(bool((t == wrong).any()) for t in self._inputs)
        how = f"x holds the number {wrong}" if held else f"x leads to the number {wrong}"
        raise InputError(
            f"{how}; {name} has {n} rows (0 to {n - 1}): give it more, or leave out the rows of x with such numbers"
        )
