"""An untrusted `.npz` file: headers first, then the arrays that are needed, if they fit."""

import contextlib
import math
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from dampen._tensors import as_native
from dampen.data import _memory
from dampen.errors import InputError

_DEFLATE_LIMIT = 1032  # no deflate stream grows by more; https://zlib.net/zlib_tech.html
_METHODS = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: _DEFLATE_LIMIT}  # by how much each may grow
_MOST_ARRAYS = 1000  # whose headers are read
_LAST_LETTER, _SURROGATES = 0x10FFFF, (0xD800, 0xDFFF)  # of Unicode


@dataclass(frozen=True)
class Arrays:
    """An open file.

    Args:
        path: where it is.
        shapes: of the arrays, by name.
    """

    path: Path
    shapes: Mapping[str, tuple[int, ...]]
    _dtypes: Mapping[str, np.dtype[Any]]
    _members: Mapping[str, zipfile.ZipInfo]
    _archive: zipfile.ZipFile

    def read(self, names: Sequence[str]) -> list[np.ndarray]:
        """Return some of the arrays.

        Raises:
            InputError: they hold Python objects, more than the file can hold or than fits into memory.
        """
        sizes = [self._size(name) for name in names]
        _memory.check(sum(sizes), f"{self.path}")
        arrays = []
        for name in names:
            with self._archive.open(self._members[name]) as stream:
                arrays.append(as_native(_readable(npy.read_array(stream, allow_pickle=False), name)))
                if stream.read(1):
                    raise ValueError(f"array '{name}' is longer than its header declares")
        return arrays

    def _size(self, name: str) -> int:
        """Return the bytes of an array, after making sure that the file can hold as many."""
        dtype, shape, member = self._dtypes[name], self.shapes[name], self._members[name]
        if dtype.hasobject:
            raise ValueError("it holds Python objects")
        size = math.prod(shape) * dtype.itemsize
        packed = min(member.compress_size, os.path.getsize(self.path))
        if size > member.file_size or member.file_size > _METHODS[member.compress_type] * (packed + 1):
            raise ValueError(f"array '{name}' of shape {list(shape)} is larger than the file")
        return size


def _readable(array: np.ndarray, name: str) -> np.ndarray:
    """Return an array whose texts, if it holds any, are Unicode: a changed byte makes letters that are none."""
    if array.dtype.kind == "U" and array.size and array.dtype.itemsize:
        letters = np.ascontiguousarray(array).view(np.dtype("u4").newbyteorder(array.dtype.byteorder))
        if ((letters > _LAST_LETTER) | ((letters >= _SURROGATES[0]) & (letters <= _SURROGATES[1]))).any():
            raise ValueError(f"array '{name}' holds text that is no Unicode")
    return array


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Arrays]:
    """Open a file and read the headers of its arrays.

    Raises:
        InputError: there is none, or it is damaged, encrypted or no archive of arrays; what `Arrays.read` meets, too.
    """
    if not os.path.isfile(path):
        raise InputError(f"there is no file {path}; correct the name")
    try:
        with path.open("rb") as file:
            if file.read(len(npy.MAGIC_PREFIX)) == npy.MAGIC_PREFIX:
                raise InputError(f"{path} holds one array, not inputs and targets; write both with numpy.savez")
            with zipfile.ZipFile(file) as archive:
                yield _arrays(path, archive)
    except InputError:
        raise
    except MemoryError:
        raise InputError(f"{path} does not fit into memory; give a part of its rows or columns") from None
    except Exception as e:  # of zipfile, zlib, lzma, bz2 and numpy's parser, each with exceptions of its own
        message = (str(e) or "damaged").splitlines()[0][:200]
        raise InputError(f"{path} can't be read as npz: {message}; write plain arrays with numpy.savez") from None


def _arrays(path: Path, archive: zipfile.ZipFile) -> Arrays:
    shapes: dict[str, tuple[int, ...]] = {}
    dtypes: dict[str, np.dtype[Any]] = {}
    members: dict[str, zipfile.ZipInfo] = {}
    of_arrays = [member for member in archive.infolist() if member.filename.endswith(".npy")]
    if len(of_arrays) > _MOST_ARRAYS:
        raise ValueError(f"it holds {len(of_arrays)} arrays, {_MOST_ARRAYS} is the most")
    for member in of_arrays:
        name = member.filename.removesuffix(".npy")
        if member.flag_bits & 1:
            raise ValueError(f"array '{name}' is encrypted")
        if member.compress_type not in _METHODS:
            raise ValueError(f"array '{name}' is compressed in a way that numpy does not use")
        with archive.open(member) as stream:
            shapes[name], dtypes[name] = _header(stream)
        members[name] = member
    return Arrays(path, shapes, dtypes, members, archive)


def _header(stream: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return the shape and the type of an array."""
    version = npy.read_magic(stream)
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
    if read is None:  # version 3 is that of names that are not Latin, of structured arrays alone
        raise ValueError(f"an array is of format {version}, which numpy writes for structured arrays only")
    shape, _, dtype = read(stream)
    if any(size < 0 for size in shape):
        raise ValueError(f"an array has the shape {list(shape)}")
    return shape, dtype
