"""Data sets as immutable values: built-in sets, tables, images, arrays."""

from dampen.data._arrays import from_arrays
from dampen.data._arrow import read_parquet
from dampen.data._columns import Column, Columns
from dampen.data._data import Data, Rows
from dampen.data._decide import IDENTIFIER, counts_rows, decide, numbers_only
from dampen.data._frame import all_typed
from dampen.data._head import read_head
from dampen.data._image_files import is_image
from dampen.data._images import read_new_images
from dampen.data._incoming import Incoming
from dampen.data._leaks import Leaks, leaks
from dampen.data._load import NAMES, is_table, load
from dampen.data._normalise import Normalisation
from dampen.data._npz import read_incoming
from dampen.data._preprocessing import Preprocessing, read_rows
from dampen.data._vectorise import Vectoriser

__all__ = [
    "IDENTIFIER",
    "NAMES",
    "Column",
    "Columns",
    "Data",
    "Incoming",
    "Leaks",
    "Normalisation",
    "Preprocessing",
    "Rows",
    "Vectoriser",
    "all_typed",
    "counts_rows",
    "decide",
    "from_arrays",
    "is_image",
    "is_table",
    "leaks",
    "load",
    "numbers_only",
    "read_head",
    "read_incoming",
    "read_new_images",
    "read_parquet",
    "read_rows",
]
