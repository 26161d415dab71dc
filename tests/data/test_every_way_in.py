"""A table gives the same study whichever way it comes in: file, frame of objects or of types, array, estimator."""

import warnings

import numpy as np
import pandas as pd
import polars
import pytest
import torch

from dampen import DampenClassifier, DampenRegressor, InputError, load
from dampen.estimators._rows import columns_of, encoded

N = 240
RNG = np.random.default_rng(0)
DAYS = pd.date_range("2021-01-03", periods=N, freq="31h")


def numbers(**columns) -> pd.DataFrame:
    return pd.DataFrame({"a": RNG.normal(size=N), "b": RNG.normal(size=N).round(2), **columns})


def with_holes(values, word="", share=0.1):
    return np.where(RNG.random(N) < share, word, np.asarray(values).astype(str).astype(object))


CLASSES = RNG.choice(["red", "green", "blue"], N)
TABLES = {  # as text, each with its target and its task
    "numbers": (numbers(), RNG.normal(size=N).astype(str), "regression"),
    "holes": (numbers(c=with_holes(RNG.normal(size=N)), d=with_holes(RNG.integers(0, 99, N), "NA")),
              CLASSES, "classification"),
    "categories": (numbers(c=CLASSES, d=RNG.choice(["True", "False"], N), e=RNG.choice(["TRUE", "FALSE"], N)),
                   RNG.integers(1, 4, N).astype(str), "classification"),
    "words": (numbers(c=RNG.choice(["None", "Pave", "Grvl"], N), d=with_holes(CLASSES, "n/a", 0.01)),
              RNG.choice(["None", "Apnea", "Insomnia"], N, p=[0.6, 0.2, 0.2]), "classification"),
    "codes": (numbers(c=[f"{z:05d}" for z in RNG.integers(9, 30, N) * 1000], d=RNG.choice(["007", "07", "7"], N)),
              RNG.choice(["01", "02", "10"], N), "classification"),
    "dates": (numbers(c=DAYS.strftime("%d-%m-%Y"), d=DAYS.strftime("%m/%d/%Y %I:%M %p"), e=DAYS.strftime("%d %B %Y"),
                      f=np.where(np.arange(N) == 7, "0000-00-00", DAYS.strftime("%Y-%m-%d"))),
              RNG.normal(size=N).astype(str), "regression"),
    "dropped": (numbers(index=np.arange(N) % 100, c="same", d=[f"row {i}" for i in range(N)],
                        e=[f"€{v:,.2f}" for v in RNG.gamma(2, 900, N)]),
                RNG.choice(["yes", "no"], N), "classification"),
    "odd cells": (numbers(c=np.where(np.arange(N) == 3, "n/k", RNG.normal(size=N).astype(str))),
                  np.where(np.arange(N) == 5, "unknown", RNG.integers(0, 200, N).astype(str)), "regression"),
}  # fmt: skip


def ways(table: pd.DataFrame, target: np.ndarray, folder) -> dict:
    """The table as text, as objects, as types, as polars, and with the target beside it."""
    whole = table.assign(y=target).astype(str)
    for name, ending in (("comma", ","), ("tab", "\t"), ("semicolon", ";")):
        whole.to_csv(folder / f"{name}.csv", index=False, sep=ending)
    whole.to_parquet(folder / "table.parquet")
    whole.to_excel(folder / "table.xlsx", index=False)
    read = pd.read_csv(folder / "comma.csv", keep_default_na=False, dtype=str)
    types = read.apply(as_typed)
    beside = read.drop(columns="y")
    found = {name: {"source": folder / f"{name}.csv"} for name in ("comma", "tab", "semicolon")}
    found |= {name: {"source": folder / f"table.{name}"} for name in ("parquet", "xlsx")}
    found["objects"] = {"source": read.astype(object)}
    found["types"] = {"source": types}
    found["polars"] = {"source": polars.from_pandas(read)}
    found["beside"] = {"source": beside, "target": read["y"]}
    found["beside, an array"] = {
        "source": types.drop(columns="y"),
        "target": pd.Series(types["y"].to_numpy(), name="y"),
    }
    found["beside, polars"] = {"source": polars.from_pandas(beside), "target": polars.Series("y", read["y"].tolist())}
    found["file and series"] = {"source": folder / "comma.csv", "target": read["y"], "drop": []}
    return found


