"""The equivalence matrix: every kind of network with every optimizer, fused and alone, the same to rounding."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dampen import NotFusedWarning, Population, Setting, solo, tabular

pytestmark = pytest.mark.usefixtures("without_shape_checks")  # the knobs' tests check them


class FunctionalDropout(nn.Module):
    """Residual blocks that call `F.dropout` themselves."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(12, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = F.dropout(torch.relu(self.first(x)), 0.2, self.training)
        h = h + F.dropout(torch.tanh(self.second(h)), p=0.4, training=self.training)
        return self.last(h)


class TwoInputs(nn.Module):
    """An image and numbers, joined."""

    def __init__(self):
        super().__init__()
        self.image = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2))
        self.numbers, self.head = nn.Linear(4, 6), nn.Linear(3 * 16 + 6, 3)

    def forward(self, image: Tensor, numbers: Tensor) -> Tensor:
        return self.head(torch.cat([self.image(image), torch.relu(self.numbers(numbers))], 1))


class Tokens(nn.Module):
    """Words, attention, a mean over the sentence; the embedding is tied to a projection."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.embedding, self.layer, self.head = nn.Embedding(11, 8), layer, nn.Linear(8, 3)
        self.position = nn.Parameter(torch.randn(5, 8) * 0.1)

    def forward(self, words: Tensor) -> Tensor:
        return self.head(self.layer(self.embedding(words) + self.position).mean(1))


class SelfAttention(nn.Module):
    """Multi-head attention with dropout on its weights."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, dropout=0.3, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.attention(x, x, x, need_weights=False)[0]


class ScaledDotProduct(nn.Module):
    """The functional attention, causal, with dropout."""

    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (t.unflatten(-1, (2, 4)).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
        p = 0.2 if self.training else 0.0
        h = F.scaled_dot_product_attention(q, k, v, dropout_p=p, is_causal=True)
        return x + self.out(h.transpose(1, 2).flatten(2))


class Tied(nn.Module):
    """One weight, used forwards and backwards, as in an autoencoder; with a classifier on the code."""

    def __init__(self):
        super().__init__()
        self.encoder, self.again, self.head = nn.Linear(12, 12), nn.Linear(12, 12), nn.Linear(12, 3)
        self.again.weight = self.encoder.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.again(torch.relu(self.encoder(x)))))


class Frozen(nn.Module):
    """Random features that do not train, and a buffer."""

    def __init__(self):
        super().__init__()
        self.features, self.head = nn.Linear(12, 16).requires_grad_(False), nn.Linear(16, 3)
        self.register_buffer("shift", torch.randn(16))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.dropout(torch.cos(self.features(x) + self.shift), 0.3, self.training))


class OddParameters(nn.Module):
    """A scalar, a transposed and an unused parameter."""

    def __init__(self):
        super().__init__()
        self.temperature = nn.Parameter(torch.tensor(0.5))
        self.weight = nn.Parameter(torch.randn(3, 12).t())
        self.unused = nn.Parameter(torch.randn(4))

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.weight) * self.temperature.exp()


class Recurrent(nn.Module):
    """The last state of a recurrent network over five steps."""

    def __init__(self, kind: type[nn.RNNBase], **options: object):
        super().__init__()
        self.layer, self.head = kind(4, 6, batch_first=True, **options), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x)[0][:, -1])


class Branch(nn.Module):
    """Takes one of two ways by the value of a tensor."""

    def __init__(self):
        super().__init__()
        self.small, self.large = nn.Linear(12, 3), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.small(x) if self.small.weight.norm() < self.large.weight.norm() else self.large(x)


class StochasticDepth(nn.Module):
    """Leaves out a layer at random, by Python's own generator."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(12, 12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        import random

        return self.second(x if self.training and random.random() < 0.4 else torch.relu(self.first(x)))


class OwnNoise(nn.Module):
    """Adds Gaussian noise to rows in another order, drawn by torch."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x + 0.1 * torch.randn_like(x) * x[torch.randperm(len(x))] if self.training else x)


def flat(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(3))


