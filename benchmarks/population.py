"""Seconds per epoch and member: the fused population against ordinary PyTorch, every row in one run.

The mission's network (784-256-128-10, dropout 0.3 and 0.5, batch 128, Adam) on Fashion-MNIST's 60,000 training rows,
then a table's network, a small one, linear regression and a small convolutional network. What is compared runs by
turns, and rows report medians and their ratio to a bar. Run as `python -m benchmarks.population --json`.
"""

import itertools
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import dampen
from benchmarks import rivals, rows
from benchmarks.rows import Row

WIDTHS = (784, 256, 128, 10)
FIXED_CHUNKS = (4, 8, 16, 32)
_MEMORY_ROW = """
import sys, torch, dampen
from benchmarks import rivals
K, chunk = int(sys.argv[1]), int(sys.argv[2]) or None
rows = torch.randn(1280, 784), torch.randint(10, (1280,))
settings = [dampen.Setting(weight_decay=1e-6 * k) for k in range(K)]
population = dampen.Population(rivals.Net, settings, [0], chunk=chunk)
population.fit(rows, epochs=1, optimizer="adam")
explained = population.explain()
peak = next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM'))
print(int(peak) * 1024, explained.expected_bytes, explained.chunk)
"""


def fashion(n_rows: int) -> tuple[Tensor, Tensor, str]:
    """Return Fashion-MNIST's pixels `[N, 28, 28]` and classes; random ones of the same size where it is not there."""
    if os.environ.get("DAMPEN_DATA"):
        data = dampen.load("fashion-mnist").train
        pixels = ((data.features[:n_rows] * 0.5 + 0.5) * 255).round().to(torch.uint8).view(-1, 28, 28)
        return pixels, data.targets[:n_rows], "Fashion-MNIST"
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (n_rows, 28, 28), dtype=torch.uint8, generator=generator)
    return pixels, torch.randint(10, (n_rows,), generator=generator), "random pixels"


def population(
    model: Callable[..., nn.Module],
    K: int,
    rows: tuple[Tensor, Tensor],
    *,
    chunk: int | None = None,
    epochs_a_turn: int = 1,
    rates: Any = None,
    **options: Any,
) -> rivals.Epoch:
    """Prepare K settings of one seed, with a decay each; every call trains some more epochs and measures no rows."""
    knobs = {} if rates is None else {"dropout": rates}
    settings = [dampen.Setting(weight_decay=1e-6 * k, **knobs) for k in range(K)]
    members = dampen.Population(model, settings, [0], chunk=chunk)
    reached = 0

    def turn() -> None:
        nonlocal reached
        reached += epochs_a_turn
        members.fit(rows, epochs=10**6, until=reached, evaluate_every=None, **options)

    return turn


def peak(dtype: torch.dtype) -> rivals.Epoch:
    """Return a large matrix product: 3 times 2 * 2048^3 operations."""
    a, b = torch.randn(2, 2048, 2048).to(dtype)

    def products() -> None:
        for _ in range(3):
            a @ b

    return products


