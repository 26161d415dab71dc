"""Random knobs in a population: every member follows its solo run, draws by its seed alone, and means what it says."""

import math
import os

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor, nn

from dampen import InputError, NotFusedWarning, Population, Setting, mlp, solo
from dampen.engine import _rng

SEEDS = (3, 9)


class TwoInputs(nn.Module):
    """An image and numbers."""

    def __init__(self):
        super().__init__()
        self.image, self.numbers, self.head = nn.Conv2d(1, 2, 3), nn.Linear(4, 3), nn.Linear(27, 3)

    def forward(self, image: Tensor, numbers: Tensor) -> Tensor:
        return self.head(torch.cat([F.relu(self.image(image)).flatten(1), F.relu(self.numbers(numbers))], 1))


class ResNet(nn.Module):
    """Two residual blocks on images, the second with a projection; nothing is dropped in it."""

    def __init__(self):
        super().__init__()
        self.stem, self.same, self.wider = nn.Conv2d(1, 4, 3, padding=1), Block(4, 4), Block(4, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.wider(self.same(self.stem(x))).mean((2, 3)))


class Block(nn.Module):
    """As in He et al. (2016): two convolutions, and a shortcut that is added in place."""

    def __init__(self, before: int, after: int):
        super().__init__()
        self.first, self.second = nn.Conv2d(before, after, 3, padding=1), nn.Conv2d(after, after, 3, padding=1)
        self.norm = nn.GroupNorm(2, after)
        self.shortcut = nn.Conv2d(before, after, 1) if before != after else None

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.second(F.relu(self.first(x))))
        h += x if self.shortcut is None else self.shortcut(x)
        return F.relu(h)


def dense():
    return mlp(8, 8, dropout=0.2)(6, 3)


def recurrent():
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.drop, self.head = (
                nn.GRU(2, 5, 2, dropout=0.1, batch_first=True),
                nn.Dropout(0.2),
                nn.Linear(5, 3),
            )

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.drop(self.layer(x.unflatten(1, (3, 2)))[0][:, -1]))

    return Last()


def transformer():
    layer = nn.TransformerEncoderLayer(2, 1, 8, 0.1, batch_first=True)
    return nn.Sequential(nn.Unflatten(1, (3, 2)), layer, nn.Flatten(), nn.Linear(6, 3))


def rows(shape=(6,), n=16, classes: int | None = 3):
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(classes, (n,), generator=generator) if classes else torch.randn(n, generator=generator)
    return torch.randn(n, *shape, generator=generator), targets


IMAGES = (1, 6, 5)


def fit(model, members, data, seeds=SEEDS, **options):
    population = Population(model, members, seeds, chunk=options.pop("chunk", None))
    options = {"precision": "float64", "epochs": 2, "batch_size": 8, "lr": 0.05, "optimizer": "sgd", **options}
    return population, population.fit(data, **options)


def distance(network, other):
    mine, theirs = (torch.cat([t.double().flatten() for t in n.state_dict().values()]) for n in (network, other))
    return ((mine - theirs).norm() / theirs.norm()).item()


def check_alone(model, members, data, **options):
    """Compare every member with its solo run, and make sure that the knobs made them differ."""
    population, history = fit(model, members, data, **options)
    options.pop("chunk", None)
    options = {"precision": "float64", "epochs": 2, "batch_size": 8, "lr": 0.05, "optimizer": "sgd", **options}
    for m, setting in enumerate(members):
        alone = solo(model, setting, SEEDS[1], data, **options)
        assert distance(population.member(setting, SEEDS[1]), alone.network) < 1e-9
        np.testing.assert_allclose(history.metrics["train_loss"][:, 1, m], alone.train_loss, rtol=1e-9)
    first = population.member(members[0], SEEDS[0])
    for setting in members[1:]:
        assert distance(population.member(setting, SEEDS[0]), first) > 1e-6
    return population


