"""How C computes an element of each elementwise operation."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from dampen.engine.compiled._rewrite import gelu_slope, mish_slope, silu_slope

_aten = torch.ops.aten

Expression = Callable[[list[str], dict[str, str], str], str]
"""Takes the operands as C texts, named ones apart, and the C type of the result; returns a C expression."""


def number(value: Any, c_type: str) -> str:
    """Return a Python number as C text."""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, int):
        return f"({c_type}){value}"
    if math.isnan(value):
        return f"({c_type})NAN"
    if math.isinf(value):
        return f"({c_type}){'-' if value < 0 else ''}INFINITY"
    return f"({c_type}){value!r}"


def _call(name: str) -> Expression:
    return lambda a, k, t: f"{name}{'f' if t == 'float' else ''}({a[0]})"


def _own(name: str) -> Expression:
    return lambda a, k, t: f"{name}_{t}({', '.join(a)})"


def _text(text: str) -> Expression:
    def expression(a: list[str], k: dict[str, str], t: str) -> str:
        return text.format(*a, t=t)

    return expression


def _add(sign: str) -> Expression:
    def expression(a: list[str], k: dict[str, str], t: str) -> str:
        alpha = k.get("alpha", a[2] if len(a) > 2 else None)
        return f"{a[0]} {sign} {a[1] if alpha is None else f'{alpha} * {a[1]}'}"

    return expression


def _addc(sign: str) -> Expression:
    def expression(a: list[str], k: dict[str, str], t: str) -> str:
        value = k.get("value")
        return f"{a[0]} + {'' if value is None else f'{value} * '}{a[1]} {sign} {a[2]}"

    return expression


def _clamp(a: list[str], k: dict[str, str], t: str) -> str:
    low = k.get("min", a[1] if len(a) > 1 else None)
    high = k.get("max", a[2] if len(a) > 2 else None)
    text = a[0]
    if low not in (None, "None"):
        text = f"({text} < {low} ? {low} : {text})"
    if high not in (None, "None"):
        text = f"({text} > {high} ? {high} : {text})"
    return text


def _power(a: list[str], k: dict[str, str], t: str) -> str:
    exponent = float(a[1].split(")")[-1])
    if exponent == int(exponent) and 0 < exponent <= 4:
        return "(" + " * ".join([a[0]] * int(exponent)) + ")"
    if exponent == 0.5:
        return _call("sqrt")(a, k, t)
    if exponent == -0.5:
        return f"(({t})1 / {_call('sqrt')(a, k, t)})"
    return f"pow{'f' if t == 'float' else ''}({a[0]}, {a[1]})"


def _gelu(c: str) -> Expression:
    """Return an expression in which `{kind}` is `tanh` or `erf`, as the operation was asked for."""

    def build(a: list[str], k: dict[str, str], t: str) -> str:
        return c.format(*a, kind="tanh" if "tanh" in k.get("approximate", "") else "erf", t=t)

    return build


def _elu(a: list[str], k: dict[str, str], t: str) -> str:
    alpha, scale, inner = [*a[1:], *["1"] * (4 - len(a))]
    return f"({a[0]} > 0 ? {scale} * {a[0]} : {scale} * {alpha} * (exp_{t}({inner} * {a[0]}) - 1))"


def _elu_backward(a: list[str], k: dict[str, str], t: str) -> str:
    g, alpha, scale, inner, is_result, x = a
    if is_result == "1":
        return f"({x} > 0 ? {g} * {scale} : {g} * {inner} * ({x} + {scale} * {alpha}))"
    return f"({x} > 0 ? {g} * {scale} : {g} * {inner} * {scale} * {alpha} * exp_{t}({inner} * {x}))"


def _leaky(a: list[str], k: dict[str, str], t: str) -> str:
    return f"({a[0]} > 0 ? {a[0]} : {a[0]} * {a[1] if len(a) > 1 else f'({t})0.01'})"


def _softplus(a: list[str], k: dict[str, str], t: str) -> str:
    return f"softplus_{t}({', '.join([*a, *['1', '20'][len(a) - 1 :]])})"


_COMPARE = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<", "eq": "==", "ne": "!="}
_UNARY = {
    "neg": _text("-{0}"),
    "abs": _text("({0} < 0 ? -{0} : {0})"),
    "exp": _own("exp"),
    "expm1": _call("expm1"),
    "log": _call("log"),
    "log1p": _call("log1p"),
    "log2": _call("log2"),
    "sqrt": _call("sqrt"),
    "rsqrt": lambda a, k, t: f"({t})1 / {_call('sqrt')(a, k, t)}",
    "reciprocal": _text("({t})1 / {0}"),
    "sigmoid": _own("sigmoid"),
    "tanh": _own("tanh"),
    "erf": _call("erf"),
    "sin": _call("sin"),
    "cos": _call("cos"),
    "floor": _call("floor"),
    "ceil": _call("ceil"),
    "trunc": _call("trunc"),
    "round": _call("rint"),
    "square": _text("{0} * {0}"),
    "relu": _text("({0} > 0 ? {0} : ({0} == {0} ? ({t})0 : {0}))"),
    "sign": _text("(({0} > 0) - ({0} < 0))"),
    "sgn": _text("(({0} > 0) - ({0} < 0))"),
    "logical_not": _text("!{0}"),
    "bitwise_not": _text("!{0}"),
    "silu": _text("{0} * sigmoid_{t}({0})"),
    "mish": _text("{0} * tanh_{t}(softplus_{t}({0}, 1, 20))"),
    "hardswish": _text("{0} * ({0} < -3 ? ({t})0 : {0} > 3 ? ({t})1 : {0} / 6 + ({t})0.5)"),
}

EXPRESSIONS: dict[Any, Expression] = {}
"""By operation; those in place as the others, which the graph's order allows where nobody reads the old value."""


