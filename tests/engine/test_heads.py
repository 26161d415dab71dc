"""Losses of networks with a variance or with quantiles: fused, alone and in a loop of one's own."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import mean_pinball_loss

from dampen import InputError, Population, Setting, mlp, solo
from dampen.engine import TrainConfig
from dampen.engine._heads import with_heads
from dampen.engine._losses import LOSSES, QUANTILES, heads_of

pytestmark = pytest.mark.usefixtures("without_shape_checks")

NAMES = ("gaussian_nll", "beta_nll", "pinball")
SETTINGS = [Setting(lr=0.02), Setting(weight_decay=0.3, lr=0.01)]


def rows(n=48):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, 5, generator=generator, dtype=torch.float64)
    y = x[:, 0] + x[:, 1].exp() * torch.randn(n, generator=generator, dtype=torch.float64)
    return x, y / y.std()


def by_hand(name, outputs, targets):
    """The losses as torch, scikit-learn's definition and the paper have them, in other words than dampen's."""
    if name == "pinball":
        errors = targets[:, None] - outputs
        q = torch.tensor(QUANTILES, dtype=outputs.dtype)
        return (F.relu(errors) * q + F.relu(-errors) * (1 - q)).mean(1)
    variance = outputs[:, 1].exp()
    nll = F.gaussian_nll_loss(outputs[:, 0], targets, variance, reduction="none")
    return nll * variance.detach() ** 0.5 if name == "beta_nll" else nll


@pytest.mark.parametrize("name", NAMES)
def test_losses_and_gradients_are_those_of_torch(name):
    _, y = rows()
    outputs = torch.randn(48, heads_of(name), dtype=torch.float64, requires_grad=True)
    found, expected = LOSSES[name](outputs, y), by_hand(name, outputs, y)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    mine, theirs = (torch.autograd.grad(loss.sum(), outputs)[0] for loss in (found, expected))
    torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)


def test_the_quantile_loss_is_scikit_learn_s():
    _, y = rows()
    outputs = torch.randn(48, 3, dtype=torch.float64)
    each = [mean_pinball_loss(y, outputs[:, k], alpha=q) for k, q in enumerate(QUANTILES)]
    assert float(LOSSES["pinball"](outputs, y).mean()) == pytest.approx(np.mean(each), rel=1e-12)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_fused_equals_solo_equals_a_loop_by_hand(name, compiled):
    """A hundred full batches, so that the loop needs no order of dampen's."""
    data, model = rows(), with_heads(mlp(7, activation="tanh"), name)
    how = {"epochs": 100, "batch_size": 48, "precision": "float64", "loss": name}
    population = Population(model, SETTINGS, [3, 4])
    population.fit(data, compile=compiled, **how)
    for setting in SETTINGS:
        fused = population.member(setting, 4)
        alone = solo(model, setting, 4, data, **how).network
        network = population.initial_model(4).double()
        decayed = [p for n, p in network.named_parameters() if n.endswith("weight")]
        others = [p for n, p in network.named_parameters() if not n.endswith("weight")]
        groups = [{"params": decayed, "weight_decay": setting.get("weight_decay", 0.0)}, {"params": others}]
        optimizer = torch.optim.AdamW(groups, lr=setting["lr"], weight_decay=0.0)
        for _ in range(100):
            optimizer.zero_grad()
            by_hand(name, network(data[0]), data[1]).mean().backward()
            optimizer.step()
        for other in (alone, network):
            a, b = (torch.cat([p.detach().flatten() for p in n.parameters()]) for n in (fused, other))
            assert float((a - b).norm() / b.norm()) < 1e-9


def test_a_network_of_another_number_of_outputs_is_one_line():
    for name in NAMES:
        with pytest.raises(InputError, match=r"the loss can't be taken of outputs.*outputs a row"):
            Population(mlp(4), SETTINGS, [0]).fit(rows(), epochs=1, loss=name, precision="float64")
    with pytest.raises(InputError, match="gaussian_nll, beta_nll, pinball, got 'laplace'"):
        TrainConfig(loss="laplace")
