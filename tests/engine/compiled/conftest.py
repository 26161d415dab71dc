"""Where nothing can be compiled, or members train on a GPU, the tests of what is compiled are skipped."""

import os

import pytest

from dampen.engine.compiled import NoCompiler, _build


@pytest.fixture(scope="session", autouse=True)
def _can_compile():
    if os.environ.get("DAMPEN_TEST_DEVICE"):
        pytest.skip("what is compiled trains on a CPU")
    try:
        _build.compiler()
        _build.products()
    except NoCompiler as e:
        pytest.skip(f"nothing can be compiled here: {e}")
