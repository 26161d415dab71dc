"""Questions answered by training: each against what plain training says, and each verdict against its rule."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import t

from dampen import InputError, Setting, from_arrays, load, solo
from dampen._language import shown, speaking
from dampen.experiments import QUESTIONS, Points, draw_answer, explore, ground
from dampen.experiments._interaction import verdict_of
from dampen.experiments._scaling import RATES, lowest
from dampen.statistics import Estimate

SHORT = {"seeds": range(3), "epochs": 3}


@pytest.fixture(scope="module")
def answers():
    """Every answer on a small table."""
    return {name: explore(name, ground(load("wine"), (8, 6), **SHORT)) for name in QUESTIONS}


@pytest.mark.parametrize("name", QUESTIONS)
def test_an_answer_is_a_sentence_with_an_interval_and_a_picture(answers, name, tmp_path):
    found = answers[name]
    document = json.loads(json.dumps(found.document()))
    assert document["question"] == name
    assert document["verdict"]
    assert "95 % interval" in str(found)
    assert all(low <= e["estimate"] <= high for e in document["main"].values() for low, high in [e["interval"]])
    assert len(document["figures"]) == len(found.panels) > 0
    draw_answer(found, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 10_000


@pytest.mark.parametrize("name", QUESTIONS)
def test_an_answer_is_chinese_with_the_same_figures(answers, name):
    kept = r"nll|logits|DropConnect|gaussian_dropout|input_dropout|input_noise"
    with speaking("zh"):
        for line in (*answers[name].sentences, QUESTIONS[name].text):
            twin = shown(line)
            assert sorted(re.findall(r"\d+", twin)) == sorted(re.findall(r"\d+", line))
            assert not re.search("[A-Za-z]{2}", re.sub(kept, "", twin)), twin


def test_effects_are_those_of_the_networks_that_plain_loops_train():
    """Four networks for each seed, trained one by one: the same differences, and Student's interval near ours."""
    on = ground(load("iris"), (6,), seeds=range(4), epochs=4)
    found = explore("interaction", on)
    chosen = found.more["chosen"]
    rows = on.evaluation.validation
    pairs = [(d, p) for d in (0.0, chosen["weight_decay"]) for p in (0.0, chosen["dropout"])]

    def loss(d, p, seed):
        options = {"epochs": 4, "batch_size": 32, "lr": 1e-3, "optimizer": "adamw"}
        network = solo(on.network, Setting(weight_decay=d, dropout=p), 1_000_000 + seed, on.data, **options).network
        return torch.nn.functional.cross_entropy(network(rows.features), rows.targets).item()

    neither, dropout, decay, both = (np.array([loss(d, p, seed) for seed in range(4)]) for d, p in pairs)
    assert found.main["decay"].mean == pytest.approx((decay - neither).mean(), abs=1e-5)
    assert found.main["dropout"].mean == pytest.approx((dropout - neither).mean(), abs=1e-5)
    interaction = both - decay - dropout + neither
    assert found.more["interaction"]["estimate"] == pytest.approx(interaction.mean(), abs=1e-5)
    low, high = found.more["interaction"]["interval"]
    over_seeds = 2 * t.ppf(0.975, 3) * interaction.std(ddof=1) / 2
    assert high - low > 0.3 * over_seeds  # rows add to it, degrees of freedom take from it


@pytest.mark.parametrize(
    ("decay", "dropout", "added", "interaction", "word"),
    [
        (-1, -1, -1, 0, "additive"),
        (-1, -1, -1, 0.5, "diminishing"),
        (-1, -1, 0, 1, "cancelling"),
        (-1, -1, 1, 3, "cancelling"),
        (-1, -1, -2, -1, "reinforcing"),
        (0, 0.5, 0.5, 0, "neither helps"),
        (-1, 1, 1, 1, "cancelling"),
    ],
)
def test_how_two_gains_combine_is_told_by_the_intervals(decay, dropout, added, interaction, word):
    estimates = (Estimate(float(mean), 0.01, 30.0) for mean in (decay, dropout, added, interaction))
    assert verdict_of(*estimates) == word


