"""CutMix: a rectangle of each image comes from another one, and the targets are mixed by area.

Yun et al. (2019), "CutMix: regularization strategy to train strong classifiers with localizable features", section 3.1
and algorithm A1: a rectangle with the share `1 - lam` of the area, lam from Beta(cutmix, cutmix), is placed anywhere
and cut at the edges; lam becomes the share of the area that is left. One rectangle for a batch, as in the authors'
code.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor

from dampen.engine.knobs._base import Draws, Knob, OnBatch, number
from dampen.engine.knobs.batch._stacked import for_each_member, images
from dampen.engine.knobs.batch.mixup import mixed_losses, share_of
from dampen.errors import InputError


def cutmix(images: Shaped[Tensor, "B *C H W"], inside: Bool[Tensor, "H W"], partners: Tensor) -> Tensor:
    """Return images with a part of others, `[B, *C, H, W]`.

    Args:
        images: `[B, H, W]` or `[B, C, H, W]`.
        inside: which pixels come from another image: a rectangle. See `box_of`.
        partners: `[B]`, for each image the place of the one that fills it.

    Example:
        >>> pair = torch.tensor([[[1.0, 2.0]], [[3.0, 4.0]]])
        >>> cutmix(pair, torch.tensor([[False, True]]), torch.tensor([1, 0]))
        tensor([[[1., 4.]],
        <BLANKLINE>
                [[3., 2.]]])
    """
    return torch.where(inside, images.index_select(0, partners), images)


def box_of(share: float, height: int, width: int, down: float, right: float) -> tuple[int, int, int, int]:
    """Return a rectangle with the share `1 - share` of an image, cut at its edges: top, bottom, left, right.

    Args:
        share: of the area that is left (lam).
        height: of the image.
        width: likewise.
        down: where the rectangle's middle is, in [0, 1).
        right: likewise.

    Example:
        >>> box_of(0.75, 4, 4, 0.5, 0.0)
        (1, 3, 0, 1)
    """
    side = math.sqrt(1 - share)

    def ends(length: int, at: float) -> tuple[int, int]:
        middle, half = int(at * length), int(length * side) // 2
        return max(0, middle - half), min(length, middle + half)

    return *ends(height, down), *ends(width, right)


strength = number("cutmix")
"""Read the knob: alpha, a finite number, 0 (no mixing) or larger."""


def _draw(values: Sequence[Any], draws: Draws, inputs: Sequence[Tensor], targets: Tensor) -> list[Tensor]:
    which = images(inputs, "cutmix", axes=2)
    sizes = {tuple(t.shape[-2:]) for t in inputs}
    if len(which) < len(inputs) or len(sizes) > 1:
        raise InputError("cutmix takes rows that are one image, or several of one size: leave it out for this network")
    chances = draws.uniform(3).tolist()
    partners = draws.uniform(len(targets[0])).argsort(1)
    alike = values[:1] if len(set(values)) == 1 else values
    ((height, width),) = sizes
    boxes = [[box_of(share_of(a, u), height, width, down, right) for a in alike] for u, down, right in chances]
    left = [[1 - (b[1] - b[0]) * (b[3] - b[2]) / (height * width) for b in of_seed] for of_seed in boxes]
    inside = torch.zeros(len(boxes), len(alike), height, width, dtype=torch.bool)
    for s, of_seed in enumerate(boxes):
        for m, (top, bottom, start, end) in enumerate(of_seed):
            inside[s, m, top:bottom, start:end] = True
    device = targets.device
    return [inside.to(device), torch.tensor(left, dtype=torch.float64, device=device), partners.unsqueeze(1)]


def _inputs(inputs: list[Tensor], inside: Tensor, share: Tensor, partners: Tensor) -> list[Tensor]:
    return [for_each_member(cutmix, x, inside, partners) for x in inputs]


def _losses(
    loss: Callable[..., Tensor], outputs: Tensor, targets: Tensor, inside: Tensor, share: Tensor, partners: Tensor
) -> Tensor:
    return mixed_losses(loss, outputs, targets, share, partners)


KNOB = Knob(
    "cutmix",
    "data",
    strength,
    "Fills a rectangle of each image from another one and mixes their targets by area, with a share from "
    "Beta(cutmix, cutmix), one rectangle for a batch.",
    "0 or larger; 0 mixes nothing, 1 all shares alike",
    "Yun et al. 2019, alg. A1",
    neutral=0.0,
    acts=OnBatch(_draw, inputs=_inputs, losses=_losses),
    excludes=("mixup",),
)