def by_turns(runs: dict[str, rivals.Epoch], turns: int, *, warm_up: bool = True) -> dict[str, list[float]]:
    """Return seconds of each run in each turn; one more turn before them warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(0 if warm_up else 1, turns + 1):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            if turn:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def mission(n_rows: int, turns: int) -> tuple[list[Row], str]:
    """Measure the mission's network."""
    pixels, targets, source = fashion(n_rows)
    inputs = ((pixels.float() / 255 - 0.5) / 0.5).flatten(1)
    rows, adam = (inputs, targets), {"batch_size": 128, "optimizer": "adam"}
    ours = dampen.mlp(*WIDTHS[1:-1], dropout=(0.3, 0.5))
    runs: dict[str, rivals.Epoch] = {
        "script": rivals.script(pixels, targets),
        "plain": rivals.plain(rivals.Net(), inputs, targets, 128),
        "vmap K=16": rivals.ensemble(rivals.Net, 16, inputs, targets, 128),
        "mlp K=16": population(lambda: ours(WIDTHS[0], WIDTHS[-1]), 16, rows, **adam),
        "peak": peak(torch.float32),
        "peak bf16": peak(torch.bfloat16),
    }
    members = {"vmap K=16": 16, "mlp K=16": 16}
    for K, precision in itertools.product((1, 4, 16, 64), ("float32", "bfloat16")):
        name = f"K={K}" + (" bf16" if precision == "bfloat16" else "")
        runs[name], members[name] = population(rivals.Net, K, rows, precision=precision, **adam), K
    seconds = by_turns(runs, turns)
    scale = 60_000 / n_rows
    median = {
        name: scale * statistics.median(values) / members.get(name, 1)
        for name, values in seconds.items()
        if not name.startswith("peak")
    }
    weights = [before * after for before, after in itertools.pairwise(WIDTHS)]
    work = 2 * 60_000 * (3 * sum(weights) - weights[0])
    rates = {name: 3 * 2 * 2048**3 / min(seconds[name]) for name in ("peak", "peak bf16")}
    floor = {"": work / rates["peak"], " bf16": work / rates["peak bf16"]}
    found = [Row(f"{name}: seconds per epoch and member", value, "s") for name, value in median.items()]
    found += [
        Row("matrix products, float32", rates["peak"] / 1e9, "GFLOP/s"),
        Row("matrix products, bfloat16", rates["peak bf16"] / 1e9, "GFLOP/s"),
        Row("floor: seconds per epoch and member", floor[""], "s"),
        Row("floor bf16: seconds per epoch and member", floor[" bf16"], "s"),
        Row("script / floor: no engine can be faster than the script by more", median["script"] / floor[""]),
        Row("plain / floor: no engine can be faster than plain by more", median["plain"] / floor[""]),
        Row("K=16 against the script", median["script"] / median["K=16"], bar=11),
        Row("K=16 against plain", median["plain"] / median["K=16"], bar=3.2),
        Row("K=16 against vmap", median["vmap K=16"] / median["K=16"]),
        Row("K=16, share of the floor's speed", floor[""] / median["K=16"], bar=0.8),
        Row("K=64, share of the floor's speed", floor[""] / median["K=64"]),
        Row("K=16 bf16 against the script", median["script"] / median["K=16 bf16"], bar=16),
        Row("K=16: a user's own module / dampen.mlp", median["K=16"] / median["mlp K=16"], bar=1.05, most=True),
        Row("K=1: time / plain's", median["K=1"] / median["plain"], bar=1.15, most=True),
    ]
    return found, source


def table(turns: int) -> list[Row]:
    """Measure a table's network, 25 members of 4,053 rows, against the floor of its products."""
    widths, K, n, epochs = (5, 256, 128, 2), 25, 4_053, 3

    def network() -> nn.Module:
        first, second = (nn.Sequential(nn.Linear(a, b), nn.SiLU(), nn.Dropout(0.1)) for a, b in ((5, 256), (256, 128)))
        return nn.Sequential(first, second, nn.Linear(128, 2))

    rows = torch.randn(n, widths[0]), torch.randint(widths[-1], (n,))
    runs = {
        str(size): population(network, K, rows, batch_size=size, optimizer="adamw", compile=True, epochs_a_turn=epochs)
        for size in (32, 256)
    }
    seconds = by_turns({**runs, "peak": peak(torch.float32)}, turns)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    weights = [before * after for before, after in itertools.pairwise(widths)]
    floor = 2 * n * (3 * sum(weights) - weights[0]) * median["peak"] / (3 * 2 * 2048**3)
    return [
        Row(f"5-256-128-2, K=25, batch {size}: share of the floor's speed", floor * K * epochs / median[size], bar=bar)
        for size, bar in (("32", 0.45), ("256", 0.7))
    ]


def chunks(turns: int) -> list[Row]:
    """Compare the engine's choice of a chunk with fixed ones, for 64 members."""
    rows = torch.randn(60_000, 784)[:7_680], torch.randint(10, (7_680,))
    options = {"batch_size": 128, "optimizer": "adam"}
    runs = {str(chunk): population(rivals.Net, 64, rows, chunk=chunk, **options) for chunk in FIXED_CHUNKS}
    runs["chosen"] = population(rivals.Net, 64, rows, **options)
    median = {name: statistics.median(values) for name, values in by_turns(runs, turns).items()}
    chosen = median.pop("chosen")
    best = min(median, key=lambda name: median[name])
    return [Row(f"K=64: chosen chunk / best fixed one ({best})", chosen / median[best], bar=1.10, most=True)]


