"""Frames of pandas and polars as an estimator's rows: text, numbers as text, dates, what new rows hold besides."""

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.datasets import make_classification
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

import dampen
from dampen import DampenClassifier, DampenRegressor
from dampen.data import Preprocessing

TINY = {
    "hidden": (8,),
    "space": {"weight_decay": [0.0, 0.01], "lr": 0.03},
    "n_settings": 2,
    "n_seeds": 1,
    "epochs": 15,
    "n_confirm_seeds": 2,
    "batch_size": 128,
    "random_state": 0,
}


def test_a_frame_of_numbers_and_text_needs_no_encoder():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"size": rng.normal(size=200), "colour": rng.choice(["red", "green", "blue"], 200)})
    y = np.where((frame["colour"] == "red") ^ (rng.random(200) < 0.05), "yes", "no")
    model = DampenClassifier(**TINY).fit(frame, y)
    assert model.score(frame, y) > 0.9
    assert model.feature_names_in_.tolist() == ["size", "colour"]
    assert model.classes_.tolist() == ["no", "yes"]
    unseen = frame.head(2).assign(colour="violet")
    with pytest.warns(UserWarning, match=r"'colour' has a value that the training rows lack in 2 rows \('violet'\)"):
        assert np.isfinite(model.predict_proba(unseen)).all()
    with pytest.raises(ValueError, match="give one, not ndarray"), pytest.warns(UserWarning, match="feature names"):
        model.predict(frame.to_numpy())
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame.rename(columns={"size": "length"}))
    encoder = ColumnTransformer([("colour", OneHotEncoder(), ["colour"])], remainder="passthrough")
    assert make_pipeline(encoder, DampenClassifier(**TINY)).fit(frame, y).score(frame, y) > 0.9


def test_what_is_odd_about_rows_to_predict_is_warned_of_as_the_command_tells_it():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "size": rng.uniform(25, 180, 45),
            "place": rng.choice(["north", "south", "east"], 45),
            "built": pd.Timestamp("2000-01-01") + pd.to_timedelta(rng.integers(0, 4000, 45), "D"),
            "patient": rng.integers(0, 15, 45),
        }
    )
    y = np.where(rng.random(45) < 0.5, "Yes", "yes")
    y[:9] = "no"
    with pytest.warns(UserWarning, match="column|classes") as caught:
        model = DampenClassifier(**TINY | {"epochs": 2}).fit(frame, y)
    said = [str(warning.message).split(":")[0] for warning in caught]
    assert said == [
        "column 'patient' looks like an identifier that repeats (14 values in 45 rows)",
        "classes differ only by case or blanks ('Yes' and 'yes')",
    ]
    odd = pd.DataFrame(
        {
            "size": ["5000", "k. A.", None, "50"],
            "place": ["north", "west", "south", None],
            "built": ["2010-01-01", "01/02/2031", "2003-03-03", "2044-04-04"],
            "patient": [1, 2, 3, 4],
        }
    )
    data = dampen.load(frame.assign(y=y), target="y", test_fraction=0.0)
    expected = list(Preprocessing.of(data).read(odd).notes)
    for ask in (model.predict, model.predict_proba, model.predict_uncertainty):
        with pytest.warns(UserWarning, match="column") as caught:
            ask(odd)
        assert [str(warning.message) for warning in caught] == expected
        assert [warning.filename for warning in caught] == [__file__] * len(expected)
    kinds = [
        "is not a number",
        "is missing",
        "lack in 1 row ('west')",
        "is missing",
        "not a date",
        "(5000;",
        "(2044-04-04;",
    ]
    assert len(expected) == len(kinds)
    assert all(kind in note for kind, note in zip(kinds, expected, strict=True))


@pytest.mark.parametrize("kind", [DampenClassifier, DampenRegressor])
def test_a_column_of_numbers_that_it_cannot_read_is_named(kind):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"size": rng.normal(size=60), "price": [f"€{v:,.2f}" for v in rng.gamma(2, 900, 60)]})
    with pytest.warns(UserWarning, match=r"column 'price' is not used: it looks like numbers .* write plain") as caught:
        kind(**TINY).fit(frame, np.arange(60) % 2)
    assert [warning.filename for warning in caught] == [__file__]


def test_a_polars_frame_gives_what_the_pandas_frame_gives():
    polars = pytest.importorskip("polars", reason="polars is not installed")
    X, y = make_classification(120, 5, n_informative=3, random_state=0)
    frame = pd.DataFrame(X, columns=list("abcde")).assign(colour=np.where(X[:, 0] > 0, "red", "blue"))
    expected = DampenClassifier(**TINY).fit(frame, y).predict_proba(frame)
    model = DampenClassifier(**TINY).fit(polars.from_pandas(frame), polars.Series(y))
    np.testing.assert_array_equal(model.predict_proba(polars.from_pandas(frame)), expected)


def test_a_column_of_row_numbers_is_none_in_whatever_order_and_however_copies_are_given():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"row_id": np.arange(3, 43), "size": rng.normal(size=40)})
    y, shuffled = rng.integers(0, 2, 40), rng.permutation(40)
    ways = {
        "as they are": (frame, y, None),
        "shuffled": (frame.iloc[shuffled], y[shuffled], None),
        "a part": (frame.iloc[8:], y[8:], None),
        "one twice": (frame.iloc[[0, *range(40)]], y[[0, *range(40)]], None),
        "one of weight 2": (frame, y, 1.0 + (np.arange(40) == 0)),
        "one of weight 0": (frame.replace({"row_id": {3: 1}}), y, (np.arange(40) > 0).astype(float)),
    }
    for way, (rows, targets, weights) in ways.items():
        with pytest.warns(UserWarning, match="column 'row_id' is not used: an identifier"):
            model = DampenClassifier(**TINY).fit(rows, targets, sample_weight=weights)
        assert [column.name for column in model._columns.used] == ["size"], way
    ranks = frame.rename(columns={"row_id": "rank"}).assign(ticket=["A5", 7] * 20)  # a mark, and texts beside numbers
    model = DampenClassifier(**TINY).fit(ranks, y)
    assert [column.name for column in model._columns.used] == ["rank", "size", "ticket"]


def test_how_a_category_that_looks_like_a_number_is_read_does_not_depend_on_the_rows_beside_it():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"size": rng.normal(size=80), "code": rng.choice(["3.0", "1.50", "7e2", "unknown"], 80)})
    y = (frame["code"].isin(["3.0", "unknown"]) ^ (rng.random(80) < 0.1)).astype(int)
    model = DampenClassifier(**TINY).fit(frame, y)
    together = model.predict_proba(frame)
    alone = np.concatenate([model.predict_proba(frame.iloc[[i]]) for i in range(10)])
    numbers = frame[frame["code"] != "unknown"]
    np.testing.assert_allclose(alone, together[:10], rtol=1e-6)
    np.testing.assert_allclose(model.predict_proba(numbers), together[frame["code"] != "unknown"], rtol=1e-6)
