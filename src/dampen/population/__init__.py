"""The engine: members that share one architecture, trained in lockstep."""

from dampen.population._batches import batches
from dampen.population._copied import copied
from dampen.population._explain import Explanation
from dampen.population._history import ChunkDone, Epoch, Event, History
from dampen.population._insert import INSERTED, Inserted, WithDropout, insert_dropout
from dampen.population._model import Builder, Model, initial_weights_repeat
from dampen.population._optimizers import SGD, Adam, AdamW
from dampen.population._population import Population, one_row, outputs_line, outputs_notes
from dampen.population._probe import are_probabilities, described
from dampen.population._schedules import Schedule
from dampen.population._solo import Solo, solo
from dampen.population._tell import once, tell

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
    "Solo",
    "WithDropout",
    "are_probabilities",
    "batches",
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
