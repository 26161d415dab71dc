"""One member trained alone by an ordinary PyTorch loop: the reference for everything that is fused."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Unpack

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from dampen.engine import _dataset, _rng
from dampen.engine._batches import batches
from dampen.engine._codes import check_codes, refuse_changed_codes
from dampen.engine._config import Recipe, TrainConfig, TrainOptions, configured
from dampen.engine._copies import copied
from dampen.engine._model import Builder, Model
from dampen.engine.capture import Place, Trace, check_ids, in_one_line, named, rates_at, set_rates, trace
from dampen.engine.execution._active_knobs import ActiveKnobs
from dampen.engine.execution._ordinary import Step, gradient, tensors_of, watched
from dampen.engine.execution._step_effects import StepEffects
from dampen.engine.knobs import Setting, turned
from dampen.engine.knobs.weights import decay_timescale, weight_decay
from dampen.engine.knobs.weights.corrected_decay import normalised
from dampen.engine.optim import _optimizers
from dampen.engine.optim._averaging import Average
from dampen.engine.optim._weight_knobs import AroundStep
from dampen.errors import InputError


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
    data: _dataset.Source,
    config: TrainConfig | None = None,
    **options: Unpack[TrainOptions],
) -> Solo:
    """Train one member alone, with the initial weights, batches and dropout masks that it has in a population.

    Args:
        model: what makes the network, as in `Population`.
        setting: its knobs.
        seed: its seed.
        data: what it is trained on, as in `Population.fit`.
        config: how it trains; the optimizer is torch's own.
        options: fields of `TrainConfig`, such as `epochs=20`; they replace those of `config`.

    Raises:
        InputError: an argument outside its range, or unfit data.
    """
    config = configured(config, options)
    sets = _dataset.of_seeds(data, 1)[0]
    recipe = config.recipe(sets.task, sets.weighted)
    epochs, device = recipe.epochs, recipe.device
    if recipe.early_stopping is not None:
        raise InputError("solo trains to the end: early_stopping is Population.fit's")
    rows = _dataset.to_device([sets.tables["train"]], device, recipe.dtype)
    network = Builder(model)(seed, sets.input_shape, sets.outputs).to(device, recipe.dtype).train()
    check_ids(network, [t[0] for t in rows.inputs])
    refuse_changed_codes(sets.codes, turned([setting]))
    check_codes(network, rows.inputs[0][0], sets.codes)
    spans = batches(len(rows), recipe.batch_size, recipe.even_batches)
    if any(span.stop - span.start == 1 for span in spans):  # one row alone can't be normalised
        state = tensors_of(network)
        trace(network, state, [t[0] for t in rows.span(0, 1)[0]])
    per_epoch = len(spans)
    active = ActiveKnobs([setting])
    average = Average(active, _stacked(network)) if active.averages else None
    free = torch.zeros(1, 1, dtype=torch.bool)
    optimizer = _optimizer(network, setting, recipe, per_epoch)
    around = _around(active, network, setting, recipe)
    schedule = LambdaLR(optimizer, lambda step: recipe.schedule.factor(step, epochs * per_epoch))
    traces: dict[Any, Trace] = {}  # by the shapes of a batch
    places: tuple[Place, ...] = ()
    curve: list[float] = []
    step = 0
    for epoch in range(1, epochs + 1):
        total, seen = 0.0, []
        order = _rng.batch_order(len(rows), seed, epoch).to(device)
        for span in spans:
            batch, targets = rows.gather(order[span].unsqueeze(0))
            shapes = tuple(t.shape for t in batch)
            if shapes not in traces:
                state = tensors_of(network)
                traces[shapes] = trace(network, state, [t[0] for t in batch], active.additions)
                active.check(recipe.loss, traces[shapes].sites, bool(traces[shapes].places), batch, targets)
            places, scales = traces[shapes].places, active.scales(step, epochs * per_epoch)
            effects = active.at([seed], step, traces[shapes].sites, batch, targets, scales)
            placed = effects.placed(None if effects.rates is None else effects.rates[0], [t[0] for t in effects.draws])
            share = float(scales.get("dropout", 1.0))
            rates = [share * rate for rate in rates_at(setting.get("dropout"), places)]
            own = _rng.own_draws([seed], step, [(d.kind, d.shape) for d in traces[shapes].draws], device)
            uniforms = _rng.dropout_uniforms([seed], step, [place.shape for place in places], device)

            shown = [t[0, 0] for t in effects.inputs(batch)]
            draw = Step(seed, step, rates, [u[0] for u in uniforms], placed, recipe.low, [t[0] for t in own])
            if average is not None:
                seen.append(partial(draw.forward, shown=shown))
            loss = _Loss(recipe, effects, targets)
            twin = None if step else copied(network)
            if twin is not None:
                watched(draw, twin, shown, _Loss(recipe, effects, targets))
            optimizer.zero_grad()
            with in_one_line(network, lambda shown=shown: [shown]):
                draw.backward(network, shown, loss)
            for p in network.parameters():
                if p.requires_grad:  # one that this step did not use has zeros: it decays all the same
                    p.grad = gradient(p)
            if twin is not None:
                _check(network, twin)
            if recipe.clip_grad_norm is not None:
                nn.utils.clip_grad_norm_(network.parameters(), recipe.clip_grad_norm)
            factor = recipe.schedule.factor(step, epochs * per_epoch)
            for group in optimizer.param_groups:
                group["weight_decay"] = group["peak_decay"] * float(scales.get("weight_decay", 1.0))
            around.before([p.grad for p in network.parameters() if p.grad is not None], factor, scales)
            optimizer.step()
            around.after(factor, scales)
            schedule.step()
            if average is not None:
                average.update("step", _stacked(network), step + 1, epochs * per_epoch, free)
            total += loss.total
            step += 1
        curve.append(total / len(rows))
        if average is not None:
            average.update("epoch", _stacked(network), epoch, epochs, free)
            if average.stale(epoch, epochs).any():
                averaged = _load(copied(network), average)
                _update_bn(averaged, seen)
                average.tensors = [t.clone() for t in _stacked(averaged)]
        finite = math.isfinite(curve[-1])
        if epoch == epochs:
            finite = finite and all(bool(p.isfinite().all()) for p in network.parameters())
        if not finite:
            return Solo(network.cpu().eval(), curve, epoch)
    if average is not None:
        _load(network, average)
    set_rates(network, places, rates_at(setting.get("dropout"), places))
    return Solo(network.cpu().eval(), curve, 0)


class _Loss:
    """The mean loss of a batch's outputs; `total` is its sum over the rows."""

    def __init__(self, recipe: Recipe, effects: StepEffects, targets: torch.Tensor):
        self._recipe, self._effects, self._targets = recipe, effects, targets
        self.total = 0.0

    def __call__(self, outputs: torch.Tensor) -> torch.Tensor:
        stacked = outputs[None, None].to(self._recipe.dtype)
        losses = self._effects.losses(self._recipe.loss, stacked, self._targets)
        self.total = losses.detach().sum(dtype=torch.float64).item()
        return losses.mean()


