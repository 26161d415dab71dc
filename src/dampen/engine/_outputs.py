"""Checks of a network's outputs before it trains: whether they are logits, and whether one row alone is enough."""

from torch import Tensor, nn

from dampen.engine import _losses
from dampen.engine._warn_once import warn
from dampen.engine.capture import trace
from dampen.engine.execution._ordinary import tensors_of
from dampen.errors import InputError, OutputsWarning


def warn_of_probabilities(ends: str | None, loss: _losses.RowLoss) -> None:
    """Warn of probabilities where a loss takes logits."""
    if ends is not None and _losses.wants_logits(loss):
        warn(outputs_line(ends), OutputsWarning, stacklevel=4)


def one_row(network: nn.Module, row: Tensor) -> None:
    """Run a network in training mode on a batch of a single row.

    Raises:
        InputError: it can't, as batch normalisation can't.
    """
    trace(network.train(), tensors_of(network), [row])


def outputs_notes(network: nn.Module, rows: Tensor, task: str = "classification") -> tuple[str, ...]:
    """Return the notes on outputs for some rows: probabilities of a classifier, or bounded ones of a regression."""
    state = tensors_of(network)
    try:
        traced = trace(network.train(), state, [rows])
    except InputError:  # the error of the training has more
        return ()
    if task == "regression":
        last = traced.last.rstrip("_")
        return (_reach_line(last),) if last in _REACH else ()
    return () if traced.ends is None else (outputs_line(traced.ends),)


_REACH = {
    **dict.fromkeys(("relu", "softplus", "exp", "abs", "square", "threshold"), "never below 0"),
    **dict.fromkeys(("gelu", "silu", "mish", "hardswish"), "hardly below 0"),
    **dict.fromkeys(("elu", "celu"), "never below -1"),
    **dict.fromkeys(("sigmoid", "softmax", "hardsigmoid"), "from 0 to 1"),
    **dict.fromkeys(("tanh", "softsign", "hardtanh"), "from -1 to 1"),
    **dict.fromkeys(("logsigmoid", "log_softmax"), "never above 0"),
    "relu6": "from 0 to 6",
}


def _reach_line(last: str) -> str:
    """Return the note on a regression's network whose last function has a bounded range."""
    return (
        f"the network ends in a {last}, whose values are {_REACH[last]}, and a regression's targets are standardised "
        f"(mean 0, deviation 1) before it trains: many lie outside this range; remove the network's last {last}"
    )


def outputs_line(ends: str) -> str:
    """Return the note on a network whose outputs are probabilities."""
    return (
        f"the network ends in a {ends}: its outputs are used as logits, of which the loss takes a softmax, so that it "
        f"would be a softmax of the {ends}'s probabilities: remove the network's last {ends} (a log-softmax may stay)"
    )
