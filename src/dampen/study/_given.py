"""What is given to a study as its data: a data set, or one line with the call that makes one of it."""

import torch

from dampen._tensors import describe_input, loaded_by
from dampen.data import Data
from dampen.errors import InputError


def check_data(data: object) -> None:
    """Refuse what is no data set.

    Raises:
        InputError: it is none; the message has the call that makes one of it.
    """
    if isinstance(data, Data):
        return
    how = loaded_by(data)
    if isinstance(data, torch.nn.Module) or (callable(data) and not how):
        how = "the network comes first, then the data"
    elif how:
        how = f"give {how}"
    raise InputError(
        f"data must be a data set as dampen.load makes it, got {describe_input(data)}" + (f": {how}" if how else "")
    )
