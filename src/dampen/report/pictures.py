"""What all pictures share: colours and line styles that survive black-and-white print, and safe saving."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dampen.errors import InputError

# Okabe and Ito (2008), "Color universal design": told apart by the colour-blind, and of different lightness.
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


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Draw in the project's style, whatever the user's own matplotlib settings are."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


def curve(axes: Axes, x: np.ndarray, values: np.ndarray, label: str, look: dict[str, Any]) -> None:
    """Draw the mean over seeds of `values` `[E, S]`, with the range from the lowest to the highest seed behind it."""
    axes.plot(x, values.mean(1), label=label, **look)
    if values.shape[1] > 1:
        axes.fill_between(x, values.min(1), values.max(1), color=look["color"], alpha=0.15, linewidth=0)


def check_picture(path: Path) -> Path:
    """Make sure, before any training, that a picture can be written to `path`.

    Raises:
        InputError: the ending is not .png or .svg, or its folder does not exist or cannot be written.
    """
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
    return path


def save(figure: Figure, path: Path) -> None:
    """Write a picture whole or not at all.

    Raises:
        InputError: it cannot be written.
    """
    handle, name = -1, ""
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
        os.close(handle)
        os.chmod(name, 0o666 & ~_umask())
        figure.savefig(name, metadata={"Date": None} if path.suffix.lower() == ".svg" else None)
        os.replace(name, path)
    except OSError as error:
        raise InputError(f"the picture {path} cannot be written: {error.strerror or error}") from None
    finally:
        with contextlib.suppress(OSError):
            os.unlink(name)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
