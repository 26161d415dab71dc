"""A bar in the cell of a notebook while a study trains, where the caller has no callback of its own."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from dampen._language import shown
from dampen.study._runner import Progress

_EVERY = 0.2  # seconds between two pictures of the bar: each is a message to the browser


@contextmanager
def bar_in_notebook(
    callback: Callable[[Progress], object] | None,
) -> Iterator[Callable[[Progress], object] | None]:
    """Give a study's callback: the caller's, or without one a bar in a notebook's cell, and nothing elsewhere.

    The bar is one output of the cell that is replaced as it moves, which needs no widgets; it stays where it was when
    the study ends early.
    """
    if callback is not None or not _within_notebook():
        yield callback
        return
    from IPython.display import display  # pyright: ignore[reportMissingImports]  # the kernel's own
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn
    from rich.progress import Progress as Bar

    bar = Bar(TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    task = bar.add_task(shown("tuning"), total=1)
    cell: Any = display(bar, display_id=True)
    begun, drawn = time.perf_counter(), -_EVERY  # so that the first news is shown at once

    def move(at: Progress) -> None:
        nonlocal drawn
        bar.update(task, completed=at.share, description=f"{at}{at.in_time()}")
        if time.perf_counter() - drawn >= _EVERY:
            cell.update(bar)
            drawn = time.perf_counter()

    yield move
    bar.update(task, completed=1, description=shown(f"done in {time.perf_counter() - begun:.0f} s"))
    cell.update(bar)


def _within_notebook() -> bool:
    """Return whether a notebook's kernel runs this: rich knows those of Jupyter, Colab and Databricks."""
    from rich.console import Console

    return Console().is_jupyter
