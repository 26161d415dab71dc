"""Each check finds its fault, spares what only looks like it, and nothing is found in sound networks."""

import warnings
from collections import Counter
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dampen
from dampen.doctor import CHECKS
from dampen.engine.knobs.weights.weight_decay import decayed

ROWS = torch.linspace(-1, 1, 24).reshape(4, 6)
SIGNALS = torch.linspace(-1, 1, 96).reshape(4, 6, 4)  # rows, channels, length
IMAGES = torch.linspace(-1, 1, 384).reshape(4, 6, 4, 4)
TOKENS = torch.arange(20).reshape(4, 5) % 10


@dataclass
class Output:
    """What a network may return."""

    logits: torch.Tensor


class Calls(nn.Module):
    """A network whose forward is a function of it and its input."""

    def __init__(self, forward, **parts):
        super().__init__()
        self.function = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *inputs):
        return self.function(self, *inputs)


def net(*layers):
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), *layers, nn.Linear(8, 3))


def adamw(*parameters, weight_decay=0.01, **options):
    return torch.optim.AdamW(parameters, lr=1e-2, weight_decay=weight_decay, **options)


def grouped(model, kind=torch.optim.AdamW, *, spared=(), **options):
    """An optimizer that decays what usually decays."""
    rule = {name: yes and not name.startswith(tuple(spared)) for name, yes in decayed(model).items()}
    named = dict(model.named_parameters())
    groups = [
        {"params": [named[name] for name, yes in rule.items() if yes]},
        {"params": [named[name] for name, yes in rule.items() if not yes], "weight_decay": 0.0},
    ]
    return kind(groups, **{"lr": 1e-2, "weight_decay": 0.01} | options)


def pair(model, optimizer):
    return {"model": model, "optimizer": optimizer}


def decayed_only(part, *names):
    """A network with `part` in it whose optimizer decays these parameters and no others."""
    model = net(part)
    named = dict(model.named_parameters())
    rest = [p for name, p in named.items() if name not in names]
    groups = [{"params": [named[name] for name in names]}, {"params": rest, "weight_decay": 0.0}]
    return pair(model, torch.optim.SGD(groups, lr=0.1, weight_decay=0.01))


def scaled(*shape):
    part = Calls(lambda m, x: x * m.scale.mean())
    part.scale = nn.Parameter(torch.ones(shape))
    return part


def embedded(tied):
    model = Calls(lambda m, x: m.out(m.table(x)), table=nn.Embedding(10, 8), out=nn.Linear(8, 10, bias=False))
    if tied:
        model.out.weight = model.table.weight
    return pair(model, adamw(*model.parameters()))


def frozen(*, decays=True, gradient=False):
    model = net()
    model[0].weight.requires_grad_(False)
    if gradient:
        model[0].weight.grad = torch.zeros(8, 6)
    return pair(model, grouped_all(model, 0.01 if decays else 0.0))


def grouped_all(model, weight_decay):
    return torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=weight_decay)


def left_out(*, meant):
    model = net()
    model[0].requires_grad_(not meant)
    return pair(model, torch.optim.SGD(model[2].parameters(), lr=0.1))


def held_by_two(*, shared):
    model = net()
    one = torch.optim.SGD(model.parameters() if shared else model[0].parameters(), lr=0.1)
    return pair(model, [one, torch.optim.SGD(model[2].parameters(), lr=0.1)])


def new_head(*, after):
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    head = nn.Linear(8, 5)
    if after:
        model[2] = head
    return pair(model, optimizer)


def own_loss(*, own):
    model = net()
    scale = [nn.Parameter(torch.ones(()))] if own else []
    return pair(model, torch.optim.SGD([*model.parameters(), *scale], lr=0.1))


def strength(kind, steps=None, **options):
    model = net()
    return pair(model, grouped(model, kind, **options)) | {"steps": steps}


def warmed_up():
    """AdamW at the first step of a warm-up over a hundred steps."""
    model = net()
    optimizer = grouped(model, lr=0.1, weight_decay=0.1)
    torch.optim.lr_scheduler.LinearLR(optimizer, 1e-4, total_iters=100)
    return pair(model, optimizer) | {"steps": 1000}


def half_in_training(*, left):
    model = net(nn.Dropout(0.5)).eval()
    (model[2] if left else model[0]).train()
    return {"model": model}


def trained(*, optimizer):
    model = net(nn.BatchNorm1d(8))
    model(ROWS)
    return {"model": model} | ({"optimizer": grouped(model)} if optimizer else {})


