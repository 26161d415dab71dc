"""A study's folder is enough to predict from: its data may have moved, changed, or never have been in a file."""

import json
import math
import runpy
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from sklearn.datasets import load_wine
from sklearn.metrics import accuracy_score

import dampen
from dampen.data import Preprocessing
from dampen.export import write
from dampen.study import Method, calibrate, load_study

pytestmark = pytest.mark.usefixtures("without_shape_checks")  # checked while the studies train
SETTINGS = [dampen.Setting(dropout=0.2, lr=0.01), dampen.Setting(dropout=0.95)]
WORDS = {"n_seeds": 3, "epochs": 2, "batch_size": 32}
FILE = "calibration.safetensors"


def wine():
    found = load_wine(as_frame=True)
    names = dict(enumerate(found.target_names))
    return found.frame.rename(columns={"target": "quality"}).replace({"quality": names})


def houses(n=120):
    rng = np.random.default_rng(0)
    size, place = rng.uniform(40, 200, n), rng.choice(["north", "south", "east"], n)
    return pd.DataFrame(
        {"size": size, "place": place, "price": 3000 * size + 50_000 * (place == "south") + rng.normal(0, 5000, n)}
    )


def arrays():
    table = houses()
    return np.c_[table["size"], table["size"] ** 2].astype(np.float32), table["price"].to_numpy(np.float32)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Hold files, and studies of files, of the same in memory, and of images of which a part was held out."""
    where = tmp_path_factory.mktemp("kept")
    wine().to_csv(where / "wine.csv", index=False)
    houses().to_csv(where / "houses.csv", index=False)
    for name, data, options in (
        ("wine", dampen.load(where / "wine.csv", target="quality"), {}),
        ("houses", dampen.load(where / "houses.csv", target="price"), {}),
        ("frame", dampen.load(pd.read_csv(where / "houses.csv"), target="price"), {}),
        ("arrays", dampen.load(arrays()[0], target=arrays()[1]), {}),
        ("digits", dampen.load("digits"), {"validation": "held-out"}),
    ):
        dampen.compare(dampen.mlp(8), data, SETTINGS, out=where / name, **WORDS, **options)
    return where


def asked(run, *words):
    """Return the JSON document of `dampen predict`, without the words that name files, and what stderr said."""
    code, out, err = run("predict", *words, "--samples", 5, "--json")
    assert code == 0, err
    return {name: value for name, value in json.loads(out).items() if name not in ("study", "data")}, err


def copied(made, study, to, source):
    """Copy a study as if it had been made on another file with the same rows."""
    shutil.copytree(made / study, to)
    document = json.loads((to / "study.json").read_text())
    document["plan"]["reading"]["source"] = str(source)
    (to / "study.json").write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("study", "target"), [pytest.param("wine", "quality", marks=pytest.mark.slow), ("houses", "price")]
)
def test_predictions_without_the_data_are_those_with_it(run, made, tmp_path, study, target):
    table = pd.read_csv(made / f"{study}.csv")
    table.to_csv("data.csv", index=False)
    copied(made, study, tmp_path / "study", tmp_path / "data.csv")
    table.sample(50, random_state=0).to_csv("known.csv", index=False)
    table.drop(columns=target).to_csv("new.csv", index=False)
    questions = ["known.csv"], ["new.csv", "--ensemble"]
    before = [asked(run, "study", *words) for words in questions]
    test_rows = asked(run, "study", "data.csv")[0]
    assert len(test_rows["predictions"]) == math.ceil(len(table) / 4)
    (tmp_path / "data.csv").unlink()
    assert [asked(run, "study", *words) for words in questions] == before
    assert test_rows["calibration"] == before[0][0]["calibration"]
    code, out, _ = run("trust", "study", "known.csv", "--samples", 0, "--out", "t.html", "--json")
    assert code == 0
    assert json.loads(out)["summary"]["n"] == 50


@pytest.mark.parametrize("name", ["wine", "houses", "arrays", "digits"])
def test_rows_to_calibrate_on_are_those_that_each_network_was_not_trained_on(made, name):
    sources = {
        "wine": lambda: dampen.load(made / "wine.csv", target="quality"),
        "houses": lambda: dampen.load(made / "houses.csv", target="price"),
        "arrays": lambda: dampen.load(arrays()[0], target=arrays()[1]),
        "digits": lambda: dampen.load("digits"),
    }
    data, kept = sources[name](), load_study(made / name)
    train = data.targets[data.train_rows]
    mean, deviation = (0, 1) if data.classes else (train.mean().item(), train.std(correction=0).item())
    splits = [data.with_validation(0.2, seed=0)] * 3 if name == "digits" else data.folds(5, seed=1)[:3]
    for (_, rows), split in zip(kept.results.predictor.unseen, splits, strict=True):
        held = {
            (*row.flatten().tolist(), round((float(y) - mean) / deviation, 4))
            for row, y in zip(split.validation.features, split.validation.targets, strict=True)
        }
        found = {
            (*row.flatten().tolist(), round(float(y), 4)) for row, y in zip(rows.features, rows.targets, strict=True)
        }
        assert found <= held  # to the last bit
        assert len(rows) >= len(split.validation) // 2 if name == "digits" else len(rows) >= len(split.validation) - 1
    place = made / name / "checkpoints" / kept.document()["checkpoints"]["confirmation"]
    population = dampen.Population.load(place, dampen.mlp(8))
    for (network, rows), seed in zip(kept.results.predictor.unseen, population.seeds, strict=True):
        network_again = population.member(kept.setting, seed)
        assert torch.equal(network(rows.features), network_again(rows.features))


def test_a_held_out_part_is_kept_once_and_pixels_stay_bytes(made):
    found = load_file(made / "digits" / FILE)
    assert found["features/0"].dtype == torch.uint8
    assert not [name for name in found if name.endswith("/1")]
    kept, pixels = load_study(made / "digits"), found["features/0"].double()
    torch.testing.assert_close(kept.results.predictor.unseen[2][1].features.double(), (pixels / 16 - 0.5) / 0.5)
    assert calibrate(kept.results.predictor, Method(0, ensemble=True), 0.9).rows == len(pixels)
    assert calibrate(kept.results.predictor, Method(0), 0.9).rows == 3 * len(pixels)


def test_nothing_is_read_but_the_folder(made, monkeypatch):
    def never(*_, **__):
        raise AssertionError("the data was read")

    monkeypatch.setattr("dampen.study._saved.load", never)
    kept = load_study(made / "houses")
    assert calibrate(kept.results.predictor, Method(0), 0.9).noise > 0
    rows = kept.preprocessing.read(houses().drop(columns="price"))
    assert kept.results.predictor.inputs(rows, torch.arange(9)).shape == (9, *kept.description.inputs)
    assert (kept.description.name, kept.description.task, kept.description.classes) == ("houses", "regression", None)


def test_a_frame_in_memory_is_asked_by_files_as_a_file_is(run, made):
    houses().drop(columns="price").to_csv("rows.csv", index=False)
    of_frame, err = asked(run, made / "frame", "rows.csv")
    assert (of_frame, err) == asked(run, made / "houses", "rows.csv")
    assert len(of_frame["predictions"]) == 120


def test_arrays_in_memory_are_asked_by_npz_files_with_targets_and_without(run, made):
    x, y = arrays()
    np.savez("rows.npz", x=x)
    y[3] = np.nan
    np.savez("known.npz", x=x, y=y)
    bare, err = asked(run, made / "arrays", "rows.npz")
    assert (bare["summary"], err, len(bare["predictions"])) == (None, "", 120)
    known, err = asked(run, made / "arrays", "known.npz")
    assert "is missing in 1 row: not evaluated" in err
    assert known["summary"]["n"] == 119
    residuals = [row["prediction"] - t for row, t in zip(known["predictions"], y, strict=True) if not np.isnan(t)]
    assert known["summary"]["rmse"] == pytest.approx(np.sqrt(np.mean(np.square(residuals))), rel=1e-6)
    assert [row["prediction"] for row in known["predictions"]] == [row["prediction"] for row in bare["predictions"]]
    network, data = load_study(made / "arrays").ensemble()[0], dampen.load(x, target=arrays()[1])
    with torch.no_grad():
        outputs = network(data.normalisation.apply(torch.from_numpy(x)))[:, 0].double().numpy()
    train = data.train.targets.numpy()
    single = json.loads(run("predict", made / "arrays", "rows.npz", "--samples", 0, "--json")[1])["predictions"]
    np.testing.assert_allclose([row["prediction"] for row in single], outputs * train.std() + train.mean(), rtol=1e-5)


def test_images_in_a_npz_file_are_judged_where_their_class_is_known(run, made):
    data = dampen.load("digits")
    images, labels = data.features[data.test_rows][:40].numpy(), data.targets[data.test_rows][:40].numpy()
    np.savez("some.npz", images=images[:, 0], labels=np.where(np.arange(40) < 2, 77, labels))
    found, err = asked(run, made / "digits", "some.npz")
    assert "labels is a class that the training rows lack in 2 rows: not evaluated" in err
    rows = pd.DataFrame(found["predictions"])
    assert found["summary"]["accuracy"] == pytest.approx(accuracy_score(labels[2:], rows["prediction"][2:].astype(int)))
    np.savez("known.npz", images=images[:, 0], labels=labels)
    np.savez("columns.npz", images=images[:, 0], labels=np.eye(10)[labels])
    assert asked(run, made / "digits", "columns.npz") == asked(run, made / "digits", "known.npz")
    np.savez("odd.npz", images=images[:, 0], labels=np.ones((len(labels), 2)))
    code, _, err = run("predict", made / "digits", "odd.npz")
    assert code == 2
    assert "must be one value for each row, got shape [40, 2]" in err


def truncated(file):
    file.write_bytes(file.read_bytes()[:-100])


def flipped(file):
    held = bytearray(file.read_bytes())
    held[-1] ^= 1
    file.write_bytes(held)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (truncated, f"{FILE} is damaged"),
        (flipped, f"{FILE} is damaged: its contents are not what was written"),
        (lambda file: file.write_bytes(b""), f"{FILE} is damaged"),
        (lambda file: file.write_bytes(b"\x08" + bytes(7) + b"{}      "), f"{FILE} is damaged"),
        (lambda file: shutil.copy(file.parent.parent / "other" / FILE, file), "is of a study of other data"),
        (lambda file: file.unlink(), f"has no {FILE}"),
        (lambda file: (file.parent / "preprocessing.json").unlink(), "has no preprocessing.json"),
    ],
)
def test_a_harmed_folder_is_one_line(run, made, tmp_path, harm, said):
    shutil.copytree(made / "houses", tmp_path / "study")
    shutil.copytree(made / "wine", tmp_path / "other")
    harm(tmp_path / "study" / FILE)
    houses().to_csv("rows.csv", index=False)
    for command in (("predict", "study", "rows.csv"), ("trust", "study", "rows.csv"), ("export", "study")):
        code, out, err = run(*command)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert said in err


def test_a_finished_study_gets_rows_that_it_lost_by_resuming(made, tmp_path, monkeypatch):
    shutil.copytree(made / "houses", tmp_path / "study")
    (tmp_path / "study" / FILE).unlink()
    data = dampen.load(made / "houses.csv", target="price")
    monkeypatch.setattr(dampen.Population, "fit", None)
    dampen.compare(dampen.mlp(8), data, SETTINGS, out=tmp_path / "study", resume=True, **WORDS)
    assert (tmp_path / "study" / FILE).read_bytes() == (made / "houses" / FILE).read_bytes()
    with safe_open(tmp_path / "study" / FILE, "pt") as file:
        assert json.loads(file.metadata()["dampen"])["description"]["rows"] == 90


def test_a_study_of_an_older_version_is_exported_with_the_batches_that_it_had(made, tmp_path):
    shutil.copytree(made / "houses", tmp_path / "study")
    document = json.loads((tmp_path / "study" / "study.json").read_text())
    del document["plan"]["training"]["even_batches"]  # it had full batches, then the rest
    (tmp_path / "study" / "study.json").write_text(json.dumps(document))
    for study, sizes in ((tmp_path / "study", [32, 32, 1]), (made / "houses", [22, 22, 21])):
        told = write(load_study(study).winner(), tmp_path / f"export-{len(sizes)}-{sizes[0]}")
        assert told.document["training"]["even_batches"] is (sizes[-1] > 1)
        cut = runpy.run_path(str(told.folder / "train.py"))["batches"]
        assert [len(batch) for batch in cut(65, epoch=1)] == sizes


@pytest.mark.parametrize("study", ["houses", "frame"])
def test_an_export_without_the_rows_is_all_but_the_script(run, made, tmp_path, study):
    if study == "houses":
        copied(made, study, tmp_path / "study", tmp_path / "gone.csv")
    else:
        shutil.copytree(made / study, tmp_path / "study")
    code, out, err = run("export", "study", "--out", "there")
    assert code == 0
    assert err.startswith("dampen: train.py is not written: ")
    assert ("there is no file" if study == "houses" else "data in memory, 'table'") in err
    assert err.count("\n") == 1
    names = ["model.json", "model.safetensors", "preprocessing.json"]
    assert sorted(file.name for file in (tmp_path / "there").iterdir()) == names
    assert sorted(out.split()) == [f"there/{name}" for name in names]
    weights, expected = load_file("there/model.safetensors"), load_file(tmp_path / "study" / "model.safetensors")
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    told = json.loads((tmp_path / "there" / "model.json").read_text())
    whole = made / "houses-export"
    if not whole.exists():
        run("export", made / "houses", "--out", whole)
    beside = json.loads((whole / "model.json").read_text())
    differ = {name for name in beside if told[name] != beside[name]}
    assert differ <= {"train", "test", "files", "sha256", "training"}  # in training the name of the data
    assert told["test"] is None
    assert told["training"] | {"data": "houses"} == beside["training"]
    kept = Preprocessing.from_document(json.loads((tmp_path / "there" / "preprocessing.json").read_text()))
    assert kept.target == "price"
    code, out, err = run("export", "study", "--out", "with", "--data")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "the rows can't be written" in err
    assert not (tmp_path / "with").exists()


def test_data_that_is_given_makes_the_export_whole_again(made, tmp_path):
    data = dampen.load(pd.read_csv(made / "houses.csv"), target="price")
    kept = load_study(made / "frame", data)
    assert {"train.py", "data.npz"} <= set(write(kept.winner(), tmp_path / "export").files)
    with pytest.raises(dampen.InputError, match="is not what the study in"):
        load_study(made / "frame", dampen.load(houses(100), target="price"))


def test_a_file_that_has_changed_is_new_rows_and_says_so(run, made, tmp_path):
    houses().to_csv("once.csv", index=False)
    copied(made, "houses", tmp_path / "study", tmp_path / "once.csv")
    own, err = asked(run, "study", "once.csv")
    assert (len(own["predictions"]), "--rows all takes every one" in err) == (30, True)
    houses(70).drop(columns="price").to_csv("once.csv", index=False)
    found, err = asked(run, "study", "once.csv", "--rows", "all")
    assert len(found["predictions"]) == 70
    assert "rows of once.csv may have taken part in training" in err
    assert "can't be read again: " in err
    houses(70).to_csv("once.csv", index=False)
    found, err = asked(run, "study", "once.csv")
    assert (len(found["predictions"]), found["summary"]["n"]) == (70, 70)
    assert "is not what the study in study was made on" in err
    code, out, err = run("predict", "study", "once.csv", "--rows", "test")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "is not what the study in study was made on" in err


def test_only_rows_that_trained_are_said_to_flatter(run, made):
    said = "took part in training"
    assert said not in asked(run, made / "digits", "digits")[1]
    assert said in asked(run, made / "digits", "digits", "--rows", "all")[1]
    assert said not in asked(run, made / "wine", made / "wine.csv")[1]


def test_a_bound_that_is_none_is_kept_as_a_word(tmp_path):
    space = {"max_norm": [0.5, float("inf")], "lr": [0.05], "weight_decay": [0.0]}
    how = {"n_settings": 2, "n_seeds": 1, "epochs": 1, "confirmed": 2, "n_confirm_seeds": 2, "search": "grid"}
    study = dampen.tune(dampen.mlp(4), dampen.load("iris"), space, **how, out=tmp_path / "s")
    assert {setting["max_norm"] for setting in study.ranked[0].settings} == {0.5, float("inf")}
    plan = json.loads((tmp_path / "s" / "plan.json").read_text())
    assert {setting["max_norm"] for setting in plan["brackets"][0]["drawn"]} == {0.5, "inf"}
    again = dampen.tune(dampen.mlp(4), dampen.load("iris"), space, **how, out=tmp_path / "s", resume=True)
    assert again.document() == study.document()
    assert load_study(tmp_path / "s").setting == study.setting
