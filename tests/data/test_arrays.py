"""Arrays in memory become a `Data`."""

import numpy as np
import pandas as pd
import polars
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from torch import nn

import dampen
from dampen import load
from dampen.data import Preprocessing, from_arrays, read_incoming, read_rows
from dampen.errors import InputError
from dampen.study import load_study, with_ids

FEATURES = np.arange(40.0).reshape(20, 2)
LABELS = np.arange(20) % 2
RNG = np.random.default_rng(0)


@given(
    features=arrays(
        st.sampled_from([np.float16, np.float32, np.float64, np.int64, np.int8, np.bool_, ">f4"]),
        array_shapes(min_dims=2, max_dims=4, min_side=2, max_side=5),
        elements=st.integers(0, 1),
    ),
    values=st.randoms(use_true_random=False),
)
def test_every_type_of_number_becomes_the_same_float32(features, values):
    targets = [1 + values.random() for _ in features]  # of nothing but tiny numbers there is nothing to learn
    data = from_arrays(features, targets, test_fraction=0.0, task="regression")
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


@pytest.mark.parametrize("convert", [np.asarray, torch.tensor, np.ndarray.tolist, pd.Series, polars.Series])
@pytest.mark.parametrize(
    ("values", "classes"),
    [
        ([1, 2, 3], ("1", "2", "3")),
        ([100, 101, 102], ("100", "101", "102")),
        ([-1, 1], ("-1", "1")),
        ([0.0, 1.0], ("0", "1")),
        ([0, 2], ("0", "2")),
        ([False, True], ("False", "True")),
        ([0.5, 1.0, 2.0], None),
    ],
)
def test_labels_of_an_array_are_what_the_same_numbers_are_in_a_table(convert, values, classes):
    labels = np.array(values * 40)[RNG.permutation(40 * len(values))]
    x = RNG.normal(size=(len(labels), 3))
    frame = load(pd.DataFrame(x, columns=["x0", "x1", "x2"]).assign(target=labels))
    for data in (load(x, target=convert(labels)), load(x, target=convert(labels.astype(labels.dtype))[:, None]
                 if convert in (np.asarray, torch.tensor) else convert(labels))):  # fmt: skip
        assert data.classes == frame.classes == classes
        assert data.task == frame.task
        assert data.notes == frame.notes
        assert data.targets.equal(frame.targets)
        assert data.test_rows.equal(frame.test_rows)
        assert data.train.features.equal(frame.train.features)
    raw = from_arrays(x, convert(labels))
    assert (raw.task, raw.classes) == (data.task, data.classes)
    assert raw.targets.equal(data.targets)


def test_objects_and_columns_of_0_and_1_are_labels_too():
    labels = RNG.integers(0, 3, 120)
    x = RNG.normal(size=(120, 3))
    expected = load(x, target=labels)
    one_hot = load(x, target=np.eye(3)[labels])
    for data in (load(x, target=labels.astype(object)), load(x, target=list(labels)), one_hot):
        assert data.targets.equal(expected.targets)
        assert data.classes == ("0", "1", "2")
    assert one_hot.notes[0] == "the target's 3 columns of 0 and 1 are treated as classes"
    named = load(x, target=pd.DataFrame(np.eye(3)[labels], columns=["cat", "dog", "emu"]))
    assert named.classes == ("cat", "dog", "emu")
    assert named.targets.equal(expected.targets)
    with pytest.raises(InputError, match=r"target must be one value for each row, got shape \[120, 2\]"):
        load(x, target=x[:, :2])


def test_whole_numbers_of_images_are_classes_however_many_there_are():
    images, labels = RNG.integers(0, 255, (130, 4, 4), dtype=np.uint8), np.arange(130) % 26
    assert from_arrays(images, labels).classes == tuple(map(str, range(26)))
    assert from_arrays(FEATURES, LABELS, task="regression").targets.dtype == torch.float32
    assert from_arrays(FEATURES, LABELS * 1.0, task="classification").targets.dtype == torch.int64


def test_rows_without_a_label_are_left_out_and_that_is_told():
    x, y = RNG.normal(size=(60, 3)), RNG.normal(size=60)
    y[[3, 7]] = np.nan
    for make in (load, from_arrays):
        data = make(x, **{"target" if make is load else "targets": y})
        assert len(data.targets) == 58
        assert "2 rows without a target" in data.notes[0]
    with pytest.raises(InputError, match="missing in every row"):
        load(x, target=y * np.nan)


