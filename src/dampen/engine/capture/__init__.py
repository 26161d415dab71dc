"""What a network does in a forward pass: where it drops units, what it calls, and which operations these are."""

from dampen.engine.capture._draws import Draw, DrawCall
from dampen.engine.capture._dropout_mode import CatchDropout
from dampen.engine.capture._failures import LookUps, alone, check_ids, failure, in_one_line
from dampen.engine.capture._forward import eager, first_line, forward, quiet
from dampen.engine.capture._graph import (
    EMPTY,
    Layout,
    NotRecordable,
    Read,
    Recorded,
    Recording,
    Staged,
    Unsettled,
    operations,
    read_of,
    record_reading,
    record_staged,
    value_of,
)
from dampen.engine.capture._module_path import ModulePath, named
from dampen.engine.capture._outputs import are_probabilities, describe_output
from dampen.engine.capture._paired_dropout import NotRepeated, PairedDropout
from dampen.engine.capture._record_dropout import RecordDropout
from dampen.engine.capture._sites import Kind, Place, Placed, rates_at, set_rates
from dampen.engine.capture._trace import Trace, trace

__all__ = [
    "EMPTY",
    "CatchDropout",
    "Draw",
    "DrawCall",
    "Kind",
    "Layout",
    "LookUps",
    "ModulePath",
    "NotRecordable",
    "NotRepeated",
    "PairedDropout",
    "Place",
    "Placed",
    "Read",
    "RecordDropout",
    "Recorded",
    "Recording",
    "Staged",
    "Trace",
    "Unsettled",
    "alone",
    "are_probabilities",
    "check_ids",
    "describe_output",
    "eager",
    "failure",
    "first_line",
    "forward",
    "in_one_line",
    "named",
    "operations",
    "quiet",
    "rates_at",
    "read_of",
    "record_reading",
    "record_staged",
    "set_rates",
    "trace",
    "value_of",
]