def as_typed(column: pd.Series) -> pd.Series:
    """Numbers as numbers and truth values as such, where nothing else and no leading zero is in the column."""
    if column.isin(["True", "False"]).all():
        return column == "True"
    filled = column.replace("", np.nan)
    if filled.str.match(r"0\d").any() or pd.to_numeric(filled, errors="coerce").isna().sum() > filled.isna().sum():
        return filled
    return pd.to_numeric(filled)


@pytest.mark.parametrize("name", TABLES)
def test_every_way_in_gives_the_same_task_classes_inputs_and_notes(name, tmp_path):
    table, target, task = TABLES[name]
    first = None
    for way, options in ways(table, target, tmp_path).items():
        data = load(**({"target": "y"} | options))
        told = data.columns.summary(data.outputs)
        if first is None:
            first, first_told = data, told
            assert data.task == task
        assert (data.task, data.classes, data.notes, told) == (first.task, first.classes, first.notes, first_told), way
        assert data.targets.equal(first.targets), way
        assert data.test_rows.equal(first.test_rows), way
        torch.testing.assert_close(data.train.features, first.train.features, rtol=1e-6, atol=1e-6, msg=way)


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("typed", [False, True])
def test_an_estimator_reads_a_frame_as_load_does_and_warns_of_what_it_does_not_use(name, typed, tmp_path):
    table, target, task = TABLES[name]
    whole = table.assign(y=target).astype(str)
    data = load(whole, target="y", test_fraction=0.0)
    frame = whole.drop(columns="y").apply(as_typed) if typed else whole.drop(columns="y")
    frame = frame.iloc[: len(data.targets)] if name == "odd cells" else frame
    if name == "odd cells":  # of which one row has no target
        frame = whole.drop(columns="y").drop(index=5).reset_index(drop=True)
    kind = DampenClassifier if task == "classification" else DampenRegressor
    model = kind((4,), n_settings=2, n_seeds=1, epochs=1, n_confirm_seeds=2, random_state=0)
    X, _ = model._read(frame, data.targets.numpy())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        columns = columns_of(X, None if model._mixed else frame.columns)
    assert columns.used == data.columns.used
    assert sorted(columns.dropped) == sorted(data.columns.dropped)
    warned = " ".join(str(warning.message) for warning in caught)
    assert all(f"'{column}' is not used" in warned for column, _ in columns.dropped)
    assert "'c': 1 not a number ('n/k'), treated as missing" in warned or name != "odd cells"
    features = encoded(columns, X, None if model._mixed else frame.columns)
    torch.testing.assert_close(features, data.features, equal_nan=True)


def test_an_array_is_the_frame_of_its_numbers(tmp_path):
    x, y = RNG.normal(size=(N, 3)), RNG.integers(0, 2, N)
    x[3, 1] = np.nan
    frame = pd.DataFrame(x, columns=["x0", "x1", "x2"]).assign(target=y)
    np.savez(tmp_path / "arrays.npz", x=x, y=y)
    expected = load(frame)
    for data in (
        load(x, target=y),
        load(torch.from_numpy(x), target=torch.from_numpy(y)),
        load(x.tolist(), target=y.tolist()),
        load(torch.utils.data.TensorDataset(torch.from_numpy(x), torch.from_numpy(y))),
        load(tmp_path / "arrays.npz"),
        load(x.astype(object), target=y),
    ):
        assert (data.task, data.classes, data.notes) == (expected.task, expected.classes, expected.notes)
        assert data.train.features.equal(expected.train.features)
        assert data.test.features.equal(expected.test.features)
    own = load(x, target=y, test=(x[:30] + 1, y[:30]))
    assert own.test.features.equal(load(frame, test=frame.iloc[:30].add([1, 1, 1, 0])).test.features)


