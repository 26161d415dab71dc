"""What holds on a GPU beside what `make test-gpu` repeats there: the same numbers as on the CPU, and moves between."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dampen
from dampen import InputError, Population, Setting, mc_dropout, mlp
from dampen.engine.execution import _fused

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
    pytest.mark.usefixtures("without_shape_checks"),
]
DECAYS = [Setting(weight_decay=0.3, lr=0.02), Setting(weight_decay=1.0), Setting()]
DROPS = [Setting(weight_decay=0.1, dropout=0.3), Setting(dropout=0.6), Setting()]
SEEDS = (3, 9)
HOW = {"precision": "float64", "epochs": 12, "batch_size": 8, "lr": 0.01, "optimizer": "adamw"}


def rows(n=53, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 6, generator=generator), torch.randint(3, (n,), generator=generator)


def perceptron():
    return mlp(8)(6, 3)


def convolutional():
    return nn.Sequential(
        nn.Unflatten(1, (1, 2, 3)),
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(24, 3),
    )


def attending():
    layer = nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0, batch_first=True)
    return nn.Sequential(nn.Unflatten(1, (1, 6)), layer, nn.Flatten(), nn.Linear(6, 3))


def dropping():
    return mlp(8, dropout=0.2)(6, 3)


def distance(network, other):
    mine, theirs = (torch.cat([t.double().flatten().cpu() for t in n.state_dict().values()]) for n in (network, other))
    return ((mine - theirs).norm() / theirs.norm()).item()


@pytest.mark.parametrize("make", [perceptron, convolutional, attending])
def test_a_member_equals_a_plain_loop_on_the_cpu(make):
    data = rows(56)
    x, y = data[0].double(), data[1]
    population = Population(make, DECAYS, SEEDS)
    population.fit(data, device="cuda", compile=True, **HOW)
    assert population.explain().compiled == "yes, as one graph of kernels"
    for setting in DECAYS:
        torch.manual_seed(9)
        network = make().double()
        decays = [p for p in network.parameters() if p.ndim > 1]
        spared = [p for p in network.parameters() if p.ndim <= 1]
        groups = [
            {"params": decays, "weight_decay": setting.get("weight_decay", 0.0)},
            {"params": spared, "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=setting.get("lr", 0.01))
        for epoch in range(1, 13):
            for batch in dampen.engine._rng.batch_order(56, 9, epoch).split(8):
                optimizer.zero_grad()
                F.cross_entropy(network(x[batch]), y[batch]).backward()
                optimizer.step()
        assert distance(population.member(setting, 9), network) < 1e-9


@pytest.mark.parametrize("make", [dropping, convolutional, attending])
@pytest.mark.parametrize("chunk", [None, 2])
def test_a_step_as_one_graph_of_kernels_has_the_numbers_of_its_kernels(make, chunk):
    one, other = (Population(make, DROPS[1:] if make is dropping else DECAYS, SEEDS, chunk=chunk) for _ in range(2))
    how = HOW | {"precision": "float32", "clip_grad_norm": 1.0}
    for population, compiled in ((one, True), (other, False)):
        population.fit(rows(), device="cuda", compile=compiled, **how)
        population.fit(rows(), device="cuda", compile=compiled, **how | {"epochs": 15})
    assert one.explain().compiled == "yes, as one graph of kernels"
    assert other.explain().compiled is None
    for name, t in other.state().items():
        assert torch.equal(one.state()[name], t)
    for name, values in other.history.metrics.items():
        np.testing.assert_array_equal(one.history.metrics[name], values)


def test_what_can_be_no_graph_of_kernels_is_named_and_trains_all_the_same(monkeypatch):
    def refused(*_):
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing")

    monkeypatch.setattr(_fused, "Replayed", refused)
    population, plain = (Population(perceptron, DECAYS, SEEDS) for _ in range(2))
    with pytest.warns(UserWarning, match="one graph of kernels.*not permitted"):
        population.fit(rows(), device="cuda", compile=True, **HOW)
    assert population.explain().compiled.startswith("no: CUDA error")
    plain.fit(rows(), device="cuda", compile=False, **HOW)
    assert distance(population.member(DECAYS[0], 3), plain.member(DECAYS[0], 3)) == 0


def test_members_move_between_a_gpu_and_the_cpu(tmp_path):
    on_gpu, on_cpu, both = (Population(perceptron, DECAYS, SEEDS) for _ in range(3))
    on_gpu.fit(rows(), device="cuda", **HOW)
    on_cpu.fit(rows(), device="cpu", **HOW)
    both.fit(rows(), device="cuda", until=5, **HOW)
    both.save(tmp_path / "members")
    both = Population.load(tmp_path / "members", perceptron)
    both.fit(rows(), device="cpu", until=8, **HOW)
    both.fit(rows(), device="cuda", **HOW)
    for setting in DECAYS:
        assert distance(both.member(setting, 3), on_cpu.member(setting, 3)) < 1e-9
        assert distance(on_gpu.member(setting, 3), on_cpu.member(setting, 3)) < 1e-9


def test_selected_members_stay_on_the_gpu_and_go_on():
    whole, part = (Population(dropping, DROPS, SEEDS) for _ in range(2))
    whole.fit(rows(), device="cuda", **HOW)
    part.fit(rows(), device="cuda", until=5, **HOW)
    before = part.outputs(rows())
    part.select(DROPS[1:])
    for kept, seen in zip(part.outputs(rows()), before, strict=True):
        torch.testing.assert_close(kept, seen[1:])
    assert all(t.device.type == "cuda" for t in part.state().values())
    part.fit(rows(), device="cuda", **HOW)
    assert distance(part.member(DROPS[1], 3), whole.member(DROPS[1], 3)) < 1e-9


def test_one_member_that_diverges_changes_no_other():
    alone = Population(dropping, DROPS[:2], SEEDS)
    alone.fit(rows(), device="cuda", **HOW)
    beside = Population(dropping, [*DROPS[:2], Setting(lr=1e200)], SEEDS)
    history = beside.fit(rows(), device="cuda", **HOW)
    assert (history.diverged_at[:, 2] > 0).all()
    assert not history.diverged_at[:, :2].any()
    for setting in DROPS[:2]:
        assert distance(beside.member(setting, 9), alone.member(setting, 9)) < 1e-9


def test_samples_of_dropout_have_the_exact_mean_and_deviation():
    network = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 1)).double().cuda()
    x = torch.randn(5, 4, dtype=torch.float64, device="cuda", generator=torch.Generator("cuda").manual_seed(0))
    with torch.no_grad():
        exact, terms = network.eval()(x).squeeze(1).cpu(), (x * network[1].weight).cpu()
    sampled = mc_dropout(network, x, samples=20000, seed=1, task="regression")
    deviation = terms.square().sum(1).sqrt()  # a kept unit counts twice, half of the time
    assert ((sampled.mean.cpu() - exact).abs() < 5 * deviation / 20000**0.5).all()
    torch.testing.assert_close(sampled.epistemic.sqrt().cpu(), deviation, rtol=0.05, atol=0)


def test_a_tensor_left_on_the_cpu_is_named_with_its_remedy():
    shift = torch.ones(3)

    class Shifted(nn.Linear):
        def forward(self, x):
            return super().forward(x) + shift

    with pytest.raises(InputError, match=r"same device.*self\.register_buffer"):
        Population(lambda: Shifted(6, 3), DECAYS, SEEDS).fit(rows(), device="cuda", epochs=1)


@pytest.mark.filterwarnings("ignore::dampen.errors.NotSampled", "ignore::dampen.errors.DataWarning")  # by its verdict
def test_a_study_on_a_gpu_ends_in_a_verdict_and_a_calibrated_prediction(tmp_path):
    x, y = rows(240)
    y = (x[:, 0] + 0.5 * torch.randn(240, generator=torch.Generator().manual_seed(1)) > 0).long()
    how = {
        "space": {"dropout": 0.3, "weight_decay": 0.1, "lr": dampen.LogUniform(1e-3, 1e-2)},
        "n_settings": 3,
        "n_seeds": 1,
        "epochs": 3,
        "confirmed": 1,
        "n_confirm_seeds": 2,
        "device": "cuda",
    }
    study = dampen.tune(mlp(8, dropout=0.2), dampen.load(x, target=y), out=tmp_path / "study", **how)
    assert np.isfinite(study.verdict.value)
    read = dampen.load_study(tmp_path / "study")
    prediction = read.calibrated(samples=10).predict(x.numpy())
    assert len(prediction) == 240
