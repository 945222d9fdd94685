"""Read and write IDX files, the format MNIST is published in.

An IDX file is a magic number (two zero bytes, the type of an element, the number of dimensions),
the dimensions as big-endian 32-bit numbers, then the elements.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "labels"
    >>> write_idx(path, np.array([5, 0, 4], dtype=np.uint8))
    >>> read_idx(path).tolist()
    [5, 0, 4]
"""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet.errors import DataError
from lenet.files import write_bytes

MAX_BYTES = 2**30
"""The largest file read when the caller gives no limit: 1 GiB, 20 times MNIST."""

_MAGIC = b"\0\0\x08"
"""Begins a file of unsigned bytes."""
_ELEMENTS: dict[bytes, np.dtype[Any]] = {_MAGIC: np.dtype("u1"), b"\0\0\x0c": np.dtype(">i4")}

Bytes = npt.NDArray[np.uint8]


def header(shape: tuple[int, ...]) -> bytes:
    """Return the IDX header of a uint8 array of this shape."""
    return struct.pack(f">3sB{len(shape)}I", _MAGIC, len(shape), *shape)


def file_bytes(shape: tuple[int, ...]) -> int:
    """Return the size in bytes of the IDX file of a uint8 array of this shape."""
    return len(header(shape)) + math.prod(shape)


def write_idx(path: Path, array: Bytes) -> None:
    """Write a uint8 array as a plain IDX file; the file appears whole or not at all."""
    if array.dtype != np.uint8:
        raise DataError(f"{path}: expected a uint8 array to write, found {array.dtype}")
    write_bytes(path, header(array.shape) + array.tobytes())


def read_idx(path: Path, *, max_bytes: int = MAX_BYTES) -> npt.NDArray[Any]:
    """Return the array in an IDX file of unsigned bytes or of 32-bit numbers, plain or gzipped.

    Args:
        path: The file, whatever its name.
        max_bytes: A file that holds more than this, unpacked, is refused.

    Returns:
        A writable array of the shape in the file's header.

    Raises:
        DataError: The file can't be read, or is not a whole IDX file and nothing more.
    """
    raw = _read(path, max_bytes)
    kind = _ELEMENTS.get(bytes(raw[:3]))
    if kind is None or len(raw) < 4:
        raise DataError(
            f"{path}: expected an IDX file of bytes or 32-bit numbers, which begins with "
            f"{' or '.join(map(repr, _ELEMENTS))}, found {bytes(raw[:4])!r}"
        )
    begin = 4 + 4 * raw[3]
    if len(raw) < begin:
        raise DataError(f"{path}: expected {raw[3]} dimensions, found the end of the file")
    shape = struct.unpack_from(f">{raw[3]}I", raw, 4)
    try:
        return np.frombuffer(raw, dtype=np.uint8)[begin:].view(kind).reshape(shape)
    except ValueError:
        raise DataError(
            f"{path}: shape {shape} takes {begin + kind.itemsize * math.prod(shape):,} bytes, "
            f"found {len(raw):,}"
        ) from None


def _read(path: Path, max_bytes: int) -> bytearray:
    """Return a file's bytes, unpacked if it is a gzip file."""
    raw = bytearray()
    try:
        with open(path, "rb") as file:
            is_gzip = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if is_gzip else open(path, "rb") as stream:
            # In chunks, so that a small file that unpacks to gigabytes is not unpacked whole.
            while len(raw) <= max_bytes and (chunk := stream.read(2**20)):
                raw += chunk
    except EOFError:
        raise DataError(f"{path}: expected a whole gzip file, found one cut short") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: expected a gzip file, found a damaged one: {error}") from None
    except OSError as error:
        raise DataError(f"{path}: can't be read: {error.strerror or error}") from None
    if len(raw) > max_bytes:
        raise DataError(f"{path}: expected at most {max_bytes:,} bytes, found more")
    return raw
