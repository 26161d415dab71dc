"""Images by class as `Data`, and images that come after training."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from warnings import catch_warnings, simplefilter

import numpy as np
import torch
from jaxtyping import Shaped, UInt8
from torch import Tensor

from dampen.data import _duplicates, _memory, _splits
from dampen.data._dataset import Data
from dampen.data._leakage import noted
from dampen.data._new_data import Incoming
from dampen.data._normalisation import Normalisation
from dampen.data._target import listed
from dampen.data.images import _pixels
from dampen.data.images._files import Labelled, has_splits, holds_images, is_image, labelled, unlabelled
from dampen.data.images._pixels import Look, NoImage
from dampen.errors import InputError

_SIDE = 32  # pixels of a side where the images differ in size and no size is given
_NEARLY_ALL = 0.9  # share of a class's images that are grey, or in colour, by which a network can recognise it
_MOST_NAMED = 20  # damaged files in a message


@dataclass(frozen=True)
class _Wanted:
    """What images are brought to; None where they decide.

    Args:
        colour: three channels, or one.
        size: height and width.
        top: the value that is white in images of more than 8 bits.
    """

    colour: bool | None = None
    size: tuple[int, int] | None = None
    top: float | None = None


def read_images(
    folder: Path,
    *,
    side: int | None = None,
    image_max: float | None = None,
    seed: int = 0,
    test_fraction: float = 0.25,
    name: str | None = None,
) -> Data:
    """Read a folder of images by class: grey if all are, else RGB; of one size.

    Args:
        folder: with a subfolder for each class, or subfolders `train`, `test` and perhaps `validation` of such folders.
        side: pixels of a side that images are resized to; by default their own size if they agree, else 32.
        image_max: the value that is white in images of more than 8 bits; by default what as many bits as the images use
            can hold. The result's `reading` has it where there are such images.
        seed: of the draw of test rows where there is no `test`.
        test_fraction: how many are drawn then.
        name: of the data; the folder's own when None.

    Raises:
        InputError: fewer than two classes or a class that only the test images have; files that are no images; too many
            pixels for the memory.
    """
    if side is not None and side < 1:
        raise InputError(f"the side of images must be 1 pixel or more, got {side}")
    if image_max is not None and not 0 < image_max < float("inf"):
        raise InputError(f"image_max must be larger than 0, got {image_max}")
    files = labelled(folder)
    size = None if side is None else (side, side)
    features, top, notes = _read(files.files, _Wanted(None, size, image_max), files)
    return _as_data(folder, files, features, top, (*files.notes, *notes), seed, test_fraction, name)


def read_new_images(
    path: Path,
    normalisation: Normalisation,
    classes: tuple[str, ...] | None,
    inputs: tuple[int, ...],
    image_max: float | None = None,
) -> Incoming | None:
    """Read images for a trained network: a file, or all in a folder; None where that is no such thing, or has `train`.

    Where the folder has two subfolders or more that are called as classes are, these are the images' targets.

    Args:
        path: an image or a folder.
        normalisation: of the network's inputs.
        classes: those of the study.
        inputs: channels, height and width that it takes.
        image_max: what was white in the training images of more than 8 bits.

    Raises:
        InputError: files that are no images.
    """
    if not (is_image(path) or (path.is_dir() and holds_images(path))) or (path.is_dir() and has_splits(path)):
        return None
    if len(inputs) != 3 or inputs[0] not in (1, 3):
        raise InputError(
            f"a row of the study's data has shape {list(inputs)}, which is no image's: {path} can't be one"
        )
    files, labels, notes = unlabelled(path, classes or ())
    features, _, more = _read(files, _Wanted(inputs[0] == 3, (inputs[1], inputs[2]), image_max))
    features, unit_notes = _in_units(features, normalisation)
    root = path if path.is_dir() else path.parent
    return Incoming(
        name=path.resolve().name,
        normalisation=normalisation,
        task="classification" if classes is not None else "regression",
        classes=classes,
        features=features,
        targets=None if labels is None else torch.tensor(labels),
        notes=(*notes, *more, *unit_notes),
        source=str(path),
        files=tuple(str(file.relative_to(root)) for file in files),
    )


def _in_units(
    features: UInt8[Tensor, "N C H W"], normalisation: Normalisation
) -> tuple[Shaped[Tensor, "N C H W"], list[str]]:
    """Return pixels in the units of the training rows, whose white may be another number than 255."""
    mean, std = normalisation.mean, normalisation.std
    if mean.numel() != 1 or not mean.equal(std):
        return features, ["the training rows were not read from images: pixels are read as numbers from 0 to 255"]
    top = 2 * float(mean)
    if top == 255:
        return features, []
    return features * (top / 255), [f"pixels scaled to 0..{top:g}, the training rows' range"]


def _as_data(
    folder: Path,
    files: Labelled,
    features: UInt8[Tensor, "N C H W"],
    top: float | None,
    notes: tuple[str, ...],
    seed: int,
    test_fraction: float,
    name: str | None,
) -> Data:
    targets = torch.tensor(files.labels)
    rows = {split: torch.tensor(numbers, dtype=torch.int64) for split, numbers in files.rows.items()}
    title = name or folder.resolve().name
    copies = _duplicates.find(features)
    if not files.has_test:
        n_test = _splits.count(test_fraction, len(rows["train"]), "test_fraction", zero_allowed=True)
        rows["train"], rows["test"] = _splits.draw(
            *(rows["train"], targets, n_test),
            seed=seed,
            classes=files.classes,
            purpose=f"test rows of '{title}'",
            groups=copies.together,
            alike=True,
        )
    data = Data(
        name=title,
        task="classification",
        features=features,
        targets=targets,
        train_rows=rows["train"],
        validation_rows=rows["validation"],
        test_rows=rows["test"],
        classes=files.classes,
        scaling="pixels",
        groups=copies.together,
        notes=notes,
        source=str(folder),
        reading=None if top is None else {"image_max": top},
    )
    return noted(data)


def _read(
    files: Sequence[Path], wanted: _Wanted, classed: Labelled | None = None
) -> tuple[UInt8[Tensor, "N C H W"], float | None, list[str]]:
    """Return images as they are wanted, what was white in those of more than 8 bits, and what was done to them."""
    with ThreadPoolExecutor(4) as threads, catch_warnings():  # decoding lets other threads run meanwhile
        simplefilter("ignore")  # Pillow's, of damaged metadata and large images
        looks = _each(_pixels.look, files, threads)
        top = _pixels.white(looks) if wanted.top is None else wanted.top
        colour = wanted.colour if wanted.colour is not None else any(not look.grey for look in looks)
        sizes = Counter(look.size for look in looks)
        size = wanted.size or (next(iter(sizes)) if len(sizes) == 1 else (_SIDE, _SIDE))
        shape = (len(files), 3 if colour else 1, *size)
        if math.prod(shape) > _memory.free_bytes() / 6:  # bytes here, float32 while training
            raise InputError(
                f"{len(files)} images of {size[1]}x{size[0]} do not fit into memory; choose a smaller image size"
            )
        pixels = np.empty(shape, dtype=np.uint8)

        def read(path: Path, i: int) -> None:
            pixels[i] = _pixels.pixels(path, colour, size, top)

        _each(read, files, threads, range(len(files)))
    deep = [look.top for look in looks if look.top is not None]
    notes = [*_notes(looks, sizes, size, colour, top), *_of_classes(looks, classed)]
    return torch.from_numpy(pixels), top if deep else None, notes


def _notes(
    looks: list[Look],
    sizes: Counter[tuple[int, int]],
    size: tuple[int, int],
    colour: bool,
    top: float | None,
) -> list[str]:
    notes = []
    height, width = size
    if len(sizes) > 1 or size not in sizes:
        sizes_text = ", ".join(f"{w}x{h}" for (h, w), _ in sizes.most_common(3)) + ", ..." * (len(sizes) > 3)
        kinds = f"{len(sizes)} size{'s' * (len(sizes) > 1)}"
        notes.append(f"images of {kinds} ({sizes_text}) resized to {width}x{height} pixels (image size)")
    tops = [look.top for look in looks if look.top is not None]
    if tops and top is not None:
        bits = "" if any(look.fractions for look in looks) else f", {int(top).bit_length()} bits,"
        note = f"{_images(len(tops))} of more than 8 bits scaled: {top:g}{bits} is white"
        notes.append(f"{note}, their largest value is {max(tops):g}")
        n = sum(look > top for look in tops)
        notes += [f"{_images(n)} with values above {top:g}, the training images' white: cut there"] if n else []
    n = sum(look.transparent for look in looks)
    notes += [f"{_images(n)} with transparent parts laid on white"] if n else []
    n = sum(look.frames for look in looks)
    notes += [f"{_images(n)} of several frames: the first one is taken"] if n else []
    n = sum(not look.grey for look in looks)
    notes += [f"{_images(n)} in colour converted to grey"] if n and not colour else []
    n = len(looks) - n
    notes += [f"{_images(n)} in grey converted to colour, in three equal channels"] if n and colour else []
    return notes


def _of_classes(looks: list[Look], classed: Labelled | None) -> list[str]:
    """Return a note where colour alone separates some classes from the others."""
    if classed is None or len({look.grey for look in looks}) == 1:
        return []
    kinds: dict[int, list[bool]] = {}
    for label, look in zip(classed.labels, looks, strict=True):
        kinds.setdefault(label, []).append(look.grey)
    shares = {classed.classes[label]: sum(kind) / len(kind) for label, kind in sorted(kinds.items())}
    grey = [name for name, share in shares.items() if share >= _NEARLY_ALL]
    coloured = [name for name, share in shares.items() if share <= 1 - _NEARLY_ALL]
    if not grey or not coloured:
        return []
    return [
        f"nearly all images of {listed(grey, 3)} are grey, and of {listed(coloured, 3)} in colour: a network can "
        "separate these classes by that alone"
    ]


def _each(
    work: Callable[..., Any], files: Sequence[Path], threads: ThreadPoolExecutor, *more: Sequence[Any]
) -> list[Any]:
    """Return what is done with each file; all that can't be read are named at once."""

    def tried(path: Path, *rest: Any) -> Any:
        try:
            return work(path, *rest)
        except NoImage as e:
            return e

    results = list(threads.map(tried, files, *more))
    bad = [(path, why) for path, why in zip(files, results, strict=True) if isinstance(why, NoImage)]
    if not bad:
        return results
    if len(bad) == 1:
        raise InputError(f"{bad[0][0]} is not a readable image ({bad[0][1]}); remove it, or save it anew")
    named = ", ".join(f"{path} ({why})" for path, why in bad[:_MOST_NAMED])
    rest = f" and {len(bad) - _MOST_NAMED} more" if len(bad) > _MOST_NAMED else ""
    raise InputError(f"{len(bad)} files are not readable images: {named}{rest}; remove them, or save them anew")


def _images(n: int) -> str:
    return f"{n} image{'s' * (n != 1)}"
