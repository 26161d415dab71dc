"""Sums over samples, part by part: a prediction needs none of the samples themselves."""

import torch
from torch import Tensor

from dampen.uncertainty._prediction import ClassPrediction, ValuePrediction
from dampen.uncertainty._sampling import Part


class ClassSums:
    """Gathers logits into a `ClassPrediction`.

    Args:
        rows: N.
        samples: T, of all networks together.
        keep: whether the samples' probabilities are kept.
        temperature: that logits are divided by.
    """

    def __init__(self, rows: int, samples: int, keep: bool, temperature: float):
        self._shape, self._keep, self._temperature = (rows, samples), keep, temperature
        self._sums: dict[str, Tensor] = {}
        self._count = torch.zeros(rows, dtype=torch.float64)
        self._draws: Tensor | None = None

    def add(self, part: Part, offset: int) -> None:
        """Add a part of a network, whose samples begin with this number; squares are merged as for values."""
        logits = part.outputs if self._temperature == 1 else part.outputs / self._temperature
        T, B, C = logits.shape
        each = part.repeats  # how many samples an output stands for
        N, samples = self._shape
        if not self._sums:
            new = {"p": (N, C), "square": (N, C), "entropy": (N,), "votes": (N, C)}
            self._sums = {name: torch.zeros(shape, dtype=torch.float64) for name, shape in new.items()}
            if self._keep:
                self._draws = torch.empty(samples, N, C)
        # Classes first: a CPU's vector units run along the rows then.
        shifted = logits.permute(2, 0, 1).contiguous()
        if shifted.dtype in (torch.float16, torch.bfloat16):
            shifted = shifted.float()
        shifted = shifted - shifted.amax(0)
        p = shifted.exp()
        total = p.sum(0)
        p /= total
        entropy = (total.log() - (p * shifted).sum(0)).sum(0)
        votes = torch.eq(shifted, 0, out=torch.empty_like(shifted)).sum(1)  # as numbers: a tenth of what bools cost
        if int(votes.sum(dtype=torch.float64)) != T * B:  # a tie: its first class has the vote
            votes = torch.nn.functional.one_hot(shifted.argmax(0), C).sum(0).T
        rows = slice(part.start, part.stop)
        mean = p.mean(1)
        square = (p - mean.unsqueeze(1)).square_().sum(1).T.cpu() * each
        T *= each
        before = float(self._count[part.start])
        step = mean.T.cpu() - self._sums["p"][rows]
        self._sums["square"][rows] += square + step.square() * (before * T / (before + T))
        self._sums["p"][rows] += step * (T / (before + T))
        self._sums["entropy"][rows] += entropy.cpu() * each
        self._sums["votes"][rows] += votes.T.cpu() * each
        self._count[rows] += T
        if self._draws is not None:
            self._draws[offset + part.first : offset + part.first + T, rows] = p.permute(1, 2, 0).cpu()

    def prediction(self) -> ClassPrediction:
        """Return what was gathered."""
        _, T = self._shape
        mean = self._sums["p"]
        mean = mean / mean.sum(1, keepdim=True)
        spread = (self._sums["square"] / T).sqrt()
        votes = self._sums["votes"].long()
        return ClassPrediction(mean, self._sums["entropy"] / T, spread, votes, T, self._draws)


class ValueSums:
    """Gathers values into a `ValuePrediction`.

    Args:
        rows: N.
        samples: T, of all networks together.
        keep: whether the samples are kept.
        scale: mean and deviation that turn the network's outputs into the target's unit.
        head: whether the network returns `(mean, log variance)` in its last dimension.
    """

    def __init__(self, rows: int, samples: int, keep: bool, scale: tuple[float, float], head: bool):
        self._shape, self._keep, self._scale, self._head = (rows, samples), keep, scale, head
        self._count = torch.zeros(rows)
        self._mean = self._squares = self._noise = torch.empty(0)
        self._draws: tuple[Tensor, Tensor | None] | None = None

    def add(self, part: Part, offset: int) -> None:
        """Add a part; sums of squares are merged as in Chan, Golub and LeVeque (1983)."""
        values, noise = part.outputs.double().cpu(), None
        if self._head:
            values, noise = values[..., 0], values[..., 1].exp() * self._scale[1] ** 2
        elif values.ndim == 3 and values.shape[-1] == 1:
            values = values.squeeze(-1)
        values = values * self._scale[1] + self._scale[0]
        N, samples = self._shape
        if not self._mean.numel():
            self._mean, self._squares = (torch.zeros(N, *values.shape[2:], dtype=torch.float64) for _ in range(2))
            self._noise = torch.zeros_like(self._mean)
            if self._keep:
                draws = torch.empty(samples, *self._mean.shape, dtype=torch.float64)
                self._draws = draws, torch.empty_like(draws) if self._head else None
        T, rows = len(values) * part.repeats, slice(part.start, part.stop)
        before = float(self._count[part.start])
        mean = values.mean(0)
        step = mean - self._mean[rows]
        self._squares[rows] += (values - mean).square().sum(0) * part.repeats + step.square() * (
            before * T / (before + T)
        )
        self._mean[rows] += step * (T / (before + T))
        self._count[rows] += T
        at = slice(offset + part.first, offset + part.first + T)
        if noise is not None:
            self._noise[rows] += noise.sum(0) * part.repeats
        if self._draws is not None:
            self._draws[0][at, rows] = values
            if self._draws[1] is not None and noise is not None:
                self._draws[1][at, rows] = noise

    def prediction(self) -> ValuePrediction:
        """Return what was gathered; the variance over samples has T in its denominator, as in the decomposition."""
        _, T = self._shape
        noise = self._noise / T if self._head else None
        draws, variances = self._draws or (None, None)
        return ValuePrediction(self._mean, self._squares / T, noise, T, draws, variances)
