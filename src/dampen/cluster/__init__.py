"""The same study on the workers of a Ray cluster: on one machine, on several GPUs, on many machines."""

from dampen.cluster._cluster import Cluster

__all__ = ["Cluster"]