@pytest.mark.parametrize("question", ["rates", "variance"])
def test_the_unit_of_squared_errors_is_told_with_the_target_s_variance(question):
    """The same differences whatever the target's unit, told with numpy's variance of the training rows."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 2, generator=generator)
    data = from_arrays(x, 100 * x[:, 0] + 7, task="regression")
    found = explore(question, ground(data, (3, 2), seeds=range(2), epochs=1))
    variance = np.var(data.targets[data.train_rows].numpy())
    told = f"The mse is in variances of the target, each {variance:.3g} in its squared unit"
    assert (told in str(found)) == (question == "rates")
    if question == "rates":
        assert found.more["target_variance"] == pytest.approx(variance, rel=1e-5)
        assert max(abs(estimate.mean) for estimate in found.main.values()) < 1


def test_gains_of_decay_on_a_network_that_must_overfit_are_found():
    """Few rows, a linear truth in a few of many inputs, long training: decay helps, and the answer says so."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3000, 60, generator=generator)
    data = from_arrays(x, x[:, :5].sum(1) + torch.randn(3000, generator=generator), task="regression")
    found = explore("decay", ground(data, (64,), seeds=range(4), epochs=40, lr=3e-3, rows=400))
    assert found.verdict == "decay helps"
    assert found.main["chosen minus none"].interval()[1] < 0
    assert found.more["chosen"] > 0


