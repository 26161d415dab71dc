"""Arguments of studies that are of another type are one line, before anything is read, trained or written."""

import os
import re

import pytest

import dampen
from dampen import InputError, Setting
from dampen.study import kept, remove_study, side_by_side, study_folder

pytestmark = pytest.mark.usefixtures("without_shape_checks")  # which refuse other types themselves

SETTINGS = [Setting(lr=0.01), Setting(lr=0.02)]
TINY = {"n_settings": 2, "n_seeds": 1, "epochs": 1, "confirmed": 1, "n_confirm_seeds": 2, "validation": "held-out"}


@pytest.mark.parametrize(
    ("change", "line"),
    [
        *(({"callback": value}, "callback must be a function, got") for value in (3, "x", [])),
        *(({"space": value}, "a space is a mapping from names of knobs") for value in (3, "x", [], {3: [0.1]})),
        *(({"out": value}, "out must be the path of a file or a folder") for value in (3, [], True, "a\0b")),
        *(({name: "yes"}, f"{name} must be True or False") for name in ("per_layer", "cocktail", "resume")),
        *(({"metric": value}, "the metric must be one of") for value in ([], "", 3)),
        *(({"loss": value}, "loss must be a function or one of") for value in ([], {}, 3)),
        ({"confirmed": "3"}, "confirmed must be a whole number"),
        ({"seed": None}, "seed must be a whole number"),
        ({"seed": True}, "seed must be a whole number"),
    ],
)
def test_an_argument_of_tune_of_another_type_is_one_line(tmp_path, monkeypatch, change, line):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=line):
        dampen.tune(dampen.mlp(4), dampen.load("iris"), **{"out": "study"} | TINY | change)
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize(
    ("settings", "n", "line"),
    [
        *((value, 2, "settings must be a list of Settings") for value in (3, None, "x", SETTINGS[0])),
        *((value, 2, "settings must be Settings, such as") for value in ([3, 4], {"a": 3}, [{"lr": 0.1}, {"lr": 0.2}])),
        *(
            (
                dict(zip(names, SETTINGS, strict=True)),
                2,
                "a setting's name must be a text, but none of recommended, ens",
            )
            for names in ((3, 4), ("", "b"), ("recommended", "b"), ("a", "ensemble"))
        ),
        (SETTINGS, "3", "n_seeds must be a whole number"),
        (SETTINGS, [], "n_seeds must be a whole number"),
        (SETTINGS, 1, "at least 2 different settings and 2 seeds"),
        (SETTINGS[:1], 2, "at least 2 different settings and 2 seeds"),
    ],
)
def test_an_argument_of_compare_of_another_type_is_one_line(settings, n, line):
    with pytest.raises(InputError, match=line):
        dampen.compare(dampen.mlp(4), dampen.load("iris"), settings, n, epochs=1)


@pytest.mark.parametrize("value", [3, None, [], "a\0b"])
def test_a_folder_that_is_no_path_is_one_line(value):
    for call in (dampen.load_study, kept, study_folder, remove_study):
        with pytest.raises(InputError, match="must be the path of a file or a folder"):
            call(value)


def test_what_is_read_needs_a_data_set_and_studies_a_list(tmp_path):
    study = dampen.compare(dampen.mlp(4), dampen.load("iris"), SETTINGS, 2, epochs=1, out=tmp_path / "study")
    with pytest.raises(InputError, match="data must be a data set as"):
        dampen.load_study(tmp_path / "study", 3)
    for value in ("ab", None, 3):
        with pytest.raises(InputError, match="folders must be a list"):
            side_by_side(value)
    for write in (study.report, study.export):
        with pytest.raises(InputError, match="must be the path of a file or a folder"):
            write(None)


def test_a_study_is_found_by_name_beside_a_folder_of_that_name_that_is_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wine-1").mkdir()
    (tmp_path / "dampen-runs" / "wine-1").mkdir(parents=True)
    assert str(study_folder("wine-1")) == "wine-1"
    (tmp_path / "dampen-runs" / "wine-1" / "plan.json").write_text("{}")
    assert re.fullmatch(r"dampen-runs.wine-1", str(study_folder("wine-1")))


def test_names_that_are_not_utf_8_are_refused_before_anything_trains(tmp_path):
    odd = os.fsdecode(b"byte\xff")
    rows = "\n".join(f"{i / 7:.3f},{i * i % 11},{i % 2}" for i in range(60))
    (tmp_path / f"{odd}.csv").write_text(f"a,b,y\n{rows}\n")
    data = dampen.load(tmp_path / f"{odd}.csv", target="y", task="classification")
    for out, rows_of, what in ((odd, dampen.load("iris"), "the study's folder"), ("study", data, "the data")):
        with pytest.raises(InputError, match=f"the name of {what} is not UTF-8"):
            dampen.tune(dampen.mlp(4), rows_of, out=tmp_path / out, **TINY)
        assert not (tmp_path / out).exists()