def test_whole_numbers_stay_whole_where_they_are_not_scaled():
    ids = RNG.integers(0, 2**40, (60, 5))
    for values in (ids, torch.from_numpy(ids), ids.tolist()):
        data = load(values, target=np.arange(60) % 2, normalise=False)
        assert data.train.features.dtype == torch.int64
        np.testing.assert_array_equal(data.train.features.numpy(), ids[data.train_rows])
    assert load(ids * 0.5, target=np.arange(60) % 2, normalise=False).train.features.dtype == torch.float32


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


def test_channels_come_first_however_an_array_comes_and_that_is_told(tmp_path):
    images, labels = RNG.integers(0, 256, (40, 8, 6, 3), dtype=np.uint8), np.arange(40) % 2
    np.savez(tmp_path / "images.npz", x=images, y=labels)
    for data in (load(images, target=labels), load(tmp_path / "images.npz"), load(Pairs(images, labels))):
        assert data.features.equal(torch.from_numpy(images).permute(0, 3, 1, 2))
        assert data.notes == ("bytes of shape [8, 6, 3] are read as images with channels last: [3, 8, 6]",)
    first = load(images.transpose(0, 3, 1, 2), target=labels)
    assert (first.inputs, first.notes) == ((3, 8, 6), ())
    grey = load(images[..., 0], target=labels)
    assert grey.notes == ("bytes of shape [8, 6] are read as grey images: [1, 8, 6]",)
    for reals, start in (
        (images / 255, "inputs of shape [8, 6, 3] are read as 8 channels of 6x3: if they are images"),
        (images[:, :6, :, 0] / 255, "inputs of shape [6, 6] stay so: if they are grey images, give [rows, 1, 6, 6]"),
    ):
        data = load(reals, target=labels)
        assert data.inputs == reals.shape[1:]
        assert data.notes[0].startswith(start)
    assert load(RNG.normal(size=(40, 6, 6)), target=labels).notes == ()


@pytest.mark.parametrize(
    ("more", "note"),
    [
        ({"x_test": FEATURES}, "'x_test' has no targets beside it (y_test): test rows are drawn"),
        ({"val_x": FEATURES, "val_y": LABELS}, "arrays that are not used: 'val_x' [20, 2], 'val_y' [20]"),
        ({"z": LABELS}, "arrays that are not used: 'z' [20]"),
    ],
)
def test_arrays_of_a_file_that_are_not_used_are_told(tmp_path, more, note):
    np.savez(tmp_path / "rows.npz", x=FEATURES, y=np.repeat(["a", "b"], 10), **more)
    data = load(tmp_path / "rows.npz")
    assert data.notes == (note,)
    if "x_test" not in more:
        assert read_rows(tmp_path / "rows.npz", Preprocessing.of(data)).notes == (note,)
        normalisation = from_arrays(FEATURES, LABELS).normalisation
        assert note in read_incoming(tmp_path / "rows.npz", normalisation, "classification", ("a", "b")).notes


def test_a_test_set_that_is_given_is_used_as_it_is():
    data = from_arrays(FEATURES, LABELS, test=(FEATURES[:3] + 1, LABELS[:3]))
    assert data.train_rows.tolist() == list(range(20))
    assert data.test_rows.tolist() == [20, 21, 22]
    np.testing.assert_array_equal(data.features[data.test_rows].numpy(), FEATURES[:3] + 1)


def as_big_endian(values):
    return values.astype(values.dtype.newbyteorder(">"))


class Pairs(torch.utils.data.Dataset):
    def __init__(self, inputs, targets):
        self.inputs, self.targets = inputs, targets

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, i):
        return self.inputs[i], int(self.targets[i])


