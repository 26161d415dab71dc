"""The Python examples of the documents run."""

import re
from pathlib import Path
from unittest import mock

import pytest

from dampen.engine.knobs import KNOBS

ROOT = Path(__file__).parents[1]
EXAMPLES = [
    pytest.param(code, id=f"{page.name}-{i}")
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    for i, code in enumerate(re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE))
]


@pytest.mark.parametrize("code", EXAMPLES)
def test_an_example_runs(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with mock.patch.dict(KNOBS):  # one of them registers a knob
        exec(compile(code, "example", "exec"), {"__name__": "example"})
