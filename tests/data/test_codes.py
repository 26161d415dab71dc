"""Columns of codes: scikit-learn's `OrdinalEncoder` plus one, 0 for what has none, the same for rows to come."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.preprocessing import OrdinalEncoder

from dampen import InputError, load
from dampen.data import Preprocessing

N = 200
RNG = np.random.default_rng(0)
FRAME = pd.DataFrame(
    {
        "size": RNG.normal(size=N),
        "ward": RNG.choice(["West", "north", "East", "south", "Ärö"], N),
        "shop": RNG.integers(1, 31, N),
        "price": RNG.normal(size=N).round(3),
    }
)


def kept(data) -> Preprocessing:
    """Its preprocessing, by way of the document in a study's folder."""
    return Preprocessing.from_document(json.loads(json.dumps(Preprocessing.of(data).document())))


def expected(frame, data, names) -> np.ndarray:
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-1)
    known = np.setdiff1d(np.arange(len(frame)), data.test_rows.numpy())
    return encoder.fit(frame.loc[known, names]).transform(frame[names]) + 1


@pytest.mark.parametrize("way", ["frame", "file"])
def test_codes_are_those_of_scikit_learn_plus_one_and_the_first_inputs(way, tmp_path):
    source = FRAME
    if way == "file":
        FRAME.to_csv(tmp_path / "shops.csv", index=False)
        source = str(tmp_path / "shops.csv")
    data = load(source, target="price", codes=["shop", "ward"])
    codes = expected(FRAME, data, ["shop", "ward"])
    assert data.inputs == (3,)
    assert data.train.features.dtype == torch.float32
    for part, rows in ((data.train, data.train_rows), (data.test, data.test_rows)):
        np.testing.assert_array_equal(part.features[:, :2], codes[rows.numpy()])
    plain = load(FRAME[["size", "price"]], target="price")
    assert torch.equal(data.train.features[:, 2:], plain.train.features)  # a number beside them is as it is without


def test_the_data_and_its_notes_have_what_an_embedding_takes():
    data = load(FRAME, target="price", codes=["ward", "shop"])
    assert [(code.name, code.place, code.num_embeddings) for code in data.codes] == [("ward", 0, 6), ("shop", 1, 31)]
    assert data.codes[0].categories == ("East", "West", "north", "south", "Ärö")
    for place in (0, 1):
        codes = torch.cat([data.train.features, data.test.features])[:, place]
        assert sorted(codes.unique().tolist()) == list(range(1, data.codes[place].num_embeddings))
    assert data.notes == (
        "the codes of column 'ward' are input 0, for nn.Embedding(6, ...)(x[..., 0].long()); 0 is missing or unknown",
        "the codes of column 'shop' are input 1, for nn.Embedding(31, ...)(x[..., 1].long()); 0 is missing or unknown",
    )
    assert data.columns.inputs(1) == ["ward code", "shop code", "size"]
    becomes = "1 input: codes from 1 to 5 for nn.Embedding, 0 where missing or unknown"
    assert data.columns.summary(1)[0] == ("ward", "5 categories", becomes, "")
    assert load(FRAME, target="price").codes == load("digits").codes == ()


def test_missing_and_unknown_categories_have_code_0_and_new_rows_are_told(tmp_path):
    frame = FRAME.copy()
    frame.loc[::10, "ward"] = None
    data = load(frame, target="price", codes=["shop", "ward"])
    codes = np.nan_to_num(expected(frame, data, ["shop", "ward"]))
    assert (codes[:, 1] == 0).sum() == N / 10
    np.testing.assert_array_equal(data.train.features[:, :2], codes[data.train_rows.numpy()])
    assert data.codes[1].num_embeddings == 6
    new = pd.DataFrame({"size": 0.0, "shop": [7, 31, None, 7], "ward": ["Ärö", "ÄRÖ", "centre", None]})
    assert kept(data).inputs(new)[:, :2].tolist() == [[7, 5], [0, 0], [0, 0], [7, 0]]
    assert kept(data).read(new).notes == (
        "column 'shop' has a value that the training rows lack in 1 row ('31'): its code is 0",
        "column 'shop' is missing in 1 row, in the training rows it never is: its code is 0",
        "column 'ward' has a value that the training rows lack in 2 rows ('ÄRÖ', 'centre'; 'Ärö' but for its case): "
        "its code is 0",
    )
    assert torch.equal(kept(data).inputs(frame)[data.test_rows], data.test.features)


def test_which_codes_there_are_is_decided_without_test_rows():
    given = FRAME.loc[150:].assign(ward="elsewhere", shop=99)
    data = load(FRAME[:150], target="price", codes=["ward", "shop"], test=given)
    assert data.test.features[:, :2].unique().tolist() == [0.0]
    assert data.codes == load(FRAME[:150], target="price", codes=["ward", "shop"], test=FRAME[150:]).codes
    assert (
        "test rows: column 'ward' has a value that the training rows lack in 50 rows ('elsewhere'): its code is 0"
        in (data.notes)
    )


