"""Categories and classes that differ only by how they are spelt: `North` and `north` are two, and rarely meant so."""

from collections.abc import Iterable

from dampen.data.tables._columns import Columns

_MOST = 3  # groups of names in a note


def spelling_notes(columns: Columns) -> list[str]:
    """Return a sentence for each column with such categories."""
    spellings = ((column.name, spelt_alike(column.levels)) for column in columns.used)
    return [f"column '{name}' has categories that {which}" for name, which in spellings if which]


def spelt_alike(names: Iterable[str]) -> str:
    """Return which names differ only by case or blanks, as the end of a sentence; empty where none do.

    >>> spelt_alike(["North", "south", "north"])
    "differ only by case or blanks ('North' and 'north'): treated as different, write them alike if they are one"
    """
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault("".join(name.split()).casefold(), []).append(name)
    groups = [sorted(group) for group in alike.values() if len(group) > 1]
    if not groups:
        return ""
    listed = "; ".join(" and ".join(f"'{name[:30]}'" for name in group) for group in groups[:_MOST])
    more = f" and {len(groups) - _MOST} more" * (len(groups) > _MOST)
    return f"differ only by case or blanks ({listed}{more}): treated as different, write them alike if they are one"