ROLES = {"group": np.arange(N) // 6, "weight": RNG.random(N).round(3), "time_order": DAYS[::-1]}


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("convert", [pd.Series, np.asarray, list])
@pytest.mark.parametrize("kind", ["frame", "array"])
def test_a_role_that_is_given_beside_the_rows_is_what_its_column_is(role, convert, kind):
    x, y = numbers().set_axis(["x0", "x1"], axis=1), RNG.normal(size=N)
    expected = load(x.assign(**{role: ROLES[role], "y": y}), target="y", **{role: role})
    values = convert(ROLES[role])
    rows = x if kind == "frame" else x.to_numpy()
    data = load(rows, target=y, **{role: values})
    assert data.train_rows.equal(expected.train_rows)
    assert data.targets.equal(expected.targets)
    for name in ("groups", "weights", "times"):
        found, wanted = getattr(data, name), getattr(expected, name)
        assert (found is None) == (wanted is None)
        assert found is None or found.equal(wanted)
    if kind == "frame":
        assert data.train.features.equal(expected.train.features)


@pytest.mark.parametrize("how", ["frame", "csv", "array", "npz"])
def test_an_infinite_input_is_missing_and_told(how, tmp_path):
    frame = numbers(y=CLASSES)
    infinite = frame.assign(a=np.where(np.arange(N) % 80 == 7, -np.inf, frame.a), b=frame.b.replace(frame.b[3], np.inf))
    missing = infinite.replace([np.inf, -np.inf], np.nan)

    def read(table):
        if how == "frame":
            return load(table, target="y")
        if how == "csv":
            table.to_csv(tmp_path / "t.csv", index=False)
            return load(tmp_path / "t.csv", target="y")
        if how == "array":
            return load(table[["a", "b"]].to_numpy(), target=table.y.to_numpy())
        np.savez(tmp_path / "t.npz", x=table[["a", "b"]].to_numpy(), y=table.y.to_numpy(str))
        return load(tmp_path / "t.npz")

    found, reference = read(infinite), read(missing)
    assert found.train.features.equal(reference.train.features)
    n = int(np.isinf(infinite[["a", "b"]]).to_numpy().sum())
    assert [note for note in found.notes if "infinite" in note] == [
        f"{n} infinite values in columns {', '.join(repr(c.name) for c in found.columns.used)} treated as missing"
    ]


def test_columns_are_named_as_the_frame_names_them():
    frame = numbers(c=np.arange(N) % 7, y=CLASSES)
    levels = frame.set_axis(pd.MultiIndex.from_product([["A"], frame.columns]), axis=1)
    reference = load(frame, target="y", drop=["a"], group="c")
    found = load(levels, target=("A", "y"), drop=[("A", "a")], group=("A", "c"))
    assert [column.name for column in found.columns.used] == ["A_b"]
    assert found.train.features.equal(reference.train.features)
    assert load(levels[:180], target=("A", "y"), drop=("A", "a"), test=levels[180:]).inputs == (2,)
    numbered = frame.set_axis(range(4), axis=1)
    assert load(numbered, target=3, drop=[0], group=np.int64(2)).train.features.equal(reference.train.features)
    for source, name, line in ((levels, ("A", "z"), "no column 'A_z'"), (numbered, 7, r"no column '7' \(target\)")):
        with pytest.raises(InputError, match=line):
            load(source, target=name)
    with pytest.raises(InputError, match="no columns with names"):
        load(frame[["a", "b"]].to_numpy(), target=1)


def test_values_beside_a_frame_are_joined_by_their_index_or_their_place():
    frame = numbers(y=RNG.normal(size=N)).sample(frac=1, random_state=0)
    x, y = frame[["a", "b"]], frame["y"]
    expected = load(frame, target="y")
    for target in (y, y.to_frame(), y.to_numpy(), y.tolist(), y.to_numpy()[:, None], y.sort_index()):
        data = load(x, target=target)
        assert data.targets.equal(expected.targets)
    assert load(x, target=y.sort_index()).notes == ("the target's values are matched to the rows by their index",)
    same = load(frame, target=frame["y"])  # the column itself
    assert [column.name for column in same.columns.used] == ["a", "b"]
    copy = load(frame, target=frame["y"].to_numpy())
    assert [column.name for column in copy.columns.used] == ["a", "b"]
    assert "column 'y' equals the target: not used" in copy.notes
    test = load(x.iloc[:180], target=y.iloc[:180], test=(x.iloc[180:], y.iloc[180:]))
    assert test.test_rows.tolist() == list(range(180, N))


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        (np.zeros(5), {}, "target has 5 values for 240 rows; give one for each row"),
        (["a", "b"], {}, "target has 2 values for 240 rows"),
        (RNG.normal(size=(N, 2)), {}, r"one value for each row, got shape \[240, 2\]: give one column"),
        ({"a": 1}, {}, "target must be a column's name, or one value for each row, got dict"),
        (RNG.normal(size=N), {"group": np.zeros(3)}, "group has 3 values for 240 rows"),
        (RNG.normal(size=N), {"test": numbers()}, r"give the test rows as \(rows, targets\)"),
    ],
)
def test_values_that_do_not_fit_are_one_short_line(target, options, message):
    from dampen import InputError

    with pytest.raises(InputError, match=message) as caught:
        load(numbers(), target=target, **options)
    assert len(str(caught.value)) < 200


