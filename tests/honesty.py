"""Small studies on data whose truth can be computed: how often do the verdict's intervals miss it?

The truth is the mean loss on 20,000 fresh rows: with folds over many training sets drawn anew, with a held-out part
over many seeds on the same training rows. Run as a program with a kind of data and a scheme; prints, as JSON, how many
of the studies miss the true difference to each reference.
"""

import json
import sys

import torch
from torch import nn

import dampen
from dampen import Data, Population, Setting, tune
from dampen.study import _plan

DECAYS = (0.0, 0.1, 1.0, 3.0, 10.0)
SETTINGS = [Setting(weight_decay=d, lr=0.02) for d in (*DECAYS, 0.01)]  # 0.01 is the framework's default
OPTIONS = {"epochs": 12, "batch_size": 16, "lr": 0.02, "schedule": "constant"}
REPETITIONS = 100


def sample(kind, n, seed):
    generator = torch.Generator().manual_seed(seed)
    x, noise = torch.randn(n, 20, generator=generator), torch.randn(n, generator=generator)
    signal = x @ torch.linspace(-1, 1, 20)
    return x, {"helps": 0.15 * signal + 1.5 * noise, "hurts": signal + 0.1 * noise, "noise": noise}[kind]


def small(inputs, outputs):
    return nn.Linear(inputs, outputs)


def model(kind):
    """Large initial weights need decay; small ones that must grow suffer from it."""
    return dampen.linear() if kind == "helps" else small


def study(kind, n, seed, validation):
    x, y = sample(kind, n, seed)
    rows = torch.arange(n)
    data = Data(name=kind, task="regression", features=x, targets=y, train_rows=rows, test_rows=rows[:0])
    space = {"weight_decay": list(DECAYS), "lr": 0.02}
    how = {"search": "grid", "settings": 5, "seeds": 2, "confirmed": 2, "validation": validation, "seed": seed}
    return tune(model(kind), data, space, **how, **OPTIONS)


def true_losses(kind, sets, seeds, scales):
    """Return the mean loss of each setting on fresh rows."""
    x, y = sample(kind, 20_000, 10**6)
    population = Population(model(kind), SETTINGS, seeds)
    population.fit(sets, optimizer="adamw", **OPTIONS)
    outputs = [
        o.squeeze(-1) * scale + mean for o, (mean, scale) in zip(population.outputs((x, y)), scales, strict=True)
    ]
    return torch.stack([(o - y).square().mean(1) for o in outputs]).mean(0)


def over_training_sets(kind, n):
    sets, scales = [], []
    for s in range(400):
        x, y = sample(kind, n, 2 * 10**6 + s)
        scales.append((y.mean().item(), y.std(correction=0).item()))
        unit = (y - scales[-1][0]) / scales[-1][1]
        sets.append((x[: n * 4 // 5], unit[: n * 4 // 5]))
    return true_losses(kind, sets, range(400), scales)


def over_seeds(kind, found):
    data = _plan.split(found.plan, [0], again=True).sets
    return true_losses(kind, (data.train.features, data.train.targets), range(40), [found.plan.target_scale] * 40)


def missed(found, truth):
    """Return the references whose interval does not hold the true difference."""
    best = truth[SETTINGS.index(found.verdict.recommended)]
    return [
        name
        for name, other in found.verdict.references.items()
        if not other.interval[0] <= best - truth[SETTINGS.index(other.setting)] <= other.interval[1]
    ]


def main(kind, scheme):
    torch.set_num_threads(1)
    truth = over_training_sets(kind, 60) if scheme == "folds" else None
    misses = []
    for seed in range(REPETITIONS):
        found = study(kind, 60 if scheme == "folds" else 600, seed, scheme)
        misses += missed(found, over_seeds(kind, found) if truth is None else truth)
    print(json.dumps({name: misses.count(name) for name in ("none", "default")}))


if __name__ == "__main__":
    main(*sys.argv[1:])
