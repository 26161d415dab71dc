"""Monte-Carlo dropout: 100 samples of 10,000 images, against the usual loop, other libraries and the matrix products.

The mission's network (784-256-128-10, dropout 0.3 and 0.5), float32. The usual loop puts the whole model into training
mode and passes 100 times over batches of 128; Baal's and torch-uncertainty's own ways are measured where they are
installed. The floor is what the matrix products take that any method needs: the first layer once, the others for every
sample; at the measured peak of a large product, and as these very products run with nothing between them. Peak memory
is that of a process of its own, less what loading data and model takes.

Run as `python -m benchmarks.uncertainty --json`.
"""

import itertools
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

import dampen
from benchmarks import rivals, rows
from benchmarks.population import by_turns, fashion, peak
from benchmarks.rows import Row

SAMPLES, BATCH = 100, 128
WIDTHS = (784, 256, 128, 10)
_MEMORY = """
import sys, torch, dampen
from benchmarks import rivals, uncertainty
network, x = rivals.Net().eval(), torch.randn(10_000, 784)
dampen.mc_dropout(network, x[:64], samples=2)
def peak():
    return int(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM'))) * 1024
before = peak()
if sys.argv[1] == "loop":
    uncertainty.loop(network, x, uncertainty.SAMPLES)()
else:
    dampen.mc_dropout(network, x, samples=uncertainty.SAMPLES)
print(peak() - before)
"""


def loop(network: nn.Module, inputs: Tensor, samples: int) -> Callable[[], None]:
    """Sample as it is usually written: training mode, a pass over batches for every sample, everything kept."""

    def run() -> None:
        network.train()
        with torch.no_grad():
            drawn = [torch.cat([network(part).softmax(-1) for part in inputs.split(BATCH)]) for _ in range(samples)]
            every = torch.stack(drawn)
            mean, _ = every.mean(0), every.std(0)
            -(mean * mean.clamp_min(1e-12).log()).sum(-1)
        network.eval()

    return run


def products(inputs: Tensor) -> Callable[[], None]:
    """Return the matrix products alone, in parts of the size that suits them."""
    first, second, third = (torch.randn(a, b) for a, b in itertools.pairwise(WIDTHS))
    rows_at_once = 2048
    hidden, narrow = torch.randn(rows_at_once, WIDTHS[1]), torch.randn(rows_at_once, WIDTHS[2])
    outputs = torch.empty(rows_at_once, WIDTHS[2]), torch.empty(rows_at_once, WIDTHS[3])

    def run() -> None:
        for part in inputs.split(BATCH * 4):
            part @ first
        for _ in range(round(SAMPLES * len(inputs) / rows_at_once)):
            torch.mm(hidden, second, out=outputs[0])
            torch.mm(narrow, third, out=outputs[1])

    return run


def baal(network: nn.Module, inputs: Tensor) -> Callable[[], None]:
    """Sample by Baal's module wrapper and its replication of the batch."""
    from baal.bayesian.dropout import patch_module

    patched = patch_module(network, inplace=False).eval()

    def run() -> None:
        with torch.no_grad():
            for part in inputs.split(BATCH):
                copies = part.repeat_interleave(SAMPLES, 0)
                patched(copies).view(len(part), SAMPLES, -1).softmax(-1).mean(1)

    return run


def torch_uncertainty(network: nn.Module, inputs: Tensor) -> Callable[[], None]:
    """Sample by torch-uncertainty's wrapper, whose batch is repeated."""
    from torch_uncertainty.methods import mc_dropout

    wrapped = mc_dropout(network, num_estimators=SAMPLES, on_batch=True).eval()

    def run() -> None:
        with torch.no_grad():
            for part in inputs.split(BATCH):
                wrapped(part).unflatten(0, (SAMPLES, -1)).softmax(-1).mean(0)

    return run


def memory() -> list[Row]:
    """Measure what sampling adds to a process's peak."""

    def added(which: str) -> float:
        command = [sys.executable, "-c", _MEMORY, which]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
        return float(done.stdout) / 2**20

    return [
        Row("peak memory that mc_dropout adds", added("dampen"), "MiB"),
        Row("peak memory that the usual loop adds", added("loop"), "MiB"),
    ]


def main() -> None:
    """Measure and print."""
    parser = rows.parser(__doc__)
    parser.add_argument("--turns", type=int, default=3, help="turns of each run")
    options = parser.parse_args()
    pixels, _, source = fashion(10_000)
    inputs = ((pixels.float() / 255 - 0.5) / 0.5).flatten(1)
    network = rivals.Net().eval()
    runs: dict[str, Callable[[], None]] = {
        "dampen": lambda: dampen.mc_dropout(network, inputs, samples=SAMPLES) and None,
        "loop": loop(network, inputs, SAMPLES),
        "products": products(inputs),
        "peak": peak(torch.float32),
    }
    seconds = by_turns(runs, options.turns)
    left_out = []
    for name, rival in (("baal", baal), ("torch_uncertainty", torch_uncertainty)):
        try:
            rival(network, inputs[:BATCH])()  # warms up
            seconds |= by_turns({name: rival(network, inputs)}, 1, warm_up=False)
        except Exception as e:  # not installed, or not without what it needs
            left_out.append(f"{name}: {str(e).splitlines()[0]}")
    median = {name: statistics.median(values) for name, values in seconds.items()}
    N = len(inputs)
    work = 2 * N * (WIDTHS[0] * WIDTHS[1] + SAMPLES * (WIDTHS[1] * WIDTHS[2] + WIDTHS[2] * WIDTHS[3]))
    rate = 3 * 2 * 2048**3 / min(seconds["peak"])
    floor, alone = work / rate, min(seconds["products"])
    found = [
        Row("mc_dropout: 10,000 images, 100 samples", median["dampen"], "s"),
        Row("the usual loop", median["loop"], "s"),
        *(Row(f"{name}", median[name], "s") for name in ("baal", "torch_uncertainty") if name in median),
        Row("matrix products, float32, measured peak", rate / 1e9, "GFLOP/s"),
        Row("floor: the products at that peak", floor, "s"),
        Row("floor: these very products, nothing between", alone, "s"),
        Row("against the usual loop", median["loop"] / median["dampen"], bar=18),
        *(
            Row(f"against {name}", median[name] / median["dampen"], bar=1)
            for name in ("baal", "torch_uncertainty")
            if name in median
        ),
        Row("share of the speed of these very products", alone / median["dampen"], bar=0.7),
        Row("share of the speed at peak", floor / median["dampen"]),
        *memory(),
    ]
    facts = {"data": source, "samples": SAMPLES, "left_out": left_out}
    rows.show(found, facts, options.json)


if __name__ == "__main__":
    main()
