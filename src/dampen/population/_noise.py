"""Every random number that training draws, as a function of (seed, step, layer, element) only.

Two members with the same seed therefore see the same noise, whatever else is trained beside them, in whatever
order, and from whatever step they continue.
"""

import hashlib
import struct
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

_BATCH_ORDER, _DROPOUT = 0, 1  # streams of numbers that must not coincide


def initial_network(model: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Build a network whose initial weights depend on the seed alone; torch's global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return model()


def batch_order(n_rows: int, seed: int, epoch: int) -> Int64[Tensor, " N"]:
    """Return the order in which a seed's members see their `n_rows` training rows in an epoch (drawn on the CPU)."""
    return torch.randperm(n_rows, generator=_generator("cpu", seed, epoch, 0, _BATCH_ORDER))


def dropout_uniforms(
    seeds: Sequence[int], step: int, layer: int, shape: Sequence[int], device: str | torch.device = "cpu"
) -> Float[Tensor, "S ..."]:
    """Return the uniforms in [0, 1) behind one dropout layer at one step, float32, one draw for each seed.

    A float64 run draws the same numbers as a float32 run, so that both drop the same units.
    """
    out = torch.empty(len(seeds), *shape, device=device)
    for row, seed in zip(out, seeds, strict=True):
        row.uniform_(generator=_generator(device, seed, step, layer, _DROPOUT))
    return out


def _generator(device: str | torch.device, seed: int, step: int, layer: int, stream: int) -> torch.Generator:
    """Return a generator whose state is a hash of its arguments: counters close to each other share nothing."""
    digest = hashlib.blake2b(struct.pack("<qqqq", seed, step, layer, stream), digest_size=8).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest, "little", signed=True))
