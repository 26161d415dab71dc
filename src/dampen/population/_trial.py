"""Whether a network's members can run as one: tried on the first batch, and compared with a member that runs alone."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dampen.population._chunk import Chunk
from dampen.population._probe import Probe
from dampen.population._program import Fused, Names, Noise, NotFusable, OneByOne, Program, noise_at, rates_of
from dampen.population._recipe import Recipe

# How far a fused gradient may be from the member's own, relative to its norm: rounding and no more.
_TOLERANCE = {"float64": 1e-8, "float32": 1e-3, "bfloat16": 5e-2}


def choose(
    network: nn.Module,
    names: Names,
    recipe: Recipe,
    device: torch.device,
    chunk: Chunk,
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
        chunk: members to try.
        found: what the network does.
        inputs: a batch `[1, B, ...]` for each of the network's arguments.
        targets: `[1, B, ...]`.
    """
    alone = OneByOne(network, names, recipe, device)
    if found.stateful is not None:
        return alone, found.stateful
    S = len(chunk.seeds)
    rates = rates_of(chunk.settings, found.places, chunk.state[0])
    noise = noise_at(chunk.seeds, 0, rates, found.places, device)
    inputs = [t.expand(S, *t.shape[1:]).contiguous() for t in inputs]
    targets = targets.expand(S, *targets.shape[1:]).contiguous()
    fused = Fused(network, names, recipe, device)
    state = [t.clone() for t in chunk.state]
    try:
        gradients, sums = fused.gradients(state, noise, inputs, targets)
        fused.losses(state, [t[:1] for t in inputs], targets[:1])
    except NotFusable as e:
        return alone, (e.module, e.reason)
    one = Noise(chunk.seeds[:1], 0, noise.rates[:1], noise.scales[:1], [u[:1] for u in noise.uniforms])
    own = [t[:1, :1].clone() for t in chunk.state]
    own_gradients, own_sums = alone.gradients(own, one, [t[:1] for t in inputs], targets[:1])
    pairs = [*zip(gradients, own_gradients, strict=True), (sums[0], own_sums[0])]
    pairs += [(a, b) for a, b in zip(state, own, strict=True) if a.is_floating_point()]
    total = sum(g.double().square().sum() for g in own_gradients) ** 0.5
    for (mine, theirs), name in zip(pairs, (*names.trained, "", *names.trained, *names.rest), strict=False):
        distance = (mine[:1, :1].double() - theirs.double()).norm()
        scale = torch.maximum(theirs.double().norm(), torch.as_tensor(total))
        if distance > _TOLERANCE[recipe.precision] * scale:
            return alone, (name.rpartition(".")[0], "what it computes differs when all members run at once")
    return fused, None
