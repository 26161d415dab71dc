"""What `fit` can be asked for: optimizers, schedules, clipping, decay, stopping, rows of each seed, precision."""

import re
import signal

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from torch import nn
from torch.optim import lr_scheduler
from torch.utils.data import TensorDataset

from dampen import SGD, Adam, AdamW, ChunkDone, Epoch, InputError, Population, Schedule, Setting, mlp, solo

pytestmark = pytest.mark.usefixtures("without_shape_checks")  # the knobs' tests check them


SETTINGS = [Setting(weight_decay=0.2, dropout=0.3, lr=0.02), Setting(dropout=0.6), Setting(weight_decay=1.0)]


def named(value):
    return re.sub(r" at 0x\w+", "", str(value))  # the same in every process that collects the tests


def network():
    return mlp(8, dropout=0.2)(6, 3)


def rows(n=53, seed=0, classes=3):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 6, generator=generator), torch.randint(classes, (n,), generator=generator)


def fit(model=network, members=SETTINGS, seeds=(3, 9), data=None, **options):
    population = Population(model, members, seeds)
    options = {"precision": "float64", "epochs": 3, "batch_size": 8, "lr": 0.01, **options}
    return population, population.fit(rows() if data is None else data, **options)


def distance(network, other):
    mine, theirs = (torch.cat([t.double().flatten() for t in n.state_dict().values()]) for n in (network, other))
    return ((mine - theirs).norm() / theirs.norm()).item()


def same(population, other, members=SETTINGS, seeds=(3, 9)):
    """Whether two populations have the same members, bit for bit."""
    return all(
        torch.equal(a, b)
        for setting in members
        for seed in seeds
        for a, b in zip(
            population.member(setting, seed).state_dict().values(),
            other.member(setting, seed).state_dict().values(),
            strict=True,
        )
    )


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": SGD(momentum=0.9)},
        {"optimizer": SGD(momentum=0.8, nesterov=True)},
        {"optimizer": Adam(betas=(0.8, 0.9), eps=1e-6)},
        {"optimizer": AdamW(betas=(0.5, 0.99))},
        {"schedule": "cosine"},
        {"schedule": Schedule("linear", warmup=0.2), "optimizer": "sgd"},
        {"schedule": Schedule("linear", cycles=2)},
        {"schedule": Schedule("cosine", warmup=0.5), "optimizer": "adam"},
        {"schedule": "one-cycle", "optimizer": "sgd"},
        {"clip_grad_norm": 0.1, "optimizer": "sgd"},
        {"clip_grad_norm": 0.05, "optimizer": "adamw"},
        {"decay_filter": "all"},
        {"decay_filter": lambda name, value: name.endswith("bias")},
        {"loss": lambda outputs, targets: F.cross_entropy(outputs, targets, reduction="none", label_smoothing=0.1)},
    ],
    ids=named,
)
def test_every_option_trains_as_torch_does(options):
    population, history = fit(epochs=4, **options)
    for m, setting in enumerate(SETTINGS):
        alone = solo(network, setting, 9, rows(), precision="float64", epochs=4, batch_size=8, lr=0.01, **options)
        assert distance(population.member(setting, 9), alone.network) < 1e-9
        np.testing.assert_allclose(history.metrics["train_loss"][:, 1, m], alone.train_loss, rtol=1e-9)


@pytest.mark.parametrize(("kind", "lrs"), [("few rates", 2), ("many rates", 40)])
def test_adam_is_torchs_whether_members_share_their_rates_or_not(kind, lrs):
    members = [Setting(lr=0.01 * (1 + k % lrs), weight_decay=0.1 * k) for k in range(40)]
    population, _ = fit(members=members, optimizer="adamw", epochs=4)
    for setting in members[::13]:
        alone = solo(network, setting, 3, rows(), precision="float64", epochs=4, batch_size=8)
        assert distance(population.member(setting, 3), alone.network) < 1e-9


