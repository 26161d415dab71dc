"""Monte-Carlo dropout: the same as a hand-written loop given the same masks, for every way that networks drop units."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import dampen
from dampen import InputError, mc_dropout, predict
from dampen.uncertainty import masks

pytestmark = pytest.mark.filterwarnings("ignore:the network can't be sampled many times:dampen.errors.NotFusedWarning")

ALPHA = -1.7580993408473766  # SELU's limit for large negative inputs


class Functional(nn.Module):
    """Dropout as a function, a residual connection, BatchNorm between."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(12, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.norm = nn.BatchNorm1d(8)

    def forward(self, x: Tensor) -> Tensor:
        h = F.dropout(torch.relu(self.norm(self.first(x))), 0.2, self.training)
        return self.last(h + F.dropout(torch.tanh(self.second(h)), p=0.4, training=self.training))

    def loop(self, x: Tensor, masks: list[Tensor]) -> Tensor:
        h = torch.relu(self.norm(self.first(x))) * masks[0] / 0.8
        return self.last(h + torch.tanh(self.second(h)) * masks[1] / 0.6)


class Sequential(nn.Sequential):
    """An image network: dropout of channels, of units, in place."""

    def __init__(self):
        super().__init__(
            *(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout2d(0.3), nn.Flatten()),
            *(nn.Linear(64, 6), nn.ReLU(), nn.Dropout(0.5, inplace=True), nn.Linear(6, 3)),
        )

    def loop(self, x: Tensor, masks: list[Tensor]) -> Tensor:
        conv, norm, relu, _, flatten, linear, _, _, last = self
        h = relu(norm(conv(x))) * masks[0] / 0.7
        return last(relu(linear(flatten(h))) * masks[1] / 0.5)


class Alpha(nn.Sequential):
    """A self-normalising network."""

    def __init__(self):
        super().__init__(nn.Linear(12, 9), nn.SELU(), nn.AlphaDropout(0.2), nn.Linear(9, 3))

    def loop(self, x: Tensor, masks: list[Tensor]) -> Tensor:
        keep = masks[0].to(x.dtype)
        a = (0.8 * (1 + 0.2 * ALPHA**2)) ** -0.5
        return self[3](a * (self[1](self[0](x)) * keep + ALPHA * (1 - keep)) - a * 0.2 * ALPHA)


class Attention(nn.Module):
    """Causal attention by the function, with dropout on its weights and the switch in the forward pass."""

    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (t.unflatten(-1, (2, 4)).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
        p = 0.25 if self.training else 0.0
        h = F.scaled_dot_product_attention(q, k, v, dropout_p=p, is_causal=True)
        return self.out(h.transpose(1, 2).flatten(2)).mean(1)

    def loop(self, x: Tensor, masks: list[Tensor]) -> Tensor:
        q, k, v = (t.unflatten(-1, (2, 4)).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
        scores = (q @ k.transpose(-2, -1) / 2).masked_fill(~torch.ones(5, 5, dtype=torch.bool).tril(), -math.inf)
        h = (scores.softmax(-1) * masks[0] / 0.75) @ v
        return self.out(h.transpose(1, 2).flatten(2)).mean(1)


class MultiHead(nn.Module):
    """A layer of a transformer, with the batch second."""

    def __init__(self):
        super().__init__()
        self.layer, self.out = nn.TransformerEncoderLayer(8, 2, 16, 0.2), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.layer(x.transpose(0, 1)).mean(0))

    def loop(self, x: Tensor, masks: list[Tensor]) -> Tensor:
        layer, h = self.layer, x.transpose(0, 1)  # [5, B, 8]
        q, k, v = (
            t.unflatten(-1, (2, 4)).permute(1, 2, 0, 3)
            for t in F.linear(h, layer.self_attn.in_proj_weight, layer.self_attn.in_proj_bias).chunk(3, -1)
        )
        weights = (q @ k.transpose(-2, -1) / 2).softmax(-1) * masks[0].view(-1, 2, 5, 5) / 0.8
        h = layer.norm1(h + layer.self_attn.out_proj((weights @ v).permute(2, 0, 1, 3).flatten(2)) * masks[1] / 0.8)
        h = layer.norm2(h + layer.linear2(torch.relu(layer.linear1(h)) * masks[2] / 0.8) * masks[3] / 0.8)
        return self.out(h.mean(0))


class Recurrent(nn.Module):
    """Two layers of a recurrent network with dropout between them."""

    def __init__(self, kind: type[nn.RNNBase]):
        super().__init__()
        self.layer, self.head = kind(8, 6, num_layers=2, dropout=0.3, batch_first=True), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x)[0][:, -1])

    def loop(self, x: Tensor, masks: list[Tensor]) -> Tensor:
        for n in range(2):
            one = type(self.layer)(x.shape[-1], 6, batch_first=True).to(x.dtype)
            names = ("weight_ih_l", "weight_hh_l", "bias_ih_l", "bias_hh_l")
            one.load_state_dict({f"{name}0": getattr(self.layer, f"{name}{n}") for name in names})
            x = one(x)[0] * (masks[0][:, 0] / 0.7 if n == 0 else 1)
        return self.head(x[:, -1])


