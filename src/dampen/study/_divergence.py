"""Whether trainings went anywhere: all may have diverged without a single number that is not finite."""

import math

import numpy as np
import torch

from dampen.data import Data
from dampen.engine import Builder
from dampen.engine.knobs.weights import weight_decay
from dampen.errors import InputError
from dampen.study._runner import Runner

# A training whose loss on its own rows ends so far above a constant's, with weights so far above their start, has been
# thrown about by its steps: a network that merely learns slowly has the weights that it began with.
_LOSS, _NORM = 3.0, 10.0
# Of a standard normal target's constant: half its variance; the mean loss of its own quantiles.
_OF_UNIT = {"half_squared_error": 0.5, "gaussian_nll": 0.5, "beta_nll": 0.5, "pinball": 0.2}


def check_learnt(runner: Runner, phase: str) -> None:
    """Refuse a phase whose every training diverged.

    Raises:
        InputError: each did.
    """
    if not runner.curves:
        return
    frame = runner.frame()
    frame = frame[frame["phase"] == phase]
    if not len(frame):
        return
    last = frame.groupby(["run", "seed", "setting"]).tail(1)  # of each training: a population's epochs are in order
    half = _OF_UNIT.get(str(runner.plan.training.loss), 1.0)
    worse = ~(last["train_loss"] <= _LOSS * half * constant_loss(runner.plan.data))
    grown = ~(last["weight_norm"] <= _NORM * _initial_norm(runner))
    if bool(np.all(last["diverged"] | (worse & grown))):
        rates = (
            sorted({float(rate) for rate in last["lr"] if rate is not None and rate == rate}) if "lr" in last else []
        )
        rates = rates or [runner.plan.training.lr]
        tried = f"{rates[0]:.3g}" if len(rates) == 1 else f"{rates[0]:.3g} to {rates[-1]:.3g}"
        raise InputError(f"every setting diverged: lower the learning rate (lr), which was {tried}")


def constant_loss(data: Data) -> float:
    """Return the training loss of always answering with the class shares, or with the mean."""
    targets = data.train.targets
    if data.task == "classification":
        shares = torch.bincount(targets, minlength=data.outputs).double() / len(targets)
        return max(float(-torch.special.xlogy(shares, shares).sum()), 1e-6)
    return max(float(targets.double().var(0, correction=0).mean()), 1e-6)


def _initial_norm(runner: Runner) -> float:
    data = runner.plan.data
    network = Builder(runner.model)(runner.plan.seed, data.inputs, data.outputs)
    decayed = weight_decay.decayed(network, runner.plan.training.decay_filter)
    own = dict(network.named_parameters())
    return math.sqrt(sum(float(own[name].detach().double().square().sum()) for name, on in decayed.items() if on))