@pytest.mark.parametrize(
    ("schedule", "torchs"),
    [
        ("constant", lambda o, n: lr_scheduler.ConstantLR(o, factor=1.0)),
        ("cosine", lr_scheduler.CosineAnnealingLR),
        ("linear", lambda o, n: lr_scheduler.LinearLR(o, 1.0, 0.0, n)),
        ("one-cycle", lambda o, n: lr_scheduler.OneCycleLR(o, 0.7, n, cycle_momentum=False)),
        (
            Schedule("one-cycle", 0.5),
            lambda o, n: lr_scheduler.OneCycleLR(o, 0.7, n, pct_start=0.5, cycle_momentum=False),
        ),
        (
            Schedule("cosine", 0.25),
            lambda o, n: lr_scheduler.SequentialLR(
                o,
                [
                    lr_scheduler.LinearLR(o, 4 / n, 1.0, n // 4 - 1),
                    lr_scheduler.CosineAnnealingLR(o, n - n // 4),
                ],
                [n // 4],
            ),
        ),
        (Schedule("cosine", cycles=3), lambda o, n: lr_scheduler.CosineAnnealingWarmRestarts(o, -(-n // 3))),
        (
            Schedule("cosine", 0.25, cycles=3),
            lambda o, n: lr_scheduler.SequentialLR(
                o,
                [
                    lr_scheduler.LinearLR(o, 4 / n, 1.0, n // 4 - 1),
                    lr_scheduler.CosineAnnealingWarmRestarts(o, n // 4),
                ],
                [n // 4],
            ),
        ),
    ],
    ids=named,
)
@pytest.mark.filterwarnings("ignore:.*epoch parameter")
def test_schedules_are_torchs(schedule, torchs):
    steps = 40
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.7)
    scheduler = torchs(optimizer, steps)
    ours = schedule if isinstance(schedule, Schedule) else Schedule(schedule)
    for step in range(steps):
        assert 0.7 * ours.factor(step, steps) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9, abs=1e-12)
        optimizer.step()
        scheduler.step()


def test_networks_at_the_ends_of_cycles_are_those_of_a_loop_with_torchs_restarts():
    x, y = rows()
    setting = Setting(weight_decay=0.3, dropout=0.0)
    population = Population(network, [Setting(), setting], [3])
    alone = population.initial_model(3).double()
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in alone.parameters() if p.ndim > 1], "weight_decay": 0.3},
            {"params": [p for p in alone.parameters() if p.ndim == 1], "weight_decay": 0.0},
        ],
        lr=0.05,
    )
    for layer in (module for module in alone.modules() if isinstance(module, nn.Dropout)):
        layer.p = 0.0
    scheduler, ends = lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 4), []
    for epoch in range(1, 13):
        optimizer.zero_grad()
        F.cross_entropy(alone(x.double()), y).backward()
        optimizer.step()
        scheduler.step()
        if epoch % 4 == 0:
            population.fit(
                (x, y),
                **{"epochs": 12, "until": epoch, "batch_size": len(y), "lr": 0.05, "precision": "float64"},
                schedule=Schedule("cosine", cycles=3),
                optimizer="adamw",
            )
            ends.append(population.member(setting, 3))
            assert distance(ends[-1], alone) < 1e-9
    assert distance(ends[0], ends[1]) > 0.01


def test_clipping_bounds_each_members_own_gradient():
    big = (1e3 * rows()[0], rows()[1])
    population, _ = fit(
        members=[Setting(lr=1.0), Setting(lr=1e-9)],
        data=big,
        optimizer="sgd",
        clip_grad_norm=0.5,
        epochs=1,
        batch_size=99,
    )
    start = Population(network, [Setting()], [3]).member(Setting(), 3).double()
    moved = torch.cat(
        [
            (a - b).flatten()
            for a, b in zip(population.member(Setting(lr=1.0), 3).parameters(), start.parameters(), strict=True)
        ]
    )
    assert moved.norm().item() == pytest.approx(0.5, rel=1e-5)


def test_decay_leaves_biases_and_normalisation_alone_by_default():
    def model():
        return nn.Sequential(nn.Linear(6, 4), nn.LayerNorm(4), nn.Linear(4, 3))

    population, _ = fit(model, [Setting(weight_decay=0.5)])
    said = str(population.explain())
    assert "weight decay on 0.weight, 2.weight; not on 0.bias, 1.weight, 1.bias, 2.bias" in said
    everything, _ = fit(model, [Setting(weight_decay=0.5)], decay_filter="all")
    assert "not on nothing" in str(everything.explain())


@given(st.integers(1, 7), st.permutations(SETTINGS), st.permutations([3, 9, 4]), st.sampled_from(["sgd", "adamw"]))
@settings(max_examples=4)
def test_members_are_the_same_in_any_chunks_and_any_order(chunk, members, seeds, optimizer):
    whole, _ = fit(seeds=(3, 9, 4), optimizer=optimizer)
    population = Population(network, members[:2], seeds, chunk=chunk)
    population.fit(rows(), precision="float64", epochs=3, batch_size=8, lr=0.01, optimizer=optimizer)
    for setting in members[:2]:
        assert distance(population.member(setting, seeds[0]), whole.member(setting, seeds[0])) < 1e-9


def test_dropout_by_the_names_of_modules():
    def model():
        return nn.Sequential(
            nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.1)),
            nn.Linear(8, 8),
            nn.Dropout(0.2),
            nn.Linear(8, 3),
        )

    by_name, by_place = Setting(dropout={"0": 0.5}), Setting(dropout=(0.5, 0.2))
    population, _ = fit(model, [by_name, by_place])
    assert distance(population.member(by_name, 3), population.member(by_place, 3)) < 1e-12
    with pytest.raises(InputError, match=r"names the module '1', which drops nothing; those that do are '0\.2', '2'"):
        fit(model, [Setting(dropout={"1": 0.5})])


