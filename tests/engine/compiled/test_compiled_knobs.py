"""Knobs under compiled steps: the numbers of a plain loop with each knob as its paper writes it."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dampen import SGD, AdamW, Population, Setting
from dampen.engine import _rng
from dampen.engine.execution._fused import Fused

pytestmark = pytest.mark.usefixtures("without_shape_checks")

LR, EPOCHS, SIZE, N, H, W = 0.02, 5, 8, 20, 6, 5
STEPS = EPOCHS * math.ceil(N / SIZE)
SEEDS = (3, 9)
DECAYS = ("weight_decay", "cautious_decay", "independent_decay", "corrected_decay")


def network():
    return nn.Sequential(nn.Flatten(), nn.Linear(H * W, 5, bias=False), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 3))


def without_statistics():
    return nn.Sequential(nn.Flatten(), nn.Linear(H * W, 5, bias=False), nn.Tanh(), nn.Linear(5, 3))


def rows():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(N, 1, H, W, generator=generator), torch.randint(3, (N,), generator=generator)


def cut_and_mixed(x, y, alpha, seed, step):
    """CutMix of a batch: its images, the classes mixed in, and the share of a row's own class."""
    draws = _rng.StepDraws([seed], step, "cutmix", torch.device("cpu"))
    u, down, right = draws.uniform(3)[0].tolist()
    partners = draws.uniform(len(x))[0].argsort()
    side = math.sqrt(1 - (stats.beta(alpha, alpha).ppf(u) if alpha else 1.0))
    middle, half = (int(down * H), int(right * W)), (int(H * side) // 2, int(W * side) // 2)
    top, left = (max(0, m - h) for m, h in zip(middle, half, strict=True))
    bottom, end = (min(n, m + h) for n, m, h in zip((H, W), middle, half, strict=True))
    x[:, :, top:bottom, left:end] = x[partners][:, :, top:bottom, left:end]
    return x, y[partners], 1 - (bottom - top) * (end - left) / (H * W)


def shifted_and_mirrored(x, pixels, p, seed, step):
    """Each image moved, edges repeated, and then mirrored or not."""
    device = torch.device("cpu")
    moves = _rng.StepDraws([seed], step, "random_shift", device).uniform(len(x), 2)[0]
    mirrored = _rng.StepDraws([seed], step, "horizontal_flip", device).uniform(len(x))[0] < p
    shown = x.clone()
    for image, (down, right), turned in zip(shown, moves.tolist(), mirrored, strict=True):
        dy, dx = (math.floor(u * (2 * pixels + 1)) - pixels for u in (down, right))
        rows, columns = np.clip(np.arange(H) - dy, 0, H - 1), np.clip(np.arange(W) - dx, 0, W - 1)
        moved = image[:, rows][:, :, columns]
        image.copy_(moved.flip(-1) if turned else moved)
    return shown


def by_hand(setting, seed, optimizer, model=network):
    """A plain loop: torch's optimizer, and what the knobs do around it."""
    torch.manual_seed(seed)
    net, (x, y) = model().double(), rows()
    first, *_ = weights = net[1].weight, net[-1].weight
    averaged = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(setting.get("ema", 0.0)), use_buffers=True)
    others = [p for p in net.parameters() if p.ndim == 1]
    theirs = optimizer([{"params": weights}, {"params": others, "weight_decay": 0.0}], LR)
    step = 0
    for epoch in range(EPOCHS):
        order = _rng.batch_order(N, seed, epoch + 1).numpy()
        for batch in np.array_split(order, math.ceil(N / SIZE)):
            shown, classes, mixed_in, share = x.double()[batch], y[batch], y[batch], 1.0
            if "random_shift" in setting:
                shown = shifted_and_mirrored(shown, setting["random_shift"], setting["horizontal_flip"], seed, step)
            if "cutmix" in setting:
                shown, mixed_in, share = cut_and_mixed(shown, classes, setting["cutmix"], seed, step)
            factor = 1 - step / STEPS
            on = float(step >= setting.get("decay_start", 0.0) * STEPS)
            if setting.get("decay_schedule") == "linear":
                on *= 1 - step / STEPS
            weight_decay, cautious, independent, corrected = (on * setting.get(name, 0.0) for name in DECAYS)
            theirs.zero_grad()
            said = net(shown)
            (share * F.cross_entropy(said, classes) + (1 - share) * F.cross_entropy(said, mixed_in)).backward()
            for group in theirs.param_groups:
                group["lr"] = LR * factor
            theirs.param_groups[0]["weight_decay"] = weight_decay
            with torch.no_grad():
                for w in weights:
                    w.mul_(1 - factor * independent)
                    w.mul_(1 - LR * factor * (factor if w is first else 1) * corrected)  # its layer is normalised
                before = [w.clone() for w in weights]
                theirs.step()
                for w, old in zip(weights, before, strict=True):
                    w.sub_(LR * factor * cautious * torch.where((old - w) * old >= 0, old, 0.0))
                    if step >= setting.get("l1_start", 0.0) * STEPS:
                        w.copy_(w.sign() * (w.abs() - LR * factor * setting.get("l1", 0.0)).clamp(min=0))
            averaged.update_parameters(net)
            step += 1
    return averaged.module


