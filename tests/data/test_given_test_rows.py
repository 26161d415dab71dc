"""Test rows that are given: what is odd about them beside the training rows is told."""

import numpy as np
import pandas as pd
import pytest

from dampen import load

N, N_TEST = 80, 40
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N + N_TEST, 3))
FRAME = pd.DataFrame(X, columns=list("abc")).assign(
    k=RNG.choice(list("rg"), N + N_TEST), y=np.where(X[:, 0] > 0, "p", "q"), g=np.arange(N + N_TEST) // 6
)
FRAME["d"] = (pd.Timestamp("2020") + pd.to_timedelta(np.arange(N + N_TEST) % N, unit="D")).strftime("%Y-%m-%d")
TRAIN, TEST = FRAME[:N], FRAME[N:]


@pytest.mark.parametrize(
    ("how", "changed", "note"),
    [
        ("file", {"a": "x"}, "column 'a' is not a number in 40 rows ('x'): replaced by the median"),
        ("frame", {"a": "3,14"}, "column 'a' is not a number in 40 rows ('3,14'): replaced by the median"),
        (
            "frame",
            {"b": np.nan},
            "column 'b' is missing in 40 rows, in the training rows it never is: replaced by the median",
        ),
        ("frame", {"b": np.inf}, "column 'b' is not a number in 40 rows ('inf'): replaced by the median"),
        (
            "frame",
            {"k": "zz"},
            "column 'k' has a value that the training rows lack in 40 rows ('zz'): encoded as none of them",
        ),
        ("file", {"d": "31.12.2020"}, "column 'd' is not a date in 40 rows ('31.12.2020'): replaced by the middle"),
    ],
)
def test_values_that_can_not_be_read_as_in_the_training_rows_are_told(how, changed, note, tmp_path):
    train, test = TRAIN, TEST.assign(**changed)
    if how == "file":
        for name, frame in (("train.csv", train), ("test.csv", test)):
            frame.to_csv(tmp_path / name, index=False)
        train, test = tmp_path / "train.csv", tmp_path / "test.csv"
    assert load(train, target="y", test=test, drop="g").notes == (f"test rows: {note}",)


def test_missing_values_of_test_arrays_are_told():
    holes = np.where(np.arange(N_TEST)[:, None] % 5 == 0, X[N:] * [np.nan, 1.0, 1.0], X[N:])
    assert load(X[:N], target=FRAME.y[:N], test=(holes, FRAME.y[N:])).notes == (
        "test rows: column 'x0' is missing in 8 rows, in the training rows it never is: replaced by the median",
    )


def test_groups_on_both_sides_are_counted_and_unknown_ones_told():
    shared = load(TRAIN, target="y", group="g", test=TEST)  # group 13 ends two rows after the training rows
    assert shared.notes == (
        "1 group of 'g' with 4 test rows is among the training rows too: the test figures may be too good",
    )
    assert load(TRAIN, target="y", group="g", test=TEST[4:]).notes == ()  # nor is anything else told
    lacking = "the test rows lack the group '{}': whether their groups also train is unknown"
    assert load(TRAIN, target="y", group="g", test=TEST.drop(columns="g")).notes == (lacking.format("g"),)
    beside = load(X[:N], target=FRAME.y[:N], group=FRAME.g.to_numpy()[:N], test=(X[N:], FRAME.y[N:]))
    assert beside.notes == (lacking.format("group"),)


def test_test_rows_without_the_time_are_told():
    ordered = TRAIN.assign(t=np.arange(N) // 4)
    assert (
        "the test rows lack the time 't': they count as the latest"
        in load(ordered, target="y", drop="g", time_order="t", test=TEST).notes
    )
