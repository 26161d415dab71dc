"""How the command line's threads wait for each other: asleep, so that a busy machine is not slowed by waiting."""

import os
import sys

# Threads of GNU OpenMP, in torch and scikit-learn, wait for more work in a loop by default: on a machine
# with more to do than cores that takes the time of whoever they wait for.
_WAIT = "OMP_WAIT_POLICY", "PASSIVE"


def prepare() -> None:
    """Let idle threads sleep, unless the environment sets how they wait; has an effect only before torch is loaded."""
    if "torch" not in sys.modules and "GOMP_SPINCOUNT" not in os.environ:
        os.environ.setdefault(*_WAIT)
