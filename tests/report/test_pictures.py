"""The pictures: valid files, written whole or not at all, in the project's own style."""

import errno
import os
import xml.etree.ElementTree as ET
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from dampen.data import load
from dampen.errors import InputError
from dampen.experiments import draw_dropout, draw_weight_decay_comparison, draw_weight_decay_path, dropout, weight_decay
from dampen.report import check_picture
from dampen.report.pictures import save, shades

PICTURES = ["comparison", "diverged", "path", "classes", "regression"]


@pytest.fixture(scope="module")
def drawings():
    """A function for each picture that draws it into a file."""
    problem = weight_decay.Problem(epochs=4)
    diverging = weight_decay.Problem(epochs=50, lr=3.0)
    found = {
        "comparison": (
            draw_weight_decay_comparison,
            weight_decay.compare(problem, [0.0, 1.0, 3.0], range(2), evaluate_every=1),
        ),
        "diverged": (draw_weight_decay_comparison, weight_decay.compare(diverging, [0.0, 3.0], [0], evaluate_every=1)),
        "path": (draw_weight_decay_path, weight_decay.path(problem, [0.1, 1.0, 10.0], range(2))),
        "classes": (draw_dropout, dropout.compare(load("iris"), (0.5,), (4,), range(2), epochs=3)),
        "regression": (draw_dropout, dropout.compare(load("diabetes"), (0.5,), (4,), [0], epochs=1)),
    }
    assert found["diverged"][1].history.diverged_at.all()
    return {name: lambda file, draw=draw, value=value: draw(value, file) for name, (draw, value) in found.items()}


@pytest.mark.parametrize("name", PICTURES)
def test_a_png_holds_a_picture_on_a_white_ground(drawings, tmp_path, name):
    drawings[name](tmp_path / "x.png")
    pixels = imread(tmp_path / "x.png")[..., :3]
    assert min(pixels.shape[:2]) >= 500
    assert max(pixels.shape[:2]) >= 800
    assert pixels[0, 0].tolist() == [1, 1, 1]
    assert 0.01 < np.mean(pixels.min(axis=2) < 0.9) < 0.6


def test_a_name_with_dollars_is_no_formula(tmp_path):
    found = dropout.compare(replace(load("iris"), name="in_$_and_$.csv"), (0.5,), (4,), [0], epochs=1)
    draw_dropout(found, tmp_path / "x.png")
    assert (tmp_path / "x.png").is_file()


def test_pixels_are_shown_from_the_darkest_to_the_lightest_whatever_numbers_they_are():
    image = np.random.default_rng(0).uniform(size=(3, 4, 4))
    for pixels in (image, 255 * image, (image - 0.5) / 0.5, np.float32(image)):
        found = shades(pixels)
        assert (found.min(), found.max()) == (0, 1)
        assert found == pytest.approx((image - image.min()) / np.ptp(image), abs=1e-6)
    assert (shades(np.full((1, 2, 2), 7, np.uint8)) == 0).all()


@pytest.mark.parametrize("name", PICTURES)
def test_an_svg_is_xml_and_the_same_every_time(drawings, tmp_path, name):
    for file in ("a.svg", "b.SVG"):
        drawings[name](tmp_path / file)
    assert ET.parse(tmp_path / "a.svg").getroot().tag == "{http://www.w3.org/2000/svg}svg"
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.SVG").read_bytes()


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("name", ["comparison", "path", "classes"])
def test_a_write_that_fails_half_way_leaves_what_was_there_and_nothing_else(
    drawings, tmp_path, monkeypatch, name, failure
):
    picture = tmp_path / "x.png"
    save(Figure(figsize=(1, 1)), picture)
    older = picture.read_bytes()

    def write_half(figure, file, **options):
        with open(file, "wb") as opened:
            opened.write(b"half")
        raise failure

    monkeypatch.setattr(Figure, "savefig", write_half)
    told = InputError if isinstance(failure, OSError) else KeyboardInterrupt
    with pytest.raises(told) as raised:
        drawings[name](picture)
    assert [file.name for file in tmp_path.iterdir()] == ["x.png"]
    assert picture.read_bytes() == older
    if told is InputError:
        assert str(raised.value) == f"the picture {picture} cannot be written: No space left on device"


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_a_picture_takes_the_place_of_dampen_s_own_and_of_no_other(tmp_path, ending):
    own, other = tmp_path / f"own.{ending}", tmp_path / f"other.{ending}"
    figure = Figure(figsize=(1, 1))
    for _ in range(2):
        save(figure, own)
    with mpl.rc_context():
        figure.savefig(other)
    before = other.read_bytes()
    for refuses in (lambda file: save(figure, file), check_picture):
        with pytest.raises(InputError, match=rf"other\.{ending} exists and is no picture of dampen's"):
            refuses(other)
    assert other.read_bytes() == before


def test_a_folder_that_has_gone_is_told_in_one_line(drawings, tmp_path):
    with pytest.raises(InputError, match=r"nowhere.x\.svg cannot be written"):
        drawings["comparison"](tmp_path / "nowhere" / "x.svg")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_a_picture_has_the_permissions_of_any_new_file(drawings, tmp_path):
    (tmp_path / "other").touch()
    drawings["comparison"](tmp_path / "x.svg")
    assert (tmp_path / "x.svg").stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.parametrize("name", ["comparison", "path", "classes"])
def test_the_users_style_neither_leaks_in_nor_is_changed(drawings, tmp_path, name):
    drawings[name](tmp_path / "plain.svg")
    with mpl.rc_context({"axes.facecolor": "red", "font.size": 30, "lines.linewidth": 9, "svg.hashsalt": "mine"}):
        before = dict(mpl.rcParams)
        drawings[name](tmp_path / "styled.svg")
        assert dict(mpl.rcParams) == before
    assert (tmp_path / "styled.svg").read_bytes() == (tmp_path / "plain.svg").read_bytes()


def test_a_failed_drawing_leaves_the_users_style_alone(drawings, tmp_path):
    before = dict(mpl.rcParams)
    with pytest.raises(InputError):
        drawings["path"](tmp_path / "nowhere" / "x.png")
    assert dict(mpl.rcParams) == before
