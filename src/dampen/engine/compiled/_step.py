"""A member's step, compiled, for all members of a chunk."""

import ctypes
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dampen.engine.capture import Recording
from dampen.engine.compiled._build import built
from dampen.engine.compiled._translate import Untranslatable, translate
from dampen.errors import InputError

_LINE = 64  # bytes
_LONGEST = 500_000  # characters: a compiler's time grows faster than they do
_FUNCTIONS = (Path(__file__).parent / "functions.h").read_text(encoding="utf-8")
_ENTRY = """
static __thread char *memory;
static __thread size_t memory_bytes;

typedef struct {{
    char **in, **out, **first, **second, **average;
    const int64_t *in_s, *in_m, *out_bytes;
    int64_t M, n_trained;
    const rule_t *rule;
    const double *rates, *decays, *thresholds, *shares;
    const uint8_t *decayed;
}} call_t;

static char *memory_of(size_t bytes) {{
    if (memory_bytes < bytes) {{
        free(memory);
        memory = aligned_alloc(64, bytes);
        memory_bytes = bytes;
    }}
    return memory;
}}

/* Where there is a rule, the first n_trained outputs are gradients that are used up here, and not given back. */
static void one(const call_t *c, int64_t k, char *scratch, int *fault) {{
    char *i[{inputs}], *o[{outputs}], *gradients = scratch + {scratch};
    for (int j = 0; j < {inputs}; ++j) i[j] = c->in[j] + k / c->M * c->in_s[j] + k % c->M * c->in_m[j];
    for (int j = 0; j < {outputs}; ++j) {{
        o[j] = c->out[j] + k * c->out_bytes[j];
        if (c->rule && j < c->n_trained) o[j] = gradients, gradients += (c->out_bytes[j] + 63) / 64 * 64;
    }}
    step_member(i, o, scratch, fault);
    if (*fault) return;
    for (int j = c->rule ? c->n_trained - 1 : -1; j >= 0; --j) {{
        {type} *m = c->first ? ({type} *)(c->first[j] + k * c->out_bytes[j]) : NULL;
        {type} *v = c->second ? ({type} *)(c->second[j] + k * c->out_bytes[j]) : NULL;
        const int64_t n = c->out_bytes[j] / sizeof({type});
        update_{type}(({type} *)i[j], m, v, ({type} *)o[j], n, c->rule, c->rates[k], c->decayed[j] ? c->decays[k] : 0);
        if (c->thresholds && c->decayed[j] && c->thresholds[k] > 0)
            soft_threshold_{type}(({type} *)i[j], n, c->thresholds[k]);
        if (c->shares && c->shares[k] > 0)
            average_{type}(({type} *)(c->average[j] + k * c->out_bytes[j]), ({type} *)i[j], n, c->shares[k]);
    }}
}}

static void some(const call_t *const *calls, int64_t k, int64_t from, int64_t to, char *scratch, int *fault) {{
    int own = 0;
    for (int64_t t = from; t < to && !own && !__atomic_load_n(fault, __ATOMIC_RELAXED); ++t)
        one(calls[t], k, scratch, &own);
    if (own) __atomic_store_n(fault, 1, __ATOMIC_RELAXED);
}}

/* Each member takes all steps before the next one begins, so that what it trains stays in its core's cache. Threads
   have equally many steps, so that a member may be shared by two (McNaughton 1959): one begins with its first steps,
   and the other ends with the rest.
   Returns whether one looked something up at a place that is not there; it has then stopped before that step. */
int64_t run(const call_t *const *calls, int64_t steps, int64_t members, int64_t threads) {{
    const call_t *c = calls[0];
    size_t bytes = {scratch};
    int fault = 0, begun[threads];
    for (int j = 0; c->rule && j < c->n_trained; ++j) bytes += (c->out_bytes[j] + 63) / 64 * 64;
    if (threads == 1) {{ /* the BLAS has threads of its own, which must not begin inside of ours */
        for (int64_t k = 0; k < members; ++k) some(calls, k, 0, steps, memory_of(bytes), &fault);
        return fault;
    }}
    memset(begun, 0, sizeof begun);
    #pragma omp parallel num_threads(threads)
    {{
        char *scratch = memory_of(bytes);
        const int before = blas_threads(1);
        #pragma omp for schedule(static)
        for (int64_t t = 0; t < threads; ++t) {{
            const int64_t from = members * steps * t / threads, to = members * steps * (t + 1) / threads;
            const int64_t first = from / steps, last = to / steps, before_us = from % steps;
            if (to % steps) some(calls, last, 0, to % steps, scratch, &fault);
            __atomic_store_n(begun + t, 1, __ATOMIC_RELEASE);
            for (int64_t k = first + (before_us > 0); k < last; ++k) some(calls, k, 0, steps, scratch, &fault);
            if (!before_us) continue;
            while (!__atomic_load_n(begun + t - 1, __ATOMIC_ACQUIRE)) sched_yield();
            some(calls, first, before_us, steps, scratch, &fault);
        }}
        blas_threads(before);
    }}
    return fault;
}}
"""


