"""How the command line's threads wait for each other: asleep, so that a busy machine is not slowed by waiting."""

import os
import sys

# Threads of GNU OpenMP, in torch and scikit-learn, wait for more work in a loop unless told otherwise: on a machine
# with more to do than cores that takes the time of whoever they wait for.
_WAIT = "OMP_WAIT_POLICY", "PASSIVE"


def prepare() -> None:
    """Let idle threads sleep, unless the environment tells how they wait; of effect before torch is loaded only."""
    if "torch" not in sys.modules and "GOMP_SPINCOUNT" not in os.environ:
        os.environ.setdefault(*_WAIT)
