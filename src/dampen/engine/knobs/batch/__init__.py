"""Regularisers on the rows of a batch and their targets."""
