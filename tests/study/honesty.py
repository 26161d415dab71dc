"""Small studies on data whose truth can be computed: how often is what the verdict says not so?

The truth is the mean loss of a training over many training sets and seeds drawn anew, on fresh rows. Run as a program
with a kind of data and how many studies to run, from which seed on; prints counts as JSON.

- `lr`: many rows for few weights: only the learning rate and the length matter.
- `coins`: labels that no input knows.
- `linear`: a linear truth with little noise.
- `decay`: fewer rows than inputs, so that initial weights stay where no row reaches unless they decay.
- `classes`: the same with two classes that overlap: decay tells them apart better.
- `sure`: the same with classes far apart: decay makes networks less sure, and a temperature does as much.
"""

import json
import sys

import torch
from torch import nn

import dampen
from dampen import Data, LogUniform, Population, Uniform
from dampen.metrics import CALIBRATED, find
from dampen.study import _tune

KINDS = {  # rows, inputs, batch, epochs
    "lr": (240, 6, 16, 16),
    "coins": (120, 10, 16, 16),
    "linear": (120, 6, 16, 32),
    "decay": (300, 300, 16, 32),
    "classes": (1000, 1500, 50, 16),
    "sure": (1000, 1000, 50, 16),
}
WIDE = ("decay", "classes", "sure")
OF_CLASSES = ("coins", "classes", "sure")
SIZES = {"n_settings": 16, "n_seeds": 3, "confirmed": 2, "n_confirm_seeds": 10}
TRUE_SETS, TRUE_ROWS = 100, 4000
MARGINS = {"decay": 0.35}  # half the true gain, as a share of the loss; elsewhere the default


def sample(kind, n, seed):
    """Return inputs and targets; the truth is the same for every seed."""
    generator = torch.Generator().manual_seed(seed)
    d = KINDS[kind][1]
    x, noise = torch.randn(n, d, generator=generator), torch.randn(n, generator=generator)
    signal = x[:, :6] @ torch.linspace(-1, 1, 6)
    if kind in OF_CLASSES:
        logits = {"coins": 0.0, "classes": signal, "sure": 4 * signal}[kind]
        return x, (torch.special.ndtr(noise).logit() + logits > 0).long()
    if kind == "lr":
        return x, signal + 1.0 * noise
    return x, signal + (0.1 if kind == "linear" else 0.3) * noise


def wide(inputs, outputs, times=1.5):
    """Return a linear model with large initial weights."""
    layer = nn.Linear(inputs, outputs)
    layer.weight.data.mul_(times)
    return layer


def wider(inputs, outputs):
    """Return one whose initial weights hide what it learns, whatever its temperature."""
    return wide(inputs, outputs, times=6)


def model(kind):
    """Return a network with dropout where there are hidden units."""
    if kind in WIDE:
        return wider if kind == "classes" else wide
    return dampen.mlp(4 if kind == "lr" else 16, dropout=0.1)


def study(kind, seed):
    """Run a study, and return it with all that was trained for its verdict."""
    n, _, batch_size, epochs = KINDS[kind]
    x, y = sample(kind, n, seed)
    classes = ("heads", "tails") if kind in OF_CLASSES else None
    task = "regression" if classes is None else "classification"
    data = Data(name=kind, task=task, features=x, targets=y, train_rows=torch.arange(n), classes=classes)
    space = {"weight_decay": LogUniform(1e-2, 30.0, zero=0.1), "lr": LogUniform(1e-3, 0.1)}
    if kind not in WIDE:
        space["dropout"] = Uniform(0.0, 0.7)
    kept = []
    real = _tune.finish
    _tune.finish = lambda runner, confirmed, ranked: kept.append(confirmed) or real(runner, confirmed, ranked)
    try:
        how = {"batch_size": batch_size, "epochs": epochs, "margin": MARGINS.get(kind), "seed": 1000 * seed}
        found = dampen.tune(model(kind), data, space, **how, **SIZES)
    finally:
        _tune.finish = real
    return found, kept[0]


