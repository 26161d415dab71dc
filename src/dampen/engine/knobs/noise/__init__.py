"""Regularisers that put noise on activations, weights or inputs."""
