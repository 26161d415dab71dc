"""One way to ask one network or many, once or under dropout."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from dampen._tensors import check_dense, check_size, is_frame, loaded_by
from dampen._tensors import described as described_input
from dampen.engine import _losses, are_probabilities, described, once, outputs_line, tell
from dampen.engine.capture._failures import check_ids, in_one_line
from dampen.engine.knobs.noise.dropout import rates as read_rates
from dampen.errors import InputError, OutputsWarning
from dampen.uncertainty._masks import Numbers, keeps
from dampen.uncertainty._moments import ClassSums, ValueSums
from dampen.uncertainty._prediction import Prediction
from dampen.uncertainty._sampling import Part, rates_of, sample
from dampen.uncertainty._sites import NothingDrops, find, tensor_of

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
            several, and a warning that says so.
        variance_head: the network says `(mean, log variance)` for each row (Kendall and Gal 2017, equation 8).
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
    if hasattr(models, "ensemble") and hasattr(models, "plan"):
        if is_frame(x) or isinstance(x, str | os.PathLike):
            raise InputError(_of_table(models, x))
        dropout = models.verdict.recommended.get("dropout") if dropout is None else dropout
        task = task or models.plan.data.task
        models, scale = models.ensemble(), models.plan.target_scale
    if isinstance(models, str | os.PathLike) or not isinstance(models, nn.Module | Iterable):
        raise InputError(
            f"predict needs a network, several of them or a study, got {described_input(models)}"
            + ": the networks of a study's folder are dampen.study.open_study(folder).networks"
            * isinstance(models, str | os.PathLike)
        )
    networks: list[Any] = [models] if isinstance(models, nn.Module) else list(models)
    networks = [getattr(network, "_orig_mod", network) for network in networks]  # what torch.compile wraps
    if not networks or not all(isinstance(network, nn.Module) for network in networks):
        raise InputError("predict needs a network, or a sequence of at least one")
    for name, value, least in (("samples", samples, 1), ("seed", seed, 0), ("first_row", first_row, 0)):
        if not (name == "samples" and value is None) and (
            isinstance(value, bool) or not isinstance(value, int) or value < least
        ):
            raise InputError(f"{name} must be a whole number, {least} or larger, got {value!r}")
    if not temperature > 0:
        raise InputError(f"temperature must be larger than 0, got {temperature!r}")
    if task not in (None, "classification", "regression"):
        raise InputError(f"task must be classification or regression, got {task!r}")
    rates = None if dropout is None else read_rates(dropout)
    inputs = rows_of(x, networks[0])
    each = samples or 1
    total, N = each * len(networks), len(inputs[0])
    sums: list[ClassSums | ValueSums] = []  # one, made when the first outputs say of what

    def take(part: Part) -> None:
        classes = _is_classes(part.outputs, task, variance_head)
        if classes and _losses.has_one_output(part.outputs[0]):  # the logit of the second of two classes
            logit = part.outputs.flatten(1)[..., None] if part.outputs.ndim > 2 else part.outputs[..., None]
            part = replace(part, outputs=torch.cat([torch.zeros_like(logit), logit], -1))
        if not sums:
            if task is None and not variance_head:
                _tell_guess(list(part.outputs.shape[1:]), classes)
            if classes and are_probabilities(part.outputs.flatten(0, 1)):
                tell(outputs_line("softmax"), OutputsWarning, stacklevel=5)
            sums.append(
                ClassSums(N, total, return_samples, temperature)
                if classes
                else ValueSums(N, total, return_samples, scale, variance_head)
            )
        sums[0].add(part, i * each)

    with once():
        for i, network in enumerate(networks):
            check_ids(network, inputs)
            if samples is None:
                _once(network, inputs, take)
            else:
                sample(
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
    return sums[0].prediction()


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
    found = find(model, inputs)
    numbers = Numbers(found.places, seed, 0, inputs[0].device)
    rows, of_samples = numbers.of_rows(first_row, first_row + len(inputs[0])), numbers.of_samples(0, samples)
    return [keeps(place, a, b) for place, a, b in zip(found.places, of_samples, rows, strict=True)]


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
    """Return a network's arguments, on its device.

    Raises:
        InputError: no tensors, no rows, or not equally many.
    """
    if hasattr(x, "features") and hasattr(x, "targets"):
        x = x.normalisation.apply(x.features) if hasattr(x, "normalisation") else x.features  # of raw rows
    if is_frame(x) or isinstance(x, str | os.PathLike):
        how = (
            "torch.tensor(frame.to_numpy(), dtype=torch.float32), scaled as the training rows were"
            if is_frame(x)
            else f"rows of {loaded_by(x)}"
        )
        raise InputError(
            f"x must be what the network takes, one tensor or a tuple of them, got {described_input(x)}: give {how}"
        )
    if isinstance(x, Mapping):
        names = ", ".join(map(str, x))
        raise InputError(
            f"x must be one tensor, or a tuple of them, got arguments by name ({names}): wrap the network in a "
            "nn.Module whose forward takes them in order and hands them on by name, and give a tuple"
        )
    try:
        inputs = [torch.as_tensor(t) for t in (x if isinstance(x, tuple | list) else (x,))]
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
    parameter = next(network.parameters(), None)
    return inputs if parameter is None else [t.to(parameter.device) for t in inputs]


@torch.no_grad()
def _once(network: nn.Module, inputs: Sequence[Tensor], take: Callable[[Part], object]) -> None:
    """Run a network in evaluation mode; it leaves as it came."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        for start in range(0, len(inputs[0]), _ROWS):
            batch = [t[start : start + _ROWS] for t in inputs]
            with in_one_line(network, lambda batch=batch: [batch]):
                outputs = tensor_of(network(*batch))
            if not isinstance(outputs, Tensor) or outputs.ndim == 0 or len(outputs) != len(batch[0]):
                raise InputError(
                    f"the network must return one tensor with a row for each row, not {described(outputs)}"
                )
            take(Part(start, start + len(outputs), 0, outputs.unsqueeze(0)))
    finally:
        for module, training in modes.items():
            module.training = training


