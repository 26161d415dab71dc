"""Data sets as immutable values: built-in sets, tables, images, arrays."""

from dampen.data._arrays import from_arrays
from dampen.data._dataset import Data, Rows
from dampen.data._evaluation_rows import equally_long, held_out, repeated, training_and_validation_rows
from dampen.data._find import is_here
from dampen.data._given_folds import a_round, held_rows
from dampen.data._head import read_head
from dampen.data._leakage import Leaks, leaks, repeats
from dampen.data._load import NAMES, is_table, load
from dampen.data._new_data import Incoming, encode_new
from dampen.data._new_rows import new_rows
from dampen.data._normalisation import Normalisation
from dampen.data._npz import read_incoming
from dampen.data._splits import cuts
from dampen.data._unit_targets import with_unit_targets
from dampen.data.images._files import is_image
from dampen.data.images._from_folder import read_new_images
from dampen.data.tables._arrow import read_parquet
from dampen.data.tables._codes import CodedColumn
from dampen.data.tables._columns import Column, Columns
from dampen.data.tables._frame import all_typed
from dampen.data.tables._identifiers import repeating
from dampen.data.tables._infer_types import decide, numbers_only
from dampen.data.tables._preprocessing import Preprocessing, read_rows
from dampen.data.tables._read import column_names
from dampen.data.tables._spelling import spelling_notes, spelt_alike
from dampen.data.tables._vectoriser import Vectoriser

__all__ = [
    "NAMES",
    "CodedColumn",
    "Column",
    "Columns",
    "Data",
    "Incoming",
    "Leaks",
    "Normalisation",
    "Preprocessing",
    "Rows",
    "Vectoriser",
    "a_round",
    "all_typed",
    "column_names",
    "cuts",
    "decide",
    "encode_new",
    "equally_long",
    "from_arrays",
    "held_out",
    "held_rows",
    "is_here",
    "is_image",
    "is_table",
    "leaks",
    "load",
    "new_rows",
    "numbers_only",
    "read_head",
    "read_incoming",
    "read_new_images",
    "read_parquet",
    "read_rows",
    "repeated",
    "repeating",
    "repeats",
    "spelling_notes",
    "spelt_alike",
    "training_and_validation_rows",
    "with_unit_targets",
]
