"""Closed forms of linear regression with weight decay: gradient descent after t steps, and ridge regression.

The penalised loss `1 / (2 N) * ||X w + b - y||^2 + lambda / 2 * ||w||^2` has the gradient `H theta - c` in
`theta = (w, b)`, with `A = X~' X~ / N`, `c = X~' y / N`, `X~` the rows with a 1 for the bias, and
`H = A + lambda * diag(1, ..., 1, 0)`: the bias is not decayed. Gradient descent is then
`theta_t = theta_ridge + (I - lr * H)^t (theta_0 - theta_ridge)` (Goodfellow, Bengio and Courville 2016, "Deep
Learning", section 7.8, equations 7.33 to 7.35, there for theta_0 = 0), and its limit is ridge regression (Hoerl and
Kennard 1970, equation 2.1).

The rows span few directions of w. In all others the loss is flat, and decay alone moves w, by a factor
`(1 - lr * lambda)^t`: those need no matrix.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from dampen.data import Data

_FLAT = 1e-12  # curvature below which a direction is taken to be flat; the loss is of order 1


@dataclass(frozen=True)
class Solution:
    """A weight vector and a bias for each of M weight decays.

    Args:
        weight: `[M, inputs]`.
        bias: `[M]`.
    """

    weight: Float64[Tensor, "M D"]
    bias: Float64[Tensor, " M"]


def solve(
    features: Float[Tensor, "N D"],
    targets: Float[Tensor, " N"],
    weight: Float[Tensor, " D"],
    bias: Float[Tensor, ""],
    lr: float,
    steps: int,
    weight_decays: Float64[Tensor, " M"],
) -> tuple[Solution, Solution]:
    """Return gradient descent after `steps` steps from `(weight, bias)`, and ridge regression, in float64."""
    X, y, start = features.double(), targets.double(), weight.double()
    V = torch.linalg.svd(X, full_matrices=False).Vh.T  # the directions that the rows span, [D, R]
    rows = torch.cat([X @ V, torch.ones(len(X), 1, dtype=X.dtype)], 1)
    N, R = len(rows), V.shape[1]
    decayed = torch.ones(R + 1, dtype=X.dtype)
    decayed[-1] = 0
    H = rows.T @ rows / N + weight_decays[:, None, None] * torch.diag(decayed)
    curvature, directions = torch.linalg.eigh(H)  # [M, R + 1], [M, R + 1, R + 1]
    pull = (rows.T @ y / N) @ directions
    theta = torch.cat([V.T @ start, bias.double()[None]]) @ directions

    flat = curvature.abs() < _FLAT
    limit = torch.where(flat, 0, pull / torch.where(flat, 1, curvature))
    remaining = (1 - lr * curvature) ** steps
    moved = torch.where(flat, theta + lr * steps * pull, limit + remaining * (theta - limit))

    unseen = start - V @ (V.T @ start)
    forgotten = ((1 - lr * weight_decays) ** steps)[:, None] * unseen
    return _back(moved, directions, V, forgotten), _back(limit, directions, V, torch.zeros_like(forgotten))


def losses_and_norms(
    data: Data,
    weight: Float[Tensor, " D"],
    bias: Float[Tensor, ""],
    lr: float,
    steps: int,
    weight_decays: Float64[Tensor, " M"],
) -> dict[str, Float64[Tensor, " M"]]:
    """Return test loss (half the mean squared error) and weight norm of both closed forms, by name."""
    gradient_descent, ridge = solve(data.train.features, data.train.targets, weight, bias, lr, steps, weight_decays)
    results: dict[str, Tensor] = {}
    for name, solution in (("closed_form", gradient_descent), ("ridge", ridge)):
        outputs = data.test.features.double() @ solution.weight.T + solution.bias
        results[f"{name}_test_loss"] = (outputs - data.test.targets.double()[:, None]).square().mean(0) / 2
        results[f"{name}_l2_norm"] = solution.weight.norm(dim=1)
    return results


def _back(theta: Tensor, directions: Tensor, V: Tensor, unseen: Tensor) -> Solution:
    """Turn coordinates along the eigenvectors back into weights and bias."""
    seen = (directions @ theta[..., None]).squeeze(-1)
    return Solution(seen[:, :-1] @ V.T + unseen, seen[:, -1])
