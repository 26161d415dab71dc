"""Files as they come: each ends in one clear line or in a treatment that is told, none in a traceback."""

import gzip
import io
import re
import string

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import dampen
from dampen import InputError, load

RNG = np.random.default_rng(0)
GOOD = pd.DataFrame({"a": RNG.normal(size=60), "b": RNG.choice(["x", "y", "z"], 60), "y": ["no", "yes"] * 30})


def written(tmp_path, text, name="table.csv"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def csv(frame):
    return frame.to_csv(index=False)


def refused(path, message, **options):
    with pytest.raises(InputError, match=message) as caught:
        load(path, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("\n\n", "is empty|no rows|no columns"),
        ("a,b,y\n", "has no rows"),
        ("a,b,y\n1,2,yes\n", "1 rows with a target, 20 is the least|'yes' in every row"),
        ("a,b,y\n" + "1,2,yes\n" * 40, "'yes' in every row: there is nothing to learn"),
        ("a,b,y\n" + "1,2,3\n1,2,5\n" * 40, r"no column is of use .*'a': constant, 1 in every row"),
        ("a,b,y\n" + "1,2,\n" * 40, "target 'y' is missing in every row"),
        (csv(GOOD) + "1,2,3,4\n", "is ragged or cut off: Expected 3 fields in line 62, saw 4"),
        ("a,b,y\n1,2,3,4\n" + "1,2,3\n" * 40, "lines with more fields|ragged"),
        ('a,b,y\n1,"2,3\n', "ragged or cut off|rows"),
        ("a,b,y\n" + "".join(f"{i},{i % 3},class {i}\n" for i in range(40)), "40 classes in 40 rows, none"),
        ("1.5,2,3\n" + "4,5,6\n" * 40, "no column names: its first line is 1.5, 2, 3"),
        (b"a,b\0y\n1,2,3\n", "zero bytes"),
        ("y\n" + "1\n2\n" * 40, "no column beside the target"),
        (
            "name,y\n" + "".join(f"person {i},{i % 2}\n" for i in range(40)),
            "an identifier or text: 30 different values",
        ),
    ],
)
def test_a_table_that_cannot_be_learnt_from_is_one_line(tmp_path, text, message):
    refused(written(tmp_path, text), message)


@pytest.mark.parametrize("ending", ["parquet", "feather", "xlsx", "csv.gz"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.98])
def test_a_file_that_is_cut_is_one_line(tmp_path, ending, share):
    whole = io.BytesIO()
    if ending == "xlsx":
        pytest.importorskip("openpyxl", reason="the extra [excel] is not installed")
        GOOD.to_excel(whole)
    elif ending == "csv.gz":
        whole.write(gzip.compress(csv(GOOD).encode()))
    else:
        getattr(GOOD, f"to_{ending}")(whole)
    content = whole.getvalue()
    refused(written(tmp_path, content[: int(share * len(content))], f"cut.{ending}"), r"cut\.")


def test_what_is_odd_is_treated_and_told(tmp_path):
    odd = GOOD.assign(c=np.where(np.arange(60) % 9 == 0, np.inf, np.arange(60.0) ** 2), d=np.nan, e="same", f=1)
    odd["id"] = [f"row-{i}" for i in range(60)]
    odd["g"] = ["n/k" if i == 40 else str(i % 13) for i in range(60)]
    odd.loc[[3, 4], "y"] = None
    data = load(written(tmp_path, csv(odd)), test_fraction=0.0)
    told = {row[0]: row for row in data.columns.summary(2)}
    assert "treated as missing" in told["c"][3]
    assert told["d"][2:] == ("not used", "every value is missing")
    assert told["e"][3] == "constant, 'same' in every row"
    assert told["f"][3] == "constant, 1 in every row"
    assert told["id"][3].startswith("an identifier")
    assert told["g"][3] == "1 not a number ('n/k'), treated as missing"
    assert data.notes == ("2 rows without a target 'y' left out", "7 infinite values in column 'c' treated as missing")
    assert data.train.features.isfinite().all()