class Branch(nn.Module):
    """Decides by a tensor's value: it can't be recorded."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(12, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = F.dropout(self.first(x), 0.5, self.training)
        return self.last(h if self.first.weight.sum().item() < 1e9 else -h)

    def loop(self, x: Tensor, masks: list[Tensor]) -> Tensor:
        return self.last(self.first(x) * masks[0] / 0.5)


class DroppedWeights(nn.Module):
    """Drops weights instead of units (Wan et al. 2013): one mask for all rows."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 12))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, F.dropout(self.weight, 0.5, self.training))

    def loop(self, x: Tensor, masks: list[Tensor]) -> Tensor:
        return x @ (self.weight * masks[0] / 0.5).T


NETWORKS = {
    "functional": (Functional, (12,)),
    "sequential": (Sequential, (1, 6, 6)),
    "alpha": (Alpha, (12,)),
    "attention": (Attention, (5, 8)),
    "transformer": (MultiHead, (5, 8)),
    "lstm": (lambda: Recurrent(nn.LSTM), (5, 8)),
    "gru": (lambda: Recurrent(nn.GRU), (5, 8)),
    "branch": (Branch, (12,)),
    "dropped weights": (DroppedWeights, (12,)),
}


def made(name, rows=9, dtype=torch.float64):
    torch.manual_seed(1)
    make, shape = NETWORKS[name]
    network = make().to(dtype)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
    return network, torch.randn(rows, *shape, dtype=dtype)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_it_equals_a_loop_given_the_same_masks_and_leaves_the_network_alone(name, training):
    network, x = made(name)
    network.train(training)
    state = {key: t.clone() for key, t in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    generator = torch.get_rng_state()
    found = mc_dropout(network, x, samples=7, seed=3, return_samples=True)
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(state[key], t) for key, t in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), generator)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    kept = [mask.double() for mask in masks(network, x, samples=7, seed=3)]
    network.eval()
    with torch.no_grad():
        expected = torch.stack([network.loop(x, [mask[t] for mask in kept]) for t in range(7)]).softmax(-1)
    assert found.draws.shape == expected.shape
    torch.testing.assert_close(found.draws.double(), expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found.probabilities, expected.mean(0), rtol=1e-9, atol=1e-12)
    assert len({tuple(draw.flatten().tolist()) for draw in found.draws}) == 7


@pytest.mark.parametrize("name", ["lstm", "branch"])
@pytest.mark.filterwarnings("error")
def test_what_is_sampled_one_by_one_is_said_to_be(name):
    network, x = made(name)
    with pytest.warns(dampen.NotFusedWarning, match="runs once for each sample"):
        mc_dropout(network, x, samples=2, task="classification")
    network, x = made("functional")
    mc_dropout(network, x, samples=2, task="classification")


