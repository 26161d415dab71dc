"""What the package's front gives to layers that must not import higher ones: how a study becomes a page or export."""

from collections.abc import Callable
from typing import Any

WRITERS: dict[str, Callable[..., Any]] = {}
"""By name, `report`, `export` and `html`: registered in `dampen/__init__.py`, called by `Study`."""
