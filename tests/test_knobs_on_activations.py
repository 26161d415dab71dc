"""Knobs on activations and weights as plain functions and layers: their mathematics, without a population."""

import pytest
import torch

from dampen import InputError
from dampen.knobs.gaussian_dropout import GaussianDropout, deviation, gaussian_dropout

N = 200_000


def uniforms(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def normals(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_gaussian_noise_has_the_mean_and_the_variance_of_dropout(p):
    noise = gaussian_dropout(torch.ones(N, dtype=torch.float64), deviation(p), normals(N))
    variance = p / (1 - p)
    assert noise.mean().item() == pytest.approx(1, abs=5 * (variance / N) ** 0.5)
    assert noise.var().item() == pytest.approx(variance, rel=5 * (2 / N) ** 0.5)
    dropped = torch.where(uniforms(N) < p, 0.0, 1 / (1 - p))
    assert noise.var().item() == pytest.approx(dropped.var().item(), rel=0.05)


def test_gaussian_noise_has_no_variance_at_rate_one():
    with pytest.raises(InputError, match="gaussian_dropout must be below 1"):
        GaussianDropout(1.0)
