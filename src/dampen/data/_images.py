"""A folder of images by class: `folder/cat/1.png`, or `folder/train/cat/1.png` and `folder/test/cat/2.png`."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from dampen._io import counted, shortened
from dampen.data import _copies, _split
from dampen.data._data import Data
from dampen.data._leaks import noted
from dampen.data._target import LEAST_OF_CLASS, listed
from dampen.errors import InputError

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
_SPLITS = {"train": ("train", "training"), "validation": ("val", "valid", "validation"), "test": ("test", "testing")}
_SIDE = 32  # pixels of a side where the images differ in size and no size is asked for
_LEAST = 2  # images of a class


def classes_in(folder: Path) -> list[str]:
    """Return the subfolders that hold images, by name; those of `train` where there is one."""
    root = _splits_in(folder).get("train", folder)
    return sorted(child.name for child in root.iterdir() if _is_class(child))


def read_images(
    folder: Path, *, side: int | None = None, seed: int = 0, test_fraction: float = 0.25, name: str | None = None
) -> Data:
    """Read a folder of images by class: grey if all are, else RGB; of one size.

    Args:
        folder: with a subfolder for each class, or subfolders `train`, `test` and perhaps `validation` of such folders.
        side: pixels of a side that images are resized to; by default their own size if they agree, else 32.
        seed: of the draw of test rows where there is no `test`.
        test_fraction: how many are drawn then.
        name: of the data; the folder's own when None.

    Raises:
        InputError: fewer than two classes or a class that only the test images have; a file that is no image; too many
            pixels for the memory.
    """
    try:
        from PIL import Image
    except ImportError:  # pragma: no cover
        raise InputError("reading images needs Pillow: pip install pillow") from None
    del Image
    if side is not None and side < 1:
        raise InputError(f"the side of images must be 1 pixel or more, got {side}")
    splits = _splits_in(folder)
    roots = splits if "train" in splits else {"train": folder}
    classes = classes_in(folder)
    if len(classes) < 2:
        raise InputError(
            f"folder {folder} has {len(classes)} subfolders with images; a folder for each class is needed, two or more"
        )
    files: list[Path] = []
    labels: list[int] = []
    rows: dict[str, list[int]] = {"train": [], "validation": [], "test": []}
    for split, root in roots.items():
        for child in sorted(filter(_is_class, root.iterdir())):
            if child.name not in classes:
                raise InputError(f"{child} is a class that the training images lack; they have {listed(classes)}")
            for image in _images_in(child):
                rows[split].append(len(files))
                files.append(image)
                labels.append(classes.index(child.name))
    counts = np.bincount([labels[i] for i in rows["train"]], minlength=len(classes))
    least = _LEAST if "test" in roots else LEAST_OF_CLASS
    if counts.min() < least:
        raise InputError(
            f"class '{classes[int(counts.argmin())]}' of {folder} has {counts.min()} training images, {least} is the "
            "least; add some"
        )
    with ThreadPoolExecutor(4) as threads:  # decoding lets other threads run meanwhile
        looks = list(threads.map(_look, files))
        colour = any(grey is False for _, grey in looks)
        sizes = Counter(size for size, _ in looks)
        height, width = (side, side) if side else (next(iter(sizes)) if len(sizes) == 1 else (_SIDE, _SIDE))
        notes = []
        n_hidden = sum(map(_hidden_in, roots.values()))
        if n_hidden:
            notes.append(f"{n_hidden} hidden image{'s' * (n_hidden > 1)} (.name, __MACOSX) passed by")
        if len(sizes) > 1 or (height, width) not in sizes:
            told = ", ".join(f"{w}x{h}" for (h, w), _ in sizes.most_common(3))
            notes.append(
                f"images of {counted(len(sizes), 'size')} ({told}) resized to {width}x{height} pixels (image size)"
            )
        shape = (len(files), 3 if colour else 1, height, width)
        if np.prod(shape, dtype=np.float64) > _free_bytes() / 6:  # bytes here, float32 while training
            raise InputError(
                f"{len(files)} images of {width}x{height} do not fit into memory; choose a smaller image size"
            )
        pixels = np.empty(shape, dtype=np.uint8)

        def read(i: int) -> None:
            pixels[i] = _pixels(files[i], colour, height, width)

        list(threads.map(read, range(len(files))))
    targets = torch.tensor(labels)
    train_rows, test_rows = torch.tensor(rows["train"]), torch.tensor(rows["test"], dtype=torch.int64)
    title = name or folder.resolve().name
    features = torch.from_numpy(pixels)
    copies = _copies.find(features)
    if "test" not in roots:
        n_test = _split.count(test_fraction, len(train_rows), "test_fraction", zero_allowed=True)
        train_rows, test_rows = _split.draw(
            *(train_rows, targets, n_test),
            seed=seed,
            classes=tuple(classes),
            purpose=f"test rows of '{title}'",
            groups=copies.together,
            alike=True,
        )
    data = Data(
        name=title,
        task="classification",
        features=features,
        targets=targets,
        train_rows=train_rows,
        validation_rows=torch.tensor(rows["validation"], dtype=torch.int64),
        test_rows=test_rows,
        classes=tuple(classes),
        scaling="pixels",
        groups=copies.together,
        notes=tuple(notes),
        source=str(folder),
    )
    return noted(data)


def _splits_in(folder: Path) -> dict[str, Path]:
    children = {child.name.lower(): child for child in folder.iterdir() if child.is_dir()}
    found = {
        split: next((children[name] for name in names if name in children), None) for split, names in _SPLITS.items()
    }
    if found["train"] is None:
        return {}
    return {split: path for split, path in found.items() if path is not None}


def _is_class(path: Path) -> bool:
    return path.is_dir() and not _is_hidden(path.name) and bool(_images_in(path))


def _images_in(folder: Path) -> list[Path]:
    return [path for path in _all_images_in(folder) if not any(map(_is_hidden, path.relative_to(folder).parts))]


def _hidden_in(root: Path) -> int:
    return sum(any(map(_is_hidden, path.relative_to(root).parts)) for path in _all_images_in(root))


def _all_images_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS and path.is_file())


def _is_hidden(name: str) -> bool:
    """Return whether a file or folder is made by a system or a notebook, not by a person."""
    return name.startswith(".") or name == "__MACOSX"


def _look(path: Path) -> tuple[tuple[int, int], bool]:
    """Return an image's height and width, and whether it is grey, from its header."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return (image.height, image.width), image.mode in ("1", "L", "LA", "I", "I;16", "F")
    except Exception as e:  # Pillow's plug-ins raise anything on a damaged file
        raise InputError(f"{path} is no image that can be read ({_word(e)}); remove it") from None


def _pixels(path: Path, colour: bool, height: int, width: int) -> np.ndarray:
    """Return an image's pixels `[C, H, W]`."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            turned = ImageOps.exif_transpose(image)
            if turned.mode in ("I", "I;16", "F"):  # more than 8 bits: Pillow would cut, not scale
                values = np.asarray(turned, dtype=np.float64)
                top = 65535.0 if turned.mode != "F" else max(float(values.max()), 1e-12)
                turned = Image.fromarray((np.clip(values / top, 0, 1) * 255).astype(np.uint8))
            turned = turned.convert("RGB" if colour else "L")
            if turned.size != (width, height):
                turned = turned.resize((width, height), Image.Resampling.BILINEAR)
            found = np.asarray(turned, dtype=np.uint8)
    except Exception as e:
        raise InputError(f"{path} is no image that can be read ({_word(e)}); remove it") from None
    return found.transpose(2, 0, 1) if colour else found[None]


def _word(e: Exception) -> str:
    return shortened((str(e).splitlines() or [type(e).__name__])[0])


def _free_bytes() -> float:
    import os

    try:
        return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (ValueError, OSError, AttributeError):
        return 8e9
