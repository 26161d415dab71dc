"""Rows to come: numbers read as the training rows wrote them, and what is far from these rows told."""

import json
import warnings

import numpy as np
import pandas as pd
import pytest

from dampen import InputError, load
from dampen.data import Preprocessing

N = 60
RNG = np.random.default_rng(0)
SIZE = RNG.permutation(np.linspace(25, 180, N)).round(1)
AGE = RNG.integers(0, 60, N)
FRAME = pd.DataFrame({"size_m2": SIZE, "age": AGE, "price": (3 * SIZE - AGE).round(2)})


def written(tmp_path, text, name="table.csv"):
    path = tmp_path / name
    path.write_text(text)
    return path


def german(tmp_path):
    """Return the preprocessing of a file with semicolons and decimal commas, by way of its document."""
    data = load(written(tmp_path, FRAME.to_csv(index=False, sep=";", decimal=",")), target="price")
    np.testing.assert_allclose(data.targets, FRAME["price"], rtol=1e-6)
    return Preprocessing.from_document(json.loads(json.dumps(Preprocessing.of(data).document())))


def new_rows(tmp_path, cells, way):
    if way == "frame":
        return pd.DataFrame({"size_m2": cells, "age": "7"}, dtype=object)
    separator = {"csv": ";", "tsv": "\t"}[way]
    lines = [separator.join(("size_m2", "age")), *(separator.join((cell, "7")) for cell in cells)]
    return written(tmp_path, "\n".join(lines) + "\n", f"new.{way}")


@pytest.mark.parametrize("way", ["csv", "tsv", "frame"])
@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["1.500,5", "2.500", "2,5"], [1500.5, 2500, 2.5]),
        (["1.000.000", "2.500"], [1e6, 2500]),
        (["-1.500,25", "12"], [-1500.25, 12]),
        (["2,500", "3"], [2.5, 3]),
        (["2.5", "2.500"], [2.5, 2.5]),  # a point that is surely decimal
        (["52.5200", "13.405"], [52.52, 13.405]),
        (["2.500"], [np.nan]),
        (["2.500", "2,5"], [np.nan, 2.5]),
        (["2.500", "1.5", "1.500,5"], [np.nan, 1.5, 1500.5]),
    ],
)
def test_rows_to_come_are_read_as_the_training_rows_wrote_their_numbers(cells, values, way, tmp_path):
    found = german(tmp_path).read(new_rows(tmp_path, cells, way))
    np.testing.assert_allclose(found.features[:, 0], np.array(values, np.float32))
    told = [note for note in found.notes if "may be thousands or a fraction" in note]
    unclear = (
        "column 'size_m2' may be thousands or a fraction in 1 row ('2.500'): replaced by the median; write 2500 or 2,5"
    )
    assert told == [unclear] * bool(np.isnan(values).any())


def test_thousands_in_one_column_tell_what_a_point_means_in_the_others(tmp_path):
    kept = german(tmp_path)
    found = kept.read(written(tmp_path, "size_m2;age\n2.500;1.500,5\n", "new.csv"))
    assert found.features.tolist() == [[2500, 1500.5]]


def test_a_file_parted_by_commas_has_decimal_points_and_that_is_told_where_it_may_surprise(tmp_path):
    kept = german(tmp_path)
    sure = kept.read(written(tmp_path, "size_m2,age\n2.500,7\n99.5,8\n", "new.csv"))
    assert (sure.features[:, 0].tolist(), sure.notes) == ([2.5, 99.5], ())
    unsure = kept.read(written(tmp_path, "size_m2,age\n2.500,7\n", "new.csv"))
    assert unsure.features[:, 0].tolist() == [2.5]
    assert unsure.notes[0].startswith(
        "column 'size_m2' holds '2.500', read as 2.5: the training rows have decimal commas"
    )
    quoted = kept.read(written(tmp_path, 'size_m2,age\n"2,5",7\n2.500,8\n', "new.csv"))
    np.testing.assert_array_equal(quoted.features[:, 0], [2.5, np.nan])


def test_a_column_that_had_decimal_points_beside_commas_keeps_them(tmp_path):
    lines = [f"{s:.1f};{a + 0.1234:.4f};{p:.2f}" for s, a, p in FRAME.itertuples(index=False)]
    text = "size_m2;lat;price\n" + "\n".join(",".join(line.split(".", 1)) for line in lines) + "\n"
    kept = Preprocessing.of(load(written(tmp_path, text), target="price"))
    assert kept.vectoriser.columns.decimal_points == ("lat", "price")
    found = kept.read(written(tmp_path, "size_m2;lat\n2,5;13.405\n", "new.csv"))
    np.testing.assert_allclose(found.features, [[2.5, 13.405]])


