"""Populations on a Ray cluster: each chunk of members is a task, from where it is to where the search decides next."""

import contextlib
import logging
import math
import os
import sys
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from dampen.cluster import _worker
from dampen.cluster._rows import packed
from dampen.engine import ChunkDone, Model, Part, Population, Sets, Slice, TrainConfig, balanced, cut, join, of_seeds
from dampen.engine.capture import first_line
from dampen.errors import InputError

_TASK_SECONDS = 20.0  # that a task should take: long beside what it costs, short beside what dies with a node
_TRIES = 10  # of a task whose worker or node dies
_POLL = 0.5  # seconds between two looks at what is done
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_task_oom_retries": "1",  # of a task that is killed for want of memory, before it is cut in half
}


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster, as `tune`, `compare` and the estimators take it; a text is the same with what else is usual.

    Every worker trains whole chunks of a population. The study is the same, bit for bit, however many workers there are
    and whatever becomes of them; and the same as without a cluster on as many threads as a worker has cores, on
    processors of one kind.

    Args:
        address: `local` (all cores and GPUs of this machine), `auto` (the cluster that this machine is a node of), or
            `ray://HOST:PORT`.
        cpus_per_worker: cores of a worker.
        gpus_per_worker: GPUs of a worker, parts of one too; None: one where training is on a GPU.

    Raises:
        InputError: a number outside its range, or no such address.

    Example:
        >>> Cluster("local", cpus_per_worker=2).address
        'local'
    """

    address: str = "local"
    cpus_per_worker: int = 1
    gpus_per_worker: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.address, str) or not (
            self.address in ("local", "auto") or self.address.startswith("ray://")
        ):
            raise InputError(f"cluster must be local, auto or ray://HOST:PORT, got {self.address!r}")
        cpus, gpus = self.cpus_per_worker, self.gpus_per_worker
        if isinstance(cpus, bool) or not isinstance(cpus, int) or cpus < 1:
            raise InputError(f"cpus_per_worker must be a whole number, 1 or larger, got {cpus!r}")
        if gpus is not None and (isinstance(gpus, bool) or not isinstance(gpus, int | float) or not 0 <= gpus < 1e4):
            raise InputError(f"gpus_per_worker must be a number, 0 or larger, got {gpus!r}")

    @classmethod
    def of(cls, given: "Cluster | str") -> "Cluster":
        """Return a cluster, given it or its address."""
        return given if isinstance(given, Cluster) else cls(given)

    @contextlib.contextmanager
    def connected(self) -> "Iterator[Workers]":
        """While entered, be connected; a cluster that was started for it ends with it.

        Raises:
            InputError: Ray is not installed, or the cluster can't be reached.
        """
        ray = _ray()
        ours = not ray.is_initialized()
        if ours:
            self._connect(ray)
        threads = torch.get_num_threads()
        torch.set_num_threads(self.cpus_per_worker)  # with another number, evaluations here would round differently
        workers = Workers(ray, self)
        try:
            yield workers
        finally:
            workers.connected = False
            torch.set_num_threads(threads)
            if ours:
                ray.shutdown()

    def _connect(self, ray: Any) -> None:
        how: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
        if self.address == "local":
            how |= {"num_cpus": max(_cores(), self.cpus_per_worker), "include_dashboard": False}
        else:
            how["address"] = self.address
        try:
            with _quiet():
                ray.init(**how)
        except Exception as e:
            raise InputError(
                f"no Ray cluster at {self.address} ({first_line(e)}): start one with `ray start --head`, or use "
                "cluster='local'"
            ) from e


class _Inseparable(Exception):
    """Members' numbers depend on those beside them, so that their chunk must stay whole."""


@dataclass(eq=False)
class _Task:
    """A slice on its way.

    Args:
        one: the slice.
        reached: the epoch that it has come to.
        parts: where what it held at an epoch lies in the object store; nothing before its first epoch.
        coming: where what the running task comes to will lie.
        ended: whether none of its members goes on.
        separable: whether its members' numbers have not depended on their slice so far.
    """

    one: Slice
    reached: int
    parts: dict[int, Any] = field(default_factory=dict)
    coming: Any = None
    ended: bool = False
    separable: bool = True

    def at(self, epoch: int) -> Any:
        """Return where what it held at an epoch lies; that of its end, where it has ended before."""
        return self.parts.get(epoch, self.parts[max(self.parts)] if self.ended else None)

    def forget(self, epoch: int) -> None:
        """Let go of what it held before an epoch."""
        last = max(self.parts, default=0)
        self.parts = {at: part for at, part in self.parts.items() if at >= epoch or at == last}


