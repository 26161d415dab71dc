"""What networks predict over a grid of two inputs, as a picture."""

import base64
import io
import math

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

SIDE, SIDE_OF_MANY = 40, 30  # grid points along each axis; the browser stretches and smooths the picture

# Okabe and Ito (2008), "Color universal design": told apart with any colour vision.
CLASS_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#999999")
_SPREAD_COLOURS = np.array([[255, 255, 255], [146, 117, 190], [63, 0, 125]], dtype=float)  # small to large


def grid(low: tuple[float, ...], high: tuple[float, ...], side: int = SIDE) -> Float[Tensor, "N 2"]:
    """Return the points of the grid, row by row from the top left."""
    across, down = torch.linspace(low[0], high[0], side), torch.linspace(high[1], low[1], side)
    y, x = torch.meshgrid(down, across, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], 1)


def of_classes(probabilities: Float[np.ndarray, "N C"]) -> str:
    """Return a picture of the likeliest class, paler the less likely it is, as the address of an image."""
    C = probabilities.shape[1]
    colours = np.array([_rgb(CLASS_COLOURS[c % len(CLASS_COLOURS)]) for c in range(C)])
    share = ((probabilities.max(1) - 1 / C) / (1 - 1 / C)).clip(0, 1)[:, None]
    return _png(255 + (colours[probabilities.argmax(1)] - 255) * (0.08 + 0.5 * share))


def of_spread(deviation: Float[np.ndarray, " N"], largest: float = 0.5) -> str:
    """Return a picture of a standard deviation, darker where it is larger."""
    at = (deviation / largest).clip(0, 1) * (len(_SPREAD_COLOURS) - 1)
    steps = np.arange(len(_SPREAD_COLOURS))
    return _png(np.stack([np.interp(at, steps, channel) for channel in _SPREAD_COLOURS.T], 1))


def _png(colours: Float[np.ndarray, "N 3"]) -> str:
    side = math.isqrt(len(colours))
    image = Image.fromarray(colours.round().clip(0, 255).astype(np.uint8).reshape(side, side, 3))
    written = io.BytesIO()
    image.save(written, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(written.getvalue()).decode()


def _rgb(colour: str) -> list[int]:
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
