"""Checks of what decays: parameters that are usually spared, frozen ones, and decay that Adam weakens."""

import re
from collections.abc import Iterator

import torch
from torch import nn

from dampen.doctor._evidence import Case
from dampen.doctor._report import Symptom
from dampen.engine.knobs.weights.weight_decay import is_normalisation, is_scale

_MEANT_DECOUPLED = 0.01  # AdamW's default; a penalty of this size under Adam is hardly ever meant
_SPARE = "give these parameters a group of their own with weight_decay=0"


def swapped(case: Case) -> Iterator[Symptom]:
    """Look for groups that decay what is usually spared and spare what usually decays."""
    if _swapped(case):
        decaying = tuple(dict.fromkeys(group.name for group in case.groups if group.weight_decay))
        yield Symptom(
            decaying,
            "serious",
            "biases decay and no matrix does: weight_decay sits on the wrong group. Shrinking biases makes no simpler "
            "function, while nothing holds the weights back.",
            "swap the groups' weight_decay: matrices and kernels with it, biases, normalisation and scales with 0",
        )


def nothing(case: Case) -> Iterator[Symptom]:
    """Look for optimizers of which no group decays."""
    known = all(group.of_torch or "weight_decay" in group.settings for group in case.groups)
    held = {id(p) for group in case.groups for p in group.parameters if p.requires_grad and p.ndim > 1}
    if known and held & case.names.keys() and not any(group.weight_decay for group in case.groups):
        yield Symptom(
            tuple(dict.fromkeys(group.name for group in case.groups)),
            "note",
            "nothing decays: no group has a weight_decay above 0. That may be meant, where dropout, early stopping or "
            "a penalty in the loss, which is not seen here, regularises.",
            "give matrices a weight_decay if nothing else regularises; dampen tune finds how much",
        )


def biases(case: Case) -> Iterator[Symptom]:
    """Look for biases that decay."""
    names = _of_role(case, "bias")
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
    names = _of_role(case, "normalisation")
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
    names = _of_role(case, "prelu")
    if names:
        yield Symptom(
            names,
            "warning",
            "slopes of PReLU decay: that pulls them to 0 and the unit to a plain ReLU.",
            _SPARE,
        )


def embeddings(case: Case) -> Iterator[Symptom]:
    """Look for embeddings that decay and are not the output layer's weights as well."""
    names = _of_role(case, "embedding")
    if names:
        yield Symptom(
            names,
            "note",
            "embeddings decay, also the rows whose tokens a batch does not hold: rare ones shrink without a gradient "
            "to hold against it. The evidence is mixed, and both habits are common (dampen itself decays embeddings "
            "by default).",
            "compare both; to spare them, " + _SPARE,
        )


def vectors(case: Case) -> Iterator[Symptom]:
    """Look for scalars, vectors and tokens that decay and are none of the above: scales of layers, temperatures."""
    names = _of_role(case, "scale")
    if names:
        yield Symptom(
            names,
            "note",
            "scalars, vectors or tokens decay that are neither biases nor normalisation: learned scales, gains, "
            "temperatures, class and position tokens are mostly spared, for 0 is no neutral value for them; the "
            "weights of a single unit are rightly decayed.",
            "if they are scales or tokens, " + _SPARE,
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
    held = {
        (id(p), p.grad is not None, group.of_torch)
        for group in case.groups
        if group.weight_decay
        for p in group.parameters
        if not p.requires_grad
    }
    for moving, of_torch in ((True, True), (True, False), (False, True), (False, False)):
        ids = {key for key, *kind in held if kind == [moving, of_torch]}
        names = tuple(name for key, name in case.names.items() if key in ids)
        if not names:
            continue
        yield Symptom(
            names,
            "serious" if moving else "note",
            "frozen parameters are in a group that decays and still hold a gradient: every step shrinks them, and "
            "momentum moves them on."
            if moving and of_torch
            else "frozen parameters are in a group that decays. torch skips them as long as their gradient is None; "
            "with zero_grad(set_to_none=False), or an optimizer that fills in zeros, they shrink."
            if of_torch
            else "frozen parameters are in a group that decays, of an optimizer that is not torch's: whether it "
            "shrinks them depends on its own code.",
            "leave frozen parameters out of the optimizer" + (", and set their grad to None" if moving else ""),
        )


def _of_role(case: Case, role: str) -> tuple[str, ...]:
    """Return the names of what decays and has a role; none where groups are swapped, which is one finding."""
    if _swapped(case):
        return ()
    return tuple(name for name, p in case.decayed() if _role(case, p) == role)


def _swapped(case: Case) -> bool:
    """Whether every bias (or, without any, every normalisation) decays, and no matrix."""
    decaying = {id(p) for group in case.groups if group.weight_decay for p in group.parameters}
    roles: dict[str, list[bool]] = {}
    for p in {id(p): p for group in case.groups for p in group.parameters if p.requires_grad}.values():
        if id(p) in case.names:
            roles.setdefault(_role(case, p), []).append(id(p) in decaying)
    spared = roles.get("bias") or roles.get("normalisation") or [False]
    weights = [*roles.get("weight", []), *roles.get("embedding", [])]
    return all(spared) and bool(roles.get("weight")) and not any(weights)


def _role(case: Case, p: torch.Tensor) -> str:
    """Return what a parameter is for; one that several modules share counts as what is usually decayed among them."""
    roles = {_role_in(module, name, p) for module, name in case.owners[id(p)]}
    return roles.pop() if len(roles) == 1 else "weight"


def _role_in(module: nn.Module, name: str, p: torch.Tensor) -> str:
    named_so = re.search(r"norm(\dd)?$", type(module).__name__.lower()) is not None
    if is_normalisation(module) or (named_so and not list(module.children())):
        return "normalisation"
    if isinstance(module, nn.PReLU):
        return "prelu"
    if isinstance(module, nn.Embedding | nn.EmbeddingBag):
        return "embedding"
    if name.startswith("bias") or name.endswith("bias"):
        return "bias"
    return "scale" if p.ndim < 2 or is_scale(module, name, p) else "weight"
