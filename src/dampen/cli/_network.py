"""`--model`: the user's own network, and where it drops units."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dampen.cli._import_string import network_maker
from dampen.errors import InputError

if TYPE_CHECKING:
    from dampen.data import Data


def network_maker_of(study: Path, target: str | None) -> Any:
    """Return what makes a finished study's network, None where that is dampen's own and no other is named.

    Args:
        study: its folder.
        target: MODULE:FUNCTION, if any is named.

    Raises:
        InputError: there is no finished study, one is named where the network is dampen's own, or as `network_maker`.
    """
    from dampen.study import finished, of_own_network

    if target is None:
        return None
    if of_own_network(finished(study)["plan"]):
        raise InputError(f"--model {target}: the network of the study in {study} is dampen's own: leave --model out")
    return network_maker(target)


def own(target: str, insert: bool, data: "Data", loss: str | None = None) -> tuple[Any, int, list[str]]:
    """Return the factory of a user's network, in how many places it drops units, and notes on it.

    Args:
        target: MODULE:FUNCTION.
        insert: whether to put dropout after each hidden activation.
        data: that it is for.
        loss: by which it trains, by name; None for the usual one.

    Raises:
        InputError: there is no such function, it fails, its network's outputs do not match the data, or there is no
            place for dropout.
    """
    from dampen.engine import Population, TrainConfig, insert_dropout, with_heads
    from dampen.engine.knobs import Setting
    from dampen.study import check_network, with_ids

    model = network_maker(target)
    notes = []
    if insert:
        model = insert_dropout(model)
        notes.append(str(model.inserted(data.inputs, data.outputs)))
    data = with_ids(model, data)
    headed = with_heads(model, loss)
    check_network(headed, data)
    explanation = Population(headed, [Setting()], [0]).explain(
        replace(data, test_rows=data.test_rows[:0]), TrainConfig(epochs=1, loss=loss)
    )
    if not explanation.dropping:
        notes.append(f"The network drops no units, so that dropout is not searched; {_remedy(model, data)}.")
    return model, len(explanation.dropping), notes


def _remedy(model: Any, data: "Data") -> str:
    """Return how a network comes by dropout."""
    from dampen.engine import insert_dropout
    from dampen.errors import InputError

    try:
        insert_dropout(model).inserted(data.inputs, data.outputs)
    except InputError as e:
        return f"--insert-dropout would find no place: {str(e).partition(': ')[2]}"
    return "--insert-dropout puts it after each hidden activation"
