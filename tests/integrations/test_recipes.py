"""Recipes for other people's loops run as they stand; one whose library is not installed is skipped."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import dampen

FOLDER = Path(__file__).parents[2] / "docs" / "recipes"
LIBRARIES = {
    "fastai_tabular": ("fastai",),
    "hugging_face_trainer": ("transformers", "accelerate"),
    "lightning_module": ("lightning",),
    "log_to_mlflow": ("mlflow", "sqlalchemy"),
    "log_to_tensorboard": ("tensorboard",),
    "log_to_wandb": ("wandb",),
    "optuna_study": ("optuna",),
    "skorch_classifier": ("skorch",),
    "timm_backbone": ("timm", "torchvision"),
}
PRINTS = {
    "fastai_tabular": r"\[\[0\.",
    "hugging_face_trainer": r"tensor|\[\[0\.",
    "lightning_module": r"\[\[",
    "optuna_study": r"'weight_decay': ",
    "skorch_classifier": r"0\.\d+",
    "timm_backbone": r"\[\[0\.",
}


def test_every_recipe_is_tested_is_short_and_is_on_the_page():
    names = {file.stem for file in FOLDER.glob("*.py")}
    page = (FOLDER.parent / "recipes.md").read_text(encoding="utf-8")
    assert names == LIBRARIES.keys()
    assert names == set(re.findall(r"\]\(recipes/(\w+)\.py\)", page))
    assert [n for n in names if len((FOLDER / f"{n}.py").read_text(encoding="utf-8").splitlines()) > 40] == []


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_recipe_runs(name, tmp_path):
    missing = [library for library in LIBRARIES[name] if find_spec(library) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} is not installed")
    source = str(Path(dampen.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, FOLDER / f"{name}.py"],
        cwd=tmp_path,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": source,
            "WANDB_MODE": "offline",
            "HF_HUB_OFFLINE": "1",
        },
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(PRINTS.get(name, ""), done.stdout), done.stdout
    if name.startswith("log_to_"):
        assert any(path.is_file() for path in tmp_path.rglob("*"))
