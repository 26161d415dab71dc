"""How OpenMP's threads wait for work while they have none."""

import os
import sys

_WAIT = "OMP_WAIT_POLICY", "PASSIVE"


def sleep_when_idle() -> None:
    """Let idle threads sleep, unless the environment sets how they wait; has an effect only before torch is loaded.

    Threads of GNU OpenMP, in torch and scikit-learn, wait for more work in a loop by default: on a machine with more to
    do than cores that takes the time of whoever they wait for.
    """
    if "torch" not in sys.modules and "GOMP_SPINCOUNT" not in os.environ:
        os.environ.setdefault(*_WAIT)