@dataclass(frozen=True)
class Update:
    """What an optimizer does in a step.

    Args:
        kind: `sgd`, `adam` or `adamw`.
        betas: decay of the running means.
        eps: added to the denominator.
        steps: how many there have been, this one included.
        momentum: of SGD.
        nesterov: whether SGD looks ahead.
        slots: the optimizer's numbers, a tensor for each trained parameter; none, one or two kinds.
        rates: learning rate of each member now, float64, `[S * M]`.
        decays: likewise.
        decayed: for each trained parameter, whether decay applies to it.
        thresholds: by which each member's decaying weights are moved towards 0 after the step, float64, `[S, M]`; None
            for none.
        averages: for each trained parameter, what it is taken into then.
        shares: of the present weights in each member's new average, float64, `[S, M]`; None where none is kept.
    """

    kind: str
    rates: Tensor
    decays: Tensor
    decayed: Sequence[bool]
    slots: Sequence[Sequence[Tensor]] = ()
    betas: tuple[float, float] = (0.0, 0.0)
    eps: float = 0.0
    steps: int = 1
    momentum: float = 0.0
    nesterov: bool = False
    thresholds: Tensor | None = None
    averages: Sequence[Tensor] = ()
    shares: Tensor | None = None

    def numbers(self) -> list[float]:
        """Return what the compiled code takes of it."""
        corrections = [1 - beta**self.steps for beta in self.betas]
        kind = ("sgd", "adam", "adamw").index(self.kind)
        return [float(kind), *self.betas, self.eps, *corrections, self.momentum, float(self.nesterov)]


class _Call(ctypes.Structure):
    """What the compiled code is given, `call_t` there."""

    _fields_ = (
        *[(name, ctypes.c_void_p) for name in ("in_", "out", "first", "second", "average")],
        *[(name, ctypes.c_void_p) for name in ("in_s", "in_m", "out_bytes")],
        *[(name, ctypes.c_int64) for name in ("M", "n_trained")],
        *[(name, ctypes.c_void_p) for name in ("rule", "rates", "decays", "thresholds", "shares", "decayed")],
    )


class CompiledStep:
    """What was recorded for one member, for all of them.

    Args:
        recording: of one member.
        inputs: of that member, as they were recorded.
        kinds: of each input, whether it differs by seed, and by setting.
        axes: how many axes of members, of length 1 each, the recorded outputs begin with: 2, or 1 where there is one
            setting.

    Raises:
        Untranslatable: it does something that has no translation.
        NoCompiler: it can't be compiled here.
    """

    def __init__(
        self,
        recording: Recording,
        inputs: Sequence[Tensor],
        kinds: Sequence[tuple[bool, bool]],
        axes: int = 2,
    ):
        self._axes = axes
        translation = translate(recording)
        self._constants = _constants(recording)
        every = [*inputs, *self._constants]
        every_kind = [*kinds, *[(False, False)] * len(self._constants)]
        self._places = [_Place(t, *kind) for t, kind in zip(every, every_kind, strict=True)]
        self._outputs = translation.outputs
        if len(translation.code) > _LONGEST:
            raise Untranslatable("more operations than a compiler should be given")
        if any(shape[:axes] != (1,) * axes for shape, _ in self._outputs):
            raise Untranslatable("an output that is none of a member")
        self._out_bytes = (ctypes.c_int64 * len(self._outputs))(
            *(dtype.itemsize * math.prod(shape) for shape, dtype in self._outputs)
        )
        n_in, n_out = len(inputs) + len(self._constants), len(translation.outputs)
        c_type = "double" if inputs[0].dtype == torch.float64 else "float"  # of what an optimizer updates
        entry = _ENTRY.format(scratch=max(64, translation.scratch), inputs=n_in, outputs=n_out, type=c_type)
        self._run = built(_FUNCTIONS + translation.code + entry).run
        self._run.argtypes = [ctypes.c_void_p] + [ctypes.c_int64] * 3
        self._run.restype = ctypes.c_int64

    def __call__(self, inputs: Sequence[Tensor], S: int, M: int) -> list[Tensor]:
        """Return the outputs of all members, `[S, M, ...]` each.

        Args:
            inputs: as for one member, of all.
            S: seeds.
            M: settings.
        """
        call = self.prepared(inputs, S, M)
        self.run([call])
        return call.outputs

    def prepared(self, inputs: Sequence[Tensor], S: int, M: int, update: Update | None = None) -> "Call":
        """Return a call that `run` makes.

        Args:
            inputs: as for one member, of all.
            S: seeds.
            M: settings.
            update: what is done with the first outputs, the gradients of the first inputs; they are then not returned.
        """
        n = 0 if update is None else len(update.decayed)
        members = (S, M)[: self._axes]
        outputs = [torch.empty(*members, *shape[self._axes :], dtype=dtype) for shape, dtype in self._outputs[n:]]
        every = [*inputs, *self._constants]
        held, pointers, by_seed, by_setting = [], [], [], []
        for t, place in zip(every, self._places, strict=True):
            given, seeds, settings = place(t)
            held.append(given)
            pointers.append(given.data_ptr())
            by_seed.append(seeds)
            by_setting.append(settings)
        arrays: dict[str, Any] = {
            "in_": (ctypes.c_void_p * len(every))(*pointers),
            "in_s": (ctypes.c_int64 * len(every))(*by_seed),
            "in_m": (ctypes.c_int64 * len(every))(*by_setting),
            "out": (ctypes.c_void_p * len(self._outputs))(*[None] * n, *(t.data_ptr() for t in outputs)),
            "out_bytes": self._out_bytes,
        }
        if update is not None:
            beside = dict(zip(("first", "second"), update.slots, strict=False))
            beside |= {"average": update.averages} if update.averages else {}
            arrays |= {name: (ctypes.c_void_p * n)(*(t.data_ptr() for t in kind)) for name, kind in beside.items()}
            arrays |= {
                "rule": (ctypes.c_double * 8)(*update.numbers()),
                "decayed": (ctypes.c_uint8 * n)(*update.decayed),
            }
        call = _Call(M=M, n_trained=n, **{name: ctypes.addressof(array) for name, array in arrays.items()})
        if update is not None:
            for name in ("rates", "decays", "thresholds", "shares"):
                values = getattr(update, name)
                setattr(call, name, None if values is None else values.data_ptr())
        return Call(self, outputs, S * M, call, (held, arrays, update))

    def run(self, calls: "Sequence[Call]") -> None:
        """Make calls of this step, with as many members each: each member all of them, one after the other.

        Raises:
            InputError: a number by which something is looked up is outside of what there is.
        """
        members, threads = calls[0].members, torch.get_num_threads()
        structures = (ctypes.c_void_p * len(calls))(*(ctypes.addressof(call.structure) for call in calls))
        if self._run(structures, len(calls), members, min(members, threads)):
            raise InputError(
                "the network looks something up by a number that is outside of what there is (index out of range): "
                "check the rows' numbers against the sizes of its tables"
            )


