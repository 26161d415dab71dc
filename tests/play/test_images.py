"""Monte-Carlo samples of single images: one run over all of them gives the threshold, the lists and the panel."""

from dataclasses import replace

import pytest
import torch

from dampen.play._images import SAMPLES, Choice, ImagesTraining


@pytest.fixture(scope="module")
def training():
    found = ImagesTraining(Choice(rows=200, epochs=1))
    found.advance()
    return found


def _shown(training, **choice):
    training.change(replace(training._choice, **{"rotation": 0, **choice}))
    return training.snapshot().shown


def test_images_that_are_listed_as_wrong_are_so_by_the_prediction_that_is_shown(training):
    wrong = training.snapshot().trust.wrong[:10]
    assert len(wrong) == 10
    for number in wrong:
        shown = _shown(training, image=number)
        assert shown.number == number
        assert shown.names[0] != shown.label
        assert sum(shown.counts[0]) == SAMPLES


def test_the_entropy_that_is_shown_is_the_one_that_ranks_the_images_and_gives_the_threshold(training):
    trust, n_images = training.snapshot().trust, training.snapshot().n_images
    shown = [_shown(training, image=number) for number in range(n_images)]
    ranked = sorted(shown, key=lambda one: -one.entropy)
    assert [one.number for one in ranked[:10]] == trust.order[:10]
    assert sum(one.believed for one in shown) == trust.n_believed
    right = [one.names[0] == one.label for one in shown if one.believed]
    assert sum(right) / len(right) == trust.right


def test_an_image_that_is_turned_is_sampled_with_the_masks_of_the_one_that_is_not(training):
    found, _ = training._of_all()
    row = len(found) // 2 + 3
    alone = training._sample(training._data.test.features[row : row + 1], row)
    torch.testing.assert_close(alone.draws[:, 0], found.draws[:, row])
    assert _shown(training, image=3, rotation=180).entropy != _shown(training, image=3).entropy
