"""A short slice of `make fuzz`: some changed files of each kind, read in one process beside the tests'."""

import subprocess
import sys
from pathlib import Path

import pytest

DATA = ("tables", "npz", "arrow", "images", "idx")
STUDIES = ("studies", "preprocessing", "weights")


@pytest.mark.parametrize(
    ("families", "examples"), [(DATA, 25), pytest.param(STUDIES, 100, marks=pytest.mark.slow)], ids=["data", "studies"]
)
def test_no_changed_file_ends_in_anything_but_a_result_or_one_line(tmp_path, families, examples):
    command = [sys.executable, Path(__file__).with_name("fuzz.py"), *families, "--together", "--examples", examples]
    command += ["--failures", tmp_path]
    ended = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    failures = [file.read_text()[-2000:] for file in tmp_path.glob("*/*.txt")]
    assert ended.returncode == 0, "\n\n".join([ended.stdout, ended.stderr, *failures])
    assert all(f"{family}: {examples} inputs" in ended.stdout for family in families)
