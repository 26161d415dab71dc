"""Predictions of one network or many, in a single pass or under dropout."""

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dampen._checks import finite, integer
from dampen._tensors import as_native, check_dense, check_size, describe_input, is_frame, loaded_by
from dampen.engine import (
    QUANTILE_HEADS,
    QUANTILES,
    VARIANCE_HEADS,
    are_probabilities,
    check_ids,
    has_one_output,
    once,
    outputs_line,
    warn,
)
from dampen.engine.knobs.noise.dropout import rates as read_rates
from dampen.errors import InputError, NotSampled, OutputsWarning
from dampen.uncertainty._masks import Numbers, keeps
from dampen.uncertainty._moments import ClassSums, ValueSums
from dampen.uncertainty._prediction import Prediction, ValuePrediction, of_quantiles
from dampen.uncertainty._sampling import Part, rates_of, sample
from dampen.uncertainty._sites import NothingDrops, answer, check_initialised, check_rows, find

_ROWS = 1024  # of a single pass at once


def mc_dropout(
    model: nn.Module,
    x: Any,
    samples: int = 100,
    seed: int = 0,
    *,
    task: str | None = None,
    variance_head: bool = False,
    scale: tuple[float, float] = (0.0, 1.0),
    temperature: float = 1.0,
    first_row: int = 0,
    return_samples: bool = False,
    max_bytes: int | None = None,
    dropout: Any = None,
) -> Prediction:
    """Predict by sampling a network's own dropout (Gal and Ghahramani 2016, "Dropout as a Bayesian approximation").

    The network is used as it is: layers, functions, attention and recurrent networks that drop units do so, nothing
    else is random, normalisation stays in evaluation, and the network leaves as it came. Every row has masks of its
    own; they depend on (seed, sample, place, row) alone, so that a row's samples are the same in any batch.

    Args:
        model: any network that returns one tensor with a row for each row of its input.
        x: `[N, ...]`, or a tuple of them for a network with several arguments, or rows of a `Data` or all of it.
        samples: T, how many.
        seed: of the masks, 0 or larger.
        task: `classification` for logits `[N, C]`, or the logit `[N]` of the second of two classes; `regression` for
            values; by default regression where the network gives one number a row, classification where it gives
            several, and a warning.
        variance_head: the network returns `(mean, log variance)` for each row (Kendall and Gal 2017, equation 8).
        scale: mean and deviation that turn a regression's values into the target's own unit.
        temperature: that logits are divided by.
        first_row: number of the first row, where x is a part of longer data.
        return_samples: keep the samples, too: T times the memory.
        max_bytes: that intermediate results may take; by default what suits the cache and the memory that is free.
        dropout: rates instead of the network's own: one, one for each place, or by module name, as in a `Setting`.

    Returns:
        A `ClassPrediction` or a `ValuePrediction`.

    Raises:
        InputError: an argument outside its range, or a network that drops nothing or can't be sampled.

    Example:
        >>> network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))
        >>> found = mc_dropout(network, torch.ones(2, 4), samples=50)
        >>> found.probabilities.shape, found.samples
        (torch.Size([2, 3]), 50)
    """
    return predict(
        model,
        x,
        samples,
        seed,
        task=task,
        variance_head=variance_head,
        scale=scale,
        temperature=temperature,
        first_row=first_row,
        return_samples=return_samples,
        max_bytes=max_bytes,
        dropout=dropout,
    )


