"""Columns of free text: scikit-learn's tf-idf, fitted on training rows, the same for rows to come."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

from dampen import InputError, load
from dampen.data import Preprocessing

N = 200
RNG = np.random.default_rng(0)
WORDS = [
    "Good",
    "bad",
    "late",
    "cheap",
    "room",
    "staff",
    "noise",
    "view",
    "clean",
    "broken",
    "don't",
    "WLAN",
    "Frühstück",
]
REVIEWS = [" ".join(RNG.choice(WORDS, RNG.integers(3, 9))) + ("." if i % 3 else "!") for i in range(N)]
FRAME = pd.DataFrame({"nights": RNG.integers(1, 9, N), "review": REVIEWS, "price": RNG.normal(size=N).round(3)})
PHRASES = ["房间很干净", "早餐不错", "服务员态度差", "离地铁站近", "隔音不好", "床很舒服", "价格便宜", "会再来"]
CHINESE = ["，".join(RNG.choice(PHRASES, RNG.integers(2, 5))) for _ in range(N)]


def terms_of(data, name="review") -> tuple[list[str], slice]:
    """The terms of a column and where their inputs lie."""
    inputs = data.columns.inputs(data.outputs)
    places = [i for i, of in enumerate(inputs) if of.startswith(f"{name}: ")]
    assert places == list(range(places[0], places[-1] + 1))
    return [inputs[i].removeprefix(f"{name}: ") for i in places], slice(places[0], places[-1] + 1)


def kept(data) -> Preprocessing:
    """Its preprocessing, by way of the document in a study's folder."""
    return Preprocessing.from_document(json.loads(json.dumps(Preprocessing.of(data).document())))


def saved(tmp_path, frame) -> str:
    frame.to_csv(tmp_path / "table.csv", index=False)
    return str(tmp_path / "table.csv")


@pytest.mark.parametrize("way", ["frame", "file"])
def test_inputs_are_those_of_scikit_learn_fitted_on_the_training_rows(way, tmp_path):
    data = load(FRAME if way == "frame" else saved(tmp_path, FRAME), target="price", text="review")
    theirs = TfidfVectorizer(ngram_range=(1, 2), min_df=5, max_features=500)
    expected = theirs.fit_transform(FRAME["review"][data.train_rows.numpy()]).toarray()
    terms, at = terms_of(data)
    assert terms == theirs.get_feature_names_out().tolist()
    assert len(terms) > 40
    np.testing.assert_allclose(data.train.features[:, at], expected, atol=1e-6)
    of_test = theirs.transform(FRAME["review"][data.test_rows.numpy()]).toarray()
    np.testing.assert_allclose(data.test.features[:, at], of_test, atol=1e-6)


def test_each_fold_estimates_on_its_own_training_rows_and_knows_no_word_that_they_lack():
    frame = FRAME.copy()
    data = load(frame, target="price", text="review")
    parts = np.array_split(data.train_rows.numpy(), 3)
    frame.loc[parts[0][:6], "review"] += " unicorn"
    data = load(frame, target="price", text="review")
    rows = np.sort(np.concatenate(parts))
    data = data.with_folds([(np.setdiff1d(rows, part), part) for part in parts])
    terms, at = terms_of(data)
    reviews, counter = frame["review"], CountVectorizer(ngram_range=(1, 2), vocabulary=terms)
    for i, fold in enumerate(data.folds()):
        of_fold = reviews[fold.train_rows.numpy()]
        factors = TfidfVectorizer(ngram_range=(1, 2), vocabulary=terms).fit(of_fold).idf_
        factors[counter.transform(of_fold).toarray().sum(0) == 0] = 0
        assert (factors[terms.index("unicorn")] == 0) == (i == 0)
        for part, numbers in ((fold.train, fold.train_rows), (fold.validation, fold.validation_rows)):
            expected = counter.transform(reviews[numbers.numpy()]).toarray() * factors
            expected /= np.linalg.norm(expected, axis=1, keepdims=True)
            np.testing.assert_allclose(part.features[:, at], expected, atol=1e-6)


def test_words_of_test_rows_change_nothing():
    data = load(FRAME, target="price", text="review")
    changed = FRAME.copy()
    changed.loc[data.test_rows.numpy(), "review"] = [
        f"zebra number{i} zebra broken view" for i in range(len(data.test))
    ]
    other = load(changed, target="price", text="review")
    assert torch.equal(other.test_rows, data.test_rows)
    assert other.columns.used == data.columns.used
    assert torch.equal(other.train.features, data.train.features)
    assert other.normalisation.document() == data.normalisation.document()
    assert not torch.equal(other.test.features, data.test.features)


