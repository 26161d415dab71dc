"""Kinds of files that people give: valid ones, how they are changed, and what reads them."""

import bz2
import contextlib
import functools
import gzip
import io
import lzma
import shutil
import struct
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import fuzz_changes as changes
import numpy as np
import pandas as pd
import pyarrow as pa
from hypothesis import strategies as st
from PIL import Image

import dampen
from dampen.cli import main
from dampen.data import Preprocessing, read_incoming

RNG = np.random.default_rng(0)


class Input(NamedTuple):
    """A file, and how it is read.

    Args:
        name: of the file, or its path in a folder.
        content: of it.
    """

    name: str
    content: bytes


class Family(NamedTuple):
    """A kind of files.

    Args:
        inputs: changed files.
        use: reads one, which lies in a folder of its own; the second folder is `made`'s.
        made: writes what a read needs beside it, once.
    """

    inputs: Callable[[Path], st.SearchStrategy[Input]]
    use: Callable[[Path, Input, Path], object]
    made: Callable[[Path], object] = lambda folder: None


def frame(n: int = 48) -> pd.DataFrame:
    days = pd.Timestamp("2001-01-01") + pd.to_timedelta(RNG.integers(0, 900, n), unit="D")
    table = {
        "size": RNG.normal(size=n).round(3),
        "count": RNG.integers(0, 30, n),
        "place": RNG.choice(["north", "south", "ö, \"'"], n),
        "day": days.strftime("%Y-%m-%d"),
        "y": ["no", "yes", "maybe"] * (n // 3),
    }
    return pd.DataFrame(table).mask(RNG.random((n, 5)) < np.array([0.05, 0, 0.05, 0.05, 0]))


def read_all(path: Path, **options: Any) -> None:
    data = dampen.load(path, **options)
    for rows in (data.train, data.test):
        assert rows.features.isfinite().all(), "inputs that are not finite"
    data.with_validation(0.2)


def _of(name: str) -> Callable[[bytes], Input]:
    return lambda content: Input(name, content)


# tables as text ----------------------------------------------------------------------------------------------------


def tables(_: Path) -> st.SearchStrategy[Input]:
    plain = frame().to_csv(index=False).encode()
    other = frame().to_csv(index=False, sep=";", decimal=",").encode("utf-16")
    book = io.BytesIO()
    frame(24).to_excel(book, index=False)
    cells = [
        "NA",
        "null",
        "?",
        "1,5",
        "1.234",
        "007",
        "2024-02-30",
        "0000-00-00",
        "12:30",
        "1e400",
        "True",
        "€3",
        "12 kg",
        '"',
    ]
    packed = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
    return st.one_of(
        *[changes.text(plain, *cells).map(_of("table.csv"))] * 6,
        changes.changed(plain, other).map(_of("table.csv")),
        changes.changed(frame().to_csv(index=False, sep="\t").encode()).map(_of("table.tsv")),
        *[changes.changed(pack(plain)).map(_of(f"table.csv{ending}")) for ending, pack in packed.items()],
        changes.changed(plain).map(gzip.compress).map(_of("table.csv.gz")),
        changes.changed(book.getvalue()).map(_of("table.xlsx")),
        _xlsx(book.getvalue()).map(_of("table.xlsx")),
    )


def _xlsx(book: bytes) -> st.SearchStrategy[bytes]:
    with zipfile.ZipFile(io.BytesIO(book)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}

    def whole(name: str, content: bytes) -> bytes:
        return _zip({**parts, name: content})

    return st.sampled_from(sorted(parts)).flatmap(
        lambda name: changes.changed(parts[name]).map(lambda c: whole(name, c))
    )


def use_table(folder: Path, given: Input, _: Path) -> None:
    read_all(folder / given.name, target="y")
    known_table().inputs(folder / given.name)


@functools.cache
def known_table() -> Preprocessing:
    kept = Preprocessing.of(dampen.load(frame(), target="y"))
    assert kept is not None
    return kept


# arrays ------------------------------------------------------------------------------------------------------------


def _zip(parts: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    found = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(found, "w", method) as archive:
        warnings.simplefilter("ignore")  # of two members with one name
        for name, content in parts.items():
            archive.writestr(name, content)
    return found.getvalue()


def _npy(array: np.ndarray) -> bytes:
    found = io.BytesIO()
    np.save(found, array, allow_pickle=False)
    return found.getvalue()


def npz(_: Path) -> st.SearchStrategy[Input]:
    x, y = _npy(RNG.normal(size=(48, 4))), _npy(np.arange(48) % 3)
    image = _npy(RNG.integers(0, 256, (48, 4, 4, 3), dtype=np.uint8))
    text = _npy(RNG.choice(["no", "yes"], 48))
    methods = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2]
    names = st.sampled_from(
        ["x", "y", "x_train", "y_train", "x_test", "y_test", "images", "labels", "other", "", "x" * 300]
    )
    shapes = st.lists(st.sampled_from([*changes.NUMBERS, 48, 4]), max_size=4).map(tuple)
    kinds = st.sampled_from(
        ["<f8", "|u1", "<U3", "<U999999", "|O", "<f2", ">i8", "<c16", "|b1", "<M8[ns]", "|V0", "|V9", "<f16"]
    )

    def header(shape: tuple[int, ...], kind: str, body: bytes) -> bytes:
        described = repr({"descr": kind, "fortran_order": False, "shape": shape}).encode() + b"\n"
        return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(described)) + described + body

    arrays = st.one_of(
        *[st.sampled_from([x, y, image, text])] * 3,
        changes.changed(x, y, image, text),
        st.builds(header, shapes, kinds, st.sampled_from([b"", b"\0" * 1536, x[128:]])),
    )
    parts = st.dictionaries(names.map(lambda name: f"{name}.npy"), arrays, max_size=4)
    whole = [_zip({"x.npy": x, "y.npy": y}, method) for method in methods[:2]]
    return st.one_of(
        changes.changed(*whole, x),
        changes.changed(x).map(lambda a: _zip({"x.npy": a, "y.npy": y})),
        changes.changed(y, text).map(lambda b: _zip({"x.npy": image, "y.npy": b})),
        st.builds(_zip, st.builds(lambda a, b: {"x.npy": a, "y.npy": b}, arrays, arrays), st.sampled_from(methods)),
        st.builds(_zip, parts, st.sampled_from(methods)),
    ).map(_of("rows.npz"))


