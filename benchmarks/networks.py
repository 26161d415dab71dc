"""Networks that people have, 8 members of each: the population against as many ordinary loops, by turns in one run.

Batches of 32 rows, AdamW, float32. Each network is there twice: as a population of eight settings, and as eight
networks trained one after the other by a well-written loop. The rows report the ratio of medians: above 1 the
population is ahead. Run as `python -m benchmarks.networks --json`, a few alone with `--only LSTM BERT`.
"""

import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import dampen
from benchmarks import architectures as nets
from benchmarks import rivals, rows
from benchmarks.rows import Row

MEMBERS, BATCH = 8, 32


@dataclass(frozen=True)
class Case:
    """A network and what it is given.

    Args:
        model: makes it.
        inputs: makes N rows of its arguments.
        rows: as many training rows at most, where steps take long.
    """

    model: Callable[[], nn.Module]
    inputs: Callable[[int], Sequence[Tensor]]
    rows: int = 10**6


def _words(length: int, *, padded: bool = False) -> Callable[[int], list[Tensor]]:
    def make(n: int) -> list[Tensor]:
        ids = torch.randint(1, 1000, (n, length))
        if padded:
            ids[:, length // 2 :] *= (torch.rand(n, 1) < 0.9).long()
        return [ids]

    return make


def _images(side: int) -> Callable[[int], list[Tensor]]:
    return lambda n: [torch.randn(n, 3, side, side)]


CASES = {
    "nanoGPT, tied weights": Case(lambda: nets.NanoGPT(1000, 64, 64, 3), _words(64)),
    "GPT-2": Case(lambda: nets.GPT2(1000, 64, 10, 64, 3), _words(64, padded=True)),
    "BERT": Case(lambda: nets.BERT(1000, 64, 10, 64, 3), _words(64, padded=True)),
    "ViT": Case(lambda: nets.VisionTransformer(32, 8, 10, 64, 3), _images(32)),
    "ViT with drop path": Case(lambda: nets.VisionTransformer(32, 8, 10, 64, 3, drop_path=0.2), _images(32)),
    "FT-Transformer": Case(lambda: nets.FTTransformer(12, 10), lambda n: [torch.randn(n, 12)]),
    "TabM": Case(lambda: nets.TabM(8, [12] * 4, 10, 128), lambda n: [torch.randn(n, 8), torch.randint(0, 12, (n, 4))]),
    "fastai's tabular network": Case(
        lambda: nets.TabularModel([(50, 10)] * 4, 8, 10, [200, 100]),
        lambda n: [torch.randint(0, 50, (n, 4)), torch.randn(n, 8)],
    ),
    "graph network with index_add": Case(lambda: nets.GraphNetwork(30, 8, 10), lambda n: [torch.randn(n, 30, 8)]),
    "LSTM": Case(lambda: nets.Recurrent(1000, 10, nn.LSTM), _words(32)),
    "GRU": Case(lambda: nets.Recurrent(1000, 10, nn.GRU), _words(32)),
    "RNN": Case(lambda: nets.Recurrent(1000, 10, nn.RNN), _words(32)),
    "ResNet18": Case(lambda: nets.ResNet18(10, 32), _images(32), 128),
    "U-Net": Case(lambda: nets.UNet(10, 16), _images(32), 256),
}


def plain(model: Callable[[], nn.Module], inputs: Sequence[Tensor], targets: Tensor) -> rivals.Epoch:
    """Prepare one network after the other; every call trains each for one more epoch."""
    networks = [model().train() for _ in range(MEMBERS)]
    optimizers = [torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True) for network in networks]

    def epoch() -> None:
        for network, optimizer in zip(networks, optimizers, strict=True):
            total = torch.zeros((), dtype=torch.float64)
            for batch in torch.randperm(len(targets)).split(BATCH):
                loss = F.cross_entropy(network(*(t.index_select(0, batch) for t in inputs)), targets[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += loss.detach() * len(batch)
            total.item()

    return epoch


def population(
    model: Callable[[], nn.Module], inputs: Sequence[Tensor], targets: Tensor
) -> tuple[dampen.Population, rivals.Epoch]:
    """Prepare a population; every call trains it for one more epoch."""
    members = dampen.Population(model, [dampen.Setting(weight_decay=1e-3 * k) for k in range(MEMBERS)], [0])
    reached = 0

    def epoch() -> None:
        nonlocal reached
        reached += 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", dampen.NotFusedWarning)
            members.fit(
                (*inputs, targets),
                epochs=10**6,
                until=reached,
                evaluate_every=None,
                batch_size=BATCH,
                optimizer="adamw",
                lr=1e-3,
            )

    return members, epoch


def measure(name: str, n_rows: int, turns: int) -> list[Row]:
    """Measure one network."""
    case = CASES[name]
    torch.manual_seed(0)
    n_rows = min(n_rows, case.rows)
    inputs, targets = case.inputs(n_rows), torch.randint(10, (n_rows,))
    members, fused = population(case.model, inputs, targets)
    runs = {"dampen": fused, "plain": plain(case.model, inputs, targets)}
    seconds: dict[str, list[float]] = {key: [] for key in runs}
    for turn in range(turns + 1):  # the first warms up
        for key, run in runs.items():
            started = time.perf_counter()
            run()
            if turn:
                seconds[key].append(time.perf_counter() - started)
    median = {key: statistics.median(values) for key, values in seconds.items()}
    explained = members.explain()
    as_one = explained.reason is None and explained.choice is None
    way = "as one" if as_one else "one by one"
    return [
        Row(f"{name}: seconds an epoch of {MEMBERS} members, {way}", median["dampen"], "s"),
        Row(f"{name}: seconds an epoch of {MEMBERS} plain loops", median["plain"], "s"),
        Row(f"{name}: against plain", median["plain"] / median["dampen"], bar=1.0 if as_one else 0.95),
    ]


def main() -> None:
    """Measure and print."""
    parser = rows.parser(__doc__)
    parser.add_argument("--turns", type=int, default=3, help="turns of each run")
    parser.add_argument("--rows", type=int, default=512, help="training rows")
    parser.add_argument("--only", nargs="*", choices=list(CASES), metavar="NAME", help="networks to measure")
    options = parser.parse_args()
    found = [row for name in options.only or CASES for row in measure(name, options.rows, options.turns)]
    rows.show(found, {"members": MEMBERS, "batch": BATCH, "rows": options.rows}, options.json)


if __name__ == "__main__":
    main()