def predict(
    models: Any,
    x: Any,
    samples: int | None = None,
    seed: int = 0,
    *,
    task: str | None = None,
    variance_head: bool = False,
    loss: str | None = None,
    scale: tuple[float, float] = (0.0, 1.0),
    temperature: float = 1.0,
    first_row: int = 0,
    return_samples: bool = False,
    max_bytes: int | None = None,
    dropout: Any = None,
) -> Prediction:
    """Predict with one network or with several, once each or sampled: the same quantities for all of them.

    | models | samples | what it is |
    | --- | --- | --- |
    | a network | None | a single pass |
    | a network | T | Monte-Carlo dropout |
    | networks, or a study | None | a deep ensemble (Lakshminarayanan et al. 2017) |
    | networks, or a study | T | an ensemble whose members are sampled T times each |

    Args:
        models: a network, a sequence of networks, or a `Study`, whose ensemble it then is.
        x: as for `mc_dropout`, and so is all that follows.
        samples: of each network; None: one pass in evaluation mode.
        seed: see there.
        task: see there.
        variance_head: see there.
        loss: by which the network was trained, by name: of `gaussian_nll` and `beta_nll` it has a variance head, of
            `pinball` it returns the median and two quantiles; a study brings its own.
        scale: see there; a study brings its own.
        temperature: see there.
        first_row: see there.
        return_samples: see there.
        max_bytes: see there.
        dropout: see there; a study brings the recommended setting's.

    Raises:
        InputError: as for `mc_dropout`; or no network.

    Example:
        >>> networks = [nn.Linear(4, 3) for _ in range(5)]
        >>> predict(networks, torch.ones(2, 4)).mutual_information.shape
        torch.Size([2])
    """
    if dropout is not None and samples is None:
        raise InputError("dropout has the rates of samples, and there are none: give samples, or leave dropout out")
    scaled = _check_scale(scale)
    if hasattr(models, "ensemble") and hasattr(models, "target_scale"):
        if scaled:
            raise InputError("a study has the scale of its target: leave scale out")
        if is_frame(x) or isinstance(x, str | os.PathLike):
            raise InputError(_of_table(x))
        dropout = models.setting.get("dropout") if dropout is None else dropout
        task, loss = task or models.description.task, loss or getattr(models, "loss", None)
        models, scale = models.ensemble(), models.target_scale
    folder = os.fspath(models) if isinstance(models, str | os.PathLike) else None
    if folder is not None or not isinstance(models, nn.Module | Iterable):
        raise InputError(
            f"predict needs a network, several of them or a study, got {describe_input(models)}"
            + (f": for a study's folder use dampen.load_study({folder!r})" if folder is not None else "")
        )
    networks: list[Any] = [models] if isinstance(models, nn.Module) else list(models)
    networks = [getattr(network, "_orig_mod", network) for network in networks]  # what torch.compile wraps
    if not networks or not all(isinstance(network, nn.Module) for network in networks):
        raise InputError("predict needs a network, or a sequence of at least one")
    if samples is not None:
        integer("samples", samples)
    integer("seed", seed, 0)
    integer("first_row", first_row, 0)
    finite("temperature", temperature)
    if task not in (None, "classification", "regression"):
        raise InputError(f"task must be classification or regression, got {task!r}")
    variance_head, quantiles = variance_head or loss in VARIANCE_HEADS, loss in QUANTILE_HEADS
    rates = None if dropout is None else read_rates(dropout)
    rows = _read(x)
    each = samples or 1
    total, N = each * len(networks), len(rows[0])
    sums: list[ClassSums | ValueSums] = []  # one, made for the shape of the first outputs

    def take(part: Part) -> None:
        check_rows(part.outputs[0], part.stop - part.start)
        classes = _is_classes(part.outputs, task, variance_head)
        if quantiles and (classes or part.outputs.ndim != 3 or part.outputs.shape[-1] != len(QUANTILES)):
            shape = list(part.outputs.shape[1:])
            raise InputError(f"a network trained by pinball gives the median and two quantiles, [N, 3]; got {shape}")
        if classes and scaled:
            raise InputError(
                "scale turns a regression's values into the target's unit, and the outputs are interpreted as "
                "logits of classes: leave scale out" + ", or give task='regression'" * (task is None)
            )
        if not classes and temperature != 1:
            raise InputError(
                "temperature divides logits of classes, and the outputs are interpreted as values: leave "
                "temperature out" + ", or give task='classification'" * (task is None)
            )
        part = replace(part, outputs=_finite(part, classes))
        if classes and has_one_output(part.outputs[0]):  # the logit of the second of two classes
            logit = part.outputs.flatten(1)[..., None] if part.outputs.ndim > 2 else part.outputs[..., None]
            part = replace(part, outputs=torch.cat([torch.zeros_like(logit), logit], -1))
        if not sums:
            if task is None and not variance_head:
                _warn_of_guess(list(part.outputs.shape[1:]), classes)
            if classes and are_probabilities(part.outputs.flatten(0, 1)):
                warn(outputs_line("softmax"), OutputsWarning, stacklevel=5)
            sums.append(
                ClassSums(N, total, return_samples, temperature)
                if classes
                else ValueSums(N, total, return_samples, scale, variance_head)
            )
        sums[0].add(part, i * each)

    sampled = samples is None
    with once():
        for i, network in enumerate(networks):
            inputs = _for(network, rows)
            check_ids(network, inputs)
            if samples is None:
                _once(network, inputs, take)
            else:
                sampled |= sample(
                    network,
                    inputs,
                    samples,
                    seed,
                    member=i,
                    first_row=first_row,
                    max_bytes=max_bytes,
                    dropout=rates,
                    take=take,
                )
        if not sampled:
            warn(
                "nothing was sampled: the network drops units at rates of 0 only, so that every sample is its one pass "
                "in evaluation mode",
                NotSampled,
                stacklevel=3,
            )
    found = sums[0].prediction()
    return of_quantiles(found) if quantiles and isinstance(found, ValuePrediction) else found


