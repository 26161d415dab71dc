"""A population's file: one safetensors file with every tensor, and a JSON text in its header for the rest."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from msgspec import Meta, Struct
from torch import Tensor, nn

from dampen import _schema
from dampen._io import refuse_foreign, save_tensors, shortened, write_whole
from dampen._schema import Count, Epochs, Seed, Setting, Size
from dampen.engine._history import Recorder, Span
from dampen.engine.execution._chunk import Chunk
from dampen.engine.execution._program import Names
from dampen.engine.knobs import Setting as Knobs
from dampen.engine.optim._averaging import Average
from dampen.errors import InputError

FILE, _FORMAT = "population.safetensors", 1
_COUNTS = ("epoch", "batch", "even_batches", "steps")  # of a chunk, kept for each of its members
_OURS = ("state", "best", "average", "start", "sums")  # kinds of tensors that are not the optimizer's
_LONGEST = 2**53  # steps, and more than any training has
_LARGEST_ROW = 2**36  # numbers
_End = Annotated[int, Meta(ge=0, le=2**31)]
_OF_MEMBERS = ("held", "best_loss", "best_epoch")


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

    def check(self, network: nn.Module, folder: Path) -> None:
        """Refuse a file of another network; the one that is compared may be on torch's meta device.

        Raises:
            InputError: names or shapes of the parameters differ.
        """
        mine = {n: t.shape for n, t in (*network.named_parameters(), *network.named_buffers())}
        theirs = {n.removeprefix("state/"): t.shape[2:] for n, t in self.tensors.items() if n.startswith("state/")}
        for name in {**mine, **theirs}:
            if mine.get(name) != theirs.get(name):
                said = [list(shape) if shape is not None else "nothing" for shape in (theirs.get(name), mine.get(name))]
                raise InputError(
                    f"{folder / FILE} is of another network: {name} is {said[0]} there and {said[1]} in the model"
                )


def whole(
    names: Names, parts: Sequence[Sequence[Tensor]], places: Sequence[Span], shape: Sequence[int]
) -> dict[str, Tensor]:
    """Return tensors of chunks as copies for all members, `[S, M, ...]`, by name."""
    found: dict[str, Tensor] = {}
    for tensors, place in zip(parts, places, strict=True):
        for name, t in zip((*names.trained, *names.rest), tensors, strict=False):
            if name not in found:
                found[name] = t.new_empty(*shape, *t.shape[2:], requires_grad=False)
            found[name][place] = t.detach()
    return found


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
    members = {name: np.zeros(shape, dtype=np.int64) for name in _COUNTS}
    members |= {name: np.zeros(shape, dtype=getattr(chunks[0], name).dtype) for name in _OF_MEMBERS}
    for chunk, place, (_, steps) in zip(chunks, places, optimizers, strict=True):
        counts = {"epoch": chunk.epoch, "batch": chunk.batch, "even_batches": chunk.even_batches, "steps": steps}
        for name, values in members.items():
            values[place] = counts[name] if name in counts else getattr(chunk, name)
        for i, t in enumerate(chunk.sums):
            every = tensors.setdefault(f"sums/{i}", torch.zeros(shape, dtype=t.dtype))
            every[place] = t.cpu()
    return Snapshot(tensors, members, chunks[0].state[0].dtype)


def scatter(
    snapshot: Snapshot, names: Names, seeds: Sequence[int], settings: Sequence[Knobs], places: Sequence[Span]
) -> list[Chunk]:
    """Return chunks that hold what a snapshot says; their optimizers are made when they train."""
    chunks: list[Chunk] = []
    for place in places:

        def of(kind: str, wanted: Sequence[str], place: Span = place) -> list[Tensor]:
            return [snapshot.tensors[f"{kind}/{name}"][place].clone() for name in wanted]

        every = (*names.trained, *names.rest)
        chunk = Chunk(seeds[place[0]], settings[place[1]], names, of("state", every))
        counts = {name: int(snapshot.members[name][place].flat[0]) for name in _COUNTS}
        chunk.epoch, chunk.batch, chunk.even_batches = counts["epoch"], counts["batch"], bool(counts["even_batches"])
        for name in _OF_MEMBERS:
            setattr(chunk, name, snapshot.members[name][place].copy())
        if any(name.startswith("best/") for name in snapshot.tensors):
            chunk.best = of("best", every)
        if chunk.turned.averages and any(name.startswith("average/") for name in snapshot.tensors):
            chunk.average = Average(chunk.turned, chunk.state, of("average", every))
        needy = [knob for knob, acts in chunk.turned.gradient if acts.needs_start]
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


def write(folder: Path, about: dict[str, Any], snapshot: Snapshot, recorder: Recorder) -> None:
    """Write the file, whole or not at all.

    Raises:
        InputError: the folder can't be written to, or has a file of that name that holds no population.
    """
    refuse_foreign(folder / FILE, _is_population, "no population")
    tensors = dict(snapshot.tensors)
    tensors |= {f"members/{name}": torch.from_numpy(values.copy()) for name, values in snapshot.members.items()}
    for name in ("diverged_at", "stopped_at"):
        tensors[f"members/{name}"] = torch.from_numpy(getattr(recorder, name).copy())
    curves = recorder.closed or [{}]
    for i, metrics in enumerate([*curves, recorder.open]):
        place = "open" if i == len(curves) else str(i)
        tensors |= {f"curves/{place}/{name}": torch.from_numpy(v.copy()) for name, v in metrics.items()}
    about = about | {"format": _FORMAT}
    held = {name: t.contiguous() for name, t in tensors.items()}
    write_whole(folder / FILE, lambda file: save_tensors(held, file, {"dampen": json.dumps(about)}))


def _is_population(head: bytes) -> bool:
    """Return whether a file begins as `write` begins: with a header that has an entry for dampen."""
    return b'"__metadata__":{"dampen":' in head[8:200]


class Header(Struct, frozen=True, kw_only=True):
    """What the file says beside its tensors: as a population has it, with places as pairs of ends.

    Args:
        settings: of its members.
        seeds: likewise.
        places: which seeds and which settings each chunk holds.
        chunk: how many members train at once, as asked for.
        at_once: the same as found.
        row: shape of a row, and outputs.
        epochs: after which something was recorded.
    """

    format: Count
    settings: Annotated[list[Setting], Meta(min_length=1)]
    seeds: Annotated[list[Seed], Meta(min_length=1)]
    places: Annotated[list[tuple[tuple[_End, _End], tuple[_End, _End]]], Meta(min_length=1)]
    chunk: Size | None
    row: tuple[Annotated[tuple[Size, ...], Meta(max_length=8)], Size] | None
    epochs: list[Epochs]
    at_once: Size | None = None

    def __post_init__(self) -> None:
        if self.row is not None and math.prod(self.row[0]) > _LARGEST_ROW:
            raise ValueError("row: no row has so many numbers")


class _Version(Struct, frozen=True):
    format: Count


def read(folder: Path) -> tuple[Header, Snapshot, Recorder]:
    """Read a population's file.

    Raises:
        InputError: there is none, or it is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        raise InputError(f"there is no {FILE} in {folder}: give the folder that Population.save wrote")
    try:
        text, tensors = _schema.read_tensors(path)
        first = _schema.decode(text, _Version, path)
        if first.format != _FORMAT:
            raise InputError(f"{path} has format {first.format}, this version of dampen reads {_FORMAT}")
        about = _schema.decode(text, Header, path)
    except InputError as e:
        raise InputError(str(e).replace("is damaged:", "is damaged or no population:", 1)) from None
    try:
        return about, *_checked(about, tensors)
    except (KeyError, ValueError, IndexError, StopIteration, TypeError, RuntimeError) as e:
        said = f"it lacks {e}" if isinstance(e, KeyError) else str(e) or type(e).__name__
        raise InputError(f"{path} is damaged or no population: {shortened(said.splitlines()[0])}") from None