@pytest.mark.parametrize("how", ["array", "npz", "frame", "dataset", "from_arrays", "engine", "mc_dropout"])
def test_the_order_of_bytes_changes_nothing(how, tmp_path):
    inputs, targets = RNG.normal(size=(40, 3)).astype(np.float32), np.arange(40) % 2

    def read(x, y):
        if how == "npz":
            np.savez(tmp_path / "rows.npz", x=x, y=y)
            return load(tmp_path / "rows.npz").train.features
        if how == "frame":
            frame = pd.DataFrame(x, columns=list("abc")).assign(g=y.cumsum().astype(y.dtype), y=y)
            return load(frame, target="y", group="g").train.features
        if how == "engine":
            one = dampen.Population(lambda: nn.Linear(3, 2), [dampen.Setting()], [0])
            one.fit({"train": (x, y)}, epochs=1)
            return one.member(dampen.Setting(), 0).weight
        if how == "mc_dropout":
            network = nn.Sequential(nn.Dropout(), nn.Linear(3, 2, bias=False))
            network[1].weight.data.fill_(1.0)
            return dampen.mc_dropout(network, x, 3, task="regression").mean
        if how == "dataset":
            return load(Pairs(x, y)).train.features
        return (from_arrays(x, y) if how == "from_arrays" else load(x, target=y)).train.features

    assert read(as_big_endian(inputs), as_big_endian(targets)).equal(read(inputs, targets))


@pytest.mark.parametrize("kind", [float, int, bool, str])
def test_what_an_array_masks_is_missing(kind):
    inputs, hidden = RNG.normal(size=(40, 3)), RNG.random((40, 3)) < 0.2
    targets = np.arange(40) % 2
    labels = np.array(["no", "yes"])[targets] if kind is str else targets.astype(kind)
    found = load(np.ma.masked_array(inputs, hidden), target=np.ma.masked_array(labels, targets.cumsum() > 17))
    kept = targets.cumsum() <= 17
    reference = load(np.where(hidden, np.nan, inputs)[kept], target=labels[kept])
    assert found.classes == reference.classes
    assert found.train.features.equal(reference.train.features)
    assert found.train.targets.equal(reference.train.targets)
    assert f"{(~kept).sum()} rows without a target 'target' left out" in found.notes


