"""Where the batches of an epoch begin and end."""

from itertools import pairwise


def batches(n_rows: int, batch_size: int, even: bool = True) -> list[slice]:
    """Return the spans of an epoch's order that its `ceil(n_rows / batch_size)` steps take.

    A row weighs one over the size of its batch: a remainder of a single row would weigh as much as a full batch.

    Args:
        n_rows: rows of an epoch, 1 or more.
        batch_size: rows a step at most.
        even: divide the rows evenly, as `torch.tensor_split` does: sizes differ by one at most, the larger come first.
            Otherwise full batches, then the remainder, as a `DataLoader` cuts them.

    Example:
        >>> [span.stop - span.start for span in batches(225, 32)]
        [29, 28, 28, 28, 28, 28, 28, 28]
        >>> [span.stop - span.start for span in batches(225, 32, even=False)]
        [32, 32, 32, 32, 32, 32, 32, 1]
    """
    steps = -(-n_rows // batch_size)
    if even:
        size, larger = divmod(n_rows, steps)
        ends = [i * size + min(i, larger) for i in range(steps + 1)]
    else:
        ends = [min(i * batch_size, n_rows) for i in range(steps + 1)]
    return [slice(start, end) for start, end in pairwise(ends)]