def on_batch(network: nn.Module, *shape: int) -> nn.Module:
    """Give lazy layers their shapes."""
    network.eval()(torch.zeros(2, *shape))
    return network.train()


ROW, SERIES, IMAGE, VOLUME = (12,), (4, 9), (1, 6, 6), (1, 4, 4, 4)
FUSED = {
    "linear": (lambda: nn.Linear(12, 3), ROW),
    "mlp": (lambda: nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Dropout(0.4), nn.Linear(8, 3)), ROW),
    "scaling layer": (lambda: tabular(8, dropout=0.4)(12, 3), ROW),
    "embeddings in waves": (lambda: tabular(8, dropout=0.4, periodic=(0, 3, 11))(12, 3), ROW),
    "no bias": (lambda: nn.Sequential(nn.Linear(12, 8, bias=False), nn.Tanh(), nn.Linear(8, 3, bias=False)), ROW),
    "bilinear": (lambda: nn.Sequential(nn.Unflatten(1, (2, 6)), nn.Linear(6, 4), nn.Flatten(), nn.Linear(8, 3)), ROW),
    "functional dropout": (FunctionalDropout, ROW),
    "alpha dropout": (lambda: nn.Sequential(nn.Linear(12, 9), nn.SELU(), nn.AlphaDropout(0.2), nn.Linear(9, 3)), ROW),
    "feature alpha dropout": (
        lambda: on_batch(flat(nn.Conv1d(4, 3, 3), nn.SELU(), nn.FeatureAlphaDropout(0.2)), *SERIES),
        SERIES,
    ),
    "batchnorm 1d": (
        lambda: nn.Sequential(nn.Linear(12, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)),
        ROW,
    ),
    "batchnorm 2d": (
        lambda: on_batch(flat(nn.Conv2d(1, 3, 3, bias=False), nn.BatchNorm2d(3), nn.ReLU()), *IMAGE),
        IMAGE,
    ),
    "layernorm": (lambda: nn.Sequential(nn.Linear(12, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 3)), ROW),
    "rmsnorm": (lambda: nn.Sequential(nn.Linear(12, 8), nn.RMSNorm(8), nn.SiLU(), nn.Linear(8, 3)), ROW),
    "groupnorm": (lambda: on_batch(flat(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.ReLU()), *IMAGE), IMAGE),
    "instancenorm": (
        lambda: on_batch(flat(nn.Conv1d(4, 4, 3, bias=False), nn.InstanceNorm1d(4, affine=True)), *SERIES),
        SERIES,
    ),
    "conv 1d": (lambda: on_batch(flat(nn.Conv1d(4, 5, 3, stride=2), nn.ReLU(), nn.Dropout1d(0.3)), *SERIES), SERIES),
    "conv 2d": (
        lambda: on_batch(
            flat(nn.Conv2d(1, 4, 3, padding="same"), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout2d(0.3)), *IMAGE
        ),
        IMAGE,
    ),
    "conv 3d": (lambda: on_batch(flat(nn.Conv3d(1, 3, 2), nn.ReLU(), nn.Dropout3d(0.3)), *VOLUME), VOLUME),
    "grouped conv": (
        lambda: on_batch(flat(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 8, 2, groups=2, dilation=2, bias=False)), *IMAGE),
        IMAGE,
    ),
    "transposed conv": (
        lambda: on_batch(flat(nn.ConvTranspose2d(1, 4, 3, stride=2, output_padding=1), nn.AvgPool2d(2)), *IMAGE),
        IMAGE,
    ),
    "transposed conv 1d": (lambda: on_batch(flat(nn.ConvTranspose1d(4, 2, 3, padding=1)), *SERIES), SERIES),
    "adaptive pooling": (lambda: on_batch(flat(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(2)), *IMAGE), IMAGE),
    "circular padding": (
        lambda: on_batch(flat(nn.Conv1d(4, 3, 3, padding=1, padding_mode="circular")), *SERIES),
        SERIES,
    ),
    "two inputs": (TwoInputs, None),
    "embedding": (lambda: Tokens(nn.Identity()), "words"),
    "attention": (lambda: Tokens(SelfAttention()), "words"),
    "scaled dot product": (lambda: Tokens(ScaledDotProduct()), "words"),
    "transformer layer": (lambda: Tokens(nn.TransformerEncoderLayer(8, 2, 16, 0.2, batch_first=True)), "words"),
    "transformer layer, norm first": (
        lambda: Tokens(nn.TransformerEncoderLayer(8, 2, 16, 0.2, "gelu", batch_first=True, norm_first=True)),
        "words",
    ),
    "weight tying": (Tied, ROW),
    "frozen": (Frozen, ROW),
    "odd parameters": (OddParameters, ROW),
    "prelu": (lambda: nn.Sequential(nn.Linear(12, 8), nn.PReLU(), nn.Linear(8, 3)), ROW),
    "weight norm": (
        lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(12, 8)), nn.ReLU(), nn.Linear(8, 3)),
        ROW,
    ),
}
ONE_BY_ONE = {
    "lstm with dropout": (lambda: Recurrent(nn.LSTM, num_layers=2, dropout=0.3), (5, 4), "LSTM (layer)"),
    "branch": (Branch, ROW, "depends on the values of a tensor"),
    "stochastic depth": (StochasticDepth, ROW, "Python's own random generator"),
    "own noise": (OwnNoise, ROW, "random"),
}
SETTINGS = [
    Setting(weight_decay=0.1, dropout=0.2, lr=0.03),
    Setting(dropout=0.6),
    Setting(weight_decay=1.0),
]
OPTIMIZERS = ["sgd", "adam", "adamw"]
SEEDS = [3, 9]


