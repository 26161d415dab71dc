"""Whether a network's members can run as one: tried on the first batch, and compared with a member that runs alone."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dampen.population._chunk import Chunk
from dampen.population._fused import Fused, NotFusable
from dampen.population._one_by_one import OneByOne
from dampen.population._probe import Probe
from dampen.population._program import Names, Program, noise_at, rates_of
from dampen.population._recipe import Recipe

# How far a fused gradient may be from the member's own, relative to its norm: rounding and no more.
_TOLERANCE = {"float64": 1e-8, "float32": 1e-3, "bfloat16": 5e-2}


def choose(
    network: nn.Module,
    names: Names,
    recipe: Recipe,
    device: torch.device,
    chunks: Sequence[Chunk],
    found: Probe,
    inputs: Sequence[Tensor],
    targets: Tensor,
) -> tuple[Program, tuple[str, str] | None]:
    """Return the program that trains a network's members; and where and why it is not the fused one, if it is not.

    Args:
        network: any member's.
        names: of the state's tensors.
        recipe: how members train.
        device: where.
        chunks: members to try: some of each kind, by the knobs that act inside the recorded step.
        found: what the network does.
        inputs: a batch `[1, B, ...]` for each of the network's arguments.
        targets: `[1, B, ...]`.
    """
    alone = OneByOne(network, names, recipe, device)
    if found.stateful is not None:
        return alone, found.stateful
    fused = Fused(network, names, recipe, device)
    for chunk in {chunk.turned.key: chunk for chunk in reversed(chunks)}.values():
        why = _differs(fused, alone, chunk, found, inputs, targets)
        if why is not None:
            return alone, why
    return fused, None


def _differs(
    fused: Fused, alone: OneByOne, chunk: Chunk, found: Probe, inputs: Sequence[Tensor], targets: Tensor
) -> tuple[str, str] | None:
    """Say where and why a chunk's members can't be run as one, if they can't."""
    S, names = len(chunk.seeds), fused.names
    inputs = [t.expand(S, *t.shape[1:]).contiguous() for t in inputs]
    targets = targets.expand(S, *targets.shape[1:]).contiguous()
    rates = rates_of(chunk.settings, found.places, chunk.state[0])
    extra = chunk.turned.at(chunk.seeds, 0, found.sites, inputs, targets)
    noise = noise_at(chunk.seeds, 0, rates, found.places, targets.device, extra)
    state = [t.clone() for t in chunk.state]
    try:
        gradients, sums = fused.gradients(state, noise, inputs, targets)
        fused.losses(state, [t[:1] for t in inputs], targets[:1])
    except NotFusable as e:
        return e.module, e.reason
    m = chunk.turned.busiest  # its own gradients show what the knobs do
    one = noise.only(0, m)
    own = [t[:1, m : m + 1].clone() for t in chunk.state]
    own_gradients, own_sums = alone.gradients(own, one, [t[:1] for t in inputs], targets[:1])
    pairs = [*zip(gradients, own_gradients, strict=True), (sums[0], own_sums[0])]
    pairs += [(a, b) for a, b in zip(state, own, strict=True) if a.is_floating_point()]
    total = sum(g.double().square().sum() for g in own_gradients) ** 0.5
    for (mine, theirs), name in zip(pairs, (*names.trained, "", *names.trained, *names.rest), strict=False):
        distance = (mine[:1, m : m + 1].double() - theirs.double()).norm()
        scale = torch.maximum(theirs.double().norm(), torch.as_tensor(total))
        if distance > _TOLERANCE[fused.recipe.precision] * scale:
            return name.rpartition(".")[0], "what it computes differs when all members run at once"
    return None
