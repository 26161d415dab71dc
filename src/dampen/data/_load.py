"""`load`: a data set by name, from a file or a folder, or of what is in memory."""

import filecmp
import numbers
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dampen._checks import expanded
from dampen.data._bundled import BUNDLED, load_bundled
from dampen.data._dataset import Data
from dampen.data._find import existing, find
from dampen.data._in_memory import read_arrays
from dampen.data._npz import read_npz
from dampen.data._published import PUBLISHED
from dampen.data._torch_dataset import is_dataset, read_dataset
from dampen.data.images._files import holds_images, other_files
from dampen.data.images._from_folder import read_images
from dampen.data.images._idx_folder import FILES, find_files, read_folder
from dampen.data.tables import _from_frame
from dampen.data.tables._frame import joined_name
from dampen.data.tables._join import is_values, join
from dampen.data.tables._read import READERS, Frame, kind_of, read_frame, tidy
from dampen.errors import InputError

NAMES = (*BUNDLED, *PUBLISHED)
_LISTS = ("drop", "category", "text", "codes")  # arguments that name any number of columns


def load(
    source: Any,
    *,
    target: Any = None,
    task: str | None = None,
    drop: str | int | Sequence[Any] = (),
    category: str | int | Sequence[Any] = (),
    text: str | int | Sequence[Any] = (),
    codes: str | int | Sequence[Any] = (),
    group: Any = None,
    weight: Any = None,
    test: Any = None,
    time_order: Any = None,
    image_size: int | None = None,
    image_max: float | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    seed: int = 0,
    test_fraction: float = 0.25,
    normalise: bool = True,
    progress: bool = False,
) -> Data:
    """Load a data set: by name, from a file or a folder, or of what is in memory already.

    A string that is one of `NAMES` means that set (write `./digits` for a folder of that name); others are paths: a
    table (`.csv`, `.tsv`, `.txt`, `.parquet`, `.feather`, `.xlsx`; text also compressed), arrays (`.npz`), a folder
    of images by class, a folder with the four IDX files of MNIST. Else `source` is a pandas or polars frame (or another
    with `to_pandas()`), a NumPy array or tensor with `target` as another one, or a `torch.utils.data.Dataset` of
    (input, target) pairs.

    What was done to a table is in `columns` and `notes` of the result. Text becomes numbers, dates or categories by
    what it holds; see `docs/data.md`.

    - `target`: the column to predict; None takes one called target, label, class, y, outcome or response. Or the
      targets themselves, for a frame as for an array: a series, an array, a list, one column, or columns of 0 and 1.
    - `task`: `classification` or `regression`; None guesses, with a note where it might be wrong.
    - `drop`: columns not to use.
    - `category`: columns that are categories, whatever they hold: codes that look like numbers.
    - `text`: columns of free text, which become the tf-idf of their words and pairs of words, at most 500 a column.
    - `codes`: columns whose categories are codes, for a network of your own that embeds them: one input each, the first
      ones, with 0 for a missing or unknown category; `Data.codes` has what an `nn.Embedding` takes.
    - `group`: a column, or values; rows with the same value stay together in every split.
    - `weight`: a column, or values; how much a row counts in the loss and in what is measured.
    - `test`: the test rows, where they are not to be drawn: as `source`, or with their targets as `(rows, targets)`.
    - `time_order`: a column of dates or numbers, or values: rows are split in that order, and rows of
      one time stay together; with `group` those of one group do, too, or the data is refused.
    - `image_size`: pixels of a side that images are resized to.
    - `image_max`: the value that is white in images of more than 8 bits; None takes what as many bits as they use can
      hold.
    - `data_dir`: where `fashion-mnist` and `mnist` are looked for first; then in the folder that the
      environment variable `DAMPEN_DATA` names, then in the user's cache, then at their publisher.
    - `seed`, `test_fraction`: draw the test rows of data without its own, each class in its share.
    - `normalise`: of arrays: False leaves numbers as they are; whole ones stay whole, for a network that embeds them.
    - `progress`: print on stderr where the data comes from, with a bar when that is a terminal.

    Raises `InputError` for what can't be found, read or learnt from, in one line.

    >>> load("digits").inputs
    (1, 8, 8)
    >>> import pandas as pd
    >>> houses = pd.DataFrame({"size": [40, 90, 60] * 20, "garden": ["no", "yes"] * 30, "price": range(60, 120)})
    >>> load(houses, target="price").columns.inputs(1)
    ['size', 'garden=yes']
    """
    source, test, data_dir = map(expanded, (source, test, data_dir))
    arguments = {name: value for name, value in locals().items() if name != "progress"}
    words = {"drop": drop, "category": category, "text": text, "codes": codes, "group": group, "weight": weight}
    words["time_order"] = time_order
    words = {name: _column_names(source, word) for name, word in words.items()}
    for name in _LISTS:
        if isinstance(words[name], list | tuple):
            words[name] = [_column_names(source, word) for word in words[name]]
    target = _column_names(source, target)
    for name, word in words.items():
        if word is not None and not hasattr(word, "__len__"):
            raise InputError(f"{name} must be the name of a column, or values, got {word!r}")
    if isinstance(seed, bool) or not isinstance(seed, numbers.Integral):
        raise InputError(f"seed must be a whole number, got {seed!r}")
    _refuse_unread(
        source, {"image_size": image_size is not None, "image_max": image_max is not None, "normalise": not normalise}
    )
    for_tables = [name for name, word in words.items() if word is not None and len(word)]
    if isinstance(source, str | os.PathLike):
        if is_table(source):
            data = _table(source, target, task, words, test, seed, test_fraction)
            return replace(data, reading=_reading(arguments))
        if test is not None or for_tables:
            given = ", ".join(for_tables + ["test"] * (test is not None))
            raise InputError(
                f"{given}: only for tables, '{source}' is none; a table's file ends in {', '.join(READERS)}"
            )
        if target is not None and not str(source).lower().endswith(".npz"):
            raise InputError(f"target: only for tables and .npz files, '{source}' is neither; leave it out")
        if is_values(target):
            raise InputError(f"target must be the name of an array in {source}, got {type(target).__name__}")
        if task is not None and not str(source).lower().endswith(".npz"):
            raise InputError(f"task: only for tables and .npz files, the task of '{source}' is known; leave it out")
        try:
            data = _named(
                source, target, task, image_size, image_max, data_dir, seed, test_fraction, progress, normalise
            )
        except MemoryError:
            raise InputError(f"{source} does not fit into memory; give a part of its rows") from None
        reading = _reading(arguments)
        return replace(data, reading=reading if reading is None else reading | dict(data.reading or {}))
    if _is_frame(source):
        return _table(source, target, task, words, test, seed, test_fraction)
    if any(isinstance(word, str) or (name in _LISTS and len(word)) for name, word in words.items() if word is not None):
        raise InputError(
            "drop, category, text, codes, group, weight and time_order name columns of a table; arrays have none: give "
            "group, weight and time_order as arrays"
        )
    roles = {name: word for name, word in words.items() if name not in _LISTS}
    options = {"task": task, "seed": seed, "test_fraction": test_fraction, "normalise": normalise, **roles}
    if is_dataset(source):
        return read_dataset(source, test, **options)
    if not _is_array(source):
        raise InputError(
            f"data must be a name, a path, a frame, arrays or a torch Dataset, got {type(source).__name__}"
        )
    if target is None:
        raise InputError("an array of inputs needs its targets: load(inputs, target=targets)")
    if isinstance(target, str):
        raise InputError("an array of inputs has no columns with names: give the targets as another array")
    return read_arrays(source, target, test=_pair(test), **options)


