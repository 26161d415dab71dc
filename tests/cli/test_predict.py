"""`dampen predict` and `dampen trust`: lines, summary, page, and one line for every mistake."""

import inspect
import json
import math
import re
import shutil

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss, mean_squared_error

import dampen
from dampen.study import CalibratedStudy, Method, calibrate, load_study
from dampen.uncertainty import summary

SMALL = {"n_seeds": 2, "epochs": 2, "batch_size": 32}


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """Finished studies: of classes, of images, of numbers, without dropout, of a network of one's own."""
    folder = tmp_path_factory.mktemp("studies")
    half, none = dampen.Setting(dropout=0.5), dampen.Setting(dropout=0.0)
    for name, settings in {
        "wine": [half, dampen.Setting(dropout=0.9)],
        "digits": [half, dampen.Setting(dropout=0.9)],
    }.items():
        dampen.compare(dampen.mlp(24), dampen.load(name), settings, out=folder / name, **SMALL)
    dampen.compare(
        dampen.mlp(24), dampen.load("diabetes"), [half, dampen.Setting(dropout=0.9)], out=folder / "diabetes", **SMALL
    )
    dampen.compare(
        dampen.mlp(24), dampen.load("iris"), [none, dampen.Setting(dropout=0.99)], out=folder / "iris", **SMALL
    )
    dampen.compare(own_network, dampen.load("wine"), [half, dampen.Setting(dropout=0.9)], out=folder / "own", **SMALL)
    return folder


def own_network():
    return torch.nn.Sequential(torch.nn.Linear(13, 8), torch.nn.ReLU(), torch.nn.Dropout(0.5), torch.nn.Linear(8, 3))


def test_json_has_a_row_for_each_input_and_ends_with_the_summary(run, studies):
    code, out, _ = run("predict", studies / "wine", "wine", "--samples", 20, "--json")
    assert code == 0
    document = json.loads(out)
    assert list(document)[-1] == "summary"
    assert list(document["summary"]) == [
        "n", "accuracy", "nll", "brier", "ece", "smooth_ece", "classwise_ece", "aurc", "augrc", "nll_calibrated",
        "ece_calibrated", "smooth_ece_calibrated", "classwise_ece_calibrated"
    ]  # fmt: skip
    data = dampen.load("wine")
    rows = pd.DataFrame(document["predictions"])
    assert rows["row"].tolist() == data.test_rows.tolist()
    truth = [data.classes[int(data.targets[row])] for row in rows["row"]]
    assert document["summary"]["accuracy"] == pytest.approx(accuracy_score(truth, rows["prediction"]))
    assert (rows["mutual_information"] > -1e-9).all()
    assert {"probability", "entropy", "abstain", "set_size", "target"} <= set(rows)


def test_the_summary_is_that_of_the_sampled_network(studies):
    kept = load_study(studies / "wine")
    assert [m.p for m in kept.model() if isinstance(m, torch.nn.Dropout)] == [0.5]
    method = Method(samples=30)
    calibration = calibrate(kept.results.predictor, method, 0.9)
    columns = list(CalibratedStudy(kept.results, method, calibration).columns(kept.data, kept.data.test_rows))
    found = summary(columns[0])
    sampled = dampen.mc_dropout(kept.model(), kept.data.test, samples=30)
    truth = kept.data.test.targets.numpy()
    assert found["nll"] == pytest.approx(log_loss(truth, sampled.probabilities), rel=1e-6)
    tempered = (sampled.probabilities.log() / calibration.temperature).softmax(1)
    assert found["nll_calibrated"] == pytest.approx(log_loss(truth, tempered), rel=1e-6)


@pytest.mark.parametrize("calibrator", ["vector", "isotonic"])
def test_the_command_takes_the_calibrator_and_sets_that_the_study_takes(run, studies, calibrator):
    words = ("digits", "--samples", 0, "--calibrator", calibrator, "--sets", "raps", "--json")
    code, out, err = run("predict", studies / "digits", *words)
    assert code == 0, err
    document = json.loads(out)
    assert (document["calibration"]["calibrator"], document["calibration"]["sets"]) == (calibrator, "raps")
    kept = load_study(studies / "digits")
    found = kept.calibrated(0, calibrator=calibrator, sets="raps").predict(kept.data)
    rows = pd.DataFrame(document["predictions"])
    np.testing.assert_allclose(rows["probability"], found.probability, rtol=1e-6)
    assert rows["set_size"].tolist() == found.set_size.tolist()
    assert min(found.set_size) >= 1
    assert document["summary"]["nll_calibrated"] < document["summary"]["nll"]


@pytest.mark.parametrize("sets", ["lac", "aps", "raps"])
def test_the_coverage_that_is_named_is_the_largest_with_a_threshold(studies, sets):
    predictor = load_study(studies / "wine").results.predictor
    notes = calibrate(predictor, Method(0), 0.9999, sets=sets).notes
    named = float(re.search(r"choose a coverage of ([\d.]+) or less", " ".join(notes))[1])
    assert math.isfinite(calibrate(predictor, Method(0), named, sets=sets).conformal)
    assert math.isinf(calibrate(predictor, Method(0), named + 0.001, sets=sets).conformal)


