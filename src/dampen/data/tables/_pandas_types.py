"""pandas' own classes, whose annotations a type checker can't follow."""

from typing import Any

Table = Any
"""A `pandas.DataFrame`."""
Series = Any
"""A `pandas.Series`."""
