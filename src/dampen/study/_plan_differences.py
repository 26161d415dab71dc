"""How two plans of a study differ, by the names of arguments and options."""

import os
from collections.abc import Mapping
from typing import Any

Plan = Mapping[str, Any]
"""As `Plan.document` returns it."""

_NOT_ASKED = ("versions", "reading", "format")  # that follow from where and when a study runs
_DERIVED = ("families", "refined", "rounds")  # that follow from other fields
_CLASSES_LOSS, _LOSS = "cross_entropy", "squared_error"  # the usual ones, which no plan has to name
_WORDS = {
    "model": "the network",
    "scheme": "validation",
    "target_scale": "data",
    "compared": "settings",
}


def differs(held: Plan, wanted: Plan) -> str | None:
    """Return how a folder's plan differs from the one that is wanted; None where it does not.

    Args:
        held: the folder's.
        wanted: that of the call.
    """
    names = [name for name in wanted if name not in _NOT_ASKED and not _same(name, held.get(name), wanted[name])]
    if not names:
        return None
    if "data" in names:
        there, here = held["data"], wanted["data"]
        if there["name"] != here["name"]:
            return f"the study there is of the data {_data_name(there)}, this one of {_data_name(here)}"
        return (
            f"the data {_data_name(there)} has changed since the study there began: its rows, columns or splits differ"
        )
    differences = _argument_differences(held, wanted, names)
    return f"the study there has other values: {', '.join(differences)}"


def every_difference(one: Plan, other: Plan) -> list[str]:
    """Return in which arguments two studies' plans differ, with both values where they are short."""
    names = [name for name in {**one, **other} if name not in (*_NOT_ASKED, "compared", "target_scale")]
    different = [name for name in names if name in one and name in other and not _same(name, one[name], other[name])]
    pairs = _different(one, other, [name for name in different if name != "data"])
    lines = ["data"] * ("data" in different)
    return lines + [f"{name}: {a} and {b}" if _short(a, b) else name for name, (a, b) in pairs.items()]


def _argument_differences(held: Plan, wanted: Plan, names: list[str]) -> list[str]:
    """Return which arguments differ, with both values where they are short."""
    lines = [
        f"{name} ({there} there, {here} here)" if _short(there, here) else name
        for name, (there, here) in _different(held, wanted, names).items()
    ]
    return lines or ["how its settings are drawn or halved"]


def _different(held: Plan, wanted: Plan, names: list[str]) -> dict[str, tuple[Any, Any]]:
    """Return both values of the arguments that differ."""
    pairs: dict[str, tuple[Any, Any]] = {}
    for name in names:
        there, here = held.get(name), wanted[name]
        if name == "brackets":
            pairs["settings"] = tuple(sum(bracket["settings"] for bracket in plan) for plan in (there, here))  # type: ignore[assignment]
        elif name == "lengths":
            pairs["epochs"] = there and there["planned"], here["planned"]
        elif name in ("seeds", "confirm_seeds"):
            pairs[name] = len(there or ()), len(here)
        elif name in _DERIVED:
            continue
        elif name == "training" and there is not None:
            there, here = _with_loss(there, here), _with_loss(here, there)
            pairs |= {part: (there.get(part, "none"), here.get(part, "none")) for part in {**there, **here}}
        elif name == "space" and there is not None:
            pairs |= {part: (there.get(part, "none"), here.get(part, "none")) for part in {**there, **here}}
        else:
            pairs.setdefault(_WORDS.get(name, name), (there, here))
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _short(*values: Any) -> bool:
    return all(
        value is None or isinstance(value, int | float) or (isinstance(value, str) and len(value) < 40)
        for value in values
    )


def _same(name: str, held: Any, wanted: Any) -> bool:
    """Return whether an entry of two plans is the same; data goes by its content, a network's file by its name."""
    if name == "data":
        return held["fingerprint"] == wanted["fingerprint"]
    if name == "model" and ".py:" in held and ".py:" in wanted:  # the same from another directory
        held, wanted = (os.path.basename(one) for one in (held, wanted))
    if name == "training" and held is not None:
        held, wanted = _with_loss(held, wanted), _with_loss(wanted, held)
    return held == wanted


def _with_loss(training: Mapping[str, str], other: Mapping[str, str]) -> Mapping[str, str]:
    """Return how members train with the loss by name: without one it is the usual one of the other's task."""
    return {"loss": _CLASSES_LOSS if other.get("loss") == _CLASSES_LOSS else _LOSS, **training}


def _data_name(data: Mapping[str, Any]) -> str:
    name, source = data["name"], data["source"]
    return repr(name) if source in (name, "memory") else f"{name!r} ({source})"
