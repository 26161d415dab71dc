"""Record where a forward pass drops units and what else it calls, and drop nothing."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from dampen.engine.capture._draws import Draw, DrawCall
from dampen.engine.capture._dropout_mode import WEIGHTED, CatchDropout
from dampen.engine.capture._module_path import ModulePath
from dampen.engine.capture._residual import Lineage
from dampen.engine.capture._sites import Kind, Place
from dampen.engine.knobs import Site

_SHAPES = ("squeeze", "unsqueeze", "flatten", "ravel", "view", "reshape", "contiguous", "__getitem__", "select")


class RecordDropout(CatchDropout):
    """Notes in `places` where a forward pass drops units, in `functions` what else each module calls.

    `draws` has the places where it draws numbers of its own, `map_bytes` the sizes of what convolutions return.

    `activation_bytes` is the size of what these functions returned, `last` the id of what the last one returned and the
    last function that did more than give it another shape.

    Args:
        where: the module that a forward pass is in.
        additions: whether to look for residual branches, too: it holds every tensor of the forward pass.
    """

    def __init__(self, where: ModulePath, additions: bool = False) -> None:
        super().__init__()
        self._adds = additions
        self._lineage = Lineage() if additions else None
        self.places: list[Place] = []
        self.draws: list[Draw] = []
        self.sites: list[Site] = []
        self.functions: dict[str, set[Any]] = {}
        self.activation_bytes = 0
        self.map_bytes: list[int] = []
        self.last: tuple[int, str] = 0, ""
        self._where = where

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = super().__torch_function__(func, types, args, kwargs)
        if self._lineage is not None:
            self._lineage.note(func, args, kwargs or {}, result)
        return result

    def added(self, func: Any, args: Any, kwargs: Any, pair: tuple[Tensor, Tensor]) -> Any:
        """Note both sites, and whether one of the tensors is a residual branch."""
        branch = self._lineage.branch(*pair, self._where.given) if self._lineage else None
        for place, t in enumerate(pair):
            self.sites.append(Site("addend", self._where.current, tuple(t.shape), residual=place == branch))
        return self.other(func, args, kwargs)

    def site(self, kind: Any, h: Tensor) -> Tensor:
        """Note the site."""
        self.sites.append(Site(kind, self._where.current, tuple(h.shape)))
        return h

    def drop(self, number: int, kind: Kind, h: Tensor, p: float, shape: tuple[int, ...]) -> Tensor:
        """Note the place and drop nothing."""
        self.places.append(Place(self._where.current, kind, p, shape))
        return h

    def drawn(self, number: int, draw: DrawCall) -> Any:
        """Note the place."""
        self.draws.append(Draw(self._where.current, draw.kind, draw.shape))
        return self.other(*draw.call)

    def recurrent(self, number: int, func: Any, args: Any, place_of_p: int, kwargs: Any) -> Any:
        """Note the place and drop nothing."""
        self.places.append(Place(self._where.current, "recurrent", args[place_of_p], ()))
        return func(*args[:place_of_p], 0.0, *args[place_of_p + 1 :], **kwargs)

    def other(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Note the call."""
        self.functions.setdefault(self._where.current, set()).add(func)
        result = func(*args, **kwargs)
        if isinstance(result, Tensor):
            self.activation_bytes += result.nbytes
            if func in WEIGHTED and func is not F.linear:
                self.map_bytes.append(result.nbytes)
            name = getattr(func, "__name__", "")
            shaped = name in _SHAPES and args and id(args[0]) == self.last[0]
            self.last = id(result), self.last[1] if shaped else name
        return result
