"""The training loop: epoch after epoch, chunk after chunk, to the last epoch or to where it is interrupted."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from dampen.engine import _dataset, _interrupt
from dampen.engine._config import Recipe
from dampen.engine._history import ChunkDone, Epoch, Event, Recorder, Span
from dampen.engine.capture import Trace
from dampen.engine.execution._chunk import Chunk
from dampen.engine.execution._program import Program

_STEPS_AT_ONCE = 16  # before an interruption is asked about


@dataclass(frozen=True)
class Trainer:
    """Trains the chunks of a population that are ready for it.

    Args:
        chunks: the members.
        places: the seeds and the settings of each chunk.
        program: finds gradients and losses.
        trace: finds what the network does on a batch of one member.
        recorder: takes the learning curves.
        decayed: for each trained parameter, whether it decays.
        sets: the rows of each seed.
        recipe: how members train.
        started: when the training began, in seconds of `time.perf_counter`.
    """

    chunks: Sequence[Chunk]
    places: Sequence[Span]
    program: Program
    trace: Callable[[Sequence[Tensor]], Trace]
    recorder: Recorder
    decayed: Sequence[bool]
    sets: Sequence[_dataset.Sets]
    recipe: Recipe
    started: float
    _rows: dict[Any, _dataset.Rows] = field(default_factory=dict, init=False)

    def run(
        self, first: int, last: int, evaluate_every: int | None, callback: Callable[[Event], object] | None
    ) -> bool:
        """Train from one epoch to another; return whether it ended before.

        Args:
            first: number of the first epoch, from 1.
            last: number of the last.
            evaluate_every: record after every so many epochs and after the last; None: after the last only.
            callback: as for `Population.fit`.

        Raises:
            KeyboardInterrupt: by Ctrl-C, after the step that ran.
        """
        epochs, n = self.recipe.epochs, len(self.chunks)
        with _interrupt.deferred() as interrupted:
            for epoch in range(first, last + 1):
                recorded = epoch in (last, epochs) or (evaluate_every is not None and epoch % evaluate_every == 0)
                for i, (chunk, place) in enumerate(zip(self.chunks, self.places, strict=True), 1):
                    if chunk.epoch >= epoch:
                        continue  # done before an interruption
                    begun = time.perf_counter()
                    metrics = self._epoch(chunk, place, recorded, interrupted, _STEPS_AT_ONCE)
                    if metrics is None:
                        raise KeyboardInterrupt
                    if callback is not None:
                        spent = time.perf_counter() - begun
                        callback(ChunkDone(epoch, epochs, i, n, chunk.settings, chunk.seeds, metrics, spent))
                    if interrupted() and i < n:
                        raise KeyboardInterrupt
                ended = False
                if recorded:
                    whole = self.recorder.close(epoch)
                    spent = time.perf_counter() - self.started
                    event = Epoch(epoch, epochs, whole, self.recorder.diverged_at.copy(), spent)
                    asked = callback is not None and bool(callback(event))
                    ended = asked or all(chunk.held.all() for chunk in self.chunks)
                if interrupted():
                    raise KeyboardInterrupt
                if ended:
                    return True
        return False

    def steps(self, n_steps: int) -> None:
        """Train every chunk for so many steps, from where it is, into the next epochs; nothing is recorded.

        Raises:
            KeyboardInterrupt: by Ctrl-C, after the step that ran.
        """
        with _interrupt.deferred() as interrupted:
            for chunk, place in zip(self.chunks, self.places, strict=True):
                done = 0

                def enough() -> bool:
                    nonlocal done
                    done += 1
                    return done >= n_steps or interrupted()

                while done < n_steps and chunk.epoch < self.recipe.epochs and not interrupted():
                    if self._epoch(chunk, place, False, enough) is not None:
                        done += 1  # an epoch's last step is not asked about
            if interrupted():
                raise KeyboardInterrupt

    def _epoch(
        self, chunk: Chunk, place: Span, recorded: bool, interrupted: Callable[[], bool], steps_at_once: int = 1
    ) -> dict[str, np.ndarray] | None:
        """Train a chunk for an epoch and record what came of it; None if it was interrupted before the end."""
        train = self._rows_of(place, "train")
        assert train is not None
        chunk_metrics = chunk.train_epoch(self.program, self.trace, train, interrupted, steps_at_once)
        if chunk_metrics is None:
            return None
        finite = np.isfinite(chunk_metrics["loss"])
        if chunk.epoch == self.recipe.epochs:
            finite &= chunk.finite()
        self.recorder.diverged_at[place][chunk.hold(~finite)] = chunk.epoch
        if not recorded:
            return {}
        metrics = {f"train_{name}": values for name, values in chunk_metrics.items()}
        for split in ("validation", "test"):
            rows = self._rows_of(place, split)
            if rows is not None:
                metrics |= {f"{split}_{name}": v for name, v in chunk.evaluate(self.program, rows).items()}
        metrics["weight_norm"] = chunk.norms(self.decayed)
        if self.recipe.early_stopping is not None or any(setting.get("patience") for setting in chunk.settings):
            late = chunk.watch(metrics["validation_loss"], self.recipe.early_stopping)
            self.recorder.stopped_at[place][chunk.hold(late)] = chunk.epoch
        self.recorder.put(place, metrics)
        return metrics

    def _rows_of(self, place: Span, split: str) -> _dataset.Rows | None:
        """Return a split's rows of a chunk's seeds on the device; chunks with the same rows share them."""
        tables = [table for of_seed in self.sets[place[0]] if (table := of_seed.tables.get(split)) is not None]
        if not tables:
            return None
        key = tuple(map(id, dict.fromkeys(tables)))
        if key not in self._rows:
            self._rows[key] = _dataset.to_device(tables, self.recipe.device, self.recipe.dtype)
        return self._rows[key]
