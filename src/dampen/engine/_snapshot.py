"""Everything that a population's chunks hold, gathered for all members and scattered into chunks again."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from dampen.engine._history import Span
from dampen.engine.execution._chunk import Chunk
from dampen.engine.execution._program import Names
from dampen.engine.knobs import Setting
from dampen.engine.optim._averaging import Average
from dampen.errors import InputError

COUNTS = ("epoch", "batch", "even_batches", "steps")  # of a chunk, kept for each of its members
OF_MEMBERS = ("held", "best_loss", "best_epoch")
_OURS = ("state", "best", "average", "start", "sums")  # kinds of tensors that are not the optimizer's


@dataclass(frozen=True)
class Snapshot:
    """Everything that chunks hold, for all members: `[S, M, ...]` each.

    Args:
        tensors: by kind and name: `state/0.weight`, `exp_avg/0.weight`, `best/0.weight`, `sums/0`.
        members: numbers of each member: how far it is, whether it is held, its best epoch.
        dtype: of the parameters.
    """

    tensors: dict[str, Tensor]
    members: dict[str, np.ndarray]
    dtype: torch.dtype

    def only(self, seeds: list[int], settings: list[int]) -> "Snapshot":
        """Return some of the members."""
        tensors = {name: t[seeds][:, settings] for name, t in self.tensors.items()}
        return Snapshot(tensors, {k: v[np.ix_(seeds, settings)] for k, v in self.members.items()}, self.dtype)

    def check(self, network: nn.Module, file: Path) -> None:
        """Refuse a file of another network; the one that is compared may be on torch's meta device.

        Raises:
            InputError: names or shapes of the parameters differ.
        """
        in_network = {n: t.shape for n, t in (*network.named_parameters(), *network.named_buffers())}
        in_file = {n.removeprefix("state/"): t.shape[2:] for n, t in self.tensors.items() if n.startswith("state/")}
        for name in {**in_network, **in_file}:
            if in_network.get(name) != in_file.get(name):
                shapes = [
                    list(shape) if shape is not None else "nothing"
                    for shape in (in_file.get(name), in_network.get(name))
                ]
                raise InputError(
                    f"{file} is of another network: {name} is {shapes[0]} there and {shapes[1]} in the model"
                )


def whole(
    names: Names, parts: Sequence[Sequence[Tensor]], places: Sequence[Span], shape: Sequence[int]
) -> dict[str, Tensor]:
    """Return tensors of chunks as copies for all members, `[S, M, ...]`, by name."""
    entries: dict[str, Tensor] = {}
    for tensors, place in zip(parts, places, strict=True):
        for name, t in zip((*names.trained, *names.rest), tensors, strict=False):
            if name not in entries:
                entries[name] = t.new_empty(*shape, *t.shape[2:], requires_grad=False)
            entries[name][place] = t.detach()
    return entries


def gather(chunks: Sequence[Chunk], places: Sequence[Span], shape: tuple[int, int]) -> Snapshot:
    """Return everything that chunks hold."""
    kinds: dict[str, list[Sequence[Tensor]]] = {"state": [chunk.state for chunk in chunks]}
    optimizers = [chunk.optimizer_state() for chunk in chunks]
    for slot in optimizers[0][0]:
        kinds[slot] = [slots[slot] for slots, _ in optimizers]
    if any(chunk.best is not None for chunk in chunks):
        kinds["best"] = [chunk.best or chunk.state for chunk in chunks]
    if any(chunk.average is not None for chunk in chunks):
        kinds["average"] = [chunk.state if chunk.average is None else chunk.average.tensors for chunk in chunks]
    if any(chunk.start is not None for chunk in chunks):  # members of one seed share theirs
        kinds["start"] = [
            [t.expand(p.shape) for t, p in zip(chunk.start or chunk.trained, chunk.trained, strict=True)]
            for chunk in chunks
        ]
    tensors = {
        f"{kind}/{name}": t.contiguous().cpu()
        for kind, parts in kinds.items()
        for name, t in whole(chunks[0].names, parts, places, shape).items()
    }
    members = {name: np.zeros(shape, dtype=np.int64) for name in COUNTS}
    members |= {name: np.zeros(shape, dtype=getattr(chunks[0], name).dtype) for name in OF_MEMBERS}
    for chunk, place, (_, steps) in zip(chunks, places, optimizers, strict=True):
        counts = {"epoch": chunk.epoch, "batch": chunk.batch, "even_batches": chunk.even_batches, "steps": steps}
        for name, values in members.items():
            values[place] = counts[name] if name in counts else getattr(chunk, name)
        for i, t in enumerate(chunk.sums):
            every = tensors.setdefault(f"sums/{i}", torch.zeros(shape, dtype=t.dtype))
            every[place] = t.cpu()
    return Snapshot(tensors, members, chunks[0].state[0].dtype)


def scatter(
    snapshot: Snapshot, names: Names, seeds: Sequence[int], settings: Sequence[Setting], places: Sequence[Span]
) -> list[Chunk]:
    """Return chunks with the state of a snapshot; their optimizers are made when they train."""
    chunks: list[Chunk] = []
    for place in places:

        def of(kind: str, wanted: Sequence[str], place: Span = place) -> list[Tensor]:
            return [snapshot.tensors[f"{kind}/{name}"][place].clone() for name in wanted]

        every = (*names.trained, *names.rest)
        chunk = Chunk(seeds[place[0]], settings[place[1]], names, of("state", every))
        counts = {name: int(snapshot.members[name][place].flat[0]) for name in COUNTS}
        chunk.epoch, chunk.batch, chunk.even_batches = counts["epoch"], counts["batch"], bool(counts["even_batches"])
        for name in OF_MEMBERS:
            setattr(chunk, name, snapshot.members[name][place].copy())
        if any(name.startswith("best/") for name in snapshot.tensors):
            chunk.best = of("best", every)
        if chunk.active.averages and any(name.startswith("average/") for name in snapshot.tensors):
            chunk.average = Average(chunk.active, chunk.state, of("average", every))
        needy = [knob for knob, acts in chunk.active.gradient if acts.needs_start]
        needing = [m for m, s in enumerate(chunk.settings) if any(knob.on(s) for knob in needy)]
        if needing and any(name.startswith("start/") for name in snapshot.tensors):
            chunk.start = [t[:, needing[:1]] for t in of("start", names.trained)]
        if chunk.batch:
            n = sum(name.startswith("sums/") for name in snapshot.tensors)
            chunk.sums = of("sums", [str(i) for i in range(n)])
        kinds = dict.fromkeys(name.partition("/")[0] for name in snapshot.tensors)
        slots = {kind: of(kind, names.trained) for kind in kinds if kind not in _OURS}
        chunk.resume(slots, counts["steps"])
        chunks.append(chunk)
    return chunks
