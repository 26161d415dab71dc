"""People's own networks: on the command line, and with dropout inserted."""

import json
import random
import sys
import threading

import numpy as np
import pytest
import torch
from torch import nn

import dampen
from dampen import InputError, Setting, insert_dropout
from dampen.engine import Builder, Population, check_alike, initial_weights_repeat, solo

CODE = """
import torch
from torch import nn
from helpers import WIDTH

print("imported")

def plain(inputs, outputs):
    print("called")
    return nn.Sequential(nn.Linear(inputs, WIDTH), nn.Tanh(), nn.Linear(WIDTH, 6), nn.Tanh(), nn.Linear(6, outputs))

def dropping():
    return nn.Sequential(nn.Linear(13, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))

class Functional(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.a, self.b = nn.Linear(inputs, 8), nn.Linear(8, outputs)
    def forward(self, x):
        return self.b(torch.relu(self.a(x)))

def narrow(inputs): return nn.Linear(inputs + 1, 3)
def fails(inputs): raise RuntimeError("no\\nluck")
def nothing(): return None
def wide(inputs): return nn.Linear(inputs, 4)
def flat(inputs): return nn.Sequential(nn.Linear(inputs, 1), nn.Flatten(0))
def undefined(inputs): return nn.Sequential(nn.Linear(inputs, 3), nn.Softplus(), nn.Threshold(1e9, float("nan")))
def pair(inputs): return nn.LSTM(inputs, 3)
def wants(width): return nn.Linear(width, 3)
number = 5
"""
SMALL = ("--settings", 2, "--seeds", 1, "--epochs", 1, "--confirmed", 1, "--confirm-seeds", 2)

# Shapes are checked by other tests of studies: here that would take most of the time.
pytestmark = pytest.mark.usefixtures("without_shape_checks")


@pytest.fixture
def run(run, tmp_path):
    """Run in a folder that has networks of one's own."""
    (tmp_path / "my_nets.py").write_text(CODE)
    (tmp_path / "helpers.py").write_text("WIDTH = 7\n")

    def call(*words):
        ended = run(*words)
        for name in ("my_nets", "helpers"):
            sys.modules.pop(name, None)
        return ended

    return call


def test_tune_trains_a_network_of_one_s_own(run):
    code, out, err = run("tune", "wine", "--model", "my_nets:dropping", *SMALL, "--json")
    document = json.loads(out)
    assert code == 0
    assert document["plan"]["model"] == "my_nets:dropping"
    assert "dropout" in document["recommended"]
    assert "imported" in err


def test_a_network_without_dropout_is_searched_without_it_and_that_is_said(run):
    code, out, _ = run("tune", "wine", "--model", "my_nets.py:plain", *SMALL)
    assert code == 0
    assert "The network drops no units, so that dropout is not searched; --insert-dropout" in out


def test_inserted_dropout_is_shown_and_searched(run):
    words = ("tune", "wine", "--model", "my_nets:plain", "--insert-dropout", *SMALL, "--json")
    code, out, err = run(*words)
    document = json.loads(out)
    assert code == 0
    assert "Dropout inserted after 1 (Tanh), 3 (Tanh)." in err
    assert "dropout" in document["recommended"]
    assert json.loads(run(*words, "--resume")[1])["recommended"] == document["recommended"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "my_nets"], "name a module and a function"),
        (["--model", "no_nets:make"], "there is no module 'no_nets'"),
        (["--model", "my_nets:make"], "my_nets has no 'make': name a function that makes a network"),
        (["--model", "my_nets:number"], "is not a function but int"),
        (["--model", "my_nets:fails"], "my_nets:fails raises RuntimeError: no luck"),
        (["--model", "my_nets:nothing"], "it returned NoneType"),
        (["--model", "my_nets:wants"], "wants 'width'"),
        (["--model", "my_nets:narrow"], "the network fails on a batch of shape"),
        (
            ["--model", "my_nets:wide"],
            "each of the 3 classes for each row, shape [rows, 3]; for 2 rows it returns shape [2, 4]",
        ),
        (["--model", "my_nets:flat"], "it returns shape [2]"),
        (["--model", "my_nets:undefined"], "not finite before any training"),
        (["--model", "my_nets:pair"], "must return one tensor, it returned tuple"),
        (["--model", "my_nets:plain", "--dropout", "0..0.5"], "drops no units"),
        (["--model", "my_nets:plain", "--hidden", "8"], "give one of them"),
        (["--insert-dropout"], "--insert-dropout is for your own network"),
        (["--model", "my_nets:Functional", "--insert-dropout"], "its activations are called as functions"),
    ],
)
def test_a_mistake_is_one_line(run, words, message):
    code, out, err = run("tune", "wine", *words)
    lines = [line for line in err.splitlines() if line not in ("imported", "called")]
    assert (code, out, len(lines)) == (2, "", 1)
    assert message in lines[0]


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.act, self.out = nn.Linear(4, 4), nn.PReLU(), nn.Sigmoid()
        self.same = self.act
        self.drop = nn.Dropout(0.1)

    def forward(self, x):
        h = self.act(self.linear(x))
        h = self.drop(torch.tanh(self.same(h)))
        return self.out(h)