def _check(network: nn.Module, twin: nn.Module) -> None:
    """Refuse a network whose gradients are not those of a copy that has run the same step.

    Raises:
        InputError: they are not.
    """
    for (name, p), q in zip(network.named_parameters(), twin.parameters(), strict=True):
        if p.requires_grad and p.grad is not None and not torch.allclose(p.grad, gradient(q), 1e-3, 1e-6, True):
            raise InputError(
                f"{named(network, name.rpartition('.')[0])} trains otherwise than a copy of it: its gradients depend "
                "on something else than its parameters, its buffers and its batch"
            )


def _stacked(network: nn.Module) -> list[torch.Tensor]:
    """Return parameters and buffers as those of one seed and one setting."""
    return [t.detach()[None, None] for t in (*network.parameters(), *network.buffers())]


def _load(network: nn.Module, average: Average) -> nn.Module:
    for parameter, t in zip(_stacked(network), average.tensors, strict=True):
        parameter.copy_(t)
    return network


@torch.no_grad()
def _update_bn(network: nn.Module, passes: Sequence[Callable[[nn.Module], torch.Tensor]]) -> None:
    """Find running statistics anew by passes in training mode, as `torch.optim.swa_utils.update_bn` does."""
    layers = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._NormBase)]
    momenta = [m.momentum for m in layers]
    counts = [None if m.num_batches_tracked is None else m.num_batches_tracked.clone() for m in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the mean over all passes
    for forward in passes if layers else ():
        forward(network)
    for layer, momentum, count in zip(layers, momenta, counts, strict=True):
        layer.momentum = momentum
        if count is not None and layer.num_batches_tracked is not None:
            layer.num_batches_tracked.copy_(count)


def _optimizer(network: nn.Module, setting: Setting, recipe: Recipe, steps: int) -> torch.optim.Optimizer:
    """Return torch's own optimizer with a group for the parameters that decay and one for the others."""
    decayed = weight_decay.decayed(network, recipe.decay_filter)
    parameters = dict(network.named_parameters())
    decay = decay_timescale.weight_decay_of(setting, recipe.lr, steps, _optimizers.momentum_of(recipe.optimizer))
    _optimizers.check_timescale(recipe.optimizer, [setting])
    groups = [
        {
            "params": [parameters[name] for name, on in decayed.items() if on is wanted],
            "weight_decay": decay if wanted else 0.0,
            "peak_decay": decay if wanted else 0.0,
        }
        for wanted in (True, False)
    ]
    return recipe.optimizer.alone(groups, setting.get("lr", recipe.lr))


def _around(active: ActiveKnobs, network: nn.Module, setting: Setting, recipe: Recipe) -> AroundStep:
    """Return what knobs do to the weights around each step."""
    decayed = weight_decay.decayed(network, recipe.decay_filter)
    parameters = {name: p for name, p in network.named_parameters() if p.requires_grad}
    start = {name: p.detach().clone() for name, p in parameters.items()}
    lr = torch.tensor(setting.get("lr", recipe.lr), dtype=torch.float64)
    on, tensors = list(decayed.values()), list(parameters.values())
    return AroundStep(active, list(parameters), tensors, on, lr, start, normalised(network))
