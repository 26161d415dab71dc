"""The table of questions: adding one is a file beside this one and a line here."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from dampen.errors import InputError
from dampen.experiments import _decay, _interaction, _length, _noises, _penalty, _rates, _scaling, _variance
from dampen.experiments._answer import Answer
from dampen.experiments._setup import Ground


@dataclass(frozen=True)
class Question:
    """A question of `dampen explore`.

    Args:
        name: at the command line.
        text: the question in a sentence.
        answer: trains networks and returns the answer.
        of_costs: whether it is answered in the metric, which has a unit.
    """

    name: str
    text: str
    answer: Callable[[Ground], Answer]
    of_costs: bool = True


QUESTIONS = {
    question.name: question
    for question in (
        Question("decay", "How do loss and accuracy change with weight decay, and which one is best?", _decay.answer),
        Question("penalty", "L1 or L2: which one is better, and what does each do to the weights?", _penalty.answer),
        Question("rates", "Which dropout rate for which layer, and does their order matter?", _rates.answer),
        Question("epochs", "Does dropout help in long trainings, or is early stopping enough?", _length.answer),
        Question("variance", "What does dropout do to the variance of the activations?", _variance.answer, False),
        Question("interaction", "Dropout, decay, or both: do their gains add up?", _interaction.answer),
        Question("scaling", "How do the best decay and dropout change with the number of rows?", _scaling.answer),
        Question("noises", "Is dropout of units better than dropping weights, or than other noises?", _noises.answer),
    )
}


def explore(question: str, on: Ground) -> Answer:
    """Answer a question about regularisation by training networks.

    Squared errors of a regression are in variances of the target; a last sentence and `more["target_variance"]` have
    how much one is in the target's own squared unit.

    Args:
        question: its name, one of `QUESTIONS`.
        on: data, network and training.

    Raises:
        InputError: there is no such question, or it can't be answered there.

    Example:
        >>> import dampen
        >>> from dampen.experiments import explore, ground
        >>> found = explore("rates", ground(dampen.load("wine"), (8, 8), seeds=range(3), epochs=5))
        >>> sorted(found.main)[:2]
        ['(0, 0.5)', '(0.3, 0.3)']
    """
    if question not in QUESTIONS:
        raise InputError(f"there is no question {question!r}; there are {', '.join(QUESTIONS)}")
    found = QUESTIONS[question].answer(on)
    if on.data.task == "classification" or not QUESTIONS[question].of_costs:
        return found
    variance = on.deviation**2
    unit = (
        f"The {on.metric.name} is in variances of the target, each {variance:.3g} in its squared unit: predicting the "
        "mean has about 1."
    )
    return replace(found, sentences=(*found.sentences, unit), more=found.more | {"target_variance": variance})
