"""The small sets that come with scikit-learn."""

import numpy as np
import torch

from dampen.data import _duplicates, _splits
from dampen.data._dataset import Data
from dampen.data._leakage import noted

BUNDLED = ("digits", "breast-cancer", "wine", "iris", "diabetes")

_DIGITS_MAX = 16.0  # load_digits counts dark pixels in blocks of 4x4


def load_bundled(name: str, *, seed: int, test_fraction: float) -> Data:
    """Load one of `BUNDLED`; its test rows are drawn from `seed`, each class in its share."""
    import sklearn
    from sklearn import datasets

    loader = f"load_{name.replace('-', '_')}"
    # diabetes is else scaled by all its rows, those of the test set among them
    bunch = getattr(datasets, loader)(**({"scaled": False} if name == "diabetes" else {}))
    images = name == "digits"
    regression = name == "diabetes"
    if images:
        features = torch.from_numpy(bunch.images.astype(np.uint8)).unsqueeze(1)
    else:
        features = torch.from_numpy(bunch.data.astype(np.float32))
    targets = torch.from_numpy(bunch.target.astype(np.float32 if regression else np.int64))
    classes = None if regression else tuple(str(label) for label in bunch.target_names)
    n_test = _splits.count(test_fraction, len(targets), "the test fraction", zero_allowed=True)
    copies = _duplicates.find(features)
    train_rows, test_rows = _splits.draw(
        torch.arange(len(targets)),
        targets,
        n_test,
        seed=seed,
        classes=classes,
        purpose=f"test rows of '{name}'",
        groups=copies.together,
        alike=True,
    )
    data = Data(
        name=name,
        task="regression" if regression else "classification",
        features=features,
        targets=targets,
        train_rows=train_rows,
        test_rows=test_rows,
        classes=classes,
        feature_names=None if images else tuple(str(column) for column in bunch.feature_names),
        scaling="pixels" if images else "standardise",
        pixel_max=_DIGITS_MAX if images else 255.0,
        groups=copies.together,
        source=f"scikit-learn {sklearn.__version__}, {loader}",
    )
    return noted(data)
