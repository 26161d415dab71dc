"""Values in Python source: what a study's folder holds enters a script as a literal of a known type, never as text."""

import math

from dampen.errors import InputError


class Source(str):
    """Text that is Python source: nothing else is written into a script."""


_PLAIN = (bool, int, float, str, type(None))


def literal(value: object, *kinds: type) -> Source:
    """Return the Python expression of a value.

    Args:
        value: a number, a text, a truth value, None, or a tuple of such.
        kinds: of which it may be; a whole number will do for a float.

    Raises:
        InputError: it is of another type, or a number that is not finite.

    Example:
        >>> literal(3, int), literal(1e-3, float), literal("0.weight", str)
        ('3', '0.001', '"0.weight"')
    """
    kind = type(value)  # no subclass: it could have a `repr` of its own
    if kind not in kinds and not (kind is int and float in kinds):
        raise InputError(f"the script can't hold {kind.__name__} where {kinds[0].__name__} is meant")
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"the script can't hold the number {value!r}")
    if isinstance(value, tuple):
        parts = [literal(part, *_PLAIN) for part in value]
        return Source(f"({', '.join(parts)}{',' * (len(parts) == 1)})")
    text = repr(value)
    if isinstance(value, str) and text[0] == "'" and '"' not in text:
        return Source(f'"{text[1:-1]}"')  # as formatters have it
    return Source(text)


def listed(names: list[str]) -> Source:
    """Return the Python expression of a list of texts, one a line where it is long."""
    texts = [literal(name, str) for name in names]
    line = "[" + ", ".join(texts) + "]"
    return Source(line if len(line) < 100 else "[\n" + "".join(f"    {text},\n" for text in texts) + "]")
