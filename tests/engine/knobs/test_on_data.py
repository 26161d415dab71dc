"""Knobs on data and targets as plain functions and layers: their mathematics, without a population."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from scipy import stats
from torch import nn

from dampen import InputError
from dampen.engine.knobs.batch.horizontal_flip import HorizontalFlip, horizontal_flip
from dampen.engine.knobs.batch.label_smoothing import SmoothCrossEntropy, label_smoothing
from dampen.engine.knobs.batch.mixup import Mixup, mixup, share_of
from dampen.engine.knobs.batch.random_shift import RandomShift, random_shift
from dampen.engine.knobs.noise.input_noise import InputNoise, input_noise


def normals(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(st.floats(0, 1), st.integers(2, 7), st.integers(0, 1000))
def test_smoothed_labels_are_torchs(smoothing, classes, seed):
    logits = 3 * normals(9, classes, seed=seed)
    targets = torch.arange(9) % classes
    plain = F.cross_entropy(logits, targets, reduction="none")
    expected = F.cross_entropy(logits, targets, reduction="none", label_smoothing=smoothing)
    torch.testing.assert_close(label_smoothing(plain, logits, smoothing), expected)
    mean = F.cross_entropy(logits, targets, label_smoothing=smoothing)
    torch.testing.assert_close(SmoothCrossEntropy(smoothing)(logits, targets), mean)
    torch.testing.assert_close(SmoothCrossEntropy(smoothing).eval()(logits, targets), plain.mean())


def test_mixup_at_alpha_0_is_the_identity():
    x = normals(8, 3)
    mixed, share, _ = Mixup(0.0)(x)
    assert share == 1
    assert torch.equal(mixed, x)


def test_mixup_is_a_hand_written_loop():
    x, partners, share = normals(5, 2, 3), torch.tensor([3, 0, 4, 2, 1]), 0.3
    expected = torch.stack([share * x[i] + (1 - share) * x[partners[i]] for i in range(5)])
    torch.testing.assert_close(mixup(x, share, partners), expected)


def test_mixing_the_losses_of_classes_is_cross_entropy_with_the_mixed_target():
    logits, targets, share = normals(6, 4), torch.tensor([0, 1, 2, 3, 0, 1]), 0.7
    partners = torch.tensor([5, 4, 3, 2, 1, 0])
    soft = mixup(F.one_hot(targets, 4).double(), share, partners)
    both = [F.cross_entropy(logits, t, reduction="none") for t in (targets, targets[partners])]
    torch.testing.assert_close(share * both[0] + (1 - share) * both[1], F.cross_entropy(logits, soft, reduction="none"))


@pytest.mark.parametrize("alpha", [0.2, 0.4, 1.0, 3.0])
def test_mixups_weights_are_beta_distributed(alpha):
    u = np.random.default_rng(0).random(4000)
    shares = [share_of(alpha, one) for one in u]
    assert stats.kstest(shares, stats.beta(alpha, alpha).cdf).pvalue > 0.001


@given(st.floats(0, 1e4), st.floats(0, 1, exclude_max=True))
def test_mixups_weights_lie_between_0_and_1(alpha, u):
    assert 0 <= share_of(alpha, u) <= 1


def test_the_mixed_batch_says_how_it_was_mixed():
    x = normals(8, 3)
    mixed, share, partners = Mixup(1.0, np.random.default_rng(3))(x)
    torch.testing.assert_close(mixed, share * x + (1 - share) * x[partners])
    assert sorted(partners.tolist()) == list(range(8))


def test_input_noise_is_ridge_in_expectation():
    # Bishop (1995): the expected squared error of a linear model gains sigma^2 ||w||^2.
    X, w, y, sigma, n = normals(7, 4), normals(4, seed=1), normals(7, seed=2), 0.3, 20_000
    noisy = torch.stack([(input_noise(X, sigma, e) @ w - y).square().mean() for e in normals(n, 7, 4, seed=3)])
    expected = (X @ w - y).square().mean() + sigma**2 * w.square().sum()
    assert (noisy.mean() - expected).abs() < 5 * noisy.std() / n**0.5


def slow_shift(image, down, right):
    """Move an image pixel by pixel; what would come from outside is the nearest edge."""
    height, width = image.shape[-2:]
    moved = torch.empty_like(image)
    for i in range(height):
        for j in range(width):
            moved[..., i, j] = image[..., min(max(i - down, 0), height - 1), min(max(j - right, 0), width - 1)]
    return moved


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 8), st.booleans(), st.integers(0, 1000))
def test_a_random_shift_moves_every_pixel_alike(height, width, pixels, colour, seed):
    images = normals(4, *([3] if colour else []), height, width, seed=seed)
    u = torch.rand(4, 2, generator=torch.Generator().manual_seed(seed))
    moves = [[int(one * (2 * pixels + 1)) - pixels for one in row] for row in u.tolist()]
    expected = torch.stack([slow_shift(image, *move) for image, move in zip(images, moves, strict=True)])
    assert torch.equal(random_shift(images, pixels, u), expected)


def test_every_shift_is_equally_likely():
    row = torch.arange(9.0).view(1, 1, 9).expand(20_000, 1, 9)
    u = torch.rand(20_000, 2, generator=torch.Generator().manual_seed(0))
    moved = 4 - random_shift(row, 2, u)[:, 0, 4]
    counts = torch.bincount((moved + 2).long(), minlength=5)
    assert stats.chisquare(counts.numpy()).pvalue > 0.001


@pytest.mark.parametrize("shape", [(6, 2, 4), (6, 3, 2, 4)])
def test_a_flip_mirrors_the_images_below_its_rate(shape):
    images, u = normals(*shape), torch.tensor([0.1, 0.9, 0.4, 0.6, 0.0, 0.499])
    found = horizontal_flip(images, 0.5, u)
    for image, one, flipped in zip(images, u.tolist(), found, strict=True):
        columns = [image[..., j] for j in range(4)]
        assert torch.equal(flipped, torch.stack(columns[::-1] if one < 0.5 else columns, -1))


@pytest.mark.parametrize("layer", [InputNoise(0.5), RandomShift(2), HorizontalFlip(0.5)], ids=repr)
def test_a_layer_is_random_in_training_and_the_identity_in_evaluation(layer):
    torch.manual_seed(0)
    images = torch.randn(64, 3, 8, 8)
    assert not torch.equal(layer.train()(images), layer(images))
    assert torch.equal(layer.eval()(images), images)
    assert isinstance(layer, nn.Module)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: SmoothCrossEntropy(1.5), "label_smoothing must be"),
        (lambda: Mixup(-1.0), "mixup must be"),
        (lambda: InputNoise(float("inf")), "input_noise must be"),
        (lambda: RandomShift(-1), "random_shift must be"),
        (lambda: HorizontalFlip(-0.5), "horizontal_flip must be"),
    ],
)
def test_values_outside_the_range_are_refused(make, said):
    with pytest.raises(InputError, match=said):
        make()