def true_costs(kind, found, trainings):
    """Return the mean loss of each training over fresh training sets as large as a fold leaves, on fresh rows.

    Of classes also by the nll under a temperature of each network's own.
    """
    n, _, batch_size, _ = KINDS[kind]
    task, scale = found.plan.data.task, found.plan.target_scale[1]

    def rows(n, seed):
        x, y = sample(kind, n, seed)
        return x, y / scale if task == "regression" else y

    x, y = rows(TRUE_ROWS, 10**7)
    sets = [rows(n * 4 // 5, 2 * 10**7 + s) for s in range(TRUE_SETS)]
    metrics = [find(name, task) for name in (("mse",) if task == "regression" else ("nll", CALIBRATED))]
    costs = {metric: {} for metric in metrics}
    for length in {(t.epochs, t.stopped_at) for t in trainings}:
        alike = [t for t in trainings if (t.epochs, t.stopped_at) == length]
        population = Population(model(kind), [t.setting for t in alike], range(10**6, 10**6 + TRUE_SETS))
        options = {"epochs": length[0], "until": length[1], "batch_size": batch_size, "schedule": "cosine"}
        population.fit(sets, evaluate_every=None, **options)
        outputs = population.outputs((x, y))  # of each training set [M, N, C]
        for metric in metrics:
            losses = torch.stack([metric.cost(each, y).double().mean(-1) for each in outputs]).mean(0)
            costs[metric] |= {t: metric.in_unit(c, scale) for t, c in zip(alike, losses.tolist(), strict=True)}
    return list(costs.values())


def judged(kind, found, confirmed):
    """Return what the verdict got right: for each question whether it was asked, and whether the answer held."""
    verdict = found.verdict
    answers = {"helps": [verdict.helps is True], "learnt": [bool(verdict.learnt)]}
    if kind == "coins":
        return answers
    one, off, own = confirmed.recommended, confirmed.off, confirmed.own
    steps = {"lr": (confirmed.usual, confirmed.usual_length), "length": (confirmed.usual_length, own)}
    pairs = steps | {"regularisation": (own, one), "together": (off, one)}
    pairs |= {knob: (training, one) for knob, training in confirmed.removed.items()}
    others = [t for name, t in confirmed.references.items() if name.startswith("none")]
    calibrated = [confirmed.once_calibrated] if confirmed.once_calibrated else []
    wanted = {one, off, confirmed.chosen, verdict.mildest, *others, *(t for pair in pairs.values() for t in pair)}
    truth, *tempered = true_costs(kind, found, sorted(wanted.union(calibrated), key=repr))
    gain = min(truth[t] for t in {*others, off}) - truth[one]
    answers["true gain"] = [gain / truth[one]]
    if gain >= 2 * verdict.margin:
        answers["found at twice the margin"] = [verdict.helps is True]
    answers["false alarm"] = [bool(verdict.helps is True and gain <= 0)]
    if verdict.gain is not None:
        against = dict(confirmed.references, off=off)[verdict.gain.against]
        low, high = verdict.gain.part.interval
        answers["covered"] = [bool(low <= truth[against] - truth[one] <= high)]
        if verdict.gain.calibrated is not None:
            left = min(tempered[0][t] for t in {*others, off, *calibrated}) - tempered[0][one]
            answers |= judged_once_calibrated(verdict.gain.calibrated, left, verdict.margin)
    answers["signs"] = [
        bool((part.estimate > 0) == (truth[pairs[name][0]] > truth[pairs[name][1]]))
        for name, part in verdict.attribution.items()
        if part.settled
    ]
    answers["signs with temperatures"] = [
        bool((part.estimate > 0) == (tempered[0][pairs[name][0]] > tempered[0][pairs[name][1]]))
        for name, part in verdict.calibrated_attribution.items()
        if part.settled
    ]
    if confirmed.dropped:
        answers["worse for what was left out"] = [bool(truth[one] - truth[confirmed.chosen] > verdict.margin)]
    if verdict.mildest != one:
        answers["equivalent"] = [bool(abs(truth[verdict.mildest] - truth[one]) <= verdict.margin)]
    return answers


def judged_once_calibrated(told, gain, margin):
    """Return the same of what is told of the gain with a temperature for each network, whose truth is `gain`."""
    low, high = told.part.interval
    answers = {"covered with temperatures": [low <= gain <= high], "true gain with temperatures": [gain]}
    if told.worth is not None:
        question = "better with temperatures, too" if told.worth else "a temperature does as much"
        answers[question] = [gain > 0 if told.worth else gain < margin]
    return answers


def main(kind, n, start):
    """Run studies and print, for each question, how many answers there were and their mean."""
    torch.set_num_threads(1)
    answers = {}
    for seed in range(start, start + n):
        for question, found in judged(kind, *study(kind, seed)).items():
            answers.setdefault(question, []).extend(map(float, found))
    print(json.dumps({q: [len(a), sum(a) / max(1, len(a))] for q, a in answers.items()}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0)
