"""The table of checks: a new one is a function and a line here."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from dampen._language import part, shown
from dampen.doctor import _decay, _evaluation, _groups, _modes, _order, _rates, _strength
from dampen.doctor._evidence import Case
from dampen.doctor._report import Severity, Symptom


@dataclass(frozen=True)
class Check:
    """One thing that the doctor looks for.

    Args:
        name: what `ignore` takes.
        look: finds it.
        finds: what is found, in a few words.
        severity: those that it can have, the worst first.
        source: paper or documentation that supports it.
        needs: what has to be given besides the model: `optimizer`, `batch`, `steps`.
    """

    name: str
    look: Callable[[Case], Iterator[Symptom]]
    finds: str
    severity: tuple[Severity, ...]
    source: str
    needs: tuple[str, ...] = ()


_MIXED = "Summers and Dinneen 2020, Four things everyone should know to improve batch normalization"
_ORDER = "Li et al. 2019, Understanding the disharmony between dropout and batch normalization by variance shift"
_TIME_SCALE = "Wang and Aitchison 2024, How to set AdamW's weight decay as you scale model and dataset size"
_SRIVASTAVA = "Srivastava et al. 2014, Dropout, JMLR 15"

CHECKS = (
    Check(
        "decayed-bias",
        _decay.biases,
        "biases that decay",
        ("warning",),
        "Goodfellow, Bengio and Courville 2016, Deep learning, section 7.1; He et al. 2019, Bag of tricks, section 3.1",
        ("optimizer",),
    ),
    Check(
        "decayed-normalisation",
        _decay.normalisation,
        "scales and shifts of normalisation layers that decay",
        ("warning",),
        f"He et al. 2019, Bag of tricks, section 3.1; for the other side: {_MIXED}",
        ("optimizer",),
    ),
    Check(
        "decayed-prelu",
        _decay.prelu,
        "slopes of PReLU that decay",
        ("warning",),
        "He et al. 2015, Delving deep into rectifiers, section 2.1",
        ("optimizer",),
    ),
    Check(
        "decayed-embedding",
        _decay.embeddings,
        "embeddings that decay and are not tied to an output layer",
        ("note",),
        "practice differs: minGPT spares embeddings, its successor nanoGPT decays them",
        ("optimizer",),
    ),
    Check(
        "decayed-vector",
        _decay.vectors,
        "other scalars, vectors and tokens that decay, such as learned scales, temperatures, class tokens",
        ("note",),
        "practice: timm's param_groups_weight_decay and no_weight_decay spare scales, class and position tokens",
        ("optimizer",),
    ),
    Check(
        "swapped-groups",
        _decay.swapped,
        "groups that decay biases and spare matrices",
        ("serious",),
        "Goodfellow, Bengio and Courville 2016, Deep learning, section 7.1: weights are penalised, biases are not",
        ("optimizer",),
    ),
    Check(
        "nothing-decays",
        _decay.nothing,
        "optimizers of which no group decays",
        ("note",),
        "torch.optim: weight_decay is 0 by default, but for AdamW",
        ("optimizer",),
    ),
    Check(
        "coupled-decay",
        _decay.coupled,
        "Adam, or another adaptive optimizer, with `weight_decay` that is not decoupled",
        ("serious", "warning"),
        "Loshchilov and Hutter 2019, Decoupled weight decay regularization, proposition 2",
        ("optimizer",),
    ),
    Check(
        "frozen-decay",
        _decay.frozen,
        "frozen parameters in a group that decays",
        ("serious", "note"),
        "torch.optim skips a parameter only where its grad is None",
        ("optimizer",),
    ),
    Check(
        "unread-setting",
        _groups.unread_keys,
        "settings of a group that its optimizer does not read, such as `weigth_decay`",
        ("serious", "note"),
        "torch.optim.Optimizer.add_param_group takes any key",
        ("optimizer",),
    ),
    Check(
        "not-in-optimizer",
        _groups.left_out,
        "parameters that require a gradient and are in no group",
        ("serious",),
        "torch.optim updates the parameters in its groups only",
        ("optimizer",),
    ),
    Check(
        "in-two-groups",
        _groups.held_twice,
        "parameters in two groups, or twice in one",
        ("serious",),
        "torch.optim refuses it within one optimizer (pytorch/pytorch#40967), not across two",
        ("optimizer",),
    ),
    Check(
        "not-in-model",
        _groups.strangers,
        "tensors in the optimizer that are not the model's",
        ("serious", "warning"),
        "torch.optim keeps the tensors that it was given",
        ("optimizer",),
    ),
    Check(
        "decay-too-strong",
        _strength.too_strong,
        "decay that wipes weights out within ten steps at this learning rate",
        ("serious", "warning"),
        _TIME_SCALE,
        ("optimizer",),
    ),
    Check(
        "decay-too-weak",
        _strength.too_weak,
        "decay that takes less than 1 % of a weight in the whole training",
        ("warning",),
        _TIME_SCALE,
        ("optimizer", "steps"),
    ),
    Check(
        "left-in-training",
        _modes.left_in_training,
        "layers in training mode in a model in evaluation mode; a trained model, without optimizer, in training mode",
        ("serious", "note"),
        "torch.nn.Module.eval",
    ),
    Check(
        "dropout-off",
        _modes.dropout_off,
        "dropout in evaluation mode while the part around it trains",
        ("warning",),
        "torch.nn.Module.train",
    ),
    Check(
        "hidden-modules",
        _modes.hidden,
        "modules in plain lists or dicts, which neither train nor decay nor follow `eval()`",
        ("serious",),
        "torch.nn.ModuleList",
    ),
    Check(
        "dropout-rate",
        _rates.odd_rates,
        "rates outside 0 to 1, or of 0.8 and more: a probability of keeping?",
        ("serious", "warning"),
        f"{_SRIVASTAVA}, section 4, where p is the probability of keeping; torch.nn.Dropout, where it is not",
    ),
    Check(
        "one-layer-rnn",
        _rates.one_layer_rnn,
        "dropout of a recurrent network that has one layer",
        ("warning",),
        "torch.nn.LSTM: on the outputs of each layer except the last",
    ),
    Check(
        "dropout-never-called",
        _rates.never_called,
        "dropout layers that the forward pass leaves out",
        ("warning",),
        "the forward pass itself",
        ("batch",),
    ),
    Check(
        "channel-dropout",
        _rates.channels,
        "Dropout2d on 3-D input, Dropout1d and Dropout3d on input without a batch dimension",
        ("serious", "warning"),
        "torch.nn.Dropout2d; pytorch/pytorch#77081",
        ("batch",),
    ),
    Check(
        "alpha-dropout",
        _rates.alpha,
        "alpha dropout in a network without SELU",
        ("warning",),
        "Klambauer et al. 2017, Self-normalizing neural networks, section New dropout technique",
        ("batch",),
    ),
    Check(
        "dropout-in-evaluation",
        _evaluation.dropout_stays_on,
        "`F.dropout` that stays on in evaluation",
        ("serious",),
        "torch.nn.functional.dropout: training defaults to True",
        ("batch",),
    ),
    Check(
        "attention-dropout-in-evaluation",
        _evaluation.attention_stays_on,
        "`scaled_dot_product_attention` that drops in evaluation",
        ("serious",),
        "torch.nn.functional.scaled_dot_product_attention; pytorch/pytorch#124464",
        ("batch",),
    ),
    Check(
        "rate-changed-by-evaluation",
        _evaluation.rate_changed,
        "a rate that an evaluation changes and nothing sets back",
        ("serious",),
        "a training pass before an evaluation and one after it",
        ("batch",),
    ),
    Check(
        "output-differs",
        _evaluation.output_differs,
        "an output that differs between two evaluation passes",
        ("serious",),
        "the two passes themselves",
        ("batch",),
    ),
    Check(
        "dropout-before-batchnorm",
        _order.before_batchnorm,
        "dropout before BatchNorm, directly (warning) or one layer earlier (note)",
        ("warning", "note"),
        _ORDER,
        ("batch",),
    ),
    Check(
        "dropout-on-output",
        _order.on_logits,
        "dropout on logits or predictions",
        ("serious",),
        f"{_SRIVASTAVA}, section 4: inputs and hidden units are dropped",
        ("batch",),
    ),
    Check(
        "dropout-after-softmax",
        _order.after_softmax,
        "dropout of probabilities (attention weights are meant to be dropped)",
        ("serious",),
        f"{_SRIVASTAVA}, section 4; Vaswani et al. 2017, Attention is all you need, for attention",
        ("batch",),
    ),
    Check(
        "dropout-twice",
        _order.twice,
        "dropout of what was just dropped",
        ("warning",),
        f"{_SRIVASTAVA}, section 4",
        ("batch",),
    ),
    Check(
        "softmax-output",
        _evaluation.probabilities,
        "outputs that are probabilities, where losses want logits",
        ("warning",),
        "torch.nn.CrossEntropyLoss: the input is expected to contain the unnormalized logits",
        ("batch",),
    ),
)


def markdown_table() -> str:
    """Return the checks as a Markdown table, as the documents show it, in the language that is shown."""
    lines = [shown("| check | finds | severity | needs | source |"), "| --- | --- | --- | --- | --- |"]
    for check in CHECKS:
        severity, needs = part(", ".join(check.severity)), part(", ".join(check.needs) or "the model")
        lines.append(f"| `{check.name}` | {shown(check.finds)} | {severity} | {needs} | {shown(check.source)} |")
    return "\n".join(lines)
