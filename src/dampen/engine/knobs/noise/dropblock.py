"""DropBlock: square regions of a feature map are dropped, because neighbours in a map are correlated.

Ghiasi, Lin and Le (2018), "DropBlock: a regularization method for convolutional networks", algorithm 1 and equation 1.
"""

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from dampen._checks import integer
from dampen.engine.knobs._base import Draws, Knob, OnActivation, Site, Variants
from dampen.engine.knobs._per_site import spread
from dampen.engine.knobs.noise import dropout


def dropblock(h: Float[Tensor, "B C H W"], p: float | Tensor, block: int, uniforms: Tensor) -> Tensor:
    """Set blocks of each feature map to 0 and scale the rest so that the mean mask over the batch is 1.

    Args:
        h: feature maps.
        p: share of the map that is dropped (1 - keep_prob in the paper), a number or a 0-dimensional tensor.
        block: side of a block (block_size); where a map is smaller, the map's side.
        uniforms: numbers in [0, 1), one for each centre of a block that lies within the map:
            `[B, C, H - block + 1, W - block + 1]`, see `centres`. The same uniforms at two rates drop nested blocks.

    Example:
        >>> h = torch.ones(1, 1, 2, 4)
        >>> dropblock(h, 0.5, 2, torch.tensor([[[[0.1, 0.9, 0.9]]]]))
        tensor([[[[0., 0., 2., 2.],
                  [0., 0., 2., 2.]]]])
    """
    height, width = h.shape[-2:]
    return masked(h, nearest(uniforms, block, height, width), centre_rate(p, block, height, width))


def masked(h: Float[Tensor, "B C H W"], lowest: Float[Tensor, "B C H W"], gamma: float | Tensor) -> Tensor:
    """Drop what is nearer than a block to a centre whose uniform is below `gamma`; algorithm 1, lines 5 to 7.

    Args:
        h: feature maps.
        lowest: for each unit, the smallest uniform of a centre whose block holds it (see `nearest`).
        gamma: probability that a block is dropped at a centre.
    """
    mask = (lowest >= torch.as_tensor(gamma, dtype=torch.float64, device=h.device).to(lowest.dtype)).to(h.dtype)
    return h * mask / mask.mean().clamp_min(1 / mask.numel())  # nothing kept: 0 / something


def nearest(uniforms: Float[Tensor, "*batch h w"], block: int, height: int, width: int) -> Float[Tensor, "*batch H W"]:
    """Return for each unit of a map the smallest uniform of a centre whose block holds it."""
    sides = min(block, height), min(block, width)
    padding = (sides[1] - 1, sides[1] - 1, sides[0] - 1, sides[0] - 1)
    every = F.pad(uniforms.flatten(0, -3).unsqueeze(1), padding, value=2.0)  # above every gamma
    return -F.max_pool2d(-every, sides, stride=1).squeeze(1).view(*uniforms.shape[:-2], height, width)


def centres(block: int, height: int, width: int) -> tuple[int, int]:
    """Return in how many places, down and across, a block lies within a map."""
    return height - min(block, height) + 1, width - min(block, width) + 1


def centre_rate(p: float | Tensor, block: int, height: int, width: int) -> float | Tensor:
    """Return gamma of equation 1, for maps that need not be square: the rate of centres that drops a share `p`."""
    down, across = centres(block, height, width)
    return p * height * width / (min(block, height) * min(block, width) * down * across)


class DropBlock(nn.Module):
    """DropBlock as a layer on maps `[B, C, H, W]`: random while training, the identity in evaluation.

    Args:
        p: share of a map that is dropped, in [0, 1].
        block: side of a block, 1 or more.

    Raises:
        InputError: a value outside its range.
    """

    def __init__(self, p: float = 0.1, block: int = 7):
        super().__init__()
        self.p, self.block = dropout.rate(p, "dropblock"), side(block)

    def forward(self, h: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Drop blocks of `h` with fresh uniforms from torch's global generator."""
        if not self.training:
            return h
        uniforms = torch.rand(*h.shape[:2], *centres(self.block, *h.shape[-2:]), device=h.device)
        return dropblock(h, self.p, self.block, uniforms)

    def extra_repr(self) -> str:
        """Show rate and side when the module is printed."""
        return f"p={self.p}, block={self.block}"


def side(value: object) -> int:
    """Read the side of a block: a whole number, 1 (dropout of single units) or more."""
    return integer("dropblock_size", value, of="pixels")


def rates(value: object) -> dropout.Rates:
    """Read the knob: one share for all convolutions, one for each in the order of the forward pass, or by name."""
    return dropout.rates(value, "dropblock")


def _by_size(values: Sequence[tuple[dropout.Rates, int]]) -> dict[str, OnActivation]:
    return {
        str(size): OnActivation("map", partial(_at, size), partial(_draw, size), partial(_apply, size))
        for size in sorted({size for _, size in values})
    }


def _at(size: int, value: tuple[dropout.Rates, int], sites: Sequence[Site]) -> list[float]:
    rates = spread("dropblock", value[0], sites, "convolutions of images", [len(site.shape) == 4 for site in sites])
    return rates if value[1] == size else [0.0] * len(sites)


def _draw(size: int, draws: Draws, site: Site) -> Tensor:
    return nearest(draws.uniform(*site.shape[:2], *centres(size, *site.shape[2:])), size, *site.shape[2:])


def _apply(size: int, h: Tensor, p: Tensor, lowest: Tensor) -> Tensor:
    return masked(h, lowest, centre_rate(p, size, *h.shape[2:]))


KNOB = Knob(
    "dropblock",
    "activation",
    rates,
    "Sets square blocks of the feature maps that 2-D convolutions return to 0, about this share of a map, and scales "
    "the rest up.",
    "a share from 0 to 1; one for each convolution; or one for each named module",
    "Ghiasi et al. 2018, alg. 1 and eq. 1",
    neutral=0.0,
    acts=Variants(_by_size, beside="dropblock_size"),
)
SIZE = Knob(
    "dropblock_size",
    "activation",
    side,
    "Side of dropblock's blocks; where a map is smaller, the map's side.",
    "a whole number of pixels, 1 or larger; 7 if left out",
    "Ghiasi et al. 2018, sec. 4.1",
    neutral=7,
)
