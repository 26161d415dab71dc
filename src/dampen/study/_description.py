"""A description of a study's data: all that its networks need to be rebuilt and to predict, without a row of it."""

from dataclasses import dataclass
from typing import Any

from dampen.data import Data, Normalisation, Preprocessing, Vectoriser


@dataclass(frozen=True)
class Description:
    """Data without its rows.

    Args:
        name: of the data.
        task: `classification` or `regression`.
        classes: their names in the order of the networks' outputs; None for regression.
        inputs: shape of one row of the networks' input.
        outputs: classes, or 1.
        rows: how many trained the networks.
        weighted: whether they had weights.
        target: name of the target's column; None where the data was no table.
        feature_names: of arrays, where they had any.
        normalisation: how raw rows become inputs.
    """

    name: str
    task: str
    classes: tuple[str, ...] | None
    inputs: tuple[int, ...]
    outputs: int
    rows: int
    weighted: bool
    target: str | None
    feature_names: tuple[str, ...] | None
    normalisation: Normalisation | Vectoriser

    @classmethod
    def of(cls, data: Data) -> "Description":
        """Return what data was like, whose training rows were all that trained."""
        return cls(
            data.name,
            data.task,
            data.classes,
            data.inputs,
            data.outputs,
            len(data.train_rows),
            data.weights is not None,
            data.target_name,
            data.feature_names,
            data.normalisation,
        )

    @property
    def preprocessing(self) -> Preprocessing | None:
        """How a raw table becomes inputs; None where the data was no table."""
        if not isinstance(self.normalisation, Vectoriser):
            return None
        return Preprocessing(self.normalisation, self.task, self.classes, self.target)

    def plain(self) -> dict[str, Any]:
        """Return all but the normalisation as JSON can hold it."""
        fields = {name: value for name, value in vars(self).items() if name != "normalisation"}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}