def use_npz(folder: Path, given: Input, _: Path) -> None:
    known = dampen.from_arrays(RNG.normal(size=(48, 4)), np.arange(48) % 3)
    try:
        read_all(folder / given.name)
    except dampen.InputError:
        read_incoming(folder / given.name, known.normalisation, "classification", ("0", "1", "2"))
        raise


# Arrow -------------------------------------------------------------------------------------------------------------


def arrow(_: Path) -> st.SearchStrategy[Input]:
    from pyarrow import feather, parquet

    table = frame().assign(
        day=pd.to_datetime(frame()["day"]),
        place=frame()["place"].astype("category"),
        n=pd.array([1, None, 3] * 16, "Int64"),
    )
    rich = pa.Table.from_pandas(table)
    more = {
        "list": pa.array([[1, 2], None, []] * 16),
        "struct": pa.array([{"q": 1}] * 48),
        "view": pa.array(["abc" * 9, "d"] * 24, pa.string_view()),
        "runs": pa.RunEndEncodedArray.from_arrays(pa.array([30, 48], pa.int32()), pa.array([1, 2])),
        "large": pa.array(["x"] * 48, pa.large_string()),
    }
    odd = rich
    for name, values in more.items():
        odd = odd.append_column(name, values)

    def feathered(table: Any, **options: Any) -> bytes:
        found = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the old version
            feather.write_feather(table, found, **options)
        return found.getvalue()

    def parqueted(**options: Any) -> bytes:
        found = io.BytesIO()
        parquet.write_table(rich, found, **options)
        return found.getvalue()

    files = [feathered(t, compression=c) for t in (rich, odd) for c in ("uncompressed", "zstd", "lz4")]
    files += [feathered(rich.select(["size", "y"]), version=1), feathered(rich, chunksize=20)]
    columns = [parqueted(), parqueted(compression="none", use_dictionary=False)]
    columns += [parqueted(compression="zstd", data_page_version="2.0", row_group_size=20)]
    return st.one_of(
        changes.changed(*files).map(_of("table.feather")),
        changes.changed(*files[:1], files[3]).map(_of("table.arrow")),
        changes.changed(*columns).map(_of("table.parquet")),
    )


