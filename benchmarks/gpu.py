"""Seconds per epoch and member on one GPU: the mission's network on Fashion-MNIST, from 1 to 1024 members.

784-256-128-10 with dropout, batch 128, Adam, 60,000 training rows; beside it the ordinary loop with its rows on the
GPU, and the device's own speed of matrix products. Run as `python -m benchmarks.gpu --json`; without a GPU it says so
and ends with 2.
"""

import statistics
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

import dampen
from benchmarks import rows
from benchmarks.rows import Row

DEVICE = "cuda"
MEMBERS = (1, 16, 64, 256, 1024)
_SIDE = 8192


def seconds(run: Callable[[], object]) -> float:
    """Return how long a call takes until the GPU is done."""
    torch.cuda.synchronize()
    begun = time.perf_counter()
    run()
    torch.cuda.synchronize()
    return time.perf_counter() - begun


def population(K: int, epochs: int, precision: str, data: dampen.Data, measured: bool) -> Callable[[], object]:
    """Return a training of K settings, decays and dropout rates; `measured` after every epoch on all rows."""
    settings = [dampen.Setting(weight_decay=1e-6 * (k // 8), dropout=0.05 * (k % 8)) for k in range(K)]
    members = dampen.Population(dampen.mlp(256, 128, dropout=(0.3, 0.5)), settings, [0])
    how = {"optimizer": "adam", "precision": precision, "device": DEVICE, "batch_size": 128}
    return lambda: members.fit(data, epochs=epochs, evaluate_every=1 if measured else None, **how)


def plain(data: dampen.Data) -> Callable[[], object]:
    """Return an epoch of the ordinary loop, its rows on the GPU."""
    x, y = data.train.features.flatten(1).to(DEVICE), data.train.targets.to(DEVICE)
    network = dampen.mlp(256, 128, dropout=(0.3, 0.5))(784, 10).to(DEVICE)
    optimizer = torch.optim.Adam(network.parameters(), fused=True)

    def epoch() -> None:
        for batch in torch.randperm(len(x), device=DEVICE).split(128):
            optimizer.zero_grad()
            F.cross_entropy(network(x[batch]), y[batch]).backward()
            optimizer.step()

    return epoch


def peak(dtype: torch.dtype) -> float:
    """Return the operations a second of a large matrix product."""
    a = torch.randn(_SIDE, _SIDE, device=DEVICE).to(dtype)
    a @ a
    return 2 * _SIDE**3 / statistics.median(seconds(lambda: a @ a) for _ in range(5))


def main() -> None:
    """Measure and print."""
    options = rows.parser(__doc__).parse_args()
    if not torch.cuda.is_available():
        print("benchmarks.gpu needs a GPU that torch sees; there is none here", file=sys.stderr)
        sys.exit(2)
    data = dampen.load("fashion-mnist")
    assert isinstance(data, dampen.Data)
    found = []
    for precision in ("float32", "bfloat16"):
        whole = seconds(population(192, 10, precision, data, measured=True))
        found.append(Row(f"192 members x 10 epochs, measured each epoch, {precision}", whole, "s", 20, most=True))
    loop = plain(data)
    loop()
    one = statistics.median(seconds(loop) for _ in range(3))
    found.append(Row("plain loop, float32: an epoch", one, "s"))
    for precision in ("float32", "bfloat16"):
        for K in MEMBERS:
            two, first = (seconds(population(K, n, precision, data, measured=False)) for n in (2, 1))
            found.append(Row(f"K={K} {precision}: a member's epoch", 1000 * (two - first) / K, "ms"))
            found.append(Row(f"K={K} {precision}: times as fast as the plain loop", one * K / (two - first)))
    facts = {
        "device": torch.cuda.get_device_name(),
        "float32 TFLOP/s": peak(torch.float32) / 1e12,
        "bfloat16 TFLOP/s": peak(torch.bfloat16) / 1e12,
    }
    rows.show(found, facts, options.json)


if __name__ == "__main__":
    main()
