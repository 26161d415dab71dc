"""Seconds per epoch and member: the fused population against a well-written loop in plain PyTorch.

Both train the 784-256-128-10 network with dropout 0.3 and 0.5, batch 128, Adam, on the same random rows, by turns
in one run; the floor is the epoch's multiplications over the rate of large matrix products measured in between.
Run as `python -m benchmarks.population --json`.
"""

import argparse
import itertools
import json
import statistics
import time

import torch
from torch import nn

import dampen

ROWS, BATCH, WIDTHS = 12_800, 128, (784, 256, 128, 10)


def plain(features: torch.Tensor, targets: torch.Tensor) -> float:
    """Train one network for an epoch by an ordinary loop, rows in memory and Adam fused; return its seconds."""
    network = dampen.mlp(*WIDTHS[1:-1], dropout=(0.3, 0.5))(WIDTHS[0], WIDTHS[-1])
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    started = time.perf_counter()
    for rows in torch.randperm(len(features)).split(BATCH):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(features[rows]), targets[rows]).backward()
        optimizer.step()
    return time.perf_counter() - started


def fused(data: dampen.Data, K: int) -> float:
    """Train K settings of one seed for an epoch and measure no rows afterwards; return the seconds per member."""
    settings = [dampen.Setting(dropout=(0.3, 0.5), weight_decay=1e-6 * k) for k in range(K)]
    network = dampen.mlp(*WIDTHS[1:-1], dropout=(0.3, 0.5))
    population = dampen.Population(lambda: network(WIDTHS[0], WIDTHS[-1]), settings, seeds=[0])
    started = time.perf_counter()
    population.fit(data, epochs=1, batch_size=BATCH, optimizer="adam", lr=1e-3)
    return (time.perf_counter() - started) / K


def peak(size: int = 2048) -> float:
    """Return the floating-point operations a second of a large matrix product in float32."""
    a, b = torch.randn(2, size, size)
    started = time.perf_counter()
    for _ in range(3):
        a @ b
    return 3 * 2 * size**3 / (time.perf_counter() - started)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    features, targets = torch.randn(ROWS, WIDTHS[0]), torch.randint(WIDTHS[-1], (ROWS,))
    data = dampen.Data(
        name="random",
        task="classification",
        features=features,
        targets=targets,
        train_rows=torch.arange(ROWS),
        classes=tuple(map(str, range(WIDTHS[-1]))),
    )
    runs = {"plain": lambda: plain(features, targets), "peak": peak}
    runs |= {f"K={K}": (lambda K=K: fused(data, K)) for K in (1, 4, 16)}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(options.repeats + 1):
        for name, run in runs.items():
            seconds[name].append(run())
    median = {name: statistics.median(values[1:]) for name, values in seconds.items()}  # the first warms up
    weights = [before * after for before, after in itertools.pairwise(WIDTHS)]
    floor = 2 * ROWS * (3 * sum(weights) - weights[0]) / median.pop("peak")
    found = {
        "seconds_per_epoch_and_member": median,
        "rows": ROWS,
        "floor": floor,
        "speed_against_plain": {name: median["plain"] / s for name, s in median.items()},
        "share_of_floor": {name: floor / s for name, s in median.items()},
    }
    if options.json:
        print(json.dumps(found))
        return
    for name, value in median.items():
        print(
            f"{name:6} {value:.3f} s  {median['plain'] / value:.2f} x plain  {floor / value:.0%} of the floor's speed"
        )


if __name__ == "__main__":
    main()
