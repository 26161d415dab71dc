"""Diagnosing leaves the model, its batch and every random generator exactly as they were."""

import copy
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

import dampen


class Busy(nn.Module):
    """Changes everything that a forward pass can change."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(10, 6, max_norm=0.5)  # shrinks its own weights in place
        self.norm = nn.BatchNorm1d(6)
        self.drop = nn.Dropout(0.5)
        self.late = nn.utils.parametrizations.spectral_norm(nn.Linear(6, 6))  # moves its buffers
        self.parts = [nn.BatchNorm1d(6)]
        self.register_buffer("mean", torch.zeros(6))
        self.plain = torch.zeros(3)
        self.count, self.seen, self.best = 0, [], {"loss": 1.0}
        self.generator = torch.Generator().manual_seed(3)
        self.dice, self.numbers = random.Random(3), np.random.default_rng(3)
        self.fails = False

    def forward(self, x):
        h = self.late(self.parts[0](self.norm(self.table(x).mean(1))))
        self.mean = self.mean + 1
        self.plain += 1
        self.count += 1
        self.seen.append(self.count)
        self.best["loss"] = 0.0
        self.added = h
        self.norm.weight.requires_grad_(False)
        with torch.no_grad():
            self.late.bias.mul_(0.5)
        torch.rand((), generator=self.generator)
        self.dice.random(), self.numbers.random(), random.random(), np.random.rand(), torch.rand(())
        x.zero_()
        if self.fails:
            raise RuntimeError("no\nmore")
        return self.drop(h)


def state(model):
    generators = model.generator.get_state(), model.dice.getstate(), model.numbers.bit_generator.state
    return {
        "tensors": {name: t.clone() for name, t in [*model.state_dict().items(), ("plain", model.plain)]},
        "modes": {name: m.training for name, m in model.named_modules()} | {"parts": model.parts[0].training},
        "hidden": {name: t.clone() for name, t in model.parts[0].state_dict().items()},
        "plain": (model.count, list(model.seen), dict(model.best), sorted(vars(model))),
        "identities": [id(t) for t in [*model.parameters(), *model.buffers(), model.plain, model.seen, model.best]],
        "trained": {name: (p.requires_grad, p.grad) for name, p in model.named_parameters()},
        "hooks": [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()],
        "generators": generators,
        "global": (torch.get_rng_state(), random.getstate(), np.random.get_state()),
    }


def same(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


@pytest.mark.parametrize("fails", [False, True], ids=["after a report", "after an exception"])
@pytest.mark.parametrize("mode", ["training", "evaluation", "mixed"])
def test_everything_is_as_it_was(fails, mode):
    torch.manual_seed(5)
    model = Busy().train(mode != "evaluation")
    model.norm.train(mode == "training")
    model.fails = fails
    batch = torch.arange(20).reshape(4, 5) % 10
    before, given = state(model), copy.deepcopy(batch)
    if fails:
        with pytest.raises(dampen.InputError, match=r"the model fails on a batch of \[4, 5\] int64: no$"):
            dampen.diagnose(model, batch=batch)
    else:
        dampen.diagnose(model, torch.optim.SGD(model.parameters(), lr=0.1), batch)
    after = state(model)
    assert [part for part in before if not same(before[part], after[part])] == []
    assert torch.equal(batch, given)


def test_training_goes_on_as_if_nothing_had_been_diagnosed():
    """Two trainings from the same seed, one of them interrupted by a diagnosis at each step, end alike."""
    ends = []
    for looks in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 1))
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
        for _ in range(5):
            x = torch.randn(4, 6)
            if looks:
                dampen.diagnose(model, optimizer, x, steps=5)
            optimizer.zero_grad()
            model(x).square().mean().backward()
            if looks:
                dampen.diagnose(model, optimizer, x, steps=5)
            optimizer.step()
        ends.append(model.state_dict())
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


@pytest.mark.parametrize("whole", [True, False], ids=["as a whole", "in part"])
def test_what_is_compiled_is_looked_at_as_it_was_written(whole):
    model = nn.Sequential(nn.Sequential(nn.Linear(6, 3), nn.Dropout(0.5)))
    if whole:
        model = torch.compile(model, backend="eager")
    else:
        model[0].compile(backend="eager")
    report = dampen.diagnose(model, torch.optim.AdamW(model.parameters()), torch.ones(4, 6))
    found = {finding.check: finding.where for finding in report.findings}
    assert found == {"dropout-on-output": "0.1", "decayed-bias": "0.0.bias"}


def test_initial_weights_that_another_thread_draws_are_those_it_draws_alone():
    diagnosing, half_way = threading.Event(), threading.Event()

    class Slow(nn.Module):
        def forward(self, x):
            if not diagnosing.is_set():
                diagnosing.set()
                half_way.wait(0.3)
            return x

    def make():
        first = nn.Linear(4, 4)
        half_way.set()
        drawn.wait(0.3)  # for the diagnosis to put the generators back
        return nn.Sequential(first, nn.Linear(4, 2))

    def weights():
        return dampen.Population(make, [dampen.Setting()], seeds=[0]).initial_model(0)[1].weight

    drawn = threading.Event()
    drawn.set()
    alone = weights()
    half_way.clear(), drawn.clear()
    with ThreadPoolExecutor(1) as threads:
        report = threads.submit(dampen.diagnose, Slow(), batch=torch.zeros(2, 4))
        assert diagnosing.wait(5)
        report.add_done_callback(lambda _: drawn.set())
        beside = weights()
        report.result()
    assert torch.equal(beside, alone)
