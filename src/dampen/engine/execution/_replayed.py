"""A recorded step on a GPU as one launch: a CUDA graph of its kernels."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


class Replayed:
    """Repeats what was recorded as one graph of kernels: launching each takes longer than many of them run.

    The kernels are those of the recording, so that the numbers are, too. What it returns lies where the next call, of
    this or another one of the same `pool`, writes.

    Args:
        run: repeats the recorded operations, and has done so before.
        tensors: that it is called with.
        n_fixed: how many of these, the first ones, lie where they lie now in every call; the others are copied in.
        pool: of memory, that of another one; None for a new one.

    Raises:
        RuntimeError: an operation can't be part of a graph, or there is no memory.
    """

    def __init__(self, run: Callable[..., list[Tensor]], tensors: Sequence[Tensor], n_fixed: int, pool: Any = None):
        self._n_fixed = n_fixed
        given = tensors[n_fixed:]
        self._given = [torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device=t.device) for t in given]
        self._take(tensors)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, pool=pool):
            self._outputs = run(*tensors[:n_fixed], *self._given)

    @property
    def pool(self) -> Any:
        """The memory that its kernels write to."""
        return self._graph.pool()

    def __call__(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Run the kernels on tensors that are as those of the recording, and return what they give."""
        self._take(tensors)
        self._graph.replay()
        return self._outputs

    def _take(self, tensors: Sequence[Tensor]) -> None:
        for own, t in zip(self._given, tensors[self._n_fixed :], strict=True):
            own.copy_(t)