def test_columns_of_the_same_name_are_told_apart(tmp_path):
    data = load(written(tmp_path, csv(GOOD).replace("a,b,y", "a,a,y")))
    assert [column.name for column in data.columns.used] == ["a", "a.1"]
    assert "two columns are called 'a'" in data.notes[0]
    twice = pd.concat([GOOD, GOOD[["a"]] * 2], axis=1)
    assert [column.name for column in load(twice).columns.used] == ["a", "b", "a.1"]


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "xlsx"])
def test_a_second_column_with_the_target_s_name_is_no_input(tmp_path, ending):
    twice = pd.concat([GOOD, GOOD[["y"]], GOOD[["y"]]], axis=1)
    path = tmp_path / f"twice.{ending}"
    if ending == "xlsx":
        pytest.importorskip("openpyxl", reason="the extra [excel] is not installed")
        twice.to_excel(path, index=False)
    else:
        twice.to_csv(path, index=False)
    for source in (path, twice):
        refused(source, r"has 3 columns called 'y', the target: rename or remove all but one, or drop 'y\.1'")
        refused(source, r"has 2 columns called 'y', the target: .* drop 'y\.2'", drop="y.1")
        assert [c.name for c in load(source, drop=["y.1", "y.2"]).columns.used] == ["a", "b"]
        assert [c.name for c in load(source, target="b").columns.used] == ["a", "y", "y.1", "y.2"]


def test_a_test_file_that_is_the_training_file_is_refused(tmp_path):
    path = written(tmp_path, csv(GOOD))
    (tmp_path / "link.csv").symlink_to(path)
    for same in (str(path), path, tmp_path / "link.csv", written(tmp_path, csv(GOOD), "copy.csv")):
        refused(path, r"the test file .*\.csv holds the training rows themselves; give other rows", test=same)
    refused(GOOD, "the test frame is the training rows themselves", test=GOOD)
    other = written(tmp_path, csv(GOOD.iloc[::-1]), "other.csv")
    assert len(load(path, test=other).test_rows) == 60


