"""What the package's front gives to layers that must not import higher ones: pages and exports, and clusters."""

from collections.abc import Callable
from typing import Any

WRITERS: dict[str, Callable[..., Any]] = {}
"""By name, `report`, `export`, `html` and `figure`: registered in `dampen/__init__.py`, called by `Study`."""

CLUSTERS: dict[str, Callable[..., Any]] = {}
"""`connected`: registered in `dampen/__init__.py`, called where a study is given a cluster."""
