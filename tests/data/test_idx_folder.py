"""Folders of four IDX files, and the complete sets read from the shared ones."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from dampen.data import load
from dampen.errors import InputError

STEMS = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}


def idx_bytes(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def small_set(n_train: int = 12, n_test: int = 6, size: tuple[int, int] = (3, 4)) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        "train_images": random.integers(0, 256, (n_train, *size), dtype=np.uint8),
        "train_labels": (np.arange(n_train) % 3).astype(np.uint8),
        "test_images": random.integers(0, 256, (n_test, *size), dtype=np.uint8),
        "test_labels": (np.arange(n_test) % 3).astype(np.uint8),
    }


def write(folder: Path, arrays: dict[str, np.ndarray], spelling=lambda stem: stem) -> Path:
    folder.mkdir(exist_ok=True)
    for key, array in arrays.items():
        name = spelling(STEMS[key])
        content = idx_bytes(array)
        (folder / name).write_bytes(gzip.compress(content, 1) if name.endswith(".gz") else content)
    return folder


def by_hand(path: Path, header: int) -> np.ndarray:
    return np.frombuffer(gzip.decompress(path.read_bytes()), dtype=np.uint8, offset=header)


@pytest.mark.parametrize(
    "spelling",
    [
        lambda stem: stem,
        lambda stem: stem + ".gz",
        lambda stem: stem.replace("-idx", ".idx"),
        lambda stem: stem.replace("-idx", ".idx") + ".gz",
    ],
    ids=["plain", "gz", "dotted", "dotted gz"],
)
def test_every_spelling_of_the_file_names_gives_the_arrays_in_order(tmp_path, spelling):
    arrays = small_set()
    data = load(write(tmp_path / "mine", arrays, spelling))
    images = np.concatenate([arrays["train_images"], arrays["test_images"]])
    np.testing.assert_array_equal(data.features.numpy(), images[:, None], strict=True)
    assert data.train_rows.tolist() == list(range(12))
    assert data.test_rows.tolist() == list(range(12, 18))
    assert data.test.targets.tolist() == arrays["test_labels"].tolist()
    assert (data.name, data.classes, data.task) == ("mine", ("0", "1", "2"), "classification")
    assert data.source == str(tmp_path / "mine")


def test_pixels_are_mapped_from_0_and_255_to_minus_1_and_1(tmp_path):
    arrays = small_set()
    data = load(str(write(tmp_path / "mine", arrays)))
    expected = (arrays["train_images"][:, None] / 255 - 0.5) / 0.5
    np.testing.assert_allclose(data.train.features.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("key", STEMS)
def test_a_missing_file_is_named_with_its_folder(tmp_path, key):
    folder = write(tmp_path / "mine", small_set())
    (folder / STEMS[key]).unlink()
    with pytest.raises(InputError, match=STEMS[key]) as caught:
        load(folder)
    assert str(folder) in str(caught.value)


def test_images_and_labels_of_different_number_are_refused(tmp_path):
    arrays = small_set() | {"test_labels": np.zeros(5, dtype=np.uint8)}
    with pytest.raises(InputError, match="5 labels for 6 images"):
        load(write(tmp_path / "mine", arrays))


def test_training_and_test_images_of_different_size_are_refused(tmp_path):
    arrays = small_set() | {"test_images": np.zeros((6, 4, 4), dtype=np.uint8)}
    with pytest.raises(InputError, match="3x4 pixels but test images of 4x4"):
        load(write(tmp_path / "mine", arrays))


def test_a_test_label_that_training_never_reaches_is_refused(tmp_path):
    arrays = small_set() | {"test_labels": np.array([0, 1, 2, 3, 0, 1], dtype=np.uint8)}
    with pytest.raises(InputError, match=r"label 3 in row 3, outside the classes 0\.\.2"):
        load(write(tmp_path / "mine", arrays))


def test_an_eleventh_class_is_refused_in_a_set_of_ten(tmp_path):
    arrays = small_set() | {"train_labels": np.full(12, 10, dtype=np.uint8)}
    write(tmp_path / "mnist", arrays)
    with pytest.raises(InputError, match=r"label 10 in row 0, outside the classes 0\.\.9"):
        load("mnist", data_dir=tmp_path)


def test_a_folder_without_training_rows_is_refused(tmp_path):
    with pytest.raises(InputError, match="no rows"):
        load(write(tmp_path / "mine", small_set(n_train=0)))


def test_images_without_pixels_are_refused(tmp_path):
    with pytest.raises(InputError, match="features must have shape"):
        load(write(tmp_path / "mine", small_set(size=(0, 4))))


def test_the_complete_fashion_mnist_has_its_published_mean_and_deviation(shared_data):
    data = load("fashion-mnist", data_dir=shared_data)
    assert (len(data.train_rows), len(data.test_rows)) == (60_000, 10_000)
    pixels = data.features[data.train_rows].double() / 255
    assert pixels.mean().item() == pytest.approx(0.2860, abs=5e-5)
    assert pixels.std(correction=0).item() == pytest.approx(0.3530, abs=5e-5)
    assert torch.bincount(data.targets).tolist() == [7_000] * 10
    assert (data.inputs, data.n_inputs, data.outputs) == ((1, 28, 28), 784, 10)
    assert (data.classes[0], data.classes[9]) == ("T-shirt/top", "Ankle boot")


@pytest.mark.parametrize(("name", "first"), [("mnist", [5, 0, 4, 1, 9]), ("fashion-mnist", [9, 0, 0, 3, 0])])
def test_a_published_set_equals_its_bytes_read_by_hand(shared_data, name, first):
    data = load(name, data_dir=shared_data)
    images = by_hand(shared_data / name / "t10k-images-idx3-ubyte.gz", 16).reshape(-1, 1, 28, 28)
    labels = by_hand(shared_data / name / "train-labels-idx1-ubyte.gz", 8)
    np.testing.assert_array_equal(data.features[data.test_rows].numpy(), images)
    np.testing.assert_array_equal(data.targets[data.train_rows].numpy(), labels)
    assert data.targets[:5].tolist() == first


def test_a_folder_of_real_images_loads_by_its_path(shared_data):
    data = load(shared_data / "fashion-mnist-sample")
    assert torch.bincount(data.train.targets).tolist() == [60] * 10
    assert torch.bincount(data.test.targets).tolist() == [30] * 10
    assert data.name == "fashion-mnist-sample"
