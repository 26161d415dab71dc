"""The engine: members that share one architecture, trained in lockstep."""

from dampen.engine._batches import batches
from dampen.engine._copies import copied
from dampen.engine._explain import Explanation
from dampen.engine._history import ChunkDone, Epoch, Event, History
from dampen.engine._insert_dropout import INSERTED, Inserted, WithDropout, insert_dropout
from dampen.engine._model import Builder, Model, initial_weights_repeat
from dampen.engine._population import Population, one_row, outputs_line, outputs_notes
from dampen.engine._solo import Solo, solo
from dampen.engine._warn_once import once, tell
from dampen.engine.capture._failures import check_ids
from dampen.engine.capture._trace import are_probabilities, described
from dampen.engine.knobs import Setting
from dampen.engine.optim._optimizers import SGD, Adam, AdamW
from dampen.engine.optim._schedules import Schedule

__all__ = [
    "INSERTED",
    "SGD",
    "Adam",
    "AdamW",
    "Builder",
    "ChunkDone",
    "Epoch",
    "Event",
    "Explanation",
    "History",
    "Inserted",
    "Model",
    "Population",
    "Schedule",
    "Setting",
    "Solo",
    "WithDropout",
    "are_probabilities",
    "batches",
    "check_ids",
    "copied",
    "described",
    "initial_weights_repeat",
    "insert_dropout",
    "once",
    "one_row",
    "outputs_line",
    "outputs_notes",
    "solo",
    "tell",
]
