"""A member's step in the ordinary way, on the user's own module: what every other way is compared with."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge

from dampen.engine import _rng
from dampen.engine.capture import ModulePath, NotRepeated, PairedDropout, Placed, first_line, named, quiet
from dampen.engine.execution._step_effects import following
from dampen.errors import InputError


@dataclass
class Plainly:
    """Whether a network's calls need not be intercepted: its first forward pass dropped and drew nothing.

    Intercepting costs several microseconds a call. A later pass that does draw is seen by torch's generator, which
    then has moved; from there on calls are intercepted again, and what can't be is named.
    """

    draws: bool = False


@dataclass(frozen=True)
class Step:
    """What decides one member's step apart from its weights and its batch.

    Args:
        seed: the member's.
        number: of the training step, from 0.
        rates: at each place where units are dropped.
        uniforms: for each place.
        placed: what knobs do at other sites.
        low: type of the products, where it is not that of the weights.
        own: for each place where the network draws random numbers of its own.
        plainly: where nothing drops, whether calls run without being intercepted; None where they never do.
    """

    seed: int
    number: int
    rates: Sequence[float]
    uniforms: Sequence[Tensor]
    placed: Placed
    low: torch.dtype | None = None
    own: Sequence[Tensor] = ()
    plainly: Plainly | None = None

    def forward(self, network: nn.Module, shown: Sequence[Tensor]) -> Tensor:
        """Return a network's outputs in whatever mode it is, `[B, ...]`."""
        with self._acting(network) as drop, drop:
            return self._outputs(network, shown)

    def backward(self, network: nn.Module, shown: Sequence[Tensor], loss: Callable[[Tensor], Tensor]) -> None:
        """Leave the gradients of a loss of the outputs in the network's parameters, as `loss.backward()` does.

        What acted in the forward pass acts on: checkpointing runs parts of it again in the backward pass.
        """
        with self._acting(network) as drop:
            with drop:
                outputs = self._outputs(network, shown)
            value = loss(outputs)
            # What `value.backward()` does; the function mode would intercept the method itself, and be off meanwhile.
            edge, ones = get_gradient_edge(value), torch.ones_like(value)
            with drop.again():
                torch.autograd.backward(edge, ones)

    @contextlib.contextmanager
    def _acting(self, network: nn.Module) -> Iterator["PairedDropout | _NotIntercepted"]:
        generators = _rng.global_generators(self.seed, self.number)
        acts = bool(self.rates or self.placed or self.own)
        if self.plainly is None or self.plainly.draws or acts:
            drop = PairedDropout(self.rates, self.uniforms, self.placed, self.own)
            with generators, quiet(), following(network, self.placed, drop.number):
                yield drop
            return
        with generators, quiet():
            before = torch.default_generator.get_state()
            yield _NOT_INTERCEPTED
            self.plainly.draws = not torch.equal(before, torch.default_generator.get_state())

    def _outputs(self, network: nn.Module, shown: Sequence[Tensor]) -> Tensor:
        if self.low is None:
            return network(*shown)
        with torch.autocast(shown[0].device.type, self.low, cache_enabled=False):
            return network(*shown)


class _NotIntercepted(contextlib.nullcontext[None]):
    """Stands where `PairedDropout` does, and does nothing."""

    def again(self) -> "_NotIntercepted":
        return self


_NOT_INTERCEPTED = _NotIntercepted()


@contextlib.contextmanager
def holding(tensors: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> Iterator[None]:
    """While entered, let a network's own parameters and buffers be a member's; gradients begin and end as None.

    The parameters stay the objects that they are, so that hooks on them, ties and whatever else holds them keep on.

    Args:
        tensors: the network's, by name.
        given: the member's, of the same names; what the network changes in place is changed in these.
    """
    came = {name: t.data for name, t in tensors.items()}
    try:
        for name, t in given.items():
            tensors[name].data, tensors[name].grad = t, None
        yield
    finally:
        for name, t in came.items():
            if name in given and tensors[name].data_ptr() != given[name].data_ptr():  # p.data = ... in a forward pass
                given[name].copy_(tensors[name].data)
            tensors[name].data, tensors[name].grad = t, None


def tensors_of(network: nn.Module) -> dict[str, Tensor]:
    """Return a network's parameters and buffers by name."""
    return dict(network.named_parameters()) | dict(network.named_buffers())


def gradient(p: Tensor) -> Tensor:
    """Return a parameter's gradient, dense; zeros where nothing reached it."""
    given = p.grad
    if given is None:
        return torch.zeros_like(p)
    return given if given.layout is torch.strided else given.to_dense()


@dataclass(frozen=True)
class Watched:
    """What an ordinary step showed.

    Args:
        unreached: parameters that got no gradient.
        again: a module that ran in the backward pass, too; None if none did.
    """

    unreached: tuple[str, ...]
    again: str | None


def watched(step: Step, network: nn.Module, shown: Sequence[Tensor], loss: Callable[[Tensor], Tensor]) -> Watched:
    """Run a step that leaves its gradients in the network's parameters, and return what it showed.

    Raises:
        InputError: the backward pass fails, or it runs a part of the forward pass again with other random numbers.
    """
    again: list[str] = []
    forward = True

    def losses(outputs: Tensor) -> Tensor:
        nonlocal forward
        value = loss(outputs)
        forward, where.entered = False, again.append
        return value

    where = ModulePath(network)
    with where:
        try:
            step.backward(network, shown, losses)
        except NotRepeated as e:
            raise InputError(
                f"{named(network, where.current)} runs again in the backward pass with other random numbers than in "
                "the forward pass, so that it would drop other units: let torch.utils.checkpoint preserve_rng_state, "
                "or set torch's generator back before running again"
            ) from e
        except InputError:
            raise
        except Exception as e:
            if forward:
                raise
            raise InputError(f"the backward pass of {named(network, where.current)} fails: {first_line(e)}") from e
    unreached = tuple(name for name, p in network.named_parameters() if p.requires_grad and p.grad is None)
    return Watched(unreached, again[0] if again else None)
