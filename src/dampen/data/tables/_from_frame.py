"""From a pandas frame to `Data`: target, roles of columns, split, and what every column is."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from dampen._io import counted
from dampen.data import _duplicates, _splits, _target
from dampen.data._checks import as_weights
from dampen.data._dataset import Data
from dampen.data._leakage import noted
from dampen.data._new_data import encode_new
from dampen.data.tables import _formatted_numbers, _free_text, _identifiers, _spelling, _values, _written_numbers
from dampen.data.tables._columns import Columns
from dampen.data.tables._frame import Frame
from dampen.data.tables._infer_types import decide, numbers_only
from dampen.data.tables._pandas_types import Series, Table
from dampen.data.tables._totals import total_row
from dampen.errors import InputError

_SPECIAL = {"group": "the group", "weight": "the weight", "time_order": "the time order"}
_LEAST_OF_WORD = 2  # rows for whom `NA` is one group: left apart, they would be on both sides of a split
LEAST_ROWS = 20  # with a target: a tenth fewer could not be split into test rows and five informative folds


@dataclass(frozen=True)
class Roles:
    """Which columns are what; None where there is none.

    Args:
        target: to predict; None guesses.
        task: None guesses.
        drop: columns not to use.
        category: columns that are categories whatever they hold.
        text: columns of free text.
        codes: columns whose categories are codes, for a network that embeds them.
        group: rows with the same value stay together when rows are split.
        weight: how much a row counts.
        time_order: rows are split by it: earlier ones train, later ones evaluate.
    """

    target: str | None = None
    task: str | None = None
    drop: tuple[str, ...] = ()
    category: tuple[str, ...] = ()
    text: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    group: str | None = None
    weight: str | None = None
    time_order: str | None = None

    def given(self) -> list[str]:
        """Return the names of those that were given."""
        return [name for name, value in vars(self).items() if value not in (None, ())]


def from_frame(
    frame: Frame,
    roles: Roles,
    *,
    test: Frame | None,
    seed: int,
    test_fraction: float,
    name: str,
    source: str,
    every_column: bool = False,
) -> Data:
    """Make a `Data` of a table.

    Args:
        frame: the rows.
        roles: of its columns.
        test: the test rows, if they are in a file of their own.
        seed: of the draw of test rows.
        test_fraction: how many are drawn.
        name: of the data.
        source: where it was read from.
        every_column: whether all columns are numbers and inputs, whatever they hold.

    Raises:
        InputError: a column that is not there, or too little to learn from.
    """
    table, notes = frame.table, list(frame.notes)
    notes += filter(None, [total_row(table)])
    columns, source_name = list(table.columns), source
    source += frame.aside
    target_name = _target.find(columns, roles.target, source)
    special = {
        role: _target.existing(columns, wanted, role, source)
        for role, wanted in (("group", roles.group), ("weight", roles.weight), ("time_order", roles.time_order))
        if wanted is not None
    }
    if target_name in special.values():
        role = next(role for role, column in special.items() if column == target_name)
        raise InputError(f"column '{target_name}' can't be the target and the {role.replace('_', ' ')} too")
    dropped = [_target.existing(columns, column, "drop", source) for column in roles.drop]
    if target_name in dropped:
        raise InputError(f"column '{target_name}' is the target, it can't be dropped too")
    category = [_target.existing(columns, column, "category", source) for column in roles.category]
    text, codes = (
        list(dict.fromkeys(_target.existing(columns, column, role, source) for column in wanted))
        for role, wanted in (("text", roles.text), ("codes", roles.codes))
    )
    taken = [("the target", [target_name]), ("left out", dropped), ("a category", category)]
    taken += [(_SPECIAL[role], [column]) for role, column in special.items()]
    _refuse_text(table[text], taken)
    _refuse_codes(codes, [*taken, ("free text", text)])
    copies = [called for name, called in frame.again if name == target_name and called not in dropped]
    if copies:
        raise InputError(
            f"{source} has {len(copies) + 1} columns called '{target_name}', the target: rename or remove all but one, "
            f"or drop '{copies[0]}'"
        )
    for source_table in (frame, *([] if test is None else [test])):
        if target_name in source_table.uncomputed:
            raise InputError(
                f"target '{target_name}' holds formulas without values{source_table.aside}: open and save the file in "
                "a spreadsheet, which computes them"
            )
    task = roles.task
    if target_name in category:
        category, task = [column for column in category if column != target_name], task or "classification"
    target = _target.read(table[target_name], task, target_name, frame.decimal_comma)
    notes += target.notes
    numbered = np.flatnonzero(target.kept)
    table = table[target.kept]
    if len(table) < LEAST_ROWS:
        raise InputError(f"{source} has {len(table)} rows with a target, {LEAST_ROWS} is the least; add rows")
    numbers, n_train = target.numbers.copy(), len(table)
    test_table = None
    if test is not None:
        if target_name not in test.table.columns:
            raise InputError(f"the test file{test.aside} lacks the target '{target_name}'")
        test_target = _target.numbers_of(
            *(test.table[target_name], target.task, target.classes, target_name, "the test file"), test.decimal_comma
        )
        notes += [*test.notes, *test_target.notes]
        test_table = test.table[test_target.kept]
        numbers = np.concatenate([numbers, test_target.numbers])
        numbered = np.concatenate([numbered, np.flatnonzero(test_target.kept)])
    times = None
    if "time_order" in special:
        times = _ranks(table, test_table, special["time_order"])
        order = np.argsort(times[:n_train], kind="stable")
        table, numbers[:n_train] = table.iloc[order], numbers[:n_train][order]
        times[:n_train], numbered[:n_train] = times[:n_train][order], numbered[:n_train][order]
        if test_table is not None and special["time_order"] not in test_table.columns:
            notes.append(f"the test rows lack the time '{special['time_order']}': they count as the latest")
        early = int((times[n_train:] <= times[n_train - 1]).sum())
        if early:
            notes.append(f"{early} test row{'s are' if early > 1 else ' is'} not later than all training rows")
    weights = _of_both(table, test_table, special.get("weight"), _weights)
    groups, of_groups = _groups(table, test_table, special.get("group"))
    notes += of_groups
    if groups is not None and test_table is not None:
        notes += _on_both_sides(groups.numpy(), n_train, special["group"], special["group"] in test_table.columns)
    targets, all_rows = torch.from_numpy(numbers), torch.arange(n_train)
    ordered = times is not None
    of_times = None if times is None else torch.from_numpy(times)
    inputs = [c for c in columns if c not in (target_name, special.get("group"), special.get("weight"), *dropped)]
    if not inputs:
        raise InputError(f"{source} has no column beside the target to learn from")

    def drawn(groups: torch.Tensor | None, alike: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
        if test_table is not None:
            return all_rows, torch.arange(n_train, len(numbers))
        n_test = _splits.count(test_fraction, n_train, "test_fraction", zero_allowed=True)
        return _splits.draw(
            *(all_rows, targets, n_test),
            seed=seed,
            classes=target.classes,
            purpose=f"test rows of '{name}'",
            groups=groups,
            alike=alike,
            times=of_times,
        )

    def read(train_rows: torch.Tensor) -> tuple[Columns, torch.Tensor, list[str]]:
        some = table[inputs].iloc[train_rows.numpy()]
        decided = (
            numbers_only(some.to_numpy(np.float64), inputs)
            if every_column
            else decide(
                some,
                decimal_comma=frame.decimal_comma,
                time=special.get("time_order"),
                category=category,
                text=text,
                codes=codes,
                every=table[inputs],
            )
        )
        decided = replace(decided, decimal_comma=frame.decimal_comma, decimal_points=frame.decimal_points)
        raw = decided.encode(table, source)
        odd: list[str] = []
        if test is not None and test_table is not None:
            _refuse_thousands(decided, test_table, test.decimal_comma)
            of_test, _, odd = encode_new(decided, test_table, f"the test file{test.aside}", test.decimal_comma)
            raw = np.concatenate([raw, of_test])
        return decided, torch.from_numpy(raw), odd

    train_rows, test_rows = drawn(groups)
    decided, raw, odd = read(train_rows)
    # what the columns are follows from the training rows, and which rows are copies from what the columns are
    copies = _duplicates.find(raw)
    together = _duplicates.joined(groups, copies.together)
    if test_table is None and not ordered and together is not groups:
        train_rows, test_rows = drawn(together, copies.are(together))
        decided, raw, odd = read(train_rows)
    notes += _spelling.spelling_notes(decided)
    notes += _infinite(table, decided)
    notes += _unread_text(table, decided)
    notes += [f"test rows: {note}" for note in odd]
    reasons = [(c, "asked for") for c in dropped]
    needed_for = {"group": "it keeps rows together", "weight": "it weighs rows"}
    reasons += [(column, needed_for[role]) for role, column in special.items() if role in needed_for]
    may_repeat = [column for column in (*inputs, *dropped) if column not in text]
    repeating = () if ordered else _repeating(table[may_repeat], target, numbers, groups, train_rows)
    data = Data(
        name=name,
        task=target.task,  # type: ignore[arg-type]
        features=raw,
        targets=targets,
        train_rows=train_rows,
        test_rows=test_rows,
        classes=target.classes,
        feature_names=decided.numbers(),
        columns=replace(decided, dropped=(*decided.dropped, *reasons), repeating=repeating),
        weights=None if weights is None else torch.from_numpy(weights),
        groups=groups,
        times=of_times,
        numbered=None if np.array_equal(numbered, np.arange(len(numbered))) else torch.from_numpy(numbered),
        target_name=target_name,
        notes=tuple(notes),
        source=source_name,
    )
    data = replace(data, notes=(*data.notes, *(code.note for code in data.codes)))
    return noted(data.together())


def _refuse_text(table: Table, taken: Sequence[tuple[str, Sequence[str]]]) -> None:
    """Refuse columns of free text that are something else.

    Raises:
        InputError: there is such a column.
    """
    for name in table.columns:
        for role in (role for role, others in taken if name in others):
            raise InputError(f"text: column '{name}' can't be free text and {role} too; leave out one of them")
        other = _values.not_text(table[name])
        if other is not None:
            raise InputError(f"text: column '{name}' {other}, no free text; leave it out")


def _refuse_codes(names: Sequence[str], taken: Sequence[tuple[str, Sequence[str]]]) -> None:
    """Refuse columns of codes that are something else.

    Raises:
        InputError: there is such a column.
    """
    for name in names:
        for role in (role for role, others in taken if name in others):
            raise InputError(f"codes: column '{name}' can't be codes and {role} too; leave out one of them")


def _unread_text(table: Table, columns: Columns) -> list[str]:
    """Return a note on each column that is not used and looks like free text."""
    return [
        f"column '{name}' looks like free text and is not used: use text {name} to make inputs of its words"
        for name, why in columns.dropped
        if why.startswith("an identifier or text") and _free_text.looks_like_text(table[name])
    ]


def _repeating(
    table: Table,
    target: _target.Target,
    numbers: np.ndarray,
    groups: torch.Tensor | None,
    train_rows: torch.Tensor,
) -> tuple[tuple[str, str], ...]:
    rows = train_rows.numpy()
    targets = numbers[rows].astype(np.float64)[:, None]
    if target.classes is not None:
        targets = (targets == np.arange(len(target.classes))).astype(np.float64)
    return _identifiers.repeating(table, rows, targets, None if groups is None else groups.numpy()[: len(table)])


def _refuse_thousands(columns: Columns, table: Table, decimal_comma: bool) -> None:
    """Refuse test rows where a number may be a thousand or a fraction.

    Raises:
        InputError: there is such a number.
    """
    numbers = _written_numbers.read_numbers(columns, table, _written_numbers.writing(columns, table, decimal_comma))
    for name in (c.name for c in columns.used if c.kind == "number" and c.name in table.columns):
        text = _values.as_text(table[name][np.isnan(_values.as_numbers(numbers[name]))])
        unclear = text[_written_numbers.may_be_thousands(text)]
        if len(unclear):
            raise InputError(f"the test file: column '{name}' {_formatted_numbers.advice(str(unclear.iloc[0]))}")


def _of_both(table: Table, test: Table | None, column: str | None, read) -> np.ndarray | None:
    if column is None:
        return None
    parts = [read(table[column], column)]
    if test is not None:
        if column not in test.columns:
            raise InputError(f"the test file lacks the column '{column}'")
        parts.append(read(test[column], column))
    return np.concatenate(parts)


def _infinite(table: Table, columns: Columns) -> list[str]:
    """Return notes on infinite values among inputs."""
    counts = {
        column.name: int(np.isinf(_values.as_numbers(table[column.name], column.decimal_comma)).sum())
        for column in columns.used
        if column.kind == "number"
    }
    names = [name for name, n in counts.items() if n]
    if not names:
        return []
    of = f"column{'s' * (len(names) > 1)} {_target.listed(names, most=3)}"
    return [f"{counted(sum(counts.values()), 'infinite value')} in {of} treated as missing"]


def _on_both_sides(groups: np.ndarray, n_train: int, name: str, known: bool) -> list[str]:
    """Return notes on the groups of test rows that are given."""
    if not known:
        return [f"the test rows lack the group '{name}': whether their groups also train is unknown"]
    shared = np.isin(groups[n_train:], groups[:n_train])
    if not shared.any():
        return []
    n_groups, n_rows = len(np.unique(groups[n_train:][shared])), int(shared.sum())
    return [
        f"{counted(n_groups, 'group')} of '{name}' with {counted(n_rows, 'test row')} "
        f"{'is' if n_groups == 1 else 'are'} among the training rows too: the test figures may be too good"
    ]


def _weights(values: Series, name: str) -> np.ndarray:
    weights = _values.as_numbers(values)
    wrong = ~(np.isfinite(weights) & (weights >= 0))
    if wrong.any():
        raise InputError(f"weight '{name}' must be a number, 0 or larger, in every row; {int(wrong.sum())} rows differ")
    return as_weights(weights, f"weight '{name}'")


def _groups(table: Table, test: Table | None, column: str | None) -> tuple[torch.Tensor | None, list[str]]:
    """Return a number for each row's group, a row without one being a group of its own, and notes on odd ones."""
    import pandas as pd

    if column is None:
        return None, []
    known = _values.as_text(table[column])
    if test is not None and column in test.columns:
        known = pd.concat([known, _values.as_text(test[column])])
    known = _values.settled(known, _LEAST_OF_WORD)
    codes = np.full(len(table) + (0 if test is None else len(test)), -1)
    codes[: len(known)] = pd.factorize(known)[0]
    alone = codes < 0
    codes[alone] = codes.max(initial=-1) + 1 + np.arange(int(alone.sum()))
    words = known[known.isin((*_values.WORDS, *_values.SYMBOLS))].value_counts()
    notes = [
        f"group '{column}': '{word}' in {counted(int(n), 'row')} is treated as a group; leave these cells empty if "
        "they are missing"
        for word, n in words.items()
    ]
    n_missing = int(known.isna().sum())
    if n_missing:
        notes.append(f"group '{column}' is missing in {counted(n_missing, 'row')}: each is a group of its own")
    return torch.from_numpy(codes), notes


