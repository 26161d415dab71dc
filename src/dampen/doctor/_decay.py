"""Checks of what decays: parameters that are usually spared, frozen ones, and decay that Adam weakens."""

from collections.abc import Iterator

import torch
from torch import nn

from dampen.doctor._case import Case
from dampen.doctor._report import Symptom
from dampen.knobs.weight_decay import is_normalisation

_MEANT_DECOUPLED = 0.01  # AdamW's default; a penalty of this size under Adam is hardly ever meant
_SPARE = "give these parameters a group of their own with weight_decay=0"


def biases(case: Case) -> Iterator[Symptom]:
    """Look for biases that decay."""
    names = tuple(name for name, p in case.decayed() if _role(case, p) == "bias")
    if names:
        yield Symptom(
            names,
            "warning",
            "biases decay. They set where a unit works, not how strongly it reacts to its input, so shrinking them "
            "makes no simpler function and can underfit; the evidence is mixed and the effect mostly small.",
            _SPARE,
        )


def normalisation(case: Case) -> Iterator[Symptom]:
    """Look for scales and shifts of normalisation layers that decay."""
    names = tuple(name for name, p in case.decayed() if _role(case, p) == "normalisation")
    if names:
        yield Symptom(
            names,
            "warning",
            "scales and shifts of normalisation decay. Pulling a scale towards 0 (not 1) damps the whole channel, and "
            "the next layer can undo it; the evidence is mixed: for some networks it helped.",
            _SPARE,
        )


def prelu(case: Case) -> Iterator[Symptom]:
    """Look for slopes of PReLU that decay."""
    names = tuple(name for name, p in case.decayed() if _role(case, p) == "prelu")
    if names:
        yield Symptom(
            names,
            "warning",
            "slopes of PReLU decay: that pulls them to 0 and the unit to a plain ReLU.",
            _SPARE,
        )


def embeddings(case: Case) -> Iterator[Symptom]:
    """Look for embeddings that decay and are not the output layer's weights as well."""
    names = tuple(name for name, p in case.decayed() if _role(case, p) == "embedding")
    if names:
        yield Symptom(
            names,
            "note",
            "embeddings decay, also the rows whose tokens a batch does not hold: rare ones shrink without a gradient "
            "to hold against it. The evidence is mixed, and both habits are common (dampen itself decays embeddings "
            "unless told otherwise).",
            "compare both; to spare them, " + _SPARE,
        )


def vectors(case: Case) -> Iterator[Symptom]:
    """Look for scalars and vectors that decay and are none of the above: scales of layers, temperatures."""
    names = tuple(name for name, p in case.decayed() if _role(case, p) == "weight" and p.ndim < 2)
    if names:
        yield Symptom(
            names,
            "note",
            "scalars or vectors decay that are neither biases nor normalisation: learned scales and temperatures are "
            "mostly spared, for 0 is no neutral value for them; the weights of a single unit are rightly decayed.",
            "if they are scales, " + _SPARE,
        )


def coupled(case: Case) -> Iterator[Symptom]:
    """Look for adaptive optimizers that add decay to the gradient, where it is rescaled."""
    for group in case.groups:
        if group.weight_decay > 0 and group.decoupled is False and not isinstance(group.optimizer, torch.optim.SGD):
            kind = type(group.optimizer).__name__
            yield Symptom(
                (group.name,),
                "serious" if group.weight_decay >= _MEANT_DECOUPLED else "warning",
                f"{kind}(weight_decay={group.weight_decay:g}) adds decay to the gradient and then divides both by the "
                "gradient's size: weights with large gradients hardly decay, those with small ones decay by up to lr a "
                "step, whatever the value. It is not the decoupled decay of AdamW, and values meant for that do not "
                "fit.",
                "use torch.optim.AdamW, and choose weight_decay anew"
                if isinstance(group.optimizer, torch.optim.Adam | torch.optim.Adamax)
                else f"use AdamW, or {kind}'s decoupled_weight_decay=True where it has that, and choose weight_decay "
                "anew",
            )


def frozen(case: Case) -> Iterator[Symptom]:
    """Look for parameters that require no gradient in a group that decays."""
    held = [p for group in case.groups if group.weight_decay for p in group.parameters if not p.requires_grad]
    for moving in (True, False):
        ids = {id(p) for p in held if (p.grad is not None) == moving}
        names = tuple(name for key, name in case.names.items() if key in ids)
        if not names:
            continue
        yield Symptom(
            names,
            "serious" if moving else "note",
            "frozen parameters are in a group that decays and still hold a gradient: every step shrinks them, and "
            "momentum moves them on."
            if moving
            else "frozen parameters are in a group that decays. torch skips them as long as their gradient is None; "
            "with zero_grad(set_to_none=False), or an optimizer that fills in zeros, they shrink.",
            "leave frozen parameters out of the optimizer" + (", and set their grad to None" if moving else ""),
        )


def _role(case: Case, p: torch.Tensor) -> str:
    """Say what a parameter is for; one that several modules share counts as what is usually decayed among them."""
    roles = {_role_in(module, name) for module, name in case.owners[id(p)]}
    return roles.pop() if len(roles) == 1 else "weight"


def _role_in(module: nn.Module, name: str) -> str:
    if is_normalisation(module) or (type(module).__name__.lower().endswith("norm") and not list(module.children())):
        return "normalisation"
    if isinstance(module, nn.PReLU):
        return "prelu"
    if isinstance(module, nn.Embedding | nn.EmbeddingBag):
        return "embedding"
    return "bias" if name.startswith("bias") or name.endswith("bias") else "weight"