@pytest.mark.parametrize(
    ("features", "targets", "options", "says"),
    [
        (FEATURES, LABELS[:19], {}, "one value for each of 20 rows"),
        (FEATURES[:, 0], LABELS, {}, r"features must have shape .* got \[20\]"),
        (3.0, LABELS, {}, r"features must have shape .* got \[\]"),
        ([[1.0], [2.0, 3.0]], [0, 1], {}, "same shape"),
        ([["a"], ["b"]], [0, 1], {}, "features must be numbers, got strings"),
        (FEATURES.astype(object), LABELS, {}, "features must be numbers"),
        (FEATURES * 1j, LABELS, {}, "features must be numbers"),
        (FEATURES * 1e300, LABELS, {}, "infinite in float32"),
        (np.ma.masked_array(FEATURES, FEATURES == 3), LABELS, {}, "1 values that are NaN or infinite"),
        (FEATURES, LABELS, {"weights": np.full(20, 1e300)}, r"at most 1e\+18 .* largest is 1e\+300: divide all by it"),
        (FEATURES, LABELS, {"weights": np.full(20, 1e-300)}, "not all below 1e-18, .* largest is 1e-300"),
        (FEATURES, LABELS - 1, {"classes": ("a", "b")}, "class -1 in row 0 is negative"),
        (FEATURES, LABELS * 0, {}, "'0' in every row: there is nothing to learn"),
        (FEATURES, LABELS + 0.5, {"classes": ("a", "b")}, "whole numbers"),
        (FEATURES, LABELS * np.nan, {"task": "classification"}, "missing in every row"),
        (FEATURES, ["a", "b"] * 10, {"task": "regression"}, "holds 'a', a regression needs numbers"),
        (FEATURES, ["a", "b"] * 10, {"classes": ("a", "c")}, "'b', which is not among classes a, c"),
        (FEATURES, LABELS, {"test": (FEATURES[:, :1], LABELS)}, "training and test features differ"),
        (FEATURES, LABELS, {"test": (FEATURES, LABELS[:3])}, r"\[3\] for 20 test rows"),
        (FEATURES, LABELS, {"test": (FEATURES, ["a"] * 20)}, "one holds strings"),
        (FEATURES[:0], LABELS[:0], {}, "training set is empty|leave none|missing in every row"),
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


class Embedded(nn.Module):
    """Embeds every number of a row, as it is or cast first; or only the first column."""

    def __init__(self, inputs, outputs, how):
        super().__init__()
        self.how = how
        self.embedding = nn.Embedding(30, 6)
        self.linear = nn.Linear(6 * inputs if how != "first" else 6 + inputs, outputs)

    def forward(self, x):
        if self.how == "first":
            return self.linear(torch.cat([self.embedding(x[:, 0].long().clamp(0, 29)), x], 1))
        return self.linear(self.embedding(x.long() if self.how == "cast" else x).flatten(1))


@pytest.mark.parametrize(("how", "whole"), [("as it is", True), ("cast", True), ("first", False), ("linear", False)])
def test_whole_numbers_stay_whole_where_the_network_embeds_them(how, whole):
    ids = RNG.integers(0, 30, (200, 4))

    def make(inputs, outputs):
        return nn.Linear(inputs, outputs) if how == "linear" else Embedded(inputs, outputs, how)

    data = with_ids(make, load(ids, target=RNG.integers(0, 2, 200)))
    assert (data.train.features.dtype == torch.int64) == whole
    if whole:
        np.testing.assert_array_equal(data.train.features.numpy(), ids[data.train_rows])
        by_hand = load(ids, target=data.targets, normalise=False)
        assert by_hand.train.features.equal(data.train.features)


@pytest.mark.usefixtures("without_shape_checks")
def test_a_network_that_embeds_whole_numbers_is_tuned_and_predicts(tmp_path):
    ids = RNG.integers(0, 30, (200, 4))
    y = (RNG.normal(size=30)[ids].sum(1) > 0).astype(int)
    few = {"n_settings": 2, "n_seeds": 1, "epochs": 2, "confirmed": 1, "n_confirm_seeds": 2}

    def make(inputs, outputs):
        return Embedded(inputs, outputs, "as it is")

    data = load(ids, target=y)
    study = dampen.tune(make, data, out=tmp_path / "study", **few)
    with torch.no_grad():
        logits = study.model()(torch.from_numpy(ids[data.test_rows]))
    kept = load_study(tmp_path / "study", load(ids, target=y, normalise=False), make)
    np.savez(tmp_path / "rows.npz", x=ids)
    rows = read_incoming(tmp_path / "rows.npz", kept.description.normalisation, "classification", ("0", "1"))
    torch.testing.assert_close(kept.model()(rows.inputs_of(data.test_rows)).detach(), logits)


@pytest.mark.usefixtures("without_shape_checks")
def test_whole_numbers_that_a_file_holds_as_reals_are_found_again(tmp_path):
    ids = RNG.integers(0, 30, (120, 4))
    np.savez(tmp_path / "ids.npz", x=ids.astype(np.float32), y=np.arange(120) % 2)

    def make(inputs, outputs):
        return Embedded(inputs, outputs, "long")

    data = load(tmp_path / "ids.npz")
    settings = [dampen.Setting(), dampen.Setting(weight_decay=0.1)]
    few = {"n_seeds": 2, "epochs": 1, "batch_size": 1}  # a batch of one row that needs no normalisation
    dampen.compare(make, data, settings, out=tmp_path / "study", **few)
    kept = load_study(tmp_path / "study", model=make)
    np.testing.assert_array_equal(kept.data.train.features.numpy(), ids[data.train_rows])
    given = load_study(tmp_path / "study", data, make)
    assert given.data.test_rows.equal(data.test_rows)


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"drop": 2.5}, "drop must be the name of a column, or values, got 2.5"),
        ({"seed": "a"}, "seed must be a whole number, got 'a'"),
        ({"test": 3}, r"test must be \(inputs, targets\), got int"),
        ({"weight": ["a"] * 20}, "weight"),
        ({"group": 0}, "name columns of a table"),
    ],
)
def test_options_of_another_kind_are_one_line(options, line):
    with pytest.raises(InputError, match=line) as caught:
        load(FEATURES.reshape(20, -1, 1), target=LABELS, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("without_shape_checks")
def test_numbers_of_numpy_are_kept_with_how_data_was_read(tmp_path):
    np.savez(tmp_path / "rows.npz", x=FEATURES, y=LABELS)
    assert load(tmp_path / "rows.npz", seed=np.int64(3)).reading["seed"] == 3