def test_targets_of_rows_to_come_are_read_likewise(tmp_path):
    kept = german(tmp_path)
    found = kept.read(written(tmp_path, "size_m2;age;price\n2,5;7;1,5\n3;8;2.500\n", "new.csv"))
    np.testing.assert_array_equal(found.targets, [1.5, np.nan])
    assert "target 'price' may be thousands or a fraction in 1 row ('2.500'): not evaluated" in found.notes
    found = kept.read(written(tmp_path, "size_m2;age;price\n2,5;7;1.500,5\n3;8;2.500\n", "new.csv"))
    assert found.targets.tolist() == [1500.5, 2500]


def test_points_beside_commas_are_left_open_in_rows_for_a_study_of_decimal_points(tmp_path):
    kept = Preprocessing.of(load(FRAME, target="price"))
    found = kept.read(written(tmp_path, "size_m2;age\n2.500;1,5\n3.000;2,5\n", "new.csv"))
    assert found.features[:, 0].isnan().all()
    assert any("('2.500', '3.000'): replaced by the median; write 2500 or 2,5" in note for note in found.notes)
    frame = pd.DataFrame({"size_m2": ["2.500", "0,5"], "age": ["7", "8"]})
    assert kept.read(frame).features[:, 0].isnan().all()
    assert kept.read(frame.head(1)).features.tolist() == [[2.5, 7]]


def test_a_test_file_is_read_as_the_training_file_and_refused_where_it_can_not_be_told(tmp_path):
    train = written(tmp_path, FRAME.to_csv(index=False, sep=";", decimal=","))
    test = written(tmp_path, "size_m2;age;price\n1.500,5;7;99,5\n2.500;8;98,5\n", "test.csv")
    data = load(train, target="price", test=test)
    assert data.features[data.test_rows, 0].tolist() == [1500.5, 2500]
    test.write_text("size_m2;age;price\n2.500;7;99,5\n")
    with pytest.raises(InputError, match=r"the test file: column 'size_m2' looks like numbers .* \('2.500'\)"):
        load(train, target="price", test=test)


def test_three_digits_behind_every_decimal_comma_are_a_fraction(tmp_path):
    text = "x;y\n" + "".join(f"{i + 1},250;{i},500\n" for i in range(N))
    for cell in ("", "k. A."):
        data = load(written(tmp_path, text.replace("27,250", cell or "27,250")), target="y", test_fraction=0.0)
        expected = np.arange(N) + 1.25
        np.testing.assert_allclose(data.features[:, 0], np.where((expected == 27.25) & bool(cell), np.nan, expected))
        np.testing.assert_allclose(data.targets, np.arange(N) + 0.5)


# ---- beyond the training rows


def beyond(frame, **cells):
    return Preprocessing.of(load(frame, target="y", test_fraction=0.0)).read(pd.DataFrame(cells)).notes


def spanning(low, high, **more):
    return pd.DataFrame({"x": np.linspace(low, high, N), "y": RNG.normal(size=N), **more})


@pytest.mark.parametrize(
    ("low", "high", "value", "told"),
    [
        (25, 180, 5000, "5000"),
        (25, 180, 257, None),  # less than half of the span beyond
        (25, 180, 258, "258"),
        (25, 180, -1, "-1"),  # no training row is below 0
        (0, 60, -5, "-5"),
        (-1, 60, -5, None),
        (-100, -1, 48, None),
        (-100, -1, 49, "49"),
        (0.25, 0.75, 1.0625, "1.0625"),
        (1e9, 1e9 + 1000, 1e9 + 1600, "1000001600"),
        (25, 180, np.nan, None),
    ],
)
def test_a_number_far_outside_of_what_the_training_rows_span_is_told(low, high, value, told):
    notes = beyond(spanning(low, high, z=RNG.normal(size=N)), x=[value, (low + high) / 2], z=0.0)
    span = f"they span {low:.12g} to {high:.12g}"
    expected = f"column 'x' is beyond the training rows in 1 row ({told}; {span}): the network extrapolates there"
    assert [note for note in notes if "beyond" in note] == [expected] * (told is not None)


def test_a_date_far_outside_is_told_unless_time_has_no_trend():
    days = pd.Series(pd.date_range("2020-01-01", periods=N, freq="5D"))
    frame = spanning(0, 1, day=days.dt.strftime("%d.%m.%Y"))
    notes = beyond(frame, x=[0.5, 0.5], day=["01.05.2031", "01.02.2021"])
    assert notes == (
        "column 'day' is beyond the training rows in 1 row (2031-05-01; they span 2020-01-01 to 2020-10-22): the "
        "network extrapolates there",
    )
    ordered = load(frame, target="y", time_order="day", test_fraction=0.0)
    new = pd.DataFrame({"x": [0.5], "day": ["01.05.2031"]})
    assert Preprocessing.of(ordered).read(new).notes == ()


