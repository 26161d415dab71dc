"""What starting a command costs: imports without the collector's passes, a quick end."""

import atexit
import contextlib
import gc
from collections.abc import Iterator


def prepare() -> None:
    """Search no objects for cycles at the process's end: torch's modules have hundreds of thousands."""
    atexit.unregister(gc.freeze)  # a process may call `main` twice
    atexit.register(gc.freeze)


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Collect no garbage meanwhile: imports make none, and looking for it takes a tenth of their time and more."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def print_version() -> None:
    """Print the version without what reads options."""
    from importlib.metadata import version

    print(f"dampen {version('dampen')}", flush=True)