CASES = {
    "dense": (
        dense,
        (6,),
        [
            {},
            {"gaussian_dropout": 0.3},
            {"gaussian_dropout": (0.0, 0.6), "dropout": 0.0},
            {"dropconnect": 0.3},
            {"dropconnect": {"1": 0.5}},
            {"dropconnect": (0.1, 0.2, 0)},
            {"mixup": 0.2},
            {"mixup": 2.0, "label_smoothing": 0.4, "input_noise": 1.0},
            {"input_dropout": 0.2},
            {"input_dropout": 0.5, "mixup": 0.3, "dropconnect": 0.1},
            {"input_noise": 0.1},
            {"label_smoothing": 0.1},
            *({"dropout": 0.4, "dropout_schedule": s} for s in ("early", "late:0.5", "linear:0.7", "annealed")),
            {"dropconnect": 0.4, "dropout_schedule": "annealed"},
            {"gaussian_dropout": 0.4, "dropout_schedule": "late"},
        ],
    ),
    "images": (
        ResNet,
        IMAGES,
        [
            {},
            {"drop_path": 0.5},
            {"drop_path": (0.3, 0.0)},
            {"drop_path": {"wider": 1.0}},
            {"dropblock": 0.2},
            {"dropblock": 0.2, "dropblock_size": 2},
            {"dropconnect": {"same": 0.4}},
            {"mixup": 0.4, "label_smoothing": 0.1, "random_shift": 2, "input_noise": 0.2, "weight_decay": 0.1},
            {
                "drop_path": 0.3,
                "dropblock": {"same": 0.1},
                "dropconnect": 0.1,
                "horizontal_flip": 0.5,
                "input_dropout": 0.1,
            },
            {"drop_path": 0.2, "mixup": 1.0, "dropout_schedule": "annealed", "lr": 0.02},
            {"cutmix": 1.0},
            {"cutmix": 0.3, "label_smoothing": 0.1, "random_shift": 1},
        ],
    ),
    "attention": (
        transformer,
        (6,),
        [{}, {"drop_path": 0.6}, {"drop_path": (0.0, 0.9), "dropconnect": 0.1}, {"gaussian_dropout": (0.5, 0, 0, 0)}],
    ),
}


@pytest.mark.parametrize(("model", "shape", "members"), CASES.values(), ids=CASES)
def test_every_member_trains_as_it_does_alone(model, shape, members):
    population = check_alone(model, [Setting(**values) for values in members], rows(shape))
    assert population.explain().reason is None


def test_every_input_has_its_own_noise_and_images_alone_are_moved():
    (image, targets), (numbers, _) = rows(IMAGES), rows((4,))
    members = [
        Setting(),
        Setting(random_shift=2, horizontal_flip=0.5),
        Setting(mixup=0.5, input_noise=0.1, input_dropout=0.1, dropconnect=0.1),
    ]
    check_alone(TwoInputs, members, (image, numbers, targets))


def test_members_that_are_not_fused_train_as_they_do_alone():
    members = [
        Setting(),
        Setting(gaussian_dropout=0.3, mixup=0.3),
        Setting(dropconnect=0.3, label_smoothing=0.2, input_noise=0.1),
    ]
    with pytest.warns(NotFusedWarning):
        check_alone(recurrent, members, rows())


@pytest.mark.parametrize("loss", [None, lambda outputs, targets: (outputs[:, 0] - targets).abs()])
def test_targets_that_are_numbers_train_as_they_do_alone(loss):
    members = [Setting(), Setting(mixup=0.3), Setting(mixup=0.7, input_noise=0.1), Setting(input_dropout=0.2)]
    check_alone(lambda: mlp(5)(6, 1), members, rows(classes=None), loss=loss)


def test_smoothed_labels_train_as_torchs_cross_entropy():
    def smooth(outputs, targets):
        return F.cross_entropy(outputs, targets, reduction="none", label_smoothing=0.2)

    ours, _ = fit(dense, [Setting(label_smoothing=0.2), Setting(label_smoothing=0.0)], rows())
    torchs, _ = fit(dense, [Setting()], rows(), loss=smooth)
    assert distance(ours.member(Setting(label_smoothing=0.2), 3), torchs.member(Setting(), 3)) < 1e-12
    plain, _ = fit(dense, [Setting()], rows())
    assert distance(ours.member(Setting(label_smoothing=0.0), 3), plain.member(Setting(), 3)) < 1e-12


def test_smoothed_labels_of_maps_are_torchs():
    def smooth(outputs, targets):
        return F.cross_entropy(outputs, targets, reduction="none", label_smoothing=0.2).flatten(1).mean(1)

    data = rows(IMAGES)[0], (rows(IMAGES)[0][:, 0] > 0).long()
    ours, _ = fit(lambda: nn.Conv2d(1, 2, 1), [Setting(label_smoothing=0.2)], data)
    torchs, _ = fit(lambda: nn.Conv2d(1, 2, 1), [Setting()], data, loss=smooth)
    assert distance(ours.member(Setting(label_smoothing=0.2), 3), torchs.member(Setting(), 3)) < 1e-12


