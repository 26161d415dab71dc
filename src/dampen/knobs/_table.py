"""The table of knobs: adding one is a file beside this one and a line here."""

from dampen.knobs import (
    averaging,
    decay_schedule,
    decay_timescale,
    decoupled_decay,
    drop_path,
    dropblock,
    dropconnect,
    dropout,
    dropout_schedule,
    gaussian_dropout,
    group_lasso,
    horizontal_flip,
    input_dropout,
    input_noise,
    l1,
    l2,
    l2_sp,
    label_smoothing,
    lr,
    max_norm,
    mixup,
    patience,
    random_shift,
    weight_decay,
)
from dampen.knobs._knob import Knob

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