def _of_table(study: Any, x: Any) -> str:
    """Return what to do with a table where a study is asked."""
    given = f"x must be the network's inputs, got {described_input(x)}"
    if study.preprocessing() is None:
        return f"{given}: give a tensor, or rows of a data set as dampen.load makes it (data.test)"
    table = repr(os.fspath(x)) if isinstance(x, str | os.PathLike) else "frame"
    return f"{given}: study.preprocessing().inputs({table}) makes them of a table"


def _tell_guess(shape: list[int], classes: bool) -> None:
    """Tell what outputs are taken for where nobody said."""
    what, other = (
        (f"logits of {shape[-1]} classes", "task='regression', or variance_head=True for (mean, log variance),")
        if classes
        else ("values", "task='classification', for the logit of two classes,")
    )
    tell(
        f"the network's outputs of shape {shape} are taken for {what}: {other} says otherwise, and "
        "task ends this warning",
        OutputsWarning,
        stacklevel=6,
    )


def _is_classes(outputs: Tensor, task: str | None, variance_head: bool) -> bool:
    """Say whether outputs `[T, B, ...]` are logits."""
    shape = list(outputs.shape[1:])
    if variance_head:
        if task == "classification" or outputs.ndim != 3 or shape[-1] != 2:
            raise InputError(f"a variance head gives (mean, log variance), [N, 2], for a regression; got {shape}")
        return False
    if outputs.ndim > 3 and task != "regression":
        raise InputError(
            f"the network gives {shape} for {shape[0]} rows: of classes of pixels or tokens each needs a row of its "
            "own (wrap the network so that it takes and gives one of them a row); task='regression' if they are values"
        )
    one = outputs.ndim == 2 or shape[-1] == 1
    return not one if task is None else task == "classification"