def test_words_of_validation_rows_change_no_estimate():
    data = load(FRAME, target="price", text="review").with_validation(0.25)
    terms, at = terms_of(data)
    theirs = TfidfVectorizer(ngram_range=(1, 2), vocabulary=terms).fit(FRAME["review"][data.train_rows.numpy()])
    expected = theirs.transform(FRAME["review"][data.validation_rows.numpy()]).toarray()
    np.testing.assert_allclose(data.validation.features[:, at], expected, atol=1e-6)


def test_rows_to_come_are_read_alike_and_told_where_no_word_is_known(tmp_path):
    frame = FRAME.assign(review=FRAME["review"].where(np.arange(N) % 20 > 0, ""))
    data = load(saved(tmp_path, frame), target="price", text="review")
    terms, at = terms_of(data)
    cells = ["good ROOM", "good zzz room", "", "xylophone qqq"]
    new = pd.DataFrame({"nights": 2, "review": cells})
    found = kept(data).read(new)
    inputs = kept(data).inputs(new)
    theirs = TfidfVectorizer(ngram_range=(1, 2), vocabulary=terms).fit(frame["review"][data.train_rows.numpy()])
    np.testing.assert_allclose(inputs[:, at], theirs.transform(cells).toarray(), atol=1e-6)
    assert (inputs[2:, at] == 0).all()
    assert inputs[:, at.stop].tolist() == [0, 0, 1, 0]  # flags a missing text
    assert found.notes == ("column 'review' has no word that is an input in 1 row ('xylophone qqq')",)
    np.testing.assert_array_equal(kept(data).inputs(frame)[data.test_rows], data.test.features)
    with pytest.raises(InputError, match="lacks 'review', which the training rows have"):
        kept(data).read(new.drop(columns="review"))


def test_a_missing_text_is_told_where_the_training_rows_have_none():
    data = load(FRAME, target="price", text=["review"])
    found = kept(data).read(pd.DataFrame({"nights": [2, 2], "review": [None, "good room"]}))
    assert found.notes == ("column 'review' is missing in 1 row, in the training rows it never is: read as empty",)
    inputs = kept(data).vectoriser.apply(found.features)
    assert (inputs[0, terms_of(data)[1]] == 0).all()


def test_where_words_are_not_separated_characters_and_their_pairs_are_terms():
    data = load(FRAME.assign(review=[text.replace("，", "") for text in CHINESE]), target="price", text="review")
    terms, at = terms_of(data)
    theirs = TfidfVectorizer(analyzer="char", ngram_range=(1, 2), min_df=5, max_features=500)
    texts = [CHINESE[i].replace("，", "") for i in data.train_rows.tolist()]
    expected = pd.DataFrame(theirs.fit_transform(texts).toarray(), columns=theirs.get_feature_names_out())
    joined = [term.replace(" ", "") for term in terms]
    assert sorted(joined) == sorted(expected.columns)
    np.testing.assert_allclose(data.train.features[:, at], expected[joined], atol=1e-6)
    assert "characters where words are not separated" in data.columns.summary(1)[-1][2]


def test_words_among_chinese_characters_stay_words():
    data = load(FRAME.assign(review=[f"{text} WiFi很快" for text in CHINESE]), target="price", text="review")
    assert {"wifi", "wifi 很", "很 快", "房"} <= set(terms_of(data)[0])


def test_the_number_of_terms_is_bounded_and_told():
    words = [f"word{i}" for i in range(400)]
    frame = pd.DataFrame({"text": [" ".join(RNG.permutation(words)) for _ in range(40)], "y": np.arange(40) % 2})
    data = load(frame, target="y", text="text")
    assert data.inputs == (400,)  # pairs are in fewer than 5 rows
    frame["text"] = [" ".join(words) + f" {i}th" for i in range(40)]
    data = load(frame, target="y", text="text")
    assert data.inputs == (500,)
    assert data.columns.summary(2)[0][3] == "the 500 most frequent terms"


