"""What is sampled, what is not, and how a network's outputs are interpreted: right, or with a warning."""

import json
import types
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dampen
from dampen import InputError, NotSampled, OutputsWarning, Population, Setting, mc_dropout, predict
from dampen.uncertainty import dropout_rates

pytestmark = pytest.mark.usefixtures("without_shape_checks")


class Functional(nn.Module):
    """Drops at a rate that no setting can change in the module."""

    def __init__(self, outputs=3):
        super().__init__()
        self.a, self.b = nn.Linear(6, 16), nn.Linear(16, outputs)

    def forward(self, x):
        return self.b(F.dropout(torch.relu(self.a(x)), 0.5, self.training))


@pytest.fixture
def x():
    return torch.randn(20, 6, generator=torch.Generator().manual_seed(0))


def evaluated(network, x):
    with torch.no_grad():
        return network.eval()(x)


def test_a_rate_of_0_is_the_evaluation_pass_and_told(x):
    network = Functional().train()
    with pytest.warns(NotSampled, match="nothing was sampled") as told:
        found = mc_dropout(network, x, dropout=0.0, task="classification", return_samples=True)
    assert len(told) == 1
    assert network.training
    torch.testing.assert_close(found.probabilities, evaluated(network, x).double().softmax(1), rtol=1e-5, atol=1e-7)
    assert found.deviation.abs().max() == 0
    assert found.samples == len(found.draws) == 100
    assert torch.equal(found.votes.amax(1), torch.full((20,), 100))
    with pytest.warns(NotSampled):
        values = mc_dropout(Functional(1), x, dropout={"": 0.0}, task="regression", return_samples=True)
    assert values.epistemic.abs().max() == 0
    assert dropout_rates(network, x) == [0.5]
    assert dropout_rates(network, x, dropout=0.0) == [0.0]


def test_an_ensemble_at_a_rate_of_0_is_the_mean_of_its_passes_told_once(x):
    networks = [Functional(), Functional()]
    with pytest.warns(NotSampled) as told:
        found = predict(networks, x, 5, dropout=0.0, task="classification")
    assert len(told) == 1
    expected = torch.stack([evaluated(network, x).double().softmax(1) for network in networks]).mean(0)
    torch.testing.assert_close(found.probabilities, expected, rtol=1e-5, atol=1e-7)


def test_an_ensemble_is_sampled_where_one_of_its_networks_drops_nothing_and_nothing_is_said(x):
    one, other = (nn.Sequential(nn.Flatten(), nn.Linear(6, 3), nn.Dropout(p)) for p in (0.0, 0.5))
    found = predict([one, other], x, 5, task="regression", return_samples=True)
    spread = found.draws.std(0)
    assert spread.max() > 0
    alone = predict([one, one], x, task="regression").mean
    torch.testing.assert_close(found.draws[:5].mean(0), alone, rtol=1e-5, atol=1e-6)


class DropPath(nn.Module):
    def forward(self, x):
        return x * x.new_empty(len(x), 1).bernoulli_(0.7) / 0.7 if self.training else x


class OneMask(nn.Module):
    """One mask for all time steps."""

    def forward(self, x):
        return x * (torch.rand(len(x), 1, x.shape[2]) > 0.3) if self.training else x


class ByPython(nn.Module):
    def forward(self, x):
        import random

        return x if not self.training or random.random() > 0.5 else torch.zeros_like(x)


def around(layer, *drop):
    return nn.Sequential(nn.Unflatten(1, (2, 3)), *layer, nn.Flatten(), nn.Linear(6, 8), *drop, nn.Linear(8, 3))


RANDOM = {
    "DropPath (1.1)": (nn.Sequential(nn.Flatten(), DropPath(), nn.Unflatten(1, (2, 3))),),
    "OneMask (1)": (OneMask(),),
    "ByPython (1)": (ByPython(),),
    "RReLU (1)": (nn.RReLU(),),
}


@pytest.mark.parametrize("name", RANDOM)
@pytest.mark.filterwarnings("ignore:the network can't be sampled many times at once")
def test_what_is_random_in_a_way_of_its_own_is_named(name, x):
    network = around(RANDOM[name], nn.Dropout(0.3))
    with pytest.warns(NotSampled, match="left out of the samples") as told:
        mc_dropout(network, x, samples=4, task="classification")
    assert name in str(told[0].message)
    with pytest.raises(InputError, match="can't be sampled") as refused:
        mc_dropout(around(RANDOM[name]), x, samples=4, task="classification")
    assert name in str(refused.value)


