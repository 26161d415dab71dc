"""Codes of a table's categories reach the user's embedding as they are, and nothing else reads or changes them."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import dampen
from dampen import InputError, Population, Setting, TrainConfig, compare, load, load_study, solo, tune
from dampen.engine import check_codes
from dampen.engine._rng import batch_order
from dampen.experiments import dropout, ground
from dampen.models import Periodic, Scaling
from dampen.play._own import table_of
from dampen.study._cocktail import cocktail_space

N = 120
RNG = np.random.default_rng(0)
SHOP, WARD = RNG.integers(1, 9, N), RNG.choice(["north", "south", "west"], N)
FRAME = pd.DataFrame({"size": RNG.normal(size=N), "shop": SHOP, "ward": WARD, "sold": SHOP % 2 == 1})
DATA = load(FRAME, target="sold", codes=["shop", "ward"])
HOW = {"epochs": 2, "batch_size": 16}


class Embeds(nn.Module):
    """An embedding for each column of codes, beside the numbers."""

    def __init__(self, inputs, outputs, wide=0):
        super().__init__()
        self.embeddings = nn.ModuleList(nn.Embedding(code.num_embeddings + wide, 3) for code in DATA.codes)
        self.rest = nn.Sequential(nn.Linear(inputs + 4, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, outputs))

    def forward(self, x):
        embedded = [e(x[..., code.place].long()) for e, code in zip(self.embeddings, DATA.codes, strict=True)]
        return self.rest(torch.cat([*embedded, x[..., len(DATA.codes) :]], -1))


def sequential(*layers):
    return lambda inputs, outputs: nn.Sequential(*[layer() for layer in layers], nn.Linear(inputs, outputs))


def zero_last(inputs, outputs):
    network = nn.Sequential(nn.Linear(inputs, 8), nn.ReLU(), nn.Linear(8, outputs))
    nn.init.zeros_(network[2].weight)
    return network


def one_hot_too(inputs, outputs):
    """Looks codes up, and reads them as numbers beside that."""

    class Both(Embeds):
        def forward(self, x):
            return super().forward(x) + 0.01 * x[..., :1]

    return Both(inputs, outputs)


AS_NUMBERS = {
    "tabular": dampen.tabular(8),
    "mlp": dampen.mlp(8),
    "linear": dampen.linear(),
    "scaling": sequential(lambda: Scaling(3)),
    "periodic": lambda inputs, outputs: nn.Sequential(Periodic(3), nn.Linear(12, outputs)),
    "batch norm": sequential(lambda: nn.BatchNorm1d(3)),
    "last layer of zeros": zero_last,
    "both": one_hot_too,
}


@pytest.mark.parametrize("network", AS_NUMBERS)
def test_a_network_that_reads_codes_as_numbers_is_refused_with_the_remedy(network):
    said = r"reads the codes of column 'shop', input 0, as numbers: .* nn\.Embedding\(9, \.\.\.\)\(x\[\.\.\., 0\]\.long"
    with pytest.raises(InputError, match=said):
        Population(AS_NUMBERS[network], [Setting()], [0]).fit(DATA, **HOW)


@pytest.mark.parametrize(
    "use",
    [
        lambda model: compare(model, DATA, [Setting(), Setting(weight_decay=0.1)], 2, **HOW),
        lambda model: tune(model, DATA, n_settings=2, **HOW),
        lambda model: solo(model, Setting(), 0, DATA, **HOW),
    ],
    ids=["compare", "tune", "solo"],
)
def test_it_is_refused_in_every_use(use):
    with pytest.raises(InputError, match="the network reads the codes of column 'shop', input 0, as numbers"):
        use(dampen.tabular(8))


class LooksUp(nn.Module):
    def __init__(self, how, outputs, n=9):
        super().__init__()
        self.how, self.linear = how, nn.Linear(n, outputs)

    def forward(self, x):
        return self.linear(self.how(x[..., 0]).float())


@pytest.mark.parametrize(
    "how",
    [
        lambda code: nn.functional.one_hot(code.long(), 9),
        lambda code: nn.functional.one_hot(code.round().long(), 9),
        lambda code: code.unsqueeze(-1) == torch.arange(9),
        lambda code: nn.functional.one_hot((2000 * code).long() // 2000, 9),
    ],
    ids=["one-hot", "rounded", "equal", "multiplied"],
)
def test_other_ways_to_look_codes_up_are_no_numbers(how):
    check_codes(LooksUp(how, 2), DATA.train.features, DATA.codes)


def few(outputs):
    return LooksUp(lambda code: nn.functional.one_hot(code.long(), 8), outputs, 8)


def test_an_embedding_with_too_few_rows_is_refused_with_both_numbers():
    said = r"column 'shop' has the codes 0 to 8; the network's embedding 'embeddings.0' has 8 rows \(0 to 7\): make it"
    for use in (
        lambda model: Population(model, [Setting()], [0]).fit(DATA, **HOW),
        lambda model: compare(model, DATA, [Setting(), Setting(lr=0.1)], 2, **HOW),
    ):
        with pytest.raises(InputError, match=said):
            use(lambda inputs, outputs: Embeds(inputs, outputs, wide=-1))
    with pytest.raises(InputError, match="fails on code 8 of column 'shop', which has the codes 0 to 8: Class values"):
        Population(few, [Setting()], [0]).fit(DATA, **HOW)


def test_a_network_without_a_row_for_code_0_is_refused():
    without = LooksUp(lambda code: nn.functional.one_hot(code.long() - 1, 9), 2)
    with pytest.raises(InputError, match="fails on code 0 of column 'shop', which has the codes 0 to 8: Class values"):
        check_codes(without, DATA.train.features, DATA.codes)


def test_looking_at_codes_changes_no_weights():
    network = Embeds(DATA.n_inputs, 2)
    for embedding in network.embeddings:
        embedding.max_norm = 0.1  # torch shrinks the rows in every pass
    before = copy.deepcopy(network.state_dict())
    check_codes(network, DATA.train.features, DATA.codes)
    assert all(torch.equal(t, before[name]) for name, t in network.state_dict().items())


def test_a_knob_that_is_off_changes_no_codes():
    compare(Embeds, DATA, [Setting(input_noise=0.0), Setting(input_noise=0.0, lr=0.1)], 2, epochs=1, batch_size=32)


@pytest.mark.parametrize("knob", ["mixup", "input_noise", "input_dropout", "cutmix"])
def test_what_would_change_codes_is_refused_whatever_the_network(knob):
    settings, said = [Setting(), Setting(**{knob: 0.2})], f"{knob} changes the codes of column 'shop': leave it out"
    with pytest.raises(InputError, match=said):
        tune(Embeds, DATA, {knob: [0.0, 0.2], "lr": 0.01}, n_settings=2, **HOW)
    with pytest.raises(InputError, match=said):
        Population(Embeds, settings, [0]).fit(DATA, **HOW)
    with pytest.raises(InputError, match=said):
        solo(Embeds, settings[1], 0, DATA, **HOW)


@pytest.mark.slow
def test_no_cocktail_changes_codes():
    space = cocktail_space(Embeds, DATA, TrainConfig(epochs=1), 1)
    assert not {"mixup", "cutmix", "input_noise", "input_dropout"} & set(space)
    assert {"dropconnect", "dropout", "ema"} <= set(space)


@pytest.mark.parametrize(
    "use",
    [
        lambda: ground(DATA, (4,), seeds=[0, 1], epochs=1),
        lambda: dropout.compare(DATA, (0.5,), (4,), [0], epochs=1),
        lambda: table_of(DATA),
    ],
    ids=["explore", "dropout", "play"],
)
def test_what_trains_dampens_own_network_refuses_codes(use):
    with pytest.raises(InputError, match=r"codes of column 'shop'.* as numbers.*leave codes out"):
        use()


START = Embeds(3, 2).double()
SETTINGS = [Setting(weight_decay=decay, dropout=0.0) for decay in (0.1, 0.3)]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study of a file in float64, whose members all start from the same weights, and its folder."""
    folder = tmp_path_factory.mktemp("codes")
    FRAME.to_csv(folder / "shops.csv", index=False)
    data = load(folder / "shops.csv", target="sold", codes=["shop", "ward"])
    how = {"epochs": 3, "batch_size": 15, "lr": 0.01, "precision": "float64", "schedule": "constant"}
    return compare(lambda: copy.deepcopy(START), data, SETTINGS, 2, **how, out=folder / "study"), folder / "study"