def each_with_an_optimizer(names, slow=()):
    """Pair every network with one of the optimizers in turn; the other pairs take minutes and are slow."""
    return [
        pytest.param(name, optimizer, marks=[] if i % 3 == j and name not in slow else pytest.mark.slow)
        for i, name in enumerate(names)
        for j, optimizer in enumerate(OPTIMIZERS)
    ]


def rows_of(shape, n=37):
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(3, (n,), generator=generator)
    if shape == "words":
        return torch.randint(11, (n, 5), generator=generator), targets
    if shape is None:
        return torch.randn(n, *IMAGE, generator=generator), torch.randn(n, 4, generator=generator), targets
    return torch.randn(n, *shape, generator=generator), targets


def distance(network, other):
    """Distance of all of a network's tensors from another's, relative to their norm.

    Not tensor by tensor: where a gradient is 0 but for rounding (a key's bias in attention), Adam enlarges that.
    """
    mine, theirs = (torch.cat([t.double().flatten() for t in n.state_dict().values()]) for n in (network, other))
    return ((mine - theirs).norm() / theirs.norm()).item()


def compare(model, data, optimizer, settings=SETTINGS):
    """Train six members for fifteen steps, and three of them alone; return the largest distance."""
    options = {"epochs": 3, "batch_size": 8, "lr": 0.01, "optimizer": optimizer, "precision": "float64"}
    population = Population(model, settings, SEEDS)
    history = population.fit(data, **options)
    largest = 0.0
    for m, setting in enumerate(settings):
        s = m % len(SEEDS)
        alone = solo(model, setting, SEEDS[s], data, **options)
        largest = max(largest, distance(population.member(setting, SEEDS[s]), alone.network))
        np.testing.assert_allclose(history.metrics["train_loss"][:, s, m], alone.train_loss, rtol=1e-9)
    return largest


@pytest.mark.parametrize(("name", "optimizer"), each_with_an_optimizer(FUSED))
def test_a_fused_member_equals_its_solo_run(name, optimizer):
    model, shape = FUSED[name]
    assert compare(model, rows_of(shape), optimizer) < 1e-9


@pytest.mark.parametrize(("name", "optimizer"), each_with_an_optimizer(ONE_BY_ONE))
def test_what_cannot_be_fused_says_so_and_equals_its_solo_run(name, optimizer):
    model, shape, said = ONE_BY_ONE[name]
    with pytest.warns(NotFusedWarning) as warned:
        assert compare(model, rows_of(shape), optimizer) < 1e-9
    (message,) = [str(warning.message) for warning in warned if warning.category is NotFusedWarning]
    assert said in message
    assert "\n" not in message