def test_many_columns_beyond_share_a_note():
    frame = pd.DataFrame(RNG.uniform(0, 1, (N, 9)), columns=list("abcdefghy"))
    notes = beyond(frame, **{name: [9.0, 0.5] for name in "abcdefgh"})
    assert len(notes) == 6
    assert notes[-1].startswith("3 more columns are beyond the training rows in 1 row ('f', 'g', 'h')")


def test_a_document_without_spans_and_decimal_commas_still_reads_rows(tmp_path):
    kept = Preprocessing.of(load(FRAME, target="price"))
    document = json.loads(json.dumps(kept.document()))
    span = FRAME["size_m2"][load(FRAME, target="price").train_rows.numpy()]
    column = document["columns"]["used"][0]
    assert (column.pop("low"), column.pop("high")) == (span.min(), span.max())
    for columns in document["columns"]["used"][1:]:
        del columns["low"], columns["high"]
    del document["columns"]["decimal_comma"], document["columns"]["decimal_points"]
    old = Preprocessing.from_document(document)
    assert old.vectoriser.columns == kept.vectoriser.columns  # the same table, whatever is kept of it
    assert str(old.vectoriser.columns.used) == str(kept.vectoriser.columns.used)
    rows = pd.DataFrame({"size_m2": [5000.0], "age": [3]})
    assert old.inputs(rows).equal(kept.inputs(rows))
    assert old.read(rows).notes == ()


def test_a_span_that_is_none_is_a_damaged_document():
    document = Preprocessing.of(load(FRAME, target="price")).document()
    document["columns"]["used"][0]["low"] = 1e6
    with pytest.raises(InputError, match=r"damaged: .*can't span"):
        Preprocessing.from_document(json.loads(json.dumps(document)))


# ---- dates in rows to come


def test_text_for_times_is_read_in_one_format_and_no_warning_of_pandas_leaks():
    days = pd.Series(pd.date_range("2020-01-01", periods=N, freq="5D"))
    kept = Preprocessing.of(load(spanning(0, 1, day=days), target="y"))
    column = kept.vectoriser.columns.used[1]

    def read(*cells):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = kept.read(pd.DataFrame({"x": 0.5, "day": pd.Series(cells, dtype=object)}))
        return found.features[:, 1].numpy() + column.offset, found.notes

    day = (pd.Timestamp("2020-05-31") - pd.Timestamp(0)).days
    for cells in (["2020-05-31"], ["31.05.2020"], ["05/31/2020"], ["31 May 2020"], [pd.Timestamp("2020-05-31").date()]):
        assert read(*cells) == (pytest.approx([day]), ())
    values, notes = read("2020-05-31", "soon", 20200531, None)
    np.testing.assert_array_equal(values, [day, np.nan, np.nan, np.nan])
    assert notes[0].startswith("column 'day' is not a date in 2 rows ('soon', '20200531')")


def test_a_class_and_a_category_that_look_like_numbers_are_known_among_numbers_alone(tmp_path):
    codes = ["007", "1.50", "none yet"] * 20
    frame = pd.DataFrame({"code": codes, "size": SIZE, "grade": ["1.0", "2.0", "failed"] * 20})
    data = load(written(tmp_path, frame.to_csv(index=False)), target="grade")
    new = written(tmp_path, "code,size,grade\n007,30,1.0\n1.50,40,2.0\n8,50,1\n", "new.csv")
    found = Preprocessing.of(data).read(new)
    levels = data.columns.used[0].levels
    assert [levels[int(code)] if code >= 0 else None for code in found.features[:, 0]] == ["007", "1.50", None]
    assert [data.classes[i] for i in found.targets] == ["1.0", "2.0", "1.0"]
    assert [note for note in found.notes if "'8'" in note] != []


def test_a_class_beside_texts_is_no_number(tmp_path):
    frame = pd.DataFrame({"size": SIZE, "version": ["1.1", "1.2", "beta"] * 20})
    train = written(tmp_path, frame.to_csv(index=False))
    test = written(tmp_path, "size,version\n30,1.10\n40,beta\n", "test.csv")
    with pytest.raises(InputError, match=r"has the class '1\.10', which the training rows lack"):
        load(train, target="version", test=test, task="classification")


def test_two_categories_that_are_one_number_are_not_told_apart_by_it(tmp_path):
    frame = pd.DataFrame({"code": ["7", "007", "x"] * 20, "size": SIZE, "grade": ["a", "b", "c"] * 20})
    data = load(written(tmp_path, frame.to_csv(index=False)), target="grade")
    found = Preprocessing.of(data).read(pd.DataFrame({"code": ["7.0", "7", "07", "x"], "size": [30, 40, 50, 60]}))
    levels = data.columns.used[0].levels
    assert [levels[int(code)] if code >= 0 else None for code in found.features[:, 0]] == [None, "7", None, "x"]
