"""What the test rows add to the verdict, in a sentence."""

from collections.abc import Mapping
from typing import Any

from dampen.study._findings import Findings
from dampen.study._references import NONE
from dampen.study._verdict_text import NAMES


def on_test_rows(test: Mapping[str, Mapping[str, Any]], verdict: Findings) -> list[str]:
    """Return whether the test rows agree with the verdict; nothing where there are none."""
    against = {name: found["against"] for name, found in test.items() if "against" in found}
    against = {name: found for name, found in against.items() if found["interval"] is not None}
    if not against:
        return []
    contradicted = [name for name, found in against.items() if found["agrees"] is False]
    name = verdict.gain.against if verdict.gain is not None and verdict.gain.against in against else NONE
    name = name if name in against else next(iter(against))
    found = against[name]
    low, high = found["interval"]
    difference, lowest, highest = (f"{value:+.4g}" if value else "0" for value in (found["difference"], low, high))
    size = f"{difference} ({lowest} to {highest}) against {NAMES.get(name, name)}"
    if contradicted:
        names = " and ".join(NAMES.get(other, other) for other in contradicted)
        return [f"The test rows contradict this: {size}; the difference to {names} has the other sign there."]
    if found["agrees"]:
        return [f"The test rows agree: {size}."]
    margin = f"the margin of {verdict.margin:.2g}"
    if -verdict.margin < low and high < verdict.margin:
        return [f"The test rows show both to be equivalent within {margin}: {size}."]
    if abs(found["difference"]) < verdict.margin and not low <= 0 <= high:
        return [f"The test rows show a difference that lies within {margin}, too little to matter: {size}."]
    if low <= 0 <= high:
        return [f"The test rows neither confirm nor contradict this: {size}."]
    return [f"The test rows settle what the evaluation left open: {size}."]
