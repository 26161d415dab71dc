"""Folds that are given to data, in place of those that a study draws."""

import numpy as np
import pytest
import torch
from sklearn.model_selection import GroupKFold, KFold, PredefinedSplit, ShuffleSplit, StratifiedKFold, TimeSeriesSplit

from dampen import InputError, from_arrays, load
from dampen.data import Data


@pytest.fixture(scope="module")
def iris() -> Data:
    return load("iris")


def rows_of(folds: list[Data]) -> list[tuple[list[int], list[int]]]:
    return [(fold.train_rows.tolist(), fold.validation_rows.tolist()) for fold in folds]


def test_an_int_or_a_splitter_splits_the_training_rows_as_scikit_learn_does(iris):
    rows, labels = iris.train_rows.numpy(), iris.targets[iris.train_rows].numpy()
    for given, splitter in ((3, StratifiedKFold(3)), (KFold(4), KFold(4))):
        expected = [(rows[a].tolist(), rows[b].tolist()) for a, b in splitter.split(rows, labels)]
        assert len(iris.copies.first.unique()) < len(iris.features)  # iris has a copy, of which one does not train
        found = rows_of(iris.with_folds(given).folds())
        assert [held for _, held in found] == [held for _, held in expected]
        for (train, held), (rest, _) in zip(found, expected, strict=True):
            first = iris.copies.first
            assert train == [row for row in rest if first[row] not in first[held]]


def test_pairs_are_row_numbers_and_come_back_in_each_repetition():
    data = from_arrays(np.arange(24.0).reshape(12, 2), np.arange(12.0), test_fraction=0.0, task="regression")
    pairs = [([0, 1, 2, 3], [4, 5]), ([4, 5, 6, 7], [8])]
    given = data.with_folds(pairs)
    assert rows_of(given.folds(5, repeats=2, seed=9)) == pairs * 2
    assert all(fold.given_folds is None for fold in given.folds())
    assert given.reading is None


def test_a_group_that_is_held_out_does_not_train_and_a_note_has_how_many_rows():
    groups = np.arange(20) % 10
    features = np.random.default_rng(0).normal(size=(20, 2))
    data = from_arrays(features, features[:, 0], test_fraction=0.0, groups=groups, task="regression")
    apart = data.with_folds(GroupKFold(5))
    assert apart.notes == data.notes
    mixed = data.with_folds([(range(18), [18, 19]), (range(2, 20), [0, 1])])
    assert rows_of(mixed.folds())[0] == ([row for row in range(18) if row not in (8, 9)], [18, 19])
    assert mixed.notes[-1].startswith("4 rows do not train in a fold")


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        ("five", "folds must be a whole number, a splitter of scikit-learn, or pairs of row numbers"),
        (1, "n_splits=2 or more, got n_splits=1"),
        ([([0, 1], [2])], "2 to 100 are taken, got 1"),
        ([([0, 1], [1]), ([0, 1], [2])], "fold 1 of 'arrays' has a row twice, or on both sides"),
        ([([0, 1], [2]), ([], [2])], "fold 2 of 'arrays' has an empty side"),
        ([([0, 1], [2]), ([0, 99], [2])], "fold 2 of 'arrays' has rows that are not among its training rows"),
        ([([0.5, 1.0], [2]), ([0, 1], [2])], "fold 1 must be a pair of lists of row numbers"),
        ([3, 4], "fold 1 must be a pair"),
        (TimeSeriesSplit(4), "train on 4 to 16 rows, .* such as TimeSeriesSplit\\(max_train_size=4\\)"),
        (KFold, "or pairs of row numbers .* got <class"),
        (torch.zeros(3, 2), "fold 1 must be a pair"),
        (PredefinedSplit([i % 4 for i in range(30)]), "the splitter names row 29, and there are 20 training rows"),
        (GroupKFold(2), "'groups' parameter should not be None"),
    ],
)
def test_folds_that_cannot_be_used_are_refused_in_one_line(folds, message):
    data = from_arrays(torch.randn(20, 2), torch.randn(20), test_fraction=0.0, task="regression")
    with pytest.raises(InputError, match=message) as caught:
        data.with_folds(folds)
    assert "\n" not in str(caught.value)


def test_data_with_folds_takes_no_other_split():
    data = from_arrays(torch.randn(20, 2), torch.randn(20), test_fraction=0.0, task="regression")
    given = data.with_folds(ShuffleSplit(3, random_state=0))
    with pytest.raises(InputError, match="has 3 folds already"):
        given.with_validation()
    with pytest.raises(InputError, match="take the subset first"):
        given.subset(10)
    with pytest.raises(InputError, match="validation rows already: folds hold out rows of their own"):
        data.with_validation().with_folds(3)
