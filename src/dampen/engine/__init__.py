"""The engine: members that share one architecture, trained in lockstep."""

from dampen.engine._batches import batches
from dampen.engine._codes import CHANGES_INPUTS, check_codes, refuse_changed_codes
from dampen.engine._config import TrainConfig, TrainOptions, configured, worth_compiling
from dampen.engine._copies import copied
from dampen.engine._dataset import Sets, Table, of_seeds
from dampen.engine._explain import Explanation
from dampen.engine._heads import WithHeads, with_heads
from dampen.engine._history import ChunkDone, Epoch, Event, History
from dampen.engine._insert_dropout import INSERTED, Inserted, WithDropout, insert_dropout
from dampen.engine._losses import BETA, QUANTILE_HEADS, QUANTILES, VARIANCE_HEADS, has_one_output, heads_of
from dampen.engine._model import Builder, Model, initial_weights_repeat
from dampen.engine._outputs import one_row, outputs_line, outputs_notes
from dampen.engine._population import Population
from dampen.engine._rng import forked, global_generators
from dampen.engine._seeds_alike import check_alike
from dampen.engine._slices import Part, Programs, Slice, balanced, cut, join
from dampen.engine._solo import Solo, solo
from dampen.engine._stepper import Stepper
from dampen.engine._warn_once import once, warn
from dampen.engine.capture import are_probabilities, check_ids, describe_output
from dampen.engine.execution._memory import free_memory
from dampen.engine.knobs import Knob, Setting, register_knob
from dampen.engine.optim._optimizers import SGD, Adam, AdamW, check_timescale, momentum_of
from dampen.engine.optim._optimizers import find as find_optimizer
from dampen.engine.optim._schedules import Schedule
from dampen.engine.optim._schedules import find as find_schedule

__all__ = [
    "BETA",
    "CHANGES_INPUTS",
    "INSERTED",
    "QUANTILES",
    "QUANTILE_HEADS",
    "SGD",
    "VARIANCE_HEADS",
    "Adam",
    "AdamW",
    "Builder",
    "ChunkDone",
    "Epoch",
    "Event",
    "Explanation",
    "History",
    "Inserted",
    "Knob",
    "Model",
    "Part",
    "Population",
    "Programs",
    "Schedule",
    "Sets",
    "Setting",
    "Slice",
    "Solo",
    "Stepper",
    "Table",
    "TrainConfig",
    "TrainOptions",
    "WithDropout",
    "WithHeads",
    "are_probabilities",
    "balanced",
    "batches",
    "check_alike",
    "check_codes",
    "check_ids",
    "check_timescale",
    "configured",
    "copied",
    "cut",
    "describe_output",
    "find_optimizer",
    "find_schedule",
    "forked",
    "free_memory",
    "global_generators",
    "has_one_output",
    "heads_of",
    "initial_weights_repeat",
    "insert_dropout",
    "join",
    "momentum_of",
    "of_seeds",
    "once",
    "one_row",
    "outputs_line",
    "outputs_notes",
    "refuse_changed_codes",
    "register_knob",
    "solo",
    "warn",
    "with_heads",
    "worth_compiling",
]