def small(turns: int) -> list[Row]:
    """Measure the networks whose steps are short, and the convolutional one."""

    def digits() -> nn.Module:
        return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 10))

    def convolutional() -> nn.Module:
        return nn.Sequential(
            *(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Dropout(0.3), nn.Linear(784, 10)),
        )

    data = dampen.load("digits").train
    features = data.features.flatten(1)
    images = torch.randn(1280, 1, 28, 28), torch.randint(10, (1280,))
    line = torch.randn(20, 200), torch.randn(20)
    network = nn.Linear(200, 1)
    groups = [{"params": [network.weight], "weight_decay": 3.0}, {"params": [network.bias]}]
    ordinary = rivals.plain(
        network,
        line[0],
        line[1].unsqueeze(1),
        5,
        torch.optim.SGD(groups, lr=0.003),
        lambda a, b: (a - b).square().mean() / 2,
    )
    adam = {"optimizer": "adam"}
    runs = {
        "digits": population(digits, 256, (features, data.targets), batch_size=32, epochs_a_turn=5, **adam),
        "digits plain": rivals.plain(digits(), features, data.targets, 32),
        "linear": population(
            lambda: nn.Linear(200, 1),
            1000,
            line,
            epochs_a_turn=100,
            batch_size=5,
            optimizer="sgd",
            lr=0.003,
            loss="half_squared_error",
        ),
        "linear plain": lambda: [ordinary() for _ in range(100)] and None,
        "convolutions": population(convolutional, 16, images, batch_size=128, **adam),
        "convolutions plain": rivals.plain(convolutional(), *images, 128),
    }
    seconds = by_turns(runs, 2 * turns)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    return [
        Row("64-64-10 on digits, K=256, against plain", median["digits plain"] / (median["digits"] / 5 / 256), bar=14),
        Row("linear regression, K=1000, against plain", median["linear plain"] / (median["linear"] / 1000), bar=500),
        Row(
            "two convolutions, K=16, against plain", median["convolutions plain"] / (median["convolutions"] / 16), bar=1
        ),
    ]


def start_up(turns: int) -> list[Row]:
    """Measure from `Population(...)` to the end of the first step, at K=16."""
    rows = torch.randn(128, 784), torch.randint(10, (128,))

    def first_step() -> None:
        population(rivals.Net, 16, rows, optimizer="adam")()

    seconds = by_turns({"first step": first_step}, 2 * turns)
    value = statistics.median(seconds["first step"])
    return [Row("K=16: from Population(...) to the first step", value, "s", bar=0.3, most=True)]


def precision(turns: int) -> list[Row]:
    """Compare test accuracies after three epochs in bfloat16 and in float32, over 8 seeds."""
    if not os.environ.get("DAMPEN_DATA"):
        return []
    data = dampen.load("fashion-mnist")
    final = {}
    for kind in ("float32", "bfloat16"):
        members = dampen.Population(rivals.Net, [dampen.Setting()], range(4 + 2 * turns))
        history = members.fit(data, epochs=3, optimizer="adam", precision=kind, evaluate_every=None)
        final[kind] = history.final("test_accuracy")[:, 0]
    difference = final["bfloat16"] - final["float32"]
    spread = final["float32"].std(ddof=1)
    return [
        Row("test accuracy in float32, 3 epochs", float(final["float32"].mean()), ""),
        Row("test accuracy in bfloat16, 3 epochs", float(final["bfloat16"].mean()), ""),
        Row("difference of the means / spread over seeds", float(abs(difference.mean()) / spread), bar=1, most=True),
    ]


def memory() -> list[Row]:
    """Measure the resident memory that members add, all at once and in chunks, in processes of their own."""

    def peak_of(K: int, chunk: int) -> list[float]:
        command = [sys.executable, "-c", _MEMORY_ROW, str(K), str(chunk)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
        return [float(number) for number in done.stdout.split()]

    small, large, few, cut = peak_of(64, 64), peak_of(256, 256), peak_of(64, 0), peak_of(256, 0)
    return [
        Row("bytes per member, all at once", (large[0] - small[0]) / 192 / 2**20, "MiB"),
        Row("bytes per member as explain() expects them", (large[1] - small[1]) / 192 / 2**20, "MiB"),
        Row("bytes per member, 256 cut into chunks", (cut[0] - few[0]) / 192 / 2**20, "MiB"),
        Row("256 members: at a time", cut[2], "members"),
    ]


def main() -> None:
    """Measure and print."""
    parser = rows.parser(__doc__)
    parser.add_argument("--turns", type=int, default=3, help="turns of each run")
    parser.add_argument("--rows", type=int, default=60_000, help="training rows of the mission's network")
    options = parser.parse_args()
    found, source = mission(options.rows, options.turns)
    found += [
        *table(2 * options.turns),
        *chunks(options.turns),
        *small(options.turns),
        *start_up(options.turns),
        *precision(options.turns),
        *memory(),
    ]
    rows.show(found, {"data": source, "rows": options.rows}, options.json)


if __name__ == "__main__":
    main()
