"""What the cells of people's tables mean: dates, codes, words for nothing, thousands, odd targets, odd lines."""

import numpy as np
import pandas as pd
import pytest

from dampen import InputError, load
from dampen.data import Preprocessing, with_unit_targets

N = 240
RNG = np.random.default_rng(0)
DAYS = pd.Series(pd.date_range("2020-01-01 10:00", periods=N, freq="3D"))
Y = RNG.normal(size=N)
CLASSES = np.where(np.arange(N) % 3, "a", "b")


def numbers(**columns) -> pd.DataFrame:
    return pd.DataFrame({"a": RNG.normal(size=N), "b": RNG.normal(size=N), **columns})


def saved(tmp_path, text) -> str:
    path = tmp_path / "table.csv"
    path.write_text(text)
    return str(path)


def both(tmp_path, frame) -> list:
    """The frame, and its file."""
    return [frame, saved(tmp_path, frame.to_csv(index=False))]


def column(data, name):
    return {row[0]: row[1:] for row in data.columns.summary(data.outputs)}[name]


@pytest.mark.parametrize("unit", [1e-17, 1e-12, 1e12])
def test_a_target_of_any_unit_is_brought_to_deviation_1(unit):
    frame = numbers(y=Y)
    usual, mean, deviation = with_unit_targets(load(frame, target="y", seed=0))
    found, mean_of_unit, deviation_of_unit = with_unit_targets(load(frame.assign(y=unit * Y), target="y", seed=0))
    np.testing.assert_allclose(found.targets, usual.targets, rtol=1e-5, atol=1e-6)
    assert (mean_of_unit, deviation_of_unit) == pytest.approx((unit * mean, unit * deviation), rel=1e-5)
    with pytest.raises(InputError, match=r"target 'y' holds only numbers below 1e-18, .*: multiply"):
        load(frame.assign(y=1e-20 * Y), target="y")


def days_of(data, name) -> np.ndarray:
    j = [used.name for used in data.columns.used].index(name)
    return data.features[:, j].double().numpy() + data.columns.used[j].offset


# ---- dates


@pytest.mark.parametrize(
    "pattern",
    [
        *("%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S+00:00", "%Y-%m-%d %H:%M:%S.%f"),
        *("%d-%m-%Y", "%d/%m/%y", "%m/%d/%Y %I:%M %p", "%d-%b-%Y", "%d %B %Y", "%d.%m.%Y", "%d.%m.%y", "%Y.%m.%d"),
        *("%m-%d-%Y", "%m/%d/%y", "%d/%m/%Y %H:%M:%S", "%d %b %Y", "%b %d, %Y", "%B %d, %Y", "%B %d %Y", "%d. %B %Y"),
        *("%a, %d %b %Y", "%A, %d %B %Y", "%d-%b-%y", "%d/%b/%Y", "%d%b%Y", "%Y/%m/%d %H:%M", "%Y%m%d"),
        *("%d.%m.%Y %H:%M", "%d-%b-%Y %H:%M", "%d %B %Y, %H:%M", "%b %d, %Y %I:%M %p", "%Y-%m-%d %H:%M UTC"),
        *("%Y年%m月%d日", "%Y年%m月%d号", "%Y年%m月%d日 %H:%M:%S"),
    ],
)
def test_dates_are_read_in_whatever_way_people_write_them(pattern, tmp_path):
    frame = numbers(d=DAYS.dt.strftime(pattern), y=Y)
    expected = (DAYS - pd.Timestamp(0)) / pd.Timedelta(days=1)
    if "H" not in pattern and "I" not in pattern:
        expected = np.floor(expected)
    for source in both(tmp_path, frame):
        data = load(source, target="y")
        assert column(data, "d")[0] == "date"
        np.testing.assert_allclose(days_of(data, "d"), expected, atol=1e-3)
        assert column(data, "d")[2] == ""


@pytest.mark.parametrize(("pattern", "day"), [("%Y-%m", 1), ("%m/%Y", 1), ("%b %Y", 1), ("%b-%y", 1), ("%Y/%m", 1)])
def test_months_are_dates_without_days_of_the_week(pattern, day, tmp_path):
    data = load(saved(tmp_path, numbers(d=DAYS.dt.strftime(pattern), y=Y).to_csv(index=False)), target="y")
    assert column(data, "d")[:2] == ("date", "3 inputs: days, time of the year")
    first = DAYS.dt.to_period("M").dt.to_timestamp()
    np.testing.assert_array_equal(days_of(data, "d"), (first - pd.Timestamp(0)).dt.days)


