"""Which module a forward pass is in: to name a dropout layer, or the place where fusing fails."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


class ModulePath:
    """While entered, holds the innermost module whose forward pass runs; after an error, the one that failed.

    Args:
        network: the network to follow.

    `returned` lists, in their order, the modules that have returned a tensor, with its shape; `entered`, if it is set,
    is called with each module that begins.
    """

    def __init__(self, network: nn.Module):
        self._network = network
        self.returned: list[tuple[str, tuple[int, ...]]] = []
        self.entered: Callable[[str], object] | None = None
        self._stack: list[str] = []
        self._given: list[tuple[Any, ...]] = []
        self._hooks: list[Any] = []

    @property
    def current(self) -> str:
        """Path of the module, `""` for the network itself."""
        return self._stack[-1] if self._stack else ""

    @property
    def given(self) -> tuple[Any, ...]:
        """What the module was called with."""
        return self._given[-1] if self._given else ()

    def __enter__(self) -> "ModulePath":
        self._stack, self._given, self.returned = [], [], []
        for name, module in self._network.named_modules():

            def enter(_module: nn.Module, args: Any, kwargs: Any, name: str = name) -> None:
                self._stack.append(name)
                if self.entered is not None:
                    self.entered(name)
                self._given.append((*args, *kwargs.values()))

            def leave(_module: nn.Module, _inputs: Any, output: Any, name: str = name) -> None:
                self._stack.pop()
                self._given.pop()
                if isinstance(output, Tensor):
                    self.returned.append((name, tuple(output.shape)))

            before = module.register_forward_pre_hook(enter, with_kwargs=True)
            self._hooks += [before, module.register_forward_hook(leave)]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks = []


def named(network: nn.Module, path: str) -> str:
    """Return a module's class and path, for messages."""
    kind = type(network.get_submodule(path)).__name__
    return f"{kind} ({path or 'the network itself'})"
