"""Compiled steps: the numbers of an ordinary loop, whatever is recorded, and the ordinary way where C can't follow."""

import ctypes
import math
import os

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dampen import SGD, Adam, AdamW, ChunkDone, InputError, Population, Setting, TrainConfig, mlp
from dampen.engine import _rng
from dampen.engine.capture import NotRecordable, operations
from dampen.engine.compiled import CompiledStep, NoCompiler, Untranslatable, _build, _translate
from dampen.engine.compiled._kernel import Kernel

pytestmark = pytest.mark.usefixtures("without_shape_checks")

SETTINGS = [Setting(weight_decay=0.2, dropout=0.3, lr=0.02), Setting(dropout=0.6), Setting(weight_decay=1.0)]
SEEDS = (3, 9)
ODD = [0.0, -0.0, 0.3, -1.7, 4.2, -5.0, 20.5, -88.5, 90.0, -120.0, math.inf, -math.inf, math.nan]


def network():
    return nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Dropout(0.2), nn.Linear(9, 3))


def rows(n=53):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, 6, generator=generator), torch.randint(3, (n,), generator=generator)


def trained(model=network, settings=SETTINGS, seeds=SEEDS, **options):
    population = Population(model, settings, seeds)
    population.fit(rows(), **{"precision": "float64", "epochs": 3, "batch_size": 8, "compile": True} | options)
    return population


def by_hand(setting, seed, optimizer, batch_size=8, epochs=3):
    """An ordinary loop over the same batches and masks."""
    torch.manual_seed(seed)
    net, (x, y) = network().double(), rows()
    decayed, others = [p for p in net.parameters() if p.ndim > 1], [p for p in net.parameters() if p.ndim == 1]
    groups = [
        {"params": decayed, "weight_decay": setting.get("weight_decay", 0.0)},
        {"params": others, "weight_decay": 0.0},
    ]
    update = optimizer(groups, setting.get("lr", 1e-3))
    p, step = setting.get("dropout", 0.2), 0
    for epoch in range(epochs):
        order = _rng.batch_order(len(x), seed, epoch + 1)
        for batch in np.array_split(order.numpy(), math.ceil(len(x) / batch_size)):
            (u,) = _rng.dropout_uniforms([seed], step, [(len(batch), 9)])
            h = torch.relu(net[0](x.double()[batch])) * (u[0] >= p) / (1 - p)
            update.zero_grad()
            F.cross_entropy(net[3](h), y[batch]).backward()
            update.step()
            step += 1
    return net


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (SGD(), torch.optim.SGD),
        (SGD(momentum=0.9, nesterov=True), lambda groups, lr: torch.optim.SGD(groups, lr, 0.9, nesterov=True)),
        (Adam(), torch.optim.Adam),
        (AdamW(betas=(0.8, 0.95), eps=1e-6), lambda groups, lr: torch.optim.AdamW(groups, lr, (0.8, 0.95), 1e-6)),
    ],
    ids=["sgd", "nesterov", "adam", "adamw"],
)
def test_members_are_those_of_an_ordinary_loop(ours, theirs):
    population = trained(optimizer=ours)
    assert population.explain().compiled == "yes, a member on each core"
    for setting in SETTINGS:
        for seed in SEEDS:
            mine, other = population.member(setting, seed), by_hand(setting, seed, theirs)
            for a, b in zip(mine.parameters(), other.parameters(), strict=True):
                torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-13)


class Mixed(nn.Module):
    """Embedding, attention, normalisations, a residual sum, parts of tensors."""

    def __init__(self):
        super().__init__()
        self.words, self.norm = nn.Embedding(4, 8), nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, dropout=0.1, batch_first=True)
        self.batch, self.head = nn.BatchNorm1d(16), nn.Linear(12, 3)

    def forward(self, x):
        h = self.words((x.abs() * 2).long().clamp(0, 3))
        h = h + self.attention(*[self.norm(h)] * 3, need_weights=False)[0]
        h = self.batch(torch.cat([h.mean(1), h[:, 0]], 1))
        return self.head(F.gelu(h)[:, 2:14] + F.silu(h[:, :12]).softmax(-1))


