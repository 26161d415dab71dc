"""Where random knobs act in a network that says nothing of them, what `explain` says of it, and what is refused."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dampen import Choice, InputError, LogUniform, PerLayer, Population, Setting, Uniform, mlp, solo
from dampen.search import Space

IMAGES = (1, 6, 5)


class Bottleneck(nn.Module):
    """As in He et al. (2016), figure 5: three convolutions; a projection where the width changes."""

    def __init__(self, before: int, after: int):
        super().__init__()
        self.branch = nn.Sequential(
            *(nn.Conv2d(before, 2, 1, bias=False), nn.BatchNorm2d(2), nn.ReLU(inplace=True)),
            *(nn.Conv2d(2, 2, 3, padding=1, bias=False), nn.BatchNorm2d(2), nn.ReLU(inplace=True)),
            *(nn.Conv2d(2, after, 1, bias=False), nn.BatchNorm2d(after)),
        )
        wider = nn.Sequential(nn.Conv2d(before, after, 1, bias=False), nn.BatchNorm2d(after))
        self.shortcut = wider if before != after else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        identity = self.shortcut(x)
        out = self.branch(x)
        out += identity
        return F.relu(out, inplace=True)


def resnet():
    blocks = nn.Sequential(Bottleneck(2, 4), Bottleneck(4, 4))
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))


def transformer(norm_first=False):
    layer = nn.TransformerEncoderLayer(2, 1, 8, batch_first=True, norm_first=norm_first)
    return nn.Sequential(nn.Unflatten(1, (3, 2)), layer, nn.Flatten(), nn.Linear(6, 3))


def dense():
    return mlp(8, 8, dropout=0.2)(6, 3)


def rows(shape=(6,), n=16):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, *shape, generator=generator), torch.randint(3, (n,), generator=generator)


def branches(model, data, value=0.5):
    """Modules in whose forward pass drop_path acts."""
    population = Population(model, [Setting(drop_path=value)], [0])
    return population.explain(data, precision="float64").knobs["drop_path"]


class Gated(nn.Module):
    """Additions that are no residual blocks: a position, a highway's gates, two towers, a sum with itself."""

    def __init__(self):
        super().__init__()
        self.gate, self.new, self.left, self.right = (nn.Linear(6, 6) for _ in range(4))
        self.position, self.head = nn.Parameter(torch.zeros(6)), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.position.expand_as(x)
        gate = torch.sigmoid(self.gate(x))
        h = gate * torch.tanh(self.new(x)) + (1 - gate) * x
        h = self.left(h) + self.right(h)
        return self.head(h + h)


class PreNorm(nn.Module):
    """The shape of a modern block: `x = x + branch(norm(x))`, twice, written in every way that Python has."""

    def __init__(self):
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(6), nn.Linear(6, 12), nn.Linear(12, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.add(self.down(F.gelu(self.up(self.norm(x)))), x)
        return x.add(self.down(F.gelu(self.up(self.norm(x)))), alpha=0.5)


def blocks():
    return nn.Sequential(PreNorm(), PreNorm(), nn.Linear(6, 3))


@pytest.mark.parametrize(
    ("model", "shape", "found"),
    [
        (resnet, IMAGES, ("2.0", "2.1")),
        (transformer, (6,), ("1",)),
        (lambda: transformer(norm_first=True), (6,), ("1",)),
        (blocks, (6,), ("0", "1")),
    ],
    ids=["bottlenecks", "post-norm", "pre-norm", "functions"],
)
def test_residual_branches_are_found_in_networks_that_say_nothing_of_them(model, shape, found):
    assert branches(model, rows(shape)) == found


def test_additions_that_are_no_residual_blocks_are_left_alone():
    for model in (dense, Gated):
        with pytest.raises(InputError, match="drop_path can't act on this network: it has no residual branches"):
            branches(model, rows())


def test_a_branch_that_is_always_skipped_has_no_gradient_and_its_block_is_the_identity():
    setting = Setting(drop_path={"0": 1.0})
    population = Population(blocks, [setting], [3])
    population.fit(rows(), epochs=2, batch_size=8, optimizer="sgd", lr=0.1)
    start = Population(blocks, [setting], [3]).member(setting, 3)
    trained = population.member(setting, 3)
    for name, p in trained.named_parameters():
        assert torch.equal(p, start.get_parameter(name)) is name.startswith("0.")
    # The first step's loss is that of the second block alone.
    alone = nn.Sequential(*start[1:])
    history = Population(blocks, [setting], [3]).fit(rows(), epochs=1, batch_size=16, optimizer="sgd")
    assert history.metrics["train_loss"][0, 0, 0] == pytest.approx(
        F.cross_entropy(alone(rows()[0]), rows()[1]).item(), rel=1e-5
    )


def test_explain_says_where_each_knob_acts():
    settings = [
        Setting(dropconnect={"0": 0.1}, dropblock=0.1, input_noise=0.1),
        Setting(label_smoothing=0.1, dropout_schedule="late"),
        Setting(mixup=0.0, random_shift=0),
    ]
    model = lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(24, 3))  # noqa: E731
    found = Population(model, settings, [0]).explain(rows(IMAGES))
    assert found.knobs["dropconnect"] == found.knobs["dropblock"] == ("0",)
    assert found.knobs["input_noise"] == ("the inputs",)
    assert found.knobs["label_smoothing"] == ("the loss",)
    assert found.knobs["dropout_schedule"] == ("dropconnect", "dropblock")
    assert not {"mixup", "random_shift"} & set(found.knobs)  # neutral: they are not there
    assert "dropconnect acts on 0" in str(found)


