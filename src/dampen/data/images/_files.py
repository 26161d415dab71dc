"""Which files of a folder are images of which class: hidden ones are ignored, and notes list what is left out."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dampen._io import counted
from dampen.data._target import LEAST_OF_CLASS, listed
from dampen.errors import InputError

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
_SPLITS = {"train": ("train", "training"), "validation": ("val", "valid", "validation"), "test": ("test", "testing")}
_SPLIT_NAMES = {name for names in _SPLITS.values() for name in names}
# made by systems, archives and network drives; names that begin with a dot are hidden anyway
_SYSTEM = {"__macosx", "thumbs.db", "desktop.ini", "@eadir", "#recycle", "$recycle.bin", "system volume information"}
_LEAST = 2  # images of a class
_MOST_KINDS = 3  # kinds of other files in a message


@dataclass(frozen=True)
class Labelled:
    """Images with their classes.

    Args:
        files: of all images.
        labels: the class number of each.
        classes: names by number.
        rows: numbers of the images for `train`, `validation` and `test`.
        has_test: whether there are test images; else test rows are to be drawn.
        notes: what was left out, a sentence each.
    """

    files: tuple[Path, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    rows: dict[str, list[int]]
    has_test: bool
    notes: tuple[str, ...]


def is_image(path: Path) -> bool:
    """Return whether a path is a file with an image's ending."""
    return path.suffix.lower() in ENDINGS and path.is_file()


def holds_images(folder: Path) -> bool:
    """Return whether a folder holds an image that is not hidden, at any depth."""
    return next(_images(folder), None) is not None


def other_files(folder: Path) -> str:
    """Return what a folder without images holds, and what is read, in words."""
    n_links = sum(_is_dangling(path) for path in folder.rglob("*"))
    kinds = Counter(
        path.suffix.lower() or "without an ending"
        for path in folder.rglob("*")
        if path.is_file() and not _is_within_hidden(path, folder)
    )
    listing = ", ".join(f"{n} {kind}" for kind, n in kinds.most_common(_MOST_KINDS)) + ", ..." * (
        len(kinds) > _MOST_KINDS
    )
    links = f", {counted(n_links, 'link')} to nothing" if n_links else ""
    return f"it holds {listing or 'no files'}{links}, and images end in {', '.join(ENDINGS)}"


def _is_dangling(path: Path) -> bool:
    """Return whether a path is a link to what is not there."""
    return path.is_symlink() and not path.exists()


def has_splits(folder: Path) -> bool:
    """Return whether a folder has training images by class in a subfolder `train`."""
    return "train" in _splits(folder)


def labelled(folder: Path) -> Labelled:
    """Find the images of each class: `folder/cat/1.png`, or `folder/train/cat/1.png` and `folder/test/cat/2.png`.

    Raises:
        InputError: fewer than two classes, too few images of one, or a class that only the test images have.
    """
    splits = _splits(folder)
    roots = splits or {"train": folder, **_splits_beside_classes(folder)}
    inside = {root for root in roots.values() if root != folder}
    classes = sorted(name for name, images in _by_class(roots["train"], inside).items() if images)
    _check_classes(folder, roots["train"], classes)
    notes, kept = [], {}
    for split, root in roots.items():
        of_split = _by_class(root, inside)
        foreign = [name for name, images in of_split.items() if images and name not in classes]
        if split != "train" and not _is_labelled(of_split, classes):
            n = sum(1 for _ in _images(root))
            what = f"{_count(n)} of {root} lie in no class folder and are left out" if n else f"{root} has no images"
            notes.append(f"{what}: {split} rows are drawn from the training images")
            continue
        if foreign:
            raise InputError(
                f"{root / foreign[0]} is a class that the training images lack; they have {listed(classes)}"
            )
        kept[split] = of_split
        notes += [f"folder {root / name} has no images: no class" for name, images in of_split.items() if not images]
        n = sum(is_image(path) and not is_hidden(path.name) for path in root.iterdir())
        notes += [f"{_count(n)} of {root} that lie in no class folder left out"] if n else []
    notes += _passed_by(folder, splits, kept, roots)
    files: list[Path] = []
    labels: list[int] = []
    rows: dict[str, list[int]] = {split: [] for split in _SPLITS}
    for split, of_split in kept.items():
        for name in sorted(filter(of_split.get, of_split)):
            rows[split] += range(len(files), len(files) + len(of_split[name]))
            files += of_split[name]
            labels += [classes.index(name)] * len(of_split[name])
    counts = Counter(labels[i] for i in rows["train"])
    rarest = min(range(len(classes)), key=lambda label: counts[label])
    least = _LEAST if "test" in kept else LEAST_OF_CLASS
    if counts[rarest] < least:
        raise InputError(
            f"class '{classes[rarest]}' of {folder} has {counts[rarest]} training images, {least} is the least; "
            "add some"
        )
    return Labelled(tuple(files), tuple(labels), tuple(classes), rows, "test" in kept, tuple(notes))


