"""What a population is trained on: data with splits, tensors, or any `torch.utils.data.Dataset` that fits in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from dampen._tensors import as_native, check_dense, check_size, describe_input, loaded_by
from dampen.engine import _losses
from dampen.engine._codes import Code
from dampen.errors import InputError

SPLITS = ("train", "validation", "test")

Source = Any
"""Data with `train`, `validation`, `test`, `task`, `outputs` and `weights`, and perhaps `codes`, as dampen's `Data`;
`(inputs, targets)` or `(input, input, ..., targets)` as tensors or arrays; a `Dataset` whose items are such tuples; or
a mapping from `train`, `validation`, `test` to these. Without splits, all rows are training rows."""


@dataclass(frozen=True, eq=False)
class Table:
    """Rows in memory: inputs and targets of the network.

    Args:
        inputs: one tensor `[N, ...]` for each argument of the network.
        targets: `[N]`, int64 class numbers or numbers; or `[N, ...]`.
    """

    inputs: tuple[Tensor, ...]
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True, eq=False)
class Sets:
    """The rows that one seed's members see.

    Args:
        tables: by split; a split without rows is left out.
        task: `classification` or `regression`.
        outputs: classes, or numbers that are predicted.
        weighted: whether targets are packed with the rows' weights.
        codes: which inputs are codes of categories.
    """

    tables: dict[str, Table]
    task: str
    outputs: int
    weighted: bool = False
    codes: tuple[Code, ...] = ()
    key: tuple[Any, ...] = field(init=False)
    """What must agree for seeds to train in lockstep: the numbers of rows."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", tuple(len(self.tables[s]) if s in self.tables else 0 for s in SPLITS))

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one row of the network's first argument."""
        return tuple(self.tables["train"].inputs[0].shape[1:])


class Rows:
    """Rows on the device: one copy for all seeds of a chunk, or one for each.

    Args:
        inputs: `[1, N, ...]` each, or `[S, N, ...]`.
        targets: `[1, N, ...]`, or `[S, N, ...]`.
    """

    def __init__(self, inputs: Sequence[Tensor], targets: Tensor):
        self.inputs, self.targets = tuple(inputs), targets
        copies, N = targets.shape[:2]
        self._offsets = torch.arange(copies, device=targets.device).unsqueeze(1) * N

    def __len__(self) -> int:
        return self.targets.shape[1]

    def gather(self, index: Int64[Tensor, "S B"]) -> tuple[list[Tensor], Tensor]:
        """Return each seed's own rows: inputs `[S, B, ...]` and targets `[S, B, ...]`."""
        flat = (index + self._offsets).flatten()
        *inputs, targets = (
            t.flatten(0, 1).index_select(0, flat).unflatten(0, index.shape) for t in (*self.inputs, self.targets)
        )
        return inputs, targets

    def span(self, start: int, end: int) -> tuple[list[Tensor], Tensor]:
        """Return consecutive rows, `[1 or S, B, ...]`."""
        return [t[:, start:end] for t in self.inputs], self.targets[:, start:end]


def to_device(tables: Sequence[Table], device: torch.device, dtype: torch.dtype) -> Rows:
    """Bring rows to the device: once where all seeds share them, stacked by seed where they do not."""
    tables = tables[:1] if all(table is tables[0] for table in tables) else tables

    def bring(tensors: Sequence[Tensor]) -> Tensor:
        moved = [t.to(device, dtype if t.is_floating_point() else None) for t in tensors]
        return moved[0].unsqueeze(0) if len(moved) == 1 else torch.stack(moved)

    inputs = [bring([table.inputs[i] for table in tables]) for i in range(len(tables[0].inputs))]
    return Rows(inputs, bring([table.targets for table in tables]))