def test_a_category_that_a_fold_s_training_rows_lack_is_unknown_there():
    frame = FRAME.copy()
    data = load(frame, target="price", codes=["ward"])
    parts = np.array_split(data.train_rows.numpy(), 3)
    frame.loc[parts[0][:5], "ward"] = "Zoo"
    data = load(frame, target="price", codes=["ward"])
    rows = np.concatenate(parts)
    data = data.with_folds([(np.setdiff1d(rows, part), part) for part in parts])
    assert data.codes[0].categories[-2:] == ("south", "Ärö")
    of_zoo = 1 + data.codes[0].categories.index("Zoo")
    for i, fold in enumerate(data.folds()):
        held = fold.validation.features[:, 0]
        assert fold.codes == data.codes
        assert (held == (0 if i == 0 else of_zoo)).sum() == (5 if i == 0 else 0)
        assert (fold.train.features[:, 0] == of_zoo).sum() == (0 if i == 0 else 5)


def test_without_codes_categories_are_as_they_are_elsewhere():
    data = load(FRAME, target="price", codes=["shop", "ward"])
    plain = load(FRAME[["shop", "ward", "size", "price"]], target="price", category=["shop", "ward"])
    theirs, ours = plain.columns.inputs(1), data.without_codes().columns.inputs(1)
    shared = [name for name in theirs if name in ours]
    assert len(shared) >= 20  # of rare shops some share an input where none is a code
    for part in ("train", "test"):
        one, other = getattr(data.without_codes(), part).features, getattr(plain, part).features
        assert torch.equal(one[:, [ours.index(n) for n in shared]], other[:, [theirs.index(n) for n in shared]])
    assert data.without_codes().notes == ()
    assert plain.without_codes() is plain


def test_many_categories_and_two_are_told_apart_without_codes():
    frame = FRAME.assign(user=np.arange(N) % 60, open=np.arange(N) % 2 == 0)
    data = load(frame, target="price", codes=["user", "open"])
    assert [(code.name, code.num_embeddings) for code in data.codes] == [("user", 61), ("open", 3)]
    assert [column.kind for column in data.without_codes().columns.used[:2]] == ["many", "two"]
    assert data.without_codes().train.features.isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"codes": "shops"}, r"no column 'shops' \(codes\); there are 'size', 'ward'"),
        ({"codes": "price"}, "codes: column 'price' can't be codes and the target too; leave out one of them"),
        ({"codes": "ward", "drop": "ward"}, "codes: column 'ward' can't be codes and left out too"),
        ({"codes": "ward", "category": "ward"}, "codes: column 'ward' can't be codes and a category too"),
        ({"codes": ["shop", "ward"], "text": "ward"}, "codes: column 'ward' can't be codes and free text too"),
        ({"codes": ["ward"], "group": "ward"}, "codes: column 'ward' can't be codes and the group too"),
        ({"codes": ["shop"], "weight": "shop"}, "codes: column 'shop' can't be codes and the weight too"),
        ({"codes": ["day"], "time_order": "day"}, "codes: column 'day' can't be codes and the time order too"),
        (
            {"codes": "size"},
            "codes: column 'size' holds 150 different numbers in 150 rows, no categories; leave it out",
        ),
        ({"codes": "grams"}, r"codes: column 'grams' holds \d+ different numbers in 150 rows, no categories; leave"),
        ({"codes": "half"}, "codes: column 'half' holds 50 different numbers in 150 rows, no categories; leave it out"),
        ({"codes": "name"}, "codes: column 'name' holds 150 different values in 150 rows, no categories; leave it out"),
        ({"codes": "day"}, "codes: column 'day' holds dates, no categories; leave it out"),
        ({"codes": "bags"}, "codes: column 'bags' holds lists, mappings or bytes, no categories; leave it out"),
        ({"codes": "one"}, "codes: column 'one' holds 'a' in every row, one category; leave it out"),
        ({"codes": "empty"}, "codes: column 'empty' holds no value, and so no categories; leave it out"),
    ],
)
def test_a_column_that_can_t_be_codes_is_refused_in_one_line(options, message):
    frame = FRAME.assign(
        grams=RNG.integers(0, 1000, N),
        half=np.arange(N) % 50 + 0.5,
        name=[f"n{i}" for i in range(N)],
        day=pd.date_range("2024-01-01", periods=N).astype(str),
        bags=[["a", "b"]] * N,
        one="a",
        empty=None,
    )
    with pytest.raises(InputError, match=message) as refused:
        load(frame, target="price", **options)
    assert "\n" not in str(refused.value)


def test_arrays_have_no_columns_of_codes():
    with pytest.raises(
        InputError, match="codes, group, weight and time_order name columns of a table; arrays have none"
    ):
        load(np.zeros((40, 2)), target=np.arange(40) % 2, codes="x0")
    with pytest.raises(InputError, match="codes: only for tables"):
        load("digits", codes=["x0"])


@pytest.mark.parametrize("change", ["fewer seen", "none seen", "a category twice", "no categories"])
def test_a_document_whose_parts_do_not_fit_is_refused(change):
    document = json.loads(json.dumps(Preprocessing.of(load(FRAME, target="price", codes="ward")).document()))
    column, seen = document["columns"]["used"][0], document["seen"]["0"]
    assert (column["kind"], column["levels"][0]) == ("code", "East")
    if change == "fewer seen":
        seen.pop()
    elif change == "none seen":
        document["seen"] = {}
    elif change == "a category twice":
        column["levels"][1] = column["levels"][0]
    else:
        column["levels"], document["seen"]["0"] = [], []
    with pytest.raises(InputError, match="damaged"):
        Preprocessing.from_document(document)
