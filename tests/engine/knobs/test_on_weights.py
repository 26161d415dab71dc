"""Knobs on gradients and weights: each against a closed form, scikit-learn or torch's own optimizers."""

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import ElasticNet, Lasso
from torch import nn

from dampen import InputError, Population, Setting, mlp, solo
from dampen.engine.knobs.weights.group_lasso import shrink_groups
from dampen.engine.knobs.weights.l1 import L1, elastic_net_step, soft_threshold
from dampen.engine.knobs.weights.max_norm import within


def regression(n=60, d=8, outputs=0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=generator, dtype=torch.float64)
    w = torch.randn(d, max(1, outputs), generator=generator, dtype=torch.float64)
    w[d // 2 :] *= 0.1
    y = x @ w + 0.3 * torch.randn(n, max(1, outputs), generator=generator, dtype=torch.float64)
    return x, y if outputs else y.squeeze(1)


def classes(n=53, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 6, generator=generator), torch.randint(3, (n,), generator=generator)


def network():
    return mlp(8, dropout=0.2)(6, 3)


def descend(settings, data, model, epochs=400, lr=0.3, **options):
    """Gradient descent on all rows at once, without noise: it ends at the minimum."""
    population = Population(model, settings, [0])
    options = {"optimizer": "sgd", "loss": "half_squared_error", "precision": "float64", **options}
    population.fit(data, epochs=epochs, lr=lr, batch_size=len(data[1]), evaluate_every=None, **options)
    return population


def flat(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


@pytest.mark.parametrize("l1_ratio", [1.0, 0.5])
def test_the_path_of_l1_and_of_the_elastic_net_is_scikit_learns(l1_ratio):
    x, y = regression()
    alphas = np.geomspace(0.01, 2, 12)
    settings = [Setting(l1=a * l1_ratio, l2=a * (1 - l1_ratio)) for a in alphas]
    population = descend(settings, (x, y), lambda: nn.Linear(8, 1))
    zeros = set()
    for alpha, setting in zip(alphas, settings, strict=True):
        kind = Lasso(alpha) if l1_ratio == 1 else ElasticNet(alpha, l1_ratio=l1_ratio)
        kind.set_params(tol=1e-12, max_iter=100_000).fit(x.numpy(), y.numpy())
        mine = population.member(setting, 0)
        np.testing.assert_allclose(mine.weight.detach().numpy()[0], kind.coef_, atol=1e-7)
        np.testing.assert_allclose(mine.bias.item(), kind.intercept_, atol=1e-7)
        np.testing.assert_array_equal(mine.weight.detach().numpy()[0] == 0, kind.coef_ == 0)
        zeros.add(int((kind.coef_ == 0).sum()))
    assert len(zeros) > 3


def test_the_elastic_nets_step_minimises_its_penalty_and_the_distance():
    w = torch.linspace(-3, 3, 41, dtype=torch.float64)
    found = elastic_net_step(w, 0.5, 1.2, 0.8)
    grid = torch.linspace(-4, 4, 80_001, dtype=torch.float64)
    values = 0.5 * (1.2 * grid.abs() + 0.4 * grid.square()) + (grid - w.unsqueeze(1)).square() / 2
    torch.testing.assert_close(found, grid[values.argmin(1)], atol=1e-4, rtol=0)
    assert torch.equal(elastic_net_step(w, 0.5, 1.2, 0.0), soft_threshold(w, 0.6))


def test_l1_alone_in_a_plain_loop_is_the_lasso():
    x, y = regression()
    layer = nn.Linear(8, 1, dtype=torch.float64)
    optimizer, l1 = torch.optim.SGD(layer.parameters(), lr=0.3), L1([layer.weight], 0.3)
    for _ in range(400):
        optimizer.zero_grad()
        ((layer(x).squeeze(1) - y).square().mean() / 2).backward()
        optimizer.step()
        l1(lr=0.3)
    theirs = Lasso(0.3, tol=1e-12, max_iter=100_000).fit(x.numpy(), y.numpy())
    np.testing.assert_allclose(layer.weight.detach().numpy()[0], theirs.coef_, atol=1e-7)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_coupled_and_decoupled_decay_are_one_under_sgd_and_two_under_adam(optimizer):
    settings = [Setting(l2=0.3), Setting(decoupled_decay=0.3), Setting(weight_decay=0.3)]
    population = Population(network, settings, [1])
    population.fit(classes(), epochs=5, batch_size=8, lr=0.05, optimizer=optimizer, precision="float64")
    coupled, decoupled, own = (flat(population.member(setting, 1)) for setting in settings)
    same = {
        "coupled": torch.allclose(own, coupled, rtol=1e-10),
        "decoupled": torch.allclose(own, decoupled, rtol=1e-10),
    }
    assert same == {"coupled": optimizer != "adamw", "decoupled": optimizer != "adam"}


@pytest.mark.parametrize(
    ("knob", "optimizer", "torchs"),
    [
        ("l2", "adamw", torch.optim.Adam),
        ("decoupled_decay", "adam", torch.optim.AdamW),
        ("weight_decay", "adamw", torch.optim.AdamW),
        ("l2", "sgd", torch.optim.SGD),
    ],
)
def test_each_decay_is_torchs(knob, optimizer, torchs):
    x, y = regression()
    population = descend([Setting(**{knob: 0.2})], (x, y), lambda: nn.Linear(8, 1), 50, 0.02, optimizer=optimizer)
    torch.manual_seed(0)
    layer = nn.Linear(8, 1).double()
    theirs = torchs(
        [{"params": [layer.weight], "weight_decay": 0.2}, {"params": [layer.bias], "weight_decay": 0.0}], lr=0.02
    )
    for _ in range(50):
        theirs.zero_grad()
        ((layer(x).squeeze(1) - y).square().mean() / 2).backward()
        theirs.step()
    mine = population.member(Setting(**{knob: 0.2}), 0)
    torch.testing.assert_close(mine.weight, layer.weight, rtol=1e-9, atol=0)
    torch.testing.assert_close(mine.bias, layer.bias, rtol=1e-9, atol=0)


def test_l2_sp_ends_between_the_rows_and_the_initial_weights():
    x, y = regression()
    settings = [Setting(l2_sp=strength) for strength in (0.1, 1.0, 10.0)]
    population = descend(settings, (x, y), lambda: nn.Linear(8, 1, bias=False), lr=0.15)
    torch.manual_seed(0)
    start = nn.Linear(8, 1, bias=False).weight.detach().double()[0]
    for setting in settings:
        strength = setting["l2_sp"]
        truth = torch.linalg.solve(x.T @ x / 60 + strength * torch.eye(8), x.T @ y / 60 + strength * start)
        torch.testing.assert_close(population.member(setting, 0).weight[0].detach(), truth, rtol=0, atol=1e-8)


def orthonormal(n=40, d=6, outputs=5, seed=0):
    """Rows whose columns are orthonormal: a proximal step from the least-squares weights is the minimum."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.linalg.qr(torch.randn(n, d, generator=generator, dtype=torch.float64)).Q * n**0.5
    y = torch.randn(n, outputs, generator=generator, dtype=torch.float64) + x @ torch.randn(
        d, outputs, generator=generator, dtype=torch.float64
    ) * torch.linspace(0, 1, outputs)
    return x, y, (y.T @ x) / n


def test_group_lasso_empties_whole_units_as_the_closed_form_does():
    x, y, least_squares = orthonormal()
    settings = [Setting(group_lasso=strength) for strength in (0.01, 0.03, 0.1, 1.0)]
    population = descend(settings, (x, y), lambda: nn.Linear(6, 5, bias=False), epochs=60, lr=2.5)
    emptied = []
    for setting in settings:
        weight = population.member(setting, 0).weight.detach()
        # The loss is a mean over 5 outputs, so that a threshold of 5 * strength stands against unit curvature.
        norms = least_squares.norm(dim=1, keepdim=True)
        truth = least_squares * (1 - 5 * setting["group_lasso"] * 6**0.5 / norms).clamp(min=0)
        torch.testing.assert_close(weight, truth, rtol=1e-8, atol=1e-9)
        zero = weight == 0
        assert torch.equal(zero.any(1), zero.all(1))
        emptied.append(int(zero.all(1).sum()))
    assert emptied[0] < emptied[2]
    assert emptied[-1] == 5


def test_the_frobenius_norm_empties_the_whole_matrix_or_nothing_of_it():
    x, y, least_squares = orthonormal()
    settings = [Setting(frobenius=strength) for strength in (0.01, 1.0)]
    population = descend(settings, (x, y), lambda: nn.Linear(6, 5, bias=False), epochs=60, lr=2.5)
    kept, emptied = (population.member(setting, 0).weight.detach() for setting in settings)
    truth = least_squares * (1 - 5 * 0.01 * 30**0.5 / least_squares.norm())
    torch.testing.assert_close(kept, truth, rtol=1e-8, atol=1e-9)
    assert not emptied.any()


def test_groups_of_a_convolution_are_its_filters():
    w = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    found = shrink_groups(w, 0.2)
    lengths = found.flatten(1).norm(dim=1)
    torch.testing.assert_close(lengths, (w.flatten(1).norm(dim=1) - 0.2 * 12**0.5).clamp(min=0))


def test_max_norm_is_never_exceeded_and_without_it_nothing_changes():
    settings = [Setting(max_norm=0.5), Setting(max_norm=math.inf), Setting(), Setting(max_norm=0.2, lr=0.3)]
    population = Population(network, settings, [0, 1])

    def check(event):
        if not hasattr(event, "diverged_at"):
            return
        for name, t in population.state().items():
            if name.endswith("weight"):
                norms = t.double().norm(dim=-1)
                assert norms[:, 0].max() <= 0.5
                assert norms[:, 3].max() <= 0.2
                assert norms[:, 2].max() > 0.5

    population.fit(classes(), epochs=5, batch_size=8, lr=0.05, precision="float64", callback=check)
    for seed in (0, 1):
        bound, none = (flat(population.member(setting, seed)) for setting in settings[1:3])
        torch.testing.assert_close(bound, none, rtol=1e-12, atol=0)


def test_projection_onto_the_ball_is_torchs_renorm():
    w = torch.randn(5, 3, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(within(w, 3.0), torch.renorm(w, 2, 0, 3.0), rtol=1e-6, atol=0)


@pytest.mark.parametrize("kind", ["linear", "cosine"])
@pytest.mark.parametrize("knob", ["weight_decay", "decoupled_decay", "l2"])
def test_a_schedule_moves_every_decay(kind, knob):
    x, y = regression()
    setting = Setting(**{knob: 0.5}, decay_schedule=kind)
    population = descend([setting, Setting(**{knob: 0.5})], (x, y), lambda: nn.Linear(8, 1, bias=False), 20, 0.1)
    torch.manual_seed(0)
    w = nn.Linear(8, 1, bias=False).weight.detach().double()[0]
    for step in range(20):
        share = 1 - step / 20 if kind == "linear" else (1 + math.cos(math.pi * step / 20)) / 2
        w = w - 0.1 * (x.T @ (x @ w - y) / 60 + 0.5 * share * w)
    torch.testing.assert_close(population.member(setting, 0).weight[0].detach(), w, rtol=1e-10, atol=0)


def test_decay_as_a_time_scale_is_the_decay_that_forgets_in_so_many_epochs():
    # 53 rows in batches of 8 are 7 steps
    stated, plain = Setting(decay_timescale=4, lr=0.02), Setting(weight_decay=1 / (0.02 * 4 * 7), lr=0.02)
    population = Population(network, [stated, plain], [0])
    population.fit(classes(), epochs=3, batch_size=8)
    ends = [flat(population.member(setting, 0)) for setting in (stated, plain)]
    torch.testing.assert_close(*ends, rtol=1e-5, atol=1e-6)  # the BLAS may round one member as it does no other
    with pytest.raises(InputError, match="no meaning under Adam"):
        Population(network, [stated], [0]).fit(classes(), epochs=1, optimizer="adam")
    with pytest.raises(InputError, match="not both"):
        Setting(decay_timescale=4, weight_decay=0.1)


def test_dropout_of_inputs_is_ridge_with_the_columns_norms_in_expectation():
    """Srivastava et al. (2014), section 9.1. Linear steps: the mean over masks follows the mean loss's descent."""
    x, y = regression(n=40, d=4)
    x = x * torch.tensor([0.8, 1.0, 1.5, 2.0])
    rates, S = (0.3, 0.6), 120
    population = Population(
        lambda: nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 1, bias=False)),
        [Setting(dropout=p) for p in rates],
        range(S),
    )
    how = {"optimizer": "sgd", "loss": "half_squared_error", "evaluate_every": None}
    population.fit((x, y), epochs=150, lr=0.08, batch_size=40, **how)
    plain = torch.linalg.solve(x.T @ x, x.T @ y)
    for m, rate in enumerate(rates):
        weights = population.state()["1.weight"].double().cpu()[:, m, 0]
        metric = torch.diag((x.T @ x).diagonal())
        ridge = torch.linalg.solve(x.T @ x + rate / (1 - rate) * metric, x.T @ y)
        error = weights.std(0) / S**0.5
        assert ((weights.mean(0) - ridge).abs() < 4.5 * error).all()
        assert ((weights.mean(0) - plain).abs() > 10 * error).any()