# images ------------------------------------------------------------------------------------------------------------


def images(_: Path) -> st.SearchStrategy[Input]:
    found: dict[str, list[bytes]] = {}
    for ending, mode, options in (
        *(("png", mode, {}) for mode in ("L", "RGB", "RGBA", "LA", "P", "1", "I;16")),
        *(("tif", mode, {"compression": c}) for mode in ("L", "RGB", "I;16", "F") for c in (None, "tiff_lzw")),
        *(("jpg", "RGB", {}), ("jpg", "CMYK", {}), ("gif", "P", {}), ("bmp", "RGB", {}), ("webp", "RGBA", {})),
        *(("ppm", "RGB", {}), ("pgm", "L", {})),
    ):
        deep = mode in ("I;16", "F")
        array = RNG.integers(0, 4096, (9, 7)).astype("uint16" if mode == "I;16" else "float32")
        image = (
            Image.fromarray(array)
            if deep
            else Image.fromarray(RNG.integers(0, 256, (9, 7, 3), dtype=np.uint8)).convert(mode)
        )
        exif = Image.Exif()
        exif[0x112] = 6
        held = io.BytesIO()
        more = {"exif": exif.tobytes()} if ending in ("jpg", "webp") or (ending == "png" and mode == "RGB") else {}
        image.save(held, {"jpg": "JPEG", "tif": "TIFF", "pgm": "PPM"}.get(ending, ending.upper()), **options, **more)
        found.setdefault(ending, []).append(held.getvalue())
    names = st.sampled_from(["photo", ".hidden", "x" * 200, "=1+1", "a\nb", "ö"])
    changed = [st.tuples(st.just(ending), changes.changed(*contents)) for ending, contents in found.items()]
    changed.append(st.tuples(st.just("png"), changes.png(*found["png"])))
    return st.builds(lambda name, held: Input(f"{name}.{held[0]}", held[1]), names, st.one_of(*changed, changed[-1]))


def make_pets(made: Path) -> None:
    for k, name in enumerate(("cat", "dog")):
        (made / "pets" / name).mkdir(parents=True)
        for i in range(8):
            pixels = RNG.integers(100 * k, 100 * k + 99, (9, 7), dtype=np.uint8)
            Image.fromarray(pixels).save(made / "pets" / name / f"{i}.png")


def use_image(folder: Path, given: Input, made: Path) -> None:
    if len(given.content) % 4 == 0:  # as one of a class's
        place = made / "pets" / "cat" / given.name
        place.write_bytes(given.content)
        try:
            read_all(made / "pets")
        finally:
            place.unlink()
    else:
        from dampen.data import read_new_images

        normal = dampen.from_arrays(np.zeros((4, 1, 9, 7), np.uint8), [0, 1, 0, 1], test_fraction=0).normalisation
        read_new_images(folder / given.name, normal, ("cat", "dog"), (1 + len(given.content) % 2 * 2, 9, 7))


# IDX ---------------------------------------------------------------------------------------------------------------

IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def _idx(name: str) -> bytes:
    n = 24 if name.startswith("train") else 12
    array = RNG.integers(0, 256, (n, 4, 3), dtype=np.uint8) if "images" in name else (np.arange(n) % 3).astype(np.uint8)
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def idx(_: Path) -> st.SearchStrategy[Input]:
    every = {name: _idx(name) for name in IDX}
    return st.sampled_from(IDX).flatmap(
        lambda name: st.one_of(
            changes.changed(every[name]).map(_of(name)),
            changes.changed(every[name]).map(gzip.compress).map(_of(f"{name}.gz")),
            changes.changed(gzip.compress(every[name])).map(_of(f"{name}.gz")),
        )
    )


