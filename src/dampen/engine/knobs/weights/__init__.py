"""Regularisers on weights: decay, penalties and constraints."""
