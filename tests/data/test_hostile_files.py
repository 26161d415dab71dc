"""Files that would end the process or fill the memory: told in one line, before anything is allocated."""

import gzip
import io
import struct
import tracemalloc
import zipfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import feather, parquet

from dampen import InputError, from_arrays, load
from dampen.data import read_incoming

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(60, 4)), np.arange(60) % 2


def refused(path, message, **options):
    with pytest.raises(InputError, match=message) as caught:
        load(path, **options)
    assert "\n" not in str(caught.value)


def npy(array):
    found = io.BytesIO()
    np.save(found, array)
    return found.getvalue()


def header(shape, kind="<f8", body=b""):
    found = io.BytesIO()
    np.lib.format.write_array_header_1_0(found, {"shape": shape, "fortran_order": False, "descr": kind})
    return found.getvalue() + body


def npz(path, method=zipfile.ZIP_DEFLATED, **members):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in ({"x": npy(X), "y": npy(Y)} | members).items():
            archive.writestr(f"{name}.npy", content)
    return path


def patched(path, offsets, value):
    """Change a byte of every member's local header and directory entry; these are at `offsets` from their starts."""
    content = bytearray(path.read_bytes())
    for mark, offset in zip((b"PK\3\4", b"PK\1\2"), offsets, strict=True):
        at = content.find(mark)
        while at >= 0:
            content[at + offset] = value
            at = content.find(mark, at + 4)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("array", "line"),
    [
        (header((2**40, 4)), r"array 'x' of shape \[1099511627776, 4\] is larger than the file"),
        (header((2**70, 4)), "is larger than the file"),
        (header((61, 4), body=X.tobytes()), "EOF: reading array data, expected 1952 bytes got 1920"),
        (header((-60, 4), body=X.tobytes()), "an array has the shape"),
        (npy(X) + b"more", "array 'x' is longer than its header declares"),
        (npy(X.astype(object)), "it holds Python objects"),
        (b"\x93NUMPY\1\0" + struct.pack("<H", 9000) + b"(" * 9000, "can't be read as npz"),
        (b"\x93NUMPY\7\0" + npy(X)[8:], r"format \(7, 0\)|only support format"),
        (npy(np.zeros((60, 0))), "no column beside the target"),
    ],
)
def test_an_array_that_tells_more_than_it_holds_is_one_line(tmp_path, array, line):
    refused(npz(tmp_path / "rows.npz", x=array), line)


def test_archives_that_are_encrypted_or_packed_otherwise_are_one_line(tmp_path):
    refused(patched(npz(tmp_path / "a.npz"), (6, 8), 1), "array 'x' is encrypted")
    refused(patched(npz(tmp_path / "b.npz"), (8, 10), 77), "is compressed in a way that numpy does not use")
    for method in (zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2):
        refused(npz(tmp_path / "c.npz", method), "is compressed in a way that numpy does not use")
    path = npz(tmp_path / "d.npz")
    content = path.read_bytes()
    path.write_bytes(content[:200] + b"\xff" * 30 + content[230:])
    refused(path, "can't be read as npz: (Error|Bad CRC)")


def test_what_is_not_needed_of_an_archive_is_not_read(tmp_path):
    objects = io.BytesIO()
    np.save(objects, np.array([{}] * 3), allow_pickle=True)
    path = npz(tmp_path / "rows.npz", names=objects.getvalue())
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("more.npy", "w") as file:
        file.write(header((100_000_000,), "|u1"))  # packed to a thousandth
        for _ in range(100):
            file.write(b"\0" * 10**6)
    load(path)  # scikit-learn's import is not counted
    tracemalloc.start()
    try:
        data = load(path)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
    assert data.inputs == (4,)
    normalisation = from_arrays(X, Y).normalisation
    assert len(read_incoming(path, normalisation, "classification", ("0", "1"))) == 60