def _ranks(table: Table, test: Table | None, name: str) -> np.ndarray:
    """Return the rank of each row's time, numbers or dates, of the test rows too; without one they come last."""
    import pandas as pd

    values = table[name]
    known = test is not None and name in test.columns
    if known and test is not None:
        values = pd.concat([values, test[name]])
    numbers: np.ndarray = _values.as_numbers(values)
    if np.isnan(numbers).all():
        text = _values.plain(_values.as_text(values)).dropna()
        times = pd.api.types.is_datetime64_any_dtype(values.dtype)
        format = None if times or not len(text) else _values.date_format(text)
        if not times and format is None and pd.api.types.infer_dtype(values, skipna=True) not in ("date", "datetime"):
            raise InputError(f"time order '{name}' must hold numbers or dates, such as 2024-12-31")
        numbers = _values.as_days(values, format)
    if np.isnan(numbers).any():
        _refuse_timeless(values, numbers, len(table), name)
    whole = _values.as_whole(values)
    ranks = np.unique(numbers if whole is None else whole, return_inverse=True)[1].astype(np.int64)
    if test is not None and not known:
        ranks = np.concatenate([ranks, np.full(len(test), ranks.max() + 1)])
    return ranks


def _refuse_timeless(values: Series, numbers: np.ndarray, n_train: int, name: str) -> None:
    """Name the rows without a time.

    Raises:
        InputError: always.
    """
    missing = np.flatnonzero(np.isnan(numbers))
    here = missing[missing < n_train] if (missing < n_train).any() else missing
    at = [str(values.index[i]) for i in here[:5]]
    where = "" if here[0] < n_train else " of the test file"
    cells = _values.as_text(values.iloc[here]).dropna().unique()
    holds = f", where it holds {_target.listed(list(map(str, cells)), most=3)}" * (len(cells) > 0)
    raise InputError(
        f"time order '{name}' is missing in {len(here)} row{'s' * (len(here) > 1)}{where} ({', '.join(at)}"
        f"{', ...' * (len(here) > 5)}, counting from 0 below the column names){holds}: fill in when these rows "
        "were taken, remove them, or leave time_order out"
    )


def roles(
    target: str | None,
    task: str | None,
    drop: str | Sequence[str] = (),
    group: str | None = None,
    weight: str | None = None,
    time_order: str | None = None,
    category: str | Sequence[str] = (),
    text: str | Sequence[str] = (),
    codes: str | Sequence[str] = (),
) -> Roles:
    """Return the roles that a user's words mean."""
    dropped, categories, texts, coded = (
        (of,) if isinstance(of, str) else tuple(of) for of in (drop, category, text, codes)
    )
    return Roles(target, task, dropped, categories, texts, coded, group, weight, time_order)
