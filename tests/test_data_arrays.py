"""Arrays in memory become a `Data`."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from dampen.data import from_arrays, read_incoming
from dampen.errors import InputError

FEATURES = np.arange(40.0).reshape(20, 2)
LABELS = np.arange(20) % 2


@given(
    features=arrays(
        st.sampled_from([np.float16, np.float32, np.float64, np.int64, np.int8, np.bool_, ">f4"]),
        array_shapes(min_dims=2, max_dims=4, min_side=2, max_side=5),
        elements=st.integers(0, 1),
    ),
    values=st.randoms(use_true_random=False),
)
def test_every_type_of_number_becomes_the_same_float32(features, values):
    targets = [values.random() for _ in features]
    data = from_arrays(features, targets, test_fraction=0.0)
    np.testing.assert_array_equal(data.features.numpy(), features.astype(np.float32), strict=True)
    np.testing.assert_array_equal(data.targets.numpy(), np.float32(targets), strict=True)


@pytest.mark.parametrize("convert", [np.asarray, torch.tensor, np.ndarray.tolist])
def test_arrays_tensors_and_lists_give_the_same_data(convert):
    data = from_arrays(convert(FEATURES), convert(LABELS), seed=2)
    reference = from_arrays(FEATURES, LABELS, seed=2)
    assert data.train.features.equal(reference.train.features)
    assert data.test.targets.equal(reference.test.targets)


def test_a_tensor_that_needs_gradients_is_taken_without_them():
    features = torch.randn(20, 2, dtype=torch.bfloat16, requires_grad=True)
    data = from_arrays(features, LABELS)
    assert data.features.equal(features.detach().float())
    assert not data.features.requires_grad


@pytest.mark.parametrize("shape", [(20, 2), (20, 3, 4)])
def test_later_changes_to_the_arrays_do_not_reach_the_data(shape):
    for dtype in (np.float32, np.uint8):
        features, targets = np.ones(shape, dtype=dtype), np.arange(20) % 2
        data = from_arrays(features, targets, test_fraction=0.0)
        features[:], targets[:] = 0, 0
        assert data.features.eq(1).all()
        assert data.targets.sum() == 10


def test_integers_mean_classes_and_floating_point_means_values():
    assert from_arrays(FEATURES, LABELS).task == "classification"
    assert from_arrays(FEATURES, LABELS == 1).classes == ("0", "1")
    assert from_arrays(FEATURES, LABELS * 1.0).task == "regression"
    assert from_arrays(FEATURES, LABELS * 1.0, task="classification").targets.dtype == torch.int64
    assert from_arrays(FEATURES, LABELS, task="regression").targets.dtype == torch.float32


@pytest.mark.parametrize("dtype", [str, object])
def test_names_become_class_numbers_in_their_order(dtype):
    targets = np.array(["b", "a", "c", "a"] * 5, dtype=dtype)
    data = from_arrays(FEATURES, targets)
    assert data.classes == ("a", "b", "c")
    assert data.targets[:4].tolist() == [1, 0, 2, 0]
    assert from_arrays(FEATURES, targets, classes=("c", "b", "a")).targets[:4].tolist() == [1, 2, 0, 2]


def test_bytes_of_three_dimensions_are_images_and_stay_bytes():
    images = np.arange(20 * 6, dtype=np.uint8).reshape(20, 2, 3)[:, :, ::-1]
    data = from_arrays(images, LABELS)
    np.testing.assert_array_equal(data.features.numpy(), images[:, None], strict=True)
    assert data.scaling == "pixels"
    expected = (images[data.train_rows][:, None] / 255 - 0.5) / 0.5
    np.testing.assert_allclose(data.train.features.numpy(), expected, atol=1e-6)


def test_a_test_set_that_is_given_is_used_as_it_is():
    data = from_arrays(FEATURES, LABELS, test=(FEATURES[:3] + 1, LABELS[:3]))
    assert data.train_rows.tolist() == list(range(20))
    assert data.test_rows.tolist() == [20, 21, 22]
    np.testing.assert_array_equal(data.features[data.test_rows].numpy(), FEATURES[:3] + 1)


@pytest.mark.parametrize(
    ("features", "targets", "options", "says"),
    [
        (FEATURES, LABELS[:19], {}, "one value for each of 20 rows"),
        (FEATURES, LABELS[:, None], {}, r"got shape \[20, 1\]"),
        (FEATURES[:, 0], LABELS, {}, r"features must have shape .* got \[20\]"),
        (3.0, LABELS, {}, r"features must have shape .* got \[\]"),
        ([[1.0], [2.0, 3.0]], [0, 1], {}, "same shape"),
        ([["a"], ["b"]], [0, 1], {}, "features must be numbers, got strings"),
        (FEATURES.astype(object), LABELS, {}, "features must be numbers"),
        (FEATURES * 1j, LABELS, {}, "features must be numbers"),
        (FEATURES * 1e300, LABELS, {}, "infinite in float32"),
        (FEATURES, LABELS * 900, {}, "pass task='regression' if they are values"),
        (FEATURES, LABELS - 1, {}, "class -1 in row 0 is negative"),
        (FEATURES, LABELS * 0, {}, "at least two classes"),
        (FEATURES, LABELS + 0.5, {"task": "classification"}, "whole numbers"),
        (FEATURES, LABELS * np.nan, {"task": "classification"}, "whole numbers"),
        (FEATURES, ["a", "b"] * 10, {"task": "regression"}, "must be numbers, got strings"),
        (FEATURES, ["a", "b"] * 10, {"classes": ("a", "c")}, "'b', which is not among classes a, c"),
        (FEATURES, LABELS, {"test": (FEATURES[:, :1], LABELS)}, "training and test features differ"),
        (FEATURES, LABELS, {"test": (FEATURES, LABELS[:3])}, r"\[3\] for 20 test rows"),
        (FEATURES, LABELS, {"test": (FEATURES, ["a"] * 20)}, "one holds strings"),
        (FEATURES[:0], LABELS[:0], {}, "training set is empty|leave none|number the classes"),
    ],
)
def test_what_cannot_be_a_data_set_is_refused_in_one_line(features, targets, options, says):
    with pytest.raises(InputError, match=says) as caught:
        from_arrays(features, targets, **options)
    assert "\n" not in str(caught.value)


@given(
    labels=st.lists(st.sampled_from(["0", "1", "2", "7"]), min_size=1, max_size=9),
    kind=st.sampled_from([str, int, float, np.uint8, np.float32]),
)
def test_classes_of_rows_to_come_are_known_by_name_or_number(tmp_path_factory, labels, kind):
    file = tmp_path_factory.mktemp("npz") / "rows.npz"
    np.savez(file, x=FEATURES[: len(labels)], labels=np.array([kind(label) for label in labels]))
    found = read_incoming(file, from_arrays(FEATURES, LABELS).normalisation, "classification", ("0", "1", "2"))
    known = [int(label) if label != "7" else -1 for label in labels]
    assert found.targets is None if set(known) == {-1} else found.targets.tolist() == known
    assert len(found.notes) == (-1 in known)
    torch.testing.assert_close(found.features, torch.tensor(FEATURES[: len(labels)], dtype=torch.float32))


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ({"z": FEATURES}, "inputs are to be called x"),
        ({"x": FEATURES, "y": LABELS[:5]}, "holds 20 rows and y of shape \\[5\\]"),
        ({"x": FEATURES * np.nan}, "NaN"),
        ({"x": FEATURES.astype(str)}, "x must be numbers"),
        ({"x": FEATURES[:, 0]}, "must have shape"),
    ],
)
def test_rows_to_come_that_will_not_do_are_one_line(tmp_path, held, message):
    np.savez(tmp_path / "rows.npz", **held)
    with pytest.raises(InputError, match=message) as told:
        read_incoming(tmp_path / "rows.npz", from_arrays(FEATURES, LABELS).normalisation, "classification", ("0", "1"))
    assert "\n" not in str(told.value)


def test_a_file_with_a_test_part_is_for_load(tmp_path):
    np.savez(tmp_path / "rows.npz", x_train=FEATURES, y_train=LABELS, x_test=FEATURES, y_test=LABELS)
    normalisation = from_arrays(FEATURES, LABELS).normalisation
    assert read_incoming(tmp_path / "rows.npz", normalisation, "classification", ("0", "1")) is None
