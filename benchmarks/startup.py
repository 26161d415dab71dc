"""What starting costs: processor time (user and system, one thread) of commands that have next to nothing to do.

Run as `python -m benchmarks.startup --json`. Bare `import torch` is measured beside them: most commands need it.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import rows
from benchmarks.history import ROOT
from benchmarks.rows import Row

_MODEL = """
import torch
from torch import nn
def build():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4, 2))
    return model, torch.optim.AdamW(model.parameters()), torch.zeros(4, 3)
"""
_STUDY = "wine --out study --settings 2 --seeds 1 --epochs 2 --confirmed 1 --confirm-seeds 2 --validation held-out"
_DAMPEN = "import sys; from dampen.cli import main; main()"

# What runs, in this order, with the most seconds that it should take.
COMMANDS: dict[str, float | None] = {
    "--version": 0.2,
    "--help": 0.2,
    "tunne": 0.2,
    "tune --help": None,
    "knobs": 2,
    "doctor net.py:build": 2,
    "weight-decay --seeds 1 --epochs 1": 2,
    "dropout wine --hidden 4,4 --epochs 1 --seeds 1": 2,
    f"tune {_STUDY}": None,
    "predict study wine": 2,
}


def processor_seconds(code: str, words: list[str], folder: Path) -> float:
    """Return the processor time of a Python process."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 2):
        raise RuntimeError(f"{' '.join(words)} ends with {process.returncode}")
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Measure and print."""
    parser = rows.parser(__doc__)
    parser.add_argument("--turns", type=int, default=3, help="runs of each command, of which the median counts")
    options = parser.parse_args()
    calls = {"python": ("pass", ""), "import torch": ("import torch", ""), "import dampen": ("import dampen", "")}
    calls |= {f"dampen {words.replace(_STUDY, 'wine')}": (_DAMPEN, words) for words in COMMANDS}
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(options.turns):
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "net.py").write_text(_MODEL)
            for name, (code, words) in calls.items():
                seconds[name].append(processor_seconds(code, words.split(), Path(folder)))
    bars = [None, None, None, *COMMANDS.values()]
    found = [
        Row(name, statistics.median(times), "s", bar=bar, most=True)
        for (name, times), bar in zip(seconds.items(), bars, strict=True)
    ]
    rows.show(found, {"turns": options.turns}, options.json)


if __name__ == "__main__":
    main()