def _column_names(source: Any, word: Any) -> Any:
    """Return the names that a frame's columns have here for those that a user gives: numbers, or tuples of levels."""
    if isinstance(word, numbers.Integral) and not isinstance(word, bool):
        return str(word)
    columns = getattr(source, "columns", ()) if hasattr(source, "iloc") else ()
    levels = getattr(columns, "nlevels", 1)

    def is_name(word: Any) -> bool:
        return isinstance(word, tuple) and len(word) == levels > 1 and (word in columns or len(source) != levels)

    if is_name(word):
        return joined_name(word)
    if isinstance(word, list | tuple) and len(word) and all(map(is_name, word)):
        return [joined_name(name) for name in word]
    return word


def is_table(source: str | os.PathLike[str]) -> bool:
    """Return whether a name means a file with a table, by its ending."""
    return str(source) not in NAMES and kind_of(Path(source)) is not None and not os.path.isdir(source)


def _refuse_unread(source: Any, given: dict[str, bool]) -> None:
    """Refuse an option that what is given has no use for, rather than pass over it."""
    on_disk = isinstance(source, str | os.PathLike)
    if on_disk and str(source) not in NAMES and not os.path.exists(source):
        return  # that error comes first
    images = on_disk and str(source) not in NAMES and os.path.isdir(source) and not find_files(Path(source))
    arrays = not _is_frame(source) and (not on_disk or Path(source).suffix.lower() == ".npz")
    of = f"'{source}'" if on_disk else "this"
    for name, is_given in given.items():
        if is_given and not (arrays if name == "normalise" else images):
            kind = "arrays" if name == "normalise" else "a folder of images by class"
            raise InputError(f"{name}: only for {kind}, {of} is none; leave it out")


