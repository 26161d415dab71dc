"""`dampen export`: the folder that it writes from a study's folder, and one line for every mistake."""

import json
import shutil
import sys

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from sklearn.datasets import load_wine

import dampen

OWN = """
from torch import nn

def make():
    return nn.Sequential(nn.Linear(13, 4), nn.Tanh(), nn.Linear(4, 3))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Finished studies, by name; `own` and `inserted` are of the function in networks.py."""
    folder = tmp_path_factory.mktemp("studies")
    wine = load_wine(as_frame=True).frame.rename(columns={"target": "quality"})
    wine.to_csv(folder / "wine.csv", index=False)
    names: dict = {}
    exec(OWN, names)
    settings = [dampen.Setting(weight_decay=decay, lr=0.01) for decay in (0.1, 0.9)]
    words = {"n_seeds": 2, "epochs": 1, "batch_size": 32}
    table = dampen.load(folder / "wine.csv", target="quality")
    return {
        "wine": dampen.compare(dampen.mlp(4), dampen.load("wine"), settings, out=folder / "wine", **words),
        "table": dampen.compare(dampen.mlp(4), table, settings, out=folder / "table", precision="float64", **words),
        "own": dampen.compare(names["make"], dampen.load("wine"), settings, out=folder / "own", **words),
        "inserted": dampen.compare(
            dampen.insert_dropout(names["make"]),
            dampen.load("wine"),
            [dampen.Setting(dropout=p) for p in (0.25, 0.9)],
            out=folder / "inserted",
            **words,
        ),
        "ema": dampen.compare(
            dampen.mlp(4), dampen.load("wine"), [dampen.Setting(ema=s) for s in (0.1, 0.9)], out=folder / "ema", **words
        ),
    }


@pytest.mark.parametrize("name", ["wine", "table"])
def test_a_study_s_folder_gives_what_the_study_gives_in_memory(run, made, tmp_path, name):
    study = made[name]
    code, out, err = run("export", study.folder, "--out", "there")
    assert (code, err) == (0, "")
    here = study.export(tmp_path / "here")
    assert sorted(out.split()) == sorted(f"there/{file}" for file in here.files)
    assert {file.name for file in (tmp_path / "there").iterdir()} == set(here.files)
    for file in set(here.files) - {"data.npz", "model.safetensors"}:
        assert (tmp_path / "there" / file).read_bytes() == (tmp_path / "here" / file).read_bytes()
    weights = load_file(tmp_path / "there" / "model.safetensors")
    assert all(torch.equal(weights[key], t) for key, t in study.model().state_dict().items())


def test_the_preprocessing_of_a_table_takes_the_raw_file(run, made, tmp_path):
    study = made["table"]
    assert run("export", study.folder, "--out", "there", "--no-data")[0] == 0
    assert not (tmp_path / "there" / "data.npz").exists()
    kept = dampen.data.Preprocessing.from_document(json.loads((tmp_path / "there/preprocessing.json").read_text()))
    rows = pd.read_csv(study.folder.parent / "wine.csv").drop(columns="quality")
    data = study.winner().data
    assert torch.equal(kept.inputs(rows)[data.test_rows], data.test.features)


def test_json_is_the_description_and_the_files(run, made):
    code, out, _ = run("export", made["wine"].folder, "--json")
    document = json.loads(out)
    folder = made["wine"].folder / "export"
    assert code == 0
    assert document == {"folder": str(folder)} | json.loads((folder / "model.json").read_text())
    assert set(document["files"]) == {file.name for file in folder.iterdir()}


def test_a_network_of_one_s_own_is_named_by_its_function(run, made, tmp_path):
    assert "--model MODULE:FUNCTION" in run("export", made["own"].folder, "--out", "there")[2]
    (tmp_path / "networks.py").write_text(OWN)
    assert run("export", made["own"].folder, "--out", "there", "--model", "networks:make")[0] == 0
    assert "nn.Tanh()," in (tmp_path / "there" / "train.py").read_text()


def test_dropout_that_tune_inserted_is_there_again(run, made, tmp_path):
    (tmp_path / "networks.py").write_text(OWN)
    assert run("export", made["inserted"].folder, "--out", "there", "--model", "networks:make")[0] == 0
    rate = made["inserted"].verdict.recommended["dropout"]
    assert f"nn.Tanh(),\n            Dropout({rate})," in (tmp_path / "there" / "train.py").read_text()
    weights = load_file(tmp_path / "there" / "model.safetensors")
    assert all(torch.equal(weights[key], t) for key, t in made["inserted"].model().state_dict().items())


def test_a_knob_that_the_script_does_not_know_is_named_and_the_rest_is_written(run, made, tmp_path):
    code, out, err = run("export", made["ema"].folder, "--out", "there")
    assert code == 0
    assert err == (
        "dampen: train.py is not written: the setting turns ema, and the script supports weight_decay, "
        "decay_timescale, dropout, lr, label_smoothing, l1, l2 only\n"
    )
    assert sorted(out.split()) == ["there/model.json", "there/model.safetensors"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "there is no study nowhere, here or in dampen-runs"),
        (["{}/wine", "--out", "{}/wine"], "is not empty and holds no export"),
        (["{}/wine", "--out", "{}/wine.csv"], "is a file"),
        (["{}/wine", "--out", "{}/wine.csv/there"], "can't be written"),
        (["{}/own", "--model", "nothing.such:f"], "there is no module 'nothing'"),
        (
            ["{}/wine", "--model", "nothing.such:f"],
            "the network of the study in {}/wine is dampen's own: leave --model",
        ),
        (["{}/wine", "--data-dir", "nowhere"], "nowhere"),
        (["{}/wine", "--onnx"], "pip install 'dampen[onnx]'"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(run, made, tmp_path, monkeypatch, words, message):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    folder = made["wine"].folder.parent
    shutil.rmtree(folder / "wine" / "export", ignore_errors=True)
    code, out, err = run("export", *(word.format(folder) for word in words))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message.format(folder) in err
    assert not list(tmp_path.iterdir())
    assert not (folder / "wine" / "export").exists()