@pytest.mark.parametrize("name", NETWORKS)
def test_a_row_s_samples_are_the_same_in_any_batch_and_any_chunk(name):
    network, x = made(name, rows=100)
    whole = mc_dropout(network, x, samples=6, return_samples=True)
    again = mc_dropout(network, x, samples=6, return_samples=True)
    assert torch.equal(whole.draws, again.draws)
    alone = mc_dropout(network, x[70:71], samples=6, first_row=70, return_samples=True)
    torch.testing.assert_close(alone.draws, whole.draws[:, 70:71])
    more = mc_dropout(network, x[:80], samples=11, return_samples=True)
    torch.testing.assert_close(more.draws[:6], whole.draws[:, :80])
    tight = mc_dropout(network, x, samples=6, return_samples=True, max_bytes=400_000)
    torch.testing.assert_close(tight.draws, whole.draws)
    other = mc_dropout(network, x, samples=6, seed=1, return_samples=True)
    assert not torch.allclose(other.draws, whole.draws)


def test_half_precision_and_float32_are_sampled_as_they_are():
    network, x = made("functional", dtype=torch.float32)
    exact = mc_dropout(network.double(), x.double(), samples=20)
    torch.testing.assert_close(
        mc_dropout(network.float(), x, samples=20).probabilities, exact.probabilities, atol=1e-5, rtol=1e-5
    )
    rough = mc_dropout(network.bfloat16(), x.bfloat16(), samples=20)
    torch.testing.assert_close(rough.probabilities, exact.probabilities, atol=0.03, rtol=0.03)


def test_a_linear_model_with_input_dropout_has_its_known_mean_and_variance():
    torch.manual_seed(0)
    linear, p, T = nn.Linear(30, 1).double(), 0.3, 10_000
    x = torch.randn(5, 30, dtype=torch.float64)
    found = mc_dropout(nn.Sequential(nn.Dropout(p), linear), x, samples=T)
    mean = linear(x).squeeze(1).detach()
    variance = (p / (1 - p) * x.square() @ linear.weight.square().T).squeeze(1).detach()
    assert ((found.mean - mean).abs() < 4 * (variance / T).sqrt()).all()
    assert ((found.epistemic / variance - 1).abs() < 4 * math.sqrt(2 / T) * 1.1).all()


def test_masks_of_rows_samples_and_units_are_uncorrelated_at_the_rate():
    network = nn.Dropout(0.3)
    kept = masks(network, torch.zeros(60, 40), samples=400)[0].double()
    n = kept.numel()
    assert abs(kept.mean() - 0.7) < 4 * math.sqrt(0.21 / n)
    centred = (kept - 0.7) / math.sqrt(0.21)
    for shifted in (centred.roll(1, 0), centred.roll(1, 1), centred.roll(1, 2), centred.roll(3, 0).roll(5, 1)):
        assert abs((centred * shifted).mean()) < 4.5 / math.sqrt(n)
    counts = masks(network, torch.zeros(1, 2000), samples=400)[0].double().sum(0)
    assert counts.var() == pytest.approx(400 * 0.21, rel=0.12)  # of one row's units over samples: binomial


