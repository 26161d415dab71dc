"""Weight decay: the penalty `weight_decay / 2 * ||w||^2`, or the shrinking of weights that stands for it.

Krogh and Hertz (1992), "A simple weight decay can improve generalization", equations 1 and 2; Loshchilov and
Hutter (2019), "Decoupled weight decay regularization", propositions 1 and 2: under SGD the penalty and the
shrinking `w <- (1 - lr * weight_decay) w` are the same thing, under Adam they are not.
"""

import re
from collections.abc import Callable

from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from dampen._checks import finite
from dampen.engine.knobs._base import Knob
from dampen.errors import InputError

_NORMALISATION = (
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
)

_LAYERS = (
    *(nn.Linear, nn.Bilinear, nn.modules.conv._ConvNd, nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention),
    *(nn.Embedding, nn.EmbeddingBag),
)
# Names that timm's and Hugging Face's lists of what does not decay have in common.
_TOKEN = re.compile(r"(.*_)?(tokens?|pos(ition|itional)?_?(emb\w*|enc\w*|bias\w*)|(cls|class)_emb\w*)")

DecayFilter = str | Callable[[str, Tensor], bool]
"""What decays: `weights` (no biases, normalisation, scales, tokens), `all`, or a function of name and value."""


def l2_penalty(weight: Tensor, weight_decay: float | Tensor) -> Tensor:
    """Return `weight_decay / 2 * ||weight||^2`, a scalar to add to the loss.

    Its gradient is `weight_decay * weight`: what `torch.optim.SGD` and `Adam` add for their `weight_decay`.
    """
    return weight_decay * weight.square().sum() / 2


def decay(weight: Tensor, lr: float | Tensor, weight_decay: float | Tensor) -> Tensor:
    """Return `(1 - lr * weight_decay) * weight`: decoupled decay, as `torch.optim.AdamW` applies it."""
    return (1 - lr * weight_decay) * weight


def decayed(network: nn.Module, decay_filter: DecayFilter = "weights") -> dict[str, bool]:
    """Return for every trained parameter whether it decays.

    By default matrices, kernels and embeddings do; biases, normalisation parameters, scales and tokens do not: those
    set where units work, not how strongly they react to the input, and shrinking them does not make the network
    simpler. Scales are known by their shape, too, such as `[1, C, 1, 1]`; see `is_scale`.

    Args:
        network: its parameters that require no gradient are left out.
        decay_filter: `weights`, `all`, or a function of a parameter's name and value.

    Raises:
        InputError: another filter.

    Example:
        >>> decayed(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)))
        {'0.weight': True, '0.bias': False, '1.weight': False, '1.bias': False}
    """
    check_filter(decay_filter)
    trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
    if callable(decay_filter):
        return {name: bool(decay_filter(name, p)) for name, p in trained.items()}
    if decay_filter == "all":
        return dict.fromkeys(trained, True)
    own = [(m, name, p) for m in network.modules() for name, p in m.named_parameters(recurse=False)]
    weights = {id(p) for m, name, p in own if not is_scale(m, name, p)}  # of shared ones what any holder has them for
    spared = {id(p) for m, _, p in own if is_normalisation(m) or id(p) not in weights}
    return {
        name: p.ndim >= 2 and id(p) not in spared and not name.rpartition(".")[2].startswith("bias")
        for name, p in trained.items()
    }


def check_filter(decay_filter: object) -> None:
    """Refuse what is no decay filter.

    Raises:
        InputError: it is none.
    """
    if not callable(decay_filter) and decay_filter not in ("weights", "all"):
        raise InputError(
            f"decay_filter must be 'weights', 'all' or a function of a parameter's name and value, got {decay_filter!r}"
        )


def is_normalisation(module: nn.Module) -> bool:
    """Whether a module is one of torch's normalisation layers, whose parameters do not decay by default."""
    return isinstance(module, _NORMALISATION)


def is_scale(module: nn.Module, name: str, p: Tensor) -> bool:
    """Whether a parameter with two dimensions or more is none the less a scale, a shift or a token.

    So are the gains of weight norm, and in modules that are no layers of torch's: what has one dimension larger than 1
    at most (`[1, C]`, `[1, C, 1, 1]`), what is broadcast over the batch (`[1, T, C]`), and class and position tokens
    by their names.

    Args:
        module: that holds it.
        name: of it there.
        p: the parameter.

    Example:
        >>> gain = nn.utils.parametrizations.weight_norm(nn.Linear(3, 8)).parametrizations.weight
        >>> is_scale(gain, "original0", gain.original0), is_scale(gain, "original1", gain.original1)
        (True, False)
    """
    if p.ndim < 2:
        return False
    if isinstance(module, ParametrizationList):
        return name == "original0" and type(module[0]).__name__ == "_WeightNorm"
    if name.endswith("_g") and hasattr(module, f"{name[:-2]}_v"):  # weight norm as torch had it before
        return True
    if isinstance(module, _LAYERS) or is_normalisation(module):
        return False
    broadcast = p.ndim > 2 and p.shape[0] == 1 and not name.endswith("weight")
    return sum(n > 1 for n in p.shape) <= 1 or broadcast or _TOKEN.fullmatch(name) is not None


def strength(value: object) -> float:
    """Read the knob: a finite number, 0 (no decay) or larger."""
    return finite("weight_decay", value, zero=True)


KNOB = Knob(
    "weight_decay",
    "parameter",
    strength,
    "Decay as the optimizer does it: coupled, `weight_decay * w` in the gradient, under SGD and Adam; decoupled, "
    "`w *= 1 - lr * weight_decay`, under AdamW.",
    "0 or larger",
    "Krogh and Hertz 1992, eq. 2; Loshchilov and Hutter 2019, prop. 1 and 2",
    neutral=0.0,
    log=True,
)
