"""Both studies show what they are for, and the closed forms are what slow, independent ways give."""

import numpy as np
import pytest
import torch
from scipy.stats import ttest_rel
from sklearn.linear_model import Ridge

from dampen import InputError, load
from dampen.engine.knobs.noise.dropout import Dropout, dropout
from dampen.engine.knobs.weights.weight_decay import decay, l2_penalty
from dampen.experiments import dropout as dropout_study
from dampen.experiments import weight_decay as study


def test_decay_shrinks_weights_and_brings_the_test_loss_down():
    found = study.compare(study.Problem(), (0.0, 3.0), range(20))
    train, test = (found.history.final(f"{split}_loss").mean(0) for split in ("train", "test"))
    norm = found.l2_norm.mean(0)
    assert 13 < norm[0] < 15
    assert test[0] > 50
    assert train[0] < 0.01
    assert norm[1] < 0.6
    assert test[1] < 0.3


@pytest.mark.parametrize("trained", [study.compare, study.path])
def test_strengths_that_all_diverge_are_refused(trained):
    with pytest.raises(InputError, match="every network diverged: try a smaller --lr"):
        trained(study.Problem(lr=1e30, epochs=2), [1.0, 3.0], range(2))


def test_sgd_follows_the_closed_form_of_gradient_descent_and_ends_at_ridge():
    found = study.path(study.Problem(), np.geomspace(0.01, 100, 50).tolist(), range(20))
    np.testing.assert_allclose(found.test_loss, found.closed_form_test_loss, rtol=0.03)
    strong = found.weight_decays >= 30
    np.testing.assert_allclose(found.test_loss[strong], found.ridge_test_loss[strong], rtol=0.1)


@pytest.mark.parametrize("rows", [20, 60])
def test_full_batches_are_gradient_descent_and_its_limit_is_scikit_learns_ridge(rows):
    problem = study.Problem(inputs=40, rows=rows, batch_size=rows, epochs=50, true_weight=0.3)
    strengths = [0.01, 0.3, 5.0]
    found = study.path(problem, strengths, [4])
    np.testing.assert_allclose(found.test_loss, found.closed_form_test_loss, rtol=1e-4)
    np.testing.assert_allclose(found.l2_norm, found.closed_form_l2_norm, rtol=1e-4)
    data = problem.draw(4)
    for i, strength in enumerate(strengths):
        ridge = Ridge(alpha=rows * strength).fit(data.train.features.double(), data.train.targets.double())
        errors = ridge.predict(data.test.features.double()) - data.test.targets.double().numpy()
        np.testing.assert_allclose(found.ridge_test_loss[i], (errors**2).mean() / 2, rtol=1e-6)
        np.testing.assert_allclose(found.ridge_l2_norm[i], np.linalg.norm(ridge.coef_), rtol=1e-6)


def trajectory(optimizer_class, *, coupled):
    torch.manual_seed(0)
    x, y = torch.randn(20, 5, dtype=torch.float64), torch.randn(20, dtype=torch.float64)
    w = torch.randn(5, dtype=torch.float64, requires_grad=True)
    optimizer = optimizer_class([w], lr=0.01)
    for _ in range(100):
        loss = (x @ w - y).square().mean() / 2
        if coupled:
            loss = loss + l2_penalty(w, 3.0)
        optimizer.zero_grad()
        loss.backward()
        if not coupled:
            w.data = decay(w.data, 0.01, 3.0)
        optimizer.step()
    return w.detach()


def test_penalty_and_shrinking_are_the_same_under_sgd_and_not_under_adam():
    def difference(optimizer):
        a, b = trajectory(optimizer, coupled=True), trajectory(optimizer, coupled=False)
        return ((a - b).norm() / b.norm()).item()

    assert difference(torch.optim.SGD) < 1e-12
    assert difference(torch.optim.Adam) > 0.01


@pytest.mark.parametrize("p", [0.0, 0.3, 0.5, 1.0])
def test_dropout_is_the_formula_element_by_element(p):
    torch.manual_seed(0)
    h = torch.randn(400, 50, dtype=torch.float64, requires_grad=True)
    u = torch.rand(400, 50)
    out = dropout(h, p, u)
    expected = h / (1 - p) if p < 1 else torch.zeros_like(h)
    assert torch.equal(out, torch.where(u >= p, expected, 0.0))
    (gradient,) = torch.autograd.grad(out.sum(), h)
    assert gradient.isfinite().all()


def test_dropout_keeps_the_expectation_and_drops_as_often_as_torchs_own():
    torch.manual_seed(0)
    h = torch.ones(200_000)
    ours, torchs = Dropout(0.3)(h), torch.nn.Dropout(0.3)(h)
    error = (0.3 / 0.7 / len(h)) ** 0.5
    assert abs(ours.mean() - 1) < 4 * error
    share = [(x == 0).double().mean().item() for x in (ours, torchs)]
    assert abs(share[0] - share[1]) < 4 * (2 * 0.3 * 0.7 / len(h)) ** 0.5
    assert torch.equal(Dropout(0.3).eval()(h), h)


def test_thedropout_pairs_its_seeds():
    found = dropout_study.compare(load("iris"), (0.4,), (16,), range(4), epochs=5, batch_size=16)
    final = found.history.final("test_loss")
    interval = ttest_rel(final[:, 0], final[:, 1]).confidence_interval()
    effect = found.effect("loss")
    assert (effect.low, effect.high) == pytest.approx((interval.low, interval.high))
    np.testing.assert_allclose(found.gap("accuracy"), found.fitted["accuracy"] - found.history.final("test_accuracy"))


@pytest.mark.parametrize("rates", [(0.0,), (0.3, 0.5), (1.5,)])
def test_thedropout_refuses_rates_that_make_no_comparison(rates):
    with pytest.raises(InputError):
        dropout_study.compare(load("iris"), rates, (16,), [0])


def test_networks_with_and_without_dropout_that_all_diverge_are_refused():
    with pytest.raises(InputError, match="every network diverged: try a smaller --lr"):
        dropout_study.compare(load("iris"), (0.5,), (4,), [0], epochs=2, lr=1e30)


@pytest.mark.slow
def test_two_epochs_of_fashion_mnist_with_and_without_dropout(shared_data, monkeypatch):
    monkeypatch.setenv("DAMPEN_DATA", str(shared_data))
    found = dropout_study.compare(load("fashion-mnist"), (0.3, 0.5), (256, 128), [0], epochs=2)
    assert (found.history.final("test_accuracy") > 0.8).all()
