"""`--text COLUMN`: from the file to the study, and from the study's folder to new rows."""

import contextlib
import io
import json
import sys

import numpy as np
import pandas as pd
import pytest

import dampen
from dampen.data import Preprocessing

SMALL = ("--settings", 2, "--seeds", 1, "--epochs", 1, "--confirmed", 1, "--confirm-seeds", 2, "--hidden", 4)
N = 120


def stays() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    liked = np.arange(N) % 2
    words = [["broken", "dirty", "late", "noise"], ["clean", "friendly", "view", "quiet"]]
    review = [" ".join([*rng.choice(words[y], 3), *rng.choice(["room", "staff", "bed"], 3)]) for y in liked]
    title = [f"{rng.choice(['our', 'my'])} stay in {rng.choice(['may', 'june'])} {i}" for i in range(N)]
    table = pd.DataFrame({"nights": rng.integers(1, 9, N), "review": review, "title": title})
    return table.assign(liked=np.where(liked, "yes", "no"))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of a study of a table with two columns of text, one of them named; and what was printed."""
    from dampen.cli import main

    folder, out = tmp_path_factory.mktemp("text"), io.StringIO()
    stays().to_csv(folder / "stays.csv", index=False)
    words = ("tune", folder / "stays.csv", "--target", "liked", "--text", "review", *SMALL, "--out", folder / "study")
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out):
        patch.setattr(sys, "argv", ["dampen", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
    assert not ended.value.code
    return folder / "study", " ".join(out.getvalue().split())


def test_a_study_prints_what_text_became_and_names_the_option_for_other_text(made):
    folder, out = made
    n = len(dampen.load_study(folder).preprocessing.vectoriser.columns.used[1].levels)
    assert f"review free text {n} inputs: tf-idf of words and pairs of words, unknown ones ignored" in out
    assert "column 'title' looks like free text and is not used: use --text title to make inputs of its words" in out
    assert "column 'review' looks like" not in out
    assert json.loads((folder / "study.json").read_text())["plan"]["reading"]["text"] == ["review"]


@pytest.mark.filterwarnings("ignore::dampen.errors.DataWarning")  # of few calibration rows
def test_new_rows_are_predicted_from_the_study_s_folder_alone(run, made, tmp_path):
    folder, _ = made
    new = pd.DataFrame({"review": ["clean quiet view", "xyz"], "nights": [3, 4]})
    new.to_csv("new.csv", index=False)
    code, out, err = run("predict", folder, "new.csv", "--samples", 0, "--json")
    assert code == 0, err
    assert "column 'review' has no word that is an input in 1 row ('xyz')" in err
    study = dampen.load_study(folder)
    expected = study.calibrated(samples=0).predict(new).probability
    np.testing.assert_allclose([row["probability"] for row in json.loads(out)["predictions"]], expected, rtol=1e-6)

    code, out, err = run("export", folder, "--out", "there")
    assert code == 0, err
    there = Preprocessing.read_document(tmp_path / "there" / "preprocessing.json")
    np.testing.assert_array_equal(there.inputs("new.csv"), study.preprocessing.inputs(new))

    new.drop(columns="review").to_csv("new.csv", index=False)
    code, out, err = run("predict", folder, "new.csv")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "new.csv lacks 'review'" in err


def test_the_study_s_own_file_is_read_again_with_its_text(run, made):
    folder, _ = made
    study = dampen.load_study(folder)
    assert study.data.columns.used[1].kind == "text"
    code, out, err = run("trust", folder, folder.parent / "stays.csv", "--samples", 0, "--json")
    assert code == 0, err
    assert json.loads(out)["summary"]["n"] == len(study.data.test_rows)
    code, out, err = run("runs", "show", folder)
    assert code == 0, err


@pytest.mark.parametrize("command", ["tune", "dropout"])
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--text", "words"), "no column 'words' (text)"),
        (("--text", "liked"), "--text: column 'liked' can't be free text and the target too"),
        (("--text", "nights"), "--text: column 'nights' holds numbers, no free text; leave it out"),
        (("--text", "review", "--drop", "review"), "--text: column 'review' can't be free text and left out too"),
        (("--text", "review", "--category", "review"), "can't be free text and a category too"),
        (("--text", "review", "--text", "title", "--group", "title"), "'title' can't be free text and the group too"),
    ],
)
def test_a_wrong_column_of_text_is_one_line(run, command, words, message):
    stays().to_csv("stays.csv", index=False)
    code, out, err = run(command, "stays.csv", "--target", "liked", *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
