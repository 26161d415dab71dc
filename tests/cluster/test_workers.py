"""Populations on workers are those of one machine, whatever the workers do; Ray itself is stood in for here."""

import numpy as np
import pandas as pd
import pytest
import torch

from dampen import InputError, Population, Setting, TrainConfig, load, mlp
from dampen.cluster import Cluster, _cluster, _worker
from dampen.cluster._rows import packed, unpacked
from dampen.cluster._worker import Reached
from dampen.engine import of_seeds

pytestmark = pytest.mark.usefixtures("without_shape_checks")

SETTINGS = [Setting(weight_decay=0.2, dropout=0.3, lr=0.02), Setting(dropout=0.6), Setting(weight_decay=1.0)]
SEEDS = (3, 9)
CONFIG = TrainConfig(epochs=6, batch_size=8, lr=0.01)


def network():
    return mlp(8, dropout=0.2)(6, 3)


def rows(n=53, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 6, generator=generator), torch.randint(3, (n,), generator=generator)


DATA = {"train": rows(), "validation": rows(20, 5)}


class Died(Exception):
    """What Ray raises of itself."""


class TaskError(Died):
    """What Ray raises for an error of a task."""

    def __init__(self, cause):
        super().__init__(str(cause))
        self.cause = cause


class Inline:
    """As much of Ray as is used, in this process; `trouble` is called with each task before it runs."""

    class exceptions:  # noqa: N801
        RayError, RayTaskError, OutOfMemoryError = Died, TaskError, type("OutOfMemoryError", (Died,), {})

    class cloudpickle:  # noqa: N801
        register_pickle_by_value = staticmethod(lambda module: None)

    def __init__(self, trouble=lambda one: None, cores=1.0):
        self.cores, self.trouble, self.tasks, self.stored, self.cancelled = cores, trouble, [], [], []

    def cluster_resources(self):
        return {"CPU": self.cores}

    def put(self, value):
        self.stored.append(value)
        return [value]

    def get(self, reference):
        if isinstance(reference[0], BaseException):
            raise reference[0]
        return reference[0]

    def wait(self, references, timeout):
        return references[:1], references[1:]

    def cancel(self, reference, force):
        self.cancelled.append(reference)

    def remote(self, function):
        inline = self

        class Remote:
            def options(self, **options):
                return self

            def remote(self, model, one, rows, config, part, *rest):
                inline.tasks.append((one, rest[0]))
                try:
                    inline.trouble(one)
                    return _tuples(function(model, one, rows[0], config, part and part[0], *rest))
                except Died as e:
                    return _Reference(e), _Reference(None)
                except Exception as e:
                    return _Reference(TaskError(e)), _Reference(None)

        return Remote()


class _Reference(list):
    __hash__ = object.__hash__

    def __init__(self, value):
        super().__init__([value])


def _tuples(values):
    return tuple(map(_Reference, values))


def trained(ray, config=CONFIG, **options):
    population = Population(network, SETTINGS, SEEDS, chunk=3)
    workers = _cluster.Workers(ray, Cluster())
    for until in (2, 6):
        workers.fit(population, network, DATA, config, until=until, **options)
    return population


@pytest.fixture(scope="module")
def whole():
    population = Population(network, SETTINGS, SEEDS, chunk=3)
    population.fit(DATA, CONFIG)
    return population


def test_the_members_are_those_of_one_machine_bit_for_bit(whole):
    threads = torch.get_num_threads()
    ray, shares = Inline(), []
    population = trained(ray, callback=lambda event: shares.append(event.epoch - 1 + event.chunk / event.chunks))
    for name, t in whole.state().items():
        assert torch.equal(population.state()[name], t)
    for name, values in whole.history.metrics.items():
        np.testing.assert_array_equal(population.history.metrics[name], values)
    assert [until for _, until in ray.tasks] == [1, 2, 2, 6, 6]
    assert shares == pytest.approx([0.5, 1.5, 2, 4, 6])
    assert len([value for value in ray.stored if hasattr(value, "tables")]) == 1  # the rows, once
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("separable", [True, False])
def test_one_chunk_is_cut_for_two_workers_where_that_leaves_its_members_bits(separable, monkeypatch):
    config, found = TrainConfig(epochs=3, batch_size=8, lr=0.01, compile=True), []
    settings = [*SETTINGS, Setting(lr=1e30)]  # which diverges
    if not separable:  # as where a worker meets what its compiler refuses
        monkeypatch.setattr(_worker, "Reached", lambda *values: Reached(*values[:-1], separable=False))
    for ray in (Inline(), Inline(cores=2.0)):
        population, workers = Population(network, settings, SEEDS, chunk=8), _cluster.Workers(ray, Cluster())
        for until in (1, 3):
            workers.fit(population, network, DATA, config, until=until)
        found.append((population, [len(one) for one, _ in ray.tasks]))
    (one, whole), (two, cut) = found
    assert whole == [8, 8]
    assert cut == ([4, 4, 4, 4] if separable else [4, 4, 8, 8])
    for name, t in one.state().items():
        torch.testing.assert_close(two.state()[name], t, rtol=0, atol=0, equal_nan=True)
    for name, values in one.history.metrics.items():
        np.testing.assert_array_equal(two.history.metrics[name], values)


