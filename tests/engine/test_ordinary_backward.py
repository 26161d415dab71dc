"""Whatever a network does in its backward pass, members train as a hand-written loop trains it, or are refused."""

import contextlib
import hashlib
import os
import struct
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from dampen import InputError, NotFusedWarning, Population, Setting, solo

# Shapes are checked by other tests of the engine: here that would take most of the time.
pytestmark = pytest.mark.usefixtures("without_shape_checks")

N, EPOCHS, BATCH = 24, 2, 8
SETTINGS, SEEDS = [Setting(weight_decay=0.1), Setting(weight_decay=1.0)], [3, 8]
OPTIONS = {"epochs": EPOCHS, "batch_size": BATCH, "lr": 0.02, "precision": "float64"}


@pytest.fixture(scope="module")
def rows():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(N, 6, generator=generator, dtype=torch.float64)
    return x, torch.randint(3, (N,), generator=generator)


def order(seed, epoch):
    digest = hashlib.blake2b(struct.pack("<3q", seed, epoch, 0), digest_size=8).digest()
    return torch.randperm(N, generator=torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1))


def by_hand(make, setting, seed, rows):
    """Train as a script does: an ordinary forward pass, `loss.backward()`, AdamW; biases don't decay."""
    x, y = rows
    torch.manual_seed(seed)
    network = make().double().train()
    decayed = [p for name, p in network.named_parameters() if p.ndim >= 2]
    others = [p for name, p in network.named_parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": setting["weight_decay"]}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.02)
    for epoch in range(EPOCHS):
        for batch in order(seed, epoch + 1).split(BATCH):
            optimizer.zero_grad()
            F.cross_entropy(network(x[batch]), y[batch]).backward()
            for p in network.parameters():
                p.grad = torch.zeros_like(p) if p.grad is None else p.grad.to_dense()
            optimizer.step()
    return network


def distance(network, other):
    a, b = (torch.cat([p.detach().flatten() for p in one.parameters()]) for one in (network, other))
    return ((a - b).norm() / b.norm()).item()


def matrices(_name, p):
    return p.ndim >= 2


def hidden(p=0.0):
    return nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Dropout(p), nn.Linear(8, 8), nn.Tanh())


class Blocks(nn.Module):
    """Two hidden blocks, run as `run` runs them."""

    def __init__(self, run, p=0.0):
        super().__init__()
        self.first, self.a, self.b, self.last = nn.Linear(6, 8), hidden(p), hidden(p), nn.Linear(8, 3)
        self.run = run

    def forward(self, x):
        return self.last(self.run(self.b, self.run(self.a, self.first(x))))


class Recomputed(torch.autograd.Function):
    """Keeps nothing of a block but its input; `careful` sets torch's generator back before it runs the block again."""

    @staticmethod
    def forward(ctx, h, block, careful, *parameters):
        ctx.save_for_backward(h)
        ctx.block, ctx.careful, ctx.state = block, careful, torch.get_rng_state()
        return block(h)

    @staticmethod
    def backward(ctx, gradient):
        h = ctx.saved_tensors[0].detach().requires_grad_()
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            if ctx.careful:
                torch.set_rng_state(ctx.state)
            out = ctx.block(h)
        found = torch.autograd.grad(out, [h, *ctx.block.parameters()], gradient)
        return found[0], None, None, *found[1:]


def plain(block, h):
    return block(h)


def sequential(reentrant):
    return lambda block, h: checkpoint_sequential(block, 2, h, use_reentrant=reentrant)


def nested(block, h):
    return checkpoint(lambda g: checkpoint(block, g, use_reentrant=True), h, use_reentrant=True)


RECOMPUTED = {
    "not reentrant": lambda block, h: checkpoint(block, h, use_reentrant=False),
    "reentrant": lambda block, h: checkpoint(block, h, use_reentrant=True),
    "nested": nested,
    "sequential": sequential(False),
    "sequential, reentrant": sequential(True),
    "function": lambda block, h: Recomputed.apply(h, block, True, *block.parameters()),
}


def train(make, rows, setting=SETTINGS[0], seed=3, **options):
    """Train one member in a population of four, and alone."""
    population = Population(make, SETTINGS if setting in SETTINGS else [setting], SEEDS)
    population.fit(rows, **OPTIONS | options)
    return population.member(setting, seed), solo(make, setting, seed, rows, **OPTIONS | options).network