QUEUED = [  # whole steps are compiled, many at a time
    Setting(cutmix=1.0),
    Setting(random_shift=2, horizontal_flip=0.5),
    Setting(cutmix=0.3, weight_decay=2.0, decay_start=0.5),
    Setting(weight_decay=2.0, decay_start=0.25, decay_schedule="linear"),
    Setting(weight_decay=2.0),
]
AROUND = [  # gradients are compiled, and the rest of a step is not
    Setting(cautious_decay=4.0),
    Setting(independent_decay=0.05),
    Setting(corrected_decay=4.0, decay_start=0.3),
    Setting(cautious_decay=4.0, decay_start=0.5, decay_schedule="linear"),
    Setting(l1=0.1, l1_start=0.6, weight_decay=2.0, decay_start=0.6, cutmix=1.0),
    Setting(),
]


AFTERWARDS = [  # what follows the optimizer's step is part of it
    Setting(l1=1.0),
    Setting(l1=0.2, l1_start=0.4, ema=0.7, weight_decay=2.0),
    Setting(ema=0.3, cutmix=1.0),
    Setting(ema=0.9, l1=0.05, random_shift=1, horizontal_flip=0.0),
    Setting(),
]
both_optimizers = pytest.mark.parametrize(
    ("ours", "theirs"),
    [(SGD(momentum=0.9), lambda groups, lr: torch.optim.SGD(groups, lr, 0.9)), (AdamW(), torch.optim.AdamW)],
    ids=["sgd", "adamw"],
)


@pytest.mark.parametrize("settings", [QUEUED, AROUND], ids=["queued", "around"])
@both_optimizers
def test_new_decays_late_starts_and_cutmix_are_hand_written_loops_when_compiled(ours, theirs, settings):
    population = Population(network, settings, SEEDS)
    how = {"epochs": EPOCHS, "batch_size": SIZE, "lr": LR, "schedule": "linear", "optimizer": ours}
    population.fit(rows(), precision="float64", compile=True, evaluate_every=None, **how)
    assert population.explain().compiled == "yes, a member on each core"
    states = []
    for setting in settings:
        for seed in SEEDS:
            mine, other = population.member(setting, seed).state_dict(), by_hand(setting, seed, theirs).state_dict()
            for name, t in other.items():
                torch.testing.assert_close(mine[name], t, rtol=1e-9, atol=1e-12, msg=lambda m, s=setting: f"{s}: {m}")
        states.append(mine["1.weight"])
    assert all(not torch.equal(a, b) for i, a in enumerate(states) for b in states[:i])


@both_optimizers
@pytest.mark.parametrize("model", [without_statistics, network])
def test_l1_and_averages_are_hand_written_loops_when_compiled(model, ours, theirs, monkeypatch):
    how = {"epochs": EPOCHS, "batch_size": SIZE, "lr": LR, "schedule": "linear", "optimizer": ours}
    how |= {"precision": "float64", "compile": True}
    population = Population(model, AFTERWARDS, SEEDS)
    population.prepare(rows(), **how)

    def not_one(*_):
        raise AssertionError("a step's gradients were found apart from the rest of it")

    monkeypatch.setattr(Fused, "gradients", not_one)
    population.fit(rows(), evaluate_every=None, **how)
    for setting in AFTERWARDS:
        for seed in SEEDS:
            mine = population.member(setting, seed).state_dict()
            other = by_hand(setting, seed, theirs, model).state_dict()
            for name, t in other.items():
                if t.is_floating_point():
                    torch.testing.assert_close(
                        mine[name], t, rtol=1e-9, atol=1e-12, msg=lambda m, s=setting: f"{s}: {m}"
                    )
    assert (population.member(Setting(l1=1.0), 3).state_dict()["1.weight"] == 0).any()
