"""What starting a command costs: imports without the collector's passes, idle threads asleep, a quick end."""

import atexit
import contextlib
import gc
import os
import sys
from collections.abc import Iterator

# Threads of GNU OpenMP, in torch and scikit-learn, wait for more work in a loop by default: on a machine
# with more to do than cores that takes the time of whoever they wait for.
_WAIT = "OMP_WAIT_POLICY", "PASSIVE"


def prepare() -> None:
    """Let idle threads sleep, unless the environment sets how they wait; has an effect only before torch is loaded.

    At the process's end objects are not searched for cycles, of which torch's modules have hundreds of thousands.
    """
    if "torch" not in sys.modules and "GOMP_SPINCOUNT" not in os.environ:
        os.environ.setdefault(*_WAIT)
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
