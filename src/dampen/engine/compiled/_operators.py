"""Operations that are no elementwise ones, and what writes the C of each."""

from typing import Any

import torch

from dampen.engine.compiled._indexing import gather, index, index_add, index_put, scatter_add
from dampen.engine.compiled._kernel import Kernel
from dampen.engine.compiled._normalisation import batch_norm, batch_norm_backward, layer_norm, layer_norm_backward
from dampen.engine.compiled._parts import (
    arange,
    cat,
    embedding,
    embedding_backward,
    flip,
    index_select,
    into_zeros,
    select_place,
    slice_place,
    stack,
    triangle,
)
from dampen.engine.compiled._products import product
from dampen.engine.compiled._reductions import argmax, nll, nll_backward, reduction, softmax, softmax_backward

_aten = torch.ops.aten

_SUM = Kernel(reduction("0", "{acc} + {x}"))
_MEAN = Kernel(reduction("0", "{acc} + {x}", lambda n, c: f"/ ({c}){n}"))
_ANY = Kernel(reduction("0", "({acc} || {x})"))
_ALL = Kernel(reduction("1", "({acc} && {x})"))
_MAX = Kernel(reduction("low", "({x} > {acc} ? {x} : {acc})"))

KERNELS: dict[Any, Kernel] = {
    _aten.bmm.default: Kernel(product),
    _aten.mm.default: Kernel(product),
    _aten.mv.default: Kernel(product),
    _aten.sum.dim_IntList: _SUM,
    _aten.sum.default: _SUM,
    _aten.mean.dim: _MEAN,
    _aten.mean.default: _MEAN,
    _aten.amax.default: _MAX,
    _aten.any.default: _ANY,
    _aten.any.dim: _ANY,
    _aten.all.default: _ALL,
    _aten.all.dim: _ALL,
    _aten.argmax.default: Kernel(argmax),
    _aten._log_softmax.default: Kernel(softmax(log=True)),
    _aten._softmax.default: Kernel(softmax(log=False)),
    _aten._log_softmax_backward_data.default: Kernel(softmax_backward(log=True)),
    _aten._softmax_backward_data.default: Kernel(softmax_backward(log=False)),
    _aten.nll_loss_forward.default: Kernel(nll, several=True),
    _aten.nll_loss2d_forward.default: Kernel(nll, several=True),
    _aten.nll_loss_backward.default: Kernel(nll_backward),
    _aten.nll_loss2d_backward.default: Kernel(nll_backward),
    _aten.native_layer_norm.default: Kernel(layer_norm, several=True),
    _aten.native_layer_norm_backward.default: Kernel(layer_norm_backward, several=True),
    _aten.native_batch_norm.default: Kernel(batch_norm, several=True),
    _aten.native_batch_norm_backward.default: Kernel(batch_norm_backward, several=True),
    _aten.cat.default: Kernel(cat),
    _aten.stack.default: Kernel(stack),
    _aten.tril.default: Kernel(triangle("<=")),
    _aten.triu.default: Kernel(triangle(">=")),
    _aten.index.Tensor: Kernel(index),
    _aten.index_put.default: Kernel(index_put),
    _aten.index_put_.default: Kernel(index_put),
    _aten.index_add.default: Kernel(index_add),
    _aten.index_add_.default: Kernel(index_add),
    _aten.gather.default: Kernel(gather),
    _aten.scatter_add.default: Kernel(scatter_add),
    _aten.scatter_add_.default: Kernel(scatter_add),
    _aten.flip.default: Kernel(flip),
    _aten.slice_backward.default: Kernel(into_zeros(slice_place)),
    _aten.select_backward.default: Kernel(into_zeros(select_place)),
    _aten.index_select.default: Kernel(index_select),
    _aten.embedding.default: Kernel(embedding),
    _aten.embedding_dense_backward.default: Kernel(embedding_backward),
    _aten.arange.start_step: Kernel(arange),
    _aten.arange.start: Kernel(arange),
    _aten.arange.default: Kernel(arange),
}
"""By operation; products with something added are taken apart before."""
