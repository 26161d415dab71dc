"""A path that begins with `~` is one in the user's home folder, wherever a path is given."""

from pathlib import Path

import pytest
import torch
from torch import nn

import dampen
from dampen.data import Preprocessing
from dampen.report import check_picture
from dampen.search import check_storage
from dampen.study import kept, remove_study, side_by_side


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home folder that holds a table, and an empty folder beside it, where the test runs."""
    place = tmp_path / "home"
    place.mkdir()
    rows = "".join(f"{i},{7 * i % 10},{3 * i % 59}\n" for i in range(300))
    (place / "houses.csv").write_text(f"size,rooms,price\n{rows}")
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("HOME", str(place))
    monkeypatch.chdir(tmp_path / "here")
    yield place
    assert list((tmp_path / "here").iterdir()) == []


def small_study(out):
    settings = [dampen.Setting(), dampen.Setting(dropout=0.3)]
    data = dampen.load("~/houses.csv", target="price")
    return dampen.compare(dampen.mlp(4), data, settings, 2, epochs=1, validation="held-out", out=out)


def test_functions_find_the_home_folder(home, monkeypatch):
    study = small_study("~/study")
    assert study.folder == home / "study"
    assert study.data.source == str(home / "houses.csv")
    study.report(Path("~/report.html"))
    folder = study.export("~/exported").folder
    assert (home / "report.html").is_file()
    assert {file.name for file in folder.iterdir()} >= {"model.json", "train.py"}
    saved = dampen.load_study("~/study")
    assert torch.equal(saved.data.features, study.data.features)
    predicted = [saved.calibrated(samples=0).predict(rows) for rows in ("~/houses.csv", home / "houses.csv")]
    assert predicted[0].mean.tolist() == predicted[1].mean.tolist()
    read = Preprocessing.read_document("~/exported/preprocessing.json")
    assert read.read("~/houses.csv").source == str(home / "houses.csv")
    assert check_picture(Path("~/picture.png")) == home / "picture.png"
    assert [one.folder for one in kept("~")] == [home / "study"]
    pair = side_by_side(["~/study", home / "study"])["studies"]
    assert pair[0] == pair[1]
    with pytest.raises(dampen.InputError, match=r"data_dir .*/home/none is not a folder"):
        dampen.load("mnist", data_dir="~/none")
    monkeypatch.setenv("DAMPEN_DATA", "~/nowhere")
    with pytest.raises(dampen.InputError, match=r"DAMPEN_DATA .*/home/nowhere is not a folder"):
        dampen.load("mnist")
    assert remove_study("~/study") == ()


def test_a_population_is_kept_in_the_home_folder(home):
    population = dampen.Population(lambda: nn.Linear(3, 1), [dampen.Setting()], seeds=[0])
    population.fit((torch.zeros(4, 3), torch.zeros(4, 1)), epochs=1, batch_size=2, lr=0.1)
    population.save("~/kept")
    read = dampen.Population.load("~/kept", lambda: nn.Linear(3, 1))
    assert list((home / "kept").iterdir())
    assert all(torch.equal(t, read.state()[name]) for name, t in population.state().items())


def test_commands_find_the_home_folder_that_the_shell_leaves(home, run, monkeypatch):
    monkeypatch.chdir(home)
    small_study(home / "study")
    monkeypatch.chdir(home.parent / "here")
    assert run("predict", "~/study", "~/houses.csv", "--out=~/lines.csv")[0] == 0
    assert run("export", "~/study", "--out=~/exported")[0] == 0
    assert (home / "lines.csv").is_file()
    assert (home / "exported" / "model.json").is_file()
    code, out, err = run("predict", "~/study", "~/houses.csv", "--out=~/houses.csv")
    assert (code, out) == (2, "")
    assert err.startswith(f"dampen: --out {home}/houses.csv is the data itself")
    (home / "nets.py").write_text("import torch\n\ndef make():\n    return torch.nn.Linear(3, 1), None\n")
    assert run("doctor", "~/nets.py:make")[0] in (0, 1)


def test_an_optuna_storage_is_a_file_in_the_home_folder(home):
    check_storage("sqlite:///~/trials.db", "houses")
    with pytest.raises(dampen.InputError, match=rf"Optuna storage sqlite:///{home}/none/trials\.db"):
        check_storage("sqlite:///~/none/trials.db", "houses")


def test_a_name_that_only_begins_like_a_home_folder_is_a_name(home):
    (home.parent / "here" / "~$houses.csv").write_text((home / "houses.csv").read_text())
    data = dampen.load("~$houses.csv", target="price")
    assert len(data.features) == 300
    Path("~$houses.csv").unlink()
