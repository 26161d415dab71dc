"""Whether a network's members can run as one: tried on the first batch, and compared with an ordinary backward pass."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dampen.engine._config import Recipe
from dampen.engine._copies import copied, hooks_of
from dampen.engine.capture import Trace, named
from dampen.engine.execution._chunk import Chunk
from dampen.engine.execution._fused import Fused
from dampen.engine.execution._in_c import Kept
from dampen.engine.execution._not_fusable import NotFusable
from dampen.engine.execution._ordinary import gradient, tensors_of, watched
from dampen.engine.execution._program import Names, Noise, Program, noise_at, rates_of
from dampen.engine.execution._sequential import OneByOne
from dampen.errors import InputError

# How far a fused gradient may be from the member's own, relative to its norm: rounding and no more.
_TOLERANCE = {"float64": 1e-8, "float32": 1e-3, "bfloat16": 5e-2}
_TOLERANCE_OF_TF32 = 1e-2  # products of 10 bits, as torch lets a GPU's convolutions take them by default


# Of what one member's convolutions return for a batch: from these on, members that run as one take longer on a CPU than
# one after the other (1.2 to 1.5 times, measured on ResNets, U-Nets and small convolutional networks): a convolution
# takes as long, and what lies between them leaves the cache. Not timed here: results must not depend on the load.
_LARGE_MAP_BYTES = 256 << 10
_SHARE_OF_MAPS = 0.2  # of all activations: a transformer's patches are one convolution beside many products
_MAPS = (
    "fusing does not pay here: on a CPU convolutions with such large maps take as long for all members at once, and "
    "what lies between them longer, so members train one after the other"
)


def choose(
    network: nn.Module,
    names: Names,
    recipe: Recipe,
    device: torch.device,
    chunks: Sequence[Chunk],
    trace: Trace,
    inputs: Sequence[Tensor],
    targets: Tensor,
    compiling: bool = False,
    before: Kept | None = None,
) -> tuple[Program, tuple[str, str] | None]:
    """Return the program that trains a network's members; and where and why it can't be the fused one, if it can't.

    Args:
        network: any member's.
        names: of the state's tensors.
        recipe: how members train.
        device: where.
        chunks: members to try: some of each kind, by the knobs that act inside the recorded step.
        trace: what a forward pass of the network does.
        inputs: a batch `[1, B, ...]` for each of the network's arguments.
        targets: `[1, B, ...]`.
        compiling: whether steps are compiled, where they can be.
        before: what another population of the same model has compiled: it serves here, too, if it agrees with the steps
            that are tried.
    """
    alone = OneByOne(network, names, recipe, device)
    kinds = {chunk.active.key: chunk for chunk in reversed(chunks)}.values()
    steps = [_ordinary(alone, chunk, trace, inputs, targets) for chunk in kinds]
    alone.unreached = steps[0].unreached
    why = trace.stateful or hooked(network) or _again(steps[0])
    if why is None and device.type == "cpu" and _large_maps(trace):
        alone.choice = _MAPS
    elif why is None:
        for other in (before, None) if before is not None else (None,):
            fused = Fused(steps[0].network, names, recipe, device)
            fused.compiling = compiling
            fused.unreached = steps[0].unreached
            if other is not None:
                fused.take_over(other)
            why = next((difference for step in steps if (difference := _differs(fused, step)) is not None), None)
            if why is not None:
                continue
            fused.tried = True
            fused.try_evaluation(steps[0].state, [t[:1] for t in steps[0].inputs], steps[0].targets[:1])
            return fused, None
    for step in steps:
        differs = _differs_alone(alone, step)
        if differs is not None:
            raise InputError(
                f"{named(network, differs)} trains otherwise than by an ordinary backward pass: its gradients depend "
                "on something else than its parameters, its buffers and its batch"
            )
    return alone, why


def _large_maps(trace: Trace) -> bool:
    """Return whether a network consists of convolutions with large maps, as far as its activations go."""
    large = max(trace.map_bytes, default=0) >= _LARGE_MAP_BYTES
    return large and sum(trace.map_bytes) >= _SHARE_OF_MAPS * trace.activation_bytes


@dataclass(frozen=True)
class _Ordinary:
    """The first step of a chunk, and what an ordinary backward pass on a copy of the network gives its busiest member.

    Args:
        state: of all members.
        noise: likewise.
        inputs: `[S, B, ...]` each.
        targets: `[S, B, ...]`.
        m: number of the member's setting; its seed is the first.
        gradients: of the trained parameters.
        rest: the parameters and buffers afterwards.
        loss: sum over the rows.
        unreached: parameters without a gradient.
        again: a module that ran again in the backward pass.
        network: the copy, which holds nothing of the step any more but its values.
    """

    state: list[Tensor]
    noise: Noise
    inputs: list[Tensor]
    targets: Tensor
    m: int
    gradients: list[Tensor]
    rest: list[Tensor]
    loss: Tensor
    unreached: tuple[str, ...]
    again: str | None
    network: nn.Module


def _ordinary(alone: OneByOne, chunk: Chunk, trace: Trace, inputs: Sequence[Tensor], targets: Tensor) -> _Ordinary:
    """Load a member's weights into a copy of the user's network and run its first step as a training loop does."""
    S, names = len(chunk.seeds), alone.names
    inputs = [t.expand(S, *t.shape[1:]).contiguous() for t in inputs]
    targets = targets.expand(S, *targets.shape[1:]).contiguous()
    rates = rates_of(chunk.settings, trace.places, chunk.state[0])
    effects = chunk.active.at(chunk.seeds, 0, trace.sites, inputs, targets)
    noise = noise_at(chunk.seeds, 0, rates, trace.places, targets.device, effects, trace.draws)
    m = chunk.active.busiest  # its own gradients show what the knobs do
    network = copied(alone.network).train()
    own = tensors_of(network)
    with torch.no_grad():
        for name, t in names.given(chunk.state).items():
            own[name].copy_(t[0, m])
    loss = alone.loss(noise, 0, m, targets)
    seen = watched(alone.member_step(noise, 0, m), network, alone.shown(noise, 0, m, inputs), loss)
    gradients = [gradient(own[name]).clone() for name in names.trained]
    rest = [own[name].detach() for name in (*names.trained, *names.rest)]
    network.zero_grad()
    return _Ordinary(
        chunk.state, noise, inputs, targets, m, gradients, rest, loss.sums[0], seen.unreached, seen.again, network
    )


def _differs(fused: Fused, step: _Ordinary) -> tuple[str, str] | None:
    """Return where and why a chunk's members can't be run as one, if they can't."""
    state = [t.clone() for t in step.state]
    try:
        gradients, sums = fused.gradients(state, step.noise, step.inputs, step.targets)
        fused.losses([t.clone() for t in state], [t[:1] for t in step.inputs], step.targets[:1])
    except NotFusable as e:
        return e.module, e.reason
    m = slice(step.m, step.m + 1)
    where = _distant(fused, step, [g[:1, m] for g in gradients], sums[0][:1, m], [t[:1, m] for t in state])
    return None if where is None else (where, "what it computes differs when all members run at once")


