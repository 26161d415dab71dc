"""ONNX: the network between its scalings, raw rows in and predictions in the target's unit out, checked."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from dampen.data import Normalisation
from dampen.errors import InputError

PACKAGES = ("onnx", "onnxruntime", "onnxscript")
_ROWS = 256  # compared
_TOLERANCE = 1e-4  # of the largest output: float32, sums in another order


class Whole(nn.Module):
    """A network between its scalings: raw rows to logits, or to numbers in the target's own unit.

    A mean and a log variance become a mean and the noise's standard deviation, both in that unit.

    Args:
        network: in evaluation mode.
        scaling: of raw rows; None where rows are the network's own inputs.
        target_scale: mean and deviation of the target; None for classes.
        variance: whether outputs are a mean and a log variance, `[N, 2]`.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        scaling: Normalisation | None,
        target_scale: tuple[float, float] | None,
        variance: bool = False,
    ):
        super().__init__()
        self.network, self._scaled, self._target_scale = network, scaling is not None, target_scale
        self._variance = variance
        self._whole = scaling is not None and scaling.keeps_whole
        if scaling is not None:
            self.register_buffer("mean", scaling.mean)
            self.register_buffer("std", scaling.std)

    def forward(self, features: Float[Tensor, "N ..."]) -> Float[Tensor, "N ..."]:
        """Return the outputs for rows, float32."""
        if self._whole:
            features = features.to(torch.int64)
        elif self._scaled:
            features = (features - self.mean) / self.std
        outputs = self.network(features)
        if self._target_scale is None:
            return outputs
        mean, deviation = self._target_scale
        if self._variance:
            return torch.stack([outputs[:, 0] * deviation + mean, (outputs[:, 1] / 2).exp() * deviation], 1)
        return outputs * deviation + mean


def check_installed() -> None:
    """Make sure that ONNX can be written and run.

    Raises:
        InputError: a package is missing.
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise InputError(f"ONNX needs {', '.join(missing)}: pip install 'dampen[onnx]'")


def write(whole: Whole, rows: Shaped[Tensor, "N ..."], file: Path) -> float:
    """Write a network, batches of any size; return how far its outputs are from PyTorch's, relatively.

    Args:
        whole: in evaluation mode.
        rows: to compare on.
        file: where to.

    Raises:
        InputError: the network can't be written, or ONNX gives other outputs.
    """
    features = rows[:_ROWS].to(torch.float32)
    try:
        with _quiet():
            program = torch.onnx.export(
                whole,
                (features[:2],),
                input_names=["features"],
                output_names=["answers"],
                dynamic_shapes=({0: torch.export.Dim("rows")},),
                dynamo=True,
                verbose=False,
            )
            assert program is not None
            program.save(file, external_data=False)  # one file, or an error past its 2 GiB
    except Exception as e:
        message = (str(e).strip() or type(e).__name__).splitlines()[0]
        raise InputError(f"the network can't be written as ONNX: {message}") from e
    with torch.no_grad():
        wanted = whole(features).numpy()
    outputs = np.concatenate([_run(file, part.numpy()) for part in (features[:1], features[1:]) if len(part)])
    apart = float(np.abs(outputs - wanted).max() / max(np.abs(wanted).max(), np.finfo(np.float32).tiny))
    if not apart <= _TOLERANCE:
        raise InputError(
            f"the outputs of ONNX and PyTorch differ by {apart:.1e} of the largest output; {_TOLERANCE:g} is allowed"
        )
    return apart


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's progress and its messages on torch's own modules and on optional packages."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _run(file: Path, features: np.ndarray) -> Any:
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return session.run(["answers"], {"features": features})[0]