def test_a_study_s_network_equals_a_loop_written_by_hand(study):
    population = study[0].results.population
    setting, seed = population.settings[0], population.seeds[1]
    x, y, network = DATA.train.features.double(), DATA.train.targets, copy.deepcopy(START).train()
    network.rest[2].p = 0.0
    matrices, biases = ([p for p in network.parameters() if p.ndim == ndim] for ndim in (2, 1))
    decaying = {"params": matrices, "weight_decay": setting["weight_decay"]}
    optimizer = torch.optim.AdamW([decaying, {"params": biases, "weight_decay": 0.0}], 0.01)
    for epoch in (1, 2, 3):
        for rows in batch_order(len(x), seed, epoch).split(15):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x[rows]), y[rows]).backward()
            optimizer.step()
    assert not torch.equal(network.embeddings[0].weight, START.embeddings[0].weight)
    for ours, theirs in zip(population.member(setting, seed).parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("validation", [pytest.param("folds", marks=pytest.mark.slow), "held-out"])
def test_simple_models_get_categories_and_not_their_numbers(validation):
    sizes = {"n_settings": 1, "n_seeds": 1, "confirmed": 1, "n_confirm_seeds": 2}
    found = tune(Embeds, DATA, {"lr": 0.01}, validation=validation, epochs=1, batch_size=45, **sizes)
    # whether a shop's number is odd, which no slope tells
    assert found.test["linear"]["accuracy"]["mean"] == 1.0
    assert found.verdict.references["linear"].value < 0.2


def test_a_saved_study_predicts_new_rows_as_the_one_that_made_it(study):
    made, folder = study
    kept = load_study(folder, model=Embeds)
    new = pd.DataFrame(
        {"size": [0.1, 0.2, 0.3, 0.4], "shop": [3, 99, None, 3], "ward": ["west", "west", "west", "east"]}
    )
    rows = kept.preprocessing.read(new)
    expected = [[3, 3], [0, 3], [0, 3], [3, 0]]
    inputs = kept.preprocessing.inputs(new)
    assert inputs[:, :2].tolist() == expected
    assert inputs.equal(made.preprocessing.inputs(new))
    assert "column 'shop' has a value that the training rows lack in 1 row ('99'): its code is 0" in rows.notes
    assert "column 'shop' is missing in 1 row, in the training rows it never is: its code is 0" in rows.notes
    with torch.no_grad():
        torch.testing.assert_close(kept.model()(inputs), made.model()(inputs))
    assert [(c.name, c.place, c.num_embeddings) for c in kept.data.codes] == [("shop", 0, 9), ("ward", 1, 4)]