def test_seeds_with_folds_of_different_sizes_equal_separate_populations():
    folds = [rows(40), rows(53, seed=1), rows(40, seed=2)]
    population, history = fit(seeds=(0, 1, 2), data=[{"train": f, "validation": rows(11, seed=5)} for f in folds])
    for s, fold in enumerate(folds):
        alone = solo(network, SETTINGS[0], s, fold, precision="float64", epochs=3, batch_size=8, lr=0.01)
        assert distance(population.member(SETTINGS[0], s), alone.network) < 1e-9
    assert np.isfinite(history.metrics["validation_loss"]).all()


def test_a_dataset_a_mapping_and_tensors_are_the_same_rows():
    x, y = rows()
    first, _ = fit()
    for data in (TensorDataset(x, y), {"train": (x, y)}, (x.numpy(), y.numpy())):
        assert same(first, fit(data=data)[0])


def test_a_module_is_drawn_again_for_every_seed():
    population = Population(nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3)), [Setting()], [0, 1])
    population.fit(rows(), epochs=1)
    a, b = (population.member(Setting(), seed) for seed in (0, 1))
    assert isinstance(a, nn.Sequential)
    assert not a.training
    assert distance(a, b) > 0.1


def test_early_stopping_keeps_the_best_weights_and_stops_each_member_by_itself():
    data = {"train": rows(30), "validation": rows(200, seed=7)}
    members = [Setting(lr=0.1), Setting(lr=0.01)]
    population, history = fit(members=members, data=data, epochs=30, early_stopping=3, optimizer="adam")
    assert (history.stopped_at[:, 0] > 0).all()
    loss = history.metrics["validation_loss"]
    for s in range(2):
        best = int(np.nanargmin(loss[:, s, 0])) + 1
        assert history.kept_epoch[s, 0] == best
        assert history.stopped_at[s, 0] == best + 3
        outputs = population.member(members[0], (3, 9)[s])(data["validation"][0].double())
        assert F.cross_entropy(outputs, data["validation"][1]).item() == pytest.approx(loss[best - 1, s, 0], rel=1e-9)
    with pytest.raises(InputError, match="early stopping needs validation rows"):
        fit(early_stopping=2)