def test_several_columns_of_text_stand_beside_each_other_and_in_any_place():
    frame = FRAME.assign(title=[text.split()[0] + " stay" for text in REVIEWS])[["title", "nights", "review", "price"]]
    data = load(frame, target="price", text=["review", "title"])
    alone = load(frame, target="price", text="review", drop="title")
    (_, at), (_, there) = terms_of(data), terms_of(alone)
    assert torch.equal(data.train.features[:, at], alone.train.features[:, there])
    terms, at = terms_of(data, "title")
    theirs = TfidfVectorizer(ngram_range=(1, 2), vocabulary=terms).fit(frame["title"][data.train_rows.numpy()])
    expected = theirs.transform(frame["title"][data.test_rows.numpy()]).toarray()
    np.testing.assert_allclose(data.test.features[:, at], expected, atol=1e-6)


def test_given_test_rows_are_read_with_the_training_rows_words():
    data = load(FRAME[:150], target="price", text="review", test=FRAME[150:])
    drawn = TfidfVectorizer(ngram_range=(1, 2), min_df=5, max_features=500).fit(FRAME["review"][:150])
    at = terms_of(data)[1]
    np.testing.assert_allclose(data.test.features[:, at], drawn.transform(REVIEWS[150:]).toarray(), atol=1e-6)


def test_texts_that_differ_in_unknown_words_are_no_copies():
    frame = pd.DataFrame({"text": [f"same words here number{i}" for i in range(60)], "y": np.arange(60) % 2})
    data = load(frame, target="y", text="text")
    assert data.copies.n == 0
    frame["text"] = [f"Same  words here number{i // 2}" for i in range(60)]
    frame.loc[::2, "text"] = frame["text"][::2].str.lower()
    assert load(frame, target="y", text="text").copies.n == 30


def test_free_text_that_is_not_used_is_told_with_the_remedy():
    notes = load(FRAME.assign(code=[f"A-{i}" for i in range(N)]), target="price").notes
    assert [note for note in notes if "free text" in note] == [
        "column 'review' looks like free text and is not used: use text review to make inputs of its words"
    ]
    assert load(FRAME, target="price", text="review").notes == ()
    assert not any("free text" in note for note in load(FRAME, target="price", drop="review").notes)


def test_text_without_a_frequent_word_is_dropped_with_the_reason():
    frame = FRAME.assign(code=[f"x{i} y{i}" for i in range(N)], nothing=None)
    data = load(frame, target="price", text=["code", "nothing"], drop="review")
    assert dict(data.columns.dropped) == {
        "code": "no word is in 5 rows or more",
        "nothing": "every value is missing",
        "review": "asked for",
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text": "reviews"}, r"no column 'reviews' \(text\)"),
        ({"text": "price"}, "text: column 'price' can't be free text and the target too"),
        ({"text": "nights"}, "text: column 'nights' holds numbers, no free text; leave it out"),
        ({"text": "day"}, "text: column 'day' holds dates, no free text; leave it out"),
        ({"text": "code"}, "text: column 'code' holds numbers, no free text; leave it out"),
        ({"text": "bags"}, "text: column 'bags' holds lists, mappings or bytes, no free text; leave it out"),
        ({"text": "review", "drop": "review"}, "text: column 'review' can't be free text and left out too"),
        ({"text": "review", "category": ["review"]}, "text: column 'review' can't be free text and a category too"),
        ({"text": ["review"], "group": "review"}, "text: column 'review' can't be free text and the group too"),
        ({"text": ["day"], "time_order": "day"}, "text: column 'day' can't be free text and the time order too"),
    ],
)
def test_a_column_that_can_t_be_text_is_refused_in_one_line(options, message):
    frame = FRAME.assign(
        day=pd.date_range("2024-01-01", periods=N).astype(str),
        code=[f"0{i}" for i in range(N)],
        bags=[["a", "b"]] * N,
    )
    with pytest.raises(InputError, match=message):
        load(frame, target="price", **options)


def test_arrays_have_no_columns_of_text():
    with pytest.raises(InputError, match="text"):
        load(np.zeros((40, 2)), target=np.arange(40) % 2, text="x0")
    with pytest.raises(InputError, match="text: only for tables"):
        load("digits", text=["x0"])


@pytest.mark.parametrize("change", ["fewer factors", "no factors", "a term twice", "no terms"])
def test_a_document_whose_parts_do_not_fit_is_refused(change):
    document = json.loads(json.dumps(Preprocessing.of(load(FRAME, target="price", text="review")).document()))
    column, factors = document["columns"]["used"][1], document["factors"]["1"]
    if change == "fewer factors":
        factors.pop()
    elif change == "no factors":
        del document["factors"]
    elif change == "a term twice":
        column["levels"][1] = column["levels"][0]
    else:
        column["levels"], column["own"] = [], 0
    with pytest.raises(InputError, match="damaged"):
        Preprocessing.from_document(document)
