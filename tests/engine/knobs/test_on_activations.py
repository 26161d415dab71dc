"""Knobs on activations and weights as plain functions and layers: their mathematics, without a population."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from torch import nn

from dampen import InputError
from dampen.engine.knobs.noise.drop_path import DropPath, by_depth, drop_path, rows_shape
from dampen.engine.knobs.noise.dropblock import DropBlock, centre_rate, centres, dropblock
from dampen.engine.knobs.noise.dropconnect import DropConnect, dropconnect
from dampen.engine.knobs.noise.dropout import Dropout
from dampen.engine.knobs.noise.gaussian_dropout import GaussianDropout, deviation, gaussian_dropout
from dampen.engine.knobs.time.dropout_schedule import factor

N = 200_000


LAYERS = {
    "Dropout": Dropout,
    "GaussianDropout": GaussianDropout,
    "DropPath": DropPath,
    "DropBlock": lambda p: DropBlock(p, 3),
}


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


@pytest.mark.parametrize("p", [0.2, 0.7])
def test_dropconnect_keeps_the_expected_product(p):
    x, weight, n = normals(4, 6, seed=1), normals(3, 6, seed=2), 20_000
    each = x @ dropconnect(weight, p, uniforms(n, 3, 6)).transpose(1, 2)
    spread = each.std(0) / n**0.5
    assert ((each.mean(0) - F.linear(x, weight)).abs() < 5 * spread).all()
    # Var of a product over independent weights: sum of x_i^2 w_i^2 p / (1 - p).
    expected = x.square() @ weight.square().T * p / (1 - p)
    torch.testing.assert_close(each.var(0), expected, rtol=0.1, atol=0)


def test_dropconnect_drops_a_modules_weights_and_not_its_bias():
    torch.manual_seed(0)
    linear = nn.Linear(5, 3)
    layer = DropConnect(linear, p=1.0)
    torch.testing.assert_close(layer(torch.randn(2, 5)), linear.bias.expand(2, 3))
    x = torch.randn(2, 5)
    torch.testing.assert_close(layer.eval()(x), linear(x))
    assert set(layer.state_dict()) == {"module.weight", "module.bias"}


def test_dropconnect_needs_a_weight():
    with pytest.raises(InputError, match="BatchNorm1d has no matrix or kernel called weight"):
        DropConnect(nn.BatchNorm1d(3))


@pytest.mark.parametrize("together", [False, True])
def test_drop_path_keeps_the_expected_branch_and_drops_rows_whole(together):
    branch, p, n = normals(4, 2, 3, seed=1), 0.3, 20_000
    shape = (1, 1, 1) if together else rows_shape(branch.shape)
    each = drop_path(branch, p, uniforms(n, *shape))
    assert ((each.mean(0) - branch).abs() < 5 * each.std(0) / n**0.5).all()
    dropped = (each == 0).flatten(2)
    assert (dropped.all(-1) == dropped.any(-1)).all()
    rows = dropped.all(-1).double()
    assert rows.mean().item() == pytest.approx(p, abs=0.02)
    assert bool((rows[:, 0] == rows[:, 1]).all()) is together


def test_the_survival_of_blocks_falls_linearly_with_depth():
    # Huang et al. (2016), section 3: p_L = 0.5 and 54 blocks: the first survives with 1 - 0.5 / 54, the last with 0.5.
    rates = by_depth(0.5, 54)
    np.testing.assert_allclose(1 - np.array(rates), [1 - block / 54 * (1 - 0.5) for block in range(1, 55)])


def slow_dropblock(h, p, block, u):
    """Algorithm 1 of Ghiasi et al. (2018), one centre after the other."""
    B, C, H, W = h.shape
    high, wide = min(block, H), min(block, W)
    gamma = p / (high * wide) * (H * W) / ((H - high + 1) * (W - wide + 1))
    mask = torch.ones_like(h)
    for b in range(B):
        for c in range(C):
            for i in range(H - high + 1):
                for j in range(W - wide + 1):
                    if u[b, c, i, j] < gamma:
                        mask[b, c, i : i + high, j : j + wide] = 0
    return h * mask * (mask.numel() / mask.sum() if mask.any() else 1.0)


@given(
    st.integers(1, 3), st.integers(1, 7), st.integers(1, 7), st.integers(1, 9), st.floats(0, 1), st.integers(0, 1000)
)
def test_dropblock_is_the_papers_algorithm(channels, height, width, block, p, seed):
    h = normals(2, channels, height, width, seed=seed)
    u = uniforms(2, channels, *centres(block, height, width), seed=seed + 1)
    torch.testing.assert_close(dropblock(h, p, block, u), slow_dropblock(h, p, block, u))


@pytest.mark.parametrize(("block", "size"), [(1, 14), (3, 14), (7, 28), (5, 5)])
def test_dropblock_drops_about_the_share_it_is_asked_for(block, size):
    p = 0.1
    u = uniforms(64, 8, *centres(block, size, size))
    mask = dropblock(torch.ones(64, 8, size, size, dtype=torch.float64), p, block, u) > 0
    # Equation 1 counts a unit once for every centre that drops it: blocks that overlap drop a little less.
    gamma = centre_rate(p, block, size, size)
    inside = slice(block - 1, size - block + 1)  # units that block^2 centres can drop
    share = 1 - mask.double().mean().item()
    assert share <= p + 0.02
    if block < size:
        exact = 1 - (1 - gamma) ** (block * block)
        assert 1 - mask[..., inside, inside].double().mean().item() == pytest.approx(exact, abs=0.02)
    else:
        assert share == pytest.approx(p, abs=0.05)


def test_dropblock_keeps_the_mean_mask_at_one():
    u = uniforms(8, 4, 6, 6)
    out = dropblock(torch.ones(8, 4, 8, 8, dtype=torch.float64), 0.2, 3, u)
    assert out.mean().item() == pytest.approx(1)


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_a_layer_is_random_in_training_and_the_identity_in_evaluation(layer):
    torch.manual_seed(0)
    h = torch.randn(4, 3, 8, 8)
    noisy = layer(0.5)
    assert not torch.equal(noisy(h), noisy(h))
    assert torch.equal(noisy.eval()(h), h)
    assert torch.equal(layer(0.0)(h), h)
    assert "p=0.5" in repr(noisy)


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_a_layers_rate_is_a_probability(layer):
    for p in (-0.1, 1.5, float("nan")):
        with pytest.raises(InputError, match="from 0 to"):
            layer(p)


def test_gaussian_noise_has_no_variance_at_rate_one():
    with pytest.raises(InputError, match="gaussian_dropout must be below 1"):
        GaussianDropout(1.0)


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ("constant", [1.0] * 12),
        ("early", [1.0] * 2 + [0.0] * 10),
        ("late", [0.0] * 2 + [1.0] * 10),
        ("early:0.5", [1.0] * 6 + [0.0] * 6),
        ("late:0.75", [0.0] * 9 + [1.0] * 3),
        ("linear:0.5", [*(1 - step / 6 for step in range(6)), *[0.0] * 6]),
        ("annealed", [1 - step / 12 for step in range(12)]),
    ],
)
def test_dropout_schedules_are_on_when_they_say(schedule, rates):
    np.testing.assert_allclose([factor(schedule, step, 12) for step in range(12)], rates, atol=1e-12)
