"""Training a few steps at a time, with settings that may be replaced between two of them."""

import time
from collections.abc import Sequence
from typing import Unpack

import numpy as np
from jaxtyping import Bool
from torch import Tensor

from dampen.engine import _dataset, _rng
from dampen.engine._batches import batches
from dampen.engine._config import TrainConfig, TrainOptions, configured
from dampen.engine._population import Population
from dampen.engine.capture import rates_at
from dampen.engine.execution._chunk import Chunk
from dampen.engine.knobs import Setting
from dampen.errors import InputError

_ENDLESS = 1 << 40  # epochs: for schedules, the horizon


class Stepper:
    """Trains a population a few steps at a time: for a training that someone watches and steers.

    A member follows the trajectory of an ordinary loop in which the replaced values hold from that step on.

    Args:
        population: what is trained; `outputs`, `evaluate` and `state` of it show where it is.
        data: as for `Population.fit`.
        config: as for `Population.fit`; without `epochs` there is no end.
        options: as for `Population.fit`.

    Raises:
        InputError: as for `Population.fit`; or settings with `patience`, or early stopping: nothing is measured here.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> population = Population(lambda: nn.Linear(3, 1), [Setting(), Setting(weight_decay=0.1)], seeds=[0])
        >>> stepper = Stepper(population, (torch.randn(20, 3), torch.randn(20, 1)), batch_size=10)
        >>> stepper.advance(3)
        >>> stepper.replace([Setting(), Setting(weight_decay=0.5)])
        >>> stepper.advance(3)
        >>> stepper.step
        6
    """

    def __init__(
        self,
        population: Population,
        data: _dataset.Source | Sequence[_dataset.Source],
        config: TrainConfig | None = None,
        **options: Unpack[TrainOptions],
    ):
        config = configured(config, options, epochs=_ENDLESS)
        if config.early_stopping is not None or any(setting.get("patience") for setting in population.settings):
            raise InputError("a stepper measures nothing and can't stop early: leave early_stopping and patience out")
        self.population = population
        self._sets = _dataset.of_seeds(data, len(population.seeds))
        self._recipe = config.recipe(self._sets[0].task, self._sets[0].weighted)
        self._trainer = population._trainer(self._sets, self._recipe, time.perf_counter())

    @property
    def step(self) -> int:
        """How many steps the members have taken."""
        return self._chunk.optimizer_state()[1]

    @property
    def epoch(self) -> int:
        """How many complete epochs that makes."""
        return self._chunk.epoch

    @property
    def diverged(self) -> Bool[np.ndarray, "S M"]:
        """Which members have diverged and train no more."""
        return self.population._recorder.diverged_at > 0

    def advance(self, n_steps: int = 1) -> None:
        """Take so many steps.

        Raises:
            KeyboardInterrupt: by Ctrl-C, after the step that ran.
        """
        self._trainer.steps(n_steps)

    def replace(self, settings: Sequence[Setting]) -> None:
        """Let the members train under other settings from the next step on, with their weights and optimizer state.

        Args:
            settings: one for each that there is, in the same order.

        Raises:
            InputError: not as many, two alike, or a knob that must be turned from the first step on (`l2_sp`, `ema`,
                `swa`, `patience`).
        """
        if any(setting.get("patience") for setting in settings):
            raise InputError("a stepper measures nothing and can't stop early: leave patience out")
        self.population._replace(settings)
        self._trainer = self.population._trainer(self._sets, self._recipe, time.perf_counter())

    def norms(self) -> np.ndarray:
        """Return the L2 norm of each member's decaying parameters, `[S, M]`."""
        found = np.zeros((len(self.population.seeds), len(self.population.settings)))
        for chunk, place in zip(self._trainer.chunks, self._trainer.places, strict=True):
            found[place] = chunk.norms(self._trainer.decayed)
        return found

    def kept(self, setting: Setting, seed: int) -> list[Bool[Tensor, "B ..."]]:
        """Return which units a member keeps in the next step, for each place where its network drops units."""
        table, chunk, recipe = self._sets[0].tables["train"], self._chunk, self._recipe
        span = batches(len(table), recipe.batch_size, recipe.even_batches)[chunk.batch]
        size = span.stop - span.start  # what is drawn depends on the batch's size, not on its rows
        inputs = [t[:size].to(recipe.device, recipe.dtype if t.is_floating_point() else None) for t in table.inputs]
        places = self._trainer.trace(inputs).places
        uniforms = _rng.dropout_uniforms([seed], self.step, [place.shape for place in places], recipe.device)
        rates = rates_at(setting.get("dropout"), places)
        return [u[0] >= rate for u, rate in zip(uniforms, rates, strict=True)]

    @property
    def _chunk(self) -> Chunk:
        return self._trainer.chunks[0]
