"""A population that trains a few steps at a time, whose settings change between two of them."""

import pytest
import torch
import torch.nn.functional as F

from dampen.engine import Population, Setting, Stepper, batches
from dampen.engine._rng import batch_order, dropout_uniforms
from dampen.errors import InputError
from dampen.models import mlp

N, B, SEED = 23, 8, 5
GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(N, 2, generator=GENERATOR, dtype=torch.float64)
Y = (X[:, 0] * X[:, 1] > 0).long()
BEFORE = {"weight_decay": 0.1, "dropout": 0.2, "l1": 0.0, "label_smoothing": 0.0, "lr": 0.01}
AFTER = {"weight_decay": 0.0, "dropout": 0.6, "l1": 0.02, "label_smoothing": 0.2, "lr": 0.03}
CHANGED_AT, STEPS = 7, 20  # in the middle of an epoch of three steps


def population(*settings):
    return Population(mlp(6, 5), [Setting(**s) for s in settings], seeds=[SEED, SEED + 1])


@pytest.mark.parametrize("kind", ["adamw", "sgd", "adam"])
def test_a_rate_that_is_replaced_acts_from_the_next_step_on_as_in_a_plain_loop(kind):
    members = population(BEFORE, {"lr": 0.02})
    stepper = Stepper(members, (X, Y), batch_size=B, precision="float64", optimizer=kind, device="cpu")
    network = members.initial_model(SEED).double()
    decays = [p for p in network.parameters() if p.ndim > 1]
    rest = [p for p in network.parameters() if p.ndim == 1]
    optimizer = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}[kind](
        [{"params": decays}, {"params": rest, "weight_decay": 0.0}], lr=BEFORE["lr"]
    )
    linears = [m for m in network if isinstance(m, torch.nn.Linear)]
    spans = batches(N, B)
    for step in range(STEPS):
        rates = BEFORE if step < CHANGED_AT else AFTER
        epoch, batch = divmod(step, len(spans))
        rows = batch_order(N, SEED, epoch + 1)[spans[batch]]
        [first, second] = dropout_uniforms([SEED], step, [(len(rows), 6), (len(rows), 5)])
        optimizer.param_groups[0]["weight_decay"] = rates["weight_decay"]
        for group in optimizer.param_groups:
            group["lr"] = rates["lr"]
        h = X[rows]
        for linear, uniforms in zip(linears, (first[0], second[0]), strict=False):
            kept = (uniforms >= rates["dropout"]).double()
            h = F.relu(linear(h)) * kept / (1 - rates["dropout"])
        loss = F.cross_entropy(linears[-1](h), Y[rows], label_smoothing=rates["label_smoothing"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for p in decays:
                p.copy_(F.softshrink(p, rates["lr"] * rates["l1"]))

    stepper.advance(CHANGED_AT)
    stepper.replace([Setting(**AFTER), Setting(lr=0.02)])
    stepper.advance(STEPS - CHANGED_AT)
    mine = members.state()
    for name, p in network.named_parameters():
        torch.testing.assert_close(mine[name][0, 0], p.data, rtol=1e-9, atol=1e-12)


def test_a_member_whose_rates_stay_trains_as_if_nothing_had_been_replaced():
    still = {"weight_decay": 0.3, "dropout": 0.1}
    members, alone = population(BEFORE, still), population({"lr": 0.02}, still)
    stepper = Stepper(members, (X, Y), batch_size=B, precision="float64")
    stepper.advance(4)
    stepper.replace([Setting(**AFTER), Setting(**still)])
    stepper.advance(5)
    alone.fit((X, Y), batch_size=B, precision="float64", epochs=3)
    for name, mine in members.state().items():
        torch.testing.assert_close(mine[:, 1], alone.state()[name][:, 1], rtol=1e-9, atol=1e-12)
    assert stepper.step == 9
    assert stepper.epoch == 3


def test_the_units_that_are_shown_as_kept_are_those_that_the_next_step_keeps():
    members = population(BEFORE)
    stepper = Stepper(members, (X, Y), batch_size=B, device="cpu")
    stepper.advance(4)
    [first, second] = stepper.kept(Setting(**BEFORE), SEED)
    rows = batches(N, B)[1]
    drawn = dropout_uniforms([SEED], 4, [(rows.stop - rows.start, 6), (rows.stop - rows.start, 5)])
    assert torch.equal(first, drawn[0][0] >= 0.2)
    assert torch.equal(second, drawn[1][0] >= 0.2)


@pytest.mark.parametrize("knob", ["l2_sp", "ema"])
def test_a_knob_that_counts_from_the_first_step_cannot_be_turned_later(knob):
    stepper = Stepper(population({}), (X, Y), batch_size=B)
    stepper.replace([Setting(**{knob: 0.5})])  # nothing has been trained yet
    stepper.advance()
    stepper = Stepper(population({}), (X, Y), batch_size=B)
    stepper.advance()
    with pytest.raises(InputError, match=f"{knob} must be turned from the first step on"):
        stepper.replace([Setting(**{knob: 0.5})])


def test_as_many_settings_are_needed_as_there_are():
    stepper = Stepper(population({}), (X, Y), batch_size=B)
    with pytest.raises(InputError, match="2 settings can't replace 1"):
        stepper.replace([Setting(), Setting(dropout=0.1)])


def test_members_that_begin_to_drop_do_so_whatever_is_beside_them():
    def of(before, after):
        members = Population(mlp(8, 5, dropout=0.0), [Setting(dropout=p) for p in before], [0, 2, 5])
        stepper = Stepper(members, (X, Y), batch_size=B, precision="float64", device="cpu", epochs=6)
        stepper.advance(5)
        stepper.replace([Setting(dropout=p) for p in after])
        stepper.advance(8)
        return [t for seed in (0, 2, 5) for t in members.member(Setting(dropout=0.5), seed).state_dict().values()]

    for a, b in zip(of([0.0], [0.5]), of([0.0, 0.9], [0.5, 0.9]), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)
