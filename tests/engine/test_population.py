"""The population against ordinary PyTorch: fused equals solo, paired by seed, a member fails alone."""

import hashlib
import struct
import time
from concurrent.futures import ThreadPoolExecutor

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from torch import nn
from torch.utils.data import BatchSampler

from dampen import InputError, Population, Setting, from_arrays, load, mlp, solo
from dampen.engine import _rng

pytestmark = pytest.mark.usefixtures("without_shape_checks")  # the knobs' tests check them


class Residual(nn.Module):
    """A user's own network with functional dropout."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x):
        h = F.dropout(torch.relu(self.first(x)), 0.2, self.training)
        h = h + F.dropout(torch.tanh(self.second(h)), p=0.4, training=self.training)
        return self.last(h)


MODELS = {
    "linear": lambda: nn.Linear(6, 3),
    "mlp": lambda: mlp(8, 5, dropout=(0.3, 0.5))(6, 3),
    "own": Residual,
    "norm": lambda: nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.GELU(), nn.Dropout(0.1), nn.Linear(8, 3)),
}
SETTINGS = [
    Setting(weight_decay=0.1, dropout=0.2, lr=0.03),
    Setting(dropout=0.5),
    Setting(weight_decay=1.0),
    Setting(),
]


@pytest.fixture(scope="module")
def data():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(53, 6, generator=generator)
    targets = torch.randint(3, (53,), generator=generator)
    return from_arrays(features, targets, task="classification")


def fit(model, members, seeds, data, **options):
    population = Population(model, members, seeds)
    options = {"precision": "float64", "epochs": 3, "batch_size": 8, "lr": 0.01, "optimizer": "adamw"} | options
    return population, population.fit(data, **options)


def test_populations_of_several_threads_train_as_they_do_alone(data):
    def make():
        layers = []
        for size in (6, 4), (4, 3):
            time.sleep(0.02)  # for another thread to draw its weights
            layers.append(nn.Linear(*size))
        return nn.Sequential(*layers)

    def train(_):
        return float(fit(make, [Setting()], [0], data)[1].final("train_loss")[0, 0])

    with ThreadPoolExecutor(2) as threads:
        assert set(threads.map(train, range(2))) == {train(0)}


def distance(network, other):
    pairs = zip(network.state_dict().values(), other.state_dict().values(), strict=True)
    return max(((a - b).norm() / b.norm()).item() for a, b in pairs)


@pytest.mark.parametrize(
    ("name", "optimizer"),
    [
        *[("mlp", optimizer) for optimizer in ("sgd", "adam", "adamw")],
        ("linear", "adam"),
        ("own", "sgd"),
        ("norm", "adamw"),
    ],
)
def test_a_member_of_every_setting_equals_its_solo_run_after_a_hundred_steps(name, optimizer, data):
    options = {"epochs": 20, "batch_size": 8, "lr": 0.01, "optimizer": optimizer}
    population, history = fit(MODELS[name], SETTINGS, [3, 9], data, **options)
    for m, setting in enumerate(SETTINGS):
        s = m % 2
        alone = solo(MODELS[name], setting, (3, 9)[s], data, precision="float64", **options)
        assert distance(population.member(setting, (3, 9)[s]), alone.network) < 1e-9
        np.testing.assert_allclose(history.metrics["train_loss"][:, s, m], alone.train_loss, rtol=1e-9)


def order(n, seed, epoch):
    digest = hashlib.blake2b(struct.pack("<3q", seed, epoch, 0), digest_size=8).digest()
    return torch.randperm(n, generator=torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1))


@pytest.mark.parametrize(
    ("options", "cut"),
    [
        ({}, lambda rows: rows.tensor_split(8)),
        ({"even_batches": False}, lambda rows: map(torch.tensor, BatchSampler(rows.tolist(), 32, drop_last=False))),
    ],
    ids=["even", "full and the rest"],
)
def test_a_member_equals_a_loop_that_knows_nothing_of_dampen(options, cut):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(225, 6, generator=generator, dtype=torch.float64)
    y = torch.randint(3, (225,), generator=generator)
    setting, how = Setting(weight_decay=0.3), {"epochs": 13, "batch_size": 32, "lr": 0.01, **options}
    population, history = fit(MODELS["linear"], [setting, Setting()], [5], (x, y), **how)
    alone = solo(MODELS["linear"], setting, 5, (x, y), precision="float64", **how)
    torch.manual_seed(5)
    network = nn.Linear(6, 3).double()
    groups = [{"params": [network.weight], "weight_decay": 0.3}, {"params": [network.bias], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.01)
    curve = np.zeros(13)
    for epoch in range(13):
        for rows in cut(order(225, 5, epoch + 1)):
            optimizer.zero_grad()
            loss = F.cross_entropy(network(x[rows]), y[rows])
            loss.backward()
            optimizer.step()
            curve[epoch] += loss.item() * len(rows) / 225
    for found, losses in (
        (population.member(setting, 5), history.metrics["train_loss"][:, 0, 0]),
        (alone.network, alone.train_loss),
    ):
        assert distance(found, network) < 1e-9
        np.testing.assert_allclose(losses, curve, rtol=1e-9)


@pytest.mark.parametrize(("n", "batch_size"), [(225, 32), (33, 32), (3, 2), (64, 16), (7, 100)])
def test_no_row_weighs_noticeably_more_than_another(n, batch_size):
    # A row of its own column, and a loss that is the output: what a weight moves by is what its row weighs.
    def train(**options):
        population, _ = fit(
            lambda: nn.Linear(n, 1, bias=False),
            [Setting()],
            [0],
            (torch.eye(n), torch.zeros(n)),
            optimizer="sgd",
            lr=1.0,
            epochs=1,
            batch_size=batch_size,
            loss=lambda outputs, targets: outputs.sum(1),
            **options,
        )
        return (
            population.initial_model(0).weight.detach().double()[0] - population.member(Setting(), 0).weight.detach()[0]
        )

    weights, steps = train(), -(-n // batch_size)
    assert weights.sum().item() == pytest.approx(steps)
    assert weights.max() / weights.min() < (n // steps + 1) / (n // steps) + 1e-9
    rest = n - (steps - 1) * batch_size
    assert train(even_batches=False).max().item() == pytest.approx(1 / rest)


@given(st.permutations(range(4)), st.integers(1, 4), st.permutations([1, 2, 7]), st.integers(1, 3))
@settings(max_examples=3)
def test_members_do_not_depend_on_who_trains_beside_them(data, order, M, seeds, S):
    everyone, _ = fit(MODELS["mlp"], SETTINGS, [1, 2, 7], data)
    some, _ = fit(MODELS["mlp"], [SETTINGS[i] for i in order[:M]], seeds[:S], data)
    for setting in some.settings:
        for seed in some.seeds:
            assert distance(some.member(setting, seed), everyone.member(setting, seed)) < 1e-9


def test_a_population_larger_than_the_cache_has_the_members_of_a_small_one():
    generator = torch.Generator().manual_seed(0)
    features, targets = torch.randn(64, 784, generator=generator), torch.randint(10, (64,), generator=generator)
    data = from_arrays(features, targets, task="classification")
    members = [Setting(dropout=0.3, weight_decay=k / 10) for k in range(20)]
    network = mlp(256, 128, dropout=(0.3, 0.5))
    large, _ = fit(lambda: network(784, 10), members, [0, 1], data, epochs=1, batch_size=24)
    small, _ = fit(lambda: network(784, 10), members[7:8], [1], data, epochs=1, batch_size=24)
    assert distance(large.member(members[7], 1), small.member(members[7], 1)) < 1e-9


def test_a_diverging_member_is_marked_and_leaves_the_others_bit_for_bit_alone(data):
    calm = [Setting(lr=0.01, dropout=0.3), Setting(lr=0.02)]
    wild = Setting(lr=1e200, weight_decay=1e200)
    together, history = fit(MODELS["mlp"], [calm[0], wild, calm[1]], [0, 4], data, optimizer="sgd")
    other = Setting(lr=0.05)
    apart, without = fit(MODELS["mlp"], [calm[0], other, calm[1]], [0, 4], data, optimizer="sgd")
    assert (history.diverged_at[:, 1] == 1).all()
    assert (history.diverged_at[:, [0, 2]] == 0).all()
    assert np.isnan(history.metrics["test_loss"][:, :, 1]).all()
    for setting in calm:
        for seed in (0, 4):
            a, b = together.member(setting, seed).state_dict(), apart.member(setting, seed).state_dict()
            assert all(torch.equal(a[name], b[name]) for name in a)
    np.testing.assert_array_equal(history.metrics["test_loss"][:, :, 0], without.metrics["test_loss"][:, :, 0])


def test_rates_of_zero_are_the_network_without_dropout_so_that_pairs_differ_by_the_setting_alone(data):
    zero, _ = fit(MODELS["mlp"], [Setting(dropout=0.0), Setting(dropout=(0.6, 0.1))], [2], data)
    plain, _ = fit(lambda: mlp(8, 5)(6, 3), [Setting()], [2], data)
    assert distance(zero.member(Setting(dropout=0.0), 2), plain.member(Setting(), 2)) < 1e-12


@pytest.mark.parametrize("name", ["mlp", "own"])
def test_a_population_without_dropout_draws_nothing_for_it(name, data, monkeypatch):
    beside, _ = fit(MODELS[name], [Setting(dropout=0.0), Setting(dropout=0.3)], [0, 2], data)
    monkeypatch.setattr(_rng, "_uniform", None)  # would not be called in vain
    alone, _ = fit(MODELS[name], [Setting(dropout=0.0), Setting(dropout=0.0, lr=0.1)], [0, 2], data)
    assert distance(beside.member(Setting(dropout=0.0), 2), alone.member(Setting(dropout=0.0), 2)) < 1e-12


@pytest.mark.parametrize("schedule", ["late", "early"])
@pytest.mark.parametrize("compiled", [True, False])
def test_dropout_that_is_not_always_on_is_that_of_its_solo_run(schedule, compiled, data):
    late = Setting(dropout=0.4, dropout_schedule=schedule)
    how = {"precision": "float64", "epochs": 4, "batch_size": 8, "lr": 0.01, "optimizer": "adamw"}
    population, _ = fit(MODELS["mlp"], [late], [0, 2], data, epochs=4, compile=compiled)
    for seed in (0, 2):
        assert distance(population.member(late, seed), solo(MODELS["mlp"], late, seed, data, **how).network) < 1e-9


def test_torchs_default_type_does_not_matter(data):
    expected, _ = fit(MODELS["mlp"], SETTINGS, [2], data)
    torch.set_default_dtype(torch.float64)
    try:
        found, _ = fit(MODELS["mlp"], SETTINGS[:2], [2], data)
    finally:
        torch.set_default_dtype(torch.float32)
    assert found.reached.min() == expected.reached.min() == 3


def test_seeds_with_their_own_data_equal_separate_populations(data):
    other = data.with_validation(0.2, seed=1)
    one = data.with_validation(0.2, seed=0)
    both, _ = fit(MODELS["mlp"], SETTINGS, [0, 1], [one, other])
    alone, _ = fit(MODELS["mlp"], SETTINGS, [1], other)
    assert distance(both.member(SETTINGS[0], 1), alone.member(SETTINGS[0], 1)) < 1e-9


def test_recorded_test_metrics_are_those_of_the_member_in_evaluation_mode(data):
    population, history = fit(MODELS["own"], SETTINGS, [0], data)
    outputs = population.member(SETTINGS[0], 0)(data.test.features.double())
    expected = F.cross_entropy(outputs, data.test.targets).item()
    assert history.final("test_loss")[0, 0] == pytest.approx(expected, rel=1e-9)
    accuracy = (outputs.argmax(1) == data.test.targets).double().mean().item()
    assert history.final("test_accuracy")[0, 0] == pytest.approx(accuracy)


def test_a_member_s_layers_drop_at_the_setting_s_rates(data):
    """Whoever trains it further, or samples it, meets the dropout that it was trained with."""

    def rates(network):
        return [module.p for module in network.modules() if isinstance(module, nn.Dropout)]

    settings = [Setting(dropout=0.2), Setting(dropout=(0.1, 0.6)), Setting()]
    population, _ = fit(MODELS["mlp"], settings, [0], data)
    assert [rates(population.member(s, 0)) for s in settings] == [[0.2, 0.2], [0.1, 0.6], [0.3, 0.5]]
    assert rates(solo(MODELS["mlp"], settings[1], 0, data, epochs=1, batch_size=8).network) == [0.1, 0.6]


def test_torchs_global_generator_is_left_as_it_was(data):
    torch.manual_seed(123)
    expected = torch.rand(3)
    torch.manual_seed(123)
    fit(MODELS["mlp"], SETTINGS[:1], [0], data)
    solo(MODELS["mlp"], Setting(), 0, data, epochs=1, batch_size=8)
    assert torch.equal(torch.rand(3), expected)


def test_the_frame_has_a_row_for_each_epoch_seed_and_setting(data):
    _, history = fit(MODELS["mlp"], SETTINGS, [0, 1], data)
    frame = history.frame()
    assert len(frame) == 3 * 2 * 4
    row = frame[(frame.epoch == 2) & (frame.seed == 1) & (frame.setting == 2)].iloc[0]
    assert row.train_loss == history.metrics["train_loss"][1, 1, 2]
    assert row.weight_decay == 1.0


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda d: Population(MODELS["mlp"], [Setting(), Setting()], [0]), "twice"),
        (lambda d: Population(MODELS["mlp"], [Setting()], []), "at least one seed"),
        (lambda d: Population(MODELS["mlp"], [Setting()], [-1]), "seed must be"),
        (lambda d: fit(MODELS["mlp"], [Setting()], [0], [d, d]), "2 data sets for 1 seeds"),
        (lambda d: fit(MODELS["mlp"], [Setting()], [0], d, optimizer="rmsprop"), "optimizer must be"),
        (lambda d: fit(MODELS["mlp"], [Setting()], [0], d, loss="hinge"), "loss must be"),
        (lambda d: fit(MODELS["mlp"], [Setting()], [0], d, epochs=0), "epochs must be"),
        (lambda d: fit(MODELS["mlp"], [Setting(dropout=(0.1,))], [0], d), "names 1 rates"),
        (lambda d: Setting(momentum=0.9), "no knob named 'momentum'"),
        (lambda d: Setting(dropout=1.5), "dropout must be"),
        (lambda d: Setting(weight_decay=float("nan")), "weight_decay must be"),
    ],
)
def test_a_mistake_is_told_in_one_line(call, said, data):
    with pytest.raises(InputError, match=said) as caught:
        call(data)
    assert "\n" not in str(caught.value)


def test_an_untrained_network_is_what_the_seed_draws(data):
    population = Population(MODELS["own"], SETTINGS[:2], seeds=[3, 4])
    population.fit(data, epochs=1)
    torch.manual_seed(4)
    wanted = Residual().state_dict()
    found = population.initial_model(4).state_dict()
    assert all(torch.equal(found[name], t) for name, t in wanted.items())
    with pytest.raises(InputError, match="no member with seed 5"):
        population.initial_model(5)


@pytest.mark.parametrize("without", [torch.no_grad, torch.inference_mode])
def test_it_trains_where_whoever_calls_it_predicts(without):
    data, alone = load("iris"), [Setting(weight_decay=0.1)]
    found = []
    for predicting in (False, True):
        population = Population(mlp(4), alone, [0])
        if predicting:
            with without():
                population.explain(data, epochs=2)
                population.fit(data, epochs=2)
        else:
            population.fit(data, epochs=2)
        found.append(population.member(alone[0], 0).state_dict())
    for name, tensor in found[0].items():
        assert torch.equal(tensor, found[1][name])
