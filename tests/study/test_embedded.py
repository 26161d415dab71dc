"""Ids and networks that embed them: kept whole and told, or refused in one line before anything trains."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from dampen import InputError, Population, Setting, TrainConfig, compare, load, solo, tune
from dampen.study import check_network, with_ids
from dampen.study._cocktail import cocktail_space

IDS = np.random.default_rng(0).integers(0, 30, (200, 6))
Y = np.random.default_rng(1).choice(["p", "q"], 200)
FRAME = pd.DataFrame(IDS, columns=list("abcdef")).assign(y=Y)


class Embeds(nn.Module):
    def __init__(self, outputs, n, cast):
        super().__init__()
        self.ids, self.cast, self.linear = nn.Embedding(n, 2), cast, nn.Linear(12, outputs)

    def forward(self, x):
        return self.linear(self.ids(self.cast(x)).flatten(1))


def makes(n=30, cast=lambda x: x):
    return lambda inputs, outputs: Embeds(outputs, n, cast)


def test_ids_that_are_embedded_stay_whole_and_that_is_told():
    data = with_ids(makes(), load(IDS, target=Y))
    assert data.train.features.equal(torch.from_numpy(IDS)[data.train_rows])
    assert data.notes[-1] == "the 6 columns hold whole numbers that the network embeds: they stay as they are, unscaled"
    assert data.columns is None  # nothing that would be told of scaling
    assert check_network(makes(), data) == ()


@pytest.mark.parametrize("cast", [lambda x: x, lambda x: x.long()], ids=["as it is", "long"])
def test_the_scaled_columns_of_a_table_are_refused_for_an_embedding(cast):
    data = with_ids(makes(cast=cast), load(FRAME, target="y"))
    said = (
        r"the network's embedding 'ids' takes whole numbers, 0 to 29, but the columns of a table are scaled: .* \.npz"
    )
    with pytest.raises(InputError, match=said):
        check_network(makes(cast=cast), data)


@pytest.mark.parametrize("cast", [lambda x: x, lambda x: x.long()], ids=["as it is", "long"])
def test_ids_beyond_an_embedding_are_refused_with_both_numbers(cast):
    for ids, beyond in ((IDS, 29), (IDS - 1, 28)):
        for data in (load(ids, target=Y), load(ids, target=Y, normalise=False)):
            small = makes(20, cast)
            with pytest.raises(InputError, match=rf"the number {beyond}; .* 'ids' has 20 rows \(0 to 19\)"):
                check_network(small, with_ids(small, data))


def test_a_network_that_makes_ids_of_scaled_numbers_itself_may():
    def bins(x):
        return torch.bucketize(x, torch.linspace(-1, 1, 19))

    for data in (load(FRAME, target="y"), load(IDS, target=Y)):
        assert with_ids(makes(20, bins), data) is data
        assert check_network(makes(20, bins), data) == ()


class Mixed(nn.Module):
    """A network for rows of two codes and two numbers."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.codes = nn.ModuleList([nn.Embedding(6, 3), nn.Embedding(3, 2)])
        self.rest = nn.Sequential(nn.Linear(inputs - 2 + 5, 8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, outputs))

    def forward(self, x):
        codes = x[..., :2].long()
        embedded = [embedding(codes[..., j]) for j, embedding in enumerate(self.codes)]
        return self.rest(torch.cat([*embedded, x[..., 2:]], -1))


@pytest.fixture(scope="module")
def mixed():
    rng = np.random.default_rng(0)
    codes = np.column_stack([rng.integers(0, 6, 90), rng.integers(0, 3, 90)])
    numbers = rng.normal(size=(90, 2))
    return load(np.column_stack([codes, numbers]), target=codes[:, 0] > 2, normalise=False)


def test_codes_beside_numbers_reach_the_embedding_as_they_are_and_members_equal_plain_loops(mixed):
    assert mixed.train.features[:, 0].unique().tolist() == [0, 1, 2, 3, 4, 5]
    setting, how = Setting(weight_decay=0.1, dropout=0.3), {"epochs": 2, "batch_size": 16, "precision": "float64"}
    population = Population(Mixed, [setting], [0])
    population.fit(mixed, **how)
    plain = solo(Mixed, setting, 0, mixed, **how).network
    for ours, theirs in zip(population.member(setting, 0).parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.double(), theirs.double(), rtol=1e-9, atol=1e-12)


def test_what_would_change_codes_is_refused_and_no_cocktail_has_it(mixed):
    space = cocktail_space(Mixed, mixed, TrainConfig(epochs=1), 1)
    for knob in ("mixup", "input_noise", "input_dropout"):
        with pytest.raises(InputError, match=f"{knob} changes the codes of categories .* embedding 'codes.0' takes"):
            compare(Mixed, mixed, [Setting(), Setting(**{knob: 0.2})], 2, epochs=1)
        assert knob not in space
    assert "dropconnect" in space
    with pytest.raises(InputError, match="mixup changes the codes of categories"):
        tune(Mixed, mixed, {"mixup": [0.0, 0.2], "lr": 0.01}, n_settings=2, epochs=1)
