"""What one population has compiled, for another of the same model: no more of the compiler, and the same numbers."""

import pytest
import torch
from torch import nn

from dampen import Population, Setting
from dampen.engine.execution import _fused

pytestmark = pytest.mark.usefixtures("without_shape_checks")
HOW = {"precision": "float64", "epochs": 3, "batch_size": 8, "compile": True}
FIRST, SECOND = [Setting(lr=0.02, dropout=0.4), Setting()], [Setting(weight_decay=1.0, dropout=0.1)]


class Scaled(nn.Module):
    """A network with numbers that are no part of its state: what is compiled has them as constants."""

    def __init__(self, training: float, evaluation: float):
        super().__init__()
        self.layer, self.drop, self.head = nn.Linear(6, 9), nn.Dropout(0.2), nn.Linear(9, 3)
        self.factors = evaluation, training

    def forward(self, x):
        return self.head(self.drop(torch.relu(self.layer(x)))) * self.factors[self.training]


def rows(n=53):
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(n, 6, generator=generator), torch.randint(3, (n,), generator=generator)
    return {"train": (x, y), "test": (x[:20], y[:20])}


def trained(model, settings, seeds, before=None):
    population = Population(model, settings, seeds)
    population.take_over(before)
    return population, population.fit(rows(), **HOW)


def assert_equal(one, other):
    (population, history), (plain, expected) = one, other
    for setting in population.settings:
        for seed in population.seeds:
            mine, theirs = population.member(setting, seed), plain.member(setting, seed)
            for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
                torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)
    for name in ("train_loss", "test_loss", "test_accuracy"):
        torch.testing.assert_close(torch.tensor(history.metrics[name]), torch.tensor(expected.metrics[name]))


def test_what_is_taken_over_is_not_compiled_again(monkeypatch):
    model = lambda: Scaled(1.0, 1.0)  # noqa: E731
    plain = trained(model, SECOND, [5, 6])
    first, _ = trained(model, FIRST, [0])
    assert first.compiled is not None
    monkeypatch.setattr(_fused, "in_c", None)  # would not be called in vain
    second = trained(model, SECOND, [5, 6], first.compiled)
    assert_equal(second, plain)
    assert second[0].explain().compiled == "yes, a member on each core"


@pytest.mark.parametrize("factors", [(2.0, 1.0), (1.0, 3.0)], ids=["training", "evaluation"])
def test_a_network_that_computes_otherwise_takes_nothing_over(factors):
    first, _ = trained(lambda: Scaled(1.0, 1.0), FIRST, [0])
    assert_equal(
        trained(lambda: Scaled(*factors), SECOND, [5, 6], first.compiled),
        trained(lambda: Scaled(*factors), SECOND, [5, 6]),
    )
    again, _ = trained(lambda: Scaled(1.0, 1.0), FIRST, [0], first.compiled)  # and leaves what there was as it is
    assert_equal((again, again.history), (first, first.history))


@pytest.mark.parametrize(
    "model",
    [lambda: nn.Linear(6, 3), lambda: nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Dropout(0.2), nn.Linear(9, 3))],
)
def test_another_network_takes_nothing_over(model):
    first, _ = trained(lambda: nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Dropout(0.2), nn.Linear(9, 3)), FIRST, [0])
    settings = [Setting(weight_decay=1.0)]
    assert_equal(trained(model, settings, [5], first.compiled), trained(model, settings, [5]))


def test_nothing_is_there_to_take_over_from_what_is_not_compiled():
    population = Population(lambda: nn.Linear(6, 3), FIRST[1:], [0])
    assert population.compiled is None
    population.fit(rows(), **HOW | {"compile": False})
    assert population.compiled is None
    assert_equal(
        trained(lambda: nn.Linear(6, 3), FIRST[1:], [0], population.compiled),
        trained(lambda: nn.Linear(6, 3), FIRST[1:], [0]),
    )