def unlabelled(path: Path, classes: tuple[str, ...]) -> tuple[list[Path], list[int] | None, list[str]]:
    """Find all images of a file or a folder, their class numbers where there are folders of classes, and notes.

    Args:
        path: an image, or a folder with images at any depth.
        classes: that are known: where two folders or more are called so and every image lies in a folder, these are the
            images' classes, -1 where a folder is called otherwise.
    """
    if path.is_file():
        return [path], None, []
    files = list(_images(path))
    notes = [*_hidden_note(path), *_links_note([path])]
    tops = [file.relative_to(path).parts for file in files]
    known = {parts[0] for parts in tops} & set(classes)
    if len(known) < 2 or min(map(len, tops)) < 2:
        return files, None, notes
    labels = [classes.index(parts[0]) if parts[0] in known else -1 for parts in tops]
    if -1 in labels:
        others = sorted({parts[0] for parts in tops} - known)
        notes.append(
            f"{_count(labels.count(-1))} in folders that are no class of the study ({listed(others, 3)}): not evaluated"
        )
    return files, labels, notes


def is_hidden(name: str) -> bool:
    """Return whether a file or folder is made by a system or a notebook, not by a person."""
    return name.startswith(".") or name.lower() in _SYSTEM


def _splits(folder: Path) -> dict[str, Path]:
    """Return the subfolders for training, validation and test; none where `train` is no folder of class folders."""
    children = {child.name.lower(): child for child in _folders(folder)}
    folders = {
        split: next((children[name] for name in names if name in children), None) for split, names in _SPLITS.items()
    }
    train = folders["train"]
    if train is None:
        return {}
    n_classes = sum(holds_images(child) for child in _folders(train))
    if not n_classes or (n_classes < 2 and any(map(is_image, train.iterdir()))):
        return {}  # images lie in it: it is a class
    return {split: path for split, path in folders.items() if path is not None}


def _splits_beside_classes(folder: Path) -> dict[str, Path]:
    """Return folders for validation and test whose own folders are called as those beside them: the classes."""
    folders = {}
    children = list(_folders(folder))
    names = {child.name for child in children}
    for split in ("validation", "test"):
        for child in children:
            inner = {grandchild.name for grandchild in _folders(child)}
            if child.name.lower() in _SPLITS[split] and inner and inner <= names - {child.name}:
                folders[split] = child
                break
    return folders


def _is_labelled(files: dict[str, list[Path]], classes: list[str]) -> bool:
    """Return whether folders are classes: one folder of another name (`unknown`) is none."""
    names = [name for name, images in files.items() if images]
    return bool(names) and (len(names) > 1 or names[0] in classes)


def _check_classes(folder: Path, root: Path, classes: list[str]) -> None:
    if len(classes) >= 2 and not {name.lower() for name in classes} <= _SPLIT_NAMES:
        return
    if len(classes) >= 2:
        raise InputError(
            f"{', '.join(classes)} of {folder} hold images without a folder for each class: sort them, as in "
            f"{classes[0]}/cat/1.png; if they are classes, give these other names"
        )
    n = sum(is_image(path) and not is_hidden(path.name) for path in root.iterdir())
    plural = "subfolder" if len(classes) == 1 else "subfolders"
    beside = f" and {_count(n)} beside them" if n else ""
    raise InputError(
        f"folder {root} has {len(classes)} {plural} with images{beside}; a folder for each class is needed, two or more"
    )


def _passed_by(
    folder: Path, splits: dict[str, Path], kept: dict[str, dict[str, list[Path]]], roots: dict[str, Path]
) -> list[str]:
    """Return notes on what is no image of a class."""
    notes = _hidden_note(folder)
    if splits:
        others = [c for c in _folders(folder) if c not in splits.values() and holds_images(c)]
        notes += [f"folder {other} with images beside those for training and test ignored" for other in others]
    named = sorted(name for name in kept["train"] if name.lower() in _SPLIT_NAMES and kept["train"][name])
    notes += [f"folder '{name}' is treated as a class: it has no folders of classes" for name in named]
    strange = Counter(
        path.suffix.lower() or path.name
        for root in roots.values()
        for child in _folders(root)
        for path in child.rglob("*")
        if path.suffix.lower() not in ENDINGS and not _is_within_hidden(path, root) and path.is_file()
    )
    if strange:
        n = sum(strange.values())
        kinds = ", ".join(kind for kind, _ in strange.most_common(_MOST_KINDS)) + ", ..." * (len(strange) > _MOST_KINDS)
        notes.append(f"{n} file{'s' * (n > 1)} of other kinds ({kinds}) ignored")
    return notes + _links_note([child for root in roots.values() for child in _folders(root)])


def _links_note(folders: list[Path]) -> list[str]:
    n = sum(_is_dangling(path) for folder in folders for path in folder.rglob("*"))
    return [f"{counted(n, 'link')} to nothing ignored"] if n else []


def _hidden_note(folder: Path) -> list[str]:
    n = sum(is_image(path) and _is_within_hidden(path, folder) for path in folder.rglob("*"))
    return [f"{n} hidden image{'s' * (n > 1)} (.name, __MACOSX) ignored"] if n else []


def _by_class(root: Path, without: set[Path]) -> dict[str, list[Path]]:
    return {child.name: list(_images(child)) for child in _folders(root) if child not in without}


def _folders(folder: Path) -> list[Path]:
    return sorted(child for child in folder.iterdir() if child.is_dir() and not is_hidden(child.name))


def _images(folder: Path) -> Iterator[Path]:
    """Yield the images of a folder that are not hidden, sorted within it."""
    for child in sorted(folder.iterdir()):
        if is_hidden(child.name):
            continue
        if child.is_dir() and not child.is_symlink():
            yield from _images(child)
        elif is_image(child):
            yield child


def _is_within_hidden(path: Path, folder: Path) -> bool:
    return any(map(is_hidden, path.relative_to(folder).parts))


def _count(n: int) -> str:
    return f"{n} image{'s' * (n != 1)}"
