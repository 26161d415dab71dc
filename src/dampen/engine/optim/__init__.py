"""Optimizers, schedules and averages for every member at once."""
