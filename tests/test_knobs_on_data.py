"""Knobs on data and targets as plain functions and layers: their mathematics, without a population."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from scipy import stats

from dampen.knobs.horizontal_flip import horizontal_flip
from dampen.knobs.random_shift import random_shift


def normals(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


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
