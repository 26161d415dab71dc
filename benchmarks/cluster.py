"""What a Ray cluster costs on this machine, and what many machines would gain.

A study of two minutes, of the mission's network on rows of Fashion-MNIST, without a cluster, with one worker of all
cores, and with a worker on each core, by turns. From the measured time of a member's epoch and the bytes that members
move, a simulation of up to 1000 workers: list scheduling of a rung's chunks, each with its transfer and Ray's overhead
of a task. Run as
`python -m benchmarks.cluster --json`; it needs Ray.
"""

import heapq
import math
import statistics
import time
from collections.abc import Sequence

import torch

import dampen
from benchmarks import rows
from benchmarks.population import WIDTHS, fashion
from benchmarks.rows import Row
from dampen.cluster import Cluster

WORKERS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)
# Ray's own figures (docs.ray.io, "Tips for first-time users", and Moritz et al. 2018, "Ray: a distributed framework for
# emerging AI applications", section 5): below a millisecond to start a task; a network of 10 Gbit/s.
TASK_SECONDS, BYTES_PER_SECOND = 0.001, 1.25e9
SETTINGS, SEEDS = 512, 5  # of the rung that is simulated
CHUNK = 17  # members of this network that train at once on a core with 2 MiB of cache


def study(n_rows: int, epochs: int, **options: object) -> float:
    """Return the seconds of a study."""
    pixels, classes, _ = fashion(n_rows)
    data = dampen.load(pixels.numpy(), target=classes.numpy())  # images: no simple models beside the network
    begun = time.perf_counter()
    dampen.tune(
        dampen.mlp(*WIDTHS[1:-1], dropout=(0.3, 0.5)),
        data,
        epochs=epochs,
        **options,  # type: ignore[arg-type]
    )
    return time.perf_counter() - begun


def makespan(tasks: Sequence[float], workers: int) -> float:
    """Return when the last of some tasks ends, each given to the worker that is free first."""
    free = [0.0] * workers
    for seconds in sorted(tasks, reverse=True):
        heapq.heappush(free, heapq.heappop(free) + seconds)
    return max(free)


def efficiency(member_epoch: float, member_bytes: int, chunk: int, epochs: int, workers: int) -> float:
    """Return the share of the workers' time that is spent on training in one rung.

    Args:
        member_epoch: seconds of a member's epoch on one worker.
        member_bytes: weights and optimizer state of a member.
        chunk: members of a task.
        epochs: of the rung.
        workers: how many.
    """
    members = SETTINGS * SEEDS
    sizes = [min(chunk, members - i) for i in range(0, members, chunk)]
    train = [n * epochs * member_epoch for n in sizes]
    move = [TASK_SECONDS + 2 * n * member_bytes / BYTES_PER_SECOND for n in sizes]
    driver = sum(n * member_bytes for n in sizes) / BYTES_PER_SECOND  # takes in every member at the end
    whole = makespan([a + b for a, b in zip(train, move, strict=True)], workers) + driver
    return sum(train) / (workers * whole)


def main() -> None:
    """Measure and print."""
    parser = rows.parser(__doc__)
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    cores = torch.get_num_threads()
    found: list[Row] = []
    times: dict[str, list[float]] = {"alone": [], "one": [], "two": []}
    for _ in range(options.repeats):
        times["alone"].append(study(options.rows, options.epochs))
        times["one"].append(study(options.rows, options.epochs, cluster=Cluster("local", cpus_per_worker=cores)))
        times["two"].append(study(options.rows, options.epochs, cluster=Cluster("local", cpus_per_worker=1)))
    alone, one, two = (statistics.median(values) for values in times.values())
    found.append(Row("a study without a cluster", alone, "s"))
    found.append(Row(f"one worker of {cores} cores / without a cluster", one / alone, bar=1.1, most=True))
    found.append(Row(f"{cores} workers of 1 core / one of {cores}", two / one, bar=1.0, most=True))

    network = dampen.mlp(*WIDTHS[1:-1], dropout=(0.3, 0.5))
    pixels, classes, _ = fashion(options.rows)
    members = dampen.Population(
        lambda: network(784, 10), [dampen.Setting(weight_decay=1e-6 * k) for k in range(CHUNK)], [0]
    )
    torch.set_num_threads(1)
    data = pixels.flatten(1).float() / 255, classes
    members.fit(data, epochs=3, until=1, evaluate_every=None)
    begun = time.perf_counter()
    members.fit(data, epochs=3, evaluate_every=None)
    member_epoch = (time.perf_counter() - begun) / 2 / CHUNK
    member_bytes = 3 * 4 * sum(math.prod(p.shape) for p in network(784, 10).parameters())
    found.append(Row("a member's epoch on one core", 1000 * member_epoch, "ms"))
    for workers in WORKERS:
        share = efficiency(member_epoch, member_bytes, CHUNK, options.epochs, workers)
        found.append(Row(f"simulated, {SETTINGS} settings x {SEEDS} seeds: efficiency of {workers} workers", share, ""))
    rows.show(found, {"rows": options.rows, "epochs": options.epochs, "member_bytes": member_bytes}, options.json)


if __name__ == "__main__":
    main()