def of_seeds(source: Source | Sequence[Source], n_seeds: int) -> list[Sets]:
    """Return what each seed's members see: the same for all, or a source for each in a list.

    Raises:
        InputError: not as many sources as seeds, or one that can't be read, or seeds that differ in more than rows.
    """
    if isinstance(source, list) or (
        isinstance(source, tuple) and source and (isinstance(source[0], tuple) or _is_split(source[0]))
    ):
        if len(source) != n_seeds:
            raise InputError(f"{len(source)} data sets for {n_seeds} seeds: give one for all, or one for each")
        known = {id(of_seed): of_seed for of_seed in source}
        read = {key: _read(of_seed) for key, of_seed in known.items()}
        sets = [read[id(of_seed)] for of_seed in source]
    else:
        sets = [_read(source)] * n_seeds
    alike = {
        (
            of_seed.task,
            tuple(t.shape[1:] for t in of_seed.tables["train"].inputs),
            of_seed.tables["train"].targets.shape[1:],
        )
        for of_seed in sets
    }
    if len(alike) > 1:
        raise InputError("the seeds' data differ in the shape of a row or in the task: they share one network")
    outputs = max(of_seed.outputs for of_seed in sets)
    return [of_seed if of_seed.outputs == outputs else replace(of_seed, outputs=outputs) for of_seed in sets]


def table(source: Source, task: str | None = None) -> Table:
    """Read rows that carry no split: tensors, arrays, a `Dataset`, or rows of our own data."""
    if hasattr(source, "features") and hasattr(source, "targets"):
        weights = getattr(source, "weights", None)
        targets = source.targets if weights is None else _losses.packed(source.targets, weights)
        return Table((source.features,), targets)
    if isinstance(source, Dataset):
        source = _collated(source)
    if not isinstance(source, tuple | list) or len(source) < 2:
        read = loaded_by(source)
        raise InputError(
            f"rows must be (inputs, targets) as tensors or arrays, a Dataset of such pairs or dampen's Data, got "
            f"{describe_input(source)}" + (f": {read} gives Data" if read else "")
        )
    tensors = [_tensor(part) for part in source]
    lengths = {len(t) for t in tensors}
    if len(lengths) > 1:
        raise InputError(
            f"inputs and targets have different numbers of rows: {', '.join(str(len(t)) for t in tensors)}"
        )
    *inputs, targets = tensors
    for t in (*inputs, targets):
        if t.is_floating_point() and not (t.sum().isfinite() or t.isfinite().all()):  # a sum takes a fortieth
            raise InputError("inputs and targets must be finite numbers: there is a NaN or an infinity among the rows")
        check_size(t, "inputs or targets")
    if not targets.is_floating_point():
        targets = targets.long()
        if len(targets) and targets.min() < 0:
            raise InputError(f"class numbers start at 0, got {targets.min().item()}")
    return Table(tuple(inputs), targets)


def _read(source: Source) -> Sets:
    if isinstance(source, Sets):
        return source
    if _is_split(source):
        tables = {split: table(rows) for split in SPLITS if len(rows := getattr(source, split))}
        codes = tuple(getattr(source, "codes", ()))
        return Sets(tables, source.task, source.outputs, source.weights is not None, codes)
    if not isinstance(source, Mapping):
        source = {"train": source}
    unknown = [name for name in source if name not in SPLITS]
    if unknown or "train" not in source:
        raise InputError(f"data must have a split called train, and may have validation and test, got {list(source)}")
    tables = {split: found for split in SPLITS if split in source and len(found := table(source[split]))}
    if "train" not in tables:
        raise InputError("the data has no training rows")
    targets = tables["train"].targets
    if targets.is_floating_point():
        return Sets(tables, "regression", targets[0].numel())
    classes = 1 + max(int(t.targets.max()) for t in tables.values())
    return Sets(tables, "classification", classes)


def _is_split(source: Any) -> bool:
    """Return whether something is data with splits and a task of its own, such as dampen's `Data`."""
    return hasattr(type(source), "train") and hasattr(source, "task") and hasattr(source, "outputs")


def _collated(dataset: Dataset) -> Any:
    try:
        items = [dataset[i] for i in range(len(dataset))]  # type: ignore[arg-type]
        return tuple(default_collate(items))
    except (TypeError, RuntimeError) as e:
        raise InputError(
            f"the items of {type(dataset).__name__} can't be stacked into tensors ({str(e).splitlines()[0]}): give "
            "(input, target) pairs of tensors, arrays or numbers of equal shape"
        ) from e


def _tensor(part: Any) -> Tensor:
    if isinstance(part, Tensor):
        check_dense(part, "inputs and targets")
        return part.detach()
    try:
        return torch.from_numpy(np.ascontiguousarray(as_native(np.asanyarray(part))))
    except TypeError as e:
        raise InputError(f"inputs and targets must be tensors or arrays of numbers, got {type(part).__name__}") from e
