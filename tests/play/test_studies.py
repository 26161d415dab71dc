"""What the pages beside the lesson train: the two studies, a reader's table, and a whole search."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import Ridge

import dampen
from dampen import _io
from dampen.errors import InputError
from dampen.experiments import dropout, weight_decay
from dampen.play import _decay, _images, _own, _runs, _tune_charts
from dampen.play._decay import PROBLEM, Decay, DecayTraining
from dampen.play._images import Choice, ImagesTraining
from dampen.play._lesson import Lesson
from dampen.play._uploads import LARGEST_FILE, Uploads


def test_the_page_on_weight_decay_trains_as_the_study_does():
    training = DecayTraining(Decay(3.0))
    for _ in range(3):
        training.advance()
    now = training.snapshot()
    short = replace(PROBLEM, epochs=3)
    found = weight_decay.compare(short, [0.0, 3.0], range(_decay.N_SEEDS), evaluate_every=1)
    losses = np.stack([band.mean[1:] for band in now.test], 1)
    np.testing.assert_allclose(losses, found.history.metrics["test_loss"].mean(1), rtol=1e-3)
    np.testing.assert_allclose([now.norm[0][-1], now.norm[1][-1]], found.l2_norm.mean(0), rtol=1e-4)
    assert (now.epoch, now.done) == (3, False)


def test_the_line_beside_the_trainings_is_ridge_regression():
    now = DecayTraining(Decay(3.0)).snapshot()
    norms, losses = [], []
    for seed in range(_decay.N_SEEDS):
        data = PROBLEM.draw(seed)
        ridge = Ridge(alpha=3.0 * PROBLEM.rows).fit(data.train.features.numpy(), data.train.targets.numpy())
        norms.append(np.linalg.norm(ridge.coef_))
        errors = ridge.predict(data.test.features.numpy()) - data.test.targets.numpy()
        losses.append((errors**2).mean() / 2)
    assert now.ridge_norm == pytest.approx(np.mean(norms), rel=1e-4)
    assert now.ridge_test == pytest.approx(np.mean(losses), rel=1e-4)
    at = now.along.index(3.0)
    assert now.test_along.ridge[at] == pytest.approx(now.ridge_test)


@pytest.mark.parametrize("text", ["nan", "-1", "11", "x", "1e999"])
def test_a_weight_decay_that_can_not_be_used_stays_as_usual_and_is_told(text):
    choice, notes = _decay.from_query({"weight_decay": text})
    assert choice == Decay()
    assert len(notes) == 1
    assert "weight_decay must be a number" in notes[0]


@pytest.fixture(scope="module")
def on_digits():
    """Train the page's networks for two epochs on few digits."""
    training = ImagesTraining(Choice(rows=200, epochs=2))
    training.advance()
    training.advance()
    return training


def test_the_page_on_dropout_trains_as_the_study_does_and_tells_the_same_lines(on_digits):
    lines = []
    data = dampen.load("digits").subset(200)
    found = dropout.compare(
        data,
        (0.3, 0.5),
        _images.HIDDEN,
        range(_images.N_SEEDS),
        epochs=2,
        callback=lambda event: lines.append(dropout.epoch_line(event)) if isinstance(event, dampen.Epoch) else None,
    )
    now = on_digits.snapshot()
    assert now.lines == tuple(lines)
    assert now.done
    np.testing.assert_allclose(
        [band.mean[-1] for band in now.accuracy["test"]],
        found.history.final("test_accuracy").mean(0),
        atol=1e-4,
    )


def test_an_image_is_shown_as_monte_carlo_dropout_has_it(on_digits):
    shown = on_digits.snapshot().shown
    data = dampen.load("digits")
    half = len(data.test_rows) // 2
    network = on_digits._population.member(dampen.Setting(dropout=(0.3, 0.5)), 0)
    found = dampen.mc_dropout(network, data.test.features, 100, task="classification")
    assert shown.entropy == float(found.entropy[half])
    assert shown.mutual_information == float(found.mutual_information[half])
    assert 0 <= shown.mutual_information <= shown.entropy <= np.log(10)
    assert [sum(counts) for counts in shown.counts] == [100, 100, 100]
    assert shown.label == data.classes[int(data.test.targets[half])]


def test_images_are_believed_by_a_threshold_from_other_images(on_digits):
    now = on_digits.snapshot()
    trust = now.trust
    assert trust.n_believed + trust.n_others == now.n_images
    assert 0.75 < trust.n_believed / now.n_images < 1  # 0.9 of the other half
    assert trust.right > trust.others_right
    assert now.shown.believed == (now.shown.entropy <= trust.threshold)


