"""Where a network fails, an embedding has no row for a number, or data is given unread: one line that names it."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn

import dampen
from dampen import InputError, Population, Setting

pytestmark = pytest.mark.usefixtures("without_shape_checks")

NO_ROW = r"^x holds the number 60; the network's embedding '0' has 50 rows \(0 to 49\)"
TARGETS = torch.arange(40) % 3


def embedding() -> nn.Module:
    return nn.Sequential(nn.Embedding(50, 4), nn.Flatten(), nn.Dropout(0.1), nn.Linear(12, 3))


def numbers(*, wrong: int | None = 60) -> torch.Tensor:
    x = torch.randint(50, (40, 3), generator=torch.Generator().manual_seed(0))
    if wrong is not None:
        x[37, 1] = wrong  # in a batch after the first
    return x


def trained() -> Population:
    population = Population(embedding, [Setting(weight_decay=0.0)], [0, 1])
    population.fit((numbers(wrong=None), TARGETS), epochs=1, batch_size=8)
    return population


@pytest.mark.parametrize(
    "use",
    [
        lambda x: Population(embedding, [Setting()], [0, 1]).fit((x, TARGETS), epochs=1, batch_size=8),
        lambda x: dampen.solo(embedding, Setting(), 0, (x, TARGETS), epochs=1, batch_size=8),
        lambda x: trained().outputs((x, TARGETS)),
        lambda x: trained().evaluate((x, TARGETS)),
        lambda x: dampen.mc_dropout(embedding(), x, 3, task="classification"),
        lambda x: dampen.predict([embedding(), embedding()], x, task="classification"),
    ],
)
def test_a_number_that_an_embedding_has_no_row_for_is_one_line_in_every_use(use):
    with pytest.raises(InputError, match=NO_ROW):
        use(numbers())


@pytest.mark.parametrize(
    "use",
    [
        lambda data: dampen.tune(embedding, data, n_settings=2),
        lambda data: dampen.compare(embedding, data, [Setting(), Setting(lr=0.1)]),
    ],
)
def test_such_a_number_is_told_before_a_study_of_a_data_set_begins(use):
    with pytest.raises(InputError, match=NO_ROW):
        use(dampen.load(numbers(), target=TARGETS))


def test_a_number_without_a_row_in_the_first_rows_or_below_0_is_found_too():
    first = numbers(wrong=None)
    first[0, 0] = 60
    with pytest.raises(InputError, match=NO_ROW):
        dampen.tune(embedding, dampen.load(first, target=TARGETS), n_settings=2)
    with pytest.raises(InputError, match="x holds the number -1;"):
        Population(embedding, [Setting()], [0]).fit((numbers(wrong=-1), TARGETS), epochs=1)


def test_a_number_that_the_network_changes_before_it_looks_it_up_is_no_mistake():
    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.out = nn.Parameter(torch.randn(2, 4)), nn.Linear(12, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(nn.functional.embedding(x // 50, self.table).flatten(1))

    dampen.predict(Shifted(), numbers(), task="classification")
    with pytest.raises(InputError, match="x leads to the number 4; the network's embedding has 2 rows"):
        dampen.predict(Shifted(), numbers(wrong=200), task="classification")


class Fussy(nn.Module):
    """Takes no row above 100, in its inner layer."""

    class Inner(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if bool((x > 100).any()):
                raise RuntimeError("too large.\nand more")
            return super().forward(x)

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.drop = self.Inner(4, 3), nn.Dropout(0.1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.drop(self.inner(x))


@pytest.mark.filterwarnings("ignore::dampen.NotFusedWarning")
@pytest.mark.parametrize(
    ("use", "batch"),
    [
        (lambda x: Population(Fussy, [Setting()], [0]).fit((x, TARGETS), epochs=1, batch_size=8), 8),
        (lambda x: dampen.solo(Fussy, Setting(), 0, (x, TARGETS), epochs=1, batch_size=8), 8),
        (lambda x: dampen.mc_dropout(Fussy(), x, 3, task="classification"), 40),
        (lambda x: dampen.predict(Fussy(), x, task="classification"), 40),
    ],
)
def test_what_a_network_raises_on_a_later_batch_is_one_line_with_its_module(use, batch):
    x = torch.zeros(40, 4)
    x[int(torch.randperm(40, generator=torch.Generator().manual_seed(1))[0])] = 101.0
    with pytest.raises(
        InputError, match=rf"^the network fails on a batch of shape \[{batch}, 4\] in inner: too large$"
    ):
        use(x)


class Seldom(nn.Module):
    """Acts at random on batches with a large number only, of which the first has none."""

    def __init__(self, act):
        super().__init__()
        self.first, self.second, self.act = nn.Linear(4, 3), nn.Linear(3, 3), act

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.first(x)
        if self.training and float(x.max()) > 50:
            h = self.act(h)
        return self.second(h)


def _seldom() -> torch.Tensor:
    x = torch.linspace(-1, 1, 160).reshape(40, 4)
    x[20:] *= 100.0  # the first rows, with which a network is looked at, are small
    return x


@pytest.mark.filterwarnings("ignore::dampen.NotFusedWarning")
def test_dropout_that_the_first_pass_did_not_show_is_one_line():
    def model() -> nn.Module:
        return Seldom(lambda h: nn.functional.dropout(h, 0.5))

    with pytest.raises(InputError, match="drops units in more places than in its first forward pass"):
        Population(model, [Setting(weight_decay=0.1)], [0]).fit((_seldom(), TARGETS), epochs=2, batch_size=8)


@pytest.mark.filterwarnings("ignore::dampen.NotFusedWarning")
def test_noise_that_the_first_pass_did_not_show_follows_from_seed_and_step():
    def model() -> nn.Module:
        return Seldom(lambda h: h + torch.randn_like(h))

    options = {"epochs": 2, "batch_size": 8, "precision": "float64"}
    population = Population(model, TWO, [0, 1])
    population.fit((_seldom(), TARGETS), **options)
    alone = dampen.solo(model, TWO[1], 1, (_seldom(), TARGETS), **options).network
    for mine, other in zip(population.member(TWO[1], 1).parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-12)


FRAME = pd.DataFrame({"a": [0.0, 1.0], "b": [1.0, 0.0]})
TWO = [Setting(), Setting(lr=0.1)]


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        (FRAME, r"got DataFrame.*dampen.load\(frame, target="),
        ("file.csv", r"the path 'file.csv'.*dampen.load\('file.csv'\)"),
        (Path("file.csv"), r"the path 'file.csv'.*dampen.load\('file.csv'\)"),
    ],
)
@pytest.mark.parametrize(
    "use",
    [
        lambda given: dampen.tune(embedding, given),
        lambda given: dampen.compare(embedding, given, TWO),
        lambda given: Population(embedding, TWO, [0]).fit(given, epochs=1),
        lambda given: dampen.diagnose(embedding(), batch=given),
    ],
)
def test_a_table_in_place_of_data_is_one_line_with_the_call_that_reads_it(use, given, remedy):
    with pytest.raises(InputError, match=remedy):
        use(given)


def test_what_is_given_in_the_wrong_place_is_told():
    with pytest.raises(InputError, match="the network comes first, then the data"):
        dampen.tune(dampen.load("iris"), embedding)
    with pytest.raises(InputError, match=r"dampen.load\(x, target=y\)"):
        dampen.tune(embedding, (numbers(), TARGETS))
    with pytest.raises(InputError, match=r"load_study\('folder'\)"):
        dampen.predict("folder", numbers())
    with pytest.raises(InputError, match=r"x must be what the network takes.*torch.tensor\(frame"):
        dampen.mc_dropout(embedding(), FRAME)


def test_all_rows_of_a_data_set_are_normalised_before_they_are_predicted():
    data, network = dampen.load("iris"), nn.Linear(4, 3)
    found = dampen.predict(network, data, task="classification").probabilities
    x = data.features.double()
    train = x[data.train_rows]
    scaled = (x - train.mean(0)) / train.std(0, correction=0)
    torch.testing.assert_close(found, network(scaled.float()).softmax(1).double(), rtol=1e-4, atol=1e-5)
