"""The command line: lines and documents as promised, one line for every mistake."""

import json
import re
import shutil
import subprocess
import sys

import pytest

SMALL = ["--epochs", "2", "--seeds", "2"]


def test_weight_decay_prints_one_document(run, tmp_path):
    code, out, _ = run("weight-decay", "--path", 5, "--json", *SMALL)
    document = json.loads(out)
    assert code == 0
    assert [r["weight_decay"] for r in document["runs"]] == [0, 3]
    names = {f"{n}{s}" for n in ("train_loss", "test_loss", "l2_norm") for s in ("", "_std")}
    assert names <= document["runs"][0].keys()
    path = document["path"]
    for name in ("weight_decay", "test_loss", "l2_norm", "closed_form_test_loss", "ridge_test_loss"):
        assert len(path[name]) == 5
    assert path["best"] in path["weight_decay"]
    assert sorted(f.name for f in tmp_path.iterdir()) == ["dampen-weight-decay-path.png", "dampen-weight-decay.png"]


def test_dropout_prints_the_missions_line_and_the_picture_last(run, tmp_path):
    code, out, _ = run("dropout", "wine", "--plot", "x.svg", *SMALL)
    lines = out.splitlines()
    form = r"Epoch 1/2 — Train: loss=\d\.\d{4}, acc=\d\.\d{4} \| Test: loss=\d\.\d{4}, acc=\d\.\d{4}"
    assert code == 0
    assert re.fullmatch(form, lines[0])
    assert lines[-1] == "x.svg"
    assert (tmp_path / "x.svg").read_text().startswith("<?xml")


def test_dropout_gives_both_curves_as_json(run):
    document = json.loads(run("dropout", "digits", "--json", *SMALL)[1])
    assert document["data"] == "digits"
    for epochs in (document["epochs"], document["no_dropout"]["epochs"]):
        assert [e["epoch"] for e in epochs] == [1, 2]
        assert all(e.keys() == {"epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy"} for e in epochs)


@pytest.mark.parametrize(
    "words",
    [
        ["dropout", "nonsense"],
        ["dropout", "--rates", "1.5"],
        ["dropout", "--rates", "1.5,0.5"],
        ["dropout", "--rates", "0.3"],
        ["dropout", "--rates", "many"],
        ["dropout", "--device", "nonsense"],
        ["dropout", "--batch-size", "0"],
        ["weight-decay", "--weight-decay", "-1"],
        ["weight-decay", "--weight-decay", "0,nan"],
        ["weight-decay", "--epochs", "x"],
        ["weight-decay", "--epochs", "0"],
        ["weight-decay", "--seeds", "0"],
        ["weight-decay", "--seed", "-1"],
        ["weight-decay", "--path", "5", "--path-range", "0..1"],
        ["weight-decay", "--plot", "x.txt"],
        ["weight-decay", "--plot", "/dev/null/x.png"],
        ["weight-decay", "--plot", "nowhere/x.png"],
        ["weight-decay", "--no-such-option"],
        ["no-such-command"],
    ],
)
def test_bad_input_is_one_line_with_code_2_and_nothing_is_written(run, tmp_path, words):
    code, out, err = run(*words)
    assert code == 2
    assert out == ""
    assert err.startswith("dampen: ")
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_cut_or_do_not_match_are_refused(run, tmp_path, shared_data):
    labels = (shared_data / "fashion-mnist-sample" / "t10k-labels-idx1-ubyte.gz").read_bytes()
    images = (shared_data / "fashion-mnist-sample" / "train-images-idx3-ubyte.gz").read_bytes()
    for name, spoilt in (
        ("train-images-idx3-ubyte.gz", images[: len(images) // 2]),
        ("train-labels-idx1-ubyte.gz", labels),
    ):
        folder = tmp_path / name
        folder.mkdir()
        for file in (shared_data / "fashion-mnist-sample").iterdir():
            shutil.copyfile(file, folder / file.name)
        (folder / name).write_bytes(spoilt)
        code, out, err = run("dropout", folder)
        assert (code, out, err.count("\n")) == (2, "", 1)


def test_help_needs_nothing_heavy():
    script = (
        "import sys; sys.argv = ['dampen', '--help']\nfrom dampen.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'numpy', 'matplotlib', 'sklearn', 'pandas', 'scipy'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[]"
    assert "weight-decay" in out
