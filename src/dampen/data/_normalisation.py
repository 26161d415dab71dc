"""Bringing raw features to the scale that a network is trained on."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

_AS_GIVEN = "used as given"
_WHOLE = "whole numbers, used as given"


@dataclass(frozen=True, eq=False)
class Normalisation:
    """How raw features become a network's inputs: `(x - mean) / std`, in float32.

    - `mean`, `std`: in the raw features' units; scalars, or of the shape of one row.
    - `note`: the same in words.

    >>> pixels(255.0).apply(torch.tensor([[0, 255]], dtype=torch.uint8))
    tensor([[-1.,  1.]])
    """

    mean: Float[Tensor, "..."]
    std: Float[Tensor, "..."]
    note: str

    @property
    def keeps_whole(self) -> bool:
        """Whether inputs are whole numbers, for a network that embeds them."""
        return self.note == _WHOLE

    def apply(self, features: Shaped[Tensor, "N ..."]) -> Shaped[Tensor, "N ..."]:
        """Normalise a copy of raw `features`; whole numbers that are not scaled stay whole."""
        if self.keeps_whole:
            return features.to(torch.int64, copy=True)
        return features.to(torch.float32, copy=True).sub_(self.mean).div_(self.std)


def identity(whole: bool = False) -> Normalisation:
    """Leave the features as they are; with `whole` they are numbers to embed."""
    return Normalisation(torch.tensor(0.0), torch.tensor(1.0), _WHOLE if whole else _AS_GIVEN)


def pixels(pixel_max: float) -> Normalisation:
    """Map 0..`pixel_max` to -1..1: mean 0.5 and standard deviation 0.5 on a scale of 0..1."""
    half = torch.tensor(pixel_max / 2)
    note = f"pixels 0..{pixel_max:g} mapped to -1..1: (x / {pixel_max:g} - 0.5) / 0.5"
    return Normalisation(half, half, note)


def standardise(training: Shaped[Tensor, "N ..."]) -> Normalisation:
    """Give every column mean 0 and standard deviation 1 over the training rows.

    The standard deviation is the population's (divided by `N`). A column that is constant gets
    standard deviation 1, so that it becomes 0 and not rounding noise.
    """
    exact = training.double()
    constant = exact.amin(dim=0) == exact.amax(dim=0)
    mean = torch.where(constant, exact[0], exact.mean(dim=0)).float()
    std = exact.std(dim=0, correction=0).float()
    std = torch.where(constant | (std == 0), 1.0, std)
    note = f"each column to mean 0 and standard deviation 1 over the {len(training)} training rows"
    if n_constant := int(constant.sum()):
        note += f" ({n_constant} constant: standard deviation set to 1)"
    return Normalisation(mean, std, note)
