"""A description of how a population runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dampen._io import counted
from dampen.engine.batching._conv import CONVOLUTIONS
from dampen.engine.batching._linear import LINEAR
from dampen.engine.capture import Trace
from dampen.engine.execution._active_knobs import ActiveKnobs
from dampen.engine.execution._chunk import Chunk
from dampen.engine.execution._program import Program
from dampen.engine.execution._sequential import OneByOne
from dampen.engine.knobs import KNOBS, Averages, OnActivation, OnBatch, OnWeights, Scales, Setting, Variants


@dataclass(frozen=True)
class Layer:
    """How one module runs.

    Args:
        name: its path in the network, `""` for the network itself.
        kind: its class.
        how: `fused fast` (a batching rule of dampen's own), `fused by vmap` (torch's), `fused, member by member` (a
            convolution on a CPU, where a grouped one for all members takes longer), or `one by one`.
    """

    name: str
    kind: str
    how: str


@dataclass(frozen=True)
class Explanation:
    """How a population runs; printing it shows a summary.

    Args:
        layers: each module that computes something.
        reason: where and why members can't be fused; None if they can.
        members: how many there are.
        chunk: how many train at a time.
        member_bytes: of one member's parameters.
        expected_bytes: of all weights and optimizer numbers, and of one chunk's gradients and activations.
        decayed: which parameters decay.
        dropping: the module of each place where units are dropped, in the order of the forward pass.
        knobs: by each knob that a setting turns, where it acts: modules, parameters or a part of the step; empty if
            it can act nowhere.
        choice: why members that could be fused are not; None if they are.
        unreached: parameters that the loss does not depend on: they only decay.
        compiled: whether steps are compiled, and why not; None where that was not tried.
    """

    layers: tuple[Layer, ...]
    reason: tuple[str, str] | None
    members: int
    chunk: int
    member_bytes: int
    expected_bytes: int
    decayed: Mapping[str, bool]
    dropping: tuple[str, ...]
    knobs: Mapping[str, tuple[str, ...]]
    unreached: tuple[str, ...] = ()
    compiled: str | None = None
    choice: str | None = None

    def __str__(self) -> str:
        width = max((len(layer.name) + len(layer.kind) for layer in self.layers), default=0) + 3
        lines = [f"{f'{layer.name} ({layer.kind})':{width}}  {layer.how}" for layer in self.layers]
        if self.reason is not None:
            lines.append(f"not fused: {self.reason[0] or 'the network itself'}: {self.reason[1]}")
        elif self.choice is not None:
            lines.append(self.choice)
        elif self.chunk == 1 < self.members:
            lines.append(
                "fusing does not pay here: one member's activations fill the cache, so members train one at a time"
            )
        if any(layer.how == "fused, member by member" for layer in self.layers):
            lines.append("convolutions run member by member: on a CPU that takes less time than one for all of them")
        on = [name for name, yes in self.decayed.items() if yes]
        off = [name for name, yes in self.decayed.items() if not yes]
        lines += [
            f"{counted(self.members, 'member')}, {self.chunk} at a time, {_size(self.member_bytes)} of parameters "
            f"each, {_size(self.expected_bytes)} of memory expected",
            f"weight decay on {', '.join(on) or 'nothing'}; not on {', '.join(off) or 'nothing'}",
        ]
        lines += [
            f"{name} acts on {', '.join(where) or 'nothing in this network'}" for name, where in self.knobs.items()
        ]
        if self.compiled is not None:
            lines.append(f"steps compiled: {self.compiled}")
        if self.unreached:
            lines.append(f"the loss does not depend on {', '.join(self.unreached)}: no training but decay")
        return "\n".join(lines)


def explain(
    program: Program,
    reason: tuple[str, str] | None,
    trace: Trace,
    chunks: Sequence[Chunk],
    decayed: Mapping[str, bool],
) -> Explanation:
    """Return how chunks run under a program."""
    dropping = {place.module for place in trace.places}
    layers: list[Layer] = []
    for name, module in program.network.named_modules():
        functions = {f for f in trace.functions.get(name, set()) if getattr(f, "__name__", "") not in _NO_WORK}
        if not functions and name not in dropping:
            continue
        layers.append(Layer(name, type(module).__name__, _how(program, functions)))
    members = sum(chunk.held.size for chunk in chunks)
    largest = max(chunk.held.size for chunk in chunks)
    member_bytes = sum(t[0, 0].nbytes for t in chunks[0].state)
    trained = sum(t[0, 0].nbytes for t in chunks[0].trained)
    slots = len(chunks[0].optimizer.slots) if chunks[0].optimizer else 0
    at_once = largest if program.fused else 1
    copies = 1 + any(chunk.average is not None for chunk in chunks)
    expected = (
        members * (copies * member_bytes + slots * trained) + largest * trained + 2 * at_once * trace.activation_bytes
    )
    places = tuple(place.module for place in trace.places)
    knobs = _acting([s for chunk in chunks for s in chunk.settings], trace, chunks[0], decayed)
    return Explanation(
        tuple(layers),
        reason,
        members,
        at_once,
        trained,
        expected,
        dict(decayed),
        places,
        knobs,
        program.unreached,
        getattr(program, "compiled", None),
        program.choice if isinstance(program, OneByOne) else None,
    )


def _acting(
    settings: Sequence[Setting], trace: Trace, chunk: Chunk, decayed: Mapping[str, bool]
) -> dict[str, tuple[str, ...]]:
    """Return where each knob acts that one of the settings turns."""
    every = dict(zip(chunk.names.trained, chunk.trained, strict=True))
    weights = [name for name, on in decayed.items() if on]
    matrices = [name for name in weights if every[name].ndim - 2 >= 2]
    active = ActiveKnobs(settings)
    sites = active.where(trace.sites)
    where: dict[str, tuple[str, ...]] = {}
    for name, knob in KNOBS.items():
        if not any(knob.on(setting) for setting in settings):
            continue
        acts = knob.acts
        if isinstance(acts, OnActivation | Variants):
            where[name] = tuple(dict.fromkeys(module or "the network itself" for module in sites.get(name, ())))
        elif isinstance(acts, OnBatch):
            where[name] = (*["the inputs"] * (acts.inputs is not None), *["the loss"] * (acts.losses is not None))
        elif isinstance(acts, Scales):
            own = {"dropout"} if trace.places else set()
            where[name] = tuple(of for of in acts.of if of in own or any(of in setting for setting in settings))
        elif isinstance(acts, Averages):
            where[name] = ("all parameters and buffers",)
        elif name == "dropout":
            where[name] = tuple(dict.fromkeys(place.module or "the network itself" for place in trace.places))
        elif name == "patience":
            where[name] = ("the length of the training",)
        elif name == "lr":
            where[name] = ("the optimizer's steps",)
        else:
            where[name] = tuple(matrices if isinstance(acts, OnWeights) and acts.matrices else weights)
    return where


def _how(program: Program, functions: set[object]) -> str:
    """Return how a module that calls these functions runs."""
    if not program.fused:
        return "one by one"
    if program.on_cpu and any(f in CONVOLUTIONS for f in functions):
        return "fused, member by member"
    return "fused fast" if functions <= LINEAR else "fused by vmap"


_NO_WORK = {"__get__", "size", "dim", "view", "reshape", "flatten", "permute", "transpose", "unsqueeze", "squeeze"}


def _size(n_bytes: int) -> str:
    value = float(n_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if value >= 10 or unit == "B" else f"{value:.1f} {unit}"
