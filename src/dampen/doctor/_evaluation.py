"""Checks of what a model does in evaluation mode that it should do in training only."""

from collections.abc import Iterator

from dampen.doctor._evidence import Case
from dampen.doctor._report import Symptom

_ATTENTION = "scaled_dot_product_attention"


def dropout_stays_on(case: Case) -> Iterator[Symptom]:
    """Look for dropout functions that drop in evaluation mode."""
    names = _places(case, attention=False)
    if names:
        yield Symptom(
            names,
            "serious",
            "units are dropped in evaluation mode, too: predictions are random, and worse than they need be. "
            "F.dropout(x, p) is in training mode unless its third argument is False.",
            "write F.dropout(x, p, self.training), or use nn.Dropout; ignore this finding if Monte-Carlo dropout is "
            "meant",
        )


def attention_stays_on(case: Case) -> Iterator[Symptom]:
    """Look for attention that drops in evaluation mode."""
    names = _places(case, attention=True)
    if names:
        yield Symptom(
            names,
            "serious",
            "scaled_dot_product_attention drops attention weights in evaluation mode, too: it has no mode and always "
            "applies the dropout_p that it is given.",
            "pass dropout_p=self.p if self.training else 0.0",
        )


def rate_changed(case: Case) -> Iterator[Symptom]:
    """Look for dropout that is another one in training once the model was evaluated."""
    names = case.ran.changed
    if names:
        yield Symptom(
            names,
            "serious",
            "an evaluation changes the dropout rate and nothing sets it back: from the first validation on, training "
            "goes on with another rate, mostly 0.",
            "leave the rate as it is: write F.dropout(x, self.p, self.training), or use nn.Dropout and model.eval()",
        )


def output_differs(case: Case) -> Iterator[Symptom]:
    """Look for outputs that two evaluation passes on the same batch do not share."""
    ran = case.ran
    known = ", ".join(_places(case, attention=False) + _places(case, attention=True))
    if ran.draws or ran.remembers:
        by = "draws random numbers" if ran.draws else "keeps something from one pass to the next"
        yield Symptom(
            ("the model",),
            "serious",
            f"two evaluation passes on the same batch differ, by up to {ran.difference:.2g} of the largest output: "
            f"the model {by} in evaluation mode" + (f" (dropout stays on in {known})." if known else "."),
            "do what is random only if self.training"
            if ran.draws
            else "change nothing in evaluation mode: running statistics, counters and caches only if self.training",
        )


def probabilities(case: Case) -> Iterator[Symptom]:
    """Look for outputs that are probabilities, which losses and Monte-Carlo dropout take for logits."""
    if case.ran.probabilities:
        yield Symptom(
            ("the model",),
            "warning",
            "the outputs are probabilities: nn.CrossEntropyLoss, and whoever samples the model, take a softmax of "
            "them, so that it is trained on the softmax of a softmax, which can't become sure of anything.",
            "return the logits, or log-probabilities (a log-softmax of a log-softmax is the same), and take the "
            "softmax where probabilities are read; ignore this finding if the loss takes probabilities",
        )


def _places(case: Case, *, attention: bool) -> tuple[str, ...]:
    drops = case.ran.evaluation.drops
    return tuple(
        dict.fromkeys(drop.module or "the model" for drop in drops if (drop.function == _ATTENTION) == attention)
    )