def test_chinese_months_and_years_are_their_first_day(tmp_path):
    days = pd.Series(pd.date_range("1990-01-01", periods=N, freq="97D"))
    frame = numbers(m=days.dt.strftime("%Y年%-m月"), j=days.dt.strftime("%Y年"), y=Y)
    for source in both(tmp_path, frame):
        data = load(source, target="y")
        for name, freq, becomes in (("m", "M", "3 inputs: days, time of the year"), ("j", "Y", "1 input: days")):
            assert column(data, name) == ("date", becomes, "")
            first = days.dt.to_period(freq).dt.to_timestamp()
            np.testing.assert_array_equal(days_of(data, name), (first - pd.Timestamp(0)).dt.days)


@pytest.mark.parametrize("freq", ["M", "Q-NOV", "W", "h", "Y"])
def test_periods_are_read_alike_from_a_frame_and_its_files(freq, tmp_path):
    periods = pd.Series(pd.period_range("1990-01-05", periods=N, freq=freq)).mask(np.arange(N) == 7)
    frame = numbers(p=periods.sample(frac=1, random_state=0).array, y=Y)
    frame.to_parquet(tmp_path / "table.parquet")
    found, *files = [load(source, target="y") for source in (*both(tmp_path, frame), tmp_path / "table.parquet")]
    for data in files:
        assert data.columns == found.columns
        assert data.train.features.equal(found.train.features)
    if freq not in ("Y", "Q-NOV"):  # a file holds numbers, and does not tell when quarters begin
        first = frame.p.dt.to_timestamp().astype("datetime64[us]").astype("int64") / 86_400e6
        days = days_of(found, "p")
        np.testing.assert_allclose(days, first.mask(frame.p.isna()), atol=1e-2 if freq == "h" else 0.5, equal_nan=True)
        known = frame[frame.p.notna()]
        times = load(known, target="y", time_order="p").times
        assert times.tolist() == list(range(N - 1))