class Hidden(nn.Module):
    """Can't be fused: it decides by a tensor's value."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)

    def forward(self, x):
        h = self.norm(self.first(x))
        return self.last(torch.tanh(h) if h.detach().sum().item() < 1e9 else h)


def plain():
    return nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 3))


def by_hand(model, setting, optimizer, steps=40):
    """A plain loop over all rows at once: torch's optimizer without decay, and each decay as its paper writes it."""
    torch.manual_seed(0)
    network = model().double()
    first, last = [m.weight for m in network.modules() if isinstance(m, nn.Linear)]
    theirs = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[optimizer](
        [{"params": list(network.parameters()), "weight_decay": 0.0}], lr=0.02
    )
    x, y = classes()
    for step in range(steps):
        factor, lr = 1 - step / steps, 0.02 * (1 - step / steps)
        on = step >= setting.get("decay_start", 0.0) * steps
        theirs.zero_grad()
        torch.nn.functional.cross_entropy(network(x.double()), y).backward()
        theirs.param_groups[0]["lr"] = lr
        with torch.no_grad():
            for w in (first, last):
                rate = lr * factor if w is first else lr  # its layer is normalised
                w.mul_(1 - on * factor * setting.get("independent_decay", 0.0))
                w.mul_(1 - on * rate * setting.get("corrected_decay", 0.0))
            before = [w.clone() for w in (first, last)]
            theirs.step()
            for w, old in zip((first, last), before, strict=True):
                update = (old - w) / lr
                w.sub_(on * lr * setting.get("cautious_decay", 0.0) * torch.where(update * old >= 0, old, 0.0))
                if step >= setting.get("l1_start", 0.0) * steps:
                    bound = lr * setting.get("l1", 0.0)
                    w.copy_(w.sign() * (w.abs() - bound).clamp(min=0))
    return network


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("model", [plain, Hidden])
@pytest.mark.filterwarnings("ignore::dampen.NotFusedWarning")
def test_decays_of_recent_papers_and_late_starts_are_hand_written_loops(model, optimizer):
    settings = [
        Setting(cautious_decay=0.5),
        Setting(independent_decay=0.02),
        Setting(corrected_decay=0.5),
        Setting(cautious_decay=2.0, decay_start=0.5),
        Setting(corrected_decay=0.5, decay_start=0.25, l1=0.05, l1_start=0.75),
        Setting(),
    ]
    how = {"epochs": 40, "batch_size": 53, "optimizer": optimizer, "schedule": "linear", "lr": 0.02}
    population = Population(model, settings, [0])
    population.fit(classes(), precision="float64", evaluate_every=None, **how)
    none = flat(population.member(Setting(), 0))
    for setting in settings:
        mine, theirs = flat(population.member(setting, 0)), flat(by_hand(model, setting, optimizer))
        assert (mine - theirs).norm() <= 1e-9 * theirs.norm(), setting
        assert not setting or (mine - none).norm() > 1e-3 * none.norm()


