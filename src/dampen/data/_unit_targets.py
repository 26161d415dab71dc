"""A regression target of mean 0 and deviation 1, so that learning rates and losses mean the same for every unit."""

from dataclasses import replace

from dampen.data._dataset import Data


def with_unit_targets(data: Data) -> tuple[Data, float, float]:
    """Return the data with a regression target of mean 0 and deviation 1 over the training rows, and both numbers.

    Where all of them are the same the deviation is 1.
    """
    if data.task == "classification":
        return data, 0.0, 1.0
    train = data.targets[data.train_rows].double()  # squares of small numbers are 0 in float32
    mean, deviation = float(train.mean()), float(train.std(correction=0)) or 1.0
    return replace(data, targets=(data.targets - mean) / deviation), mean, deviation