@pytest.mark.parametrize(
    ("texts", "first"),
    [
        ([f"Q{1 + i % 4} {1970 + i // 4}" for i in range(N)], lambda i: f"{1970 + i // 4}-{1 + 3 * (i % 4):02d}-01"),
        ([f"{1970 + i // 4}-q{1 + i % 4}" for i in range(N)], lambda i: f"{1970 + i // 4}-{1 + 3 * (i % 4):02d}-01"),
        ([f"{2000 + i // 50}-W{1 + i % 50:02d}" for i in range(N)],
         lambda i: pd.Timestamp.fromisocalendar(2000 + i // 50, 1 + i % 50, 1)),
    ],
)  # fmt: skip
def test_quarters_and_weeks_are_their_first_day(texts, first):
    days = days_of(load(numbers(p=texts, y=Y), target="y"), "p")
    assert days.tolist() == [pd.Timestamp(first(i)).timestamp() / 86_400 for i in range(N)]


def test_times_with_a_zone_are_one_moment_wherever_they_were_noted():
    there = DAYS.dt.strftime("%Y-%m-%dT%H:%M:%S+02:00")
    mixed = np.where(np.arange(N) % 2, there, (DAYS - pd.Timedelta(hours=2)).dt.strftime("%Y-%m-%dT%H:%M:%SZ"))
    found = [days_of(load(numbers(d=d, y=Y), target="y"), "d") for d in (there, mixed)]
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("bad", ["0000-00-00", "unknown", "2020-13-45", "31.12."])
@pytest.mark.parametrize("row", [0, N - 1])
def test_a_bad_cell_is_a_missing_date_wherever_it_stands(bad, row, tmp_path):
    dates = DAYS.dt.strftime("%Y-%m-%d")
    dates[row] = bad
    for source in both(tmp_path, numbers(d=dates, y=Y)):
        data = load(source, target="y", test_fraction=0.0)
        assert column(data, "d")[0] == "date"
        assert column(data, "d")[2] == f"1 not a date ('{bad}'), treated as missing"
        assert np.isnan(days_of(data, "d")).nonzero()[0].tolist() == [row]
        drawn = load(source, target="y")  # the row may be a test row
        assert column(drawn, "d")[0] == "date"
        assert column(drawn, "d")[2] == column(data, "d")[2]


def test_one_day_above_12_decides_for_the_whole_column_and_none_is_told(tmp_path):
    month_and_day = zip(RNG.integers(1, 13, N), RNG.integers(1, 13, N), strict=True)
    early = pd.Series(pd.to_datetime([f"2020-{month:02d}-{day:02d}" for month, day in month_and_day]))
    for pattern, said in (("%d/%m/%Y", "month first; day first fits, too"), ("%d.%m.%Y", "day first; month first fits"),
                          ("%d-%m-%Y", "day first; month first fits, too")):  # fmt: skip
        data = load(numbers(d=early.dt.strftime(pattern), y=Y), target="y")
        assert column(data, "d")[2].startswith(said)
        dates = early.dt.strftime(pattern)
        late = data.test_rows[0].item()  # a test row's date counts as well
        dates[late] = pd.Timestamp("2020-05-31").strftime(pattern)
        told = load(numbers(d=dates, y=Y), target="y")
        assert column(told, "d")[2] == ""
        expected = early.where(np.arange(N) != late, pd.Timestamp("2020-05-31"))
        np.testing.assert_array_equal(days_of(told, "d"), (expected - pd.Timestamp(0)).dt.days)


def test_what_looks_like_a_date_and_is_none_stays_what_it_is():
    for codes in ([f"{i:04d}-{i % 12 + 1:02d}" for i in range(N)], [f"{i % 24}:{i % 60:02d}" for i in range(N)],
                  [f"{i}-{i + 10}" for i in range(N)], [f"May {i % 3}" for i in range(N)]):  # fmt: skip
        assert column(load(numbers(c=codes, y=Y), target="y"), "c")[0] != "date"


# ---- targets with odd cells


@pytest.mark.parametrize(("odd", "n"), [("unknown", 1), ("kg", 1), ("n/k", 9), ("NA", 1), ("-", 2)])
@pytest.mark.parametrize("values", [RNG.integers(0, 48, N), RNG.normal(size=N).round(3)], ids=["whole", "real"])
@pytest.mark.parametrize("task", [None, "regression"])
def test_an_odd_cell_among_numbers_costs_its_row_and_is_named(odd, n, values, task, tmp_path):
    target = values.astype(object)
    target[:n] = odd
    for source in both(tmp_path, numbers(y=target)):
        data = load(source, target="y", task=task, test_fraction=0.0)
        assert data.task == "regression"
        np.testing.assert_allclose(data.targets, values[n:].astype(np.float32))
        assert len(data.notes) == 1
        assert data.notes[0].startswith(f"{n} row{'s' * (n > 1)} ")
        assert f"'{odd}'" in data.notes[0] or odd in ("NA", "-")
        assert "left out" in data.notes[0]


def test_a_target_of_numbers_with_many_odd_cells_is_refused_with_their_count():
    target = RNG.normal(size=N).astype(object)
    target[:40] = "unknown"
    with pytest.raises(InputError, match="target 'y' holds numbers, but in 40 of 240 rows 'unknown': leave these"):
        load(numbers(y=target), target="y")
    with pytest.raises(InputError, match=r"holds 'unknown', a regression needs numbers; .* correct 40 rows of 240"):
        load(numbers(y=target), target="y", task="regression")


def test_an_odd_cell_of_the_test_file_costs_its_row_too():
    test = numbers(y=Y.astype(object))
    test.loc[4, "y"] = "unknown"
    data = load(numbers(y=Y), target="y", test=test)
    assert len(data.test_rows) == N - 1
    assert data.notes == ("1 row of the test file left out: target 'y' holds 'unknown', no number",)


# ---- words that may mean nothing


@pytest.mark.parametrize("word", ["None", "NA", "N/A", "n/a", "null", "NULL"])
def test_a_word_for_nothing_is_a_class_where_it_is_as_common_as_one(word, tmp_path):
    labels = RNG.choice([word, "Apnea", "Insomnia"], N, p=[0.6, 0.2, 0.2])
    for source in both(tmp_path, numbers(y=labels)):
        data = load(source, target="y")
        assert set(data.classes) == {word, "Apnea", "Insomnia"}
        n = (labels == word).sum()
        assert data.notes == (
            f"target 'y': '{word}' in {n} rows is treated as a class; leave these cells empty if they are missing",
        )
    few = np.where(np.arange(N) < 3, word, RNG.choice(["Apnea", "Insomnia"], N))
    for source in both(tmp_path, numbers(y=few)):
        data = load(source, target="y")
        assert data.classes == ("Apnea", "Insomnia")
        assert data.notes == (f"3 rows without a target 'y' ('{word}') left out",)


def test_plus_and_minus_are_two_classes_and_a_question_mark_beside_two_is_none(tmp_path):
    for source in both(tmp_path, numbers(y=RNG.choice(["+", "-"], N))):
        assert load(source, target="y").classes == ("+", "-")
    for source in both(tmp_path, numbers(y=RNG.choice(["yes", "no", "?"], N))):
        assert load(source, target="y").classes == ("no", "yes")
    for source in both(tmp_path, numbers(y=RNG.choice(["0", "1", "NA"], N))):
        assert load(source, target="y").classes == ("0", "1")


def test_a_word_for_nothing_is_a_category_of_its_own_in_an_input_and_missing_among_numbers(tmp_path):
    frame = numbers(
        c=RNG.choice(["None", "Pave", "Grvl"], N),
        d=np.where(RNG.random(N) < 0.3, "NA", RNG.random(N).astype(str)),
        y=RNG.choice(["p", "q"], N),
    )
    for source in both(tmp_path, frame):
        data = load(source, target="y")
        assert set(data.columns.used[2].levels) == {"None", "Pave", "Grvl"}
        assert data.columns.used[3].missing
        new = Preprocessing.of(data).read(frame.head(3).assign(c=["None", "NA", ""]))
        assert new.features[:, 2].isnan().tolist() == [False, True, True]


# ---- codes


def test_digits_with_a_leading_zero_are_codes(tmp_path):
    frame = numbers(
        zip=[f"{z:05d}" for z in RNG.choice([2134, 2139, 10001, 94110], N)],
        c=RNG.choice(["007", "07", "7"], N),
        y=RNG.choice(["01", "02", "03"], N),
    )
    for source in both(tmp_path, frame):
        data = load(source, target="y")
        assert data.classes == ("01", "02", "03")
        assert set(data.columns.used[2].levels) == {"02134", "02139", "10001", "94110"}
        assert set(data.columns.used[3].levels) == {"007", "07", "7"}
        (tmp_path / "new.csv").write_text("a,b,zip,c\n1,2,10001,7\n3,4,94110,7\n")
        new = Preprocessing.of(data).read(tmp_path / "new.csv")
        levels = data.columns.used[2].levels
        assert [levels[int(code)] for code in new.features[:, 2]] == ["10001", "94110"]
    assert load(frame, target="y", task="regression").targets.unique().tolist() == [1, 2, 3]


def test_one_leading_zero_among_many_numbers_of_all_lengths_is_a_number():
    values = [str(i) for i in RNG.integers(0, 500, N)]
    values[7] = "05"
    assert column(load(numbers(c=values, y=Y), target="y"), "c")[0] == "number"
    assert column(load(numbers(c=[f"{v:.3f}" for v in RNG.random(N)], y=Y), target="y"), "c")[0] == "number"


@pytest.mark.parametrize("category", ["shop", ["shop"]])
def test_a_column_is_a_category_on_request(category, tmp_path):
    shops = RNG.integers(1001, 1006, N)
    for source in both(tmp_path, numbers(shop=shops, y=Y)):
        data = load(source, target="y", category=category)
        assert set(data.columns.used[2].levels) == set(map(str, range(1001, 1006)))
        assert column(load(source, target="y"), "shop")[0] == "number"
    classes = load(numbers(y=RNG.integers(0, 30, N)), target="y", category="y").classes
    assert len(classes) > 5
    with pytest.raises(InputError, match=r"no column 'store' \(category\)"):
        load(numbers(y=Y), target="y", category="store")


# ---- thousands


def german(values, others="1,5") -> str:
    return "x;z;y\n" + "".join(f"{v};{others};{i},5\n" for i, v in enumerate(values))


@pytest.mark.parametrize("thousands", [["900", "1.299"], ["1.{i}", "12.500"], ["90{i},5", "1.{i},5"]])
def test_a_point_that_may_part_thousands_is_told_where_commas_are_decimal(thousands, tmp_path):
    values = [thousands[i % 2].replace("{i}", str(i + 100)) for i in range(60)]
    path = saved(tmp_path, german(values, "7,5"))
    with pytest.raises(InputError, match=r"'x': looks like numbers with a comma.* \('.*'\): write plain numbers"):
        load(path, target="y", drop="z")
    with pytest.raises(InputError, match=r"target 'x' looks like numbers with a comma, sign or unit"):
        load(path, target="x")


def test_a_point_that_is_surely_decimal_is_read(tmp_path):
    values = [f"{v:.4f}" for v in RNG.random(60)]
    data = load(saved(tmp_path, german(values)), target="y", drop="z", test_fraction=0.0)
    np.testing.assert_allclose(data.features[:, 0], np.array(values, float), rtol=1e-6)
    commas = [f"{v:.3f}".replace(".", ",") for v in RNG.normal(size=60)]
    commas[5] = "k. A."
    data = load(saved(tmp_path, german(commas)), target="y", drop="z", test_fraction=0.0)
    expected = [np.nan if v == "k. A." else float(v.replace(",", ".")) for v in commas]
    np.testing.assert_allclose(data.features[:, 0], expected, rtol=1e-6)
    assert column(data, "x")[2] == "1 not a number ('k. A.'), treated as missing"
    np.testing.assert_allclose(data.targets, np.arange(60) + 0.5)


# ---- time, index, lines above the names


def test_rows_of_one_time_are_on_one_side_of_every_cut(tmp_path):
    frame = numbers(day=[f"2024-01-{d:02d}" for d in RNG.integers(1, 29, N)], y=Y)
    for source in both(tmp_path, frame):
        data = load(source, target="y", time_order="day").with_validation(0.2)
        rows = [data.times[rows] for rows in (data.train_rows, data.validation_rows, data.test_rows)]
        assert rows[0].max() < rows[1].min()
        assert rows[1].max() < rows[2].min()
        assert abs(len(rows[2]) - N / 4) < N / 28
    with pytest.raises(InputError, match="all 240 rows are of one time"):
        load(numbers(day=5, y=Y), target="y", time_order="day")
    later = frame.assign(day="2024-02-01")
    assert load(frame, target="y", time_order="day", test=later).notes == ()
    early = load(frame, target="y", time_order="day", test=frame.iloc[::-1].assign(a=1.0))
    assert "240 test rows are not later than all training rows" in early.notes


def test_whole_numbers_that_float64_can_not_tell_apart_are_told_apart(tmp_path):
    order = RNG.permutation(N)
    for source in both(tmp_path, numbers(t=2**60 + order, y=Y)):
        data = load(source, target="y", time_order="t")
        first = data.train_rows.numpy()
        assert data.times[first].tolist() == list(range(len(first)))  # in their order, each at a time of its own
        assert data.targets[first].tolist() == np.float32(Y[order.argsort()][first]).tolist()
    classes = load(numbers(y=2**60 + order % 2), target="y")
    assert classes.classes == (str(2**60), str(2**60 + 1))
    assert "target 'y' has 2 distinct whole numbers: treated as classes" in classes.notes[0]
    with pytest.raises(InputError, match="differs by less than float32 can hold, all rows are near 1e\\+09: subtract"):
        load(numbers(y=1e9 + RNG.random(N)), target="y")


def test_a_study_in_the_order_of_time_ranks_and_judges_on_different_times():
    from dampen.data import held_out

    data = load(numbers(day=np.arange(N) // 7, y=Y), target="y", time_order="day")
    ranking, judging = held_out(data, 0)
    assert data.times[ranking.validation_rows].max() < data.times[judging.validation_rows].min()


@pytest.mark.parametrize("name", ["Unnamed: 0", "index", "level_0", "Index"])
@pytest.mark.parametrize("shuffled", [False, True])
def test_an_index_that_was_saved_is_no_input(name, shuffled, tmp_path):
    half = numbers(y=Y).iloc[: N // 2]
    frame = pd.concat([half, half + 1]).rename_axis(name).reset_index()
    for source in both(tmp_path, frame.sample(frac=1, random_state=0) if shuffled else frame):
        data = load(source, target="y")
        assert [used.name for used in data.columns.used] == ["a", "b"]
        assert column(data, name)[1] == "not used"
    fractions = numbers(index=1.3 + RNG.random(N), y=Y)  # of refraction
    assert column(load(fractions, target="y"), "index")[0] == "number"


PLAIN = numbers(y=RNG.choice(["p", "q"], N))
TEXT = PLAIN.to_csv(index=False)
HEAD, ROWS = TEXT.split("\n", 1)


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("# made by me, in 2024\n# and you\n" + TEXT, "2 comment lines above the column names ignored ('made by me"),
        ("% a\n\n" + TEXT, "1 comment line above the column names ignored ('a')"),
        ("# " + HEAD + "\n" + ROWS, "the column names are read from the comment in line 1"),
        ("sep=;\n" + TEXT.replace(",", ";"), None),
        ('"sep=\t"\n' + TEXT.replace(",", "\t"), None),
        (HEAD + "\nm,kg,\n" + ROWS, "the first row holds units, no values ('m', 'kg'): left out"),
        (HEAD + "\n[m],[kg],[-]\n" + ROWS, "the first row holds units, no values ('[m]', '[kg]', '[-]'): left out"),
        (HEAD + "\nm/s,°C,class\n" + ROWS, "the first row holds units, no values ('m/s', '°C', 'class'): left out"),
        (TEXT.replace(",", " "), "columns are separated by spaces"),
        (
            "\n".join("  " + "   ".join(line.split(",")) for line in TEXT.splitlines()),
            "columns are separated by spaces",
        ),
        ("Measurements of 2024\n\n" + TEXT, "1 line above the column names ignored ('Measurements of 2024')"),
        ("Report,,\n" + TEXT, "1 line above the column names ignored ('Report')"),
    ],
)
def test_what_stands_around_the_column_names_is_passed_by_and_told(text, note, tmp_path):
    data, expected = load(saved(tmp_path, text)), load(PLAIN)
    assert data.train.features.equal(expected.train.features) or np.allclose(
        data.train.features, expected.train.features
    )
    assert data.targets.equal(expected.targets)
    assert len(data.notes) == (note is not None)
    assert note is None or data.notes[0].startswith(note)


def test_columns_without_a_name_are_told(tmp_path):
    lines = "".join(f"{a:.6f},{b:.6f},{c}\n" for a, b, c in zip(Y, Y[::-1] + 1, CLASSES, strict=True))
    unnamed = "called 'Unnamed: 0', 'Unnamed: 1' here, name them in the file"
    for above in ("", "a title\n"):
        data = load(saved(tmp_path, f"{above},,y\n{lines}"), target="y")
        assert (data.inputs, len(data.targets)) == ((2,), N)
        assert f"2 columns have no name: {unnamed}" in data.notes
    assert load(saved(tmp_path, f",b,y\n{lines}"), target="y").notes == ()  # an index that was saved
    assert load(saved(tmp_path, f",A title,\na,b,y\n{lines}"), target="y").columns.inputs(2) == ["a", "b"]
    with pytest.raises(InputError, match=r"no column names: its first line after 'y,,', read as a title, is"):
        load(saved(tmp_path, f"y,,\n{lines}".replace(",a", ",1").replace(",b", ",0")), target="y")


def test_a_first_row_of_values_is_none_of_units():
    frame = pd.DataFrame(
        {"x": ["n/k", *RNG.normal(size=59).astype(str)], "c": ["red", "blue"] * 30, "y": ["p", "q"] * 30}
    )
    assert len(load(frame).targets) == 60


def test_a_short_line_between_blanks_is_named(tmp_path):
    with pytest.raises(InputError, match="line 3 has 2 fields between blanks, its first line has 3"):
        load(saved(tmp_path, "a b y\n1 2 p\n1 p\n" + "1 2 p\n" * 60))
