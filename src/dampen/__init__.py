"""How much weight decay and dropout a network needs, whether they help, and when to trust a prediction."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dampen.data import Data, from_arrays, load
    from dampen.errors import InputError, NotFused
    from dampen.knobs import Setting
    from dampen.models import linear, mlp
    from dampen.population import SGD, Adam, AdamW, ChunkDone, Epoch, History, Population, Schedule, solo

# A name is imported when it is first asked for: torch takes seconds, and `dampen --help` needs none of it.
_HOME = {
    "SGD": "population",
    "Adam": "population",
    "AdamW": "population",
    "ChunkDone": "population",
    "Data": "data",
    "Epoch": "population",
    "History": "population",
    "InputError": "errors",
    "NotFused": "errors",
    "Population": "population",
    "Schedule": "population",
    "Setting": "knobs",
    "from_arrays": "data",
    "linear": "models",
    "load": "data",
    "mlp": "models",
    "solo": "population",
}

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "ChunkDone",
    "Data",
    "Epoch",
    "History",
    "InputError",
    "NotFused",
    "Population",
    "Schedule",
    "Setting",
    "from_arrays",
    "linear",
    "load",
    "mlp",
    "solo",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'dampen' has no attribute {name!r}")
    return getattr(import_module(f"dampen.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