def test_dropout_follows_each_hidden_activation_once_and_not_the_output():
    model = insert_dropout(Block)
    found = model.inserted((4,), 4)
    assert found.after == (("act", "PReLU"),)
    assert found.missed == ("",)
    assert "not after the activations that are called as functions in the network's own forward" in str(found)
    network = model(4, 4, (4,))
    assert isinstance(network.act[1], nn.Dropout)
    assert network.same is network.act
    assert isinstance(network.out, nn.Sigmoid)
    torch.manual_seed(0)
    network.eval()
    x = torch.randn(5, 4)
    h = network.act[0](network.linear(x))
    torch.testing.assert_close(network(x), torch.sigmoid(torch.tanh(network.act[0](h))))


@pytest.mark.parametrize("between", [[], [nn.Flatten()], [nn.Identity(), nn.Flatten()]])
def test_an_activation_that_dropout_follows_already_gets_no_other(between):
    network = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), *between, nn.Dropout(0.2), nn.Linear(3, 1))
    with pytest.raises(InputError, match="no hidden activation that dropout does not follow already"):
        insert_dropout(network).inserted((3,), 1)


def test_inserted_dropout_leaves_initial_weights_as_they_were():
    def make(inputs, outputs):
        return nn.Sequential(nn.Linear(inputs, 6), nn.ReLU(), nn.Linear(6, outputs))

    data = dampen.load("iris")
    settings = [Setting(dropout=0.0), Setting(dropout=0.5)]
    members = {}
    for name, model in {"plain": make, "inserted": insert_dropout(make)}.items():
        chosen = [Setting()] if name == "plain" else settings
        population = Population(model, chosen, [3])
        population.fit(data, epochs=2, batch_size=16, precision="float64")
        members[name] = population.member(chosen[0], 3)
    for a, b in zip(members["plain"].parameters(), members["inserted"].parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_a_rate_that_is_no_probability_is_refused():
    with pytest.raises(InputError, match="probability"):
        insert_dropout(Block, p=1.5)


def self_seeding(inputs, outputs):
    torch.manual_seed(0)
    return nn.Linear(inputs, outputs)


def kept(inputs, outputs, network=nn.Linear(4, 2)):  # noqa: B008
    return network


def zeros(inputs, outputs):
    network = nn.Linear(inputs, outputs)
    for p in network.parameters():
        nn.init.constant_(p, 0.0)
    return network


def scaled_by_ones(inputs, outputs):
    return nn.Sequential(nn.LayerNorm(inputs), nn.Linear(inputs, outputs))


def loaded_body(inputs, outputs):
    return nn.Sequential(kept(inputs, outputs), nn.Linear(2, outputs))


@pytest.mark.parametrize(
    ("model", "repeats"),
    [
        (self_seeding, True),
        (kept, True),
        (zeros, False),
        (scaled_by_ones, False),
        (loaded_body, False),
        (nn.Linear(4, 2), False),
    ],
)
def test_a_function_that_gives_every_seed_the_same_weights_is_found_out(model, repeats):
    assert initial_weights_repeat(model, 4, 2) is repeats
    assert initial_weights_repeat(model, (4,), 2) is repeats


def test_a_function_that_seeds_itself_leaves_the_global_generator_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    initial_weights_repeat(self_seeding, 4, 2)
    assert torch.equal(torch.rand(3), expected)


class _Drawn(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 2)
        self.make()


class _Tensor(_Drawn):
    def make(self):
        self.B = torch.randn(4)

    def forward(self, x):
        return self.layer(x * self.B)


class _Number(_Drawn):
    def make(self):
        self.scale = float(torch.rand(()))

    def forward(self, x):
        return self.layer(x * self.scale)


class _InTraining(_Drawn):
    def make(self):
        self.mask = [torch.rand(4)]

    def forward(self, x):
        return self.layer(x * self.mask[0] if self.training else x)


class _ListedLayers(_Drawn):
    def make(self):
        self.layers = [nn.Linear(4, 4)]

    def forward(self, x):
        return self.layer(self.layers[0](x))


def _in_a_closure():
    mask = torch.rand(2)
    network = nn.Sequential(nn.Linear(4, 2), nn.Dropout(0.5))
    network[0].register_forward_hook(lambda _, __, outputs: outputs * mask)
    return network


def _of_random_width():
    width = int(torch.randint(2, 50, ()))
    return nn.Sequential(nn.Linear(4, width), nn.Linear(width, 2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            _Tensor,
            r"^B of _Tensor \(the network itself\) is neither parameter nor buffer and .* \(self\.register_buffer\('B'",
        ),
        (_Number, r"^scale of _Number"),
        (_InTraining, r"^mask of _InTraining"),
        (_ListedLayers, r"^layers of _ListedLayers .* put these layers into a nn.ModuleList"),
        (_in_a_closure, r"give different outputs with the same parameters and buffers"),
        (_of_random_width, r"networks of different shapes for different seeds \(0.weight: \["),
    ],
)
def test_what_a_seed_draws_beside_parameters_and_buffers_is_refused(make, message):
    rows = torch.randn(12, 4), torch.arange(12) % 2
    with pytest.raises(InputError, match=message):
        Population(make, [Setting()], [0, 1, 2]).fit(rows, epochs=1, device="cpu")
    with pytest.raises(InputError, match=message):
        dampen.tune(make, dampen.load(rows[0], target=rows[1], normalise=False), n_settings=2, epochs=1)


