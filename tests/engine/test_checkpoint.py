"""Keeping some members, saving and loading: going on is going on exactly."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from dampen import InputError, Population, Setting
from dampen.engine.execution._chunk import Chunk

pytestmark = pytest.mark.usefixtures("without_shape_checks")  # the knobs' tests check them


SETTINGS = [Setting(weight_decay=0.2, dropout=0.3, lr=0.02), Setting(dropout=(0.6,)), Setting(dropout={"4": 0.1})]
SEEDS = [3, 9]
OPTIONS = {"epochs": 6, "batch_size": 8, "lr": 0.01, "precision": "float64", "schedule": "cosine"}


def network():
    return nn.Sequential(
        nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8), nn.Dropout(0.2), nn.Linear(8, 3)
    )


def rows(n=53, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 6, generator=generator), torch.randint(3, (n,), generator=generator)


DATA = {"train": rows(), "validation": rows(20, seed=1)}


def trained(until, chunk=None, **options):
    population = Population(network, SETTINGS, SEEDS, chunk=chunk)
    history = population.fit(DATA, until=until, **OPTIONS, **options)
    return population, history


def test_a_population_loaded_with_some_rows_has_each_setting_s_rates(tmp_path):
    population, _ = trained(2)
    population.save(tmp_path)
    loaded = Population.load(tmp_path, network, rows(8))
    for p in (population, loaded):
        assert [p.member(setting, 3)[4].p for setting in SETTINGS] == [0.3, 0.6, 0.1]
    x = rows(20, seed=2)[0].double()
    for setting in SETTINGS:
        assert torch.equal(loaded.member(setting, 9)(x), population.member(setting, 9)(x))
    with pytest.raises(InputError, match=r"the network fails on a batch of shape \[8, 5\]"):
        Population.load(tmp_path, network, (torch.randn(8, 5), rows(8)[1]))


def assert_same(population, other):
    for setting in population.settings:
        for seed in population.seeds:
            mine, theirs = (p.member(setting, seed).state_dict() for p in (population, other))
            assert all(torch.equal(mine[name], theirs[name]) for name in theirs), (setting, seed)


@pytest.mark.parametrize(
    "options", [{}, {"optimizer": "sgd"}, {"early_stopping": 4}, {"optimizer": "adam", "chunk": 2}], ids=str
)
def test_saved_and_loaded_is_uninterrupted_bit_for_bit(tmp_path, options):
    whole, expected = trained(6, **options)
    chunk = options.pop("chunk", None)
    part, _ = trained(2, chunk, **options)
    part.save(tmp_path / "p")
    loaded = Population.load(tmp_path / "p", network)
    assert loaded.settings == part.settings
    assert (loaded.reached == 2).all()
    assert_same(loaded, part)
    history = loaded.fit(DATA, **OPTIONS, **options)
    assert_same(loaded, whole)
    for name, values in expected.metrics.items():
        np.testing.assert_array_equal(history.metrics[name], values)
    assert [file.name for file in (tmp_path / "p").iterdir()] == ["population.safetensors"]


def older(file):
    """Make a file what versions wrote that knew full batches and a rest alone."""
    with safe_open(file, "pt") as opened:
        tensors, about = {name: opened.get_tensor(name) for name in opened.keys()}, opened.metadata()  # noqa: SIM118
    del tensors["members/even_batches"]
    save_file(tensors, file, about)


@pytest.mark.parametrize(("chunk", "stop", "even"), [(3, 17, True), (None, 35, False)])
def test_a_population_interrupted_within_an_epoch_is_saved_and_goes_on(tmp_path, chunk, stop, even):
    """Whatever is said of batches then: the epoch ends as it began, so that every row is met once."""
    often = {"compile": False}  # compiled steps look several at a time whether they are interrupted
    whole, _ = trained(6, chunk, even_batches=even, **often)
    population = Population(network, SETTINGS, SEEDS, chunk=chunk)
    steps = 0
    train_epoch = Chunk.train_epoch

    def press(self, program, trace, rows, interrupted, *args):
        def pressed():
            nonlocal steps
            steps += 1
            return steps == stop

        return train_epoch(self, program, trace, rows, pressed, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Chunk, "train_epoch", press)
        with pytest.raises(KeyboardInterrupt):
            population.fit(DATA, **OPTIONS, even_batches=even, **often)
    population.save(tmp_path)
    if not even:
        older(tmp_path / "population.safetensors")
    loaded = Population.load(tmp_path, network)
    with pytest.raises(InputError, match="interrupted"):
        loaded.select(SETTINGS[:1])
    loaded.fit(DATA, **OPTIONS, **often)
    assert_same(loaded, whole)


def test_kept_members_go_on_as_if_they_had_always_been_alone():
    everyone, _ = trained(6)
    population, _ = trained(2)
    population.select([SETTINGS[2], SETTINGS[0]])
    assert population.settings == (SETTINGS[0], SETTINGS[2])
    assert population.history.metrics["train_loss"].shape == (2, 2, 2)
    population.fit(DATA, **OPTIONS)
    for setting in population.settings:
        for seed in SEEDS:
            mine, theirs = (p.member(setting, seed).state_dict() for p in (population, everyone))
            assert all((mine[name] - theirs[name]).abs().max() < 1e-9 for name in theirs)
    population.select([(SETTINGS[0], 9)])
    assert population.seeds == (9,)
    assert len(population.history.epochs) == 6


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([], "at least one member"),
        ([Setting()], "there is no member"),
        ([(SETTINGS[0], 4)], "seed 4"),
        ([(SETTINGS[0], 3), (SETTINGS[1], 9)], "2 members are not every one of 2 settings with every one of 2 seeds"),
    ],
)
def test_members_that_cannot_be_kept_are_told(members, said):
    population, _ = trained(1)
    with pytest.raises(InputError, match=said):
        population.select(members)
    assert len(population.settings) == 3


def damaged(file):
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def foreign(file):
    save_file({"x": torch.zeros(3)}, file)


def newer(file):
    with safe_open(file, "pt") as opened:
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        about = json.loads(opened.metadata()["dampen"])
    save_file(tensors, file, {"dampen": json.dumps(about | {"format": 99})})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda file: file.unlink(), "there is no population.safetensors"),
        (damaged, "is damaged or no population"),
        (foreign, "is damaged or no population"),
        (newer, "has format 99, this version of dampen reads 1"),
    ],
)
def test_a_file_that_is_no_population_is_told_in_one_line(tmp_path, change, said):
    trained(1)[0].save(tmp_path)
    change(tmp_path / "population.safetensors")
    with pytest.raises(InputError, match=said) as caught:
        Population.load(tmp_path, network)
    assert "\n" not in str(caught.value)


def test_another_network_or_another_way_of_training_is_refused(tmp_path):
    population, _ = trained(1)
    population.save(tmp_path)
    with pytest.raises(
        InputError, match=r"is of another network: 0\.weight is \[8, 6\] there and \[3, 6\] in the model"
    ):
        Population.load(tmp_path, lambda: nn.Sequential(nn.Linear(6, 3)))
    with pytest.raises(InputError, match="trained with another optimizer"):
        Population.load(tmp_path, network).fit(DATA, **OPTIONS, optimizer="sgd")
    with pytest.raises(InputError, match="go on with the same precision"):
        Population.load(tmp_path, network).fit(DATA, **OPTIONS | {"precision": "float32"})


def test_a_save_takes_the_place_of_a_population_and_of_no_other_file(tmp_path):
    population, _ = trained(1)
    for _ in range(2):
        population.save(tmp_path)
    save_file({"weight": torch.zeros(2)}, tmp_path / "population.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"population.safetensors exists and is no population of dampen's"):
        population.save(tmp_path)
    assert load_file(tmp_path / "population.safetensors").keys() == {"weight"}


def test_a_save_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    population, _ = trained(1)
    population.save(tmp_path)
    before = (tmp_path / "population.safetensors").read_bytes()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dampen.engine._checkpoint.save_tensors", full)
    with pytest.raises(InputError, match="No space left on device"):
        population.save(tmp_path)
    assert (tmp_path / "population.safetensors").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1
    with pytest.raises(InputError, match="nothing to save yet"):
        Population(network, SETTINGS, SEEDS).save(tmp_path)


def test_a_loaded_population_answers_once_it_is_prepared(tmp_path):
    part, _ = trained(2)
    part.save(tmp_path)
    loaded = Population.load(tmp_path, network)
    with pytest.raises(InputError, match="prepare after loading"):
        loaded.outputs(rows())
    loaded.prepare(DATA, **OPTIONS)
    assert (loaded.reached == 2).all()
    assert all(torch.equal(a, b) for a, b in zip(loaded.outputs(rows()), part.outputs(rows()), strict=True))


def test_seeds_with_differently_many_rows_are_kept_and_go_on():
    data = [(*rows(40),), (*rows(40, seed=1),), (*rows(42, seed=2),)]
    options = {"epochs": 4, "batch_size": 8, "precision": "float64", "optimizer": "sgd"}
    whole = Population(network, SETTINGS, [1, 2, 3])
    whole.fit(data, **options)
    part = Population(network, SETTINGS, [1, 2, 3])
    part.fit(data, until=2, **options)
    part.select([(setting, seed) for setting in SETTINGS for seed in (2, 3)])
    part.fit(data[1:], **options)
    for setting in SETTINGS:
        for seed in (2, 3):
            mine, theirs = (p.member(setting, seed).state_dict() for p in (part, whole))
            torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)  # chunks of other shapes round otherwise