def use_idx(folder: Path, given: Input, _: Path) -> None:
    for name in IDX:
        if not given.name.startswith(name):
            (folder / name).write_bytes(_idx(name))
    read_all(folder)


# documents and weights of a study ----------------------------------------------------------------------------------

STUDY = {"n_settings": 4, "epochs": 2, "n_seeds": 1, "confirmed": 1, "n_confirm_seeds": 2}


def make_study(made: Path) -> None:
    if (made / "study").exists():
        return
    frame().to_csv(made / "table.csv", index=False)
    dampen.tune(dampen.mlp(4), dampen.load(made / "table.csv", target="y"), **STUDY, out=made / "study")


def _study_files(made: Path, *endings: str) -> list[Path]:
    make_study(made)
    files = sorted(path for path in (made / "study").rglob("*") if path.is_file())
    return [path for path in files if path.name.endswith(endings)]


def study(made: Path) -> st.SearchStrategy[Input]:
    files = _study_files(made, ".json", ".parquet")
    kinds = {".json": changes.document, ".parquet": changes.changed}

    def of(path: Path) -> st.SearchStrategy[Input]:
        return kinds[path.suffix](path.read_bytes()).map(_of(str(path.relative_to(made / "study"))))

    return st.one_of(*map(of, files))


def use_study(folder: Path, given: Input, made: Path) -> None:
    whole = folder / "study"
    shutil.copytree(made / "study", whole)
    (whole / given.name).write_bytes(given.content)
    commands = (
        ("predict", whole, made / "table.csv", "--samples", 0, "--rows", "all"),
        ("report", whole),
        ("export", whole, "--out", folder / "export"),
    )
    refused = [line for line in (_refusal(*command) for command in commands) if line]
    if refused:
        raise dampen.InputError(refused[0])


def _refusal(*words: object) -> str:
    """Run a command; return the line with which it refuses."""
    before, sys.argv = sys.argv, ["dampen", *map(str, words)]
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
            main()
    except SystemExit as e:
        if e.code not in (None, 0, 2):
            raise RuntimeError(f"{words[0]} ends with {e.code}: {said.getvalue()}") from e
        return said.getvalue() if e.code == 2 else ""
    finally:
        sys.argv = before
    return ""


def preprocessing(made: Path) -> st.SearchStrategy[Input]:
    [file] = _study_files(made, "preprocessing.json")
    return changes.document(file.read_bytes()).map(_of(file.name))


def use_preprocessing(folder: Path, given: Input, made: Path) -> None:
    whole = folder / "study"
    shutil.copytree(made / "study", whole)
    (whole / given.name).write_bytes(given.content)
    line = _refusal("predict", whole, made / "table.csv", "--samples", 0, "--rows", "all")
    if line:
        raise dampen.InputError(line)


def weights(made: Path) -> st.SearchStrategy[Input]:
    files = _study_files(made, ".safetensors")
    return st.one_of(*[changes.safetensors(p.read_bytes()).map(_of(str(p.relative_to(made / "study")))) for p in files])


def use_weights(folder: Path, given: Input, made: Path) -> None:
    from dampen.engine import Population
    from dampen.study import load_study

    if given.name.endswith("population.safetensors"):
        (folder / "population.safetensors").write_bytes(given.content)
        population = Population.load(folder, dampen.mlp(4))
        population.member(population.settings[0], population.seeds[0])
        return
    whole = folder / "study"
    shutil.copytree(made / "study", whole)
    (whole / given.name).write_bytes(given.content)
    load_study(whole).winner()


FAMILIES = {
    "tables": Family(tables, use_table),
    "npz": Family(npz, use_npz),
    "arrow": Family(arrow, use_table),
    "images": Family(images, use_image, make_pets),
    "idx": Family(idx, use_idx),
    "studies": Family(study, use_study, make_study),
    "preprocessing": Family(preprocessing, use_preprocessing, make_study),
    "weights": Family(weights, use_weights, make_study),
}
