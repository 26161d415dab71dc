"""What the test rows add to the verdict, in a sentence."""

from collections.abc import Mapping
from typing import Any

from dampen.study._findings import Findings
from dampen.study._references import NONE
from dampen.study._verdict_text import NAMES


def on_test_rows(test: Mapping[str, Mapping[str, Any]], verdict: Findings) -> list[str]:
    """Return whether the test rows agree with the verdict; nothing where there are none."""
    against = {name: difference_to["against"] for name, difference_to in test.items() if "against" in difference_to}
    against = {name: difference_to for name, difference_to in against.items() if difference_to["interval"] is not None}
    if not against:
        return []
    contradicted = [name for name, difference_to in against.items() if difference_to["agrees"] is False]
    name = verdict.gain.against if verdict.gain is not None and verdict.gain.against in against else NONE
    name = name if name in against else next(iter(against))
    difference_to = against[name]
    low, high = difference_to["interval"]
    difference, lowest, highest = (
        f"{value:+.4g}" if value else "0" for value in (difference_to["difference"], low, high)
    )
    size = f"{difference} ({lowest} to {highest}) against {NAMES.get(name, name)}"
    if contradicted:
        names = " and ".join(NAMES.get(other, other) for other in contradicted)
        return [f"The test rows contradict this: {size}; the difference to {names} has the other sign there."]
    if difference_to["agrees"]:
        return [f"The test rows agree: {size}."]
    margin = f"the margin of {verdict.margin:.2g}"
    if -verdict.margin < low and high < verdict.margin:
        return [f"The test rows show both to be equivalent within {margin}: {size}."]
    if abs(difference_to["difference"]) < verdict.margin and not low <= 0 <= high:
        return [f"The test rows show a difference that is negligible, within {margin}: {size}."]
    if low <= 0 <= high:
        return [f"The test rows neither confirm nor contradict this: {size}."]
    return [f"The test rows show a significant difference where the evaluation rows did not: {size}."]