@pytest.mark.parametrize("ending", ["csv", "csv.gz"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp1252"])
@pytest.mark.parametrize("separator", [",", ";"])
def test_a_line_of_too_few_fields_is_named_and_an_empty_last_field_is_none(tmp_path, ending, encoding, separator):
    table = GOOD.assign(b="zwei\nZeilen, für; alle", last=np.where(np.arange(60) % 7 == 0, np.nan, 1.5))
    text = table.to_csv(index=False, sep=separator)
    path = tmp_path / f"table.{ending}"

    def save(lines):
        content = "\n".join(lines).encode(encoding)
        path.write_bytes(gzip.compress(content) if ending == "csv.gz" else content)

    lines = text.splitlines()
    save(["", *lines, "", ""])
    data = load(path, target="y")
    assert len(data.targets) == 60
    row = 2 * 8 + 2  # from 0: after the names, each row takes two lines
    assert lines[row].endswith(f'alle"{separator}no{separator}1.5')
    save([*lines[:row], lines[row].rsplit(separator, 2)[0], *lines[row + 1 :]])
    refused(path, f"is ragged or cut off: line {row + 1} has 2 fields, its first line has 4 column names", target="y")


def test_a_last_line_that_is_cut_or_a_sum_is_refused_and_a_separator_more_after_the_names_is_not(tmp_path):
    refused(written(tmp_path, csv(GOOD) + "1.5,x"), "ragged or cut off: line 62 has 2 fields, its first line has 3")
    refused(written(tmp_path, csv(GOOD) + "total: 60\n"), "ragged or cut off: line 62 has 1 field, its first")
    data = load(written(tmp_path, csv(GOOD).replace("a,b,y", "a,b,y,")))
    assert [column.name for column in data.columns.used] == ["a", "b"]


def as_german(number):
    return f"{number:,.2f}".translate(str.maketrans(",.", ".,"))


WRITTEN = {
    "comma": lambda v: f"{v:.2f}".replace(".", ","),
    "euro": lambda v: f"€{v:,.2f}",
    "German": as_german,
    "Swiss": lambda v: f"CHF {v:,.2f}".replace(",", "'"),
    "French": lambda v: f"{v:,.2f} €".replace(",", "\u202f").replace(".", ","),
    "per cent": lambda v: f"{v / 100:.1f} %",
    "currency": lambda v: f"{v:.1f} EUR",
    "unit": lambda v: f"{v:.0f} min",
    "area": lambda v: f"{v:.0f}m2",
    "thousands": lambda v: f"{v:,.0f}",
    "negative": lambda v: f"-${v:.2f}",
    "scale": lambda v: f"{v / 1000:.2f}M" if v > 1000 else f"{v:.0f}k",
}
LETTERS = "abcd"
CODES = {
    "letter first": lambda i: f"A{i}",
    "house": lambda i: f"{i}{LETTERS[i % 4]}",
    "the same letter": lambda i: f"{i}b",
    "prefix": lambda i: f"ID{i}",
    "row": lambda i: f"row-{i}",
    "postal code": lambda i: f"{100 + i} {101 + 3 * i}",
    "zip+4": lambda i: f"{10000 + i}-{1000 + i}",
    "Dutch postal code": lambda i: f"{1000 + i} {LETTERS[i % 4].upper()}X",
    "diagnosis": lambda i: f"E{i}.{i % 10}",
    "version": lambda i: f"{i % 7}.{i}.{i % 3}",
    "clock": lambda i: f"{i % 24}:{i % 60:02d}",
    "address": lambda i: f"192.168.{i}.{i % 90}",
    "range": lambda i: f"{i}-{i + 10}",
    "list": lambda i: f"{i % 5},{i % 4},{i % 7}",
    "street": lambda i: f"{i} {LETTERS[i % 4].upper()}. Street",
}


@pytest.mark.parametrize("repeats", [1, 3], ids=["distinct", "many categories"])
@pytest.mark.parametrize("written_as", WRITTEN.values(), ids=WRITTEN)
def test_numbers_that_only_a_person_can_read_are_not_used_and_that_is_said(tmp_path, written_as, repeats):
    values = np.repeat(np.random.default_rng(1).gamma(2, 2000, 240 // repeats), repeats)
    frame = pd.DataFrame(
        {"x": RNG.normal(size=240), "price": [written_as(v) for v in values], "y": ["no", "yes"] * 120}
    )
    frame.loc[[5, 9], "price"] = [None, "on request"]
    told = {row[0]: row for row in load(written(tmp_path, csv(frame))).columns.summary(2)}
    assert told["price"][2] == "not used"
    assert re.fullmatch(
        r"looks like numbers with a comma, sign or unit \('(.*)'\): write plain numbers", told["price"][3]
    )[1] in set(frame["price"])
    with pytest.raises(InputError, match="target 'price' looks like numbers with a comma, sign or unit"):
        load(frame, target="price")
    with pytest.raises(InputError, match="target 'price' looks like numbers with a comma, sign or unit"):
        load(frame, target="price", task="regression")


@pytest.mark.parametrize("repeats", [1, 3], ids=["distinct", "many categories"])
@pytest.mark.parametrize("code", CODES.values(), ids=CODES)
def test_codes_are_not_taken_for_numbers(code, repeats):
    codes = [code(i // repeats) for i in range(240)]
    data = load(pd.DataFrame({"x": RNG.normal(size=240), "code": codes, "y": ["no", "yes"] * 120}))
    assert "looks like" not in {row[0]: row for row in data.columns.summary(2)}["code"][3]


def test_few_classes_with_a_unit_are_classes():
    doses = pd.DataFrame({"x": RNG.normal(size=60), "y": ["5 mg", "10 mg"] * 30})
    assert load(doses).classes == ("10 mg", "5 mg")


def test_a_number_is_read_where_semicolons_say_that_its_comma_is_decimal(tmp_path):
    rows = [(f"{v:.2f}".replace(".", ","), as_german(1000 * abs(v) + 1)) for v in RNG.normal(size=60)]
    text = "a;b;y\n" + "".join(f"{a};{b};{i % 2}\n" for i, (a, b) in enumerate(rows))
    told = {row[0]: row for row in load(written(tmp_path, text)).columns.summary(2)}
    assert told["a"][1] == "number"
    assert "looks like numbers" in told["b"][3]


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-8-sig"])
def test_other_encodings_are_read(tmp_path, encoding):
    text = csv(GOOD.assign(b=GOOD["b"].map({"x": "Köln", "y": "Zürich", "z": "Genève"})))
    data = load(written(tmp_path, text.encode(encoding)))
    assert set(data.columns.used[1].levels) == {"Köln", "Zürich", "Genève"}
    assert any("not UTF-8: read as cp1252" in note for note in data.notes) == (encoding == "cp1252")


@pytest.mark.parametrize("encoding", ["gbk", "gb18030", "gb2312"])
def test_chinese_files_are_read(tmp_path, encoding):
    levels = {"x": "浦东新区", "y": "闵行区", "z": "南北通透（精装）"}
    table = GOOD.assign(b=GOOD["b"].map(levels)).rename(columns={"a": "建筑面积", "b": "行政区", "y": "成交"})
    path = written(tmp_path, csv(table).encode(encoding))
    data = load(path, target="成交")
    assert [column.name for column in data.columns.used] == ["建筑面积", "行政区"]
    assert set(data.columns.used[1].levels) == set(levels.values())
    assert f"{path} is not UTF-8: read as gb18030; save it as UTF-8 if letters look wrong" in data.notes


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_separator_is_told_from_the_lines(tmp_path, separator):
    text = GOOD.assign(b=GOOD["b"] + f" {separator} more").to_csv(index=False, sep=separator)
    assert [column.name for column in load(written(tmp_path, text)).columns.used] == ["a", "b"]


def test_classes_of_too_few_rows_are_left_out_and_told(tmp_path):
    few = GOOD.copy()
    few.loc[[0, 1], "y"] = ["rare", "rarer"]
    data = load(few)
    assert data.classes == ("no", "yes")
    assert len(data.targets) == 58
    assert "2 rows left out: their classes ('rare', 'rarer') have fewer than 8 rows each" in data.notes


def test_a_class_that_only_the_test_file_has_is_named(tmp_path):
    refused(GOOD, "the test file: target 'y' has the class 'maybe'", test=GOOD.assign(y="maybe"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "b", "drop": "b"}, "column 'b' is the target, it can't be dropped too"),
        ({"drop": "c"}, r"no column 'c' \(drop\)"),
        ({"group": "y"}, "can't be the target and the group too"),
        ({"weight": "b"}, "weight 'b' must be a number, 0 or larger, in every row; 60 rows differ"),
        ({"weight": "a"}, "weight 'a' must be a number, 0 or larger"),
        ({"time_order": "b"}, "time order 'b' must hold numbers or dates"),
        ({"group": "b", "time_order": "a"}, "no time has all rows of every group on one side of it"),
        ({"task": "ranking"}, "task must be classification or regression"),
        ({"task": "regression"}, "target 'y' holds 'no', a regression needs numbers"),
        ({"test": "nowhere.csv"}, "there is no file nowhere.csv"),
        ({"test_fraction": 2.0}, "test_fraction must be"),
        ({"group": "b", "test_fraction": 0.01}, "3 groups can't be split"),
    ],
)
def test_a_role_that_a_column_cannot_play_is_one_line(options, message):
    refused(GOOD, message, **options)


@pytest.mark.parametrize("name", ["wine", "images", "somewhere.npz"])
def test_roles_are_for_tables(tmp_path, name):
    refused(name, "only for tables", drop="a")


@pytest.mark.parametrize(
    "name", ["x" * 5000 + ".csv", "nul\0.csv", "two\nlines.csv", "x" * 5000 + ".npz", "a.docx", "."]
)
def test_a_file_that_is_not_there_is_one_line(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.docx").write_text("no table")
    with pytest.raises(InputError):
        load(name)


@pytest.fixture
def images(tmp_path):
    for k, (label, colour) in enumerate((("cat", 40), ("dog", 200))):
        folder = tmp_path / "pets" / label
        folder.mkdir(parents=True)
        for i in range(12):
            pixels = np.clip(colour + RNG.integers(-20, 20, (8, 6)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.{('png', 'bmp')[k]}")
    return tmp_path / "pets"


def test_a_folder_of_images_by_class_is_data(images):
    data = load(images)
    assert (data.classes, data.inputs, data.scaling) == (("cat", "dog"), (1, 8, 6), "pixels")
    means = data.features.float().mean((1, 2, 3))
    assert torch.equal(means > 120, data.targets == 1)
    assert load(images, image_size=5).inputs == (1, 5, 5)


def test_images_of_several_sizes_or_colours_are_brought_together_and_told(images):
    Image.fromarray(RNG.integers(0, 255, (20, 30, 3), dtype=np.uint8)).save(images / "cat" / "big.png")
    data = load(images)
    assert data.inputs == (3, 32, 32)
    assert "images of 2 sizes (6x8, 30x20) resized to 32x32 pixels (image size)" in data.notes


def test_an_image_that_is_none_is_named(images):
    (images / "dog" / "notes.png").write_text("no image")
    refused(images, r"notes\.png is not a readable image")


def test_an_image_that_is_cut_is_named(images):
    file = images / "dog" / "3.bmp"
    file.write_bytes(file.read_bytes()[:60])
    refused(images, r"3\.bmp is not a readable image")


def test_a_folder_of_one_class_is_refused(images):
    for file in (images / "dog").iterdir():
        file.unlink()
    refused(images, "has 1 subfolder with images")


def test_folders_for_training_and_test_are_split_so(images, tmp_path):
    (tmp_path / "split").mkdir()
    images.rename(tmp_path / "split" / "train")
    for label in ("cat", "dog"):
        (tmp_path / "split" / "test" / label).mkdir(parents=True)
        Image.new("L", (6, 8), 100).save(tmp_path / "split" / "test" / label / "t.png")
    data = load(tmp_path / "split")
    assert (len(data.train_rows), len(data.test_rows)) == (24, 2)


CELLS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(width=64),
    st.text(string.printable + "äß😀\x00", max_size=6),
    st.dates(),
    st.sampled_from(["", "?", "NA", "1", "2", "yes", "no", "2024-01-31", "1,5", "inf", "-1e400"]),
    st.binary(max_size=3),
    st.lists(st.integers(), max_size=2),
    st.complex_numbers(),
)


def sane(rng, n, kind):
    if kind == "numbers":
        return list(rng.normal(size=n) * 10.0 ** rng.integers(-9, 9))
    if kind == "counts":
        return [int(i) for i in rng.integers(0, rng.integers(2, 50), n)]
    if kind == "days":
        return [str(day) for day in pd.Timestamp("2001-01-01") + pd.to_timedelta(rng.integers(0, 900, n), unit="D")]
    return [f"{kind} {i}" for i in rng.integers(0, rng.integers(2, 60), n)]


@st.composite
def odd_tables(draw):
    n = draw(st.sampled_from([60, 90, 40, 120, 20, 1, 0]))
    table = {}
    for _ in range(draw(st.integers(0, 5))):
        rng = np.random.default_rng(draw(st.integers(0, 99)))
        kind = draw(st.sampled_from(["numbers", "counts", "level", "days", "odd"]))
        few = draw(st.lists(CELLS, min_size=1, max_size=draw(st.sampled_from([1, 2, 5, 30]))))
        odd = [few[i] for i in rng.integers(0, len(few), n)]
        share = 1.0 if kind == "odd" else draw(st.sampled_from([0.0, 0.02, 0.3]))
        values = odd if kind == "odd" else sane(rng, n, kind)
        table[draw(st.text(string.printable, max_size=5))] = [
            o if rng.random() < share else v for o, v in zip(odd, values, strict=True)
        ]
    frame = pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in table.items()})
    return frame.infer_objects() if draw(st.booleans()) else frame


ODD = odd_tables(), st.sampled_from([None, "classification", "regression"]), st.booleans(), st.data()
PATIENT = [HealthCheck.too_slow, HealthCheck.data_too_large]


@settings(max_examples=125, suppress_health_check=PATIENT)
@given(*ODD)
def test_no_odd_table_ends_in_a_traceback(tmp_path_factory, frame, task, as_file, data):
    read_odd(tmp_path_factory, frame, task, as_file, data)


@pytest.mark.slow
@settings(max_examples=5000, suppress_health_check=PATIENT)
@given(*ODD)
def test_none_of_thousands_of_odd_tables_ends_in_a_traceback(tmp_path_factory, frame, task, as_file, data):
    read_odd(tmp_path_factory, frame, task, as_file, data)


@pytest.mark.slow
@pytest.mark.usefixtures("without_shape_checks")
@settings(max_examples=150, suppress_health_check=[*PATIENT, HealthCheck.function_scoped_fixture])
@given(*ODD)
def test_no_study_of_an_odd_table_ends_in_a_traceback(tmp_path_factory, frame, task, as_file, data):
    found = read_odd(tmp_path_factory, frame, task, as_file, data)
    if found is not None:
        few = {"n_settings": 2, "n_seeds": 2, "epochs": 1, "confirmed": 1, "n_confirm_seeds": 2}
        try:
            assert dampen.tune(dampen.mlp(4), found, **few).verdict.sentences()
        except InputError as e:
            assert "diverged" in str(e)  # noqa: PT017


def read_odd(tmp_path_factory, frame, task, as_file, data):
    target = data.draw(st.sampled_from([*frame.columns, None])) if len(frame.columns) else None
    source = frame
    if as_file:
        source = tmp_path_factory.getbasetemp() / "odd.csv"
        frame.to_csv(source, index=data.draw(st.booleans()), sep=data.draw(st.sampled_from([",", ";", "\t"])))
    try:
        found = load(source, target=target, task=task)
        inputs = [found.train.features, found.test.features, found.with_validation(0.2).validation.features]
    except InputError as e:
        line = str(e)
    else:
        line = ""
        assert all(t.isfinite().all() for t in inputs)
        assert found.train.features.abs().max() < 1e4
    assert len(line) < 2000
    assert "\n" not in line
    return None if line else found


@settings(max_examples=200)
@given(st.binary(max_size=200), st.sampled_from(["csv", "tsv", "txt", "parquet", "feather", "npz", "csv.gz"]))
def test_no_odd_bytes_end_in_a_traceback(tmp_path_factory, content, ending):
    path = tmp_path_factory.getbasetemp() / f"bytes.{ending}"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_a_line_of_too_few_fields_is_named_where_the_names_stand_in_a_comment(tmp_path):
    lines = ["# a,b,y", *(f"{i}.5,{i % 3},{i % 2}" for i in range(60))]
    assert len(load(written(tmp_path, "\n".join(lines)), target="y").targets) == 60
    for line in (3, 31, 61):
        short = [*lines[: line - 1], "4,5", *lines[line:]]
        refused(written(tmp_path, "\n".join(short)), f"cut off: line {line} has 2 fields", target="y")