@pytest.mark.parametrize(
    ("model", "shape", "values", "said"),
    [
        (blocks, (6,), {"gaussian_dropout": 0.1}, "gaussian_dropout .* no places where it drops units"),
        (dense, (6,), {"dropblock": 0.1}, "dropblock can't act on this network: it has no convolutions of images"),
        (dense, (6,), {"dropblock": {"1": 0.1}}, "dropblock can't act on this network"),
        (dense, (6,), {"dropconnect": {"6.x": 0.1}}, "dropconnect names the module '6.x'.* are '1', '4', '7'"),
        (dense, (6,), {"dropconnect": (0.1, 0.2)}, "dropconnect names 2 numbers, .* has 3 linear layers"),
        (resnet, IMAGES, {"drop_path": (0.1,)}, "drop_path names 1 numbers, .* has 2 residual branches"),
        (resnet, IMAGES, {"drop_path": {"0": 0.1}}, "drop_path names the module '0'.* are '2.0', '2.1'"),
        (
            blocks,
            (6,),
            {"dropout_schedule": "late"},
            "dropout_schedule moves dropout, .* no setting turns one of these",
        ),
        (resnet, IMAGES, {"dropblock_size": 3}, "dropblock_size acts through dropblock"),
        (dense, (6,), {"random_shift": 1}, r"random_shift moves the pixels of images, .* these are \[6\]"),
        (dense, (6,), {"horizontal_flip": 0.5}, "horizontal_flip moves the pixels of images"),
    ],
)
def test_a_knob_that_cannot_act_says_so(model, shape, values, said):
    with pytest.raises(InputError, match=said):
        Population(model, [Setting(), Setting(**values)], [0]).fit(rows(shape), epochs=1)
    with pytest.raises(InputError, match=said):
        solo(model, Setting(**values), 0, rows(shape), epochs=1)


def words():
    return nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(12, 3))


@pytest.mark.parametrize("knob", ["mixup", "input_noise", "input_dropout"])
def test_whole_numbers_are_neither_mixed_nor_noisy(knob):
    data = torch.arange(30).view(10, 3) % 9, torch.arange(10) % 3
    with pytest.raises(InputError, match=f"{knob} .* whole numbers"):
        Population(words, [Setting(**{knob: 0.1})], [0]).fit(data, epochs=1)


def test_label_smoothing_needs_cross_entropy():
    inputs, targets = rows()
    with pytest.raises(InputError, match="label_smoothing changes the loss cross_entropy only"):
        Population(lambda: nn.Linear(6, 1), [Setting(label_smoothing=0.1)], [0]).fit(
            (inputs, targets.float()), epochs=1
        )


def test_a_space_takes_any_knob():
    space = Space(
        {
            "dropconnect": PerLayer(Uniform(0, 0.5), 2),
            "drop_path": Uniform(0, 0.3),
            "input_noise": LogUniform(1e-3, 1.0, zero=0.5),
            "dropout_schedule": Choice(["constant", "late:0.5"]),
            "dropblock_size": [3, 7],
            "random_shift": [0, 2],
        }
    )
    drawn = space.draw(32, "sobol", seed=0)
    assert {setting["dropout_schedule"] for setting in drawn} == {"constant", "late:0.5"}
    assert {setting["random_shift"] for setting in drawn} == {0, 2}
    assert all(len(setting["dropconnect"]) == 2 and setting["drop_path"] < 0.3 for setting in drawn)
    with pytest.raises(InputError, match="mixup must be"):
        Space({"mixup": Uniform(-1, 1)})
