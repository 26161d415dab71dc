"""Why a network's members can't be run as one, and what would change that."""

import re

from dampen._io import shortened

_ITEM = "it reads a tensor's value (.item() or the like): compute with tensors throughout"
BRANCHES = "its control flow depends on the values of a tensor: choose by torch.where instead"
_DRAWS = (
    "it draws random numbers of its own by a function that can't be fused: torch.rand, torch.randn, bernoulli_, "
    "uniform_ and normal_ of a shape that is always the same can, as F.dropout"
)
_IN_PLACE = (
    "it changes in place a tensor that it goes on using through a view: leave in-place operations out (inplace=False; "
    "x = x + y for x += y)"
)
_REASONS = {
    "data-dependent control flow": BRANCHES,
    "value at runtime": BRANCHES,
    ".item()": _ITEM,
    "_local_scalar_dense": _ITEM,
    "called random operation": _DRAWS,
    "randomness": _DRAWS,
    "embedding_renorm_": "its embedding changes its weights in the forward pass: leave max_norm out",
    "there exists a Tensor `other` in extra_args that has more elements": _IN_PLACE,
    "custom autograd.Function": "its autograd.Function has no vmap rule: give it setup_context and "
    "generate_vmap_rule = True",
    "In order to use an autograd.Function": "its autograd.Function has no vmap rule: give it setup_context and "
    "generate_vmap_rule = True",
    "generate_vmap_rule": "its autograd.Function has no vmap rule: give it generate_vmap_rule = True",
    "modified inplace": _IN_PLACE,
    "doesn't match the broadcast shape": _IN_PLACE,
    "data pointer": "it leaves torch (numpy(), tolist() or the like): compute with tensors throughout",
    "requires_grad_()": "it calls requires_grad_() in its forward pass: torch.func.grad would not",
    "accessing `data`": "it uses .data of a tensor: use .detach(), or change parameters under torch.no_grad()",
}


class NotFusable(RuntimeError):
    """A network whose members can't be run as one.

    Args:
        module: path of the module that stands in the way, `""` for the network itself.
        reason: what it does.
    """

    def __init__(self, module: str, reason: str):
        super().__init__(reason)
        self.module, self.reason = module, reason


class Unsettled(NotFusable):
    """What a network reads of a batch to decide what to do is not the same for all of its members."""


def reason(e: Exception) -> str:
    """Return in a few words why a network could not be run for all members at once, and what would change that."""
    message = " ".join(str(e).split()).removeprefix("vmap: ")
    for sign, known in _REASONS.items():
        if sign in message:
            return known
    operator = re.search(r"(?:not implemented for|batching rule for) (aten::\w+(?:\.\w+)?)", message)
    if operator:
        return f"torch has no batching rule for one of its operations ({operator[1]})"
    return shortened(re.split(r"(?<=\w)[.:] ", message)[0]).rstrip(".") or type(e).__name__
