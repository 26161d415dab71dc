"""A population's file: one safetensors file with every tensor, and a JSON text in its header for the rest."""

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from msgspec import Meta, Struct
from torch import Tensor

from dampen import _schema
from dampen._io import refuse_foreign, save_tensors, shortened, write_whole
from dampen._schema import Count, Epochs, Seed, Setting, Size
from dampen.engine._history import Recorder
from dampen.engine._snapshot import COUNTS, OF_MEMBERS, Snapshot
from dampen.errors import InputError

FILE, _FORMAT = "population.safetensors", 1
_LONGEST = 2**53  # steps, and more than any training has
_LARGEST_ROW = 2**36  # numbers
_End = Annotated[int, Meta(ge=0, le=2**31)]


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
    """The file's metadata beside its tensors: as a population has it, with places as pairs of ends.

    Args:
        settings: of its members.
        seeds: likewise.
        places: which seeds and which settings each chunk holds.
        chunk: how many members train at once, as given by the user.
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
        message = f"it lacks {e}" if isinstance(e, KeyError) else str(e) or type(e).__name__
        raise InputError(f"{path} is damaged or no population: {shortened(message.splitlines()[0])}") from None


def _checked(about: Header, tensors: dict[str, Tensor]) -> tuple[Snapshot, Recorder]:
    """Return a file's tensors, once each has the shape that the members need.

    Raises:
        ValueError: one is not; or KeyError, StopIteration: one is missing.
    """
    shape = (len(about.seeds), len(about.settings))
    members = {n.removeprefix("members/"): t.numpy() for n, t in tensors.items() if n.startswith("members/")}
    members.setdefault("even_batches", np.zeros_like(members["batch"]))  # older files: full ones, then the rest
    for name in (*COUNTS, *OF_MEMBERS, "diverged_at", "stopped_at"):
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
            metric = re.sub("_acc$", "_accuracy", metric)  # what older files call it
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
        for name in COUNTS:
            part = members[name][s:s_end, m:m_end]
            if (part != part.flat[0]).any():
                raise ValueError(f"members of one chunk differ in {name}")
    if (times != 1).any():
        raise ValueError("its chunks do not hold each member once")