def test_layers_before_the_first_dropout_run_once_and_those_after_for_every_sample():
    rows = []

    class Counting(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            rows.append(1)
            return super().forward(x)

    network = nn.Sequential(Counting(12, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))
    mc_dropout(network, torch.randn(100, 12), samples=200)
    assert len(rows) <= 6  # to see what it does and to compare with a plain pass, never for every sample


def test_a_network_that_drops_nothing_is_refused_and_a_rate_of_0_disagrees_on_nothing():
    x = torch.randn(4, 12)
    with pytest.raises(InputError, match="drops no units"):
        mc_dropout(nn.Linear(12, 3), x)
    with pytest.warns(dampen.NotSampled, match="nothing was sampled"):
        still = mc_dropout(nn.Sequential(nn.Linear(12, 8), nn.Dropout(0.0), nn.Linear(8, 3)), x, samples=10)
    assert still.mutual_information.abs().max() < 1e-6
    assert still.variation_ratio.max() == 0
    assert still.deviation.max() == 0
    everything = mc_dropout(nn.Sequential(nn.Dropout(1.0), nn.Linear(12, 3, bias=False)), x, samples=10)
    torch.testing.assert_close(everything.probabilities, torch.full((4, 3), 1 / 3, dtype=torch.float64))


class Failing(nn.Module):
    def __init__(self, rows):
        super().__init__()
        self.dropout, self.rows = nn.Dropout(0.5), rows

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.rows:
            raise RuntimeError("too many rows")
        return self.dropout(x)


class FirstRows(nn.Module):
    """Answers the first rows of a batch only."""

    def __init__(self, n):
        super().__init__()
        self.net, self.n = nn.Sequential(nn.Dropout(0.5), nn.Linear(3, 2)), n

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)[: self.n]


@pytest.mark.parametrize("n", [1, 2, 3, 15])
@pytest.mark.parametrize("options", [{"samples": 4}, {"samples": None}])
def test_a_network_that_answers_too_few_rows_is_refused(n, options):
    with pytest.raises(InputError, match=rf"row for each row of its input, not a tensor of shape \[{n}, .*2\] for \d+"):
        predict(FirstRows(n), torch.randn(20, 3), task="classification", **options)
    assert predict(FirstRows(20), torch.randn(20, 3), task="classification", **options).probabilities.shape == (20, 2)


class Reciprocal(nn.Module):
    """Is not finite where a row's first number is 0, and of no use there: `value` times infinity."""

    def __init__(self, value):
        super().__init__()
        self.drop, self.value = nn.Dropout(0.5), value

    def forward(self, x: Tensor) -> Tensor:
        first = torch.where(x[:, 0] == 0, self.value * torch.inf, x[:, 0])
        return torch.stack([first, self.drop(x[:, 1])], 1)


@pytest.mark.filterwarnings("error")  # none that would be beside the point
@pytest.mark.parametrize("value", [0.0, 1.0])  # 0 * inf is NaN
@pytest.mark.parametrize("options", [{"samples": 10}, {"samples": None}])
@pytest.mark.parametrize("task", ["classification", "regression"])
def test_outputs_that_are_no_numbers_are_told_in_one_line_that_names_the_row(value, options, task):
    x = torch.ones(12, 2)
    x[7:9, 0] = 0
    with pytest.raises(InputError, match="outputs are NaN or infinite, for row 7 first"):
        predict(Reciprocal(value), x, task=task, **options)


@pytest.mark.parametrize("samples", [10, None])
def test_a_logit_of_minus_infinity_is_a_class_that_can_t_be(samples):
    x = torch.ones(12, 2)
    x[7:9, 0] = 0
    found = predict(Reciprocal(-1.0), x, samples, task="classification")
    assert found.probabilities[7:9].tolist() == [[0, 1], [0, 1]]
    assert found.entropy[7:9].tolist() == [0, 0]
    assert found.mutual_information.isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "regression", "temperature": 3.0}, "temperature divides logits .*: leave temperature out$"),
        ({"task": "classification", "scale": (3.0, 2.0)}, "scale turns a regression's values .*: leave scale out$"),
        ({"scale": (3.0, 2.0)}, "or give task='regression'$"),
        ({"task": "regression", "scale": (0.0, 0.0)}, r"scale must be \(mean, deviation\)"),
        ({"task": "regression", "scale": (0.0, float("nan"))}, r"scale must be \(mean, deviation\)"),
        ({"task": "classification", "samples": None, "dropout": 0.3}, "dropout has the rates of samples"),
        ({"task": "classification", "temperature": float("inf")}, "temperature must be a finite number"),
    ],
)
@pytest.mark.filterwarnings("ignore::dampen.OutputsWarning")
def test_an_option_that_would_change_nothing_is_refused(options, message):
    network = nn.Sequential(nn.Dropout(0.5), nn.Linear(3, 2))
    with pytest.raises(InputError, match=message):
        predict(network, torch.ones(4, 3), **({"samples": 4} | options))


