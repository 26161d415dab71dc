"""Checks of a network's outputs before it trains: whether they are logits, and whether one row alone is enough."""

from torch import Tensor, nn

from dampen.engine import _losses
from dampen.engine._warn_once import tell
from dampen.engine.capture import trace
from dampen.engine.execution._ordinary import tensors_of
from dampen.errors import InputError, OutputsWarning


def warn_of_probabilities(ends: str | None, loss: _losses.RowLoss) -> None:
    """Warn of probabilities where a loss wants logits."""
    if ends is not None and _losses.wants_logits(loss):
        tell(outputs_line(ends), OutputsWarning, stacklevel=4)


def one_row(network: nn.Module, row: Tensor) -> None:
    """Run a network in training mode on a batch of a single row.

    Raises:
        InputError: it can't, as batch normalisation can't.
    """
    trace(network.train(), tensors_of(network), [row])


def outputs_notes(network: nn.Module, rows: Tensor) -> tuple[str, ...]:
    """Return the notes on a classifier's outputs for some rows: they may be probabilities."""
    state = tensors_of(network)
    try:
        ends = trace(network.train(), state, [rows]).ends
    except InputError:  # whoever trains it says more
        return ()
    return () if ends is None else (outputs_line(ends),)


def outputs_line(ends: str) -> str:
    """Return the note on a network whose outputs are probabilities."""
    return (
        f"the network ends in a {ends}: its outputs are taken for logits, of which the loss takes a softmax, so that "
        f"it would be a softmax of the {ends}'s probabilities: leave the network's last {ends} out (a log-softmax may "
        "stay)"
    )
