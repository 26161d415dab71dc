"""The table of knobs: adding one is a file beside this one and a line here."""

from dampen.engine.knobs._base import Knob
from dampen.engine.knobs.batch import horizontal_flip, label_smoothing, mixup, random_shift
from dampen.engine.knobs.noise import (
    drop_path,
    dropblock,
    dropconnect,
    dropout,
    gaussian_dropout,
    input_dropout,
    input_noise,
)
from dampen.engine.knobs.time import averaging, decay_schedule, dropout_schedule, lr, patience
from dampen.engine.knobs.weights import (
    decay_timescale,
    decoupled_decay,
    group_lasso,
    l1,
    l2,
    l2_sp,
    max_norm,
    weight_decay,
)

KNOBS: dict[str, Knob] = {
    knob.name: knob
    for knob in (
        weight_decay.KNOB,
        dropout.KNOB,
        lr.KNOB,
        decay_timescale.KNOB,
        decoupled_decay.KNOB,
        l2.KNOB,
        decay_schedule.KNOB,
        l1.KNOB,
        group_lasso.KNOB,
        group_lasso.FROBENIUS,
        l2_sp.KNOB,
        max_norm.KNOB,
        averaging.KNOB,
        averaging.SWA,
        patience.KNOB,
        gaussian_dropout.KNOB,
        dropconnect.KNOB,
        drop_path.KNOB,
        dropblock.KNOB,
        dropblock.SIZE,
        dropout_schedule.KNOB,
        random_shift.KNOB,  # batches change in this order: images move, rows are mixed, noise comes last
        horizontal_flip.KNOB,
        mixup.KNOB,
        input_dropout.KNOB,
        input_noise.KNOB,
        label_smoothing.KNOB,
    )
}
