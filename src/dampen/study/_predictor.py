"""The networks of a finished study that predict, and those that its predictions are calibrated with."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import nn

from dampen.data import Data, Incoming, Preprocessing, Rows
from dampen.engine.knobs import Setting
from dampen.errors import InputError
from dampen.study._calibration_ensembles import Ensemble
from dampen.study._description import Description
from dampen.study._protocol import FOLDS


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictor:
    """Networks with the recommended setting, and all that calibrated predictions take beside new rows.

    Args:
        description: of the data.
        target_scale: mean and deviation of a regression target; that of `unseen` has mean 0 and deviation 1.
        setting: the recommended one.
        trained: returns the networks, one for each seed, on training and validation rows; they may train only then.
        unseen: networks of the study's confirmation, each with rows that took no part in its training: what
            temperature, noise and thresholds are fitted on.
        scheme: how rows were kept unseen: `folds` or `held-out`.
        folds: how many folds hold out each row once.
        left_out: gives ensembles that were trained for calibration, each with the rows that it has not seen; None where
            a part was held out, in classification, and in older studies.
        loss: by which the networks were trained, by name; None for the usual one of the task.
    """

    description: Description
    target_scale: tuple[float, float]
    setting: Setting
    trained: Callable[[], tuple[nn.Module, ...]]
    unseen: tuple[tuple[nn.Module, Rows], ...]
    scheme: str
    folds: float = FOLDS
    left_out: Callable[[], list[Ensemble]] | None = None
    loss: str | None = None

    @cached_property
    def networks(self) -> tuple[nn.Module, ...]:
        """What predicts; the first is what `Study.model` returns."""
        return self.trained()

    @cached_property
    def ensembles(self) -> list[Ensemble]:
        """As many networks as `networks` each, with rows that none of them has seen.

        Raises:
            InputError: their checkpoint is gone or damaged.
        """
        if self.left_out is not None:
            return self.left_out()
        groups: dict[int, list[nn.Module]] = {}
        for network, rows in self.unseen:
            groups.setdefault(id(rows), []).append(network)
        by_id = {id(rows): rows for _, rows in self.unseen}
        return [(tuple(networks), by_id[key]) for key, networks in groups.items()]

    @property
    def preprocessing(self) -> Preprocessing | None:
        """How a raw table becomes inputs; None where the data was no table."""
        return self.description.preprocessing

    def inputs(self, data: Data | Incoming, rows: torch.Tensor) -> torch.Tensor:
        """Return rows of any data as the networks take them: normalised as their training rows were.

        Raises:
            InputError: rows of another shape, or of another table.
        """
        about, table = self.description, self.preprocessing
        columns = None if table is None else table.vectoriser.columns
        if isinstance(data, Incoming):
            if columns is not None:
                return data.inputs_of(rows)
            inputs = tuple(data.features.shape[1:])
        elif data.columns == columns:
            inputs = data.inputs
        else:  # its numbers would stand for other levels
            raise InputError(
                f"{data.name!r} is not the table that the study was made on, {about.name!r}: give a table file with "
                "that one's columns"
            )
        if inputs != about.inputs:
            raise InputError(
                f"a row of {data.name!r} has shape {list(inputs)}, the study's networks take {list(about.inputs)}"
            )
        return about.normalisation.apply(data.features[rows])