def _checked(about: Header, tensors: dict[str, Tensor]) -> tuple[Snapshot, Recorder]:
    """Return a file's tensors, once each is known to be of the shape that the members ask for.

    Raises:
        ValueError: one is not; or KeyError, StopIteration: one is missing.
    """
    shape = (len(about.seeds), len(about.settings))
    members = {n.removeprefix("members/"): t.numpy() for n, t in tensors.items() if n.startswith("members/")}
    members.setdefault("even_batches", np.zeros_like(members["batch"]))  # older files: full ones, then the rest
    for name in (*_COUNTS, *_OF_MEMBERS, "diverged_at", "stopped_at"):
        kind = {"held": "b", "best_loss": "f"}.get(name, "i")
        if members[name].shape != shape or members[name].dtype.kind != kind:
            raise ValueError(f"members/{name} is not a number for each of {shape[0]} seeds x {shape[1]} settings")
        if kind == "i" and (members[name].min() < 0 or members[name].max() > _LONGEST):
            raise ValueError(f"members/{name} is out of range")
    _check_places(about.places, shape, members)
    recorder = Recorder(shape)
    recorder.diverged_at, recorder.stopped_at = members.pop("diverged_at"), members.pop("stopped_at")
    recorder.epochs = list(about.epochs)
    if about.epochs != sorted(set(about.epochs)):
        raise ValueError("its epochs are not in order")
    recorder.closed = [{} for _ in recorder.epochs]
    for name, t in tensors.items():
        if name.startswith("curves/"):
            _, place, metric = name.split("/")
            if tuple(t.shape) != shape or t.dtype != torch.float64:
                raise ValueError(f"{name} is not a number for each of {shape[0]} seeds x {shape[1]} settings")
            at = None if place == "open" else int(place)
            if at is not None and not 0 <= at < len(recorder.closed):
                raise ValueError(f"{name} is of no epoch")
            (recorder.open if at is None else recorder.closed[at])[metric] = t.numpy()
    rest = {n: t for n, t in tensors.items() if not n.startswith(("members/", "curves/"))}
    for name, t in rest.items():
        if "/" not in name or tuple(t.shape[:2]) != shape:
            raise ValueError(f"{name} is not a tensor for each of {shape[0]} seeds x {shape[1]} settings")
    of_state = {n.partition("/")[2]: t.shape for n, t in rest.items() if n.startswith("state/")}
    for name, t in rest.items():
        kind, _, of = name.partition("/")
        if kind != "sums" and of_state.get(of) != t.shape:
            raise ValueError(f"{name} has another shape than state/{of}")
    dtype = next(t.dtype for n, t in rest.items() if n.startswith("state/") and t.is_floating_point())
    return Snapshot(rest, members, dtype), recorder


def _check_places(
    places: Sequence[tuple[tuple[int, int], tuple[int, int]]], shape: tuple[int, int], members: dict[str, np.ndarray]
) -> None:
    """Make sure that chunks hold each member once, and members that are equally far.

    Raises:
        ValueError: they do not.
    """
    times = np.zeros(shape, dtype=np.int64)
    for (s, s_end), (m, m_end) in places:
        if not (s < s_end <= shape[0] and m < m_end <= shape[1]):
            raise ValueError("a chunk holds no members, or some that are not there")
        times[s:s_end, m:m_end] += 1
        for name in _COUNTS:
            part = members[name][s:s_end, m:m_end]
            if (part != part.flat[0]).any():
                raise ValueError(f"members of one chunk differ in {name}")
    if (times != 1).any():
        raise ValueError("its chunks do not hold each member once")


def plain(setting: Knobs) -> dict[str, Any]:
    """Return a setting as JSON can hold it."""
    return {
        name: dict(value) if isinstance(value, tuple) and value and isinstance(value[0], tuple) else value
        for name, value in setting.items()
    }
