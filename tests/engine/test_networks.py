"""Networks as people write them train as one, and as an ordinary loop written by hand trains them."""

import os
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks import architectures
from dampen import InputError, NotFusedWarning, Population, Setting, solo
from dampen.engine import _rng

pytestmark = pytest.mark.usefixtures("without_shape_checks")

N, BATCH, EPOCHS = 16, 8, 2
OPTIONS: dict[str, Any] = {
    "epochs": EPOCHS,
    "batch_size": BATCH,
    "optimizer": "adamw",
    "lr": 0.01,
    "decay_filter": "all",
    "precision": "float64",
}


def words(n_words: int = 13, length: int = 6, padded: Callable[[int], bool] = lambda _row: False) -> Tensor:
    ids = torch.randint(1, n_words, (N, length), generator=torch.Generator().manual_seed(1))
    for row in range(N):
        if padded(row):
            ids[row, 3:] = 0
    return ids


def numbers(*shape: int) -> Tensor:
    return torch.randn(N, *shape, generator=torch.Generator().manual_seed(2))


def classes(n: int = 3) -> Tensor:
    return torch.randint(n, (N,), generator=torch.Generator().manual_seed(3))


class InPlace(nn.Module):
    """Changes tensors in place in every way: by functions, methods, operators and items, and a buffer of its own."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 3)
        self.register_buffer("passes", torch.zeros(()))
        self.dropout = nn.Dropout(0.2, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        h = self.first(x)
        F.relu_(h)
        h = 2 * h
        self.dropout(h)
        h.add_(x.mean()).sub_(1)
        total = x.new_zeros(len(x), 6)
        total += h
        total[:, 0] = h[:, 1]
        total[:, 1:3].add_(h[:, :1])
        total.index_add_(1, torch.tensor([0, 0, 1], device=x.device), h[:, :3])
        return F.leaky_relu(self.second(total), 0.1, inplace=True)


NETWORKS = {
    "fastai's tabular network": (
        lambda: architectures.TabularModel([(13, 4)] * 2, 5, 3, [8, 6]),
        (words(length=2), numbers(5)),
    ),
    "in place": (InPlace, (numbers(4),)),
    "TabM": (lambda: architectures.TabM(4, [13, 13], 3, 8, 2), (numbers(4), words(length=2))),
    "FT-Transformer": (lambda: architectures.FTTransformer(4, 3, 8, 1, 2), (numbers(4),)),
    "graph network": (lambda: architectures.GraphNetwork(5, 3, 3, 6, 2), (numbers(5, 3),)),
    "nanoGPT": (lambda: architectures.NanoGPT(13, 6, 8, 1, 2), (words(),)),
    "ViT": (lambda: architectures.VisionTransformer(8, 4, 3, 8, 2, 2), (numbers(3, 8, 8),)),
    "LSTM": (lambda: architectures.Recurrent(13, 3, nn.LSTM, 5), (words(),)),
    "LSTM both ways": (
        lambda: architectures.Recurrent(13, 3, nn.LSTM, 5, bidirectional=True, num_layers=2, bias=False),
        (words(length=3),),
    ),
    "GRU": (lambda: architectures.Recurrent(13, 3, nn.GRU, 5, bidirectional=True), (words(length=3),)),
    "RNN": (lambda: architectures.Recurrent(13, 3, nn.RNN, 5, num_layers=2, nonlinearity="relu"), (words(length=3),)),
    "ResNet": (lambda: architectures.ResNet18(3, 2, 1, 2), (numbers(3, 8, 8),)),
    "U-Net": (lambda: architectures.UNet(3, 2), (numbers(3, 8, 8),)),
}


def by_hand(network, setting, seed, inputs, targets):
    """Train as a training script does, with nothing dropped: AdamW, the rows in the seed's order."""
    network = network.double().train()
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif hasattr(module, "dropout") and isinstance(module.dropout, float):
            module.dropout = 0.0
    lr, decay = setting.get("lr", OPTIONS["lr"]), setting["weight_decay"]
    optimizer = torch.optim.AdamW(network.parameters(), lr, weight_decay=decay)
    for epoch in range(1, EPOCHS + 1):
        for rows in _rng.batch_order(N, seed, epoch).split(BATCH):
            loss = F.cross_entropy(network(*(t[rows] for t in inputs)), targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network.eval()


def in_double(inputs):
    return tuple(t.double() if t.is_floating_point() else t for t in inputs)


def distance(network, other):
    mine, theirs = (torch.cat([t.double().flatten() for t in n.state_dict().values()]) for n in (network, other))
    return ((mine - theirs).norm() / theirs.norm()).item()


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_as_people_write_it_trains_as_one_and_as_an_ordinary_loop_trains_it(name):
    model, inputs = NETWORKS[name]
    inputs, targets = in_double(inputs), classes()
    plain = [Setting(weight_decay=0.1, dropout=0.0), Setting(weight_decay=0.0, dropout=0.0, lr=0.003)]
    population = Population(model, [*plain, Setting(weight_decay=0.1)], [0, 1])
    with warnings.catch_warnings():
        warnings.simplefilter("error", NotFusedWarning)
        population.fit((*inputs, targets), **OPTIONS)
    for seed, setting in enumerate(plain):
        trained = by_hand(population.initial_model(seed), setting, seed, inputs, targets)
        assert distance(population.member(setting, seed), trained) < 1e-9
    alone = solo(model, Setting(weight_decay=0.1), 1, (*inputs, targets), **OPTIONS)
    assert distance(population.member(Setting(weight_decay=0.1), 1), alone.network) < 1e-9


@pytest.mark.parametrize(
    "name",
    ["fastai's tabular network", "in place", "FT-Transformer", "graph network", "nanoGPT", "LSTM", "GRU"]
    + [pytest.param(name, marks=pytest.mark.slow) for name in ("LSTM both ways", "RNN")],
)
def test_a_network_as_people_write_it_trains_compiled_as_an_ordinary_loop_trains_it(name, c_compiler):
    model, inputs = NETWORKS[name]
    inputs, targets = in_double(inputs), classes()
    plain = [Setting(weight_decay=0.1, dropout=0.0), Setting(weight_decay=0.0, dropout=0.0, lr=0.003)]
    compiled, recorded = (Population(model, [*plain, Setting(weight_decay=0.1)], [0, 1]) for _ in range(2))
    compiled.fit((*inputs, targets), **OPTIONS, compile=True)
    assert compiled.explain().compiled == "yes, a member on each core"
    for seed, setting in enumerate(plain):
        trained = by_hand(compiled.initial_model(seed), setting, seed, inputs, targets)
        assert distance(compiled.member(setting, seed), trained) < 1e-9
    recorded.fit((*inputs, targets), **OPTIONS, compile=False)  # with what the network drops
    for name, t in recorded.state().items():
        torch.testing.assert_close(compiled.state()[name], t, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("kind", [architectures.BERT, architectures.GPT2])
def test_a_network_that_reads_its_batch_trains_as_one_whatever_the_batches_hold(kind, compile, request):
    """Rows of some batches are padded, of others not; in some batches those of one seed only."""
    if compile:
        request.getfixturevalue("c_compiler")

    def model():
        return kind(13, 6, 3, 8, 1, 2)

    inputs, targets = (words(padded=lambda row: row in (0, 7)),), classes()
    population = Population(model, [Setting(weight_decay=0.1, dropout=0.0), Setting(weight_decay=0.1)], [0, 1, 2])
    with warnings.catch_warnings():
        warnings.simplefilter("error", NotFusedWarning)
        population.fit((*inputs, targets), **OPTIONS, compile=compile)
    assert (population.explain().compiled == "yes, a member on each core") is compile
    setting = population.settings[0]
    for seed in (0, 2):
        trained = by_hand(population.initial_model(seed), setting, seed, inputs, targets)
        assert distance(population.member(setting, seed), trained) < 1e-9
    outputs = population.outputs((*inputs, targets))
    assert torch.allclose(torch.as_tensor(outputs[2][0]), trained(*inputs), rtol=1e-9, atol=1e-9)


def test_a_network_that_reads_what_its_members_make_is_not_fused():
    class Gate(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.gate = nn.Linear(4, 3), nn.Linear(4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x) if self.gate(x).mean() > 0 else 2 * self.layer(x)

    population = Population(Gate, [Setting()], [0, 1])
    with pytest.warns(NotFusedWarning, match="depends on the values of a tensor"):
        population.fit((numbers(4), classes()), epochs=1, batch_size=BATCH)


def test_a_class_without_a_place_in_a_one_hot_code_is_one_line():
    class OneHot(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(12, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(F.one_hot(x[:, 0], 12).to(self.layer.weight.dtype))

    ids = words(12, 1)
    ids[11] = 12
    for compile in (False, True):
        population = Population(OneHot, [Setting()], [0, 1])
        options = {"epochs": 2, "batch_size": BATCH, "device": "cpu", "compile": compile}  # a GPU ends the process
        with pytest.raises(InputError, match=r"the network fails on a batch of shape \[8, 1\]: Class values"):
            population.fit((ids, classes()), **options)


def test_convolutions_with_large_maps_train_one_after_the_other_on_a_cpu_and_explain_says_why():
    def model():
        return nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 1024, 3))

    images = torch.randn(8, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    settings = [Setting(weight_decay=0.1), Setting()]
    for rows, large in (images, True), (images[:1], False):
        population = Population(model, settings, [0])
        with warnings.catch_warnings():
            warnings.simplefilter("error", NotFusedWarning)
            population.fit((rows, classes()[: len(rows)]), device="cpu", **OPTIONS)
        explained = population.explain()
        assert explained.reason is None
        assert (explained.choice is not None) == large
        assert ("fusing does not pay here: on a CPU convolutions" in str(explained)) == large
        assert {layer.how == "one by one" for layer in explained.layers} == {large}


class OwnNumbers(nn.Module):
    """Draws by each function that can."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 3)
        self.register_buffer("noise", torch.zeros(6))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(x))
        if self.training:
            self.noise.uniform_(-1, 1)
            keep = torch.rand(len(x), 1, dtype=x.dtype, device=x.device) < 0.8
            h = h * keep + 0.1 * torch.randn_like(h) + 0.1 * self.noise
            h = h * torch.bernoulli(torch.full_like(h, 0.7)) + torch.empty_like(h).normal_(std=0.1)
            h = h + F.gumbel_softmax(h) * h.new_empty(len(x), 1).bernoulli_(0.5).div_(0.5)
        return self.second(h)


def test_numbers_that_a_network_draws_are_its_seeds_alone_and_its_members_train_as_one():
    settings = [Setting(weight_decay=0.1), Setting(), Setting(lr=0.003)]
    rows = (numbers(4), classes())
    population = Population(OwnNumbers, settings, [0, 1])
    with warnings.catch_warnings():
        warnings.simplefilter("error", NotFusedWarning)
        population.fit(rows, **OPTIONS)
    for seed, setting in enumerate(settings[:2]):
        alone = solo(OwnNumbers, setting, seed, rows, **OPTIONS)
        assert distance(population.member(setting, seed), alone.network) < 1e-9
    state = population.state()["noise"]
    assert (state[0, 0] == state[0, 1]).all()
    assert (state[0, 0] != state[1, 0]).all()


def test_drop_path_by_numbers_of_its_own_is_what_a_hand_written_loop_makes_of_the_seeds_numbers(monkeypatch):
    def model():
        return architectures.VisionTransformer(8, 4, 3, 8, 2, 2, drop_path=0.5)

    inputs, targets = in_double((numbers(3, 8, 8),)), classes()
    setting = Setting(weight_decay=0.1, dropout=0.0)
    population = Population(model, [setting, Setting(weight_decay=0.1)], [0, 1])
    with warnings.catch_warnings():
        warnings.simplefilter("error", NotFusedWarning)
        population.fit((*inputs, targets), **OPTIONS)
    start = population.initial_model(1)
    called = 0

    def drop_path(module, x):
        nonlocal called
        if module.p == 0:
            return x
        step, number = divmod(called, 2)  # two branches in the one block with a rate
        called += 1
        draws = _rng.StepDraws([1], step, f"own/{number}", os.environ.get("DAMPEN_TEST_DEVICE", "cpu"))
        uniforms = draws.uniform(len(x), 1, 1)[0].to(x.device)
        return x * (uniforms < 1 - module.p) / (1 - module.p)

    monkeypatch.setattr(architectures.DropPath, "forward", drop_path)
    trained = by_hand(start, setting, 1, inputs, targets)
    assert called == 2 * EPOCHS * N // BATCH
    assert distance(population.member(setting, 1), trained) < 1e-9
