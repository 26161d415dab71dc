"""The font of pictures whose labels are Chinese: matplotlib's own has no such characters, a font of the machine may."""

import warnings
from collections.abc import Iterator
from contextlib import suppress
from functools import cache

from dampen.errors import NoFont

_NEEDED = "权重衰减暂退法轮训练损失验证样本"
_SANS = (
    "Noto Sans CJK",
    "Noto Sans SC",
    "Source Han Sans",
    "PingFang",
    "Hiragino Sans GB",
    "Microsoft YaHei",
    "SimHei",
)
_NO_LETTERS = "Last Resort"  # it has a box for every character, and comes with matplotlib
_REGULAR = (400, "normal", "regular")  # as matplotlib reads it from a font


@cache
def chinese() -> str | None:
    """Return the family of a font that has the characters of labels; None, after one warning, where there is none."""
    family = next(_families(), None)
    if family is None:
        warnings.warn(
            "no font on this machine has Chinese characters, so that pictures are in English: install one, such as "
            "fonts-noto-cjk",
            NoFont,
            stacklevel=2,
        )
    return family


def _families() -> Iterator[str]:
    """Give the families that have the characters, those without serifs that are known first."""
    from matplotlib import font_manager

    fonts = font_manager.fontManager
    for path in set(font_manager.findSystemFonts()) - {font.fname for font in fonts.ttflist}:
        with suppress(Exception):  # installed since matplotlib made its list, and of any kind
            fonts.addfont(path)
    upright = [font for font in fonts.ttflist if font.style == "normal" and font.weight in _REGULAR]
    for font in sorted(upright, key=lambda font: (not font.name.startswith(_SANS), "SC" not in font.name, font.name)):
        if not font.name.startswith(_NO_LETTERS) and _has(font.fname):
            yield font.name


def _has(path: str) -> bool:
    """Return whether a font has every character that labels need."""
    from matplotlib.font_manager import get_font

    try:
        return all(get_font(path).get_char_index(ord(character)) for character in _NEEDED)
    except (OSError, RuntimeError):  # it is gone, or not as matplotlib reads fonts
        return False
