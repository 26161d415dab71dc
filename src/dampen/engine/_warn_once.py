"""Warnings about a user's network: each is told once, however many trainings a study has."""

import contextlib
import warnings
from collections.abc import Iterator
from contextvars import ContextVar

_told: ContextVar[set[str] | None] = ContextVar("told", default=None)


@contextlib.contextmanager
def once() -> Iterator[None]:
    """While entered, tell no warning twice; also a decorator."""
    if _told.get() is not None:  # entered already
        yield
        return
    token = _told.set(set())
    try:
        yield
    finally:
        _told.reset(token)


def tell(message: str, category: type[Warning], stacklevel: int = 1) -> None:
    """Warn, unless the same has been told inside `once`."""
    seen = _told.get()
    if seen is not None:
        if message in seen:
            return
        seen.add(message)
    warnings.warn(message, category, stacklevel=stacklevel + 1)
