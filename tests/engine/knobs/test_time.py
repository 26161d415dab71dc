"""Knobs on time: averages of the weights against torch's own, early stopping for each setting."""

import copy
import math
from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn
from torch.utils._python_dispatch import TorchDispatchMode

from dampen import Epoch, InputError, Population, Setting, solo
from dampen.engine.execution._active_knobs import ActiveKnobs
from dampen.engine.knobs import KNOBS
from dampen.engine.optim._averaging import Average


def rows(n=48, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 6, generator=generator, dtype=torch.float64), torch.randint(3, (n,), generator=generator)


def network():
    return nn.Sequential(nn.Linear(6, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))


def still():
    return nn.Sequential(nn.Linear(6, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


def distance(network, other):
    mine, theirs = (torch.cat([t.double().flatten() for t in n.state_dict().values()]) for n in (network, other))
    return ((mine - theirs).norm() / theirs.norm()).item()


HOW = {"epochs": 6, "batch_size": 48, "lr": 0.1, "optimizer": "sgd", "precision": "float64"}


def by_hand(averaged, each):
    """Six steps on all rows at once by a plain loop; `each` is called with what torch averages after each one."""
    torch.manual_seed(0)
    model = still()
    model = model.double()
    averaged = averaged(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(6):
        optimizer.zero_grad()
        F.cross_entropy(model(rows()[0]), rows()[1]).backward()
        optimizer.step()
        each(averaged, model, step)
    return averaged.module


def test_an_exponential_average_is_torchs():
    found = Population(still, [Setting(ema=0.7), Setting()], [0])
    found.fit(rows(), **HOW)
    theirs = by_hand(
        lambda model: AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.7), use_buffers=True),
        lambda averaged, model, step: averaged.update_parameters(model),
    )
    mine = found.member(Setting(ema=0.7), 0)
    for name, t in theirs.state_dict().items():
        if t.is_floating_point():
            torch.testing.assert_close(mine.state_dict()[name], t, rtol=1e-10, atol=1e-14)
    assert distance(found.member(Setting(), 0), mine) > 0.01


def test_an_average_of_the_last_epochs_is_torchs_with_statistics_found_anew():
    found = Population(still, [Setting(swa=0.5), Setting(swa=1)], [0])
    found.fit(rows(), **HOW)
    theirs = by_hand(AveragedModel, lambda averaged, model, step: step >= 3 and averaged.update_parameters(model))
    update_bn([rows()[0]], theirs)
    mine = found.member(Setting(swa=0.5), 0).state_dict()
    for name, t in theirs.state_dict().items():
        if t.is_floating_point():
            torch.testing.assert_close(mine[name], t, rtol=1e-10, atol=1e-14)
    assert distance(found.member(Setting(swa=1), 0), theirs) > 1e-3


AVERAGING = [Setting(ema=0.8, dropout=0.4), Setting(swa=0.25), Setting(swa=0, l2_sp=0.3), Setting(weight_decay=0.1)]
BATCHES = {**HOW, "batch_size": 9, "optimizer": "adamw", "lr": 0.02}


class Recurrent(nn.Module):
    """A network that can't be fused, with running statistics of its own kind: the mean over all batches."""

    def __init__(self):
        super().__init__()
        self.gru, self.norm, self.head = (
            nn.GRU(2, 4, 2, dropout=0.1, batch_first=True),
            nn.BatchNorm1d(4, momentum=None),
            nn.Linear(4, 3),
        )

    def forward(self, x):
        return self.head(self.norm(self.gru(x.unflatten(1, (3, 2)))[0][:, -1]))


@pytest.mark.filterwarnings("ignore::dampen.NotFusedWarning")
@pytest.mark.parametrize(("model", "chunk"), [(network, None), (network, 3), (Recurrent, None)])
def test_averaging_members_train_as_they_do_alone(model, chunk):
    how = {**BATCHES, "epochs": 4}  # of which an average of the last quarter has one
    found = Population(model, AVERAGING, [3, 9], chunk=chunk)
    found.fit(rows(), **how)
    for setting in AVERAGING:
        assert distance(found.member(setting, 9), solo(model, setting, 9, rows(), **how).network) < 1e-9


def test_what_is_measured_is_the_average():
    found = Population(network, AVERAGING, [3, 9])
    history = found.fit({"train": rows(), "validation": rows(20, 1)}, **BATCHES)
    evaluated, outputs, state = found.evaluate(rows(20, 1)), found.outputs(rows(20, 1)), found.state()
    for m, setting in enumerate(AVERAGING):
        for s, seed in enumerate((3, 9)):
            member = found.member(setting, seed)
            said = member(rows(20, 1)[0])
            loss = F.cross_entropy(said, rows(20, 1)[1]).item()
            assert evaluated["loss"][s, m] == pytest.approx(loss)
            assert history.final("validation_loss")[s, m] == pytest.approx(loss)
            torch.testing.assert_close(outputs[s][m], said.detach())
            norm = sum(p.square().sum().item() for p in (member[0].weight, member[4].weight)) ** 0.5
            assert history.final("weight_norm")[s, m] == pytest.approx(norm)
            for name, t in member.state_dict().items():
                assert torch.equal(state[name][s, m].cpu(), t)


def test_averages_survive_saving_and_keeping(tmp_path):
    whole = Population(network, AVERAGING, [0, 1])
    whole.fit(rows(), **BATCHES)
    part = Population(network, AVERAGING, [0, 1], chunk=2)
    part.fit(rows(), until=3, **BATCHES)
    part.save(tmp_path)
    part = Population.load(tmp_path, network)
    assert distance(part.member(AVERAGING[0], 1), Population.load(tmp_path, network).member(AVERAGING[0], 1)) == 0
    part.select(AVERAGING[:3])
    part.fit(rows(), until=4, **BATCHES)
    part.select(AVERAGING[:2])
    part.fit(rows(), **BATCHES)
    for setting in AVERAGING[:2]:
        assert distance(part.member(setting, 1), whole.member(setting, 1)) < 1e-9


def test_a_setting_takes_one_average():
    with pytest.raises(InputError, match="not both"):
        Setting(ema=0.9, swa=0.5)
    for wrong in ({"ema": 1}, {"ema": -0.1}, {"swa": 1.2}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            Setting(**wrong)


NOISE = {"train": (rows()[0], rows(seed=5)[1]), "validation": rows(30, 7)}
LONG = {"epochs": 30, "batch_size": 16, "lr": 0.05, "precision": "float64"}


def test_patience_of_a_setting_is_early_stopping():
    plain = Population(network, [Setting()], [0, 1])
    plain.fit(NOISE, early_stopping=3, **LONG)
    found = Population(network, [Setting(patience=3), Setting(patience=5), Setting()], [0, 1])
    history = found.fit(NOISE, **LONG)
    assert (history.stopped_at[:, 0] == plain.history.stopped_at[:, 0]).all()
    assert (history.stopped_at[:, 0] > 0).all()
    assert (history.stopped_at[:, 1] > history.stopped_at[:, 0]).all()
    assert (history.kept_epoch[:, 2] == 30).all()
    for seed in (0, 1):
        assert distance(found.member(Setting(patience=3), seed), plain.member(Setting(), seed)) < 1e-9
        assert distance(found.member(Setting(patience=5), seed), found.member(Setting(), seed)) > 1e-3
    lowest = np.nanmin(history.metrics["validation_loss"], axis=0)
    np.testing.assert_allclose(history.final("validation_loss")[:, :2], lowest[:, :2])
    np.testing.assert_allclose(found.evaluate(NOISE["validation"])["loss"], history.final("validation_loss"))


def test_the_best_epoch_of_an_average_is_restored_as_an_average():
    setting = Setting(patience=2, ema=0.5)
    found = Population(network, [setting, Setting(ema=0.5)], [0])
    history = found.fit(NOISE, **LONG)
    assert history.stopped_at[0, 0] > 0
    best = np.nanmin(history.metrics["validation_loss"][:, 0, 0])
    assert found.evaluate(NOISE["validation"])["loss"][0, 0] == pytest.approx(best)


def test_patience_needs_validation_rows():
    with pytest.raises(InputError, match="validation"):
        Population(network, [Setting(patience=2)], [0]).fit(rows(), epochs=2)
    for wrong in (0, 1.5, True, "long"):
        with pytest.raises(InputError, match="patience must be a whole number"):
            Setting(patience=wrong)


class Operations(TorchDispatchMode):
    """Counts every operation on tensors."""

    def __init__(self):
        super().__init__()
        self.seen = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen[func.name()] += 1
        return func(*args, **(kwargs or {}))


def test_knobs_that_are_off_add_no_operation():
    neutral = {name: knob.neutral for name, knob in KNOBS.items() if knob.acts is not None and name != "swa"}
    assert len(neutral) > 8
    counts = []
    for setting in (Setting(weight_decay=0.1, dropout=0.3), Setting(weight_decay=0.1, dropout=0.3, **neutral)):
        population = Population(network, [setting], [0])
        population.fit(rows(), until=1, **BATCHES)
        operations = Operations()
        with operations:
            population.fit(rows(), **BATCHES)
        counts.append(operations.seen)
    assert counts[0] == counts[1]
    assert sum(counts[0].values()) > 100


def test_a_copy_of_a_member_is_the_users_to_change():
    found = Population(network, [Setting(ema=0.5)], [0])
    found.fit(rows(), **HOW)
    member = found.member(Setting(ema=0.5), 0)
    before = copy.deepcopy(member)
    with torch.no_grad():
        member[0].weight.zero_()
    assert distance(found.member(Setting(ema=0.5), 0), before) == 0


def test_an_average_is_reported_after_each_epoch():
    losses = []
    found = Population(network, [Setting(ema=0.9)], [0])

    def note(event):
        if isinstance(event, Epoch):
            losses.append((event.metrics["validation_loss"][0, 0], found.evaluate(NOISE["validation"])["loss"][0, 0]))

    found.fit(NOISE, callback=note, **HOW)
    reported, measured = np.array(losses).T
    np.testing.assert_allclose(reported, measured)


@pytest.mark.parametrize("compile", [True, False])
def test_settings_that_are_replaced_before_the_first_step_have_averages_of_their_own(compile):
    how = {**BATCHES, "compile": compile}
    for before, after in (
        ([Setting(ema=0.3)], [Setting(ema=0.9)]),
        ([Setting(ema=0.3), Setting()], [Setting(), Setting(ema=0.3)]),
    ):
        replaced, fresh = Population(still, before, [0]), Population(still, after, [0])
        replaced.prepare(rows(), **how)
        replaced._replace(after)
        for population in (replaced, fresh):
            population.fit(rows(), **how)
        for name, t in fresh.state().items():
            assert torch.equal(replaced.state()[name], t)


def test_an_average_of_a_member_that_has_diverged_changes_no_more():
    state = [torch.ones(1, 2, 3)]
    average = Average(ActiveKnobs([Setting(ema=0.5)] * 2), state)
    state[0][0, 0], state[0][0, 1] = math.inf, 3.0
    average.update("step", state, 2, 10, torch.tensor([[True, False]]))
    torch.testing.assert_close(average.tensors[0], torch.tensor([[[1.0] * 3, [2.0] * 3]]))
