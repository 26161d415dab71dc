"""Imports point downwards only."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "dampen"
ROWS = [  # top to bottom
    *("cli", "estimators", "report", "export", "lessons", "explore", "doctor", "study", "search", "statistics"),
    *("uncertainty", "store", "population", "knobs", "models", "data", "_schema", "_tensors", "_io", "errors"),
]
FILES = [f for f in SOURCE.rglob("*.py") if f != SOURCE / "__init__.py"]


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(SOURCE)))
def test_a_module_imports_only_its_own_row_and_lower_ones(file):
    row = ROWS.index(file.relative_to(SOURCE).parts[0].removesuffix(".py"))
    for node in ast.walk(ast.parse(file.read_text())):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            if name.startswith("dampen."):
                assert ROWS.index(name.split(".")[1]) >= row, f"{file.name} imports {name}"