@dataclass(eq=False)
class Workers:
    """The workers of a cluster that is connected.

    Args:
        ray: the module.
        cluster: what was asked for.
    """

    ray: Any
    cluster: Cluster
    _rows: dict[tuple[int, int], tuple[Any, Any]] = field(default_factory=dict)
    _models: dict[int, tuple[Model, str]] = field(default_factory=dict)  # by which name the workers know each
    _pace: float | None = None  # seconds of a member's epoch, of the last task
    nodes: set[str] = field(default_factory=set)
    _whole: set[str] = field(default_factory=set)  # models whose chunks are not cut
    connected: bool = True  # until the context of `Cluster.connected` ends

    def __len__(self) -> int:
        """Return how many tasks run at once."""
        cpus = self.ray.cluster_resources().get("CPU", 0.0)
        return max(1, int(cpus // self.cluster.cpus_per_worker))

    def fit(
        self,
        population: Population,
        model: Model,
        data: Any,
        config: TrainConfig,
        *,
        until: int,
        evaluate_every: int | None = 1,
        callback: Callable[[ChunkDone], object] | None = None,
        checkpoint: Callable[[Callable[[], None]], object] | None = None,
    ) -> None:
        """Train a population as its own `fit` does, chunk by chunk on the workers.

        Args:
            population: made ready here, and given what its members came to.
            model: what it was made with.
            data: as for `Population.fit`.
            config: likewise.
            until: likewise.
            evaluate_every: likewise.
            callback: called with how many chunks have come how far.
            checkpoint: called whenever all members have come to a further epoch, with what brings the population there:
                it moves every member, so that it is called for a checkpoint alone.

        Raises:
            InputError: a worker's versions differ, a network fails, or workers die again and again.
        """
        population.prepare(data, config)
        sets = self._shared(data, len(population.seeds))
        name = self._models.setdefault(id(model), (model, uuid.uuid4().hex))[1]
        submit = partial(self._submit, name, sets, config, evaluate_every)
        run = partial(self._run, population, model, submit, config.epochs or until, until, callback, checkpoint)
        chunks = cut(population, model, until)
        whole = name in self._whole
        finer = chunks if whole else balanced(chunks, population, len(self), self.cluster.cpus_per_worker)
        try:
            tasks = run(finer, len(finer) > len(chunks))
        except _Inseparable:
            self._whole.add(name)
            tasks = run(chunks, False)
        self._join(population, tasks, until)

    def _run(
        self,
        population: Population,
        model: Model,
        submit: Callable[[_Task, int], Any],
        epochs: int,
        until: int,
        callback: Callable[[ChunkDone], object] | None,
        checkpoint: Callable[[Callable[[], None]], object] | None,
        slices: Sequence[tuple[Slice, Part | None]],
        cut_chunks: bool,
    ) -> list[_Task]:
        """Train slices, and return where they are then.

        Raises:
            _Inseparable: chunks have been cut whose members' numbers turn out to depend on their chunk.
        """
        tasks = [
            _Task(self._sent(model, one), part.epoch if part else 0, {part.epoch: self.ray.put(part)} if part else {})
            for one, part in slices
        ]
        first = kept = min(task.reached for task in tasks)
        n, waiting = len(tasks), list(tasks)
        running: dict[Any, _Task] = {}
        stride: int | None = None
        try:
            while waiting or running:
                if stride is None and self._pace is not None:
                    stride = max(1, math.ceil(_TASK_SECONDS / (self._pace * max(len(task.one) for task in tasks))))
                at_once = (
                    max(0, len(self) - len(running)) if stride is None else len(waiting)
                )  # the first ones tell the pace
                for task in waiting[:at_once]:
                    to = task.reached + 1 if stride is None else (task.reached // stride + 1) * stride
                    running[submit(task, min(to, until))] = task
                waiting = waiting[at_once:]
                ready, _ = self.ray.wait(list(running), timeout=_POLL)
                for reference in ready:
                    task = running.pop(reference)
                    pieces = self._ended(reference, task)
                    if cut_chunks and not task.separable:
                        raise _Inseparable
                    if pieces != [task]:
                        tasks = [other for other in tasks if other is not task] + pieces
                    waiting += [piece for piece in pieces if not piece.ended and piece.reached < until]
                reached = min((task.reached for task in tasks if not task.ended), default=until)
                for task in tasks:
                    task.forget(reached)
                if checkpoint is not None and kept < reached < until:
                    checkpoint(partial(self._join, population, tasks, reached))
                    kept = reached
                if ready and callback is not None:
                    self._tell(callback, epochs, n, first, tasks, until)
        finally:
            for reference in running:
                with contextlib.suppress(Exception):
                    self.ray.cancel(reference, force=True)
        return tasks

    def _join(self, population: Population, tasks: Sequence[_Task], epoch: int) -> None:
        join(population, [(task.one, self.ray.get(task.at(epoch))) for task in tasks])

    def _submit(self, model: str, sets: Any, config: TrainConfig, every: int | None, task: _Task, to: int) -> Any:
        gpus = self.cluster.gpus_per_worker
        if gpus is None:
            gpus = 1.0 if torch.device(config.device).type == "cuda" else 0.0
        remote = self.ray.remote(_worker.train).options(
            num_cpus=self.cluster.cpus_per_worker,
            num_gpus=gpus,
            num_returns=2,
            max_retries=_TRIES,
            name=f"dampen: {len(task.one)} members to epoch {to}",
        )
        here = _worker.versions(), self.cluster.cpus_per_worker
        reference, task.coming = remote.remote(model, task.one, sets, config, task.at(task.reached), to, every, *here)
        return reference

    def _ended(self, reference: Any, task: _Task) -> list[_Task]:
        """Take in how a task ended, and return what it is now: itself, or its halves."""
        before = task.reached
        try:
            reached: _worker.Reached = self.ray.get(reference)
        except self.ray.exceptions.OutOfMemoryError as e:
            return self._halved(task, e)
        except self.ray.exceptions.RayTaskError as e:
            cause = e.cause
            if isinstance(cause, MemoryError | torch.OutOfMemoryError):
                return self._halved(task, cause)
            if isinstance(cause, InputError):
                raise InputError(str(cause)) from None
            raise InputError(f"a worker fails: {type(cause).__name__}: {first_line(cause)}") from cause
        except self.ray.exceptions.RayError as e:
            raise InputError(
                f"a worker that trains {len(task.one)} members died {_TRIES} times ({type(e).__name__}): "
                "look at its memory, and at Ray's logs in /tmp/ray/session_latest/logs"
            ) from e
        self.nodes.add(reached.node)
        self._pace = reached.seconds / max(1, (reached.epoch - before) * len(task.one))
        task.reached, task.ended, task.separable = reached.epoch, reached.ended, reached.separable
        task.parts[reached.epoch] = task.coming
        return [task]

    def _halved(self, task: _Task, e: BaseException) -> list[_Task]:
        if len(task.one) == 1:
            raise InputError(
                "one member alone does not fit into a worker's memory: give workers more (cpus_per_worker, "
                "gpus_per_worker), or use a smaller batch_size"
            ) from e
        parts = {epoch: self.ray.get(part) for epoch, part in task.parts.items()}
        return [
            _Task(one, task.reached, {at: self.ray.put(part.only(seeds, settings)) for at, part in parts.items()})
            for one, seeds, settings in task.one.halves()
        ]

    def _tell(
        self,
        callback: Callable[[ChunkDone], object],
        epochs: int,
        n: int,
        first: int,
        tasks: Sequence[_Task],
        until: int,
    ) -> None:
        whole = sum(len(task.one) for task in tasks)
        share = sum(len(task.one) * ((until if task.ended else task.reached) - first) for task in tasks) / whole
        epoch, chunks = divmod(share, 1.0)
        callback(ChunkDone(first + int(epoch) + 1, epochs, round(chunks * n), n, (), (), {}, 0.0))

    def _shared(self, data: Any, n_seeds: int) -> Any:
        """Return where the rows lie in the object store, once on every node."""
        key = id(data), n_seeds
        if key not in self._rows:
            sets: list[Sets] = of_seeds(data, n_seeds)
            self._rows[key] = data, self.ray.put(packed(sets))
        return self._rows[key][1]

    def _sent(self, model: Model, one: Slice) -> Slice:
        """Return a slice whose model the workers can make: a user's own module travels with it."""
        module = sys.modules.get(getattr(model, "__module__", None) or type(model).__module__)
        file = getattr(module, "__file__", None)
        if module is not None and file is not None and not _installed(file):
            self.ray.cloudpickle.register_pickle_by_value(module)
        return one


def _installed(file: str) -> bool:
    parts = os.path.normpath(file).split(os.sep)
    return "site-packages" in parts or "dist-packages" in parts or "dampen" in parts


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _ray() -> Any:
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        with _quiet():
            import ray
            import ray.exceptions
    except ImportError as e:
        raise InputError("cluster needs Ray, which is not installed: pip install 'dampen[ray]'") from e
    return ray


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
