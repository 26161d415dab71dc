"""A study on a Ray cluster is the study of one machine, bit for bit, whatever becomes of workers and nodes."""

import contextlib
import os
import random
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

import dampen
from dampen import Cluster, InputError

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'dampen[ray]'")
pytestmark = [
    pytest.mark.usefixtures("without_shape_checks"),
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"),
]
WORDS = {"n_settings": 4, "n_seeds": 2, "epochs": 6, "confirmed": 1, "n_confirm_seeds": 2}


def data():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(300, 10, generator=generator)
    return dampen.load(x, target=(x[:, 0] + x[:, 1] * x[:, 2] > 0).long())


def network():
    return dampen.mlp(16, dropout=0.2)


@pytest.fixture(scope="module")
def alone():
    return dampen.tune(network(), data(), **WORDS)


def same(study, alone):
    """Whether two studies have the same document, but for the time that they took, and the same networks."""
    documents = [{k: v for k, v in one.document().items() if k != "seconds"} for one in (study, alone)]
    pairs = zip(study.ensemble(), alone.ensemble(), strict=True)
    tensors = [(a, b) for one, other in pairs for a, b in zip(one.parameters(), other.parameters(), strict=True)]
    return documents[0] == documents[1] and all(torch.equal(a, b) for a, b in tensors)


def test_a_study_on_this_machine_s_workers_is_the_same(alone):
    study = dampen.tune(network(), data(), cluster="local", **WORDS)
    assert same(study, alone)
    assert not ray.is_initialized()
    for one, other in zip(study.ensemble(3), alone.ensemble(3), strict=True):  # trained here, as the cluster has ended
        assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert not ray.is_initialized()


def test_a_cluster_that_is_not_there_is_one_line():
    with pytest.raises(InputError, match=r"no Ray cluster at auto \(.*\): start one with `ray start --head`"):
        dampen.tune(network(), data(), cluster="auto", **WORDS)


@pytest.fixture(scope="module")
def nodes():
    from ray.cluster_utils import Cluster as Nodes

    found = Nodes(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    workers = [found.add_node(num_cpus=1) for _ in range(2)]
    ray.init(address=found.address, log_to_driver=False, logging_level="ERROR")
    yield found, workers
    ray.shutdown()
    found.shutdown()


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("moment", range(20))
def test_a_node_that_goes_and_one_that_comes_change_nothing(nodes, alone, moment):
    cluster, workers = nodes
    with ThreadPoolExecutor(1) as pool:  # the study, as Ray starts nodes from the main thread alone
        study = pool.submit(dampen.tune, network(), data(), cluster="auto", **WORDS)
        time.sleep(random.Random(moment).uniform(0, 6))
        cluster.remove_node(workers.pop(0), allow_graceful=False)
        workers.append(cluster.add_node(num_cpus=1))
        assert same(study.result(), alone)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("moment", range(5))
def test_workers_that_are_killed_change_nothing(alone, moment):
    stop = threading.Event()

    def kill():
        chance = random.Random(moment)
        while not stop.wait(chance.uniform(4, 12)):
            workers = ["pgrep", "-f", "^ray::(dampen|IDLE)"]  # not the node's own processes, with which it would end
            found = subprocess.run(workers, capture_output=True, text=True, check=False).stdout.split()
            for pid in found[:1]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)

    killing = threading.Thread(target=kill)
    killing.start()
    try:
        study = dampen.tune(network(), data(), cluster=Cluster("local"), **WORDS)
    finally:
        stop.set()
        killing.join()
    assert same(study, alone)