@pytest.mark.slow
def test_long_trainings_are_cut_into_tasks_of_some_seconds_with_checkpoints_between(whole, monkeypatch):
    monkeypatch.setattr(_cluster, "_TASK_SECONDS", 0.0)
    ray, kept = Inline(), {}
    population = Population(network, SETTINGS, SEEDS, chunk=3)

    def checkpoint(join):
        join()
        kept[int(population.reached.max())] = population.state(), population.history.metrics
        assert (population.reached == max(kept)).all()

    _cluster.Workers(ray, Cluster()).fit(population, network, DATA, CONFIG, until=6, checkpoint=checkpoint)
    assert [until for _, until in ray.tasks] == [epoch for epoch in range(1, 7) for _ in range(2)]
    assert list(kept) == [1, 2, 3, 4, 5]
    for name, t in whole.state().items():
        assert torch.equal(population.state()[name], t)
    halfway = Population(network, SETTINGS, SEEDS, chunk=3)
    halfway.fit(DATA, CONFIG, until=3)
    for name, t in halfway.state().items():
        assert torch.equal(kept[3][0][name], t)
    for name, values in halfway.history.metrics.items():
        np.testing.assert_array_equal(kept[3][1][name], values)


@pytest.mark.parametrize(
    "error",
    [MemoryError("no memory"), pytest.param(Inline.exceptions.OutOfMemoryError("killed"), marks=pytest.mark.slow)],
)
def test_a_slice_that_does_not_fit_is_halved(whole, error):
    def trouble(one):
        if len(one) > 1:
            raise error

    ray = Inline(trouble)
    config = TrainConfig(epochs=6, batch_size=8, lr=0.01, precision="float64")
    exact = Population(network, SETTINGS, SEEDS, chunk=3)
    exact.fit(DATA, config)
    population = trained(ray, config)
    for setting in SETTINGS:
        for seed in SEEDS:
            for mine, theirs in zip(
                population.member(setting, seed).parameters(), exact.member(setting, seed).parameters(), strict=True
            ):
                assert (mine - theirs).norm() <= 1e-9 * theirs.norm()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError("no memory"), "one member alone does not fit into a worker's memory"),
        (Died("node died"), r"a worker that trains 3 members died 10 times \(Died\)"),
        (ValueError("odd\nlines"), "a worker fails: ValueError: odd$"),
        (InputError("the worker on there has torch 1.0"), "^the worker on there has torch 1.0$"),
    ],
)
def test_what_no_worker_can_do_is_one_line_and_nothing_is_left_running(error, message):
    def trouble(one):
        raise error

    ray = Inline(trouble)
    with pytest.raises(InputError, match=message):
        trained(ray)
    assert len(ray.cancelled) == len(ray.tasks) - 1 or isinstance(error, MemoryError)


def test_a_worker_of_another_version_is_refused():
    other = _worker.versions() | {"torch": "1.0"}
    with pytest.raises(InputError, match=r"has torch .*, the study runs with 1\.0.*install the same version"):
        _worker.check_versions(other)
    _worker.check_versions(_worker.versions())


def test_rows_are_packed_once_and_come_back_as_they_were():
    first, second = rows(), rows(53, 1)
    data = [{"train": first, "validation": first}, {"train": second, "validation": first}, {"train": first}]
    sets = of_seeds([data[0], data[1], data[0]], 3)
    parcel = packed(sets)
    assert parcel.nbytes == sum(t.numel() * t.element_size() for t in (*first, *second))
    back = unpacked(parcel)
    assert back[0] is back[2]
    for mine, theirs in zip(back, sets, strict=True):
        assert mine.key == theirs.key
        for split, table in theirs.tables.items():
            assert torch.equal(mine.tables[split].targets, table.targets)
            assert torch.equal(mine.tables[split].inputs[0], table.inputs[0])


def test_workers_know_which_inputs_are_codes():
    frame = pd.DataFrame({"shop": ["a", "b", "c"] * 20, "size": range(60), "sales": range(60, 120)})
    data = load(frame, target="sales", codes="shop")
    (back,) = unpacked(packed(of_seeds(data, 1)))
    assert back.codes == data.codes != ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"address": "http://x"}, "cluster must be local, auto or ray://HOST:PORT, got 'http://x'"),
        ({"address": 3}, "cluster must be local"),
        ({"cpus_per_worker": 0}, "cpus_per_worker must be a whole number, 1 or larger, got 0"),
        ({"cpus_per_worker": True}, "cpus_per_worker must be"),
        ({"gpus_per_worker": -1}, "gpus_per_worker must be a number, 0 or larger, got -1"),
        ({"gpus_per_worker": float("nan")}, "gpus_per_worker must be"),
    ],
)
def test_what_is_no_cluster_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        Cluster(**options)


def test_without_ray_one_line_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with (
        pytest.raises(InputError, match=r"needs Ray, which is not installed: pip install 'dampen\[ray\]'"),
        Cluster().connected(),
    ):
        pass
