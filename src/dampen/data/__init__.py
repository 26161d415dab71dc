"""Data sets as immutable values: built-in sets, folders of IDX files, arrays."""

from dampen.data._arrays import from_arrays
from dampen.data._data import Data, Rows
from dampen.data._load import NAMES, load
from dampen.data._normalise import Normalisation

__all__ = ["NAMES", "Data", "Normalisation", "Rows", "from_arrays", "load"]