def test_lists_threshold_and_the_image_that_is_shown_are_of_the_same_samples(on_digits):
    now, shown = on_digits.snapshot(), []
    for number in range(now.n_images):
        on_digits.change(Choice(rows=200, epochs=2, image=number))
        shown.append(on_digits.snapshot().shown)
    assert [one.number for one in shown] == list(range(now.n_images))
    assert len(now.trust.wrong) >= 10
    assert all(shown[number].names[0] != shown[number].label for number in now.trust.wrong)
    assert [one.number for one in sorted(shown, key=lambda one: -one.entropy)][:50] == now.trust.order
    believed = [one.names[0] == one.label for one in shown if one.believed]
    assert (len(believed), np.mean(believed)) == (now.trust.n_believed, now.trust.right)


def test_an_image_that_is_turned_is_another_one(on_digits):
    on_digits.change(Choice(rows=200, epochs=2))
    before = on_digits.snapshot().shown
    row = len(on_digits._data.test_rows) // 2
    alone = on_digits._sample(on_digits._data.test.features[row : row + 1], row)
    torch.testing.assert_close(alone.draws[:, 0], on_digits._of_all()[0].draws[:, row])  # masks are those of its row
    on_digits.change(Choice(rows=200, epochs=2, rotation=90))
    after = on_digits.snapshot()
    assert after.epoch == 2  # nothing trains anew
    assert after.shown.picture != before.picture
    assert after.shown.entropy != before.entropy


def test_values_of_an_address_that_can_not_be_used_are_told():
    choice, notes = _images.from_query({"data": "cats", "rate_1": "0.05", "rate_2": "nan", "rows": "x", "image": "-1"})
    assert choice == Choice(rate_1=0.05)
    assert len(notes) == 4


TABLE = pd.DataFrame(
    {
        "size": np.linspace(30, 200, 60),
        "rooms": [1, 2, 3, 4, 5, 6] * 10,
        "town": ["Ulm", "Bonn", "Bonn"] * 20,
        "price": np.linspace(100, 400, 60),
    }
)


def test_the_surface_has_the_other_columns_at_their_middle():
    data = dampen.load(TABLE, target="price")
    table = _own.table_of(data)
    assert table.names == ("size", "rooms", "town")
    points = _own.points_of(table, (0, 1))
    train = data.features[data.train_rows].numpy()
    assert table.middle[0] == pytest.approx(np.median(train[:, 0]))
    bonn = np.bincount(train[:, 2].astype(int)).argmax()
    raw = torch.tensor([[points.low[0], points.high[1], float(bonn)]])  # the grid begins at the top left
    assert torch.equal(points.grid[:1], data.normalisation.apply(raw))
    assert points.targets.mean() == pytest.approx(0, abs=1e-5)


def test_a_table_trains_and_shows_other_columns_without_starting_again():
    table = _own.table_of(dampen.load("iris"))
    lesson = Lesson(n_seeds=2, width=4, depth=1)
    training = _own.OwnTraining(table, lesson, (0, 1))
    training.advance()
    before = training.snapshot()
    training.change((lesson, (2, 3)))
    after = training.snapshot()
    assert after.step == before.step == 1
    assert [band.mean[-1] for band in after.test] == [band.mean[-1] for band in before.test]
    assert after.pictures != before.pictures


def test_a_table_with_words_is_refused_in_one_line():
    table = TABLE.assign(words=[f"a few words {i % 3}" for i in range(len(TABLE))])
    with pytest.raises(InputError, match="text: the surface can't show words"):
        _own.table_of(dampen.load(table, target="price", text="words"))


@pytest.mark.parametrize("surface", ["mean", "seeds", "dropout"])
def test_a_table_of_numbers_to_predict_has_a_surface(surface):
    table = _own.table_of(dampen.load(TABLE, target="price"))
    lesson = Lesson(points="curve", surface=surface, n_seeds=2, width=4, depth=1, dropout=0.5)
    none, chosen = _own.OwnTraining(table, lesson, (0, 1)).snapshot().pictures
    assert none.startswith("data:image/png;base64,")
    assert (none == chosen) == (surface != "dropout")  # nothing has trained, and only one drops units


def test_the_columns_shown_at_first_are_those_that_go_with_the_target():
    assert set(_own.table_of(dampen.load("iris")).telling()) == {2, 3}  # length and width of the petals


def test_what_is_no_table_is_refused_in_one_line():
    with pytest.raises(InputError, match="needs a table; digits has rows of shape"):
        _own.table_of(dampen.load("digits"))


@pytest.mark.parametrize(
    "name", ["../../rows.csv", "..\\rows.csv", "/etc/rows.csv", ".rows.csv", "", "a" * 500 + ".csv"]
)
def test_an_upload_stays_in_its_folder_whatever_it_is_called(name):
    uploads = Uploads()
    file = uploads.place(name, 10)
    file.write_text("a,b\n")
    folder = file.parent.parent
    assert file.resolve().is_relative_to(folder.resolve())
    assert folder.name.startswith("dampen-play-")
    uploads.remove()
    assert not folder.exists()