@pytest.mark.parametrize("samples", [8, None])
def test_real_rows_become_the_network_s_type(samples):
    network = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 2))
    x = np.random.default_rng(0).normal(size=(20, 3))
    expected = predict(network, torch.from_numpy(x).float(), samples, task="classification").probabilities
    others = {kind: copy.deepcopy(network).to(kind) for kind in (torch.float64, torch.float16)}
    for rows, model, atol in [
        (x, network, 0),
        (x.astype(np.float32), others[torch.float64], 1e-6),
        (x, others[torch.float16], 1e-3),
    ]:
        found = predict(model, rows, samples, task="classification").probabilities
        torch.testing.assert_close(found, expected, rtol=0, atol=atol)
    both = predict([network, others[torch.float64]], x, samples, task="classification").probabilities
    assert both.shape == (20, 2)
    with pytest.raises(InputError, match="the network's float16 can't hold"):
        predict(others[torch.float16], x * 1e6, samples, task="classification")
    with pytest.raises(InputError, match=r"x holds int64 numbers: x.float\(\) makes them real ones"):
        predict(network, torch.ones(4, 3, dtype=torch.int64), samples, task="classification")


@pytest.mark.parametrize("samples", [8, None])
def test_lazy_layers_that_have_not_run_are_named(samples):
    network = nn.Sequential(nn.LazyLinear(4), nn.Dropout(0.5), nn.LazyLinear(2))
    with pytest.raises(InputError, match=r"the network's 0.weight has no shape yet"):
        predict(network, torch.ones(4, 3), samples, task="classification")
    network(torch.ones(4, 3))
    assert predict(network, torch.ones(4, 3), samples, task="classification").probabilities.shape == (4, 2)


def test_a_network_leaves_as_it_came_also_after_an_exception():
    network = nn.Sequential(nn.BatchNorm1d(12), Failing(3)).train()
    network[0].eval()
    modes = [module.training for module in network.modules()]
    with pytest.raises(InputError, match=r"fails on a batch of .*: too many rows$"):
        mc_dropout(network, torch.randn(20, 12))
    assert [module.training for module in network.modules()] == modes
    assert not any(module._forward_hooks for module in network.modules())


class Noisy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, 0.5, self.training) + torch.randn_like(x)


