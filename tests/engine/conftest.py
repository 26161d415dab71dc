"""What tests of compiled steps need."""

import os

import pytest

from dampen.engine.compiled import NoCompiler, _build


@pytest.fixture(scope="session")
def c_compiler():
    """Skip where nothing can be compiled, or members train on a GPU."""
    if os.environ.get("DAMPEN_TEST_DEVICE"):
        pytest.skip("what is compiled trains on a CPU")
    try:
        _build.compiler()
        _build.products()
    except NoCompiler as e:
        pytest.skip(f"nothing can be compiled here: {e}")
