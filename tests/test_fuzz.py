"""A short slice of `make fuzz`: a few hundred changed files, read in one process beside the tests'."""

import subprocess
import sys
from pathlib import Path

FAMILIES = ("tables", "npz", "arrow", "images", "idx")


def test_no_changed_file_ends_in_anything_but_a_result_or_one_line(tmp_path):
    command = [sys.executable, Path(__file__).with_name("fuzz.py"), *FAMILIES, "--together", "--examples", 120]
    command += ["--failures", tmp_path]
    ended = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    failures = [file.read_text()[-2000:] for file in tmp_path.glob("*/*.txt")]
    assert ended.returncode == 0, "\n\n".join([ended.stdout, ended.stderr, *failures])
    assert all(f"{family}: 120 inputs" in ended.stdout for family in FAMILIES)