def zeros():
    model = nn.Linear(3, 1, bias=False)
    nn.init.zeros_(model.weight)
    return model


def test_input_noise_on_linear_regression_trains_to_ridge_in_expectation():
    # Gradient descent on the noisy rows is linear in w and its noise is fresh: the mean over seeds follows gradient
    # descent on the expected loss, |Xw - y|^2 / n + sigma^2 |w|^2, whose end is ridge regression (Bishop 1995).
    generator = torch.Generator().manual_seed(1)
    X, y, sigma, n = torch.randn(6, 3, generator=generator), torch.randn(6, generator=generator), 0.5, 200
    noisy, _ = fit(
        zeros,
        [Setting(input_noise=sigma)],
        (X, y),
        seeds=range(n),
        epochs=60,
        batch_size=6,
        lr=0.1,
        chunk=n,
        evaluate_every=None,
    )
    weights = noisy.state()["weight"].view(n, 3).cpu()
    X, y = X.double(), y.double()
    ridge = torch.linalg.solve(X.T @ X + len(X) * sigma**2 * torch.eye(3, dtype=torch.float64), X.T @ y)
    assert ((weights.mean(0) - ridge).abs() < 5 * weights.std(0) / math.sqrt(n)).all()
    least_squares = torch.linalg.lstsq(X, y.unsqueeze(1)).solution.view(3)
    assert ((weights.mean(0) - least_squares).abs() > 5 * weights.std(0) / math.sqrt(n)).any()


def test_members_of_one_seed_drop_nested_weights():
    # With inputs of one and a loss that is the output, a weight's gradient is its own mask: read it from one step.
    def total(outputs, targets):
        return outputs.sum(1)

    data, rates = (torch.ones(4, 6), torch.zeros(4)), (0.3, 0.6)
    settings = [Setting(dropconnect=p) for p in (0.0, *rates)]
    population, _ = fit(
        lambda: nn.Linear(6, 5, bias=False),
        settings,
        data,
        loss=total,
        lr=1.0,
        epochs=1,
        batch_size=4,
        decay_filter="all",
    )
    start = Population(lambda: nn.Linear(6, 5, bias=False), [Setting()], SEEDS).state()["weight"]
    moved = start.double() - population.state()["weight"].cpu()  # [S, 3, 5, 6]: 1 / (1 - p) where a weight was kept
    kept = [moved[:, 1 + i] * (1 - p) for i, p in enumerate(rates)]
    for mask in kept:
        torch.testing.assert_close(mask, mask.round())
    assert ((kept[0] - kept[1]).round() >= 0).all()
    assert 0 < kept[1].mean() < kept[0].mean() < 1
    assert not torch.equal(kept[0][0].round(), kept[0][1].round())  # the seeds differ


