"""The default study on real data: what it says, what it takes, and whether its trainings are long enough.

- Fashion-MNIST (784-256-128-10): the verdict, the test figures, and the seconds of the whole study, from the data to
  the written report, against eight trainings by an ordinary script (a `DataLoader` with a transform for each image) of
  the recommended length, of which epochs before and after the study are measured and multiplied.
- Tables: whether twice the recommended length is better on the evaluation rows by more than its standard error. Those
  that come with scikit-learn, and every `.dat` file of KEEL's format in the folder that `--keel` names.

Run as `python -m benchmarks.verdict --json`, with DAMPEN_DATA naming Fashion-MNIST's folder; `--only fashion` or
`--only tables` for one of the two.
"""

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch

import dampen
from benchmarks import history, rivals
from benchmarks.population import fashion
from benchmarks.rows import Row
from dampen.data import Data
from dampen.study import usual_network

BUNDLED = ("breast-cancer", "diabetes", "digits", "iris", "wine")
SERIAL_RUNS = 8


def study_of(data: Data) -> tuple[float, dampen.Study]:
    """Return the seconds of a default study from the data to the report, and the study."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        found = dampen.tune(usual_network(data), data, out=Path(folder) / "study")
        found.report(Path(folder) / "report.html")
        return time.perf_counter() - started, found


def fashion_mnist() -> dict[str, Any]:
    """Return what the default study finds, and how long it takes against serial runs."""
    pixels, targets, _ = fashion(60_000)
    script = rivals.script(pixels, targets)

    def epoch() -> float:
        started = time.perf_counter()
        script()
        return time.perf_counter() - started

    epochs = [epoch(), epoch()]
    seconds, found = study_of(dampen.load("fashion-mnist"))
    epochs += [epoch(), epoch()]
    length = found.recommended.epochs
    serial = SERIAL_RUNS * length * statistics.median(epochs)
    figures = {name: {m: v["mean"] for m, v in of.items() if m != "against"} for name, of in found.test.items()}
    return {
        "seconds": seconds,
        "member_epochs": found.member_epochs,
        "script_epoch": epochs,
        "serial": {"runs": SERIAL_RUNS, "epochs": length, "seconds": serial},
        "ratio": seconds / serial,
        "sentences": found.sentences(),
        "test": figures,
        "verdict": found.verdict.document(),
    }


def table(name: str, data: Data) -> dict[str, Any]:
    """Return what doubling the recommended length gains on one set."""
    seconds, found = study_of(data)
    length = found.verdict.length
    assert length.doubled is not None
    assert length.standard_error is not None
    return {
        "data": name,
        "rows": len(data.train_rows),
        "seconds": seconds,
        "metric": found.verdict.metric.name,
        "value": found.verdict.value,
        "epochs": length.epochs,
        "doubled": length.doubled,
        "standard_error": length.standard_error,
        "long_enough": length.doubled <= length.standard_error,
        "helps": found.verdict.helps,
        "first": found.sentences()[0],
    }


def keel(path: Path) -> Data:
    """Read a file of KEEL's format: lines of values, the class last; lines that begin with @ describe them."""
    lines = [line.strip().split(",") for line in path.read_text().splitlines() if line.strip()[:1] not in ("", "@")]
    frame = pd.DataFrame([[value.strip() for value in line] for line in lines])
    frame.columns = [*(f"x{i}" for i in range(frame.shape[1] - 1)), "target"]
    for name in frame.columns[:-1]:
        numbers = pd.to_numeric(frame[name], errors="coerce")
        frame[name] = numbers if numbers.notna().all() else frame[name]
    frame["target"] = "class " + frame["target"]
    return dampen.load(frame, target="target")


def figures(name: str, found: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the numbers of a document as rows."""
    numbers = {key: float(value) for key, value in found.items() if isinstance(value, int | float)}
    made = [Row(f"{name}: {key}", value, "s" if key == "seconds" else "") for key, value in numbers.items()]
    return [asdict(row) | {"passes": row.passes} for row in made]


def main() -> None:
    """Print figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="as all benchmarks; there is no other form")
    parser.add_argument("--only", choices=("fashion", "tables"))
    parser.add_argument("--keel", type=Path, help="folder of .dat files")
    options = parser.parse_args()
    results: list[dict[str, Any]] = []
    if options.only != "tables":
        found = fashion_mnist()
        print(json.dumps({"fashion-mnist": found}), flush=True)
        results += figures("fashion-mnist", found)
    if options.only != "fashion":
        sets = [(name, lambda name=name: dampen.load(name)) for name in BUNDLED]
        files = sorted(options.keel.glob("*.dat")) if options.keel else []
        sets += [(file.stem, lambda file=file: keel(file)) for file in files]
        for name, read in sets:
            found = table(name, read())
            print(json.dumps(found), flush=True)
            results += figures(name, found)
    history.append("verdict", results, {"threads": torch.get_num_threads(), "torch": torch.__version__})


if __name__ == "__main__":
    main()