@pytest.mark.usefixtures("without_shape_checks")
def test_truth_values_of_rows_to_come_are_read_however_they_are_written():
    frame = numbers(c=RNG.random(N) < 0.5)
    y = np.where(frame["c"], "yes", "no")
    model = DampenClassifier((8,), n_settings=2, n_seeds=1, epochs=5, n_confirm_seeds=2, random_state=0).fit(frame, y)
    few = frame.head(20)
    expected = model.predict_proba(few)
    for true, false in (("True", "False"), ("true", "false"), ("TRUE", "FALSE"), (1, 0), ("1", "0"), (1.0, 0.0)):
        found = model.predict_proba(few.assign(c=np.where(few["c"], true, false)))
        np.testing.assert_array_equal(found, expected)
    data = load(frame.assign(y=y), target="y")
    assert data.columns.used[-1].levels == ("False", "True")


@pytest.mark.parametrize(("option", "value"), [("image_size", 8), ("image_max", 4095.0), ("normalise", False)])
def test_an_option_that_what_is_given_has_no_use_for_is_refused(tmp_path, option, value):
    rows = numbers(y=RNG.normal(size=N))
    rows.to_csv(tmp_path / "rows.csv", index=False)
    (tmp_path / "pets").mkdir()
    x, y = rows[["a", "b"]].to_numpy(), rows["y"].to_numpy()
    np.savez(tmp_path / "rows.npz", x=x, y=y)
    of_arrays = {"normalise": ("digits", tmp_path / "pets")}.get(option, ("digits", tmp_path / "rows.npz"))
    for source in (tmp_path / "rows.csv", rows, *of_arrays):
        with pytest.raises(InputError, match=rf"^{option}: only for .*; leave it out$"):
            load(source, **{option: value}, **({} if isinstance(source, str) else {"target": "y"}))
    if option != "normalise":
        with pytest.raises(InputError, match=r"only for a folder of images by class, this is none"):
            load(x, target=y, **{option: value})
    with pytest.raises(InputError, match="neither a data set nor a folder"):
        load(tmp_path / "none", **{option: value})
