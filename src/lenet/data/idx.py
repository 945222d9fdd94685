"""Read and write IDX files, the format MNIST is published in.

An IDX file is a magic number (two zero bytes, the type of an element, the number of dimensions),
the dimensions as big-endian 32-bit numbers, then the elements. Files come from strangers, so what
the header claims is checked before memory is taken for it.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "labels"
    >>> write_idx(path, np.array([5, 0, 4], dtype=np.uint8))
    >>> read_idx(path).tolist()
    [5, 0, 4]
"""

import gzip
import math
import os
import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import numpy.typing as npt

from lenet.errors import DataError
from lenet.files import replacing

MAX_BYTES = 2**30
"""The largest file read when the caller knows no better: 1 GiB, 20 times MNIST."""

_UBYTE = 0x08
_MAX_DIMS = 8
_CHUNK_BYTES = 2**20
_GZIP_MAGIC = b"\x1f\x8b"

Bytes = npt.NDArray[np.uint8]


def header(shape: tuple[int, ...]) -> bytes:
    """Return the IDX header of a uint8 array of this shape."""
    return struct.pack(f">HBB{len(shape)}I", 0, _UBYTE, len(shape), *shape)


def file_bytes(shape: tuple[int, ...]) -> int:
    """Return the size of the IDX file of a uint8 array of this shape."""
    return 4 + 4 * len(shape) + math.prod(shape)


def read_idx(path: Path, *, max_bytes: int = MAX_BYTES) -> Bytes:
    """Read an IDX file of unsigned bytes, plain or gzipped (told by its content).

    Args:
        path: The file, whatever its name.
        max_bytes: A file that holds, or claims to hold, more than this is refused unread.

    Returns:
        A writable array of the shape that the file states.

    Raises:
        DataError: The file can't be read, or is not a whole IDX file and nothing more.
    """
    return parse(read_raw(path, max_bytes=max_bytes))


def read_images(path: Path, *, max_bytes: int = MAX_BYTES) -> Bytes:
    """Read images: (N, 28, 28) uint8, 0 = background, 255 = ink."""
    images = read_idx(path, max_bytes=max_bytes)
    if images.ndim != 3 or images.shape[1:] != (28, 28):
        raise DataError(f"{path}: expected images of shape (N, 28, 28), found {images.shape}")
    return images


def read_labels(path: Path, *, num_classes: int = 10, max_bytes: int = MAX_BYTES) -> Bytes:
    """Read labels: (N,) uint8, each below `num_classes`."""
    labels = read_idx(path, max_bytes=max_bytes)
    if labels.ndim != 1:
        raise DataError(f"{path}: expected labels of shape (N,), found {labels.shape}")
    wrong = np.flatnonzero(labels >= num_classes)
    if wrong.size:
        raise DataError(
            f"{path}: expected labels 0 to {num_classes - 1}, "
            f"found {labels[wrong[0]]} at position {wrong[0]}"
        )
    return labels


def read_labelled(
    images_path: Path, labels_path: Path, *, num_classes: int = 10, max_bytes: int = MAX_BYTES
) -> tuple[Bytes, Bytes]:
    """Read images and their labels, one label for each image."""
    images = read_images(images_path, max_bytes=max_bytes)
    labels = read_labels(labels_path, num_classes=num_classes, max_bytes=max_bytes)
    if len(images) != len(labels):
        raise DataError(
            f"{labels_path}: expected {len(images)} labels, one for each image of "
            f"{images_path}, found {len(labels)}"
        )
    return images, labels


def write_idx(path: Path, array: Bytes) -> None:
    """Write a uint8 array as a plain IDX file; the file appears whole or not at all."""
    if array.dtype != np.uint8 or not 1 <= array.ndim <= _MAX_DIMS:
        raise DataError(
            f"{path}: IDX files are written from uint8 arrays of 1 to {_MAX_DIMS} dimensions, "
            f"not {array.dtype} of {array.ndim}"
        )
    with replacing(path) as temporary, open(temporary, "wb") as stream:
        stream.write(header(array.shape))
        stream.write(np.ascontiguousarray(array).data)


