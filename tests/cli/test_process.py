"""The command as a process: what starting it costs, its help, Ctrl-C, and a reader that goes away."""

import json
import os
import signal
import subprocess
import sys

import pytest

# A test runner in the background may hand on an ignored SIGINT.
START = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\nfrom dampen.cli import main; main()"
OPENMP = """
import dampen, ctypes, importlib.util, pathlib
own = (pathlib.Path(importlib.util.find_spec("torch").origin).parent / "lib").glob("libgomp*.so*")
ctypes.CDLL(str(next(own, "libgomp.so.1")))
"""
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"}


def dampen(*words: str, folder, script: str = START) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", script, *words],
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


@pytest.fixture
def endless(tmp_path):
    """A training that has printed its first epoch and would go on for hours."""
    process = dampen("dropout", "wine", "--hidden", "8,4", "--epochs", "1000000", folder=tmp_path)
    assert process.stdout.readline().startswith("Epoch 1/1000000 — ")
    yield process
    process.kill()
    process.communicate()


def test_help_does_not_import_torch(tmp_path):
    script = (
        "import sys\nfrom dampen.cli import main\ntry: main()\n"
        "finally: print(sorted({'torch', 'numpy', 'matplotlib', 'sklearn', 'pandas'} & sys.modules.keys()))"
    )
    process = dampen("--help", folder=tmp_path, script=script)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert "weight-decay" in out
    assert out.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("command", "options"),
    [
        (
            "weight-decay",
            "--weight-decay --inputs --rows --test-rows --true-weight --true-bias --noise --batch-size --lr --epochs "
            "--every --path --path-range --seed --seeds --device --plot --json --help",
        ),
        ("doctor", "--input --steps --ignore --json --help"),
        (
            "dropout",
            "--rates --hidden --epochs --batch-size --lr --data-dir --seed --seeds --device --plot --json --help",
        ),
    ],
)
def test_the_help_of_a_command_shows_every_option(tmp_path, command, options):
    process = dampen(command, "--help", folder=tmp_path)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert [option for option in options.split() if option not in out.replace(",", " ").split()] == []


def test_json_is_all_there_is_on_stdout_and_stderr_is_empty(tmp_path):
    process = dampen("weight-decay", "--seeds", "1", "--epochs", "1", "--json", folder=tmp_path)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert json.loads(out).keys() == {"runs", "path", "seconds"}
    assert [file.name for file in tmp_path.iterdir()] == ["dampen-weight-decay.png"]


def test_bad_input_ends_the_process_with_code_2_and_one_line(tmp_path):
    process = dampen("tune", "--seed", "-1", folder=tmp_path)  # which loads no torch
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert err == "dampen: --seed must be a whole number from 0 to 2^63 - 1, got -1\n"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for another process")
def test_ctrl_c_ends_with_code_130_without_a_traceback_and_leaves_no_file(endless, tmp_path):
    endless.send_signal(signal.SIGINT)
    _, err = endless.communicate(timeout=60)
    assert endless.returncode == 130
    assert err == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGPIPE")
def test_a_reader_that_goes_away_ends_it_without_a_traceback(endless, tmp_path):
    endless.stdout.close()
    endless.wait(timeout=60)
    assert endless.returncode == 1
    assert endless.stderr.read() == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="GNU OpenMP prints what it read on Linux")
@pytest.mark.parametrize(
    ("script", "given", "waits"),
    [
        (START, {}, "PASSIVE"),
        (OPENMP, {}, "PASSIVE"),
        (OPENMP, {"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE"),
    ],
    ids=["command", "python", "as-given"],
)
def test_idle_threads_sleep_unless_the_environment_says_otherwise(tmp_path, script, given, waits):
    """OpenMP's own word for what it read when it was loaded: by torch, or in a moment without torch."""
    call = [sys.executable, "-c", script, "doctor", "no_such_module:build"]
    shown = ENVIRONMENT | {"OMP_DISPLAY_ENV": "true"} | given
    done = subprocess.run(call, cwd=tmp_path, env=shown, capture_output=True, encoding="utf-8", check=False)
    assert f"OMP_WAIT_POLICY = '{waits}'" in done.stderr
