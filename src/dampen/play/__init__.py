"""The page where regularisation is seen to happen: `dampen play`, and `dampen.play()` in a notebook."""

import sys
from types import ModuleType
from typing import Any

from dampen.play._names import POINTS
from dampen.play._notebook import play
from dampen.play._serve import check_installed, serve

__all__ = ["POINTS", "check_installed", "play", "serve"]


class _Callable(ModuleType):
    """Lets `dampen.play()` work once this package, which has the same name, has been imported."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return play(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