def test_a_steps_own_update_decides_where_cautious_decay_acts():
    from dampen.engine.knobs.weights.cautious_decay import cautious_decay

    before, after = torch.tensor([2.0, 2.0, -2.0, -2.0, 2.0]), torch.tensor([1.0, 3.0, -1.0, -3.0, 2.0])
    torch.testing.assert_close(cautious_decay(after, before, 0.5, 0.1), after - torch.tensor([0.1, 0, -0.1, 0, 0.1]))
    with pytest.raises(InputError, match="not both"):
        Setting(cautious_decay=0.1, weight_decay=0.1)


def test_layers_before_a_normalisation_are_found_by_their_order():
    from dampen.engine.knobs.weights.corrected_decay import normalised

    network = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.Dropout(), nn.BatchNorm2d(2), nn.ReLU(), nn.Conv2d(2, 2, 3), nn.ReLU()
    )
    assert normalised(network) == {"0.weight"}
    assert normalised(nn.Sequential(nn.LayerNorm(3), nn.Linear(3, 2))) == set()
    assert normalised(nn.Linear(3, 2)) == set()


ALONE = [
    {"l2": 0.3},
    {"l1": 0.02},
    {"l1": 0.01, "l2": 0.1},
    {"group_lasso": 0.01},
    {"frobenius": 0.01},
    {"l2_sp": 0.5},
    {"max_norm": 0.4},
    {"decoupled_decay": 0.4},
    {"decay_timescale": 3.0},
    {"weight_decay": 0.3, "decay_schedule": "cosine"},
    {"cautious_decay": 0.4},
    {"independent_decay": 0.01, "decay_schedule": "linear", "decay_start": 0.2},
    {"corrected_decay": 0.4, "decay_start": 0.4},
    {"l1": 0.02, "l1_start": 0.5},
]
TOGETHER = [Setting(**values, dropout=0.06 * k, lr=0.01 + 0.002 * k) for k, values in enumerate(ALONE)]
TOGETHER.append(Setting(l1=0.01, group_lasso=0.005, l2_sp=0.2, max_norm=0.9, weight_decay=0.1, decay_schedule="linear"))