def read_raw(path: Path, *, max_bytes: int = MAX_BYTES) -> bytearray:
    """Read the bytes of an IDX file, unpacked where gzipped, and check its structure."""
    try:
        # Opening a pipe would wait for ever.
        if path.exists() and not path.is_file():
            raise DataError(f"{path}: expected a file, found something else")
        with open(path, "rb") as stream:
            return unpack(stream, str(path), max_bytes=max_bytes)
    except OSError as error:
        raise DataError(f"{path}: can't be read: {error.strerror or error}") from error


def unpack(stream: BinaryIO, name: str, *, max_bytes: int = MAX_BYTES) -> bytearray:
    """Return the bytes of the IDX file in a seekable stream, unpacked and checked.

    Args:
        stream: A file, or bytes in memory.
        name: What the stream is called in errors.
        max_bytes: The largest IDX file, header included, to take memory for.
    """
    gzipped = stream.read(2) == _GZIP_MAGIC
    size = None if gzipped else stream.seek(0, os.SEEK_END)
    stream.seek(0)
    if not gzipped:
        return _read_checked(stream, name, size, max_bytes)
    try:
        with gzip.GzipFile(fileobj=stream, mode="rb") as unpacked:
            return _read_checked(cast(BinaryIO, unpacked), name, None, max_bytes)
    except EOFError as error:
        raise DataError(f"{name}: expected a whole gzip file, found one cut short") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{name}: expected a gzip file, found a damaged one: {error}") from error


def unpack_bytes(body: bytes, name: str, *, max_bytes: int = MAX_BYTES) -> bytearray:
    """Do what `unpack` does, for bytes in memory."""
    return unpack(BytesIO(body), name, max_bytes=max_bytes)


def parse(raw: bytearray) -> Bytes:
    """Return the array in the bytes of an IDX file that `unpack` has checked."""
    shape = struct.unpack_from(f">{raw[3]}I", raw, 4)
    return np.frombuffer(raw, dtype=np.uint8, offset=4 + 4 * raw[3]).reshape(shape)


def _read_checked(stream: BinaryIO, name: str, size: int | None, max_bytes: int) -> bytearray:
    """Read a whole IDX file; `size` is that of the stream where it is known."""
    raw = bytearray(stream.read(4))
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] != _UBYTE or not 1 <= raw[3] <= _MAX_DIMS:
        raise DataError(
            f"{name}: expected an IDX file of unsigned bytes, which begins "
            f"{bytes([0, 0, _UBYTE])!r} and the number of dimensions, found {bytes(raw)!r}"
        )
    raw += stream.read(4 * raw[3])
    if len(raw) < 4 + 4 * raw[3]:
        raise DataError(f"{name}: expected {raw[3]} dimensions, found the end of the file")
    shape = struct.unpack_from(f">{raw[3]}I", raw, 4)
    expected = file_bytes(shape)
    # Without the zeros too: numpy refuses (0, 2**32 - 1, 2**32 - 1), which takes no memory.
    if max(expected, math.prod(size or 1 for size in shape)) > max_bytes:
        raise DataError(
            f"{name}: expected at most {max_bytes:,} bytes, found a header of shape {shape}, "
            f"which takes {expected:,}"
        )
    # A plain file is judged by its size before any of it is read; a gzipped one does not tell.
    if size is not None and size != expected:
        raise DataError(f"{name}: shape {shape} takes {expected:,} bytes, found {size:,}")
    # One byte more than expected is asked for, so that a longer file shows itself.
    while len(raw) <= expected:
        chunk = stream.read(min(_CHUNK_BYTES, expected + 1 - len(raw)))
        if not chunk:
            break
        raw += chunk
    if len(raw) != expected:
        found = "more" if len(raw) > expected else f"{len(raw):,}"
        raise DataError(f"{name}: shape {shape} takes {expected:,} bytes, found {found}")
    return raw
