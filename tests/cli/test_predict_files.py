"""`dampen predict` and `dampen trust` on people's own files: with targets and without, in every state of repair."""

import inspect
import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_wine
from sklearn.metrics import accuracy_score, mean_squared_error
from torch import nn

import dampen
from dampen.cli import main
from dampen.data import Preprocessing
from dampen.errors import InputError
from dampen.report import write_study
from dampen.study import load_study

QUICK = ("--settings", 2, "--seeds", 1, "--epochs", 4, "--confirmed", 1, "--confirm-seeds", 2)
QUICK += ("--hidden", "16", "--dropout", "0.2")
ALL = ("--samples", 0, "--json")


def called(*words):
    """Run the command line; return its exit code."""
    before, sys.argv = sys.argv, ["dampen", *map(str, words)]
    try:
        with pytest.raises(SystemExit) as ended:
            main()
    finally:
        sys.argv = before
    return ended.value.code or 0


def houses(n=120):
    rng = np.random.default_rng(0)
    size, place = rng.uniform(40, 200, n), rng.choice(["north", "south", "east"], n)
    price = (3 * size + 50 * (place == "south") + rng.normal(0, 5, n)).round(2)
    built = pd.Timestamp("1960-01-01") + pd.to_timedelta(rng.integers(0, 20_000, n), "D")
    return pd.DataFrame({"size": size, "place": place, "built": built.strftime("%Y-%m-%d"), "price": price})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Hold `wine.csv` and `houses.parquet`, and a study of each."""
    where = tmp_path_factory.mktemp("files")
    wine = load_wine(as_frame=True)
    names = dict(enumerate(wine.target_names))
    wine.frame.rename(columns={"target": "quality"}).replace({"quality": names}).to_csv(where / "wine.csv", index=False)
    houses().to_parquet(where / "houses.parquet")
    assert called("tune", where / "wine.csv", "--target", "quality", *QUICK, "--out", where / "wine") == 0
    assert called("tune", where / "houses.parquet", "--target", "price", *QUICK, "--out", where / "houses") == 0
    return where


def test_a_file_without_the_target_is_predicted_row_by_row_by_class_name(run, folder):
    table = pd.read_csv(folder / "wine.csv")
    table.drop(columns="quality").to_csv("new.csv", index=False)
    code, out, err = run("predict", folder / "wine", "new.csv", *ALL)
    assert (code, err) == (0, "")
    document = json.loads(out)
    rows = pd.DataFrame(document["predictions"])
    assert rows["row"].tolist() == list(range(178))
    assert document["summary"] is None
    assert "target" not in rows
    assert set(rows["prediction"]) <= {"class_0", "class_1", "class_2"}
    kept = load_study(folder / "wine")
    saved = Preprocessing.from_document(json.loads((folder / "wine" / "preprocessing.json").read_text()))
    with torch.no_grad():
        logits = kept.model()(saved.inputs(table.drop(columns="quality")))
    assert rows["prediction"].tolist() == [kept.data.classes[c] for c in logits.argmax(1)]


def test_predictions_overwrite_neither_data_nor_a_study_nor_anything_else_that_dampen_has_not_written(run, folder):
    table, study = Path(folder / "wine.csv").read_bytes(), folder / "wine"
    Path("own.csv").write_bytes(table)
    Path("alias.csv").symlink_to("own.csv")
    Path("notes.html").write_text("<p>mine")
    Path("page.html").write_text("<p>mine")
    Path("low.csv").write_text("low,high,target\n1,2,3\n")
    os.link("own.csv", "again.csv")
    for name in ("folder.csv", "folder.html"):
        Path(name).mkdir()
    before = {file: file.read_bytes() for place in (Path(), folder) for file in place.rglob("*") if file.is_file()}
    for words, said in [
        (("predict", study, "own.csv", "--out", "own.csv"), "--out own.csv is the data itself"),
        (("predict", study, "own.csv", "--out", "alias.csv"), "--out alias.csv is the data itself"),
        (("predict", study, "own.csv", "--out", "again.csv"), "--out again.csv is the data itself"),
        (("predict", study, "own.csv", "--out", folder / "wine.csv"), "is no table of dampen's"),
        (("predict", study, "own.csv", "--out", folder / "houses.parquet"), "is no table of dampen's"),
        (("predict", study, "own.csv", "--out", study / "curves.parquet"), "is no table of dampen's"),
        (("predict", study, "own.csv", "--out", "low.csv"), "is no table of dampen's"),
        (("predict", study, "own.csv", "--out", study / "curves" / "x.csv"), "among what the study keeps"),
        (("predict", study, "own.csv", "--plot", study / "checkpoints" / "x.png"), "among what the study keeps"),
        (
            ("predict", study, "own.csv", "--out", "folder.csv"),
            "folder.csv is a folder: name a file for the predictions",
        ),
        (("trust", study, "own.csv", "--out", "folder.html"), "folder.html is a folder: name a file for the page"),
        (("trust", study, "own.csv", "--out", "page.html"), "is no page of dampen's"),
        (("trust", study, "own.csv", "--out", study / "report.html"), "another page of the study"),
    ]:
        code, out, err = run(*words)
        assert (code, out, err.count("\n")) == (2, "", 1), words
        assert said in err
    with pytest.raises(InputError, match="is no page of dampen's"):
        write_study(Path("notes.html"), {}, pd.DataFrame(), [])
    assert {file: file.read_bytes() for file in before} == before


def test_a_file_s_values_reach_the_terminal_as_letters(run, folder):
    rows = houses(3).drop(columns="price")
    rows.loc[0, "place"] = "\x1b]0;title\x07\nline"
    rows.to_csv("new.csv", index=False)
    code, _, err = run("predict", folder / "houses", "new.csv", *ALL)
    assert code == 0
    assert re.fullmatch(r"dampen: note: column 'place' has a value .* lack in 1 row \(.*title.*\n", err)
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", err)


def test_predictions_take_the_place_of_earlier_ones(run, folder):
    for _ in range(2):
        for out in ("p.csv", "p.parquet"):
            assert run("predict", folder / "houses", folder / "houses.parquet", "--samples", 0, "--out", out)[0] == 0
    assert len(pd.read_csv("p.csv")) == len(pd.read_parquet("p.parquet")) == 30


def test_a_picture_does_not_become_one_of_the_images_that_are_read(run):
    for k in range(32):
        file = Path("photos", "ab"[k % 2], f"{k}.png")
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4), k, np.uint8)).save(file)
    code, out, err = run("dropout", "photos", "--plot", "photos/a/plot.png")
    assert (code, out) == (2, "")
    assert "--plot photos/a/plot.png lies in photos, where it would become one of the images" in err
    assert run("dropout", "photos", "--plot", "photos/a/0.png")[0] == 2
    assert len(list(Path("photos").rglob("*.png"))) == 32


def test_a_file_with_the_target_is_judged_as_scikit_learn_judges(run, folder):
    table = pd.read_csv(folder / "wine.csv").sample(60, random_state=0)
    table.to_csv("some.csv", index=False)
    document = json.loads(run("predict", folder / "wine", "some.csv", *ALL)[1])
    rows = pd.DataFrame(document["predictions"])
    assert rows["target"].tolist() == table["quality"].tolist()
    assert document["summary"]["n"] == 60
    assert document["summary"]["accuracy"] == pytest.approx(accuracy_score(table["quality"], rows["prediction"]))


def test_the_study_s_own_file_gives_the_test_rows_and_says_so(run, folder):
    code, out, err = run("predict", folder / "wine", folder / "wine.csv", *ALL)
    assert code == 0
    assert "the 45 test rows of 178 are predicted" in err
    assert len(json.loads(out)["predictions"]) == 45
    code, out, err = run("predict", folder / "wine", folder / "wine.csv", "--rows", "all", *ALL)
    assert "most of these rows took part in training" in err
    assert len(json.loads(out)["predictions"]) == 178


def test_rows_are_numbered_as_in_the_file_whatever_was_left_out_or_put_in_order(run):
    table = houses(80)
    table["price"] = table.price.mask(table.index.isin([0, 3, 4, 31]))
    table.to_csv("houses.csv", index=False)
    code, _, err = run("tune", "houses.csv", "--target", "price", "--time-order", "built", *QUICK, "--out", "study")
    assert code == 0, err
    code, out, err = run("predict", "study", "houses.csv", *ALL)
    assert code == 0, err
    predictions = json.loads(out)["predictions"]
    assert len(predictions) == 19
    assert [row["target"] for row in predictions] == [table.price[row["row"]] for row in predictions]
    latest = table.dropna().built.sort_values().index[-19:]
    assert sorted(row["row"] for row in predictions) == sorted(latest)


def test_rows_without_a_usable_target_are_predicted_but_not_judged(run, folder):
    table = pd.read_csv(folder / "wine.csv")
    table.loc[:9, "quality"] = None
    table.loc[10:12, "quality"] = "corked"
    table.to_csv("partly.csv", index=False)
    code, out, err = run("predict", folder / "wine", "partly.csv", *ALL)
    document = json.loads(out)
    assert code == 0
    assert "is a class that the training rows lack in 3 rows ('corked'): not evaluated" in err
    assert "target 'quality' is missing in 10 rows: not evaluated" in err
    rows = pd.DataFrame(document["predictions"])
    assert len(rows) == 178
    assert document["summary"]["n"] == 165
    judged = rows.iloc[13:]
    assert document["summary"]["accuracy"] == pytest.approx(accuracy_score(judged["target"], judged["prediction"]))
    assert run("predict", folder / "wine", "partly.csv", "--samples", 0, "--out", "lines.parquet")[0] == 0
    assert pd.read_parquet("lines.parquet")["target"].isna().sum() == 13


def test_numbers_come_in_the_target_s_own_unit(run, folder):
    table = houses().drop(columns="price")
    table.to_csv("new.csv", index=False)
    code, out, _ = run("predict", folder / "houses", "new.csv", *ALL)
    assert code == 0
    rows = pd.DataFrame(json.loads(out)["predictions"])
    kept = load_study(folder / "houses")
    mean, deviation = kept.target_scale
    with torch.no_grad():
        expected = kept.model()(kept.preprocessing.inputs(table))[:, 0].double() * deviation + mean
    np.testing.assert_allclose(rows["prediction"], expected, rtol=1e-5)
    houses().to_csv("known.csv", index=False)
    document = json.loads(run("predict", folder / "houses", "known.csv", *ALL)[1])
    assert [row["target"] for row in document["predictions"]] == houses()["price"].tolist()  # decimals as they were
    assert document["summary"]["rmse"] == pytest.approx(
        mean_squared_error(houses()["price"], rows["prediction"]) ** 0.5, rel=1e-4
    )


def test_values_that_training_never_saw_are_predicted_and_told(run, folder):
    table = houses(30).drop(columns="price").astype({"size": object})
    table.loc[0, "place"] = "west"
    table.loc[1, "size"] = "large"
    table.loc[2, "size"] = None
    table.loc[3, "built"] = "unknown"
    table.loc[4, "size"] = 5000
    table["owner"] = "nobody asked"
    table.to_csv("odd.csv", index=False)
    code, out, err = run("predict", folder / "houses", "odd.csv", *ALL)
    document = json.loads(out)
    assert code == 0
    assert np.isfinite([row["prediction"] for row in document["predictions"]]).all()
    for said in (
        "column 'place' has a value that the training rows lack in 1 row ('west')",
        "column 'size' is not a number in 1 row ('large'): replaced by the median",
        "column 'size' is missing in 1 row, in the training rows it never is",
        "column 'built' is not a date in 1 row ('unknown')",
        "column 'size' is beyond the training rows in 1 row (5000; they span 4",
    ):
        assert said in err
        assert any(said in note for note in document["notes"])
    assert "owner" not in err


def test_the_page_about_trust_takes_a_file_with_targets(run, folder):
    table = pd.read_csv(folder / "wine.csv").sample(80, random_state=1)
    table.to_csv("known.csv", index=False)
    (table.drop(columns="quality") * 3).to_csv("foreign.csv", index=False)
    words = ("trust", folder / "wine", "known.csv", "--against", "foreign.csv", "--out", "t.html", *ALL)
    _, out, err = run(*words)
    document = json.loads(out)
    assert document["summary"]["n"] == 80
    assert document["out_of_distribution"]["data"] == "foreign"
    beyond = "note: among the rows of foreign.csv: column 'alcohol' is beyond the training rows in 80 rows"
    assert beyond in err
    assert any(note.startswith(beyond.removeprefix("note: ")) for note in document["notes"])
    with open("t.html") as page:
        assert "What is the gain from abstaining?" in page.read()


def write(name, text):
    with open(name, "w") as file:
        file.write(text)


@pytest.mark.parametrize(
    ("study", "name", "text", "said"),
    [
        ("wine", "a.csv", "alcohol,ash\n1,2\n", "a.csv lacks 'malic_acid'"),
        ("wine", "a.csv", "", "a.csv is empty"),
        ("wine", "a.csv", None, "there is no file a.csv"),
        ("wine", "a.parquet", "PAR1 cut", "a.parquet can't be read as parquet"),
        ("houses", "a.csv", "size,place\n1,2\n", "a.csv lacks 'built', which the training rows have"),
        ("wine", "wine", None, "is not the table that the study was made on"),
    ],
)
def test_a_file_that_will_not_do_is_one_line(run, folder, study, name, text, said):
    if text is not None:
        write(name, text)
    code, out, err = run("predict", folder / study, name, *ALL)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err


@pytest.mark.parametrize(
    ("study", "values", "said"),
    [
        ("wine", None, "'new' has no values of the study's target, column 'quality', which dampen trust needs"),
        ("wine", "", "'new' has no values of the study's target, column 'quality'"),
        ("wine", "red", "'new' does not have the study's classes: give it as --against"),
        ("houses", None, "'new' has no values of the study's target, column 'price'"),
        ("houses", "dear", "'new' does not have the study's targets: give it as --against"),
    ],
)
def test_trust_needs_targets(run, folder, study, values, said):
    table = pd.read_csv(folder / "wine.csv") if study == "wine" else pd.read_parquet(folder / "houses.parquet")
    target = "quality" if study == "wine" else "price"
    table = table.drop(columns=target) if values is None else table.assign(**{target: values})
    table.to_csv("new.csv", index=False)
    code, out, err = run("trust", folder / study, "new.csv", "--out", "t.html")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err


def test_test_rows_are_only_those_of_the_study_s_own_file(run, folder):
    pd.read_csv(folder / "wine.csv").to_csv("copy.csv", index=False)
    code, _, err = run("predict", folder / "wine", "copy.csv", "--rows", "test")
    assert code == 2
    assert "--rows all takes all of them" in err


def make(inputs, outputs):
    return nn.Sequential(nn.Linear(inputs, 8), nn.ReLU(), nn.Linear(8, outputs))


def test_the_user_s_own_network_is_found_by_its_name_with_dropout_inserted_again(run, folder):
    source = inspect.getsource(make)
    write("nets.py", f"from torch import nn\n\n\n{source}")
    houses().to_csv("mine.csv", index=False)
    settings = [dampen.Setting(dropout=0.5), dampen.Setting(dropout=0.99)]
    data = dampen.load("mine.csv", target="price")
    dampen.compare(dampen.insert_dropout(make), data, settings, n_seeds=2, epochs=2, out="own")
    assert "name its factory with --model" in run("predict", "own", "mine.csv")[2]
    code, out, _ = run("predict", "own", "mine.csv", "--model", "nets.py:make", "--samples", 5, "--json")
    assert code == 0
    assert json.loads(out)["method"] == "Monte-Carlo dropout, 5 samples"
