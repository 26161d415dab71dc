"""Rows with equal inputs, and rows of one person: kept on one side of every split, counted, named."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dampen import from_arrays, load
from dampen._schema import converted
from dampen.data import Columns, Data, Leaks, leaks

RNG = np.random.default_rng(0)
ONE_SIDE = "copies stay on one side of every split"


def contents(data: Data, rows: torch.Tensor) -> set[bytes]:
    return {data.features[row].numpy().tobytes() for row in rows.tolist()}


def apart(data: Data) -> bool:
    sides = [contents(data, rows) for rows in (data.train_rows, data.validation_rows, data.test_rows)]
    return sum(map(len, sides)) == len(set.union(*sides))


def coins(n: int = 100, copies: int = 5) -> pd.DataFrame:
    frame = pd.DataFrame(RNG.normal(size=(n, 4)), columns=list("abcd")).assign(y=RNG.integers(0, 2, n))
    return pd.concat([frame] * copies)


def as_frame() -> Data:
    return load(coins(), target="y")


def as_frame_with_numbered_rows() -> Data:
    return load(coins().assign(id=range(500)), target="y")


def as_array() -> Data:
    frame = coins()
    return load(frame[list("abcd")].to_numpy(), target=frame["y"].to_numpy())


def as_images() -> Data:
    pixels = np.tile(RNG.integers(0, 255, (100, 3, 3), dtype=np.uint8), (5, 1, 1))
    return from_arrays(pixels, np.arange(500) % 3)  # copies differ in their class


def as_values() -> Data:
    frame = coins()
    return load(frame.assign(y=RNG.normal(size=500)), target="y")  # and in their value


def by_hand() -> Data:
    features = torch.randn(60, 3).repeat(5, 1)
    targets = torch.arange(300) % 2
    return Data(name="x", task="classification", features=features, targets=targets, train_rows=torch.arange(300),
                classes=("a", "b"))  # fmt: skip


@pytest.mark.parametrize("make", [as_frame, as_frame_with_numbered_rows, as_array, as_images, as_values, by_hand])
def test_copies_are_on_one_side_of_every_split(make):
    data = make()
    splits = [data, data.with_validation(0.2, seed=1), *data.folds(5, repeats=2, seed=2)]
    assert all(map(apart, splits))
    assert len(splits[1].validation_rows) == len(data.train_rows) // 5
    assert make is by_hand or data.notes[-1] == f"400 of 500 rows are copies of another row: {ONE_SIDE}"
    for repetition in (splits[2:7], splits[7:]):
        held = torch.cat([fold.validation_rows for fold in repetition])
        assert held.sort().values.equal(data.train_rows)


def test_a_group_of_copies_is_one_observation():
    data = by_hand().with_validation(0.2)
    assert len(data.validation.groups.unique()) == len(contents(data, data.validation_rows)) == 12


def test_equal_rows_with_different_targets_are_one_set_for_the_estimators():
    from dampen.estimators._rows import as_data, columns_of, merged

    x = np.tile(RNG.normal(size=(80, 3)), (2, 1))
    rows = merged(x, np.repeat([0, 1], 80), np.ones(160))
    data = as_data(rows, columns_of(rows.table, None), ("no", "yes"))
    assert len(data.train_rows) == 160
    assert all(map(apart, data.folds(5)))


@given(values=st.lists(st.lists(st.sampled_from([0.0, -0.0, 1.0, float("nan"), 1e30]), min_size=3, max_size=3),
                       min_size=2, max_size=40))  # fmt: skip
def test_rows_are_copies_if_all_values_are_equal_or_both_missing(values):
    array = np.array(values, dtype=np.float32)
    columns = Columns(load(coins(), target="y").columns.used[:3])
    n = len(array)
    data = Data(name="x", task="regression", features=torch.from_numpy(array), targets=torch.zeros(n),
                train_rows=torch.arange(n), columns=columns)  # fmt: skip
    assert leaks(data).copies == pd.DataFrame(array).duplicated().sum()


def test_few_copies_leave_the_classes_their_shares_and_sizes():
    x, y = RNG.normal(size=(2000, 3)), np.repeat([0, 1], [200, 1800])
    x[100:120] = x[:20]
    data = load(x, target=y).with_validation(0.2)
    for rows, share in ((data.test_rows, 0.25), (data.validation_rows, 0.15), (data.train_rows, 0.6)):
        assert len(rows) == pytest.approx(share * 2000, abs=10)
        assert (data.targets[rows] == 0).double().mean().item() == pytest.approx(0.1, abs=0.01)


def test_a_class_of_copies_of_one_row_does_not_stop_the_splits():
    x, y = RNG.normal(size=(200, 3)), np.repeat([0, 1], [190, 10])
    x[190:] = x[190]
    data = load(x, target=y)
    assert all(map(apart, [data, data.with_validation(), *data.folds(5)]))


def test_a_test_set_that_is_given_is_kept_and_its_copies_of_training_rows_are_counted():
    x, y = RNG.normal(size=(100, 3)), np.arange(100) % 2
    data = from_arrays(x[:60], y[:60], test=(x[50:], y[50:]))
    assert data.test_rows.tolist() == list(range(60, 110))
    assert data.notes == ("10 test rows are equal to training rows: the test figures may be too good",)
    assert leaks(data) == Leaks(copies=10, test_copies=10)
    assert leaks(data).document() == {"copies": 10, "test_copies": 10, "identifiers": []}
    frame = coins(copies=1)
    data = load(frame, target="y", test=frame.iloc[70:].assign(y=0))
    assert leaks(data) == Leaks(copies=30, test_copies=30)


def test_rows_in_the_order_of_time_keep_it_and_their_copies_are_told():
    data = load(coins().assign(day=np.repeat(range(5), 100)), target="y", time_order="day")
    assert data.test_rows.tolist() == list(range(400, 500))  # five days, of which the last one comes later
    assert data.notes[-2:] == (
        "400 of 500 rows are copies of another row: the order of time may put them on both sides of a split",
        "100 test rows are equal to training rows: the test figures may be too good",
    )


def test_rows_that_repeat_because_columns_hold_few_values_are_split_like_others():
    """Class, age and sex of 2201 people on a ship: 14 different rows."""
    cells = {"c+m": 862, "3+m": 462, "2+m": 168, "1+m": 175, "c+f": 23, "3+f": 165, "2+f": 93, "1+f": 144,
             "3-m": 48, "3-f": 31, "2-m": 11, "2-f": 13, "1-m": 5, "1-f": 1}  # fmt: skip
    people = pd.DataFrame([list(cell) for cell, n in cells.items() for _ in range(n)], columns=["class", "age", "sex"])
    people["survived"] = RNG.random(2201) < np.where(people["sex"] == "f", 0.7, 0.2)
    data = load(people, target="survived")
    assert data.groups is None
    assert data.notes == (
        "2187 of 2201 rows are copies of another row: the columns hold so few values that rows repeat by themselves, "
        "on both sides of every split",
    )


def test_too_few_different_rows_are_split_like_others_and_that_is_told():
    data = load(np.tile(RNG.normal(size=(12, 4)), (10, 1)), target=np.arange(120) % 2)
    assert len(data.test_rows) == 30
    assert data.notes[1].startswith("108 of 120 rows are copies of another row: too few rows are different")
    assert data.notes[2] == "30 test rows are equal to training rows: the test figures may be too good"


def test_copies_that_would_fill_a_fold_are_split_like_others():
    x = RNG.normal(size=(1000, 4))
    x[:300], x[300:330] = 0, x[900:930]
    data = load(x, target=np.arange(1000) % 2)
    assert 230 < len(data.test_rows) < 270
    empty = (data.features == 0).all(1)
    assert empty[data.test_rows].sum() == leaks(data).test_copies > 50
    assert data.notes[1].startswith(f"329 of 1000 rows are copies of another row: {ONE_SIDE}, but for rows")


def test_copies_in_two_groups_join_these_groups():
    frame = coins(300, 1).assign(who=[f"p{i}" for i in np.arange(300) // 5])
    frame.iloc[0, :4] = frame.iloc[7, :4]
    frame.iloc[6, :4] = frame.iloc[12, :4]
    data = load(frame, target="y", group="who")
    assert len(data.groups.unique()) == 58
    assert len(data.groups[:15].unique()) == 1
    for split in (data, data.with_validation(), *data.folds(5)):
        held = torch.cat([split.validation_rows, split.test_rows])
        assert not set(data.groups[split.train_rows].tolist()) & set(data.groups[held].tolist())


def test_groups_that_copies_would_all_link_stay_as_they_are_and_that_is_told():
    frame = coins(200, 2).assign(who=[f"p{i}" for i in np.arange(400) // 8])  # 50 people, each row with two of them
    frame.iloc[200:, :4] = np.roll(frame.iloc[200:, :4].to_numpy(), 4, axis=0)
    data = load(frame, target="y", group="who")
    assert len(data.groups.unique()) == 50
    assert "they would link nearly all groups" in data.notes[-2]


def test_images_of_one_content_are_on_one_side_and_hidden_files_are_passed_by(tmp_path):
    pixels = RNG.integers(0, 255, (30, 8, 6), dtype=np.uint8)
    for i in range(60):
        folder = tmp_path / ("cat", "dog")[i % 2]
        folder.mkdir(exist_ok=True)
        Image.fromarray(pixels[i // 2]).save(folder / f"{i}.{('png', 'bmp')[i % 2]}")
    for hidden in (".ipynb_checkpoints/cat.png", "__MACOSX/cat/._0.png", "cat/.x.png", "dog/.ipynb_checkpoints/1.png"):
        (tmp_path / hidden).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / hidden).write_text("no image")
    data = load(tmp_path)
    assert data.classes == ("cat", "dog")
    assert len(data.targets) == 60
    assert all(map(apart, [data, data.with_validation(), *data.folds(5)]))
    assert data.notes == (
        "4 hidden images (.name, __MACOSX) ignored",
        f"30 of 60 rows are copies of another row: {ONE_SIDE}",
    )


def test_a_class_that_groups_leave_to_the_test_rows_alone_is_named():
    frame = coins(100, 1).assign(who=np.arange(100) // 25)
    frame["y"] = frame["who"].map({0: "a", 1: "b", 2: "c", 3: "d"})
    data = load(frame, target="y", group="who")
    alone = set(data.targets[data.test_rows].tolist())
    assert data.notes == tuple(
        f"test rows have classes that no training row has ('{data.classes[c]}'): they can't be learnt" for c in alone
    )


def visits(name: str, values: list, y: list) -> pd.DataFrame:
    """60 people, ten rows each, in no order."""
    rows = pd.DataFrame({name: values, "y": y}).loc[np.arange(60).repeat(10)]
    numbers = pd.DataFrame(RNG.normal(size=(600, 2)), columns=["a", "b"])
    counts = pd.DataFrame({"visits": RNG.poisson(30, 600), "age": RNG.integers(20, 90, 600)})
    return pd.concat([rows.reset_index(drop=True), numbers, counts], axis=1).sample(frac=1, random_state=0)


COINS = RNG.integers(0, 2, 60).tolist()


@pytest.mark.parametrize(
    ("name", "values", "y"),
    [
        ("patient", list(range(100, 160)), RNG.normal(size=60).tolist()),
        ("Customer ID", [f"c{i}" for i in range(60)], COINS),
        ("userId", list(range(60)), COINS),
        ("x17", [f"{i:08x}" for i in RNG.integers(0, 2**31, 60)], COINS),  # by the target alone
        ("x17", list(range(1000, 1060)), RNG.normal(size=60).tolist()),
    ],
)
@pytest.mark.parametrize("options", [{}, {"drop": True}])
def test_a_repeating_identifier_is_named(name, values, y, options):
    data = load(visits(name, values, y), target="y", drop=[name] if options else ())
    assert data.notes[-1] == (
        f"column '{name}' looks like an identifier that repeats (60 values in 600 rows): if rows of one belong "
        f"together, use group {name}, else they are on both sides of every split"
    )
    assert leaks(data).identifiers == (name,)
    assert converted(data.columns.plain(), Columns, "columns") == data.columns


def test_the_groups_themselves_and_what_lies_within_them_are_not_named():
    frame = visits("patient", list(range(60)), COINS)
    frame["session_id"] = frame["patient"] * 100 + RNG.integers(0, 3, 600)
    assert leaks(load(frame, target="y")).identifiers == ("patient", "session_id")
    assert leaks(load(frame, target="y", group="patient")).identifiers == ()


def test_ordinary_columns_are_no_identifiers():
    from sklearn import datasets

    for name in ("iris", "wine", "breast_cancer", "diabetes", "digits"):
        frame = getattr(datasets, f"load_{name}")(as_frame=True).frame
        assert leaks(load(frame, target="target")).identifiers == ()
    n = 2000
    city, age = RNG.integers(0, 200, n), RNG.integers(18, 90, n)
    frame = pd.DataFrame({"age": age, "rooms": RNG.poisson(30, n), "city": [f"c{i}" for i in city],
                          "day": pd.date_range("2020-01-01", periods=100).repeat(20).astype(str)})  # fmt: skip
    cities = RNG.normal(size=200)[city] + 0.5 * RNG.normal(size=n)
    for y in ((age > 50).astype(int), 0.1 * age, cities, RNG.normal(size=100).repeat(20)):
        assert leaks(load(frame.assign(y=y), target="y")).identifiers == ()
