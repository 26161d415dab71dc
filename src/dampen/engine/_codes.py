"""Codes of categories among the inputs: a network looks them up, and nothing else may be done with them.

Data that has codes names them in `codes`: columns with a `name`, a `place` among the inputs and `num_embeddings`, how
many codes there are, 0 among them.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.func import functional_call

from dampen.engine._copies import copied
from dampen.engine._rng import global_generators
from dampen.engine.capture import LookUps, ModulePath, first_line
from dampen.errors import InputError

CHANGES_INPUTS = ("mixup", "cutmix", "input_noise", "input_dropout")
"""Knobs that mix, blur or drop a row's numbers, and so would make other codes of codes."""
_ROWS = 64  # that show what a network does with codes
_SMALL = 64  # codes below which are tried as numbers: beside larger ones float32 would lose the shifts
_SHIFTS = 2**-14, 2**-13  # neither of which makes another code, also where one is multiplied to number pairs of codes
_SPREAD = 0.1  # of what takes the place of parameters of a single value, which may hide what follows from inputs


@runtime_checkable
class Code(Protocol):
    """A column of codes among the inputs."""

    @property
    def name(self) -> str:
        """The column's name."""
        ...

    @property
    def place(self) -> int:
        """Which of a row's inputs it is."""
        ...

    @property
    def num_embeddings(self) -> int:
        """How many codes there are, from 0 on."""
        ...


def refuse_changed_codes(codes: Sequence[Code], knobs: Iterable[str]) -> None:
    """Refuse knobs that change inputs where some of these are codes.

    Args:
        codes: of the data; there may be none.
        knobs: that are turned.

    Raises:
        InputError: one of them mixes, drops or blurs codes.
    """
    wrong = [name for name in knobs if name in CHANGES_INPUTS]
    if codes and wrong:
        raise InputError(f"{wrong[0]} changes the codes of column '{codes[0].name}': leave it out")


def check_codes(network: nn.Module, rows: Tensor, codes: Sequence[Code]) -> None:
    """Refuse a network that reads codes as numbers, or has no room for all of them.

    A network that looks codes up makes whole numbers of them, and gives the same outputs for 3.001 as for 3.002; to
    one that reads them as numbers these are two.

    Args:
        network: in whatever mode; it leaves as it came.
        rows: inputs `[N, D]`.
        codes: of these; there may be none.

    Raises:
        InputError: it is such a network.
    """
    if not codes or not len(rows):
        return
    try:
        twin, parameter = _fixed(network), next(network.parameters())
        some = rows[:_ROWS].to(parameter.device, parameter.dtype)
        unknown = some.clone()
        unknown[..., [code.place for code in codes]] = 0.0
    except Exception:  # the run itself reports more
        return
    taken = next((inputs for inputs in (unknown, some) if _runs(twin, inputs)), None)
    if taken is None:
        return
    for code in codes:
        for value in (0, code.num_embeddings - 1):
            _check_code(twin, taken, code, value)
    for code in codes:
        several = unknown.clone()
        several[..., code.place] = (torch.arange(len(some)) % min(code.num_embeddings, _SMALL)).to(some)
        if _reads_as_number(twin, several, code.place):
            look_up = f"nn.Embedding({code.num_embeddings}, ...)(x[..., {code.place}].long())"
            raise InputError(
                f"the network reads the codes of column '{code.name}', input {code.place}, as numbers: give a network "
                f"of your own that embeds them, {look_up}, or leave codes out"
            )


def _fixed(network: nn.Module) -> nn.Module:
    """Return a copy in evaluation mode whose embeddings do not shrink their rows in a pass."""
    twin = copied(network).eval()
    for module in twin.modules():
        if isinstance(module, nn.Embedding | nn.EmbeddingBag):
            module.max_norm = None
    return twin


def _runs(network: nn.Module, rows: Tensor) -> bool:
    try:
        _outputs(network, rows)
    except Exception:
        return False
    return True


def _check_code(network: nn.Module, rows: Tensor, code: Code, value: int) -> None:
    """Refuse a network that fails where a column has a code."""
    with_code, where = rows.clone(), ModulePath(network)
    with_code[..., code.place] = value
    try:
        with where, _Codes(where, with_code, code):
            _outputs(network, with_code)
    except InputError:
        raise
    except Exception as e:
        raise InputError(
            f"the network fails on code {value} of column '{code.name}', which has the codes 0 to "
            f"{code.num_embeddings - 1}: {first_line(e)}"
        ) from e


def _reads_as_number(network: nn.Module, rows: Tensor, place: int) -> bool:
    """Return whether outputs differ between numbers that are the same code."""
    found = []
    for shift in _SHIFTS:
        shifted = rows.clone()
        shifted[..., place] += shift
        try:
            found.append(_outputs(network, shifted))
        except Exception:  # it takes whole numbers alone
            return False
    one, other = found
    return not torch.equal(one.nan_to_num(), other.nan_to_num())


def _outputs(network: nn.Module, rows: Tensor) -> Tensor:
    """Return a network's outputs, none of its parameters the same number throughout: a last layer may begin with 0."""
    with torch.no_grad(), global_generators(0, 0):  # alike for a network that draws in evaluation mode, too
        varied = {
            name: p + _SPREAD * torch.randn(p.shape).to(p)
            for name, p in network.named_parameters()
            if p.numel() and bool((p == p.flatten()[0]).all())
        }
        outputs = functional_call(network, varied, (rows,))
    return outputs if isinstance(outputs, Tensor) else torch.zeros(())


class _Codes(LookUps):
    """Refuses an embedding that has no row for a column's last code."""

    def __init__(self, where: ModulePath, rows: Tensor, code: Code):
        super().__init__(where, [rows])
        self._code = code

    def refuse(self, name: str, wrong: int, n: int) -> None:
        """Refuse a number that an embedding of n rows lacks."""
        of_column = self._code.num_embeddings
        if wrong == of_column - 1:
            raise InputError(
                f"column '{self._code.name}' has the codes 0 to {of_column - 1}; {name} has {n} rows (0 to {n - 1}): "
                f"make it nn.Embedding({of_column}, ...)"
            )
        super().refuse(name, wrong, n)