def test_an_upload_that_is_too_large_is_refused():
    with pytest.raises(InputError, match=r"rows\.csv has 21 MiB; a file of 20 MiB at most"):
        Uploads().place("rows.csv", LARGEST_FILE + (1 << 20))


@pytest.mark.parametrize("content", ['a,b,target\n"1,2,3\n', "", "a,b\n1,2\n", "\x00\x01\x02"])
def test_a_broken_upload_is_refused_as_at_the_command_line(content, tmp_path):
    uploads, own = Uploads(), tmp_path / "rows.csv"
    own.write_text(content)
    with pytest.raises(InputError) as expected:
        dampen.load(own, target="target")
    file = uploads.place("rows.csv", 10)
    file.write_text(content)
    with pytest.raises(InputError) as found:
        _read(uploads, file)
    assert str(found.value) == str(expected.value).replace(str(own), "rows.csv")


def _read(uploads, file):
    uploads.columns(file)
    return uploads.read(file, "target")


def _rung(bracket, settings, costs):
    named = [{"weight_decay": decay, "dropout": rate} for decay, rate in settings]
    return {"family": "search", "bracket": bracket, "settings": named, "costs": costs}


def test_settings_of_a_search_fade_when_they_are_dropped():
    a, b, c, d = (0.1, 0.0), (0.2, 0.1), (0.3, 0.2), (0.4, 0.3)
    drawn = [{"weight_decay": decay, "dropout": rate} for decay, rate in (a, b, c, d)]
    assert all(point.alive and point.cost is None for point in _runs.points(drawn, []))
    first = _rung(0, [c, a, d, b], [1.0, 2.0, 3.0, None])
    found = {(p.weight_decay, p.dropout): (p.cost, p.alive) for p in _runs.points(drawn, [first], keep=2)}
    assert found == {c: (1.0, True), a: (2.0, True), d: (3.0, False), b: (None, False)}
    second = _rung(0, [a, c], [0.4, 0.5])
    found = {(p.weight_decay, p.dropout): (p.cost, p.alive) for p in _runs.points(drawn, [first, second], keep=1)}
    assert found == {c: (0.5, False), a: (0.4, True), d: (3.0, False), b: (None, False)}


def test_no_weight_decay_stands_at_the_left_edge_which_is_labelled_0():
    some = [_runs.Point(decay, 0.1, 1.0, True) for decay in (0.04, 0.4)]
    drawn = _tune_charts.search_now([*some, _runs.Point(0.0, 0.2, 2.0, True)])
    series = {one["id"]: one for one in drawn["series"]}
    assert drawn["xAxis"]["min"] == pytest.approx(0.01)
    assert series["alive"]["data"][-1] == [drawn["xAxis"]["min"], 0.2, 2.0]
    assert series["waiting"]["markLine"]["data"] == [{"xAxis": drawn["xAxis"]["min"]}]
    drawn = _tune_charts.search_now(some)
    assert drawn["xAxis"]["min"] is None
    assert drawn["series"][0]["markLine"]["data"] == []


def test_the_recommended_setting_has_a_point_whichever_family_tried_it():
    search, simple = _rung(0, [(0.1, 0.1)], [1.0]), _rung(0, [(0.2, 0.0)], [0.5]) | {"family": "dropout 0"}
    chosen = _runs.recommended({"weight_decay": 0.2, "dropout": 0.0}, [search, simple])
    assert chosen == _runs.Point(0.2, 0.0, 0.5, True)
    tried = _runs.points([], [search, simple])
    for points in (tried, [*tried, chosen]):
        series = {one["id"]: one["data"] for one in _tune_charts.search_now(points, chosen)["series"]}
        assert series["alive"].count([0.2, 0.0, 0.5]) == 1
        assert series["chosen"] == [[0.2, 0.0]]


def test_a_study_that_a_process_writes_to_is_listed_as_running(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "dampen-runs" / "iris-1"
    folder.mkdir(parents=True)
    (folder / "plan.json").write_text("{}")
    with _io.locked(folder):
        assert [run.state for run in _runs.runs()] == ["running"]
    assert [run.state for run in _runs.runs()] == ["unfinished"]


@pytest.mark.parametrize("name", ["..", "../runs", "/etc", "iris-1/../..", "", "no-such"])
def test_no_folder_outside_the_runs_is_opened(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.json").write_text("{}")
    (tmp_path / "dampen-runs" / "iris-1").mkdir(parents=True)
    with pytest.raises(InputError, match="there is no study"):
        _runs.folder_of(name)
