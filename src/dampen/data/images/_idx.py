"""Reading one IDX file, the format of the MNIST files: a header, then bytes.

The header is big-endian: two zero bytes, the element type, the number of dimensions `d`, then `d`
sizes of 32 bits. Source: http://yann.lecun.com/exdb/mnist/, "The IDX file format".
"""

import math
import os
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from dampen.data import _memory
from dampen.errors import InputError

_GZIP_MAGIC = b"\x1f\x8b"
_GZIP = 16 + zlib.MAX_WBITS  # zlib expects gzip's header, and checks its CRC
_DEFLATE_LIMIT = 1032  # no deflate stream grows by more; https://zlib.net/zlib_tech.html
_UINT8 = 0x08


def read_idx(path: str | os.PathLike[str], dimensions: int) -> UInt8[np.ndarray, "..."]:
    """Read the array of bytes in an IDX file, gzipped or plain: distinguished by content, not by name.

    - `dimensions`: how many the array must have: 3 for images, 1 for labels.

    Memory is bounded by what the file can really hold, whatever sizes its header claims. The array
    is read-only.

    Raises `InputError` when the file can't be read, is not an IDX file of bytes, has another number of
    dimensions, or is longer or shorter than its header declares.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            start = file.read(len(_GZIP_MAGIC))
            file.seek(0)
            if start == _GZIP_MAGIC:
                return _read_gzip(file.read(), path, dimensions)
            shape = _shape(file.read(_header_length(dimensions)), path, dimensions)
            _check_length(os.fstat(file.fileno()).st_size - file.tell(), shape, path)
            _memory.check(math.prod(shape), str(path))
            return np.frombuffer(file.read(), dtype=np.uint8).reshape(shape)
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror or error}") from error


def _read_gzip(compressed: bytes, path: Path, dimensions: int) -> np.ndarray:
    stream = zlib.decompressobj(_GZIP)
    try:
        header = stream.decompress(compressed, _header_length(dimensions))
        shape = _shape(header, path, dimensions)
        announced = math.prod(shape)
        if announced > _DEFLATE_LIMIT * len(compressed):
            raise InputError(_cut(path, f"{len(compressed)} compressed", announced))
        _memory.check(announced, str(path))
        # one byte more than announced shows whether there is too much, without unpacking all of it
        body = stream.decompress(stream.unconsumed_tail, announced + 1)
    except zlib.error as error:
        raise InputError(f"{path} is a damaged gzip file ({error}); fetch it again") from error
    if not stream.eof and len(body) <= announced:
        raise InputError(f"{path} is a gzip file that is cut off; fetch it again")
    if stream.unused_data.strip(b"\0"):
        raise InputError(f"{path} has {len(stream.unused_data)} bytes after its gzip stream; compress it anew")
    _check_length(len(body), shape, path)
    return np.frombuffer(body, dtype=np.uint8).reshape(shape)


def _header_length(dimensions: int) -> int:
    return 4 + 4 * dimensions


def _shape(header: bytes, path: Path, dimensions: int) -> tuple[int, ...]:
    if len(header) < 4 or header[:2] != b"\0\0":
        raise InputError(f"{path} is not an IDX file: it does not start with two zero bytes and a type")
    if header[2] != _UINT8:
        raise InputError(f"{path} holds elements of IDX type 0x{header[2]:02x}; only bytes (0x08) are read")
    if header[3] != dimensions:
        raise InputError(f"{path} has {header[3]} dimensions where {dimensions} are needed")
    if len(header) < _header_length(dimensions):
        raise InputError(f"{path} is cut off within its header; fetch it again")
    return tuple(int(size) for size in np.frombuffer(header, dtype=">u4", offset=4))


def _check_length(size: int, shape: tuple[int, ...], path: Path) -> None:
    announced = math.prod(shape)
    if size < announced:
        raise InputError(_cut(path, str(size), announced))
    if size > announced:
        raise InputError(f"{path} holds more than the {announced} bytes that its header declares")


def _cut(path: Path, size: str, announced: int) -> str:
    return f"{path} is cut off: its header declares {announced} bytes, it holds {size}; fetch it again"