def _differs_alone(alone: OneByOne, step: _Ordinary) -> str | None:
    """Return the module in which a member by itself differs from the ordinary step, if it does."""
    own = [t[:1, step.m : step.m + 1].clone() for t in step.state]
    noise = step.noise.only(0, step.m)
    gradients, sums = alone.gradients(own, noise, [t[:1] for t in step.inputs], step.targets[:1])
    return _distant(alone, step, gradients, sums[0], own)


def _distant(
    program: Program, step: _Ordinary, gradients: Sequence[Tensor], loss: Tensor, state: Sequence[Tensor]
) -> str | None:
    """Return the module of the first tensor that is not the ordinary step's, if there is one."""
    names = program.names
    pairs = [*zip(gradients, step.gradients, strict=True), (loss, step.loss)]
    pairs += [(a, b) for a, b in zip(state, step.rest, strict=True) if a.is_floating_point()]
    total = sum(g.double().square().sum() for g in step.gradients) ** 0.5
    precision = program.recipe.precision
    coarse = torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32
    tf32 = precision == "float32" and not program.on_cpu and coarse
    tolerance = _TOLERANCE_OF_TF32 if tf32 else _TOLERANCE[precision]
    for (value, reference), name in zip(pairs, (*names.trained, "", *names.trained, *names.rest), strict=False):
        distance = (value.double() - reference.double()).norm()
        scale = torch.maximum(reference.double().norm(), torch.as_tensor(total))
        if distance > tolerance * scale:
            return name.rpartition(".")[0]
    return None


def hooked(network: nn.Module) -> tuple[str, str] | None:
    """Return where and why a network's gradients pass through hooks, if they do: what these do can't be recorded."""
    for name, p in network.named_parameters():
        if any(hooks_of(p)):
            module, _, own = name.rpartition(".")
            return module, f"its parameter {own} has a hook on its gradient"
    for name, module in network.named_modules():
        if module._backward_hooks or module._backward_pre_hooks:
            return name, "it has a hook on its gradients"
    return None


def _again(step: _Ordinary) -> tuple[str, str] | None:
    if step.again is None:
        return None
    return step.again, "it runs again in the backward pass (checkpointing): leave that out where memory allows"
