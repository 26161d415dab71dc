"""The command line: the line of each epoch, the picture, and one line for files that are cut."""

import re
import shutil

SMALL = ["--epochs", "2", "--seeds", "2"]


def test_dropout_prints_the_missions_line_and_the_picture_last(run, tmp_path):
    code, out, _ = run("dropout", "wine", "--plot", "x.svg", *SMALL)
    lines = out.splitlines()
    form = r"Epoch 1/2 — Train: loss=\d\.\d{4}, acc=\d\.\d{4} \| Test: loss=\d\.\d{4}, acc=\d\.\d{4}"
    assert code == 0
    assert re.fullmatch(form, lines[0])
    assert lines[-1] == "x.svg"
    assert (tmp_path / "x.svg").read_text().startswith("<?xml")


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
