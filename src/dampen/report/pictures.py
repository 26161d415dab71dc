"""What all pictures share: colours and line styles that survive black-and-white print, their language, safe saving."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dampen._checks import as_path
from dampen._io import refuse_foreign
from dampen._language import language, shown, speaking
from dampen.errors import InputError
from dampen.report import _font

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito (2008), "Color universal design": distinguishable for the colour-blind, and of different lightness.
BLUE, ORANGE, GREEN, BLACK = "#0072B2", "#D55E00", "#009E73", "#000000"
TRAIN: dict[str, Any] = {"color": BLUE, "linestyle": "-", "marker": "o", "markersize": 4}
TEST: dict[str, Any] = {"color": ORANGE, "linestyle": "--", "marker": "s", "markersize": 4}

_STYLE: dict[Any, Any] = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 11,
    "figure.dpi": 100,
    "font.size": 10,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "savefig.dpi": 150,
    "svg.fonttype": "path",
    "svg.hashsalt": "dampen",
}
FORMATS = (".png", ".svg")
_METADATA: dict[str, dict[str, str | None]] = {
    ".png": {"Software": "dampen"},
    ".svg": {"Creator": "dampen", "Date": None},
}
_MARKS = (b"tEXtSoftware\0dampen", b"<dc:title>dampen</dc:title>")  # what becomes of that in a file


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Draw in the project's style, whatever the user's own matplotlib settings are.

    Within the block lines are shown in the language that is chosen, or in English where no font has its characters.
    """
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        family = None if language() == "en" else _font.chinese()
        if family is not None:
            mpl.rcParams["font.family"] = [*mpl.rcParams["font.family"], family]  # for what the first one lacks
        with speaking("en" if family is None else language()):
            yield


def shades(pixels: np.ndarray) -> np.ndarray:
    """Return an image's pixels from 0 to 1, the darkest to the lightest, whatever numbers they are."""
    pixels = pixels.astype(float)
    return (pixels - pixels.min()) / max(float(pixels.max() - pixels.min()), 1e-12)


def curve(axes: "Axes", x: np.ndarray, values: np.ndarray, label: str, look: dict[str, Any]) -> None:
    """Draw the mean over seeds of `values` `[E, S]`, with the range from the lowest to the highest seed behind it."""
    axes.plot(x, values.mean(1), label=label, **look)
    if values.shape[1] > 1:
        axes.fill_between(x, values.min(1), values.max(1), color=look["color"], alpha=0.15, linewidth=0)


def check_picture(path: str | Path) -> Path:
    """Make sure, before any training, that a picture can be written to `path`.

    Raises:
        InputError: the ending is not .png or .svg, its folder does not exist or cannot be written, or a file that is no
            picture of dampen's has that name.
    """
    path = as_path("path", path)
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"a picture's name must end in {' or '.join(FORMATS)}, got {path}")
    if path.is_dir():
        raise InputError(f"{path} is a folder: name a file for the picture")
    if not path.parent.is_dir():
        raise InputError(f"there is no folder {path.parent} to write the picture into: make it, or choose another")
    try:
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise InputError(f"the folder {path.parent} cannot be written: {error.strerror}; choose another") from None
    _refuse_foreign(path)
    return path


def save(figure: "Figure", path: str | Path) -> None:
    """Write a picture whole or not at all, its texts in the language that is shown.

    Raises:
        InputError: it cannot be written, or would take the place of a file that is no picture of dampen's.
    """
    path = as_path("path", path)
    _refuse_foreign(path)
    _translate(figure)
    handle, name = -1, ""
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
        os.close(handle)
        os.chmod(name, 0o666 & ~_umask())
        figure.savefig(name, metadata=_METADATA.get(path.suffix.lower()))
        os.replace(name, path)
    except OSError as error:
        raise InputError(f"the picture {path} cannot be written: {error.strerror or error}") from None
    finally:
        with contextlib.suppress(OSError):
            os.unlink(name)


def _translate(figure: "Figure") -> None:
    """Give the texts of a picture their twins; those of ticks, which follow from numbers or names, stay as they are."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_text(shown(text.get_text()))


def _refuse_foreign(path: Path) -> None:
    refuse_foreign(path, lambda head: any(mark in head for mark in _MARKS), "no picture")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
