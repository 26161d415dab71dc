"""Panel data: later rows evaluate, and rows of one group are on one side."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dampen
from dampen.data import held_out, load
from dampen.errors import InputError


def panel(spans, shuffle=0):
    """Return a frame with a group for each `(begin, end)`, a row a day."""
    rows = [(group, day) for group, (begin, end) in enumerate(spans) for day in range(begin, end + 1)]
    frame = pd.DataFrame(rows, columns=["firm", "day"]).sample(frac=1, random_state=shuffle, ignore_index=True)
    rng = np.random.default_rng(0)
    return frame.assign(x=rng.normal(size=len(frame)), y=rng.normal(size=len(frame)))


def sides(data, frame):
    """Return the times and groups of each side's rows: `x` tells which row of the frame it is."""
    of = {round(x, 5): (day, firm) for x, day, firm in zip(frame.x, frame.day, frame.firm, strict=True)}
    column = data.feature_names.index("x")
    selection, evaluation = held_out(data, 0)
    parts = [data.train_rows if len(data.validation_rows) else selection.train_rows]
    parts += [selection.validation_rows, evaluation.validation_rows, data.test_rows]
    return [[of[round(float(data.features[i, column]), 5)] for i in part] for part in parts]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 99), st.integers(40, 48), st.integers(1, 4))
def test_later_rows_evaluate_and_no_group_is_on_two_sides(seed, n, length):
    rng = np.random.default_rng(seed)
    spans = [(i * length, i * length + int(rng.integers(length))) for i in range(n)]
    spans[1] = (0, spans[1][1])  # two that overlap
    frame = panel(spans, seed)
    parts = sides(load(frame, target="y", group="firm", time_order="day", test_fraction=0.4), frame)
    for earlier, later in itertools.pairwise(parts):
        assert earlier
        assert later
        assert max(day for day, _ in earlier) < min(day for day, _ in later)
        assert not {firm for _, firm in earlier} & {firm for _, firm in later}


def test_the_cut_is_the_one_that_is_nearest_among_all_that_split_neither_a_time_nor_a_group():
    spans = [(0, 9), (5, 14), (15, 24), (20, 29), (30, 39), (40, 49)]
    frame = panel(spans)
    data = load(frame, target="y", group="firm", time_order="day", test_fraction=0.2)
    assert (len(data.train_rows), len(data.test_rows)) == (50, 10)  # 12 rows are asked for, 10 or 20 are possible
    assert len(data.with_validation(0.25).validation_rows) == 10  # 13 of 50 are asked for, 10 or 30 are possible


def test_groups_that_last_all_the_time_are_refused_in_one_line():
    frame = panel([(0, 30), (0, 30), (0, 30)])
    with pytest.raises(InputError, match="no time has all rows of every group on one side of it") as refusal:
        dampen.load(frame, target="y", group="firm", time_order="day")
    assert "\n" not in str(refusal.value)
