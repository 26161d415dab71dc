"""What one member does, recorded and compiled to C."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from dampen.engine.capture import NotRecordable, Read, operations, quiet, read_of
from dampen.engine.compiled import CompiledStep, NoCompiler, Untranslatable
from dampen.errors import InputError


@dataclass(frozen=True)
class InC:
    """What one member does, in C.

    Args:
        step: a step of training, or an evaluation.
        read: what the network read of the batch; the step is that of batches with the same values.
    """

    step: CompiledStep
    read: Read | None

    def holds(self, seeds: Iterable[Sequence[Tensor]]) -> bool:
        """Return whether it is the step of one member of each seed, given what these are given."""
        return self.read is None or all(self.read.holds(tensors) for tensors in seeds)


@dataclass
class Kept:
    """What programs of one model have compiled, of one member.

    Args:
        of: what the programs have in common.
        steps: of training, by shapes and by the knobs inside; None where they can't be compiled.
        evaluations: by shapes; likewise.
    """

    of: Any = None
    steps: dict[Any, list[InC] | None] = field(default_factory=dict)
    evaluations: dict[Any, CompiledStep | None] = field(default_factory=dict)


def in_c(
    function: Callable[..., list[Tensor]],
    own: list[Tensor],
    kinds: list[tuple[bool, bool]],
    deciding: Sequence[bool] = (),
) -> InC | str | None:
    """Compile what a function does with one member's tensors, or return why it can't be, where that is known.

    Args:
        function: of the tensors.
        own: the member's.
        kinds: of each, whether seeds and settings have it for themselves.
        deciding: of each, whether the function may read its values; by default of none.
    """
    try:
        own = [t.contiguous() for t in own]
        with quiet():
            recording = operations(function, own, deciding)
            return InC(CompiledStep(recording, own, kinds), read_of(recording))
    except (Untranslatable, NoCompiler, NotRecordable) as e:
        return str(e)
    except InputError:
        raise
    except Exception:  # of the network, under vmap: recording for all members says where and why
        return None