def misled(part):
    """Return a ground of a linear truth whose selection rows (`data`) or evaluation rows (`evaluation`) are all 0."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(300, 3, generator=generator)
    on = ground(from_arrays(x, x[:, 0], task="regression"), (8,), seeds=range(3), epochs=15, lr=2e-2)
    held = getattr(on, part)
    targets = held.targets.clone()
    targets[held.validation_rows] = 0.0
    return replace(on, **{part: replace(held, targets=targets)})


def test_a_decay_that_validation_rows_choose_and_that_hurts_is_said_to_hurt():
    found = explore("decay", misled("data"))
    assert found.main["chosen minus none"].interval()[0] > 0
    assert found.verdict == "decay hurts"
    assert "decay hurts here, though validation rows choose it" in str(found)


def test_more_decay_that_is_better_than_the_chosen_one_is_said_to_be():
    found = explore("decay", misled("evaluation"))
    assert found.main["too much minus chosen"].interval()[1] < 0
    assert "is better than the one that validation rows choose" in str(found)


def test_what_early_stopping_is_worth_beside_dropout_is_what_the_interval_allows():
    """Dropout keeps a short training from a linear truth; selection rows of 0 stop both after the first epoch."""
    on = misled("data")
    found = explore("epochs", replace(on, training=replace(on.training, epochs=2)))
    assert found.verdict == "dropout hurts"
    low, high = found.main["at the best epochs"].interval()
    assert low < 0 < high
    assert f"a gain by dropout of up to {-low:.3g} and a loss of up to {high:.3g}" in str(found)
    assert "as much as" not in str(found)


def test_variance_is_that_of_the_activations_with_and_without_noise(answers):
    """The noise of dropout adds p / (1 - p) times the second moment, which is at least the variance."""
    for panel in answers["variance"].panels:
        clean, evaluated, noisy = (line.values for line in panel.content)
        assert clean.shape == evaluated.shape == noisy.shape == (3, 3)
        assert (noisy > 1.6 * evaluated).all()


def test_l1_makes_zeros_that_l2_does_not(answers):
    zeros = answers["penalty"].more["zeros"]
    assert zeros["l1"]["estimate"] > 0.001
    assert zeros["l2"]["estimate"] == zeros["neither"]["estimate"] == 0
    sizes = {line.label: line.values for line in answers["penalty"].panels[-1].content}
    assert all((np.diff(values, axis=0) >= 0).all() for values in sizes.values())


def test_noises_are_compared_at_the_strength_that_choosing_rows_prefer(answers):
    found = answers["noises"]
    assert set(found.more["chosen"]) == {"dropout", "dropconnect", "gaussian_dropout", "input_dropout", "input_noise"}
    between = found.main["dropconnect minus none"].mean - found.main["dropout minus none"].mean
    assert found.main["dropconnect minus dropout"].mean == pytest.approx(between)
    for name in ("dropconnect", "gaussian_dropout", "input_dropout", "input_noise"):
        estimate = found.main[f"{name} minus dropout"]
        low, high = estimate.interval(1 - 0.05 / 4)  # of four comparisons
        assert f"{estimate.mean:+.3g} ({low:+.3g} to {high:+.3g})" in found.sentences[1]
        assert (name in found.verdict) == (low > 0 or high < 0)


def test_the_curve_over_decays_is_that_of_plain_loops_on_each_seed_s_rows():
    on = ground(load("iris"), (4,), seeds=range(2), epochs=2)
    found = explore("scaling", on)
    rows = [size["rows"] for size in found.more["sizes"]]
    n = len(on.data.train_rows)
    assert rows == [round(n / 8), round(n / 4), round(n / 2), n]
    epochs = [size["epochs"] for size in found.more["sizes"]]
    assert epochs == [2 * -(-n // 32) // -(-part // 32) for part in rows]  # as many steps
    line, seed, decay = found.panels[0].content[1], 1, 1.0
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))[: rows[1]]
    part = replace(on.data, train_rows=on.data.train_rows[order].sort().values)
    options = {"epochs": epochs[1], "batch_size": 32, "lr": 1e-3, "optimizer": "adamw"}
    losses = []
    for rate in RATES:
        network = solo(on.network, Setting(weight_decay=decay, dropout=rate), seed, part, **options).network
        held = part.validation
        losses.append(torch.nn.functional.cross_entropy(network(held.features), held.targets).item())
    assert line.values[list(line.x).index(decay), seed] == pytest.approx(min(losses), abs=1e-5)


def test_the_best_point_of_a_curve_is_its_vertex_or_where_there_is_none_the_lowest_point():
    x = np.linspace(-2, 3, 6)
    assert lowest(x, (x - 0.3) ** 2 + 5) == pytest.approx(0.3)
    assert lowest(x, -x) == 3
    assert lowest(x, np.where(x == 1, 0.0, np.inf)) == 1


def test_where_no_decay_or_no_dropout_is_best_none_is_said_to_be_and_nothing_is_fitted(tmp_path):
    """Selection rows whose targets are ten times as far from the mean: whatever shrinks predictions is worse there."""
    x = torch.randn(110, 3, generator=torch.Generator().manual_seed(0))
    on = ground(from_arrays(x, x[:, 0], task="regression"), (8,), seeds=range(2), epochs=10, lr=2e-2)
    targets, rows = on.data.targets.clone(), on.data.validation_rows
    targets[rows] *= 10
    found = explore("scaling", replace(on, data=replace(on.data, targets=targets)))
    losses = [line.values for line in found.panels[0].content]
    bare = [(of_size[0] <= of_size.min(0)).sum() for of_size in losses]
    assert bare[-1] == 2
    sizes = found.more["sizes"]
    assert [size["seeds_without_decay"] for size in sizes] == bare
    assert [size["weight_decay"] is None for size in sizes] == [some > 0 for some in bare]
    assert sizes[-1]["time_scale"] is sizes[-1]["dropout"] is None
    assert f"{sizes[-1]['rows']} rows: best without decay for 2 of 2 seeds; best without dropout for 2 of 2" in str(
        found
    )
    assert found.main == {}
    assert found.more["twice"] == {"rows": 2 * sizes[-1]["rows"], "weight_decay": None, "dropout": None}
    draw_answer(found, tmp_path / "picture.png")


@pytest.mark.slow
def test_dropout_that_many_rows_need_less_of_is_found_with_its_slope():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3000, 60, generator=generator)
    data = from_arrays(x, x[:, :5].sum(1) + 1.4 * torch.randn(3000, generator=generator), task="regression")
    found = explore("scaling", ground(data, (16,), seeds=range(5), epochs=20, lr=1e-2, rows=320, batch_size=64))
    assert found.main["dropout per doubling"].interval()[1] < 0
    assert found.more["twice"]["dropout"]["estimate"] < found.more["sizes"][0]["dropout"]["estimate"]


def test_too_few_rows_for_an_eighth_are_refused():
    with pytest.raises(InputError, match="an eighth of the rows, which 40 are too few for: give 64 or more"):
        explore("scaling", ground(load("wine"), (4,), rows=40, **SHORT))


def test_the_test_rows_are_not_looked_at():
    data = load("wine")
    features = data.features.clone()
    features[data.test_rows] = 1e6
    spoiled = type(data)(**{name: getattr(data, name) for name in data.__dataclass_fields__} | {"features": features})
    found = [explore("rates", ground(one, (6, 6), **SHORT)) for one in (data, spoiled)]
    assert found[0].document() == found[1].document()


def test_rows_that_choose_and_rows_that_judge_share_no_group():
    generator = torch.Generator().manual_seed(0)
    x, groups = torch.randn(300, 4, generator=generator), torch.arange(300) // 5
    data = from_arrays(x, (x[:, 0] > 0).long(), groups=groups)
    on = ground(data, (4,), **SHORT)
    parts = [on.data.train_rows, on.data.validation_rows, on.evaluation.validation_rows]
    seen = [set(on.data.groups[part].tolist()) for part in parts]
    assert all(seen)
    assert sum(map(len, seen)) == len(set.union(*seen))


def test_points_are_told_with_their_labels(answers):
    points = answers["rates"].panels[0].content
    assert isinstance(points, Points)
    assert "(0.3, 0.5)" in points.labels
    assert "(0.5, 0.3)" in points.labels


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"hidden": ()}, "hidden layers"),
        ({"seeds": [0]}, "at least 2 seeds"),
        ({"rows": 10**6}, "training rows"),
        ({"callback": 3}, "callback must be a function, got 3"),
    ],
)
@pytest.mark.usefixtures("without_shape_checks")
def test_what_cannot_be_asked_is_refused_in_one_line(options, said):
    with pytest.raises(InputError, match=said):
        ground(load("wine"), **options)


def test_a_question_that_does_not_exist_is_refused():
    with pytest.raises(InputError, match="there is no question 'why'; there are decay"):
        explore("why", ground(load("wine"), (4,), **SHORT))
    with pytest.raises(InputError, match="at least 2 hidden layers"):
        explore("rates", ground(load("wine"), (4,), **SHORT))


@pytest.mark.parametrize("question", ["rates", "epochs", "variance"])
def test_a_training_that_diverges_is_told_in_one_line(question):
    with pytest.raises(InputError, match=r"^(a|every) network diverged.*: try a smaller --lr$"):
        explore(question, ground(load("wine"), (4, 4), seeds=range(2), epochs=1, lr=1e30))


def test_a_layer_whose_units_are_all_dead_has_no_ratio_of_variances():
    """Steps of 100 push the ReLUs of most narrow networks below 0 for every row."""
    with pytest.raises(InputError, match="hidden layer 1 has the same activations for every row"):
        explore("variance", ground(load("wine"), (1,), seeds=range(3), epochs=2, lr=100.0))


def test_the_command_lists_its_questions_and_answers_one(run, tmp_path):
    code, out, _ = run("explore", "--list")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == list(QUESTIONS)
    options = ("--hidden", "8,6", "--epochs", 2, "--seeds", 2)
    code, out, err = run("explore", "interaction", "wine", *options, "--json")
    document = json.loads(out)
    assert (code, err) == (0, "")
    assert {"main", "interaction", "verdict"} <= document.keys()
    assert {"estimate", "interval"} == document["interaction"].keys()
    code, out, _ = run("explore", "interaction", "wine", *options)
    assert out.splitlines()[-1] == "dampen-interaction.png"
    assert (tmp_path / "dampen-interaction.png").is_file()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "which question?"),
        (("why",), "there is no question 'why'"),
        (("decay", "nowhere"), "nowhere"),
        (("decay", "wine", "--hidden", "a"), "--hidden"),
        (("decay", "wine", "--plot", "picture.txt"), "must end in"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(run, words, said):
    code, out, err = run("explore", *words)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
