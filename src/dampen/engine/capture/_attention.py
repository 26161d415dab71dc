"""Attention written out, so that its weights can be dropped like any other tensor and stacked over members."""

import math
import types
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None,
    dropout_p: float,
    is_causal: bool,
    scale: float | None,
    enable_gqa: bool,
    drop: Callable[[Tensor, float], Tensor],
) -> Tensor:
    """Attend as `F.scaled_dot_product_attention` documents it; `drop(weights, p)` drops attention weights."""
    if enable_gqa:
        repeats = query.shape[-3] // key.shape[-3]
        key, value = key.repeat_interleave(repeats, -3), value.repeat_interleave(repeats, -3)
    L, S = query.shape[-2], key.shape[-2]
    scores = query @ key.transpose(-2, -1) * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    if is_causal:
        attn_mask = torch.ones(L, S, dtype=torch.bool, device=query.device).tril()
    if attn_mask is not None:
        if attn_mask.dtype == torch.bool:
            scores = scores.masked_fill(attn_mask.logical_not(), -math.inf)
        else:
            scores = scores + attn_mask
    weights = scores.softmax(-1)
    if dropout_p > 0:
        weights = drop(weights, dropout_p)
    return weights @ value


def attention_arguments(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> dict[str, Any]:
    return locals()


def without_override_check(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a torch function written in Python whose body runs although a mode is on: it hands nothing to it."""
    unseen = dict.fromkeys(("has_torch_function", "has_torch_function_unary"), lambda *_: False)
    scope = dict(function.__globals__) | unseen
    copy = types.FunctionType(function.__code__, scope, function.__name__, function.__defaults__, function.__closure__)
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


multi_head_attention_body = without_override_check(F.multi_head_attention_forward)