@pytest.mark.parametrize("sets", ["lac", "aps", "raps"])
def test_a_row_alone_has_the_set_that_it_has_among_others(studies, sets):
    kept = load_study(studies / "digits")
    calibrated = kept.calibrated(0, 0.95, sets=sets)
    rows = kept.data.features[kept.data.test_rows[:40]]
    among = calibrated.predict(rows)
    alone = [calibrated.predict(row) for row in rows.split(1)]
    assert among.in_prediction_set.tolist() == [one.in_prediction_set[0].tolist() for one in alone]


@pytest.mark.parametrize(("option", "value"), [("--calibrator", "vector"), ("--sets", "aps")])
def test_calibrators_and_sets_are_of_classes(run, studies, option, value):
    code, out, err = run("predict", studies / "diabetes", "diabetes", "--samples", 0, option, value)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "is for classes" in err


def test_what_is_fitted_is_fitted_on_rows_that_each_network_has_not_seen(studies):
    kept = load_study(studies / "wine")
    seen = {tuple(row.tolist()) for row in kept.data.test.features}
    assert len(kept.results.predictor.unseen) == 2
    for _, rows in kept.results.predictor.unseen:
        assert not seen & {tuple(row.tolist()) for row in rows.features}
    one, many = (calibrate(kept.results.predictor, Method(10, ensemble), 0.8) for ensemble in (False, True))
    assert one.rows == sum(len(rows) for _, rows in kept.results.predictor.unseen)
    assert many.rows <= one.rows
    probabilities = torch.cat(
        [dampen.mc_dropout(n, rows, samples=10).probabilities for n, rows in kept.results.predictor.unseen]
    )
    top = (probabilities.log() / one.temperature).softmax(1).amax(1)
    assert float((1 - top <= one.abstain_above + 1e-12).double().mean()) == pytest.approx(0.8, abs=1.5 / one.rows)


@pytest.mark.parametrize("name", ["wine", "digits", "diabetes"])
def test_a_picture_shows_what_predictions_were_worth(run, studies, tmp_path, name):
    code, _, err = run("predict", studies / name, name, "--samples", 3, "--out", "lines.csv", "--plot", "p.png")
    assert (code, (tmp_path / "p.png").is_file()) == (0, True), err
    pixels = matplotlib.image.imread(tmp_path / "p.png")
    assert pixels.shape[1] == 1650
    assert (pixels.shape[0] > 1000) == (name == "digits")  # images below the curves
    assert 0.01 < (pixels[..., :3].min(-1) < 0.9).mean() < 0.9


def test_a_picture_that_cannot_be_is_refused_before_anything_is_written(run, studies, tmp_path):
    code, out, err = run("predict", studies / "wine", "wine", "--out", "lines.csv", "--plot", "p.txt")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert not (tmp_path / "lines.csv").exists()


def test_lines_go_to_a_file_and_are_those_of_the_document(run, studies, tmp_path):
    words = ("predict", studies / "wine", "wine", "--samples", 5)
    document = json.loads(run(*words, "--json")[1])
    code, out, _ = run(*words, "--out", "found.csv")
    assert code == 0
    assert out.splitlines()[-1] == "found.csv"
    short = json.loads(run(*words, "--out", "found.parquet", "--json")[1])
    assert short["summary"] == document["summary"]
    assert "predictions" not in short
    for frame in (pd.read_csv("found.csv"), pd.read_parquet("found.parquet")):
        pd.testing.assert_frame_equal(frame, pd.DataFrame(document["predictions"]), check_dtype=False, rtol=1e-9)
    assert {file.name for file in tmp_path.iterdir()} == {"found.csv", "found.parquet"}


def test_numbers_have_intervals_in_the_target_s_own_unit(run, studies):
    document = json.loads(run("predict", studies / "diabetes", "diabetes", "--samples", 20, "--json")[1])
    assert list(document["summary"]) == ["n", "rmse", "nll", "log_likelihood", "coverage_95"]
    data = dampen.load("diabetes")
    rows = pd.DataFrame(document["predictions"])
    truth = data.targets[rows["row"].tolist()].numpy()
    assert rows["target"].tolist() == truth.tolist()
    assert document["summary"]["rmse"] == pytest.approx(mean_squared_error(truth, rows["prediction"]) ** 0.5, rel=1e-3)
    assert 30 < document["summary"]["rmse"] < 200
    assert document["abstention"]["conformal_coverage"] > 0.85
    assert (rows["low"] < rows["prediction"]).all()


def test_a_study_without_dropout_answers_by_a_single_pass_and_says_so(run, studies):
    code, out, err = run("predict", studies / "iris", "iris", "--json")
    assert code == 0
    assert "drops no units" in err
    assert json.loads(out)["method"] == "single pass"
    assert max(abs(row["mutual_information"]) for row in json.loads(out)["predictions"]) < 1e-6