class Counts(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.seen += 1
        return F.dropout(x, 0.5, self.training)


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = F.dropout(x, 0.5, self.training)
        return x, x


@pytest.mark.parametrize(
    ("network", "options", "message"),
    [
        (Noisy(), {}, "random numbers in another way"),
        (Counts(), {}, "changes its buffer seen"),
        (Pair(), {}, "must return one tensor"),
        (nn.Dropout(0.5), {"samples": 0}, "samples must be a whole number, 1 or larger"),
        (nn.Dropout(0.5), {"seed": -1}, "seed must be"),
        (nn.Dropout(0.5), {"max_bytes": 1}, "max_bytes must be at least"),
        (nn.Dropout(0.5), {"task": "ranking"}, "task must be"),
        (nn.Dropout(0.5), {"temperature": 0.0}, "temperature must be"),
        (nn.Dropout(0.5), {"variance_head": True}, "variance head"),
        (nn.Sequential(nn.Linear(5, 2), nn.Dropout(0.5)), {}, "the network fails on a batch"),
    ],
)
def test_what_cannot_be_sampled_is_said_in_one_line(network, options, message):
    with pytest.raises(InputError, match=message) as raised:
        mc_dropout(network, torch.randn(6, 12), **options)
    assert "\n" not in str(raised.value)


def test_memory_stays_below_the_limit():
    network = nn.Sequential(nn.Linear(10, 2000), nn.Dropout(0.5), nn.Linear(2000, 2))
    largest = []

    class Mode(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            if isinstance(result, Tensor):
                largest.append(result.nbytes)
            return result

    limit = 2_000_000
    with Mode():
        mc_dropout(network, torch.randn(300, 10), samples=50, max_bytes=limit)
    assert max(largest) < limit


def test_ensembles_single_passes_and_their_combination_have_one_interface():
    networks, x = [made("functional")[0].requires_grad_(i < 0) for i in range(3)], made("functional")[1]
    for i, network in enumerate(networks):
        nn.init.normal_(network.last.weight, std=1.0 + i)
        network.eval()
    with torch.no_grad():
        each = torch.stack([network(x) for network in networks]).softmax(-1)
    single = predict(networks[1], x)
    torch.testing.assert_close(single.probabilities, each[1], rtol=1e-9, atol=1e-12)
    assert single.mutual_information.abs().max() < 1e-12
    ensemble = predict(networks, x, return_samples=True)
    torch.testing.assert_close(ensemble.probabilities, each.mean(0), rtol=1e-9, atol=1e-12)
    assert ensemble.samples == 3
    both = predict(networks, x, samples=20, seed=5, return_samples=True)
    assert both.samples == 60
    torch.testing.assert_close(both.draws[:20], mc_dropout(networks[0], x, 20, 5, return_samples=True).draws)
    apart = predict([networks[0]] * 2, x, samples=20, return_samples=True)
    assert not torch.allclose(apart.draws[:20], apart.draws[20:])
    with pytest.raises(InputError, match="at least one"):
        predict([], x)


def test_a_study_is_an_ensemble_in_the_target_s_own_unit():
    data = dampen.load("diabetes")
    study = dampen.compare(
        dampen.mlp(8, dropout=0.2), data, [dampen.Setting(), dampen.Setting(weight_decay=0.1)], n_seeds=3, epochs=3
    )
    found = predict(study, data.test)
    mean, deviation = study.plan.target_scale
    with torch.no_grad():
        each = torch.stack([network(data.test.features) for network in study.ensemble()]).squeeze(-1) * deviation + mean
    torch.testing.assert_close(found.mean, each.double().mean(0), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.epistemic, each.double().var(0, correction=0), rtol=1e-4, atol=1e-4)
    with pytest.raises(InputError, match="rows of a data set as"):
        predict(study, "rows.csv")


def test_rates_of_a_setting_stand_in_for_the_network_s_own():
    network, x = made("functional")
    rates = {"": 0.5}
    found = mc_dropout(network, x, samples=8, dropout=(0.1, 0.7), return_samples=True)
    again = Functional().double()
    again.load_state_dict(network.state_dict())
    again.forward = lambda x: forward_at(again, x, 0.1, 0.7)
    torch.testing.assert_close(found.draws, mc_dropout(again, x, samples=8, return_samples=True).draws)
    assert not torch.allclose(found.draws, mc_dropout(network, x, samples=8, dropout=rates, return_samples=True).draws)
    with pytest.raises(InputError, match="drops units in 2 places"):
        mc_dropout(network, x, dropout=(0.1, 0.2, 0.3))


def forward_at(network, x, first, second):
    h = F.dropout(torch.relu(network.norm(network.first(x))), first, network.training)
    return network.last(h + F.dropout(torch.tanh(network.second(h)), second, network.training))


def test_one_recurrent_layer_has_nothing_to_drop():
    with pytest.warns(UserWarning, match="non-zero dropout expects num_layers greater than 1"):
        layer = nn.LSTM(8, 6, dropout=0.3, batch_first=True)

    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.drop, self.head = layer, nn.Dropout(0.5), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.drop(self.layer(x)[0][:, -1]))

    network, x = Last(), torch.randn(4, 5, 8)
    found = mc_dropout(network, x, samples=6, return_samples=True)
    kept = masks(network, x, samples=6)[1].float()
    with torch.no_grad():
        expected = network.head(layer(x)[0][:, -1] * kept / 0.5).softmax(-1)
    torch.testing.assert_close(found.draws, expected)
