"""One member trained alone by an ordinary PyTorch loop: the reference for everything that is fused."""

import contextlib
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from dampen.errors import InputError
from dampen.knobs import Setting, weight_decay
from dampen.population import _feed, _losses, _noise, _recipe
from dampen.population._dropping import PairedDropout, Place, rates_at, set_rates
from dampen.population._model import Builder, Model
from dampen.population._probe import probe


@dataclass(frozen=True)
class Solo:
    """What a solo run gives.

    Args:
        network: the trained network, in evaluation mode, on the CPU.
        train_loss: running mean of the training loss in each epoch.
        diverged_at: the epoch in which the training loss (in the last also the weights) ceased to be finite, or 0.
    """

    network: nn.Module
    train_loss: list[float]
    diverged_at: int


def solo(
    model: Model,
    setting: Setting,
    seed: int,
    data: _feed.Source,
    *,
    epochs: int,
    device: str | torch.device = "cpu",
    **options: Any,
) -> Solo:
    """Train one member alone, with the initial weights, batches and dropout masks that it has in a population.

    Args:
        model: what makes the network, as in `Population`.
        setting: its knobs.
        seed: its seed.
        data: what it is trained on, as in `Population.fit`.
        epochs: passes over the training rows.
        device: where it trains.
        options: `batch_size`, `optimizer` (torch's own), `lr`, `schedule`, `clip`, `decay`, `loss` and `precision` as
            in `Population.fit`.

    Raises:
        InputError: an argument outside its range, or unfit data.
    """
    sets = _feed.of_seeds(data, 1)[0]
    recipe = _recipe.read(sets.task, epochs=epochs, **options)
    if recipe.early_stopping is not None:
        raise InputError("solo trains to the end: early_stopping is Population.fit's")
    rows = _feed.to_device([sets.tables["train"]], torch.device(device), recipe.dtype)
    network = Builder(model)(seed, sets.input_shape, sets.outputs).to(device, recipe.dtype).train()
    optimizer = _optimizer(network, setting, recipe)
    per_epoch = math.ceil(len(rows) / recipe.batch_size)
    schedule = LambdaLR(optimizer, lambda step: recipe.schedule.factor(step, epochs * per_epoch))
    where: dict[Any, tuple[Place, ...]] = {}  # it drops units, by the shapes of a batch
    places: tuple[Place, ...] = ()
    curve: list[float] = []
    step = 0
    for epoch in range(1, epochs + 1):
        total = 0.0
        for index in _noise.batch_order(len(rows), seed, epoch).to(device).split(recipe.batch_size):
            inputs, targets = ([t[0] for t in part] for part in _batch(rows, index))
            shapes = tuple(t.shape for t in inputs)
            if shapes not in where:
                where[shapes] = probe(
                    network, dict(network.named_parameters()) | dict(network.named_buffers()), inputs
                ).places
            places = where[shapes]
            uniforms = _noise.dropout_uniforms([seed], step, [place.shape for place in places], device)
            low = recipe.low
            cast = torch.autocast(torch.device(device).type, low) if low else contextlib.nullcontext()
            with (
                _noise.global_generators(seed, step),
                cast,
                PairedDropout(rates_at(setting.get("dropout"), places), [u[0] for u in uniforms]),
            ):
                outputs = network(*inputs)
            losses = _losses.by_row(recipe.loss, outputs.to(recipe.dtype), targets[0])
            optimizer.zero_grad()
            losses.mean().backward()
            for p in network.parameters():
                if p.requires_grad and p.grad is None:  # a parameter that this step did not use: it decays all the same
                    p.grad = torch.zeros_like(p)
            if recipe.clip is not None:
                nn.utils.clip_grad_norm_(network.parameters(), recipe.clip)
            optimizer.step()
            schedule.step()
            total += losses.detach().sum(dtype=torch.float64).item()
            step += 1
        curve.append(total / len(rows))
        finite = math.isfinite(curve[-1])
        if epoch == epochs:
            finite = finite and all(bool(p.isfinite().all()) for p in network.parameters())
        if not finite:
            return Solo(network.cpu().eval(), curve, epoch)
    set_rates(network, places, rates_at(setting.get("dropout"), places))
    return Solo(network.cpu().eval(), curve, 0)


def _batch(rows: _feed.Rows, index: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    inputs, targets = rows.gather(index.unsqueeze(0))
    return inputs, [targets]


def _optimizer(network: nn.Module, setting: Setting, recipe: _recipe.Recipe) -> torch.optim.Optimizer:
    """Return torch's own optimizer with a group for the parameters that decay and one for the others."""
    decayed = weight_decay.decayed(network, recipe.decay)
    parameters = dict(network.named_parameters())
    groups = [
        {
            "params": [parameters[name] for name, on in decayed.items() if on is wanted],
            "weight_decay": setting.get("weight_decay", 0.0) if wanted else 0.0,
        }
        for wanted in (True, False)
    ]
    return recipe.optimizer.alone(groups, setting.get("lr", recipe.lr))
