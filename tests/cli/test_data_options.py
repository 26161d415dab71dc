"""The commands on people's files: what they print, where, and what they refuse."""

import json

import numpy as np
import pandas as pd
import pytest

SMALL = ("--settings", 2, "--seeds", 1, "--epochs", 1, "--confirmed", 1, "--confirm-seeds", 2, "--hidden", 4)


# Shapes are checked by other tests of studies: here that would take most of the time.
@pytest.fixture
def run(run):
    """Run in a folder that has a table."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"size": rng.normal(size=120), "colour": rng.choice(["red", "blue", "green"], 120), "same": 1})
    table["day"] = pd.date_range("2024-01-01", periods=120).astype(str)
    table["quality"] = np.where(table["size"] > 0, "good", "bad")
    table.to_csv("wines.csv")

    return run


def test_tune_on_a_file_tells_first_what_became_of_each_column(run, tmp_path):
    code, out, _ = run("tune", "wines.csv", "--target", "quality", *SMALL)
    assert code == 0
    lines = out.splitlines()
    assert [word for word in ("column", "size", "colour", "day", "Unnamed: 0", "same") if word in out] == [
        *("column", "size", "colour", "day", "Unnamed: 0", "same")
    ]
    same = next(line for line in lines if line.strip().startswith("same"))
    assert "not used" in same
    assert "constant, 1 in every row" in same
    assert out.index("Unnamed: 0") < out.index("The test set, opened once")
    assert lines[-1] == "dampen-runs/wines-1/report.html"
    kept = json.loads((tmp_path / "dampen-runs" / "wines-1" / "preprocessing.json").read_text())
    assert kept["classes"] == ["bad", "good"]


def test_with_json_the_table_goes_to_stderr(run):
    code, out, err = run("tune", "wines.csv", "--target", "quality", "--drop", "day, size", *SMALL, "--json")
    document = json.loads(out)
    assert code == 0
    assert "not used" in err
    said = {column["name"]: column["note"] for column in document["columns"]}
    assert said["day"] == said["size"] == "asked for"


def test_a_column_is_a_category_on_request_and_what_is_odd_is_a_line_or_a_note(run):
    table = pd.read_csv("wines.csv", index_col=0).assign(shop=np.arange(120) % 5 + 1001)
    table["quality"] = np.where(np.arange(120) % 3 == 0, "None", table["quality"])
    table.loc[2, "day"] = "0000-00-00"
    table.to_csv("shops.csv", index=False)
    words = ("tune", "shops.csv", "--target", "quality", "--category", "shop", *SMALL)
    code, out, err = run(*words)
    assert code == 0, err
    line = next(line for line in out.splitlines() if line.strip().startswith("shop"))
    assert "5 categories" in line
    assert "1 not a date ('0000-00-00'), treated as missing" in out
    assert "Note: target 'quality': 'None' in 40 rows is treated as a class" in out
    code, out, err = run(*words, "--json", "--resume")
    assert any("'None' in 40 rows is treated as a class" in note for note in json.loads(out)["notes"])
    assert "Note: target 'quality': 'None' in 40 rows" in err


def test_a_repeating_identifier_is_named_with_the_option_for_it(run):
    table = pd.read_csv("wines.csv").assign(customer=np.arange(120) % 40)
    table.to_csv("sales.csv")
    words = ("--epochs", 1, "--seeds", 1, "--hidden", "4", "--rates", "0.5")
    code, out, err = run("dropout", "sales.csv", "--target", "quality", *words)
    assert code == 0, err
    assert "Note: column 'customer' looks like an identifier that repeats (40 values in 120 rows)" in out
    assert "use --group customer," in out


def test_dropout_takes_the_same_options(run):
    words = ("--epochs", 1, "--seeds", 1, "--hidden", "4", "--rates", "0.5")
    code, out, _ = run("dropout", "wines.csv", "--target", "size", "--time-order", "day", *words)
    assert code == 0
    assert out.index("time of the week") < out.index("Epoch 1/1")


@pytest.mark.parametrize("command", ["tune", "dropout"])
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["wines.csv"], "which column of wines.csv is to be predicted? name it with --target; there are 'Unnamed"),
        (["wines.csv", "--target", "quality", "--task", "regression"], "use --task classification"),
        (["wines.csv", "--target", "quality", "--test", "no.csv"], "there is no file no.csv"),
        (["wines.csv", "--target", "quality", "--group", "shop"], "no column 'shop' (group)"),
        (["wine", "--target", "quality"], "target: only for tables"),
        (["wines.csv", "--target", "quality", "--image-size", "0"], "--image-size"),
        (["wines.csv", "--target", "quality", "--device", "nonsense"], "nonsense"),
    ],
)
def test_a_mistake_is_one_line(run, command, words, message):
    code, out, err = run(command, *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_a_mistake_that_is_found_after_reading_is_one_line_too(run):
    code, out, err = run("tune", "wines.csv", "--target", "quality", "--metric", "mse")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "one of nll, accuracy, brier" in err


def test_advice_on_rows_in_time_names_options(run):
    table = pd.read_csv("wines.csv", index_col=0).assign(shop=np.arange(120) % 2)
    table.to_csv("panel.csv", index=False)
    for words, advice in (
        (("panel.csv", "--group", "shop"), "leave --time-order out to keep groups together, or leave --group out"),
        (("wines.csv", "--validation", "folds"), "use --validation held-out"),
    ):
        code, out, err = run("tune", *words, "--target", "quality", "--time-order", "day", *SMALL)
        assert (code, out, len(err.splitlines())) == (2, "", 1)
        assert advice in err
        assert "time_order" not in err


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (("--settings", 0), "--settings must be a whole number, 1 or larger"),
        (("--confirm-seeds", 1), "--confirm-seeds must be a whole number, 2 or larger"),
        (("--batch-size", 0), "--batch-size must be a whole number"),
        (("--margin", 2), "--margin must be a share"),
        (("--budget", "0s"), "--budget must be a number of seconds above 0"),
        (("--time-order", "day"), "--time-order: only for tables"),
        (("--data-dir", "nowhere"), "--data-dir nowhere is not a folder"),
        (("--out", "nowhere", "--resume"), "leave --resume out to begin one"),
    ],
)
def test_a_wrong_value_is_told_by_its_option(run, words, option):
    code, out, err = run("tune", "iris", *SMALL, *words)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert err.startswith("dampen: ")
    assert option in err
