"""A member's step, compiled, for all members of a chunk."""

import ctypes
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dampen.engine.capture import operations
from dampen.engine.compiled._build import built
from dampen.engine.compiled._expressions import HEADER
from dampen.engine.compiled._loops import C_TYPES
from dampen.engine.compiled._translate import translate
from dampen.engine.compiled._updates import UPDATES

_ENTRY = """
static __thread char *memory;
static __thread size_t memory_bytes;

typedef struct {{
    char **in, **out, **first, **second;
    const int64_t *in_s, *in_m, *out_bytes;
    int64_t M, n_trained;
    const rule_t *rule;
    const double *rates, *decays;
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
static void one(const call_t *c, int64_t k, char *scratch) {{
    char *i[{inputs}], *o[{outputs}], *gradients = scratch + {scratch};
    for (int j = 0; j < {inputs}; ++j) i[j] = c->in[j] + k / c->M * c->in_s[j] + k % c->M * c->in_m[j];
    for (int j = 0; j < {outputs}; ++j) {{
        o[j] = c->out[j] + k * c->out_bytes[j];
        if (c->rule && j < c->n_trained) o[j] = gradients, gradients += (c->out_bytes[j] + 63) / 64 * 64;
    }}
    step_member(i, o, scratch);
    for (int j = c->rule ? c->n_trained - 1 : -1; j >= 0; --j) {{
        {type} *m = c->first ? ({type} *)(c->first[j] + k * c->out_bytes[j]) : NULL;
        {type} *v = c->second ? ({type} *)(c->second[j] + k * c->out_bytes[j]) : NULL;
        update_{type}(({type} *)i[j], m, v, ({type} *)o[j], c->out_bytes[j] / sizeof({type}), c->rule, c->rates[k],
                      c->decayed[j] ? c->decays[k] : 0);
    }}
}}

void run(const call_t *c, int64_t members, int64_t threads) {{
    size_t bytes = {scratch};
    for (int j = 0; c->rule && j < c->n_trained; ++j) bytes += (c->out_bytes[j] + 63) / 64 * 64;
    if (threads == 1) {{ /* the BLAS has threads of its own, which must not begin inside of ours */
        for (int64_t k = 0; k < members; ++k) one(c, k, memory_of(bytes));
        return;
    }}
    #pragma omp parallel num_threads(threads)
    {{
        char *scratch = memory_of(bytes);
        const int before = blas_threads(1);
        #pragma omp for schedule(static)
        for (int64_t k = 0; k < members; ++k) one(c, k, scratch);
        blas_threads(before);
    }}
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

    def numbers(self) -> list[float]:
        """Return what the compiled code takes of it."""
        corrections = [1 - beta**self.steps for beta in self.betas]
        kind = ("sgd", "adam", "adamw").index(self.kind)
        return [kind, *self.betas, self.eps, *corrections, self.momentum, self.nesterov]


class _Call(ctypes.Structure):
    """What the compiled code is given, `call_t` there."""

    _fields_ = (
        *[(name, ctypes.c_void_p) for name in ("in_", "out", "first", "second", "in_s", "in_m", "out_bytes")],
        *[(name, ctypes.c_int64) for name in ("M", "n_trained")],
        *[(name, ctypes.c_void_p) for name in ("rule", "rates", "decays", "decayed")],
    )


class CompiledStep:
    """What `function` does for one member, for all of them.

    Args:
        function: takes a member's tensors, as they were recorded, and returns others.
        inputs: of one member.
        kinds: of each input, whether it differs by seed, and by setting.

    Raises:
        Untranslatable: it does something that has no translation.
        NoCompiler: it can't be compiled here.
        NotRecordable: it reads a tensor's values.
    """

    def __init__(
        self,
        function: Callable[..., Sequence[Tensor]],
        inputs: Sequence[Tensor],
        kinds: Sequence[tuple[bool, bool]],
    ):
        recording = operations(function, inputs)
        translation = translate(recording, "step")
        self._constants = [t for _, t in _constants(recording)]
        self._kinds, self._layouts = list(kinds), [_layout(t, kind) for t, kind in zip(inputs, kinds, strict=True)]
        self._outputs = translation.outputs
        n_in, n_out = len(inputs) + len(self._constants), len(translation.outputs)
        c_type = C_TYPES[inputs[0].dtype]
        entry = _ENTRY.format(scratch=max(64, translation.scratch), inputs=n_in, outputs=n_out, type=c_type)
        self._run = built(HEADER + UPDATES + translation.code + entry).run
        pointers, numbers = ctypes.c_void_p * n_in, ctypes.c_int64 * n_in
        self._in, self._in_s, self._in_m = pointers(), numbers(), numbers()
        self._out, self._out_bytes = (ctypes.c_void_p * n_out)(), (ctypes.c_int64 * n_out)()
        self._run.argtypes = [ctypes.c_void_p] + [ctypes.c_int64] * 2
        self._run.restype = None
        self._call = _Call(*(ctypes.addressof(a) for a in (self._in, self._out)))
        self._call.in_s, self._call.in_m = ctypes.addressof(self._in_s), ctypes.addressof(self._in_m)
        self._call.out_bytes = ctypes.addressof(self._out_bytes)
        for i, t in enumerate(self._constants, len(inputs)):
            self._in[i] = t.data_ptr()

    def __call__(self, inputs: Sequence[Tensor], S: int, M: int, update: Update | None = None) -> list[Tensor]:
        """Return the outputs of all members, `[S, M, ...]` each.

        Args:
            inputs: as for one member, of all.
            S: seeds.
            M: settings.
            update: what is done with the first outputs, the gradients of the first inputs; they are then not returned.
        """
        held = self._point(inputs)
        n = 0 if update is None else len(update.decayed)
        outputs = []
        for i, (shape, dtype) in enumerate(self._outputs):
            self._out_bytes[i] = dtype.itemsize * math.prod(shape)
            if i >= n:
                outputs.append(torch.empty(S, M, *shape[2:], dtype=dtype))
                self._out[i] = outputs[-1].data_ptr()
        threads = torch.get_num_threads()
        call = self._call
        call.M, call.n_trained, call.rule, call.first, call.second = M, n, None, None, None
        if update is not None:
            slots = [(ctypes.c_void_p * n)(*(t.data_ptr() for t in kind)) for kind in update.slots]
            rule = (ctypes.c_double * 8)(*update.numbers())
            decayed = (ctypes.c_uint8 * n)(*update.decayed)
            call.rule, call.decayed = ctypes.addressof(rule), ctypes.addressof(decayed)
            call.rates, call.decays = update.rates.data_ptr(), update.decays.data_ptr()
            call.first, call.second = [*map(ctypes.addressof, slots), None, None][:2]
        self._run(ctypes.addressof(call), S * M, threads if S * M >= threads else 1)
        del held
        return outputs

    def _point(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Tell the compiled code where the inputs lie, and return what must live until it has run."""
        held = []
        for i, (t, (of_seeds, of_settings), layout) in enumerate(zip(inputs, self._kinds, self._layouts, strict=True)):
            if _layout(t, (of_seeds, of_settings)) != layout:
                t = t.contiguous()
            held.append(t)
            self._in[i] = t.data_ptr()
            size, strides, d = t.element_size(), t.stride(), int(of_seeds)
            self._in_s[i] = strides[0] * size if of_seeds and t.shape[0] > 1 else 0
            self._in_m[i] = strides[d] * size if of_settings and t.shape[d] > 1 else 0
        return held


def _constants(recording: object) -> list[tuple[str, Tensor]]:
    nodes = [n for n in recording.graph.nodes if n.op == "get_attr"]  # type: ignore[attr-defined]
    return [(n.target, getattr(recording.constants, n.target)) for n in nodes]  # type: ignore[attr-defined]


def _layout(t: Tensor, kind: tuple[bool, bool]) -> tuple[tuple[int, int], ...]:
    """Return sizes and strides of a member's part."""
    lead = sum(kind)
    return tuple((n, stride) for n, stride in zip(t.shape[lead:], t.stride()[lead:], strict=True) if n != 1)
