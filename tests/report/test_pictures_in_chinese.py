"""Pictures in Chinese: with a font of the machine that has the characters, and in English, told once, without one."""

import re
import warnings

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager

from dampen._language import catalogue, speaking
from dampen.experiments import draw_weight_decay_comparison, draw_weight_decay_path, weight_decay
from dampen.experiments._answer import Answer, Line, Panel, Points
from dampen.experiments._answer_picture import draw_answer
from dampen.report import _font
from dampen.statistics import Estimate

HAN = re.compile("[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]")


@pytest.fixture(scope="module")
def font_file(tmp_path_factory):
    """Make a font with a box for every Chinese character of the catalogue."""
    pen = TTGlyphPen(None)
    for i, corner in enumerate(((0, 0), (0, 700), (700, 700), (700, 0))):
        (pen.lineTo if i else pen.moveTo)(corner)
    pen.closePath()
    box = pen.glyph()
    build = FontBuilder(1000, isTTF=True)
    build.setupGlyphOrder([".notdef", "box"])
    characters = set(HAN.findall("".join(catalogue("zh").entries.values())))
    build.setupCharacterMap({ord(character): "box" for character in characters})
    build.setupGlyf({".notdef": box, "box": box})
    build.setupHorizontalMetrics({".notdef": (800, 0), "box": (800, 0)})
    build.setupHorizontalHeader(ascent=800, descent=-200)
    build.setupNameTable({"familyName": "Boxes", "styleName": "Regular", "psName": "Boxes-Regular"})
    build.setupOS2(sTypoAscender=800, usWinAscent=800, usWinDescent=200)
    build.setupPost()
    path = tmp_path_factory.mktemp("fonts") / "boxes.ttf"
    build.save(path)
    return path


@pytest.fixture
def machine_with(monkeypatch):
    """Let the machine have matplotlib's own fonts and these files."""

    def machine(*files):
        own = [font for font in font_manager.fontManager.ttflist if "mpl-data" in font.fname]
        monkeypatch.setattr(font_manager.fontManager, "ttflist", own)
        monkeypatch.setattr(font_manager, "findSystemFonts", lambda: list(map(str, files)))

    _font.chinese.cache_clear()
    yield machine
    _font.chinese.cache_clear()


@pytest.fixture(scope="module")
def drawings():
    problem = weight_decay.Problem(epochs=2)
    estimates = [Estimate(-0.1, 0.01, 9.0), Estimate(0.1, 0.2, 9.0)]
    panels = (
        Panel(
            "change of the nll",
            "nll minus that without either; left of 0 is better",
            "",
            Points(["decay 0.1", "both"], estimates),
        ),
        Panel("validation loss", "epochs", "loss", [Line("neither", [1, 2], np.ones((2, 3)), True)] * 2),
    )
    answer = Answer("interaction", "digits", "additive", (), {}, panels)
    compared = weight_decay.compare(problem, [0.0, 3.0], range(2))
    path = weight_decay.path(problem, [0.1, 1.0], range(1))
    return [
        lambda file: draw_weight_decay_comparison(compared, file),
        lambda file: draw_weight_decay_path(path, file),
        lambda file: draw_answer(answer, file),
    ]


def texts(file):
    """Return the texts that a picture's file names beside their outlines."""
    return re.findall(r"<!-- (.*?) -->", file.read_text(encoding="utf-8"), re.DOTALL)


def test_labels_are_chinese_where_a_font_has_the_characters(drawings, machine_with, font_file, tmp_path):
    machine_with(font_file)
    found = []
    with speaking("zh"):
        for i, draw in enumerate(drawings):
            draw(tmp_path / f"{i}.svg")
            found += texts(tmp_path / f"{i}.svg")
    words = [text for text in found if re.search("[A-Za-z]{3}", text) and not text.startswith("$")]  # formulas
    assert {"训练", "测试", "测试损失", "验证损失", "衰减 0.1", "两者并用", "无权重衰减（λ = 0）"} <= set(found)
    assert {text for text in words if not HAN.search(text)} <= {"SGD"}


def test_without_such_a_font_they_are_english_and_one_line_says_why(drawings, machine_with, tmp_path):
    machine_with()
    with warnings.catch_warnings(record=True) as told, speaking("zh"):
        warnings.simplefilter("always")
        for i, draw in enumerate(drawings):
            draw(tmp_path / f"{i}.svg")
    assert len(told) == 1
    assert "no font on this machine has Chinese characters" in str(told[0].message)
    found = [text for i in range(len(drawings)) for text in texts(tmp_path / f"{i}.svg")]
    assert {"train", "Test loss", "validation loss", "decay 0.1"} <= set(found)
    assert not any(map(HAN.search, found))


def test_the_command_line_says_so_in_one_line_of_its_own(run, machine_with, tmp_path):
    machine_with()
    with speaking("en"):
        code, out, err = run("weight-decay", "--epochs", 1, "--seeds", 1, "--path", 2, "--lang", "zh")
    assert code == 0
    assert set(re.findall("[a-z]{4,}", out)) <= {"dampen", "weight", "decay", "path"}  # of the pictures' names
    assert err == "dampen: 注意：这台机器上没有含中文字符的字体，因此图片为英文：请安装一个，例如 fonts-noto-cjk\n"


def test_in_english_no_font_is_looked_for(drawings, machine_with, tmp_path):
    machine_with()
    with speaking("en"):
        drawings[2](tmp_path / "picture.svg")  # warnings are errors
    assert "change of the nll" in texts(tmp_path / "picture.svg")