@pytest.mark.parametrize(
    "knobs",
    [{"mixup": 0.3, "label_smoothing": 0.1, "l1": 1e-3, "input_noise": 0.1}, pytest.param({}, marks=pytest.mark.slow)],
)
def test_a_network_of_many_parts_trains_as_it_does_uncompiled(knobs):
    settings = [Setting(dropout=0.1, **knobs), Setting(weight_decay=0.3, dropout=0.5)]
    compiled, plain = (trained(Mixed, settings, compile=on, optimizer=SGD(0.9), lr=0.1) for on in (True, False))
    assert compiled.explain().compiled == "yes, a member on each core"
    assert plain.explain().compiled is None
    for name, t in plain.state().items():
        torch.testing.assert_close(compiled.state()[name], t, rtol=1e-9, atol=1e-11)
    for name, values in plain.history.metrics.items():
        np.testing.assert_allclose(compiled.history.metrics[name], values, rtol=1e-9)


class Narrow(nn.Module):
    """Products with few columns or rows, in whatever way the matrices lie, and activations that keep their slopes."""

    def __init__(self):
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        shapes = (3, 40), (2, 40), (40, 5), (5, 3), (17, 40), (17, 1)
        self.parts = nn.ParameterList(0.3 * torch.randn(shape, generator=draw) for shape in shapes)

    def forward(self, x, drop=None):
        a, b, c, d, e, f = self.parts
        h = F.gelu(x[:, :3] @ a, approximate="tanh")
        h = F.mish(F.dropout(h, 0.3, self.training) if drop is None else drop(h)) + F.silu(b.T @ (b @ h.T)).T
        return (h @ c) @ d + (f.T @ (e @ h.T)).T


