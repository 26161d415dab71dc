"""A study's network for those who do not have dampen: weights, their description, ONNX, a script that trains it."""

from dampen.export._write import write

__all__ = ["write"]
