"""Where nothing can be compiled, or members train on a GPU, the tests of what is compiled are skipped."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def _can_compile(c_compiler):
    pass