def test_the_callback_sees_every_chunk_and_epoch_and_may_stop():
    events = []

    def callback(event):
        events.append(event)
        return isinstance(event, Epoch) and event.epoch == 2

    population = Population(network, SETTINGS, [0, 1], chunk=3)
    history = population.fit(rows(), epochs=5, batch_size=8, callback=callback)
    assert [type(event) for event in events] == [ChunkDone, ChunkDone, Epoch] * 2
    assert (population.reached == 2).all()
    assert list(history.epochs) == [1, 2]
    chunk = events[0]
    assert (chunk.epoch, chunk.epochs, chunk.chunk, chunk.chunks) == (1, 5, 1, 2)
    assert chunk.settings == tuple(SETTINGS)
    assert chunk.metrics["train_loss"].shape == (1, 3)
    assert set(events[2].metrics) == {"train_loss", "train_accuracy", "weight_norm"}


@pytest.mark.parametrize("after", [1, 2, 3, 6])
def test_ctrl_c_leaves_whole_members_and_goes_on_exactly(after, request):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore Ctrl-C
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    options = {"precision": "float64", "epochs": 3, "batch_size": 8, "lr": 0.01}
    uninterrupted, population = (Population(network, SETTINGS, (3, 9), chunk=3) for _ in range(2))
    expected = uninterrupted.fit(rows(), **options)
    chunks = 0

    def press(event):
        nonlocal chunks
        chunks += isinstance(event, ChunkDone)
        if chunks == after:
            chunks += 1
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        population.fit(rows(), **options, callback=press)
    assert population.reached.tolist() == [[-(-after // 2)] * 3, [after // 2] * 3]
    assert all(p.isfinite().all() for p in population.member(SETTINGS[0], 3).parameters())
    history = population.history if after == 6 else population.fit(rows(), **options)
    assert same(population, uninterrupted)
    np.testing.assert_array_equal(history.metrics["train_loss"], expected.metrics["train_loss"])


def test_training_in_parts_is_training_at_once():
    whole, expected = fit(epochs=4, schedule="cosine")
    parts = Population(network, SETTINGS, (3, 9))
    for until in (1, 3, 4):
        history = parts.fit(
            rows(), precision="float64", epochs=4, until=until, batch_size=8, lr=0.01, schedule="cosine"
        )
    assert same(whole, parts)
    np.testing.assert_array_equal(history.metrics["train_loss"], expected.metrics["train_loss"])


def test_bfloat16_multiplies_coarsely_and_keeps_weights_in_float32():
    population, history = fit(precision="bfloat16", epochs=10)
    _, exact = fit(precision="float32", epochs=10)
    assert all(p.dtype == torch.float32 for p in population.member(SETTINGS[0], 3).parameters())
    difference = np.abs(history.final("train_loss") - exact.final("train_loss"))
    assert 0 < difference.max() < 0.05


def test_explain_says_what_runs_how_and_what_it_takes():
    population = Population(
        lambda: nn.Sequential(nn.Conv1d(1, 4, 3), nn.BatchNorm1d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)),
        SETTINGS,
        [0],
    )
    x, y = rows()
    said = str(population.explain((x.unsqueeze(1), y)))
    for line in (
        "4 (Linear)       fused fast",
        "1 (BatchNorm1d)  fused by vmap",
        "0 (Conv1d)",
        "3 members, 3 at a time",
    ):
        assert line in said
    with pytest.raises(InputError, match="explain needs data"):
        Population(network, SETTINGS, [0]).explain()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("precision", ["float64", "float32", "bfloat16"])
def test_a_gpu_trains_the_same_members(precision):
    options = {"precision": precision, "epochs": 3, "batch_size": 8, "lr": 0.01, "device": "cuda"}
    population = Population(network, SETTINGS, (3, 9))
    population.fit(rows(), **options)
    alone = solo(network, SETTINGS[0], 3, rows(), **options)
    assert distance(population.member(SETTINGS[0], 3), alone.network) < {"float64": 1e-9}.get(precision, 1e-2)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"optimizer": "rmsprop"}, "optimizer must be"),
        ({"loss": "hinge"}, "loss must be"),
        ({"epochs": 0}, "epochs must be"),
        ({"lr": 0.0}, "lr must be"),
        ({"clip_grad_norm": -1.0}, "clip_grad_norm must be"),
        ({"schedule": "step"}, "schedule must be one of"),
        ({"precision": "float16"}, "precision must be one of"),
        ({"decay_filter": "biases"}, "decay_filter must be"),
        ({"until": 9}, "until at most epochs"),
        ({"until": "2"}, "until must be a whole number of epochs, 1 or larger, got '2'"),
        ({"callback": 3}, "callback must be a function, got 3"),
        ({"callback": []}, "callback must be a function, got []"),
        ({"data": (torch.randn(5, 6), torch.zeros(4).long())}, "different numbers of rows: 5, 4"),
        ({"data": (torch.full((5, 6), float("nan")), torch.zeros(5).long())}, "finite"),
        ({"data": "digits"}, "rows must be"),
        ({"data": (torch.randn(5, 7), torch.zeros(5).long())}, "the network fails on a batch of shape [5, 7] in"),
        ({"data": [rows(), (torch.randn(5, 7), torch.zeros(5).long())]}, "seed"),
        ({"loss": lambda outputs, targets: outputs.mean()}, "one number for each of the"),
        ({"model": lambda: nn.LazyLinear(3)}, "has no shape yet"),
        ({"model": nn.Flatten}, "no parameter to train"),
        ({"model": lambda width: nn.Linear(6, width)}, "wants 'width'"),
        ({"model": lambda: 3}, "model must return a nn.Module"),
    ],
)
def test_a_mistake_is_told_in_one_line(options, said):
    with pytest.raises(InputError) as caught:
        fit(**options)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_population_that_cannot_fit_into_memory_is_refused(monkeypatch):
    monkeypatch.setattr("dampen.engine.execution._memory.free_memory", lambda device: 1000.0)
    with pytest.raises(InputError, match=r"6 members need .* train at most 1 at a time"):
        fit()