@pytest.mark.parametrize("name", RECOMPUTED)
def test_a_block_that_runs_again_in_the_backward_pass_trains_as_by_hand(name, rows):
    with pytest.warns(NotFusedWarning, match=r"\(b.*\) can't be fused: it runs again in the backward pass") as told:
        together, alone = train(lambda: Blocks(RECOMPUTED[name]), rows, decay_filter=matrices)
    assert len(told) == 1
    expected = by_hand(lambda: Blocks(RECOMPUTED[name]), SETTINGS[0], 3, rows)
    assert distance(together, expected) < 1e-12
    assert distance(alone, expected) < 1e-12


@pytest.mark.parametrize("name", RECOMPUTED)
def test_a_block_that_runs_again_drops_the_same_units_again(name, rows):
    setting = Setting(drop_path=0.5, dropout=0.2)

    def residual(run):
        return lambda block, h: h + run(block, h)

    with pytest.warns(NotFusedWarning, match="runs again"):
        together, alone = train(lambda: Blocks(residual(RECOMPUTED[name]), 0.3), rows, setting)
    expected = solo(lambda: Blocks(residual(plain), 0.3), setting, 3, rows, **OPTIONS).network
    assert distance(together, expected) < 1e-12
    assert distance(alone, expected) < 1e-12


CARELESS = {
    "checkpoint": lambda block, h: checkpoint(block, h, use_reentrant=False, preserve_rng_state=False),
    "function": lambda block, h: Recomputed.apply(h, block, False, *block.parameters()),
}


@pytest.mark.parametrize("name", CARELESS)
def test_a_block_that_would_drop_other_units_is_refused_by_name(name, rows):
    def make():
        return Blocks(CARELESS[name], 0.3)

    for call in (
        lambda: Population(make, SETTINGS, SEEDS).fit(rows, **OPTIONS),
        lambda: solo(make, SETTINGS[0], 3, rows, **OPTIONS),
    ):
        with pytest.raises(InputError, match=r"\(b.*\) runs again in the backward pass with other random numbers"):
            call()


def test_a_backward_pass_that_fails_is_one_line(rows):
    class Fails(torch.autograd.Function):
        @staticmethod
        def forward(ctx, h):
            return h.clone()

        @staticmethod
        def backward(ctx, gradient):
            raise RuntimeError("no\nluck")

    with pytest.raises(InputError, match=r"the backward pass of Blocks .* fails: no$"):
        Population(lambda: Blocks(lambda block, h: Fails.apply(block(h))), SETTINGS, SEEDS).fit(rows, **OPTIONS)


def layers():
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


def masked():
    network = layers()
    mask = (torch.arange(8) > 2).double().unsqueeze(1)
    network[0].weight.register_hook(lambda g: g * mask.to(g))
    return network


def halved():
    network = layers()

    def halve(p):
        p.grad.mul_(0.5)

    network[2].weight.register_post_accumulate_grad_hook(halve)
    return network


def doubled():
    network = layers()
    network[1].register_full_backward_hook(lambda _module, given, _gradients: (2 * given[0],))
    return network


def doubled_before():
    network = layers()
    network[1].register_full_backward_pre_hook(lambda _module, gradients: (2 * gradients[0],))
    return network


def changed_output():
    network = layers()
    network[1].register_forward_hook(lambda _module, _inputs, output: 2 * output)
    return network


class HookInForward(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x):
        h = torch.tanh(self.a(x))
        if h.requires_grad:
            h.register_hook(lambda g: 3 * g)
        return self.b(h)


class Embedded(nn.Module):
    """Words, whose gradient is sparse."""

    def __init__(self, **options):
        super().__init__()
        self.words, self.last = nn.Embedding(20, 4, **options), nn.Linear(24, 3)

    def forward(self, x):
        return self.last(self.words((5 * x.abs()).long().clamp(max=19)).flatten(1))


