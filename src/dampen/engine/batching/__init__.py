"""Batching rules: how calls of a network run for all members at once."""