def dropout_off(*, frozen):
    model = nn.Sequential(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.5)), nn.Linear(8, 3))
    model[0].eval()
    return {"model": model.requires_grad_(True) if not frozen else (model[0].requires_grad_(False), model)[1]}


def listed(holder):
    return {
        "model": Calls(lambda m, x: m.layers[0](x), layers=holder([nn.Linear(6, 3)]), out=nn.Identity()),
        "batch": ROWS,
    }


def calls(forward, batch=ROWS, **parts):
    return {"model": Calls(forward, **parts), "batch": batch}


def recurrent(**options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch itself warns of dropout with one layer
        return {"model": Calls(lambda m, x: m.rnn(x)[0], rnn=nn.LSTM(6, 8, batch_first=True, **options))}


def attention(p):
    def forward(m, x):
        q, k, v = m.qkv(x).unflatten(-1, (3, 1, 4)).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(q, k, v, dropout_p=p(m)).flatten(1)

    return calls(forward, SIGNALS, qkv=nn.Linear(4, 12))


def attends_by_hand(m, x):
    weights = F.dropout((x @ x.mT).softmax(-1), 0.1, m.training)
    return m.out(weights @ x)


def counted(*, always):
    """A network that keeps a running mean of its inputs and subtracts it."""

    def forward(m, x):
        if m.training or always:
            m.mean.mul_(0.9).add_(x.mean(0), alpha=0.1)
        return m.out(x - m.mean)

    model = Calls(forward, out=nn.Linear(6, 3))
    model.register_buffer("mean", torch.zeros(6))
    return {"model": model, "batch": ROWS}


def noisy(*, always):
    return calls(lambda m, x: m.out(x + torch.rand_like(x) if m.training or always else x), out=nn.Linear(6, 3))


def passes_rate(m, x):
    """Hands its layer's rate to the function, as attention layers do."""
    return m.out(F.dropout(x, m.drop.p, m.training))


def keyed(key, value=0.1, kind=torch.optim.SGD, default=0.01):
    """An optimizer whose first group has a key besides its parameters."""
    model = net()
    weights, biases = ([p for p in model.parameters() if (p.ndim > 1) == matrix] for matrix in (True, False))
    groups = [{"params": weights, key: value}, {"params": biases, "weight_decay": 0.0}]
    return pair(model, kind(groups, lr=0.1, weight_decay=default))


def swapped(model, *, meant=False):
    """An optimizer that decays biases and normalisation, and no matrix; or the other way round."""
    matrices, rest = ([p for p in model.parameters() if (p.ndim > 1) == matrix] for matrix in (True, False))
    groups = [{"params": matrices}, {"params": rest}]
    groups[int(meant)]["weight_decay"] = 0.0
    return pair(model, torch.optim.AdamW(groups, weight_decay=0.01))


class Shrinking(torch.optim.Optimizer):
    """Not torch's: shrinks every parameter, with a gradient or without."""

    def __init__(self, params, lr=0.1, weight_decay=0.01):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                p.data.mul_(1 - group["lr"] * group["weight_decay"])


def forgets(*, restores):
    """A network that turns its dropout off in evaluation, by its rate."""

    def forward(m, x):
        if not m.training:
            m.p = 0.0
        elif restores:
            m.p = 0.5
        return m.out(F.dropout(x, m.p))

    model = Calls(forward, out=nn.Linear(6, 3))
    model.p = 0.5
    return {"model": model, "batch": ROWS}


# check: (faults, each with the severity and the places that must be told; networks that only look like it)
CASES = {
    "decayed-bias": (
        [(lambda: decayed_only(nn.Identity(), "0.weight", "0.bias", "3.bias"), "warning", "0.bias, 3.bias")],
        [lambda: decayed_only(nn.Identity(), "0.weight", "3.weight"), lambda: pair(m := net(), grouped(m))],
    ),
    "decayed-normalisation": (
        [
            (lambda: decayed_only(nn.LayerNorm(8), "2.weight", "2.bias"), "warning", "2.weight, 2.bias"),
            (lambda: decayed_only(nn.BatchNorm1d(8), "2.weight"), "warning", "2.weight"),
        ],
        [lambda: decayed_only(nn.LayerNorm(8), "0.weight"), lambda: decayed_only(nn.Bilinear(1, 1, 1), "2.weight")],
    ),
    "decayed-prelu": (
        [(lambda: decayed_only(nn.PReLU(), "2.weight"), "warning", "2.weight")],
        [lambda: decayed_only(nn.PReLU(), "0.weight"), lambda: decayed_only(nn.LeakyReLU(), "0.weight")],
    ),
    "decayed-embedding": ([(lambda: embedded(False), "note", "table.weight")], [lambda: embedded(True)]),
    "decayed-vector": (
        [
            (lambda: decayed_only(scaled(8), "2.scale"), "note", "2.scale"),
            (lambda: decayed_only(scaled(1, 8), "2.scale"), "note", "2.scale"),
            (lambda: decayed_only(scaled(1, 1, 1, 8), "2.scale"), "note", "2.scale"),
            (lambda: decayed_only(nn.utils.parametrizations.weight_norm(nn.Linear(8, 8)),
                                  "2.parametrizations.weight.original0"), "note",
             "2.parametrizations.weight.original0"),
        ],
        [lambda: decayed_only(scaled(8, 8), "2.scale"), lambda: decayed_only(scaled(8), "0.weight", "0.bias")],
    ),
    "swapped-groups": (
        [
            (lambda: swapped(net()), "serious", "AdamW's group 1"),
            (lambda: swapped(nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4))), "serious",
             "AdamW's group 1"),
        ],
        [lambda: swapped(net(), meant=True), lambda: decayed_only(nn.LayerNorm(8), "2.weight", "2.bias")],
    ),
    "nothing-decays": (
        [
            (lambda: pair(m := net(), grouped_all(m, 0.0)), "note", "SGD's group 0"),
            (lambda: held_by_two(shared=False), "note",
             "optimizer 0 (SGD)'s group 0, optimizer 1 (SGD)'s group 0"),
        ],
        [lambda: pair(m := net(), grouped(m)), lambda: pair(m := net(), Shrinking(m.parameters(), weight_decay=0.1))],
    ),
    "coupled-decay": (
        [
            (lambda: strength(torch.optim.Adam), "serious", "Adam's group 0"),
            (lambda: strength(torch.optim.Adam, weight_decay=1e-4), "warning", "Adam's group 0"),
            (lambda: strength(torch.optim.RMSprop), "serious", "RMSprop's group 0"),
            (lambda: strength(torch.optim.NAdam), "serious", "NAdam's group 0"),
        ],
        [
            lambda: strength(torch.optim.AdamW),
            lambda: strength(torch.optim.SGD),
            lambda: strength(torch.optim.Adam, weight_decay=0.0),
            lambda: strength(torch.optim.Adam, decoupled_weight_decay=True),
        ],
    ),
    "frozen-decay": (
        [
            (frozen, "note", "0.weight"),
            (lambda: frozen(gradient=True), "serious", "0.weight"),
            (lambda: pair(m := net().requires_grad_(False), Shrinking(m.parameters())), "note",
             "0.weight, 0.bias, 2.weight, 2.bias"),
        ],
        [lambda: frozen(decays=False), lambda: pair(m := net(), grouped(m)), lambda: left_out(meant=True)],
    ),
    "unread-setting": (
        [
            (lambda: keyed("weight_decay_rate"), "serious", "SGD's group 0"),
            (lambda: keyed("weigth_decay"), "serious", "SGD's group 0"),
            (lambda: keyed("wd", kind=torch.optim.AdamW), "serious", "AdamW's group 0"),
            (lambda: keyed("momentun", 0.9), "serious", "SGD's group 0"),
            (lambda: keyed("lr_mult"), "note", "SGD's group 0"),
        ],
        [lambda: keyed("weight_decay"), lambda: keyed("name", "matrices"), lambda: keyed("initial_lr")],
    ),
    "not-in-optimizer": (
        [
            (lambda: left_out(meant=False), "serious", "0.weight, 0.bias"),
            (lambda: embedded(True) | {"optimizer": torch.optim.SGD([nn.Parameter(torch.ones(1))])}, "serious",
             "table.weight (also out.weight)"),
        ],
        [lambda: left_out(meant=True), lambda: held_by_two(shared=False)],
    ),
    "in-two-groups": (
        [(lambda: held_by_two(shared=True), "serious", "2.weight, 2.bias")],
        [lambda: held_by_two(shared=False), lambda: embedded(True)],
    ),
    "not-in-model": (
        [
            (lambda: new_head(after=True), "serious", "SGD's group 0"),
            (lambda: own_loss(own=True), "warning", "SGD's group 0"),
        ],
        [lambda: new_head(after=False), lambda: own_loss(own=False)],
    ),
    "decay-too-strong": (
        [
            (lambda: strength(torch.optim.AdamW, lr=0.1, weight_decay=10.0), "serious", "AdamW's group 0"),
            (lambda: strength(torch.optim.AdamW, lr=0.1, weight_decay=1.0), "warning", "AdamW's group 0"),
            (lambda: strength(torch.optim.SGD, lr=0.1, weight_decay=0.1, momentum=0.9), "warning", "SGD's group 0"),
        ],
        [
            lambda: strength(torch.optim.SGD, lr=0.1, weight_decay=0.1),
            lambda: strength(torch.optim.SGD, lr=0.1, weight_decay=0.1, momentum=0.9, dampening=0.9),
            lambda: strength(torch.optim.AdamW, lr=1e-3, weight_decay=10.0),
        ],
    ),
    "decay-too-weak": (
        [
            (lambda: strength(torch.optim.AdamW, 100, lr=1e-3, weight_decay=0.01), "warning", "AdamW's group 0"),
            (lambda: strength(torch.optim.SGD, 1000, lr=0.1, weight_decay=5e-6), "warning", "SGD's group 0"),
        ],
        [
            lambda: strength(torch.optim.AdamW, 100_000, lr=1e-3, weight_decay=0.01),
            lambda: strength(torch.optim.AdamW, 100, lr=1e-3, weight_decay=0.0),
            lambda: strength(torch.optim.SGD, 1000, lr=0.1, weight_decay=5e-5, momentum=0.9),
            warmed_up,
        ],
    ),
    "left-in-training": (
        [
            (lambda: half_in_training(left=True), "serious", "2"),
            (lambda: trained(optimizer=False), "note", "the model"),
        ],
        [
            lambda: half_in_training(left=False),
            lambda: trained(optimizer=True),
            lambda: {"model": net(nn.BatchNorm1d(8))},
            lambda: {"model": net(nn.BatchNorm1d(8), nn.Dropout(0.5)).eval()},
        ],
    ),
    "dropout-off": (
        [(lambda: dropout_off(frozen=False), "warning", "0.2")],
        [lambda: dropout_off(frozen=True), lambda: {"model": net(nn.Dropout(0.5)).eval()}],
    ),
    "hidden-modules": (
        [(lambda: listed(list), "serious", "layers.0"), (lambda: listed(tuple), "serious", "layers.0")],
        [
            lambda: listed(lambda parts: [part.requires_grad_(False).eval() for part in parts]),  # a teacher
            lambda: listed(nn.ModuleList), lambda: calls(lambda m, x: m.out(x), out=nn.Linear(6, 3), relus=[nn.ReLU()]),
        ],
    ),
    "dropout-rate": (
        [
            (lambda: {"model": net(nn.Dropout(0.8))}, "warning", "2"),
            (lambda: {"model": net(nn.Dropout(1.0))}, "serious", "2"),
            (lambda: {"model": net(with_rate(nn.Dropout(), 50.0))}, "serious", "2"),
            (lambda: {"model": net(with_rate(nn.Dropout(), -0.1)), "batch": ROWS}, "serious", "2"),
            (lambda: {"model": nn.MultiheadAttention(4, 2, dropout=0.9)}, "warning", "the model"),
            (lambda: calls(lambda m, x: m.out(F.dropout(x, 0.9, m.training)), out=nn.Linear(6, 3)), "warning",
             "the model"),
        ],
        [lambda: {"model": net(nn.Dropout(0.75)), "batch": ROWS}, lambda: {"model": net(nn.Dropout(0.0))}],
    ),
    "one-layer-rnn": (
        [(lambda: recurrent(dropout=0.5), "warning", "rnn")],
        [lambda: recurrent(dropout=0.5, num_layers=2), recurrent],
    ),
    "dropout-never-called": (
        [
            (lambda: calls(lambda m, x: m.out(x), drop=nn.Dropout(), out=nn.Linear(6, 3)), "warning", "drop"),
            (lambda: calls(lambda m, x: m.out(x), drops=nn.ModuleList([nn.Dropout()]), out=nn.Linear(6, 3)), "warning",
             "drops.0"),
        ],
        [
            lambda: calls(lambda m, x: m.out(m.drop(x)), drop=nn.Dropout(), out=nn.Linear(6, 3)),
            lambda: calls(passes_rate, drop=nn.Dropout(0.3), out=nn.Linear(6, 3)),
            lambda: calls(lambda m, x: m.out(x), drop=nn.Dropout(0.0), out=nn.Linear(6, 3)),
            lambda: calls(lambda m, x: m.out(x), head=nn.Sequential(nn.Dropout()), out=nn.Linear(6, 3)),
        ],
    ),
    "channel-dropout": (
        [
            (lambda: calls(lambda m, x: m.drop(x), SIGNALS, drop=nn.Dropout2d()), "warning", "drop"),
            (lambda: calls(lambda m, x: m.drop(x), ROWS, drop=nn.Dropout2d()), "warning", "drop"),
            (lambda: calls(lambda m, x: m.drop(x), ROWS, drop=nn.Dropout1d()), "serious", "drop"),
            (lambda: calls(lambda m, x: m.drop(x), IMAGES, drop=nn.Dropout3d()), "serious", "drop"),
        ],
        [
            lambda: calls(lambda m, x: m.drop(x), SIGNALS, drop=nn.Dropout1d()),
            lambda: calls(lambda m, x: m.drop(x), IMAGES, drop=nn.Dropout2d()),
            lambda: calls(lambda m, x: m.drop(x), IMAGES[..., None], drop=nn.Dropout3d()),
            lambda: calls(lambda m, x: m.drop(x), SIGNALS, drop=nn.Dropout()),
        ],
    ),
    "alpha-dropout": (
        [(lambda: {"model": net(nn.AlphaDropout(0.1)), "batch": ROWS}, "warning", "2")],
        [
            lambda: {"model": net(nn.SELU(), nn.AlphaDropout(0.1)), "batch": ROWS},
            lambda: {"model": net(nn.Dropout(0.1)), "batch": ROWS},
        ],
    ),
    "dropout-in-evaluation": (
        [
            (lambda: calls(lambda m, x: F.dropout(m.out(x).relu(), 0.5), out=nn.Linear(6, 3)), "serious", "the model"),
            (lambda: {"model": net(Calls(lambda m, x: F.dropout(x))), "batch": ROWS}, "serious", "2"),
        ],
        [
            lambda: calls(lambda m, x: F.dropout(m.out(x).relu(), 0.5, m.training), out=nn.Linear(6, 3)),
            lambda: calls(lambda m, x: F.dropout(m.out(x).relu(), 0.0), out=nn.Linear(6, 3)),
            lambda: attention(lambda m: 0.5),
        ],
    ),
    "attention-dropout-in-evaluation": (
        [(lambda: attention(lambda m: 0.5), "serious", "the model")],
        [
            lambda: attention(lambda m: 0.5 if m.training else 0.0),
            lambda: attention(lambda m: 0.0),
            lambda: calls(lambda m, x: m.a(x, x, x)[0], SIGNALS, a=nn.MultiheadAttention(4, 2, dropout=0.5)),
        ],
    ),
    "rate-changed-by-evaluation": (
        [
            (lambda: forgets(restores=False), "serious", "the model"),
            (lambda: calls(lambda m, x: m.out(with_rate(m.drop, m.drop.p * m.training)(x)), drop=nn.Dropout(0.4),
                           out=nn.Linear(6, 3)), "serious", "drop"),
        ],
        [lambda: forgets(restores=True), lambda: {"model": net(nn.Dropout(0.4)), "batch": ROWS}],
    ),
    "output-differs": (
        [
            (lambda: noisy(always=True), "serious", "the model"),
            (lambda: counted(always=True), "serious", "the model"),
            (lambda: calls(lambda m, x: m.out(F.dropout(x, 0.5)), out=nn.Linear(6, 3)), "serious", "the model"),
        ],
        [lambda: noisy(always=False), lambda: counted(always=False)],
    ),
    "dropout-before-batchnorm": (
        [
            (lambda: {"model": net(nn.Dropout(), nn.BatchNorm1d(8)), "batch": ROWS}, "warning", "2, 3"),
            (lambda: {"model": net(nn.Dropout(), nn.Linear(8, 8), nn.BatchNorm1d(8)), "batch": ROWS}, "note", "2, 4"),
        ],
        [
            lambda: {"model": net(nn.BatchNorm1d(8), nn.Dropout()), "batch": ROWS},
            lambda: {"model": net(nn.Dropout(), nn.LayerNorm(8)), "batch": ROWS},
            lambda: {"model": net(nn.Dropout(0.0), nn.BatchNorm1d(8)), "batch": ROWS},
            lambda: {"model": net(nn.Dropout(), nn.BatchNorm1d(8, track_running_stats=False)), "batch": ROWS},
        ],
    ),
    "dropout-on-output": (
        [
            (lambda: {"model": nn.Sequential(nn.Linear(6, 3), nn.Dropout()), "batch": ROWS}, "serious", "1"),
            (lambda: {"model": nn.Sequential(nn.Linear(6, 3), nn.Dropout(), nn.LogSoftmax(-1)), "batch": ROWS},
             "serious", "1"),
            (lambda: calls(lambda m, x: {"y": F.dropout(m.out(x), 0.5, m.training)}, out=nn.Linear(6, 3)), "serious",
             "the model"),
        ],
        [
            lambda: {"model": net(nn.Dropout()), "batch": ROWS},
            lambda: {"model": nn.Sequential(nn.Linear(6, 3), nn.ReLU(), nn.Dropout()), "batch": ROWS},
            lambda: calls(lambda m, x: x + m.drop(m.out(x)), drop=nn.Dropout(), out=nn.Linear(6, 6)),
        ],
    ),
    "dropout-after-softmax": (
        [
            (lambda: {"model": nn.Sequential(nn.Linear(6, 3), nn.Softmax(-1), nn.Dropout()), "batch": ROWS}, "serious",
             "2"),
            (lambda: calls(lambda m, x: m.drop(m.out(x).softmax(1)).log(), drop=nn.Dropout(), out=nn.Linear(6, 3)),
             "serious", "drop"),
        ],
        [
            lambda: calls(attends_by_hand, SIGNALS, out=nn.Linear(4, 3)),
            lambda: {"model": nn.Sequential(nn.Dropout(), nn.Linear(6, 3), nn.Softmax(-1)), "batch": ROWS},
            lambda: calls(lambda m, x: m.a(x, x, x)[0], SIGNALS, a=nn.MultiheadAttention(4, 2, dropout=0.5)),
        ],
    ),
    "dropout-twice": (
        [(lambda: {"model": net(nn.Dropout(0.2), nn.Tanh(), nn.Dropout(0.5)), "batch": ROWS}, "warning", "2, 4")],
        [
            lambda: {"model": net(nn.Dropout(), nn.Linear(8, 8), nn.Dropout()), "batch": ROWS},
            lambda: {"model": net(nn.Dropout(0.0), nn.Dropout()), "batch": ROWS},
        ],
    ),
    "softmax-output": (
        [
            (lambda: {"model": nn.Sequential(nn.Linear(6, 3), nn.Softmax(-1)), "batch": ROWS}, "warning", "the model"),
            (lambda: calls(lambda m, x: torch.softmax(m.out(x), 1), out=nn.Linear(6, 3)), "warning", "the model"),
        ],
        [
            lambda: {"model": nn.Sequential(nn.Linear(6, 3), nn.LogSoftmax(-1)), "batch": ROWS},
            lambda: {"model": nn.Sequential(nn.Linear(6, 3), nn.Softmax(-1), nn.Linear(3, 2)), "batch": ROWS},
        ],
    ),
}  # fmt: skip