def test_a_module_that_cannot_be_drawn_again_is_refused():
    class Bare(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(6, 3))

    with pytest.raises(InputError, match=r"Bare .* has parameters and no reset_parameters"):
        Population(Bare(), [Setting()], [0])


class Recurrent(nn.Module):
    """A network that falls back to members one by one."""

    def __init__(self):
        super().__init__()
        self.recurrent, self.head = nn.GRU(1, 4, 2, dropout=0.1, batch_first=True), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.recurrent(x.unsqueeze(-1))[0][:, -1])


@pytest.mark.filterwarnings("ignore::dampen.NotFusedWarning")
@pytest.mark.parametrize("kind", [network, Recurrent])
@pytest.mark.parametrize("chunk", [1, 2, None])
def test_outputs_are_what_each_member_says(kind, chunk):
    data = rows()
    population = Population(kind, [Setting(), Setting(lr=0.1)] if kind is Recurrent else SETTINGS, [4, 5], chunk=chunk)
    population.fit(data, epochs=2, batch_size=16, precision="float64")
    others = rows(seed=7, n=31)
    for asked in ([data, others], [others, others]):
        answers = population.outputs(asked if asked[0] is data else others)
        for seed, (inputs, _), outputs in zip([4, 5], asked, answers, strict=True):
            members = [population.member(setting, seed).double()(inputs.double()) for setting in population.settings]
            torch.testing.assert_close(outputs, torch.stack(members), rtol=1e-9, atol=1e-12)


def test_no_rows_are_refused_not_evaluated_to_nothing():
    population = Population(network, SETTINGS, [4])
    population.fit(rows(), epochs=1)
    for ask in (population.evaluate, population.outputs):
        with pytest.raises(InputError, match="no rows to evaluate on"):
            ask(rows(n=0))
