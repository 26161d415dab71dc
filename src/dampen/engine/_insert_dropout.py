"""Dropout for a network that has none: `nn.Dropout` after each hidden activation, where Srivastava et al. put it."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dampen.engine._model import Builder, Model
from dampen.engine._rng import forked
from dampen.engine.capture import ModulePath, RecordDropout
from dampen.errors import InputError

_ACTIVATIONS = (
    *(nn.CELU, nn.ELU, nn.GELU, nn.GLU, nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh, nn.LeakyReLU, nn.LogSigmoid),
    *(nn.Mish, nn.PReLU, nn.ReLU, nn.ReLU6, nn.RReLU, nn.SELU, nn.SiLU, nn.Sigmoid, nn.Softplus, nn.Softsign, nn.Tanh),
)
_TRANSPARENT = (  # between an activation and dropout that is its own all the same
    *(nn.Identity, nn.Flatten, nn.Unflatten, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d),
    *(nn.AvgPool3d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool2d),
)
_FUNCTIONS = {
    "relu", "relu_", "relu6", "leaky_relu", "leaky_relu_", "elu", "elu_", "selu", "selu_", "celu", "gelu", "silu",
    "mish", "tanh", "tanh_", "sigmoid", "sigmoid_", "softplus", "hardswish", "hardtanh", "prelu", "glu", "logsigmoid",
}  # fmt: skip

INSERTED = " with dropout inserted"
"""Ends the name of a model whose dropout was inserted."""


@dataclass(frozen=True)
class Inserted:
    """What `insert_dropout` did to a network.

    Args:
        after: path and class of each activation that dropout now follows, in the order of the forward pass.
        missed: paths of modules that call an activation as a function, after which nothing can be inserted.
    """

    after: tuple[tuple[str, str], ...]
    missed: tuple[str, ...]

    def __str__(self) -> str:
        text = "Dropout inserted after " + ", ".join(f"{path} ({kind})" for path, kind in self.after)
        if self.missed:
            text += "; not after the activations that are called as functions in " + ", ".join(
                path or "the network's own forward" for path in self.missed
            )
        return text + "."


class WithDropout:
    """Makes a network and puts dropout into it; see `insert_dropout`.

    Args:
        model: what makes the network.
        p: rate of members whose setting has none.
    """

    def __init__(self, model: Model, p: float):
        self._build, self._p = Builder(model), p
        name = getattr(model, "__qualname__", None) or (repr(model) if not isinstance(model, nn.Module) else "network")
        self.__qualname__ = f"{name}{INSERTED}"

    def __call__(self, inputs: int, outputs: int, input_shape: tuple[int, ...]) -> nn.Module:
        """Make the network for rows of a shape."""
        network = self._build.make(input_shape, outputs)
        _insert(network, input_shape, self._p)
        return network

    def inserted(self, input_shape: tuple[int, ...], outputs: int) -> Inserted:
        """Return what is done to the network for rows of a shape.

        Raises:
            InputError: there is no place for dropout.
        """
        with forked():
            return _insert(self._build.make(input_shape, outputs), input_shape, self._p)


def insert_dropout(model: Model, p: float = 0.5) -> WithDropout:
    """Return a builder of the same network with an `nn.Dropout` after each hidden activation.

    An activation whose output is the network's own, or that dropout follows already, is left as it is. The activation
    `a` becomes `nn.Sequential(a, nn.Dropout(p))` under its old name. Activations that the network calls as functions
    can't be followed by a layer: `inserted` lists these.

    Args:
        model: as for `Population`.
        p: rate of members whose setting has no dropout.

    Raises:
        InputError: a rate that is no probability; when the network is made, no place for dropout.

    Example:
        >>> from torch import nn
        >>> model = insert_dropout(lambda inputs: nn.Sequential(nn.Linear(inputs, 8), nn.ReLU(), nn.Linear(8, 1)))
        >>> print(model.inserted(input_shape=(4,), outputs=1))
        Dropout inserted after 1 (ReLU).
    """
    if isinstance(p, bool) or not 0 <= p <= 1:
        raise InputError(f"dropout must be a probability of dropping from 0 to 1, got {p!r}")
    return WithDropout(model, p)


def _insert(network: nn.Module, input_shape: tuple[int, ...], p: float) -> Inserted:
    order, functions = _watch(network, input_shape)
    hidden: dict[int, tuple[str, nn.Module]] = {}
    for i, (path, module, final) in enumerate(order):
        follower = next((later for _, later, _ in order[i + 1 :] if not isinstance(later, _TRANSPARENT)), None)
        followed = isinstance(follower, nn.modules.dropout._DropoutNd)
        if isinstance(module, _ACTIVATIONS) and not final and not followed:
            hidden.setdefault(id(module), (path, module))
    missed = tuple(
        path
        for path, called in functions.items()
        if not isinstance(network.get_submodule(path), _ACTIVATIONS)
        and any(getattr(function, "__name__", "") in _FUNCTIONS for function in called)
    )
    if not hidden:
        why = (
            "its activations are called as functions: call nn.Dropout after them in forward"
            if missed
            else "it has no hidden activation that dropout does not follow already"
        )
        raise InputError(f"no dropout can be inserted into {type(network).__name__}: {why}")
    wrapped = {key: nn.Sequential(module, nn.Dropout(p)) for key, (_, module) in hidden.items()}
    for path, module in list(network.named_modules(remove_duplicate=False)):
        if id(module) in wrapped:
            parent, _, name = path.rpartition(".")
            setattr(network.get_submodule(parent), name, wrapped[id(module)].train(module.training))
    return Inserted(tuple((path, type(module).__name__) for path, module in hidden.values()), missed)


def _watch(
    network: nn.Module, input_shape: tuple[int, ...]
) -> tuple[list[tuple[str, nn.Module, bool]], dict[str, set[object]]]:
    """Run a network on two rows of zeros; return the leaves that ran, with their path and whether they gave the output.

    Also return the functions that each module called.
    """
    ran: list[tuple[str, nn.Module, object]] = []
    hooks = []
    for path, module in network.named_modules():
        if path and next(module.children(), None) is None:

            def after(module: nn.Module, _: object, output: object, path: str = path) -> None:
                ran.append((path, module, output))

            hooks.append(module.register_forward_hook(after))
    modes = {module: module.training for module in network.modules()}
    where = ModulePath(network)
    recorded = RecordDropout(where)
    parameter = next(network.parameters(), torch.empty(0))
    rows = torch.zeros((2, *input_shape), dtype=parameter.dtype, device=parameter.device)
    try:
        with torch.no_grad(), where, recorded:
            output = network.eval()(rows)
    except InputError:
        raise
    except Exception as e:
        message = (str(e).strip() or type(e).__name__).splitlines()[0].rstrip(".")
        raise InputError(f"the network fails on a batch of shape {list(rows.shape)}: {message}") from e
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes.items():
            module.training = training
    same = isinstance(output, Tensor)
    return [(path, module, same and result is output) for path, module, result in ran], recorded.functions