@pytest.mark.parametrize(
    ("shape", "said"),
    [((3,), "logits of 3 classes"), ((2,), "logits of 2 classes: task='regression', or variance_head=True"),
     ((1,), "values: task='classification', for the logit of two classes")],
)  # fmt: skip
@pytest.mark.parametrize("samples", [None, 3])
def test_a_guess_of_what_outputs_are_is_told_once_and_no_more_with_a_task(shape, said, samples, x):
    network = Functional(*shape)
    with pytest.warns(OutputsWarning, match="are interpreted as") as told:
        predict(network, x, samples)
    assert len(told) == 1
    assert said in str(told[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predict(network, x, samples, task="regression")


def test_pixels_and_tokens_are_values_or_refused():
    images, words = torch.randn(4, 1, 6, 6), torch.randn(4, 5, 6)
    pixels = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Dropout(0.2))
    tokens = nn.Sequential(nn.Linear(6, 3), nn.Dropout(0.2))
    for network, x in ((pixels, images), (tokens, words)):
        for task in (None, "classification"):
            with pytest.raises(InputError, match="pixels or tokens"):
                mc_dropout(network, x, samples=3, task=task)
        found = mc_dropout(network, x, samples=3, task="regression")
        assert found.mean.shape == network(x).shape


@pytest.mark.parametrize("flat", [False, True])
def test_one_logit_is_two_classes_where_the_task_says_so(flat, x):
    network = nn.Sequential(Functional(1), *[nn.Flatten(0)] * flat)
    found = predict(network, x, task="classification")
    p = evaluated(network, x).double().flatten().sigmoid()
    torch.testing.assert_close(found.probabilities, torch.stack([1 - p, p], 1), rtol=1e-5, atol=1e-7)
    sampled = mc_dropout(network, x, samples=8, task="classification", return_samples=True)
    torch.testing.assert_close(sampled.probabilities, sampled.draws.double().mean(0), rtol=1e-5, atol=1e-7)


class Object(nn.Module):
    """Returns what a library's models return."""

    def __init__(self):
        super().__init__()
        self.network = Functional()

    def forward(self, x):
        return types.SimpleNamespace(logits=self.network(x), loss=None)


class Entries(Object):
    def forward(self, x):
        return {"out": self.network(x), "loss": None}


def test_logits_are_taken_out_of_an_object_and_other_things_are_refused_with_a_way_out(x):
    network = Object()
    for samples in (None, 6):
        mine = predict(network, x, samples, task="classification")
        theirs = predict(network.network, x, samples, task="classification")
        assert torch.equal(mine.probabilities, theirs.probabilities)
    for samples in (None, 6):
        with pytest.raises(
            InputError, match=r"dict: wrap it in a nn.Module whose forward returns one of .* \(out, loss"
        ):
            predict(Entries(), x, samples)
    with pytest.raises(InputError, match=r"by name \(ids, mask\): wrap the network"):
        mc_dropout(network, {"ids": x, "mask": x})
    with pytest.raises(InputError, match="one tensor or a tuple of them, got the path 'words'"):
        mc_dropout(network, "words")
    y = torch.zeros(20, dtype=torch.long)
    with pytest.raises(InputError, match=r"SimpleNamespace: wrap it in a nn.Module .* returns its \.logits"):
        Population(Object, [Setting()], [0]).fit((x, y), epochs=1)


@pytest.mark.filterwarnings("ignore:.*jit.* is deprecated")
def test_scripts_are_refused_and_networks_that_have_run_are_sampled(x):
    with pytest.raises(InputError, match=r"torch\.jit script"):
        mc_dropout(torch.jit.script(Functional()), x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        network = nn.Sequential(nn.utils.weight_norm(nn.Linear(6, 8)), nn.Dropout(0.5), nn.Linear(8, 3))
    network(x)
    assert mc_dropout(network, x, samples=5, task="classification").deviation.max() > 0


def ends(layer):
    return lambda inputs=6, outputs=3: nn.Sequential(
        nn.Linear(inputs, 8), nn.Dropout(0.2), nn.Linear(8, outputs), layer
    )


@pytest.mark.parametrize(("layer", "name"), [(nn.Softmax(1), "softmax"), (nn.Sigmoid(), "sigmoid")])
def test_probabilities_where_logits_are_wanted_are_told(layer, name, x):
    y = torch.arange(20) % 3
    with pytest.warns(OutputsWarning, match=f"ends in a {name}.*remove the network's last {name}"):
        Population(ends(layer), [Setting()], [0]).fit((x, y), epochs=1)
    if name == "softmax":
        for samples in (None, 3):
            with pytest.warns(OutputsWarning, match="ends in a softmax"):
                predict(ends(layer)(), x, samples, task="classification")


def test_log_probabilities_and_a_loss_of_one_s_own_are_fine(x):
    y = torch.arange(20) % 3
    Population(ends(nn.LogSoftmax(1)), [Setting()], [0]).fit((x, y), epochs=1)
    predict(ends(nn.LogSoftmax(1))(), x, 3, task="classification")
    nll = lambda p, t: F.nll_loss(p.log(), t, reduction="none")  # noqa: E731
    Population(ends(nn.Softmax(1)), [Setting()], [0]).fit((x, y), epochs=1, loss=nll)


CODE = """
import torch, torch.nn.functional as F
from torch import nn

class Functional(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.a, self.b = nn.Linear(inputs, 8), nn.Linear(8, outputs)
    def forward(self, x):
        return self.b(F.dropout(torch.relu(self.a(x)), 0.5, self.training))

def functional(inputs, outputs): return Functional(inputs, outputs)
class Counted(nn.Module):
    def forward(self, x):
        return torch.relu(x) * float(x.detach().mean().isfinite())
def soft(inputs, outputs):
    hidden = nn.Sequential(nn.Linear(inputs, 8), Counted())
    return nn.Sequential(hidden, nn.Linear(8, outputs), nn.Softmax(1))
def loaded(inputs, outputs):
    network = nn.Linear(inputs, outputs)
    values = torch.linspace(-0.1, 0.1, inputs * outputs).view(outputs, inputs)
    network.load_state_dict({"weight": values, "bias": torch.zeros(outputs)})
    return network
"""
SMALL = ("--settings", 2, "--seeds", 1, "--epochs", 1, "--confirmed", 1, "--confirm-seeds", 2)


@pytest.fixture
def own(run, tmp_path):
    """Run in a folder that has networks of one's own."""
    import sys

    (tmp_path / "told_nets.py").write_text(CODE)

    def call(*words):
        ended = run(*words)
        sys.modules.pop("told_nets", None)
        return ended

    return call


def test_predict_of_a_study_without_dropout_is_one_pass_however_its_network_drops(own):
    own("tune", "iris", "--model", "told_nets:functional", *SMALL, "--dropout", 0, "--out", "s")
    words = ("predict", "s", "iris", "--model", "told_nets:functional", "--json")
    first, second = (json.loads(own(*words)[1]) for _ in range(2))
    assert first["predictions"] == second["predictions"]
    assert first["method"] == "single pass"
    assert len(first["notes"]) == 1
    assert "drops no units, so there is nothing to sample" in first["notes"][0]


def test_a_study_tells_each_thing_once_as_a_line_and_keeps_it(own, tmp_path):
    _, out, err = own("tune", "iris", "--model", "told_nets:soft", *SMALL, "--out", "s", "--json")
    lines = [line for line in err.splitlines() if line.startswith("dampen: note: ")]
    assert ["softmax" in line for line in lines] == [True, False]
    assert ["can't be fused" in line for line in lines] == [False, True]
    notes = json.loads(out)["notes"]
    assert [note for note in notes if "ends in a softmax" in note] == [lines[0].removeprefix("dampen: note: ")]
    assert "ends in a softmax" in (tmp_path / "s" / "report.html").read_text()
    code, out, _ = own("predict", "s", "iris", "--model", "told_nets:soft", "--json")
    assert code == 0
    assert any("ends in a softmax" in note for note in json.loads(out)["notes"])


def test_weights_that_a_function_loads_are_told_of_in_the_verdict_and_the_report(own, tmp_path):
    _, out, _ = own("tune", "iris", "--model", "told_nets:loaded", *SMALL, "--out", "s", "--json")
    said = "starts from the same weights with every seed"
    assert any(said in sentence for sentence in json.loads(out)["sentences"])
    assert said in (tmp_path / "s" / "report.html").read_text()


@pytest.mark.parametrize("lr", ["1e4..1e6", "1e30"])
def test_a_search_that_leaves_every_network_worse_than_no_network_is_one_line(lr, run):
    code, _, err = run("tune", "iris", "--lr", lr, "--settings", 3, "--seeds", 1, "--epochs", 4, "--confirm-seeds", 2)
    assert code == 2
    assert err.splitlines()[-1].startswith("dampen: every setting diverged: lower the learning rate")


def test_a_comparison_and_an_estimator_say_so_too():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(60, 4, generator=generator), torch.randint(2, (60,), generator=generator)
    network = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    data, settings = dampen.from_arrays(x, y, task="classification"), [Setting(lr=1e5), Setting(lr=1e6)]
    with pytest.raises(
        InputError, match=r"every setting diverged: lower the learning rate \(lr\), which was 1e\+05 to"
    ):
        dampen.compare(network, data, settings, n_seeds=2, epochs=2)
    how = {"n_settings": 2, "n_seeds": 1, "epochs": 2, "n_confirm_seeds": 2}
    model = dampen.DampenClassifier(model=lambda inputs: network, space={"lr": [1e5, 1e6]}, random_state=0, **how)
    with pytest.raises(InputError, match="every setting diverged"):
        model.fit(x.numpy(), y.numpy())


def test_one_row_left_over_is_refused_before_the_search():
    x = torch.randn(61, 4, generator=torch.Generator().manual_seed(0))
    data = dampen.from_arrays(x, (x[:, 0] > 0).long(), task="classification")

    def make(inputs, outputs):
        return nn.Sequential(nn.Linear(inputs, 8), nn.BatchNorm1d(8), nn.Linear(8, outputs))

    seen = []
    with pytest.raises(InputError, match=r"in batches of 2 leave one of a single row.*choose another batch_size"):
        dampen.compare(make, data, [Setting(), Setting(weight_decay=1.0)], 2, batch_size=2, callback=seen.append)
    assert not seen
