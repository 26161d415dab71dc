"""`--codes COLUMN`: from the file to a network with embeddings, and from the study's folder to new rows."""

import contextlib
import io
import json
import sys

import numpy as np
import pandas as pd
import pytest
import torch

import dampen
from dampen.data import Preprocessing

SMALL = ("--settings", 2, "--seeds", 1, "--epochs", 1, "--confirmed", 1, "--confirm-seeds", 2)
N = 120
NETWORK = """
import torch
from torch import nn

class Network(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.shop, self.ward = nn.Embedding(9, 3), nn.Embedding(4, 2)
        self.rest = nn.Sequential(nn.Linear(inputs - 2 + 5, 8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, outputs))

    def forward(self, x):
        shop, ward = x[..., 0].long(), x[..., 1].long()
        return self.rest(torch.cat([self.shop(shop), self.ward(ward), x[..., 2:]], -1))
"""


def shops() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    shop = 1 + np.arange(N) % 8
    table = pd.DataFrame({"size": rng.normal(size=N), "shop": shop, "ward": rng.choice(["north", "south", "west"], N)})
    return table.assign(day=[f"2024-01-{1 + i % 28:02}" for i in range(N)], sold=np.where(shop % 2, "yes", "no"))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of a study of a table with two columns of codes, and what was printed."""
    from dampen.cli import main

    folder, out = tmp_path_factory.mktemp("codes"), io.StringIO()
    shops().to_csv(folder / "shops.csv", index=False)
    (folder / "coded_network.py").write_text(NETWORK)
    codes = ("--codes", "shop", "--codes", "ward", "--drop", "day", "--model", f"{folder}/coded_network.py:Network")
    words = ("tune", folder / "shops.csv", "--target", "sold", *codes, *SMALL, "--out", folder / "study")
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out):
        patch.setattr(sys, "argv", ["dampen", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
    assert not ended.value.code
    return folder / "study", " ".join(out.getvalue().split()), f"{folder}/coded_network.py:Network"


def test_a_study_prints_where_the_codes_are_and_how_many(made):
    folder, out, _ = made
    assert "shop 8 categories 1 input: codes from 1 to 8 for nn.Embedding, 0 where missing or unknown" in out
    assert "Note: the codes of column 'shop' are input 0, for nn.Embedding(9, ...)(x[..., 0].long());" in out
    assert "Note: the codes of column 'ward' are input 1, for nn.Embedding(4, ...)(x[..., 1].long());" in out
    document = json.loads((folder / "study.json").read_text())
    assert document["plan"]["reading"]["codes"] == ["shop", "ward"]
    assert {"linear", "boosting"} <= set(document["test"])


@pytest.mark.filterwarnings("ignore::dampen.errors.DataWarning")  # of few calibration rows
def test_new_rows_are_predicted_and_exported_from_the_study_s_folder_alone(run, made, tmp_path):
    folder, _, network = made
    new = pd.DataFrame({"ward": ["west", "east"], "shop": [3, None], "size": [0.3, 0.4]})
    new.to_csv("new.csv", index=False)
    code, out, err = run("predict", folder, "new.csv", "--model", network, "--samples", 0, "--json")
    assert code == 0, err
    assert "column 'ward' has a value that the training rows lack in 1 row ('east'): its code is 0" in err
    assert "column 'shop' is missing in 1 row, in the training rows it never is: its code is 0" in err
    study = dampen.load_study(folder, model=dampen.cli._import_string.network_maker(network))
    expected = study.calibrated(samples=0).predict(new).probability
    np.testing.assert_allclose([row["probability"] for row in json.loads(out)["predictions"]], expected, rtol=1e-6)

    code, out, err = run("export", folder, "--model", network, "--out", "there")
    assert code == 0, err
    there = Preprocessing.read_document(tmp_path / "there" / "preprocessing.json")
    inputs = there.inputs("new.csv")
    assert inputs[:, :2].tolist() == [[3, 3], [0, 0]]
    assert torch.equal(inputs, study.preprocessing.inputs(new))
    about = json.loads((tmp_path / "there" / "model.json").read_text())["preprocessing"]
    assert about["inputs"] == ["shop code", "ward code", "size"]
    assert about["note"].endswith(", codes as they are")

    code, out, err = run("trust", folder, folder.parent / "shops.csv", "--model", network, "--samples", 0, "--json")
    assert code == 0, err
    assert json.loads(out)["summary"]["n"] == len(study.data.test_rows)


def test_a_study_goes_on_with_its_codes_and_with_no_others(run, made):
    folder, _, network = made
    words = ("tune", folder.parent / "shops.csv", "--target", "sold", "--drop", "day", "--model", network, *SMALL)
    code, _, err = run(*words, "--codes", "shop", "--codes", "ward", "--out", folder, "--resume")
    assert code == 0, err
    code, out, err = run(*words, "--codes", "ward", "--category", "shop", "--out", folder, "--resume")
    assert (code, out, err.count("\n")) == (2, "", 1)


def test_dampen_s_own_network_refuses_codes_in_one_line(run):
    shops().to_csv("shops.csv", index=False)
    code, out, err = run("tune", "shops.csv", "--target", "sold", "--codes", "shop")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "reads the codes of column 'shop', input 0, as numbers: give a network of your own (dampen tune" in err
    assert err.strip().endswith("or leave --codes out")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--codes", "shops"), "no column 'shops' (codes)"),
        (("--codes", "sold"), "--codes: column 'sold' can't be codes and the target too"),
        (
            ("--codes", "size"),
            "--codes: column 'size' holds 90 different numbers in 90 rows, no categories; leave it out",
        ),
        (("--codes", "day"), "--codes: column 'day' holds dates, no categories; leave it out"),
        (("--codes", "ward", "--drop", "ward"), "--codes: column 'ward' can't be codes and left out too"),
        (("--codes", "ward", "--text", "ward"), "--codes: column 'ward' can't be codes and free text too"),
        (("--codes", "shop", "--codes", "ward", "--group", "ward"), "'ward' can't be codes and the group too"),
    ],
)
def test_a_wrong_column_of_codes_is_one_line(run, words, message):
    shops().to_csv("shops.csv", index=False)
    code, out, err = run("dropout", "shops.csv", "--target", "sold", *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_a_knob_that_changes_codes_is_one_line(run, made):
    folder, _, network = made
    words = ("tune", folder.parent / "shops.csv", "--target", "sold", "--model", network, "--codes", "shop")
    code, out, err = run(*words, "--codes", "ward", "--drop", "day", "--knob", "mixup=0.1,0.2")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "mixup changes the codes of column 'shop': leave it out" in err