class _Place:
    """Where members find one of their inputs, worked out once for each way in which it lies.

    Args:
        recorded: of one member.
        of_seeds: whether it differs by seed.
        of_settings: and by setting.
    """

    def __init__(self, recorded: Tensor, of_seeds: bool, of_settings: bool):
        self._of_seeds, self._of_settings = of_seeds, of_settings
        self._layout = _layout(recorded, of_seeds + of_settings)
        self._steps: dict[Any, tuple[int, int]] = {}  # of what lies as it has to, in bytes from member to member

    def __call__(self, t: Tensor) -> tuple[Tensor, int, int]:
        """Return the tensor as the code takes it, and the bytes from one seed's part to the next, and one setting's."""
        key = t.shape, t.stride()
        known = self._steps.get(key)
        if known is not None:
            return t, *known
        given = t if _layout(t, self._of_seeds + self._of_settings) == self._layout else t.contiguous()
        if self._of_seeds and not self._of_settings:
            given = _aligned(given)
        size, strides, d = given.element_size(), given.stride(), int(self._of_seeds)
        by_seed = strides[0] * size if self._of_seeds and given.shape[0] > 1 else 0
        by_setting = strides[d] * size if self._of_settings and given.shape[d] > 1 else 0
        if given is t:
            self._steps[key] = by_seed, by_setting
        return given, by_seed, by_setting


@dataclass(frozen=True)
class Call:
    """A step that is to be taken.

    Args:
        step: which.
        outputs: what it will give.
        members: how many take it.
        structure: what the compiled code is given.
        held: what has to live until then.
    """

    step: CompiledStep
    outputs: list[Tensor]
    members: int
    structure: _Call
    held: tuple[Any, ...]


def _constants(recording: Recording) -> list[Tensor]:
    return [getattr(recording.constants, str(node.target)) for node in recording.graph.nodes if node.op == "get_attr"]


def _aligned(t: Tensor) -> Tensor:
    """Return `[S, ...]` with each seed's part at a whole cache line: how the BLAS adds up depends on where rows lie."""
    size = t.element_size()
    if len(t) == 1 or not t[0].is_contiguous() or t.stride(0) * size % _LINE == 0:
        return t
    n = t[0].numel()
    held = t.new_empty(len(t), math.ceil(n * size / _LINE) * _LINE // size)[:, :n].view(t.shape)
    return held.copy_(t)


def _layout(t: Tensor, lead: int) -> tuple[tuple[int, int], ...]:
    """Return sizes and strides of a member's part, which so many dimensions of members come before."""
    return tuple((n, stride) for n, stride in zip(t.shape[lead:], t.stride()[lead:], strict=True) if n != 1)