def masks(model: nn.Module, x: Any, samples: int, seed: int = 0, *, first_row: int = 0) -> list[Tensor]:
    """Return what `mc_dropout` keeps: for each place of the forward pass whether a unit is kept, `[T, ...]`.

    A place's mask has the shape of what it drops, with size 1 where whole channels are dropped together; that of a
    recurrent network is `[T, N, gaps between layers, steps, outputs]`.

    Args:
        model: as for `mc_dropout`.
        x: see there.
        samples: see there.
        seed: see there.
        first_row: see there.
    """
    inputs = rows_of(x, model)
    sites = find(model, inputs)
    numbers = Numbers(sites.places, seed, 0, inputs[0].device)
    rows, of_samples = numbers.of_rows(first_row, first_row + len(inputs[0])), numbers.of_samples(0, samples)
    return [keeps(place, a, b) for place, a, b in zip(sites.places, of_samples, rows, strict=True)]


def dropout_rates(model: nn.Module, x: Any, dropout: Any = None) -> list[float]:
    """Return the rate at each place where a network drops units; none where it has no dropout.

    Args:
        model: as for `mc_dropout`.
        x: see there; a few rows will do.
        dropout: see there.

    Example:
        >>> dropout_rates(nn.Sequential(nn.Dropout(0.2), nn.Linear(3, 1)), torch.ones(2, 3))
        [0.2]
    """
    try:
        places = find(model, rows_of(x, model)).places
        return [place.p for place in places] if dropout is None else rates_of(places, read_rates(dropout))
    except NothingDrops:
        return []


def rows_of(x: Any, network: nn.Module) -> list[Tensor]:
    """Return a network's arguments, on its device and of its type.

    Raises:
        InputError: no tensors, no rows, not equally many, or a network that has no weights yet.
    """
    return _for(network, _read(x))


def _read(x: Any) -> list[Tensor]:
    """Return arguments as they were given, as tensors."""
    if hasattr(x, "features") and hasattr(x, "targets"):
        x = x.normalisation.apply(x.features) if hasattr(x, "normalisation") else x.features  # of raw rows
    if is_frame(x) or isinstance(x, str | os.PathLike):
        how = (
            "torch.tensor(frame.to_numpy(), dtype=torch.float32), scaled as the training rows were"
            if is_frame(x)
            else f"rows of {loaded_by(x)}"
        )
        raise InputError(
            f"x must be what the network takes, one tensor or a tuple of them, got {describe_input(x)}: give {how}"
        )
    if isinstance(x, Mapping):
        names = ", ".join(map(str, x))
        raise InputError(
            f"x must be one tensor, or a tuple of them, got arguments by name ({names}): wrap the network in a "
            "nn.Module whose forward takes them in order and hands them on by name, and give a tuple"
        )
    try:
        parts = [as_native(t) if isinstance(t, np.ndarray) else t for t in (x if isinstance(x, tuple | list) else (x,))]
        inputs = [torch.as_tensor(t) for t in parts]
    except (TypeError, ValueError, RuntimeError) as e:
        raise InputError(
            f"x must be one tensor, or a tuple of them, got {type(x).__name__}: {str(e).splitlines()[0]}"
        ) from e
    for t in inputs:
        check_dense(t, "x")
    lengths = {len(t) if t.ndim else 0 for t in inputs}
    if len(lengths) != 1 or 0 in lengths:
        raise InputError(
            f"x must be one tensor, or a tuple of them, with equally many rows, got {sorted(lengths)} rows"
        )
    for t in inputs:
        if t.is_floating_point() and not (t.sum().isfinite() or t.isfinite().all()):  # a sum takes a fortieth
            raise InputError("x must be finite numbers: there is a NaN or an infinity among the rows")
        check_size(t, "x")
    return inputs