class Deciding(nn.Sequential):
    """Can't be fused: it decides by a tensor's value."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if x.detach().sum().item() < 1e9 else -x)


@pytest.mark.parametrize("kind", [nn.Sequential, Deciding])
@pytest.mark.filterwarnings("ignore::dampen.NotFusedWarning")
def test_cutmix_is_a_hand_written_loop_fused_or_one_by_one(kind):
    x, y = (t.double() if t.is_floating_point() else t for t in rows(IMAGES, 24))
    how = {"epochs": 10, "batch_size": 24, "lr": 0.05, "decay_filter": "all"}
    settings = [Setting(cutmix=alpha) for alpha in (0.2, 1.0, 0.0)]

    def model():
        return kind(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(24, 3))

    population, _ = fit(model, settings, (x, y), seeds=[4], **how)
    assert (population.explain().reason is None) == (kind is nn.Sequential)
    for setting in settings:
        torch.manual_seed(4)
        network = model().double()
        optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
        for step in range(10):
            order = _rng.batch_order(24, 4, step + 1)
            draws = _rng.StepDraws([4], step, "cutmix", os.environ.get("DAMPEN_TEST_DEVICE", "cpu"))
            u, down, right = draws.uniform(3)[0].tolist()
            partners = draws.uniform(24)[0].argsort().cpu()
            alpha = setting["cutmix"]
            side = math.sqrt(1 - (stats.beta(alpha, alpha).ppf(u) if alpha else 1.0))
            bx, by = int(right * 5), int(down * 6)
            left, end = max(0, bx - int(5 * side) // 2), min(5, bx + int(5 * side) // 2)
            top, bottom = max(0, by - int(6 * side) // 2), min(6, by + int(6 * side) // 2)
            batch, classes = x[order].clone(), y[order]
            batch[:, :, top:bottom, left:end] = batch[partners][:, :, top:bottom, left:end]
            lam = 1 - (bottom - top) * (end - left) / 30
            said = network(batch)
            loss = lam * F.cross_entropy(said, classes) + (1 - lam) * F.cross_entropy(said, classes[partners])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert distance(population.member(setting, 4), network) < 1e-9
    assert distance(population.member(settings[0], 4), population.member(settings[2], 4)) > 1e-3


def test_cutmix_without_images_or_beside_mixup_is_refused():
    with pytest.raises(InputError, match="cutmix moves the pixels of images"):
        fit(dense, [Setting(cutmix=1.0)], rows())
    with pytest.raises(InputError, match="not both"):
        Setting(cutmix=1.0, mixup=0.2)


@pytest.mark.parametrize("shapes", [[()], [(0,)], [(3,), (2048,)], [(1023,)], [(1025,), (1024,)], [(1024,), (33, 38)]])
def test_uniform_numbers_are_those_of_numpys_generator(shapes):
    of_knob = _rng.StepDraws([4, 5], 7, "input_dropout")
    generators = [np.random.Generator(np.random.SFC64(np.random.SeedSequence(stream))) for stream in of_knob._streams]
    for shape in shapes:  # one after the other of the same stream
        expected = [generator.random(shape, dtype=np.float32) for generator in generators]
        assert np.array_equal(of_knob.uniform(*shape).numpy(), np.stack(expected))
    parts = _rng.dropout_uniforms([4, 5], 7, shapes)
    of_dropout = torch.cat([part.reshape(2, math.prod(part.shape[1:])) for part in parts], 1)
    for seed, row in zip([4, 5], of_dropout.numpy(), strict=True):
        generator = np.random.Generator(np.random.SFC64(np.random.SeedSequence((seed, 7, _rng._DROPOUT))))
        assert np.array_equal(row, generator.random(row.size, dtype=np.float32))


def test_noise_does_not_depend_on_who_trains_beside():
    settings = [
        Setting(dropconnect=0.2, mixup=0.5, gaussian_dropout=0.1),
        Setting(dropconnect=0.5, input_noise=0.5, label_smoothing=0.1),
        Setting(mixup=0.1),
    ]
    together, _ = fit(dense, settings, rows())
    apart, _ = fit(dense, settings, rows(), chunk=1)
    for setting in settings:
        assert distance(together.member(setting, 9), apart.member(setting, 9)) < 1e-12


def test_a_population_with_random_knobs_goes_on_from_its_file(tmp_path):
    settings = [
        Setting(dropconnect={"1": 0.2, "4": 0.1}, mixup=0.5, dropout_schedule="late:0.5", dropout=0.3),
        Setting(gaussian_dropout=(0.1, 0.2), input_noise=0.5, label_smoothing=0.1),
    ]
    whole, _ = fit(dense, settings, rows())
    half, _ = fit(dense, settings, rows(), until=1)
    half.save(tmp_path)
    loaded = Population.load(tmp_path, dense)
    assert loaded.settings == tuple(settings)
    loaded.fit(rows(), precision="float64", epochs=2, batch_size=8, lr=0.05, optimizer="sgd")
    for setting in settings:
        assert distance(whole.member(setting, 9), loaded.member(setting, 9)) == 0


def test_random_knobs_train_in_low_precision():
    model, shape, members = CASES["images"]
    members = [Setting(**values) for values in members[-3:]]
    population, history = fit(model, members, rows(shape), precision="bfloat16", epochs=1)
    _, expected = fit(model, members, rows(shape), precision="float32", epochs=1)
    assert population.explain().reason is None
    found, wanted = (h.metrics["train_loss"] for h in (history, expected))
    np.testing.assert_allclose(found, wanted, rtol=0.1)


def test_the_network_is_evaluated_without_noise():
    settings = [Setting(dropconnect=0.5, drop_path=0.5, dropblock=0.3, input_noise=1.0, mixup=1.0, label_smoothing=0.3)]
    population, _ = fit(ResNet, settings, rows(IMAGES))
    x, y = rows(IMAGES)
    network = population.member(settings[0], 3)
    expected = F.cross_entropy(network(x.double()), y).item()
    assert population.evaluate((x, y))["loss"][0, 0] == pytest.approx(expected, rel=1e-12)
