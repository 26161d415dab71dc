"""Warnings about a user's network: each is shown once, however many trainings a study has."""

import contextlib
import warnings
from collections.abc import Iterator
from contextvars import ContextVar

_shown: ContextVar[set[str] | None] = ContextVar("shown", default=None)


@contextlib.contextmanager
def once() -> Iterator[None]:
    """While entered, show no warning twice; also a decorator."""
    if _shown.get() is not None:  # entered already
        yield
        return
    token = _shown.set(set())
    try:
        yield
    finally:
        _shown.reset(token)


def warn(message: str, category: type[Warning], stacklevel: int = 1) -> None:
    """Warn, unless the same warning was shown inside `once`."""
    seen = _shown.get()
    if seen is not None:
        if message in seen:
            return
        seen.add(message)
    warnings.warn(message, category, stacklevel=stacklevel + 1)
