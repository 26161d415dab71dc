"""One member trained alone by an ordinary PyTorch loop: the reference for everything that is fused."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dampen.knobs import Setting, weight_decay
from dampen.population import _losses, _noise
from dampen.population._lanes import PairedDropout, rate_of_call

_OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


@dataclass(frozen=True)
class Solo:
    """What a solo run gives.

    Args:
        network: the trained network, in evaluation mode.
        train_loss: running mean of the training loss in each epoch.
        diverged_at: the epoch in which the training loss (in the last also the weights) ceased to be finite, or 0.
    """

    network: nn.Module
    train_loss: list[float]
    diverged_at: int


def solo(
    model: Callable[[], nn.Module],
    setting: Setting,
    seed: int,
    features: Tensor,
    targets: Tensor,
    *,
    epochs: int,
    batch_size: int,
    optimizer: str = "adamw",
    lr: float = 1e-3,
    loss: str | _losses.RowLoss = "cross_entropy",
    decayed: Callable[[str, Tensor], bool] = weight_decay.is_decayed,
    dtype: torch.dtype = torch.float32,
) -> Solo:
    """Train one member alone, with the initial weights, batches and dropout masks that it has in a population.

    Args:
        model: makes the network, without arguments.
        setting: its knobs.
        seed: its seed.
        features: training features `[N, ...]`.
        targets: training targets `[N]`.
        epochs: passes over the rows.
        batch_size: rows a step.
        optimizer: `sgd`, `adam` or `adamw`, each torch's own.
        lr: learning rate, if the setting has none.
        loss: name or function of the loss of each row.
        decayed: says whether a parameter, by name and value, decays.
        dtype: of parameters and features.
    """
    row_loss = _losses.find(loss, "classification")
    network = _noise.initial_network(model, seed).to(dtype).train()
    named = list(network.named_parameters())
    groups = [
        {
            "params": [p for name, p in named if decayed(name, p)],
            "weight_decay": setting.get("weight_decay", 0.0),
        },
        {"params": [p for name, p in named if not decayed(name, p)], "weight_decay": 0.0},
    ]
    update = _OPTIMIZERS[optimizer](groups, lr=setting.get("lr", lr))
    curve: list[float] = []
    step = 0
    for epoch in range(1, epochs + 1):
        total = 0.0
        for rows in _noise.batch_order(len(features), seed, epoch).split(batch_size):
            x = features[rows].to(dtype)
            with PairedDropout(
                lambda layer, p: rate_of_call(setting.get("dropout"), layer, p),
                lambda layer, shape, step=step: _noise.dropout_uniforms([seed], step, layer, shape)[0],
            ):
                losses = row_loss(network(x), targets[rows])
            update.zero_grad()
            losses.mean().backward()
            update.step()
            total += losses.detach().sum(dtype=torch.float64).item()
            step += 1
        curve.append(total / len(features))
        last = epoch == epochs
        if not math.isfinite(curve[-1]) or (last and not all(p.isfinite().all() for p in network.parameters())):
            return Solo(network.eval(), curve, epoch)
    return Solo(network.eval(), curve, 0)
