"""What an operation with C of its own is."""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import fx

from dampen.engine.compiled._loops import View

Code = Callable[[Any, Callable[[Any], View], list[View | None]], list[str]]
"""Takes the operation, what gives the view of an argument, and the views of its results; returns lines of C."""


@dataclass(frozen=True)
class Kernel:
    """An operation with C of its own.

    Args:
        code: writes it; raises `NotImplementedError` for arguments that it does not know.
        several: whether it has several results.
    """

    code: Code
    several: bool = False

    @property
    def results_at_most(self) -> int:
        """How many results there can be."""
        return 3 if self.several else 1

    def results(self, node: fx.Node) -> dict[int, fx.Node]:
        """Return the nodes of its results that are used, by number."""
        if not self.several:
            return {0: node}
        return {user.args[1]: user for user in node.users if user.target is operator.getitem}  # type: ignore[misc]


def refuse(wrong: bool, why: str) -> None:
    """Say that there is no C for an operation as it is asked for.

    Raises:
        NotImplementedError: if it is wrong.
    """
    if wrong:
        raise NotImplementedError(why)
