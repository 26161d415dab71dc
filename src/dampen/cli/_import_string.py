"""MODULE:FUNCTION on the command line: what it names in the user's own code, and every way in which that can fail."""

import contextlib
import functools
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from dampen._checks import as_path
from dampen.errors import InputError


def named(target: str, what: str) -> Any:
    """Return what MODULE:FUNCTION or FILE.py:FUNCTION names.

    Args:
        target: such as `train:build`.
        what: the function should do, for the messages.

    Raises:
        InputError: it is not of that form, there is no such module or name, or importing fails.
    """
    module, colon, name = target.rpartition(":")
    if not (module and colon and name):
        raise InputError(f"name a module and a function, such as train:build or train.py:build; got {target!r}")
    value: Any = _import(module)
    for part in name.split("."):
        if not hasattr(value, part):
            raise InputError(f"{module} has no {name!r}: name a function that {what}")
        value = getattr(value, part)
    return value


def network_maker(target: str) -> Callable[..., Any]:
    """Return the user's function that makes a network, or a network of theirs, such that its failures are one line.

    It keeps its signature, by which the engine chooses its arguments, and has the name `target`.

    Raises:
        InputError: as `named`, or it names neither.
    """
    with from_here():
        function = named(target, "makes a network")
    from torch import nn

    if isinstance(function, nn.Module):
        return function
    if not callable(function):
        raise InputError(f"{target} is not a function but {type(function).__name__}: name one that makes a network")

    @functools.wraps(function)
    def make(*args: Any, **kwargs: Any) -> Any:
        with from_here():
            try:
                return function(*args, **kwargs)
            except (Exception, SystemExit) as e:
                raise InputError(f"{target} raises {error_text(e)}") from e

    make.__qualname__ = target
    return make


@contextlib.contextmanager
def from_here() -> Iterator[None]:
    """Let imports find the modules of the current folder, as `python -m` does; what is printed goes to stderr."""
    before = list(sys.path)
    sys.path.insert(0, os.getcwd())
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        sys.path[:] = before


def error_text(e: BaseException) -> str:
    """Return an exception in words."""
    return f"{type(e).__name__}: {e}" if str(e) else type(e).__name__


def _import(name: str) -> ModuleType:
    """Import a module by its name or by the path of its file."""
    try:
        if not name.endswith(".py"):
            return importlib.import_module(name)
        path = as_path("the file", name)
        if not path.is_file():
            raise InputError(f"there is no file {name}")
        sys.path.insert(0, str(path.parent.resolve()))
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules.setdefault(path.stem, module)  # dataclasses and pickles look their module up
        spec.loader.exec_module(module)
        return module
    except InputError:
        raise
    except ModuleNotFoundError as e:
        if e.name is not None and (name == e.name or name.startswith(f"{e.name}.")):
            raise InputError(f"there is no module {e.name!r}, neither in this folder nor installed") from None
        raise InputError(f"importing {name} fails: {e}") from e
    except (Exception, SystemExit) as e:
        raise InputError(f"importing {name} fails: {error_text(e)}") from e