@pytest.mark.parametrize(("optimizer", "chunk"), [("sgd", 4), ("adamw", None)])
def test_members_of_all_kinds_train_as_they_do_alone(optimizer, chunk):
    how = {"epochs": 3, "batch_size": 8, "optimizer": optimizer, "schedule": "cosine", "precision": "float64"}
    population = Population(network, TOGETHER, [3, 9], chunk=chunk)
    population.fit(classes(), **how)
    for setting in TOGETHER:
        mine, alone = flat(population.member(setting, 9)), flat(solo(network, setting, 9, classes(), **how).network)
        assert (mine - alone).norm() <= 1e-9 * alone.norm(), setting


def test_what_knobs_remember_survives_saving_and_keeping(tmp_path):
    how = {"epochs": 4, "batch_size": 16, "precision": "float64"}
    whole = Population(network, TOGETHER, [0, 1])
    whole.fit(classes(), **how)
    part = Population(network, TOGETHER, [0, 1], chunk=3)
    part.fit(classes(), until=1, **how)
    part.save(tmp_path)
    part = Population.load(tmp_path, network)
    part.fit(classes(), until=2, **how)
    part.select(TOGETHER[4:])
    part.fit(classes(), **how)
    for setting in TOGETHER[4:]:
        mine, theirs = flat(part.member(setting, 1)), flat(whole.member(setting, 1))
        assert (mine - theirs).norm() <= 1e-9 * theirs.norm(), setting


def test_a_knob_with_no_weight_to_act_on_says_so():
    for setting, decay in ((Setting(l1=0.1), lambda name, p: False), (Setting(max_norm=1), lambda name, p: p.ndim < 2)):
        with pytest.raises(InputError, match=f"{next(iter(setting))} finds no weight"):
            Population(network, [setting], [0]).fit(classes(), epochs=1, decay_filter=decay)


@pytest.mark.parametrize(
    "name", ["l1", "l2", "group_lasso", "frobenius", "l2_sp", "decoupled_decay", "max_norm", "decay_timescale"]
)
def test_a_strength_below_zero_or_infinite_is_refused(name):
    for wrong in (-0.1, math.nan, "much", True, None):
        with pytest.raises(InputError, match=name):
            Setting(**{name: wrong})
