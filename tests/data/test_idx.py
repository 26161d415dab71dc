"""Reading one IDX file: the array that was written, or one line that says what is wrong."""

import contextlib
import gzip
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from dampen.data.images._idx import read_idx
from dampen.errors import InputError

ARRAYS = arrays(np.uint8, array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=7))


def idx_bytes(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("idx") / "file"


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@given(array=ARRAYS, packed=st.booleans())
def test_any_array_of_bytes_survives_the_round_trip(path, array, packed):
    content = idx_bytes(array)
    found = read_idx(written(path, gzip.compress(content) if packed else content), array.ndim)
    np.testing.assert_array_equal(found, array, strict=True)


@given(array=ARRAYS, packed=st.booleans(), data=st.data())
def test_a_file_cut_anywhere_is_refused(path, array, packed, data):
    content = idx_bytes(array)
    content = gzip.compress(content) if packed else content
    end = data.draw(st.integers(0, len(content) - 1))
    with pytest.raises(InputError):
        read_idx(written(path, content[:end]), array.ndim)


@given(array=ARRAYS, extra=st.binary(min_size=1, max_size=9), packed=st.booleans())
def test_bytes_beyond_the_announced_ones_are_refused(path, array, extra, packed):
    content = idx_bytes(array) + extra
    with pytest.raises(InputError, match="more than"):
        read_idx(written(path, gzip.compress(content) if packed else content), array.ndim)


@given(array=ARRAYS, packed=st.booleans(), data=st.data())
def test_a_flipped_byte_in_the_header_is_refused_or_harmless(path, array, packed, data):
    content = bytearray(idx_bytes(array))
    place = data.draw(st.integers(0, 3 + 4 * array.ndim))
    content[place] ^= data.draw(st.integers(1, 255))
    try:
        found = read_idx(written(path, gzip.compress(content) if packed else bytes(content)), array.ndim)
    except InputError:
        return
    assert found.size == array.size == 0  # an empty array may claim any other size


@given(array=ARRAYS, data=st.data())
def test_a_flipped_byte_in_a_gzip_file_never_gives_other_bytes(path, array, data):
    content = bytearray(gzip.compress(idx_bytes(array)))
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    try:
        found = read_idx(written(path, bytes(content)), array.ndim)
    except InputError:
        return
    np.testing.assert_array_equal(found, array, strict=True)  # the byte said nothing about the content


@given(content=st.binary(max_size=60), dimensions=st.sampled_from((1, 3)))
def test_arbitrary_bytes_are_read_or_refused_but_nothing_else(path, content, dimensions):
    with contextlib.suppress(InputError):
        assert read_idx(written(path, content), dimensions).ndim == dimensions


@pytest.mark.parametrize("packed", [False, True])
def test_a_huge_claim_in_the_header_takes_no_memory(path, packed):
    content = struct.pack(">HBB3I", 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1) + bytes(100)
    tracemalloc.start()
    with pytest.raises(InputError, match="cut off"):
        read_idx(written(path, gzip.compress(content) if packed else content), 3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def test_a_gzip_bomb_is_unpacked_no_further_than_its_header_announces(path):
    content = gzip.compress(idx_bytes(np.zeros(10, dtype=np.uint8)) + bytes(2**26))
    tracemalloc.start()
    with pytest.raises(InputError, match="more than the 10 bytes"):
        read_idx(written(path, content), 1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def test_content_not_name_tells_gzip_from_plain(tmp_path):
    content = idx_bytes(np.arange(5, dtype=np.uint8))
    plain = written(tmp_path / "labels.gz", content)
    packed = written(tmp_path / "labels", gzip.compress(content))
    assert read_idx(plain, 1).tolist() == read_idx(packed, 1).tolist() == [0, 1, 2, 3, 4]


def test_zeros_after_a_gzip_stream_are_padding_and_other_bytes_are_not(path):
    content = gzip.compress(idx_bytes(np.arange(5, dtype=np.uint8)))
    assert read_idx(written(path, content + bytes(7)), 1).tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(InputError, match="after its gzip stream"):
        read_idx(written(path, content + b"more"), 1)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not an IDX file"),
        (b"PNG and so on", "not an IDX file"),
        (struct.pack(">HBBIf", 0, 0x0D, 1, 1, 1.0), "type 0x0d; only bytes"),
        (struct.pack(">HBB2I", 0, 8, 2, 0, 0), "2 dimensions where 1 are needed"),
        (b"\0\0\x08\x01\0\0", "within its header"),
    ],
)
def test_an_error_names_the_file_and_its_fault(path, content, says):
    with pytest.raises(InputError, match=says) as caught:
        read_idx(written(path, content), 1)
    assert str(path) in str(caught.value)


def test_a_file_that_is_missing_or_a_folder_is_an_input_error(tmp_path):
    for place in (tmp_path / "missing", tmp_path):
        with pytest.raises(InputError, match="can't be read"):
            read_idx(place, 1)
