"""Bad input: exit code 2, one line on stderr, nothing on stdout, nothing written."""

import gzip
import os
import struct
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

import dampen
from dampen.cli import main

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
TRAIN_IMAGES, TRAIN_LABELS, _, TEST_LABELS = FILES


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """Run a command in an empty folder, require all that must hold for bad input, and return the line on stderr."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)

    def call(*words: object) -> str:
        before = sorted(work.rglob("*"))
        monkeypatch.setattr(sys, "argv", ["dampen", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        assert ended.value.code == 2
        assert out == ""
        assert err.startswith("dampen: ")
        assert err.endswith("\n")
        assert err.count("\n") == 1
        assert sorted(work.rglob("*")) == before
        return err

    return call


@pytest.fixture
def idx_folder(tmp_path):
    """A folder with 8 training and 4 test images of 2x2 pixels in two classes."""
    arrays = (np.zeros((8, 2, 2)), np.arange(8) % 2, np.zeros((4, 2, 2)), np.arange(4) % 2)
    folder = tmp_path / "images"
    folder.mkdir()
    for file, array in zip(FILES, arrays, strict=True):
        write_idx(folder / f"{file}.gz", array)
    return folder


def write_idx(path: Path, array: np.ndarray) -> None:
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["no-such-command"], "no-such-command"),
        (["--no-such-option"], "--no-such-option"),
        (["dropout", "--no-such-option"], "--no-such-option"),
        (["weight-decay", "surplus"], "surplus"),
        (["dropout", "no-such-set"], "'no-such-set' is neither a data set nor a folder; the sets are digits"),
        (["dropout", "--data-dir", "nowhere"], "nowhere is not a folder"),
        (["dropout", "--rates", "1.5,0.5"], "dropout must be a probability of dropping from 0 to 1, got 1.5\n"),
        (["dropout", "--hidden", "64", "--rates", "1.5"], "got 1.5"),
        (["dropout", "--hidden", "64", "--rates", "nan"], "got nan"),
        (["dropout", "--rates", "0.3"], "1 dropout rate for 2 hidden layers"),
        (["dropout", "--rates", "many"], "'many'"),
        (["dropout", "--rates", "0,0"], "nothing to compare"),
        (["dropout", "--hidden", "0,5"], "got 0"),
        (["dropout", "--hidden", "5,"], "'5,'"),
        (["dropout", "--batch-size", "0"], "got 0"),
        (["dropout", "--epochs", "0"], "got 0"),
        (["dropout", "--epochs", "ten"], "--epochs"),
        (["dropout", "--lr", "nan"], "got nan"),
        (["dropout", "--seeds", "0"], "--seeds"),
        (["dropout", "--seed", "-1"], "got -1"),
        (["dropout", "--device", "nonsense"], "nonsense"),
        (["weight-decay", "--weight-decay", "0,-1"], "got -1"),
        (["weight-decay", "--weight-decay", "abc"], "'abc'"),
        (["weight-decay", "--weight-decay", "inf"], "got inf"),
        (["weight-decay", "--weight-decay", ""], "--weight-decay"),
        (["weight-decay", "--weight-decay", "1,1"], "twice"),
        (["weight-decay", "--seeds", "0"], "--seeds"),
        (["weight-decay", "--seed", "-1"], "got -1"),
        (["weight-decay", "--epochs", "0"], "got 0"),
        (["weight-decay", "--every", "0"], "--every"),
        (["weight-decay", "--lr", "-1"], "got -1"),
        (["weight-decay", "--rows", "0"], "got 0"),
        (["weight-decay", "--path", "1"], "--path"),
        (["weight-decay", "--path", "5", "--path-range", "0..1"], "'0..1'"),
        (["weight-decay", "--path", "5", "--path-range", "3"], "'3'"),
        (["weight-decay", "--path-range", "0.1..10"], "--path-range is for --path"),
        (["weight-decay", "--device", "nonsense"], "nonsense"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_argument_outside_its_range_is_named(refused, words, said):
    assert said in refused(*words)


@pytest.mark.parametrize("command", ["dropout", "weight-decay"])
@pytest.mark.parametrize(
    ("plot", "said"),
    [("x.txt", ".png or .svg"), ("x", ".png or .svg"), ("nowhere/x.png", "no folder"), ("file/x.png", "file")],
)
def test_a_picture_that_cannot_be_written_is_refused_before_training(refused, command, plot, said):
    Path("file").write_text("a regular file")
    assert said in refused(command, "--plot", plot)


def test_a_folder_is_no_picture(refused):
    Path("x.png").mkdir()
    assert "x.png is a folder" in refused("dropout", "--plot", "x.png")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write into every folder")
def test_a_folder_without_write_permission_is_named(refused):
    locked = Path("locked")
    locked.mkdir()
    locked.chmod(0o555)
    try:
        assert "locked cannot be written" in refused("dropout", "--plot", "locked/x.png")
    finally:
        locked.chmod(0o755)


def test_a_truncated_image_file_is_named(refused, idx_folder):
    file = idx_folder / f"{TRAIN_IMAGES}.gz"
    file.write_bytes(file.read_bytes()[:-10])
    assert f"{file} is a gzip file that is cut off" in refused("dropout", idx_folder)


def test_an_image_file_shorter_than_its_header_says_is_named(refused, idx_folder):
    file = idx_folder / f"{TRAIN_IMAGES}.gz"
    file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes())[:-10]))
    assert f"{file} is cut off" in refused("dropout", idx_folder)


def test_labels_of_another_number_than_the_images_are_named(refused, idx_folder):
    write_idx(idx_folder / f"{TRAIN_LABELS}.gz", np.arange(7) % 2)
    assert "7 labels for 8 images" in refused("dropout", idx_folder)


def test_a_label_that_is_no_class_is_named(refused, idx_folder):
    write_idx(idx_folder / f"{TEST_LABELS}.gz", np.array([0, 1, 5, 0]))
    assert "label 5 in row 2" in refused("dropout", idx_folder)


def test_a_label_that_a_published_set_does_not_have_is_named(refused, idx_folder):
    write_idx(idx_folder / f"{TRAIN_LABELS}.gz", np.array([0, 1, 0, 1, 200, 1, 0, 1]))
    assert "label 200 in row 4" in refused("dropout", "fashion-mnist", "--data-dir", idx_folder)


def test_a_folder_that_lacks_a_file_is_named(refused, idx_folder):
    (idx_folder / f"{TEST_LABELS}.gz").unlink()
    assert f"{idx_folder} lacks {TEST_LABELS}" in refused("dropout", idx_folder)


def test_a_download_that_breaks_off_is_told_and_leaves_nothing(refused, tmp_path, monkeypatch):
    class Half(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"x" * 500)

        def log_message(self, format, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Half) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        cache = tmp_path / "cache"
        monkeypatch.delenv("DAMPEN_DATA", raising=False)
        monkeypatch.setenv("DAMPEN_MIRROR", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
        line = refused("dropout", "fashion-mnist")
        server.shutdown()
        thread.join()
    assert "connection broke in the middle" in line
    assert "by hand" in line
    assert [path for path in cache.rglob("*") if not path.is_dir()] == []


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_feature_that_is_not_a_finite_number_is_refused_in_one_line(value):
    features = np.zeros((8, 3))
    features[5, 1] = value
    with pytest.raises(dampen.InputError, match="features") as refused:
        dampen.from_arrays(features, [0, 1] * 4)
    assert "\n" not in str(refused.value)
