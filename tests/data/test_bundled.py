"""The sets that come with scikit-learn, and what `load` refuses."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn import datasets
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from dampen.data import NAMES, load
from dampen.errors import InputError

TABLES = {
    "breast-cancer": datasets.load_breast_cancer,
    "wine": datasets.load_wine,
    "iris": datasets.load_iris,
    "diabetes": lambda: datasets.load_diabetes(scaled=False),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_standardised_as_scikit_learn_does_on_training_rows_alone(name):
    data = load(name)
    raw = TABLES[name]().data
    scaler = StandardScaler().fit(raw[data.train_rows])
    for rows, part in ((data.train_rows, data.train), (data.test_rows, data.test)):
        np.testing.assert_allclose(part.features.numpy(), scaler.transform(raw[rows]), atol=2e-4)
    assert part.features.dtype == torch.float32


@pytest.mark.parametrize("name", ["digits", "breast-cancer", "wine"])  # of iris one flower is there twice
def test_the_test_rows_are_scikit_learns_stratified_split(name):
    data = load(name, seed=3, test_fraction=0.3)
    labels = data.targets.numpy()
    train, test = train_test_split(np.arange(len(labels)), test_size=0.3, random_state=3, stratify=labels)
    assert data.train_rows.tolist() == sorted(train)
    assert data.test_rows.tolist() == sorted(test)


def test_digits_are_images_whose_0_and_16_become_minus_1_and_1():
    data = load("digits")
    raw = datasets.load_digits().images[:, None]
    np.testing.assert_array_equal(data.features.numpy(), raw)
    assert data.features.dtype == torch.uint8
    np.testing.assert_allclose(data.train.features.numpy(), (raw[data.train_rows] / 16 - 0.5) / 0.5)
    assert (data.inputs, data.outputs, data.classes) == ((1, 8, 8), 10, tuple("0123456789"))


def test_regression_targets_stay_in_their_own_unit():
    data = load("diabetes")
    expected = datasets.load_diabetes().target[data.test_rows]
    np.testing.assert_array_equal(data.test.targets.numpy(), expected.astype(np.float32), strict=True)
    assert (data.task, data.outputs, data.classes) == ("regression", 1, None)


def test_names_of_classes_and_features_are_kept():
    data = load("iris")
    assert data.classes == ("setosa", "versicolor", "virginica")
    assert data.feature_names is not None
    assert data.feature_names[0] == "sepal length (cm)"
    assert "load_iris" in data.source


@pytest.mark.parametrize("name", ["digits", "diabetes"])
def test_the_same_seed_draws_the_same_test_rows_and_another_seed_others(name):
    assert load(name, seed=1).test_rows.equal(load(name, seed=1).test_rows)
    assert not load(name, seed=1).test_rows.equal(load(name, seed=2).test_rows)


def test_a_test_fraction_of_zero_keeps_every_row_for_training():
    data = load("wine", test_fraction=0.0)
    assert (len(data.train), len(data.test)) == (178, 0)


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 2.0, float("nan")])
def test_a_test_fraction_outside_its_range_is_refused(fraction):
    with pytest.raises(InputError, match="test fraction must be 0 or larger and smaller than 1"):
        load("wine", test_fraction=fraction)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_outside_its_range_is_refused(seed):
    with pytest.raises(InputError, match="seed must be between 0 and 4294967295"):
        load("wine", seed=seed)


@pytest.mark.parametrize("name", ["digit", "no/such/folder", "x" * 5_000, "nul\0", "two\nlines"])
def test_an_unknown_name_lists_the_names_and_offers_a_folder(name):
    with pytest.raises(InputError, match="folder with the four IDX files works too") as caught:
        load(name)
    assert all(known in str(caught.value) for known in NAMES)
    assert "\n" not in str(caught.value)


def test_a_data_dir_that_is_not_a_folder_is_refused():
    with pytest.raises(InputError, match=r"data_dir .*missing is not a folder"):
        load("digits", data_dir=Path("missing"))
