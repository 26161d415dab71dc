"""Checks of what a user gives: one rule and one sentence, wherever an option is read."""

import math
import os
from collections.abc import Callable
from numbers import Real
from pathlib import Path
from typing import Any, TypeGuard

from dampen.errors import InputError


def is_number(value: object) -> TypeGuard[int | float]:
    """Return whether a value is a Python number; a truth value is none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def integer(name: str, value: object, least: int = 1, of: str = "") -> int:
    """Return a whole number, `least` or larger; `of` is what it counts, for the message.

    >>> integer("epochs", 0)
    Traceback (most recent call last):
    dampen.errors.InputError: epochs must be a whole number, 1 or larger, got 0
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        if of:
            raise InputError(f"{name} must be a whole number of {of}, {least} or larger, got {value!r}")
        raise InputError(f"{name} must be a whole number, {least} or larger, got {value!r}")
    return value


def share(name: str, value: object) -> float:
    """Return a number from 0 to below 1.

    >>> share("momentum", 0.9)
    0.9
    """
    number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    if not 0 <= number < 1:
        raise InputError(f"{name} must be a number from 0 to below 1, got {value!r}")
    return number


def finite(name: str, value: object, zero: bool = False) -> float:
    """Return a finite number above 0, with `zero` also 0.

    >>> finite("lr", 1e-3)
    0.001
    """
    number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    if not (0 < number < math.inf or (zero and number == 0)):
        if zero:
            raise InputError(f"{name} must be a finite number, 0 or larger, got {value!r}")
        raise InputError(f"{name} must be a finite number larger than 0, got {value!r}")
    return number


def truth(name: str, value: object) -> bool:
    """Return a truth value.

    >>> truth("resume", True)
    True
    """
    if value is not True and value is not False and type(value).__name__ not in ("bool", "bool_"):  # NumPy's
        raise InputError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def function(name: str, value: Any) -> Callable[..., Any] | None:
    """Return a function that may be left out.

    >>> function("callback", None)
    """
    if value is not None and not callable(value):
        raise InputError(f"{name} must be a function, got {value!r}")
    return value


def expanded(path: Any) -> Any:
    """Return a path with the home folder for a leading `~`, as a shell reads it; what is no path stays as it is.

    A name that only begins so, `~$houses.xlsx`, is nobody's home folder, and stays, too.

    >>> expanded(Path("houses.csv")), expanded(None)
    (PosixPath('houses.csv'), None)
    """
    if not isinstance(path, str | os.PathLike):
        return path
    try:
        found = os.path.expanduser(path)
    except ValueError:  # a null byte, which is refused where the file is looked for
        return path
    return found if isinstance(path, str) else Path(found)


def as_path(name: str, value: Any) -> Path:
    """Return the path of a file or a folder, with the home folder for a leading `~`.

    >>> str(as_path("out", "dampen-runs/wine-1"))
    'dampen-runs/wine-1'
    """
    try:
        found = Path(expanded(value))
    except TypeError:
        raise InputError(f"{name} must be the path of a file or a folder, got {value!r}") from None
    if "\0" in str(found):
        raise InputError(f"{name} must be the path of a file or a folder; {str(found)!r} has a null byte")
    return found
