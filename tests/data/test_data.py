"""`Data` as a value: its splits, its normalisation and what it refuses to hold."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler

from dampen.data import Data, from_arrays, held_out, load
from dampen.errors import InputError


def table(n_rows: int = 60, n_classes: int = 3, **fields) -> Data:
    generator = torch.Generator().manual_seed(0)
    return Data(
        **{
            "name": "table",
            "task": "classification",
            "features": torch.randn(n_rows, 4, generator=generator),
            "targets": torch.arange(n_rows) % n_classes,
            "train_rows": torch.arange(n_rows - 10),
            "test_rows": torch.arange(n_rows - 10, n_rows),
            "classes": tuple("abcdefghij"[:n_classes]),
            "scaling": "standardise",
            **fields,
        }
    )


@given(
    n_rows=st.integers(30, 200),
    n_classes=st.integers(2, 4),
    fraction=st.floats(0.2, 0.5),  # of 20 training rows one for each class
    seed=st.integers(0, 2**32 - 1),
)
def test_validation_rows_are_disjoint_complete_and_repeatable(n_rows, n_classes, fraction, seed):
    data = table(n_rows, n_classes)
    split = data.with_validation(fraction, seed)
    assert sorted(torch.cat([split.train_rows, split.validation_rows]).tolist()) == data.train_rows.tolist()
    assert split.test_rows.equal(data.test_rows)
    assert split.validation_rows.equal(data.with_validation(fraction, seed).validation_rows)


@given(n=st.integers(2, 48), seed=st.integers(0, 100))
def test_a_subset_keeps_each_class_in_its_share_and_leaves_the_test_set(n, seed):
    data = table(60, 2)
    subset = data.subset(n, seed)
    counts = torch.bincount(subset.train.targets, minlength=2)
    assert len(subset.train) == n
    assert (counts[0] - counts[1]).abs() <= 1
    assert set(subset.train_rows.tolist()) <= set(data.train_rows.tolist())
    assert subset.test_rows.equal(data.test_rows)


def test_a_subset_of_all_rows_is_the_data_itself():
    data = table()
    assert data.subset(50) is data


def test_classes_keep_their_share_in_validation():
    split = load("breast-cancer").with_validation(0.2, seed=4)
    train, validation = split.train.targets.double().mean(), split.validation.targets.double().mean()
    assert validation.item() == pytest.approx(train.item(), abs=0.01)


@pytest.mark.parametrize("change", [lambda d: d.with_validation(0.3), lambda d: d.subset(60)])
def test_standardising_is_refitted_on_the_training_rows_that_remain(change):
    data = change(load("wine"))
    raw = data.features.double().numpy()
    scaler = StandardScaler().fit(raw[data.train_rows])
    for rows, part in ((data.train_rows, data.train), (data.validation_rows, data.validation)):
        if len(part):
            np.testing.assert_allclose(part.features.numpy(), scaler.transform(raw[rows]), atol=2e-4)
    assert str(len(data.train_rows)) in data.normalisation.note


def test_a_constant_column_becomes_zero_and_not_rounding_noise():
    features = torch.randn(60, 2)
    features[:, 0] = 0.1
    data = table(features=features)
    assert data.train.features[:, 0].eq(0).all()
    assert data.normalisation.std[0] == 1
    assert "1 constant" in data.normalisation.note


def test_normalising_new_rows_changes_neither_them_nor_the_raw_features():
    data = table()
    before, new = data.features.clone(), data.features[:3].clone()
    normalised = data.normalisation.apply(new)
    assert normalised.equal(data.train.features[:3])
    assert new.equal(before[:3])
    assert data.features.equal(before)


def test_without_scaling_the_features_are_used_as_given():
    data = table(scaling=None)
    assert data.test.features.equal(data.features[50:])


def test_rows_are_computed_once_and_the_value_is_frozen():
    data = table()
    assert data.train is data.train
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.name = "other"  # type: ignore[misc]


def test_validation_is_empty_until_it_is_asked_for():
    data = table()
    assert len(data.validation) == 0
    assert data.validation.features.shape == (0, 4)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_value_that_is_not_finite_is_counted_and_located(bad):
    features = torch.zeros(60, 4)
    features[7, 2] = features[9, 0] = bad
    with pytest.raises(InputError, match=r"features hold 2 values .* row 7, column 'c'"):
        table(features=features, feature_names=tuple("abcd"))
    values = torch.zeros(60)
    values[5] = bad
    with pytest.raises(InputError, match=r"targets hold 1 values .* row 5"):
        table(task="regression", targets=values, classes=None)


def test_values_with_which_float32_still_computes_are_accepted_and_larger_ones_refused():
    data = table(features=torch.full((60, 4), 1e30))
    assert data.train.features.isfinite().all()
    for large in (3e38, -1e31):
        with pytest.raises(InputError, match=r"beyond 1e\+30 become infinite or NaN"):
            table(features=torch.full((60, 4), large))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"targets": torch.zeros(59, dtype=torch.int64)}, "60 rows of features but 59 targets"),
        ({"targets": torch.arange(60) % 4}, r"15 labels are outside 0\.\.2, the first is 3 in row 3"),
        ({"targets": torch.arange(60) % 3 - 1}, r"20 labels are outside 0\.\.2, the first is -1 in row 0"),
        ({"targets": torch.zeros(60)}, "class numbers must be int64"),
        ({"classes": None}, "at least two classes"),
        ({"classes": ("only",)}, "at least two classes"),
        ({"task": "regression"}, "regression needs float32 targets and no classes"),
        ({"train_rows": torch.arange(0)}, "training set is empty"),
        ({"train_rows": torch.arange(51)}, "row 50 is used more than once"),
        ({"train_rows": torch.tensor([0, 0])}, "row 0 is used more than once"),
        ({"test_rows": torch.tensor([60])}, r"test_rows must lie in 0\.\.59"),
        ({"test_rows": torch.tensor([-1])}, r"test_rows must lie in 0\.\.59"),
        ({"features": torch.zeros(60, 0)}, "features must have shape"),
        ({"features": torch.zeros(60, 4).double()}, "float32 or uint8"),
        ({"feature_names": ("a", "b")}, "2 feature names for 4 columns"),
        ({"pixel_max": 0.0}, "pixel_max must be larger than 0"),
    ],
)
def test_what_is_no_data_set_is_refused_in_one_line(fields, says):
    with pytest.raises(InputError, match=says) as caught:
        table(**fields)
    assert "\n" not in str(caught.value)


def test_a_class_with_one_row_cannot_be_split_and_is_named():
    targets = torch.zeros(60, dtype=torch.int64)
    targets[::2] = 1
    targets[3] = 2
    with pytest.raises(InputError, match="validation rows of 'table': class 'c' has only 1 row"):
        table(targets=targets).with_validation()


@pytest.mark.parametrize("change", [lambda d: d.with_validation(0.02), lambda d: d.subset(2)])
def test_fewer_rows_than_classes_cannot_be_drawn(change):
    with pytest.raises(InputError, match="at least one row for each of 3 classes"):
        change(table())


@pytest.mark.parametrize("fraction", [0.0, 1.0, -1.0, float("nan")])
def test_a_validation_fraction_outside_its_range_is_refused(fraction):
    with pytest.raises(InputError, match="larger than 0 and smaller than 1"):
        table().with_validation(fraction)


def test_validation_cannot_be_drawn_twice():
    with pytest.raises(InputError, match="10 validation rows already"):
        table().with_validation(0.2).with_validation(0.2)


@pytest.mark.parametrize("n", [0, -1, 51])
def test_a_subset_outside_the_training_set_is_refused(n):
    with pytest.raises(InputError, match="has 1 to 50 training rows"):
        table().subset(n)


def test_drawing_the_only_row_leaves_nothing_to_train_on():
    data = from_arrays([[1.0], [2.0]], [1.0, 2.0], test_fraction=0.5, task="regression")
    with pytest.raises(InputError, match="leave none to train on"):
        data.with_validation(0.5)


def test_folds_hold_every_training_row_once_in_each_repetition_and_keep_shares():
    data = load("iris")
    found = data.folds(5, repeats=2, seed=3)
    assert len(found) == 10
    for repetition in (found[:5], found[5:]):
        held = torch.cat([fold.validation_rows for fold in repetition])
        assert held.sort().values.tolist() == data.train_rows.sort().values.tolist()
    for fold in found:
        assert not set(fold.validation_rows.tolist()) & set(fold.train_rows.tolist())
        assert torch.equal(fold.test_rows, data.test_rows)
        assert fold.validation.targets.bincount().min() >= 6
    assert not torch.equal(found[0].validation_rows, data.folds(5, seed=4)[0].validation_rows)
    assert torch.equal(found[0].validation_rows, data.folds(5, seed=3)[0].validation_rows)


def test_folds_refuse_what_they_cannot_split():
    data = load("iris")
    with pytest.raises(InputError, match="fewer than 50 folds"):
        data.folds(50)
    with pytest.raises(InputError, match="2 to 112 parts, got 1"):
        data.folds(1)
    with pytest.raises(InputError, match="validation rows already"):
        data.with_validation(0.2, seed=0).folds()


@pytest.mark.parametrize(("n_groups", "in_time"), [(2, False), (2, True), (3, False), (3, True), (4, True)])
def test_the_half_that_judges_has_two_groups_or_is_refused_at_once(n_groups, in_time):
    groups = torch.cat([torch.arange(50) // 5, 10 + torch.arange(40) % n_groups]).sort().values  # those of the last 40
    rows = {"train_rows": torch.arange(50), "validation_rows": torch.arange(50, 90), "test_rows": torch.arange(0)}
    data = table(90, classes=None, task="regression", targets=torch.randn(90), groups=groups, **rows)
    if in_time:
        data = dataclasses.replace(data, times=groups)
    if n_groups == 2:
        with pytest.raises(InputError, match="of 2 groups, and can't be halved so that 2 groups or more judge"):
            held_out(data, 0)
        return
    for seed in range(10):
        parts = [set(data.groups[one.validation_rows].tolist()) for one in held_out(data, seed)]
        assert not parts[0] & parts[1]
        assert (len(parts[0]) >= 1, len(parts[1]) >= 2) == (True, True)