def _reading(arguments: dict[str, Any]) -> dict[str, Any] | None:
    """Return arguments of `load` as JSON can hold them, paths from the root on; None where one was in memory."""
    options: dict[str, Any] = {}
    for name, value in arguments.items():
        if isinstance(value, str | os.PathLike):
            is_path = name in ("source", "test", "data_dir") and str(value) not in NAMES
            options[name] = os.path.abspath(value) if is_path else str(value)
        elif isinstance(value, list | tuple) and name in _LISTS:
            if value:
                options[name] = [str(word) for word in value]
        elif name == "normalise":
            if not value:
                options[name] = False
        elif isinstance(value, numbers.Real):
            options[name] = value.item() if isinstance(value, np.generic) else value
        elif value is not None:
            return None
    return options


def _named(
    source: str | os.PathLike[str],
    target: str | None,
    task: str | None,
    image_size: int | None,
    image_max: float | None,
    data_dir: str | os.PathLike[str] | None,
    seed: int,
    test_fraction: float,
    progress: bool,
    normalise: bool,
) -> Data:
    if data_dir is not None:
        data_dir = existing(Path(data_dir), "data_dir")
    name, path = str(source), Path(source)
    if name in BUNDLED:
        return load_bundled(name, seed=seed, test_fraction=test_fraction)
    if name in PUBLISHED:
        folder, origin = find(name, data_dir, progress=progress)
        return read_folder(folder, name=name, classes=PUBLISHED[name].classes, source=origin)
    if path.suffix.lower() == ".npz":
        return read_npz(path, target=target, task=task, seed=seed, test_fraction=test_fraction, normalise=normalise)
    if not os.path.isdir(path):
        if os.path.exists(path):
            known = ", ".join((*READERS, ".npz"))
            raise InputError(f"{name} is no kind of file that is known; tables and arrays end in {known}")
        raise InputError(
            f"{name!r} is neither a data set nor a folder; the sets are {', '.join(NAMES)}; a table, a .npz file, a "
            "folder of images by class or a folder with the four IDX files works too"
        )
    try:
        if find_files(path):
            return read_folder(path)
        if holds_images(path):
            return read_images(path, side=image_size, image_max=image_max, seed=seed, test_fraction=test_fraction)
        raise InputError(
            f"folder {path} holds no images, and none of the four IDX files ({', '.join(FILES)}); {other_files(path)}; "
            "give a folder with a folder of images for each class, or with these files"
        )
    except OSError as e:
        raise InputError(f"folder {path} can't be read: {e.strerror or e}") from None


