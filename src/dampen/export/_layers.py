"""A network as a list of torch's own layers: as plain data, and as the Python that makes it."""

import inspect
from collections import OrderedDict
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dampen.engine import forked
from dampen.errors import InputError
from dampen.export._literal import literal
from dampen.models import Periodic, Scaling

# Layers that draw no random numbers of their own, and dropout as `train.py` writes it: their arguments define them
# that they are. Others (alpha dropout, RReLU, recurrent layers, attention) would need more than that.
PLAIN = (
    *(nn.Flatten, nn.Unflatten, nn.Identity, nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.BatchNorm1d),
    *(nn.BatchNorm2d, nn.BatchNorm3d, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d),
    *(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus),
    *(nn.Tanh, nn.Sigmoid, nn.Hardswish, nn.Hardtanh, nn.Softsign),
)
DROPOUT = (nn.Dropout, nn.Dropout2d)
OWN = {  # layers of dampen's that the script defines, and their formula
    Scaling: f"x * (1 + {Scaling.FACTOR:g} * weight)",
    Periodic: "cat(x, cos(2 pi x[columns] frequencies + phases) @ weight + bias), column by column",
}


def describe_layers(network: nn.Module, name: str = "") -> dict[str, Any]:
    """Return a module as JSON can hold it: its name, its class, its arguments, the layers within it.

    Of a class that is neither torch's nor dampen's only the name and the layers are known.
    """
    kind = type(network)
    layer: dict[str, Any] = {"name": name, "type": kind.__name__}
    if kind in OWN:
        layer["computes"] = OWN[kind]
    elif not kind.__module__.startswith("torch."):
        layer["module"] = kind.__module__
    children = list(network.named_children())
    if children:
        return layer | {"layers": [describe_layers(child, path) for path, child in children]}
    return layer | {"arguments": _plain(_arguments(network)) if "module" not in layer else {}}


def code(network: nn.Module, indent: str = "    ") -> str:
    """Return the Python expression that makes a network of torch's layers.

    `Dropout`, `Scaling` and `Periodic` are the script's.
    """
    if isinstance(network, nn.Sequential):
        children, inner = list(network.named_children()), indent + "    "
        if [name for name, _ in children] == [str(i) for i in range(len(children))]:
            lines = [f"{inner}{code(child, inner)},\n" for _, child in children]
            return f"nn.Sequential(\n{''.join(lines)}{indent})"
        lines = [f"{inner}    ({literal(name, str)}, {code(child, inner + '    ')}),\n" for name, child in children]
        return f"nn.Sequential(\n{inner}OrderedDict([\n{''.join(lines)}{inner}])\n{indent})"
    if isinstance(network, DROPOUT):
        whole = ", whole_channels=True" if isinstance(network, nn.Dropout2d) else ""
        return f"Dropout({literal(network.p, int, float)}{whole})"
    if isinstance(network, Scaling):
        return f"Scaling({literal(network.inputs, int)})"
    if isinstance(network, Periodic):
        columns = "" if network.columns is None else f", columns={literal(network.columns, tuple)}"
        return f"Periodic({literal(network.inputs, int)}{columns})"
    defaults = inspect.signature(type(network)).parameters
    given = {name: value for name, value in _arguments(network).items() if value != defaults[name].default}
    kinds = (bool, int, float, str, tuple, type(None))
    arguments = ", ".join(f"{name}={literal(value, *kinds)}" for name, value in given.items())
    return f"nn.{type(network).__name__}({arguments})"


def remade(network: nn.Module) -> nn.Module:
    """Return the network that `code` makes, with initial weights from torch's global generator.

    Raises:
        InputError: it is not made of torch's own layers in sequence.
    """
    kind = type(network)
    if kind is nn.Sequential:
        return nn.Sequential(OrderedDict((name, remade(child)) for name, child in network.named_children()))
    if kind in (*PLAIN, *DROPOUT, *OWN):
        return kind(**_arguments(network))
    raise InputError(f"the script can write nn.Sequential of torch's plain layers, and the network has {kind.__name__}")


def check_plain(network: nn.Module, rows: Float[Tensor, "N ..."]) -> None:
    """Make sure that the code of a network makes this very network.

    Args:
        network: in evaluation mode.
        rows: some inputs.

    Raises:
        InputError: it does not, and why.
    """
    twice = [name for name, _ in network.named_modules(remove_duplicate=False)]
    if len(twice) > len(list(network.named_modules())):
        raise InputError("the network runs one of its layers twice, and the script would write two")
    frozen = next((name for name, p in network.named_parameters() if not p.requires_grad), None)
    if frozen is not None:
        raise InputError(f"the network's parameter {frozen} is not trained, and the script trains all of them")
    with forked(), torch.no_grad():
        other = remade(network).eval()
        dtype = next(network.parameters()).dtype
        try:
            other.to(dtype).load_state_dict(network.state_dict())
            same = torch.equal(other(rows.to(dtype)), network(rows.to(dtype)))
        except RuntimeError:
            same = False
    if not same:
        raise InputError("the network computes something that its layers' arguments do not describe")


def _arguments(layer: nn.Module) -> dict[str, Any]:
    """Return what a layer was made with, as far as it has kept it."""
    arguments: dict[str, Any] = {}
    for name in inspect.signature(type(layer)).parameters:
        if name in ("device", "dtype") or not hasattr(layer, name):
            continue
        value = getattr(layer, name)
        # where a parameter is kept under its argument's name, the argument was whether to have it
        arguments[name] = value is not None if name == "bias" else value
    return arguments


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
