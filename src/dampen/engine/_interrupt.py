"""Ctrl-C during training: the step that runs is finished, so that every member is whole."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def deferred() -> Iterator[Callable[[], bool]]:
    """Give a function that returns whether Ctrl-C was pressed; a second one interrupts at once.

    Only Python's main thread can see the key; elsewhere, and where someone else handles it, nothing changes.
    """
    pressed = False

    def handler(number: int, frame: Any) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    before = signal.signal(signal.SIGINT, handler) if ours else None
    try:
        yield lambda: pressed
    finally:
        if ours:
            signal.signal(signal.SIGINT, before)