def with_rate(layer, p):
    layer.p = p  # its constructor would refuse it
    return layer


FAULTS = [(check, *fault) for check, (faults, _) in CASES.items() for fault in faults]
LOOKALIKES = [(check, make) for check, (_, lookalikes) in CASES.items() for make in lookalikes]


@pytest.mark.parametrize(("check", "make", "severity", "where"), FAULTS, ids=[fault[0] for fault in FAULTS])
def test_a_fault_is_found_where_it_is(check, make, severity, where):
    found = [(f.severity, f.where) for f in dampen.diagnose(**make()).findings if f.check == check]
    assert found == [(severity, where)]


@pytest.mark.parametrize(("check", "make"), LOOKALIKES, ids=[lookalike[0] for lookalike in LOOKALIKES])
def test_what_only_looks_like_the_fault_is_spared(check, make):
    report = dampen.diagnose(**make())
    assert check not in dict(report.skipped)  # the check did look
    assert check not in {f.check for f in report.findings}


def test_every_check_has_a_fault_and_a_lookalike():
    assert [check.name for check in CHECKS] == list(CASES)
    assert all(faults and lookalikes for faults, lookalikes in CASES.values())


class Block(nn.Module):
    """A residual block."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.short = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x):
        h = F.relu(self.norm1(self.conv1(x)), inplace=True)
        return F.relu(self.norm2(self.conv2(h)) + self.short(x))


class Encoder(nn.Module):
    """A transformer encoder for classification."""

    def __init__(self, **options):
        super().__init__()
        self.tokens = nn.Embedding(10, 8)
        self.place = nn.Parameter(torch.zeros(5, 8))
        self.drop = nn.Dropout(0.1)
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, **options)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.layers(self.drop(self.tokens(x) + self.place)).mean(1))


def resnet():
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(8, 3))
    return nn.Sequential(nn.Conv2d(6, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), Block(4, 8), Block(8, 8), pool)


SOUND = {
    "residual network with SGD": (resnet, IMAGES, torch.optim.SGD, {"lr": 0.1, "weight_decay": 5e-4, "momentum": 0.9}),
    "transformer encoder": (Encoder, TOKENS, torch.optim.AdamW, {"lr": 1e-3, "weight_decay": 0.1}),
    "transformer encoder, norm first": (
        lambda: Encoder(norm_first=True, activation="gelu"), TOKENS, torch.optim.AdamW,
        {"lr": 1e-3, "weight_decay": 0.1},
    ),
    "multilayer perceptron": (
        lambda: dampen.mlp(16, 16, dropout=0.5)(6, 3), ROWS, torch.optim.AdamW, {"lr": 1e-3, "weight_decay": 0.1},
    ),
    "recurrent network": (
        lambda: Calls(lambda m, x: m.out(m.drop(m.rnn(x)[0][:, -1])), rnn=nn.GRU(4, 8, 2, dropout=0.3),
                      drop=nn.Dropout(0.3), out=nn.Linear(8, 3)),
        SIGNALS, torch.optim.AdamW, {"lr": 1e-3, "weight_decay": 0.1},
    ),
}  # fmt: skip


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("name", SOUND)
def test_nothing_is_found_in_a_sound_network(name, training):
    build, batch, kind, options = SOUND[name]
    model = build().train(training)
    report = dampen.diagnose(model, grouped(model, kind, spared=["tokens"], **options), batch, steps=10_000)
    assert report.findings == ()
    assert report.skipped == ()


def test_a_setting_that_nobody_reads_is_told_with_the_one_that_is_meant():
    [finding] = [f for f in dampen.diagnose(**keyed("weigth_decay")).findings if f.check == "unread-setting"]
    assert "sets 'weigth_decay' to 0.1" in finding.message
    assert "weight_decay=0.01" in finding.message
    assert finding.remedy == "write 'weight_decay' instead of 'weigth_decay'"


def test_swapped_groups_are_one_finding():
    assert [f.check for f in dampen.diagnose(**swapped(net(nn.LayerNorm(8)))).findings] == ["swapped-groups"]


def test_nothing_is_claimed_of_an_optimizer_that_is_not_torch_s():
    model = net().requires_grad_(False)
    optimizer = Shrinking(model.parameters(), lr=2.0, weight_decay=1.0)
    report = dampen.diagnose(model, optimizer, steps=10)
    assert [f.check for f in report.findings] == ["frozen-decay"]
    assert "torch skips them" not in report.findings[0].message


def test_scales_and_tokens_do_not_decay_and_weights_that_look_like_them_do():
    model = nn.Module()
    shapes = {"cls_token": (1, 1, 8), "pos_embed": (1, 5, 8), "position_embeddings": (5, 8), "gain": (1, 8, 1, 1)}
    for name, shape in (shapes | {"last": (1, 1, 1, 8), "row": (1, 8), "own": (5, 8)}).items():
        setattr(model, name, nn.Parameter(torch.zeros(shape)))
    model.unit, model.depthwise, model.point = nn.Linear(8, 1), nn.Conv2d(8, 8, 1, groups=8), nn.Conv2d(8, 1, 1)
    model.normed = nn.utils.parametrizations.weight_norm(nn.Linear(6, 8))
    matrices = {"own", "unit.weight", "depthwise.weight", "point.weight", "normed.parametrizations.weight.original1"}
    assert {name for name, decays in decayed(model).items() if decays} == matrices


def test_dampen_s_own_rule_of_what_decays_leaves_at_most_a_note_on_embeddings():
    model = Encoder()
    report = dampen.diagnose(model, grouped(model), TOKENS, steps=10_000)
    assert [(f.check, f.severity, f.where) for f in report.findings] == [("decayed-embedding", "note", "tokens.weight")]


def test_a_step_of_a_real_optimizer_takes_the_share_that_the_report_tells():
    """SGD with momentum and without a gradient: weights end where the told time scale says."""
    model = net()
    optimizer = grouped_all(model, 1e-3)
    optimizer.param_groups[0].update(lr=0.01, momentum=0.9)
    steps = 90
    [finding] = [f for f in dampen.diagnose(model, optimizer, steps=steps).findings if f.check == "decay-too-weak"]
    told = float(finding.message.partition("takes ")[2].split()[0])
    before = model[0].weight.detach().clone()
    for _ in range(steps):
        for p in model.parameters():
            p.grad = torch.zeros_like(p)
        optimizer.step()
    taken = float(1 - (model[0].weight.detach() / before).mean())
    assert taken == pytest.approx(told, rel=0.12)  # momentum takes about ten steps to get going


def test_serious_findings_come_first_and_ignored_checks_are_silent():
    model = nn.Sequential(nn.Dropout(0.9), nn.BatchNorm1d(6), nn.Linear(6, 3), nn.Dropout(0.5))
    everything = dampen.diagnose(model, batch=ROWS)
    assert [f.check for f in everything.findings] == ["dropout-on-output", "dropout-rate", "dropout-before-batchnorm"]
    assert everything.serious
    some = dampen.diagnose(model, batch=ROWS, ignore={"dropout-on-output"})
    assert some.findings == everything.findings[1:]
    assert not some.serious


def test_a_printed_report_tells_each_finding_with_its_source_and_what_was_not_looked_at():
    model = nn.Sequential(nn.Linear(6, 3), nn.Dropout(0.5))
    report = dampen.diagnose(model, batch=ROWS)
    [finding] = report.findings
    text = " ".join(str(report).split())
    for part in (finding.check, finding.where, finding.message, finding.remedy, finding.source, "1 serious"):
        assert part in text
    assert "not looked at without an optimizer: decayed-bias" in text
    assert "nothing found" in str(dampen.diagnose(net()))


def test_without_batch_optimizer_or_steps_the_checks_that_need_them_are_named():
    skipped = Counter(name for name, _ in dampen.diagnose(net()).skipped)
    assert skipped == Counter(check.name for check in CHECKS if check.needs)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"model": "resnet"}, "model must be a torch.nn.Module, got str"),
        ({"optimizer": "adamw"}, "optimizer must be a torch.optim.Optimizer, or several, got str"),
        ({"steps": 0}, "steps must be a whole number, 1 or larger, got 0"),
        ({"ignore": ["dropout-rates"]}, "there is no check 'dropout-rates' to ignore; the checks are alpha-dropout"),
        ({"ignore": "dropout-rate"}, "ignore must be a collection of names"),
        ({"batch": torch.zeros(4, 7)}, r"the model fails on a batch of \[4, 7\] float32 in 0: "),
        ({"batch": (ROWS, torch.zeros(4))}, "give inputs only, no targets"),
        ({"model": nn.LazyLinear(3), "batch": ROWS}, "lazy parameters without a shape"),
        ({"model": nn.Linear(6, 3, device="meta"), "batch": ROWS}, "meta device"),
        ({"model": Calls(lambda m, x: None), "batch": ROWS}, "must return a tensor, .* not NoneType"),
        ({"model": torch.nn.Module(), "batch": ROWS}, "the model fails on a batch"),
    ],
)
def test_bad_input_is_refused_in_one_line(arguments, said):
    with pytest.raises(dampen.InputError, match=said) as refused:
        dampen.diagnose(**{"model": net()} | arguments)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "wrap", [lambda y: (y, None), lambda y: {"y": [y]}, Output], ids=["tuple", "dict", "dataclass"]
)
def test_an_output_is_looked_into(wrap):
    model = Calls(lambda m, x: wrap(F.dropout(m.out(x), 0.5)), out=nn.Linear(6, 3))
    found = {f.check for f in dampen.diagnose(model, batch=ROWS).findings}
    assert found == {"dropout-on-output", "dropout-in-evaluation", "output-differs"}


def test_groups_of_several_optimizers_are_told_apart():
    model = net()
    optimizers = [torch.optim.Adam(model[i].parameters(), weight_decay=d) for i, d in ((0, 0.0), (2, 0.1))]
    found = [f.where for f in dampen.diagnose(model, optimizers).findings if f.check == "coupled-decay"]
    assert found == ["optimizer 1 (Adam)'s group 0"]


def test_arguments_can_be_given_by_order_and_by_name():
    def forward(m, x, scale):
        return F.dropout(m.out(x) * scale, 0.5)

    for batch in ((ROWS, 2.0), [ROWS, 2.0], {"x": ROWS, "scale": 2.0}):
        model = Calls(forward, out=nn.Linear(6, 3))
        model.forward = lambda x, scale, m=model: forward(m, x, scale)
        assert "dropout-in-evaluation" in {f.check for f in dampen.diagnose(model, batch=batch).findings}