def test_an_ensemble_asks_all_networks(run, studies):
    found = json.loads(run("predict", studies / "wine", "wine", "--samples", 0, "--ensemble", "--json")[1])
    assert found["method"] == "ensemble"
    kept = load_study(studies / "wine")
    assert len(kept.ensemble()) == 2
    mean = dampen.predict(kept.ensemble(), kept.data.test)
    assert [row["entropy"] for row in found["predictions"]] == pytest.approx(mean.entropy.tolist())


def test_a_network_of_one_s_own_needs_its_name(run, studies, tmp_path):
    code, out, err = run("predict", studies / "own", "wine")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "--model MODULE:FUNCTION" in err
    source = inspect.getsource(own_network).replace("own_network", "make")
    (tmp_path / "my_networks.py").write_text(f"import torch\n\n\n{source}")
    code, out, _ = run("predict", studies / "own", "wine", "--model", "my_networks:make", "--samples", 5, "--json")
    assert code == 0
    assert json.loads(out)["summary"]["n"] == 45


def test_rows_that_the_network_is_surer_of_than_of_its_own_are_told(run, studies, monkeypatch):
    found = {"entropy": {"auroc": 0.007, "aupr": 0.3, "fpr95": 1.0, "auroc_interval": (0.0, 0.035)}}
    monkeypatch.setattr("dampen.cli._predict._detection", lambda *_: found)
    out = run("trust", studies / "digits", "digits", "--against", "digits", "--samples", 0, "--out", "t.html")[1]
    assert "The network is surer of rows of digits than of its own, and no score warns of them: AUROC 0.0070" in out


def test_the_page_says_what_abstaining_buys_and_shows_inputs(run, studies, tmp_path):
    code, out, _ = run("trust", studies / "digits", "digits", "--against", "digits", "--samples", 3, "--out", "t.html")
    assert code == 0
    assert out.splitlines()[-1] == "t.html"
    assert re.search(r"not told apart by any score: at best AUROC 0\.5000 \(95 % interval 0\.\d+ to 0\.\d+\)", out)
    text = (tmp_path / "t.html").read_text()
    assert re.findall(r"<h2>(.*?)</h2>", text) == [
        "Are the probabilities calibrated?",
        "What is the gain from abstaining?",
        "Is out-of-distribution data detected? digits",
        "The most and the least certain inputs",
        "All figures",
    ]
    assert text.count('<img src="data:image/png;base64,') == 16
    assert not re.search(r"<(script|link|img|iframe)[^>]+(src|href)=[\"']?(https?:)?//", text)
    document = json.loads(
        run("trust", studies / "diabetes", "diabetes", "--samples", 2, "--out", "n.html", "--json")[1]
    )
    assert document["page"] == "n.html"
    assert document["summary"]["n"] == 111
    assert "RMSE" in (tmp_path / "n.html").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["predict", "{}/nowhere", "wine"], "nowhere, here or in dampen-runs: dampen runs lists those that there are"),
        (["predict", "{}/wine", "iris"], "a row of 'iris' has shape [4]"),
        (["predict", "{}/wine", "nothing-such"], "neither a data set nor a folder"),
        (["predict", "{}/wine", "wine", "--coverage", "90"], "--coverage must be between 0 and 1"),
        (["predict", "{}/wine", "wine", "--out", "lines.txt"], "ends in .csv or .parquet"),
        (["predict", "{}/wine", "wine", "--out", "no/lines.csv"], "there is no folder no"),
        (["predict", "{}/wine", "wine", "--rows", "train"], "--rows must be one of test, all; got 'train'"),
        (["predict", "{}/wine", "wine", "--seed", "-1"], "--seed must be"),
        (["predict", "{}/own", "wine", "--model", "nothing.such:f"], "there is no module 'nothing'"),
        (["predict", "{}/wine", "wine", "--model", "nothing.such:f"], "is dampen's own: leave --model out"),
        (["trust", "{}/wine", "wine", "--model", "nothing.such:f"], "is dampen's own: leave --model out"),
        (["trust", "{}/wine", "wine", "--out", "page.pdf"], "ends in .html"),
        (["trust", "{}/wine", "wine", "--against", "iris"], "a row of 'iris' has shape [4]"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(run, studies, tmp_path, words, message):
    code, out, err = run(*(word.format(studies) for word in words))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert not list(tmp_path.iterdir())


def test_a_damaged_folder_is_refused(run, studies, tmp_path):
    folder = tmp_path / "study"
    shutil.copytree(studies / "wine", folder)
    shutil.copy(studies / "iris" / "model.safetensors", folder / "model.safetensors")
    assert "of different networks" in run("predict", folder, "wine")[2]
    (folder / "model.safetensors").write_bytes(b"no")
    assert "can't be read" in run("predict", folder, "wine")[2]
    shutil.rmtree(folder / "checkpoints" / "confirmation-1")
    assert "has no checkpoint" in run("predict", folder, "wine")[2]
