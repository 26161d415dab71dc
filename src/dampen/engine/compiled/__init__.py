"""Steps of a network as compiled code: what a recording does, written in C, a member on each core."""

from dampen.engine.compiled._build import NoCompiler
from dampen.engine.compiled._step import Call, CompiledStep, Update
from dampen.engine.compiled._translate import Untranslatable, translate

__all__ = ["Call", "CompiledStep", "NoCompiler", "Untranslatable", "Update", "translate"]