class Bagged(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.last = nn.EmbeddingBag(20, 4, mode="sum", sparse=True), nn.Linear(4, 3)

    def forward(self, x):
        return self.last(self.words((5 * x.abs()).long().clamp(max=19)))


class Clamped(nn.Module):
    """Puts a new tensor in the place of a parameter's data while it runs."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x):
        self.a.weight.data = self.a.weight.data.clamp(-0.2, 0.2)
        return self.b(torch.tanh(self.a(x)))


class Keeps(nn.Module):
    """Keeps what it computed, which it has done once before it trains."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 3)
        self.kept = []
        self(torch.ones(2, 6))

    def forward(self, x):
        self.hidden = torch.tanh(self.a(x))
        self.kept = [{"hidden": self.hidden}]
        return self.b(self.hidden)


class InnerGradient(nn.Module):
    """Asks for a gradient in its own forward pass."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x):
        with torch.enable_grad():
            z = x.detach().requires_grad_()
            (g,) = torch.autograd.grad(torch.tanh(self.a(z)).square().sum(), z, create_graph=True)
        return self.b(torch.tanh(self.a(x + g)))


class SharedView(nn.Module):
    """One weight, used as it is and transposed, by way of an attribute."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 3)
        self.again = [self.a.weight]

    def forward(self, x):
        return self.b(torch.tanh(F.linear(torch.tanh(self.a(x)), self.again[0].t())))


class Compiled(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = torch.compile(layers())

    def forward(self, x):
        return self.net(x)


def normalised(how):
    return lambda: nn.Sequential(how(nn.Linear(6, 8)), nn.Tanh(), nn.Linear(8, 3))


EQUAL = {
    "a parameter's hook": (masked, r"Linear \(0\) can't be fused: its parameter weight has a hook"),
    "a hook after accumulation": (halved, r"Linear \(2\) can't be fused: its parameter weight has a hook"),
    "a module's backward hook": (doubled, r"Tanh \(1\) can't be fused: it has a hook on its gradients"),
    "a module's hook before": (doubled_before, r"Tanh \(1\) can't be fused: it has a hook on its gradients"),
    "a forward hook": (changed_output, None),
    "a hook made in forward": (HookInForward, r"\(a\) can't be fused: what it computes differs"),
    "old weight norm": (normalised(nn.utils.weight_norm), None),
    "old spectral norm": (normalised(nn.utils.spectral_norm), "torch has no batching rule"),
    "spectral norm": (normalised(nn.utils.parametrizations.spectral_norm), "torch has no batching rule"),
    "orthogonal": (normalised(nn.utils.parametrizations.orthogonal), None),
    "sparse embedding": (lambda: Embedded(sparse=True), None),
    "padded embedding": (lambda: Embedded(padding_idx=1), None),
    "sparse bag": (Bagged, None),
    "embedding of bounded norm": (lambda: Embedded(max_norm=0.5), "leave max_norm out"),
    "data replaced": (Clamped, r"uses .data of a tensor"),
    "a non-leaf kept": (Keeps, None),
    "a gradient inside": (InnerGradient, "requires_grad_"),
    "a shared weight by attribute": (SharedView, "can't be fused"),
}


@pytest.mark.parametrize("name", EQUAL)
@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
def test_a_member_trains_as_by_hand(name, rows):
    make, told = EQUAL[name]
    expected = [by_hand(make, setting, seed, rows) for setting, seed in zip(SETTINGS, SEEDS, strict=True)]
    with pytest.warns(NotFusedWarning, match=told) if told else contextlib.nullcontext():
        population = Population(make, SETTINGS, SEEDS)
        population.fit(rows, decay_filter=matrices, **OPTIONS)
    # CUDA's own kernel of the old weight norm is right to 6e-8 in float64, without any of ours.
    within = 1e-7 if name == "old weight norm" and os.environ.get("DAMPEN_TEST_DEVICE") else 1e-12
    for network, setting, seed in zip(expected, SETTINGS, SEEDS, strict=True):
        assert distance(population.member(setting, seed), network) < within
    alone = solo(make, SETTINGS[0], SEEDS[0], rows, decay_filter=matrices, **OPTIONS)
    assert distance(alone.network, expected[0]) < within


def test_a_masked_row_stays_where_it_was(rows):
    population = Population(masked, [Setting()], [4])
    with pytest.warns(NotFusedWarning):
        population.fit(rows, **OPTIONS)
    before, after = population.initial_model(4)[0].weight, population.member(Setting(), 4)[0].weight
    torch.testing.assert_close(after[:3], before[:3].double(), rtol=0, atol=0)
    assert (after[3:] - before[3:]).abs().amax(1).min() > 1e-3


class Carries(nn.Module):
    """Its hidden state goes on from batch to batch, in `how`: a list, an attribute or a buffer."""

    def __init__(self, how):
        super().__init__()
        self.a, self.b, self.how = nn.Linear(6, 8), nn.Linear(8, 3), how
        if how == "buffer":
            self.register_buffer("state", torch.zeros(()))
        else:
            self.state = {"attribute": None, "list": [], "count": 0}[how]

    def forward(self, x):
        h = torch.tanh(self.a(x))
        if self.how == "attribute":
            h = h if self.state is None else h + 0.5 * self.state
            self.state = h.mean(0).detach() if self.training else self.state
        elif self.how == "list":
            h = h + 0.1 * len(self.state)
            self.state.append(None)
        elif self.how == "count":
            self.state += self.training
            h = h if self.state < 1000 else 2 * h  # much later
        else:
            self.state += self.training
            h = h / self.state.clamp_min(1)
        return self.b(h)


@pytest.mark.parametrize("how", ["attribute", "list", "count"])
def test_what_is_kept_from_batch_to_batch_is_refused_by_name(how, rows):
    for call in (
        lambda: Population(lambda: Carries(how), SETTINGS, SEEDS).fit(rows, **OPTIONS),
        lambda: solo(lambda: Carries(how), SETTINGS[0], 3, rows, **OPTIONS),
    ):
        with pytest.raises(InputError, match=r"keeps 'state' .* from one batch to the next.*make it a buffer"):
            call()


def test_the_same_in_a_buffer_is_each_member_s_own(rows):
    population = Population(lambda: Carries("buffer"), SETTINGS, SEEDS)
    population.fit(rows, decay_filter=matrices, **OPTIONS)
    expected = by_hand(lambda: Carries("buffer"), SETTINGS[1], 8, rows)
    assert distance(population.member(SETTINGS[1], 8), expected) < 1e-12


def test_a_parameter_that_the_loss_does_not_reach_is_named(rows):
    class Unused(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.spare = nn.Linear(6, 3), nn.Linear(4, 4)

        def forward(self, x):
            return self.a(x)

    explained = Population(Unused, SETTINGS, SEEDS).explain(rows)
    assert explained.unreached == ("spare.weight", "spare.bias")
    assert "the loss does not depend on spare.weight, spare.bias" in str(explained)
    assert Population(layers, SETTINGS, SEEDS).explain(rows).unreached == ()


class Complex(nn.Module):
    def __init__(self, buffer):
        super().__init__()
        self.a = nn.Linear(6, 3)
        weight = torch.ones(3, dtype=torch.complex64)
        self.register_buffer("turn", weight) if buffer else self.register_parameter("turn", nn.Parameter(weight))

    def forward(self, x):
        return (self.a(x) * self.turn).abs()


class Pairs(nn.Module):
    """What the message proposes."""

    def __init__(self):
        super().__init__()
        self.a, self.turn = nn.Linear(6, 3), nn.Parameter(torch.ones(3, 2))

    def forward(self, x):
        return (self.a(x) * torch.view_as_complex(self.turn)).real


def with_hook():
    network = layers()
    network[0].weight.register_hook(torch.zeros_like)
    return network


def once_run():
    network = Keeps()
    network(torch.ones(3, 6))
    return network


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*jit.* is deprecated")
@pytest.mark.parametrize(
    ("model", "said"),
    [
        (lambda: lambda: Complex(False), "tensor turn is complex .complex64."),
        (lambda: lambda: Complex(True), "tensor turn is complex .complex64."),
        (with_hook, "0.weight has a hook on its gradient.*give a function"),
        (normalised(nn.utils.spectral_norm), r"Linear \(0\) does not draw weight_orig again.*give a function"),
        (normalised(nn.utils.weight_norm), r"Linear \(0\) does not draw weight_g again.*give a function"),
        (normalised(nn.utils.parametrizations.weight_norm), "give a function"),
        (lambda: torch.jit.script(layers()), r"Sequential \(the network itself\) is a torch.jit script"),
        (lambda: lambda: nn.Sequential(torch.jit.script(layers())), r"Sequential \(0\) is a torch.jit script"),
    ],
)
def test_what_members_can_t_have_is_refused_in_one_line(model, said, rows):
    with pytest.raises(InputError, match=said) as caught:
        Population(model(), SETTINGS, SEEDS).fit(rows, **OPTIONS)
    assert "\n" not in str(caught.value)


def test_real_pairs_stand_for_complex_parameters(rows):
    population = Population(Pairs, SETTINGS, SEEDS)
    population.fit(rows, decay_filter=matrices, **OPTIONS)
    assert distance(population.member(SETTINGS[0], 3), by_hand(Pairs, SETTINGS[0], 3, rows)) < 1e-12


def test_a_network_that_has_run_is_drawn_again_for_each_seed(rows):
    population = Population(once_run(), SETTINGS, SEEDS)
    population.fit(rows, **OPTIONS)
    alone = solo(once_run(), SETTINGS[0], 3, rows, **OPTIONS).network
    assert distance(population.member(SETTINGS[0], 3), alone) < 1e-12
    first, second = (population.initial_model(seed) for seed in SEEDS)
    assert not any(torch.equal(p, q) for p, q in zip(first.parameters(), second.parameters(), strict=True))


@pytest.mark.filterwarnings("ignore:.*jit.* is deprecated:DeprecationWarning")
def test_compiled_parts_train_as_they_are_written(rows):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        makes = [lambda: torch.compile(layers()), Compiled]
        for make, names in zip(makes, (["0.weight"], ["net.0.weight"]), strict=True):
            population = Population(make, [SETTINGS[0]], [3])
            population.fit(rows, **OPTIONS)
            expected = solo(layers, SETTINGS[0], 3, rows, **OPTIONS).network
            assert distance(population.member(SETTINGS[0], 3), expected) < 1e-12
            assert list(population.state())[:1] == names


class Inplace(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x):
        h = self.a(x)
        left, right = h[:, :4], h[:, 4:]
        h.tanh_()
        return self.b(torch.cat([left, right], 1))


class ByList(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(6, 3)

    def forward(self, x):
        return self.a(x) * (1 + sum(self.a.bias.tolist()))


class OwnFunction(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(6, 3)

    def forward(self, x):
        return _Rounded.apply(self.a(x))


class _Rounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    def backward(ctx, gradient):
        return gradient


@pytest.mark.parametrize(
    ("make", "remedy"),
    [
        (Inplace, "x = x + y for x += y"),
        (ByList, "compute with tensors throughout"),
        (OwnFunction, "generate_vmap_rule = True"),
    ],
)
def test_what_can_t_be_fused_is_told_once_with_what_to_change(make, remedy, rows):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        Population(make, SETTINGS, SEEDS).fit(rows, **OPTIONS)
    (message,) = [str(one.message) for one in told if one.category is NotFusedWarning]
    assert message.endswith("; members train one after the other, with the same results")
    assert "\n" not in message
    assert remedy in message


def test_batches_of_one_row_are_refused_before_anything_trains(rows):
    x, y = rows

    def make():
        return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))

    seen = []
    how = OPTIONS | {"batch_size": 22, "even_batches": False}
    with pytest.raises(InputError, match=r"\[1, 6\] in 1: .*choose another batch_size"):
        Population(make, SETTINGS, SEEDS).fit((x[:23], y[:23]), callback=seen.append, **how)
    with pytest.raises(InputError, match="choose another batch_size"):
        solo(make, SETTINGS[0], 3, (x[:23], y[:23]), **how)
    assert not seen
    Population(make, SETTINGS, SEEDS).fit((x[:23], y[:23]), **OPTIONS | {"batch_size": 22})  # 12 and 11 rows


@pytest.mark.parametrize("loss", ["logit", "probability", "hinge"])
def test_one_output_for_two_classes_counts_as_right_what_its_loss_prefers(loss, rows):
    x, _ = rows
    y = (x[:, 0] + 0.3 * x[:, 1] > 0).long()
    losses = {
        "logit": lambda out, t: F.binary_cross_entropy_with_logits(out[:, 0], t.to(out.dtype), reduction="none"),
        "probability": lambda out, t: F.binary_cross_entropy(out[:, 0], t.to(out.dtype), reduction="none"),
        "hinge": lambda out, t: (1 - out[:, 0] * (2 * t - 1)).clamp_min(0),
    }

    def make():
        return nn.Sequential(nn.Linear(6, 1), *[nn.Sigmoid()] * (loss == "probability"))

    population = Population(make, SETTINGS, SEEDS)
    population.fit((x, y), loss=losses[loss], **OPTIONS | {"lr": 0.3})
    outputs = population.member(SETTINGS[0], 3)(x)[:, 0]
    right = ((outputs > (0.5 if loss == "probability" else 0)).long() == y).double().mean().item()
    assert population.evaluate((x, y))["accuracy"][0, 0] == pytest.approx(right)
    assert right > 0.8
    with pytest.raises(InputError, match="one number a row for 3 classes: give it an output for each class"):
        Population(lambda: nn.Linear(6, 1), SETTINGS, SEEDS).fit(rows, loss=losses["logit"], **OPTIONS)