@pytest.fixture
def little_memory(monkeypatch):
    monkeypatch.setattr("dampen.data._memory.free_bytes", lambda: 1e6)


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("ending", ["npz", "parquet", "feather", "idx", "gz"])
def test_what_does_not_fit_into_memory_is_refused_by_its_header(tmp_path, ending):
    if ending == "npz":
        path = npz(tmp_path / "rows.npz", x=npy(np.zeros((60, 10_000))))
    elif ending == "parquet":
        path = tmp_path / "rows.parquet"
        parquet.write_table(pa.table({"x": np.zeros(1_000_000), "y": np.zeros(1_000_000)}), path)
        assert path.stat().st_size < 100_000
    elif ending == "feather":
        path = tmp_path / "rows.feather"
        pd.DataFrame({"x": np.zeros(1_000_000), "y": 0.0}).to_feather(path, compression="zstd")
        assert path.stat().st_size < 100_000
    else:
        path = tmp_path
        for name, shape in (("images-idx3", (1, 1000, 1000)), ("labels-idx1", (1,))):
            for split in ("train", "t10k"):
                content = struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape) + bytes(np.prod(shape))
                file = tmp_path / f"{split}-{name}-ubyte{'.gz' * (ending == 'gz')}"
                file.write_bytes(gzip.compress(content) if ending == "gz" else content)
    refused(path, r"holds .* MB, more than a quarter of the free memory; give a part of it")


def arrow_bytes(table):
    found = io.BytesIO()
    with pa.ipc.new_file(found, table.schema) as writer:
        writer.write_table(table)
    return found.getvalue()


def test_offsets_that_lead_out_of_an_arrow_file_s_buffers_are_refused(tmp_path):
    words = pa.array([f"word {i:02d}" for i in range(60)])
    content = arrow_bytes(pa.table({"x": words, "y": pa.array(["no", "yes"] * 30)}))
    offsets = np.frombuffer(words.buffers()[1], np.int32)
    assert content.count(offsets.tobytes()) == 1
    path = tmp_path / "rows.feather"
    for place, value in ((5, 2**31 - 1), (5, -7), (60, 2**30)):
        wrong = offsets.copy()
        wrong[place] = value
        path.write_bytes(content.replace(offsets.tobytes(), wrong.tobytes()))
        refused(path, "can't be read as feather, damaged or cut off", target="y")


def test_feather_s_first_version_is_refused_since_its_reader_checks_nothing(tmp_path):
    with pytest.warns(DeprecationWarning, match="Feather V1"):
        feather.write_feather(pa.table({"x": X[:, 0], "y": Y}), tmp_path / "old.feather", version=1)
    refused(tmp_path / "old.feather", "is of Feather's first version, which can't be read safely: write it anew")


@pytest.mark.parametrize("index", [77, -1])
def test_an_index_beyond_a_dictionary_is_refused(tmp_path, index):
    codes = np.arange(60, dtype=np.int32) % 3
    levels = pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(["low", "middle", "high"]))
    content = arrow_bytes(pa.table({"x": levels, "y": pa.array(["no", "yes"] * 30)}))
    wrong = codes.copy()
    wrong[9] = index
    path = tmp_path / "rows.arrow"
    path.write_bytes(content.replace(codes.tobytes(), wrong.tobytes()))
    refused(path, "can't be read as arrow, damaged or cut off", target="y")


@pytest.mark.parametrize("ending", ["feather", "parquet"])
def test_tables_of_every_kind_of_column_are_read_as_pandas_reads_them(tmp_path, ending):
    table = pd.DataFrame(
        {
            "number": RNG.normal(size=60),
            "level": pd.Categorical(["low", "high", None] * 20),
            "text": ["ö", "", None] * 20,
            "day": pd.date_range("2020", periods=60),
            "zone": pd.date_range("2020", periods=60, tz="Europe/Berlin"),
            "month": pd.period_range("2020", periods=60, freq="M"),
            "count": pd.array([1, None, 3] * 20, dtype="Int64"),
            "yes": [True, False] * 30,
        }
    )
    path = tmp_path / f"rows.{ending}"
    getattr(table, f"to_{ending}")(path)
    from dampen.data.tables._read import read_frame

    expected = getattr(pd, f"read_{ending}")(path)
    text = expected["month"].dt.strftime("%Y-%m").astype(object)  # as a text file has it
    found = read_frame(path).table
    pd.testing.assert_frame_equal(found.astype({"month": object}), expected.assign(month=text))