def test_narrow_products_are_those_of_an_ordinary_loop():
    setting, seed, lr, (x, y) = Setting(dropout=0.3), SEEDS[1], 0.1, rows(48)
    population = Population(Narrow, [Setting(), setting], SEEDS)
    population.fit((x, y), epochs=2, batch_size=24, optimizer=SGD(), lr=lr, precision="float64", compile=True)
    assert population.explain().compiled == "yes, a member on each core"
    net, x = Narrow().double(), x.double()
    for step in range(4):
        batch = _rng.batch_order(48, seed, step // 2 + 1).view(2, 24)[step % 2]
        (u,) = _rng.dropout_uniforms([seed], step, [(24, 40)])
        loss = F.cross_entropy(net(x[batch], lambda h, u=u: h * (u[0] >= 0.3) / 0.7), y[batch])
        for p, gradient in zip(net.parameters(), torch.autograd.grad(loss, net.parameters()), strict=True):
            p.data -= lr * gradient
    for a, b in zip(population.member(setting, seed).parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-13)


def test_a_member_is_the_same_bit_for_bit_among_any_others():
    every, few = (Population(network, settings, SEEDS) for settings in (SETTINGS, SETTINGS[1:]))
    for population in (every, few):
        data = {"train": rows(), "validation": rows(301)}
        population.fit(data, precision="float32", epochs=3, batch_size=8, compile=True)
        assert population._program.separable
    for name, t in few.state().items():
        assert torch.equal(t, every.state()[name][:, 1:])
    for name, values in few.history.metrics.items():
        np.testing.assert_array_equal(values, every.history.metrics[name][..., 1:])


@pytest.mark.parametrize(("threads", "members"), [(2, 3), (3, 4), (4, 6)])
def test_members_that_threads_share_are_the_same_bit_for_bit(threads, members):
    settings = [Setting(weight_decay=0.1 * m, dropout=0.1 * m) for m in range(members)]
    states = []
    before = torch.get_num_threads()
    for n in (1, threads):
        torch.set_num_threads(n)
        try:
            states.append(trained(settings=settings, seeds=(3,)).state())
        finally:
            torch.set_num_threads(before)
    for name, t in states[0].items():
        assert torch.equal(t, states[1][name])


@pytest.mark.parametrize("n", [1, 256, 300])
def test_members_are_evaluated_as_by_an_ordinary_loop(n):
    population, (x, y) = trained(epochs=1), rows(n)
    assert population._program.separable
    found = population.evaluate((x, y))
    for m, setting in enumerate(SETTINGS):
        for s, seed in enumerate(SEEDS):
            with torch.no_grad():
                outputs = population.member(setting, seed).eval()(x.double())
            assert found["loss"][s, m] == pytest.approx(float(F.cross_entropy(outputs, y)), rel=1e-12)
            assert found["accuracy"][s, m] == pytest.approx(float((outputs.argmax(1) == y).double().mean()))


class Centred(nn.Module):
    """Mixes the rows of a batch, also in evaluation."""

    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Linear(6, 9), nn.Linear(9, 3)

    def forward(self, x):
        h = self.layer(x)
        return self.head((h - h.mean(0)).relu())


def test_rows_that_mix_in_evaluation_are_evaluated_as_they_are():
    compiled, plain = (trained(Centred, [Setting(dropout=0.0)], compile=on) for on in (True, False))
    assert compiled.explain().compiled == "yes, a member on each core"
    assert not compiled._program.separable
    for n in (5, 20):
        found, expected = compiled.evaluate(rows(n)), plain.evaluate(rows(n))
        np.testing.assert_allclose(found["loss"], expected["loss"], rtol=1e-9)


def run(function, *inputs):
    """Run what was recorded for one member on two, and return what the second has."""
    own = [t.unsqueeze(0).unsqueeze(0) for t in inputs]

    def recorded(*given):
        return [t.reshape(1, 1, *t.shape) for t in function(*(t[0, 0] for t in given))]

    step = CompiledStep(operations(recorded, own), own, [(True, True)] * len(own))
    return [t[0, 1] for t in step([t.expand(1, 2, *t.shape[2:]).contiguous() for t in own], 1, 2)]


ELEMENTWISE = {
    "exp": torch.exp, "log": torch.log, "sqrt": torch.sqrt, "rsqrt": torch.rsqrt, "sigmoid": torch.sigmoid,
    "tanh": torch.tanh, "relu": torch.relu, "silu": F.silu, "gelu": F.gelu, "softplus": F.softplus, "elu": F.elu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"), "leaky": lambda x: F.leaky_relu(x, 0.2), "abs": torch.abs,
    "square": torch.square, "cube": lambda x: x**3, "root": lambda x: x**0.5, "hardswish": F.hardswish,
    "clamp": lambda x: x.clamp(-1, 3), "least": lambda x: x.clamp_min(0.5), "hardtanh": F.hardtanh, "sin": torch.sin,
    "rsub": lambda x: 1 - x, "where": lambda x: torch.where(x > 0, x, -2 * x), "sign": torch.sign, "erf": torch.erf,
    "maximum": lambda x: torch.maximum(x, 0.5 * x), "masked": lambda x: x.masked_fill(x < 0, 7.0), "neg": torch.neg,
    "selu": F.selu, "mish": F.mish, "log1p": torch.log1p, "logical": lambda x: ((x > 0) & ~(x > 1)).to(x.dtype),
    "floor": torch.floor, "ceil": torch.ceil, "trunc": torch.trunc, "round": torch.round,
}  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_elementwise_functions_and_their_slopes_are_torch_s(dtype):
    ends, inner = torch.tensor(ODD, dtype=dtype), torch.linspace(-30, 30, 23, dtype=dtype)

    def every(x, y):
        leaf = y.detach().requires_grad_()
        results = []
        for function in ELEMENTWISE.values():
            value = function(leaf)
            slope = torch.autograd.grad(value.sum(), leaf)[0] if value.requires_grad else torch.zeros_like(y)
            results += [function(x), value.detach(), slope]
        return results

    names = [f"{name} {kind}" for name in ELEMENTWISE for kind in ("of odd numbers", "", "slope")]
    close = {"rtol": 1e-12, "atol": 1e-14} if dtype == torch.float64 else {"rtol": 2e-6, "atol": 1e-6}
    for name, mine, theirs in zip(names, run(every, ends, inner), every(ends, inner), strict=True):
        known = ends.isfinite() if name == "gelu of odd numbers" else slice(None)  # torch's of infinity is NaN
        torch.testing.assert_close(
            mine[known], theirs[known], equal_nan=True, **close, msg=lambda m, n=name: f"{n}: {m}"
        )


def small(x):
    return (2 * x.abs()).long().clamp(0, 4)


@pytest.mark.parametrize(
    "function",
    [
        lambda a, b: [a @ b.T, (a.T @ b[:5]).T, a @ b[0], b.T[:, :1] @ a[:1]],
        lambda a, b: [torch.bmm(a.expand(2, -1, -1), b.T.expand(2, -1, -1)), torch.addmm(b[0, :6], a, b.T)],
        lambda a, b: [a.sum(-1), a.sum(0), a.sum(), a.mean((0, 1)), a.amax(1), a.T.sum(0), a[:, ::2].sum(0)],
        lambda a, b: [
            a.argmax(-1),
            a.argmax(0),
            (a > 0).sum(-1),
            a.sum(0, dtype=torch.float64),
            a.mean(1, keepdim=True),
            (a > 1).any(-1),
            (a > -1).all(0),
            (a > 9).any(),
        ],
        lambda a, b: [a.softmax(-1), a.log_softmax(0), a.T.log_softmax(0), a.T.softmax(1)],
        lambda a, b: [torch.cat([a, a[:, 1:3]], 1), a.T * 2, a[1:4].exp(), torch.cat([a, b]) + 1],
        lambda a, b: [a.flip(0), a.T.flip((0, 1)) * 2, b.gather(0, small(a)), b.T.gather(1, small(a.T[:, 1:]))],
        lambda a, b: [a.scatter_add(1, small(b)[:5, 2:], b[:5]), (a * 2).scatter_add(0, small(a), b)],
        lambda a, b: [a.flatten() + 1, (a * 2 + b[:5]).relu() @ b[0], a.index_select(1, b[0, :3].long().abs())],
    ],
    ids=["mm", "bmm", "sums", "counts", "softmax", "parts", "chosen", "added", "views"],
)
def test_products_sums_and_parts_are_torch_s(function):
    generator = torch.Generator().manual_seed(1)
    a, b = (torch.randn(n, 7, generator=generator, dtype=torch.float64) for n in (5, 6))
    for mine, theirs in zip(run(function, a, b), function(a, b), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_a_product_of_nothing_is_zeros():
    x = torch.randn(20, 7, dtype=torch.float64)
    (found,) = run(lambda x: [x[:, :0] @ x[:3, :0].T], x)
    assert torch.equal(found, torch.zeros(20, 3, dtype=torch.float64))


def test_running_statistics_are_read_after_the_batch_that_moved_them():
    def function(x, mean, variance):
        h = F.batch_norm(x, mean, variance, training=True)
        return [h, mean * 2, variance.clone()]

    given = torch.randn(20, 1, dtype=torch.float64), torch.ones(1, dtype=torch.float64), torch.ones(1).double()
    for mine, theirs in zip(run(function, *given), function(*(t.clone() for t in given)), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_a_gradient_that_is_multiplied_by_itself_goes_through_an_activation():
    def function(x):
        leaf = x.detach().requires_grad_()
        h = F.silu(leaf)
        g = x * 3
        return [torch.autograd.grad(h, leaf, g * g)[0]]

    x = torch.randn(6, 5, dtype=torch.float64)
    for mine, theirs in zip(run(function, x), function(x), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_what_c_does_not_know_trains_uncompiled_and_is_named():
    def model():
        return nn.Sequential(nn.Unflatten(1, (1, 6)), nn.Conv1d(1, 2, 3), nn.Flatten(), nn.Linear(8, 3))

    with pytest.warns(UserWarning, match="steps can't be compiled, and run as without compile=True: aten::"):
        compiled = trained(model)
    plain = trained(model, compile=False)
    assert compiled.explain().compiled.startswith("no: aten::")
    assert "steps compiled: no: aten::" in str(compiled.explain())
    for name, t in plain.state().items():
        assert torch.equal(compiled.state()[name], t)


def test_without_a_compiler_members_train_as_before(monkeypatch):
    def none():
        raise NoCompiler("no C compiler is installed")

    plain = trained(compile=False)
    monkeypatch.setattr(_build, "products", none)
    with pytest.warns(UserWarning, match="no C compiler is installed"):
        population = trained()
    assert population.explain().compiled == "no: no C compiler is installed"
    for name, t in plain.state().items():
        assert torch.equal(population.state()[name], t)


def test_code_that_the_compiler_refuses_is_one_line():
    with pytest.raises(NoCompiler, match=r"fails: .*error"):
        _build.built("void start(void *a, void *b, void *c) { nothing; }")


def test_what_was_used_longest_ago_leaves_the_cache(monkeypatch, tmp_path):
    monkeypatch.setattr(_build, "folder", lambda: tmp_path)
    monkeypatch.setattr(_build, "_KEPT", 2)
    code = "void start(void *a, void *b, void *c) {{}} int number = {};".format
    for i in range(3):
        assert ctypes.c_int.in_dll(_build.built(code(i)), "number").value == i
        newest = max(tmp_path.glob("*.so"), key=lambda file: file.stat().st_mtime_ns)
        os.utime(newest, (i, i))
    assert len(list(tmp_path.iterdir())) == 2
    _build.built(code(2))
    assert len(list(tmp_path.iterdir())) == 2


def test_long_trainings_are_compiled_by_themselves_and_never_by_the_clock():
    assert not TrainConfig(epochs=29, compile="auto").recipe("classification").compiles(10)
    assert TrainConfig(epochs=30, compile="auto").recipe("classification").compiles(10)
    assert not TrainConfig(epochs=30, compile=False).recipe("classification").compiles(10)
    with pytest.raises(InputError, match="compile must be auto, True or False, got 'yes'"):
        TrainConfig(compile="yes")


def test_a_training_that_is_cut_anywhere_is_the_whole_one():
    whole = trained(epochs=4)
    parts = Population(network, SETTINGS, SEEDS, chunk=3)

    def stop(event):
        if isinstance(event, ChunkDone) and event.epoch == 2 and event.chunk == 1:
            raise KeyboardInterrupt

    options = {"precision": "float64", "epochs": 4, "batch_size": 8, "compile": True}
    with pytest.raises(KeyboardInterrupt):
        parts.fit(rows(), callback=stop, **options)
    parts.fit(rows(), **options)
    for name, t in whole.state().items():
        assert torch.equal(parts.state()[name], t)


def places(x, i):
    """Read and write at places that numbers tell, some of them twice."""
    values, put = torch.stack([x, x * 2, x * 3]), torch.zeros_like(x)
    put[:, i] += 1
    return [
        x[:, i], x[i, i + 1], x.expand(4, 5, 5)[i, :, i], x[i.unsqueeze(1), -1 - i], put,
        torch.zeros_like(x).index_add_(1, i, x[:, :4], alpha=2), x.index_add(0, i, x[:4]),
        x.index_put((i, i), values[0, 0, 0], accumulate=True), x.index_put((i,), x[:4] + 1, accumulate=True),
    ]  # fmt: skip


def changed(x, i):
    """Change memory in place that others look at through views, before and after they read it."""
    b = x * 2
    seen, part, before = b.view(-1), b[1:3], b.exp()
    b.add_(1)
    part.mul_(seen[:5] + before[0])
    whole = torch.empty(4, 5, dtype=x.dtype)
    for row, source in zip(whole.unbind(), (x.split([1, 4])[1]).unbind(), strict=True):
        torch.tanh(source, out=row)
    whole[:, 2:4].fill_(7.0)
    whole[3].zero_()
    c = x + 1
    d = c.sigmoid()
    c.copy_(b)
    own = x.clone()
    own[:, 0] = own[:, 1]
    return [seen * 3, before, part + 0, whole, whole.sum(0), c + d, own, own.relu_() * 2, torch.tril(x, 1), x.triu(-1)]


@pytest.mark.parametrize("function", [places, changed])
def test_places_and_changes_in_place_are_torch_s(function):
    x = torch.randn(5, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    i = torch.tensor([0, 3, 1, 3])
    mine = run(function, x.clone(), i)
    for n, (a, b) in enumerate(zip(mine, function(x.clone(), i), strict=True)):
        torch.testing.assert_close(a, b, msg=lambda m, n=n: f"result {n}: {m}")


@pytest.mark.parametrize("threads", [1, 2])
def test_a_number_that_is_outside_of_a_table_is_one_line(threads):
    x, table = torch.zeros(2, 2, 3), torch.ones(5, 2)
    given = [x[:1, :1], torch.tensor([[[0, 4]]])]

    def function(x, i):
        return [(F.embedding(i, table) * x[..., :2]).reshape(1, 1, 2, 2)]

    step = CompiledStep(operations(function, given), given, [(True, True)] * 2)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with pytest.raises(InputError, match="index out of range"):
            step([x, torch.tensor([[[0, 4], [0, 4]], [[1, 1], [2, 5]]])], 2, 2)
        assert step([x, torch.tensor([[[0, 4], [0, 4]], [[1, 1], [2, 4]]])], 2, 2)[0].shape == (2, 2, 2, 2)
    finally:
        torch.set_num_threads(before)


def test_a_number_below_0_is_outside_for_index_add_as_in_torch():
    given = [torch.ones(1, 1, 3), torch.tensor([[[0, 2]]])]

    def function(x, i):
        return [x.index_add(2, i[0, 0], x[..., :2])]

    step = CompiledStep(operations(function, given), given, [(True, True)] * 2)
    with pytest.raises(InputError, match="index out of range"):
        step([given[0], torch.tensor([[[0, -1]]])], 1, 1)
    with pytest.raises(RuntimeError, match="out of bounds"):
        function(given[0], torch.tensor([[[0, -1]]]))


def test_a_mask_as_an_index_is_not_translated():
    with pytest.raises((Untranslatable, NotRecordable)):
        run(lambda x: [x.index_put((x > 0,), x[0, 0])], torch.randn(3, 3))


def test_dampen_s_own_networks_compile():
    assert trained(lambda: mlp(8, dropout=0.2)(6, 3)).explain().compiled.startswith("yes")


def test_arguments_that_nobody_foresaw_are_no_crash(monkeypatch):
    def code(node, of, made):
        raise KeyError("an argument")

    monkeypatch.setitem(_translate.KERNELS, torch.ops.aten.mm.default, Kernel(code))
    with pytest.raises(Untranslatable, match="not foreseen"):
        run(lambda a: [a @ a], torch.eye(3))
