"""Seconds per epoch and member beside JAX: `jit` of an epoch's scan over steps, `vmap` over members, optax's Adam.

Every member has its own dropout rates, decay and learning rate, and members share rows and uniforms, as here. Matrix
products, Adam and masks are compiled as one. The mission's network on 12,800 rows and a small one; what is compared
runs by turns in one process. Needs `pip install jax optax`. Run as `python -m benchmarks.beside_jax --json`.
"""

import itertools
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks import rivals, rows
from benchmarks.population import by_turns, population
from benchmarks.rows import Row

MISSION = (784, 256, 128, 10)
SMALL = (64, 64, 10)
BATCH = {MISSION: 128, SMALL: 32}
ROWS = {MISSION: 12_800, SMALL: 1_437}
MANY = 100 * 784 * 256  # weights of all members, from which on a fifth of the rows is enough


def jaxed(widths: Sequence[int], K: int, inputs: np.ndarray, targets: np.ndarray, batch_size: int) -> rivals.Epoch:
    """Return a function that trains K members for an epoch, as compiled by JAX."""
    import jax
    import optax
    from jax import numpy as jnp

    hidden, n_batches = widths[1:-1], len(inputs) // batch_size

    def loss(weights: Any, x: Any, y: Any, uniforms: Any, rates: Any) -> Any:
        for i, (w, b) in enumerate(weights):
            x = x @ w + b
            if i < len(hidden):
                x = jnp.where(uniforms[i] >= rates[i], jax.nn.relu(x) / (1 - rates[i]), 0.0)
        return optax.softmax_cross_entropy_with_integer_labels(x, y).mean()

    adam = optax.scale_by_adam()

    def step(weights: Any, moments: Any, x: Any, y: Any, uniforms: Any, knobs: Any) -> Any:
        rates, lr, decay = knobs
        value, gradient = jax.value_and_grad(loss)(weights, x, y, uniforms, rates)
        gradient = [(g + decay * w, h) for (g, h), (w, _) in zip(gradient, weights, strict=True)]
        update, moments = adam.update(gradient, moments)
        return jax.tree.map(lambda w, u: w - lr * u, weights, update), moments, value

    members = jax.vmap(step, in_axes=(0, 0, None, None, None, 0))

    @jax.jit
    def epoch(weights: Any, moments: Any, key: Any, x: Any, y: Any, knobs: Any) -> Any:
        order = jax.random.permutation(key, len(x))[: n_batches * batch_size].reshape(n_batches, batch_size)

        def one(carry: Any, index: Any) -> Any:
            weights, moments, key = carry
            key, *keys = jax.random.split(key, 1 + len(hidden))
            uniforms = [jax.random.uniform(k, (batch_size, n)) for k, n in zip(keys, hidden, strict=True)]
            weights, moments, value = members(weights, moments, x[index], y[index], uniforms, knobs)
            return (weights, moments, key), value

        (weights, moments, key), values = jax.lax.scan(one, (weights, moments, key), order)
        return weights, moments, key, values.mean(0)

    def start(key: Any) -> Any:
        keys = jax.random.split(key, len(widths) - 1)
        return [
            (jax.random.normal(k, (n, m)) / np.sqrt(n), jnp.zeros(m))
            for k, (n, m) in zip(keys, itertools.pairwise(widths), strict=True)
        ]

    weights = jax.vmap(start)(jax.random.split(jax.random.key(0), K))
    moments = jax.vmap(adam.init)(weights)
    knobs = (
        [jnp.full(K, 0.3), jnp.full(K, 0.5)][: len(hidden)],
        jnp.full(K, 1e-3),
        1e-6 * jnp.arange(K),
    )
    held = [weights, moments, jax.random.key(1)]
    x, y = jnp.asarray(inputs), jnp.asarray(targets)

    def turn() -> None:
        *held[:], _ = jax.block_until_ready(epoch(*held, x, y, knobs))

    return turn


def network(widths: Sequence[int]) -> Callable[[], nn.Module]:
    """Return what makes the same network of PyTorch's layers."""
    rates = (0.3, 0.5)

    def make() -> nn.Module:
        layers: list[nn.Module] = []
        for i, (n, m) in enumerate(itertools.pairwise(widths)):
            layers += [nn.Linear(n, m)] + ([nn.ReLU(), nn.Dropout(rates[i])] if i < len(widths) - 2 else [])
        return nn.Sequential(*layers)

    return make


def measured(widths: tuple[int, ...], members: Sequence[int], turns: int) -> list[Row]:
    """Measure one network with some numbers of members."""
    batch_size, generator = BATCH[widths], torch.Generator().manual_seed(0)
    found = []
    for K in members:
        n = ROWS[widths] // (5 if K * math.prod(widths[:2]) > MANY else 1)
        data = torch.randn(n, widths[0], generator=generator), torch.randint(widths[-1], (n,), generator=generator)
        scale = ROWS[widths] / n
        theirs = jaxed(widths, K, data[0].numpy(), data[1].numpy(), batch_size)
        begun = time.perf_counter()
        theirs()
        compiling = time.perf_counter() - begun
        runs = {
            "jax": theirs,
            "dampen": population(network(widths), K, data, batch_size=batch_size, optimizer="adam", compile=True),
            "plain": rivals.plain(network(widths)(), *data, batch_size),
        }
        median = {name: scale * statistics.median(values) for name, values in by_turns(runs, turns).items()}
        name = f"{'-'.join(map(str, widths))}, K={K}"
        found += [
            Row(f"{name}: dampen, seconds per epoch and member", median["dampen"] / K, "s"),
            Row(f"{name}: JAX, seconds per epoch and member", median["jax"] / K, "s"),
            Row(f"{name}: JAX, first epoch, compiled", compiling, "s"),
            Row(f"{name}: JAX / dampen", median["jax"] / median["dampen"], bar=1.5 if K == 16 else 1.0),
            Row(f"{name}: plain PyTorch / dampen", K * median["plain"] / median["dampen"]),
        ]
    return found


def main() -> None:
    """Measure and print."""
    parser = rows.parser(__doc__)
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    try:
        import jax  # noqa: F401
    except ImportError:
        print("benchmarks.beside_jax needs JAX: pip install jax optax", file=sys.stderr)
        sys.exit(2)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    found = measured(MISSION, (1, 16, 64, 256), options.turns) + measured(SMALL, (256,), options.turns)
    rows.show(found, {"threads": torch.get_num_threads(), "rows": ROWS[MISSION]}, options.json)


if __name__ == "__main__":
    main()