def _table(
    source: Any, target: Any, task: str | None, words: dict[str, Any], test: Any, seed: int, test_fraction: float
) -> Data:
    beside: Any = None
    if isinstance(test, tuple | list) and len(test) == 2 and not isinstance(test[0], str):
        test, beside = test
    if is_values(target) and test is not None and beside is None:
        raise InputError("the targets are given beside the table: give the test rows as (rows, targets), too")
    if beside is not None and not is_values(target):
        raise InputError("the test rows' targets are given beside them: give the training rows' as target, too")
    on_disk = isinstance(source, str | os.PathLike)
    given = {name: word for name, word in {"target": target, **words}.items() if name not in _LISTS}
    joins = {name: word for name, word in given.items() if is_values(word)}
    frame, names = _frame(source, "the frame", joins)
    roles = _from_frame.roles(task=task, **{name: words[name] for name in _LISTS}, **(given | names))
    test_frame = None
    if test is not None:
        joined = {} if beside is None else {"target": beside}
        test_frame, of_test = _frame(test, "the test frame", joined, frame.decimal_comma)
        if of_test and of_test["target"] != names["target"]:
            renamed = test_frame.table.rename(columns={of_test["target"]: names["target"]})
            test_frame = replace(test_frame, table=renamed)
    if test_frame is not None and _same(source, test):
        what = f"test file {test} holds" if on_disk else "test frame is"
        raise InputError(f"the {what} the training rows themselves; give other rows, or leave it out to draw some")
    return _from_frame.from_frame(
        frame,
        roles,
        test=test_frame,
        seed=seed,
        test_fraction=test_fraction,
        name=Path(source).name.split(".")[0] if on_disk else "table",
        source=str(source) if on_disk else "the table",
    )


def _same(source: Any, test: Any) -> bool:
    """Return whether two tables are one: a frame, a file, or a file and its copy."""
    if isinstance(source, str | os.PathLike) and isinstance(test, str | os.PathLike):
        return filecmp.cmp(source, test, shallow=False)
    return source is test


def _frame(source: Any, what: str, joins: dict[str, Any], decimal_comma: bool = False) -> tuple[Frame, dict[str, str]]:
    """Return a table with what is given beside it as columns, and these columns' names by their roles."""
    if isinstance(source, str | os.PathLike):
        frame = read_frame(Path(source), decimal_comma)
    else:
        if hasattr(source, "collect"):  # polars' lazy frame
            source = source.collect()
        if hasattr(source, "to_pandas"):
            source = source.to_pandas()
        if not hasattr(source, "iloc") or getattr(source, "ndim", 0) != 2:
            raise InputError(f"{what} must be a file's name or a pandas or polars frame, got {type(source).__name__}")
        frame = Frame(source, decimal_comma=decimal_comma)
    names, table, notes = {}, frame.table, list(frame.notes)
    for role, values in joins.items():
        table, names[role], role_notes = join(table, values, role)
        notes += role_notes
    if joins:
        frame = replace(frame, table=table, notes=tuple(notes))
    return (frame if isinstance(source, str | os.PathLike) and not joins else tidy(frame, what)), names


def _pair(test: Any) -> tuple[Any, Any] | None:
    if test is None:
        return None
    if not isinstance(test, tuple | list):
        raise InputError(f"test must be (inputs, targets), got {type(test).__name__}")
    pair = tuple(test)
    if len(pair) != 2:
        raise InputError(f"test must be (inputs, targets), got {len(pair)} parts")
    return pair[0], pair[1]


def _is_frame(source: Any) -> bool:
    return hasattr(source, "collect") or hasattr(source, "to_pandas") or hasattr(source, "iloc")


def _is_array(source: Any) -> bool:
    return hasattr(source, "__array__") or isinstance(source, list | tuple)