def _for(network: nn.Module, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Return rows on a network's device, real numbers of its own type: NumPy's are of float64, most networks' float32.

    Raises:
        InputError: it has no weights yet, or its type can't hold the numbers.
    """
    check_initialised(network)
    parameter = next(network.parameters(), None)
    if parameter is None:
        return list(inputs)
    kinds = {p.dtype for p in network.parameters() if p.is_floating_point()}
    kind = kinds.pop() if len(kinds) == 1 else None
    tensors = [t.to(parameter.device, kind if t.is_floating_point() else None) for t in inputs]
    if kind is not None and kind.itemsize < 4 and not all(t.isfinite().all() for t in tensors if t.is_floating_point()):
        raise InputError(f"x has numbers that the network's {str(kind).removeprefix('torch.')} can't hold: scale them")
    return tensors


@torch.no_grad()
def _once(network: nn.Module, inputs: Sequence[Tensor], take: Callable[[Part], object]) -> None:
    """Run a network in evaluation mode; it leaves as it came."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        for start in range(0, len(inputs[0]), _ROWS):
            here = [t[start : start + _ROWS] for t in inputs]
            outputs = answer(network, here)
            check_rows(outputs, len(here[0]))
            take(Part(start, start + len(outputs), 0, outputs.unsqueeze(0)))
    finally:
        for module, training in modes.items():
            module.training = training


def _check_scale(scale: Any) -> bool:
    """Return whether a scale changes anything.

    Raises:
        InputError: it is no mean and deviation.
    """
    try:
        mean, deviation = (float(value) for value in scale)
    except (TypeError, ValueError):
        mean = deviation = math.nan
    if not (math.isfinite(mean) and 0 < deviation < math.inf):
        raise InputError(f"scale must be (mean, deviation), finite numbers, the second above 0; got {scale!r}")
    return (mean, deviation) != (0, 1)


def _finite(part: Part, classes: bool) -> Tensor:
    """Return outputs that can be computed with: a class's logit of minus infinity is a probability of 0.

    Raises:
        InputError: there are others that are no finite numbers.
    """
    outputs = part.outputs
    if outputs.sum().isfinite() or outputs.isfinite().all():  # a sum takes a fortieth
        return outputs
    bad = ~outputs.isfinite()
    if classes and not has_one_output(outputs[0]):
        bad = (bad & (outputs != -math.inf)) | outputs.isneginf().all(-1, keepdim=True)
    if not bad.any():
        return outputs.clamp_min(torch.finfo(outputs.dtype).min / 4)
    rows = bad.flatten(2).any(2).any(0) if bad.ndim > 2 else bad.any(0)
    first = part.start + int(rows.nonzero()[0])
    raise InputError(
        f"the network's outputs are NaN or infinite, for row {first} first: look for weights that have diverged, a "
        "division by 0 or a logarithm"
    )


def _of_table(x: Any) -> str:
    """Return what to do with a table where a study predicts."""
    table = repr(os.fspath(x)) if isinstance(x, str | os.PathLike) else "frame"
    return (
        f"x must be the network's inputs, got {describe_input(x)}: study.calibrated().predict({table}) reads rows as "
        "the study's own data was, or give a tensor, or rows of a data set as dampen.load makes it (data.test)"
    )


def _warn_of_guess(shape: list[int], classes: bool) -> None:
    """Warn how outputs are interpreted where no task is given."""
    what, other = (
        (f"logits of {shape[-1]} classes", "task='regression', or variance_head=True for (mean, log variance),")
        if classes
        else ("values", "task='classification', for the logit of two classes,")
    )
    warn(
        f"the network's outputs of shape {shape} are interpreted as {what}: {other} changes that; with a task "
        "given there is no warning",
        OutputsWarning,
        stacklevel=6,
    )


def _is_classes(outputs: Tensor, task: str | None, variance_head: bool) -> bool:
    """Return whether outputs `[T, B, ...]` are logits."""
    shape = list(outputs.shape[1:])
    if variance_head:
        if task == "classification" or outputs.ndim != 3 or shape[-1] != 2:
            raise InputError(f"a variance head gives (mean, log variance), [N, 2], for a regression; got {shape}")
        return False
    if outputs.ndim > 3 and task != "regression":
        raise InputError(
            f"the network gives {shape} for {shape[0]} rows: where pixels or tokens have classes, each must be a row "
            "(wrap the network so that it takes and returns one a row); task='regression' if they are values"
        )
    single = outputs.ndim == 2 or shape[-1] == 1
    return not single if task is None else task == "classification"