def _register(name: str, overloads: tuple[str, ...], expression: Expression) -> None:
    written = ("out", "grad_input", *(f"{overload}_out" for overload in overloads))  # that take where to write
    for suffix in ("", "_"):
        packet = getattr(_aten, name + suffix, None)
        for overload in (*overloads, *written) if packet is not None else ():
            if hasattr(packet, overload):
                EXPRESSIONS[getattr(packet, overload)] = expression


for _name, _expression in _UNARY.items():
    _register(_name, ("default",), _expression)
for _name, _sign in _COMPARE.items():
    _register(_name, ("Tensor", "Scalar"), _text(f"({{0}} {_sign} {{1}})"))
for _name, _sign in {"add": "+", "sub": "-"}.items():
    _register(_name, ("Tensor", "Scalar"), _add(_sign))
_register("rsub", ("Scalar", "Tensor"), _text("{1} - {0}"))
_register("mul", ("Tensor", "Scalar"), _text("{0} * {1}"))
_register("div", ("Tensor", "Scalar"), _text("{0} / {1}"))
_register("addcmul", ("default",), _addc("*"))
_register("addcdiv", ("default",), _addc("/"))
_register("lerp", ("Scalar", "Tensor"), _text("{0} + {2} * ({1} - {0})"))
_register("pow", ("Tensor_Scalar",), _power)
_register("clamp", ("default",), _clamp)
_register("clamp_min", ("default",), _clamp)
_register("clamp_max", ("default",), _text("({0} > {1} ? {1} : {0})"))
_register("hardtanh", ("default",), _clamp)
_register("maximum", ("default",), _text("({0} > {1} || {0} != {0} ? {0} : {1})"))
_register("minimum", ("default",), _text("({0} < {1} || {0} != {0} ? {0} : {1})"))
_register("logical_and", ("default",), _text("({0} && {1})"))
_register("logical_or", ("default",), _text("({0} || {1})"))
_register("bitwise_and", ("Tensor",), _text("({0} & {1})"))
_register("bitwise_or", ("Tensor",), _text("({0} | {1})"))
_register("where", ("self", "ScalarSelf", "ScalarOther"), _text("({0} ? {1} : {2})"))
_register("masked_fill", ("Scalar", "Tensor"), _text("({1} ? {2} : {0})"))
_register("gelu", ("default",), _gelu("gelu_{kind}_{t}({0})"))
_register("elu", ("default",), _elu)
_register("leaky_relu", ("default",), _leaky)
_register("softplus", ("default",), _softplus)
_register("threshold_backward", ("default",), _text("({1} <= {2} ? ({t})0 : {0})"))
_register("sigmoid_backward", ("default",), _text("{0} * {1} * (1 - {1})"))
_register("tanh_backward", ("default",), _text("{0} * (1 - {1} * {1})"))
_register("silu_backward", ("default",), _text("{0} * silu_slope_{t}({1})"))
_register("gelu_backward", ("default",), _gelu("{0} * gelu_{kind}_slope_{t}({1})"))
_register("elu_backward", ("default",), _elu_backward)
_register("leaky_relu_backward", ("default",), _text("({1} > 0 ? {0} : {0} * {2})"))
_register("softplus_backward", ("default",), _own("softplus_slope"))
_register("hardtanh_backward", ("default",), _text("({1} <= {2} || {1} >= {3} ? ({t})0 : {0})"))
_register(
    "hardswish_backward",
    ("default",),
    _text("{0} * ({1} < -3 ? ({t})0 : {1} > 3 ? ({t})1 : {1} / 3 + ({t})0.5)"),
)
EXPRESSIONS[silu_slope], EXPRESSIONS[mish_slope] = _own("silu_slope"), _own("mish_slope")
EXPRESSIONS[gelu_slope] = _gelu("gelu_{kind}_slope_{t}({0})")
for _name in ("_to_copy", "clone", "alias", "detach", "lift_fresh"):
    _register(_name, ("default",), _text("{0}"))
_register("copy", ("default",), _text("{1}"))
_register("fill", ("Scalar", "Tensor"), _text("{1}"))
_register("zero", ("default",), _text("({t})0"))
_register("mish_backward", ("default",), _text("{0} * mish_slope_{t}({1})"))
_register("mse_loss", ("default",), _text("({0} - {1}) * ({0} - {1})"))
_register("mse_loss_backward", ("default",), _text("2 * ({1} - {2}) * {0}"))

OVERWRITING = {
    getattr(getattr(_aten, name), overload)
    for name, overloads in {
        "copy": ["default"], "copy_": ["default"], "fill": ["Scalar", "Tensor"], "fill_": ["Scalar", "Tensor"],
        "zero": ["default"], "zero_": ["default"],
    }.items()
    for overload in overloads
}  # fmt: skip
"""Operations that do not read what their first argument held."""

CONSTANTS: dict[Any, Callable[[fx.Node], Any]] = {
    _aten.zeros_like.default: lambda node: 0,
    _aten.ones_like.default: lambda node: 1,
    _aten.zeros.default: lambda node: 0,
    _aten.ones.default: lambda node: 1,
    _aten.new_zeros.default: lambda node: 0,
    _aten.new_ones.default: lambda node: 1,
    _aten.full_like.default: lambda node: node.args[1],
    _aten.full.default: lambda node: node.args[1],
    _aten.new_full.default: lambda node: node.args[2],
    _aten.scalar_tensor.default: lambda node: node.args[0],
}
"""By operation, the number that fills what it makes."""
