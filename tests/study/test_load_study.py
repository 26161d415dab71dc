"""A study is the same whether it has just been made or is read from its folder, by this version or an earlier one."""

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import dampen
from dampen.report import study_html

pytestmark = pytest.mark.usefixtures("without_shape_checks")
DATA = Path(__file__).parent / "data"
SIZES = {"n_settings": 2, "n_seeds": 1, "epochs": 2, "n_confirm_seeds": 2, "confirmed": 1}


def table(n=80):
    rng = np.random.default_rng(1)
    size, place = rng.uniform(40, 200, n).round(1), rng.choice(["north", "south", "east"], n)
    price = (3 * size + 50 * (place == "south") + rng.normal(0, 5, n)).round(1)
    return pd.DataFrame({"size": size, "place": place, "price": price, "dear": np.where(price > 350, "yes", "<no>")})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Studies as `tune` and `compare` return them, and their folder."""
    where, frame = tmp_path_factory.mktemp("studies"), table()
    classes = dampen.load(frame.drop(columns="price"), target="dear")
    values = dampen.load(frame.drop(columns="dear"), target="price")
    settings = {"one": dampen.Setting(dropout=0.2, lr=0.01), "other": dampen.Setting(dropout=0.9)}
    space = {"weight_decay": [0.0, 0.1], "lr": [0.01]}
    pixels = np.random.default_rng(0).normal(size=(60, 1, 3, 3)).astype(np.float32)
    images = dampen.from_arrays(pixels, np.arange(60) % 2)  # not compared with models for tables, which take time
    return where, {
        "tuned": dampen.tune(dampen.linear(), images, space, out=where / "tuned", **SIZES),
        "classes": dampen.compare(dampen.mlp(3), classes, settings, 2, epochs=2, out=where / "classes"),
        "values": dampen.compare(dampen.mlp(3), values, settings, 2, epochs=2, out=where / "values"),
    }


@pytest.mark.filterwarnings("ignore:train.py is not written")
@pytest.mark.parametrize("name", ["tuned", "values"])
def test_a_study_that_was_read_is_the_one_that_was_made(made, tmp_path, name):
    where, studies = made
    fresh, read = studies[name], dampen.load_study(where / name)
    assert read.document() == fresh.document()
    assert read.verdict.document() == fresh.verdict.document()
    assert (str(read.verdict), str(read)) == (str(fresh.verdict), str(fresh))
    assert read.verdict.usual == fresh.verdict.usual
    for part in ("setting", "recommended", "test", "seconds", "member_epochs", "ranked", "target_scale", "folder"):
        assert getattr(read, part) == getattr(fresh, part), part
    pd.testing.assert_frame_equal(read.frame(), fresh.frame(), check_dtype=False)
    assert (read.preprocessing is None) == (fresh.preprocessing is None) == (name == "tuned")
    if name == "values":
        frame = table().drop(columns=["price", "dear"])
        assert torch.equal(read.preprocessing.inputs(frame), fresh.preprocessing.inputs(frame))
    for mine, theirs in zip([read.model(), *read.ensemble()], [fresh.model(), *fresh.ensemble()], strict=True):
        for parameter, other in zip(mine.parameters(), theirs.parameters(), strict=True):
            assert torch.equal(parameter, other)
    pages = []
    for study in (read, fresh):
        study.report(tmp_path / "report.html")
        pages.append((tmp_path / "report.html").read_text())
    assert pages[0] == pages[1]
    assert {"model.safetensors", "model.json"} <= set(read.export(tmp_path / "export").files)


@pytest.mark.filterwarnings("ignore::dampen.DataWarning")
@pytest.mark.parametrize(("name", "ensemble"), [("classes", False), ("values", False), ("values", True)])
def test_calibrated_predictions_are_those_of_the_command_line(made, run, tmp_path, name, ensemble):
    where, studies = made
    rows = table(100)[60:].reset_index(drop=True)
    rows.to_csv(tmp_path / "rows.csv", index=False)
    words = ["--ensemble"] * ensemble
    code, out, err = run("predict", where / name, "rows.csv", "--samples", 4, "--coverage", 0.8, *words, "--json")
    assert code == 0, err
    document = json.loads(out)
    for study in (studies[name], dampen.load_study(where / name)):
        calibrated = study.calibrated(samples=4, coverage=0.8, ensemble=ensemble)
        assert calibrated.calibration.document() == document["calibration"]
        for given in (rows, tmp_path / "rows.csv", rows[["place", "size"]]):
            found = calibrated.predict(given)
            printed = pd.DataFrame(document["predictions"]).drop(columns=["row", "target"])
            pd.testing.assert_frame_equal(pd.DataFrame(found.columns()), printed, check_dtype=False, rtol=1e-12)
        if name == "classes":
            assert found.classes == ("<no>", "yes")
            np.testing.assert_allclose(found.probabilities.sum(1), 1)
            assert [len(one) for one in found.prediction_sets] == found.set_size.tolist()
            large = [
                {c for c, p in zip(found.classes, row, strict=True) if p >= 1 - calibrated.calibration.conformal}
                for row in found.probabilities
            ]
            assert [set(one) for one in found.prediction_sets] == large
            assert (found.abstain == (1 - found.probability > calibrated.calibration.abstain_above)).all()
        else:
            half = calibrated.calibration.conformal * found.deviation
            np.testing.assert_allclose(found.intervals, np.c_[found.mean - half, found.mean + half])
            assert 100 < found.mean.mean() < 700  # in the target's own unit
            assert (found.abstain == (found.deviation > calibrated.calibration.abstain_above)).all()


def test_values_that_training_did_not_have_are_told_as_warnings(made):
    with pytest.warns(dampen.DataWarning, match="calibration rows"):
        calibrated = dampen.load_study(made[0] / "classes").calibrated(samples=0)
    rows = table(4).assign(place="west").drop(columns=["price", "dear"])
    with pytest.warns(dampen.DataWarning, match="column 'place' has a value that the training rows lack in 4 rows"):
        found = calibrated.predict(rows)
    assert len(found) == 4
    with pytest.raises(dampen.InputError, match="size"):
        calibrated.predict(rows.drop(columns="size"))
    with pytest.raises(dampen.InputError, match="give a frame with the columns 'size', 'place'"):
        calibrated.predict(rows.to_numpy())


@pytest.mark.parametrize("options", [{"samples": -1}, {"coverage": 1.0}, {"seed": -2}])
def test_how_to_calibrate_is_checked(made, options):
    with pytest.raises(dampen.InputError, match=next(iter(options))):
        made[1]["classes"].calibrated(**options)


@pytest.mark.filterwarnings("ignore::dampen.DataWarning")
def test_arrays_are_predicted_as_the_columns_that_they_are():
    x, y = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32), np.arange(60) % 2
    settings = [dampen.Setting(lr=0.01), dampen.Setting(lr=0.1)]
    study = dampen.compare(dampen.mlp(3), dampen.from_arrays(x, y), settings, 2, epochs=1)
    calibrated = study.calibrated(samples=0)
    found = calibrated.predict(x[:5])
    network, data = study.model(), study.preprocessing
    inputs = (
        data.inputs(pd.DataFrame(x[:5])) if data else study.description.normalisation.apply(torch.from_numpy(x[:5]))
    )
    logits = network(inputs).detach().double() / calibrated.calibration.temperature
    np.testing.assert_allclose(found.probabilities, logits.softmax(1).numpy(), rtol=1e-5)
    for same in (torch.from_numpy(x[:5]), x[:5].tolist()):
        assert (calibrated.predict(same).probabilities == found.probabilities).all()
    with pytest.raises(dampen.InputError, match="shape"):
        calibrated.predict(x[:5, :1])


def test_a_notebook_shows_the_verdict_and_the_gain_and_takes_no_text_for_html(made):
    for name, study in made[1].items():
        page = dampen.load_study(made[0] / name)._repr_html_()
        assert page == study._repr_html_()
        assert ("data:image/png;base64," in page) == (name == "tuned")  # a comparison has no parts of a gain
        assert page.count("<li>") == len(study.sentences()) - 1
    hostile = study_html(study.document() | {"sentences": ["<script>alert(1)</script>", "<b>"], "metric": "$x"})
    assert "<script" not in hostile
    assert "<li>&lt;b&gt;</li>" in hostile


def test_a_network_of_one_s_own_is_needed_for_predictions_alone(made, tmp_path):
    shutil.copytree(made[0] / "values", tmp_path / "study")
    document = json.loads((tmp_path / "study" / "study.json").read_text())
    document["plan"]["model"] = "my_network"
    (tmp_path / "study" / "study.json").write_text(json.dumps(document))
    study = dampen.load_study(tmp_path / "study")
    assert str(study.verdict) == str(made[1]["values"].verdict)
    study.report(tmp_path / "report.html")
    with pytest.raises(dampen.InputError, match="my_network"):
        study.calibrated()
    assert len(dampen.load_study(tmp_path / "study", model=dampen.mlp(3)).ensemble()) == 2


@pytest.mark.parametrize("name", ["tuned", "compared"])
def test_a_study_of_the_first_version_still_predicts_what_it_predicted_then(tmp_path, name):
    study = dampen.load_study(DATA / f"{name}-0.1.0")
    then = json.loads((DATA / f"{name}-0.1.0.json").read_text())
    assert study.sentences()[: len(study.verdict.sentences())] == study.verdict.sentences()
    told = study.verdict.document()
    assert told["length"].pop("shortest") is False  # which studies did not tell then
    assert told["gain"] is None or told["gain"].pop("open") == {}
    assert told["gain"] is None or told["gain"].pop("calibrated") is None
    assert told["gain"] is None or told["gain"]["own_unit"].pop("interval") == [None, None]
    assert told.pop("calibrated_attribution") == {}
    assert told.items() <= study.document().items()
    study.report(tmp_path / "report.html")
    assert not [column for column in study.frame() if column.endswith("_acc")]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        calibrated = study.calibrated(samples=5)
        found = calibrated.predict(DATA / "rows.csv")
    assert calibrated.method.name == then["method"]
    assert any(issubclass(one.category, dampen.NotSampled) for one in told) == (name == "tuned")
    rows = pd.DataFrame(then["predictions"]).rename(columns={"refuse": "abstain"})
    expected = rows[list(found.columns())].astype({"low": float, "high": float}).replace({np.nan: np.inf})
    expected["low"] = expected["low"].replace({np.inf: -np.inf})
    pd.testing.assert_frame_equal(pd.DataFrame(found.columns()), expected, check_dtype=False, rtol=1e-5)