def test_what_a_seed_draws_as_a_buffer_is_each_member_s_own():
    class Features(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("B", torch.randn(4, 8))
            self.layer = nn.Linear(8, 2)

        def forward(self, x):
            return self.layer(torch.cos(x @ self.B))

    rows = torch.randn(12, 4).double(), torch.arange(12) % 2
    population = Population(Features, [Setting(weight_decay=0.1)], [0, 1, 2])
    population.fit(rows, epochs=3, precision="float64")
    for seed in population.seeds:
        torch.manual_seed(seed)
        assert torch.equal(population.member(Setting(weight_decay=0.1), seed).B, Features().B.double())
        alone = solo(Features, Setting(weight_decay=0.1), seed, rows, epochs=3, precision="float64").network
        torch.testing.assert_close(alone(rows[0]), population.member(Setting(weight_decay=0.1), seed)(rows[0]))


@pytest.mark.parametrize("draw", [random.random, np.random.random])
def test_what_another_thread_draws_is_not_the_network_s_doing(draw):
    class Beside(nn.Module):
        drawn = False

        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 2)

        def forward(self, x):
            if not Beside.drawn:
                Beside.drawn = True
                other = threading.Thread(target=draw)
                other.start()
                other.join()
            return self.layer(x)

    rows = torch.randn(12, 4), torch.arange(12) % 2
    Population(Beside, [Setting()], [0, 1]).fit(rows, epochs=1)  # the tests make NotFusedWarning an error


@pytest.mark.parametrize("draw", [random.random, np.random.random, lambda: float(torch.rand(()))])
def test_what_is_drawn_in_the_forward_pass_is_no_difference_of_the_seeds(draw):
    class Skips(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.second(x if self.training and draw() < 0.5 else torch.relu(self.first(x)))

    for seed in range(20):
        check_alike(Builder(Skips), [torch.randn(8, 4, generator=torch.Generator().manual_seed(seed))], (4,), 2)
