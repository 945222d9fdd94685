import gzip
import os
import struct
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lenet.data.idx import file_bytes, header, read_idx, write_idx
from lenet.errors import DataError

SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=6)


@settings(deadline=None, max_examples=50)
@given(array=hnp.arrays(np.uint8, SHAPES), gzipped=st.booleans())
def test_what_is_written_is_read(array: np.ndarray, gzipped: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        write_idx(path, array)
        assert path.stat().st_size == file_bytes(array.shape)
        if gzipped:
            path.write_bytes(gzip.compress(path.read_bytes()))
        found = read_idx(path)
        assert found.shape == array.shape
        assert found.dtype == np.uint8
        assert found.flags.writeable
        np.testing.assert_array_equal(found, array)


@settings(deadline=None, max_examples=50)
@given(junk=st.binary(max_size=64), gzipped=st.booleans())
def test_no_bytes_cause_another_error(junk: bytes, gzipped: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(gzip.compress(junk) if gzipped else junk)
        try:
            array = read_idx(path)
        except DataError:
            return
        assert header(array.shape) + array.tobytes() == junk


def test_written_bytes_are_those_of_the_format(tmp_path: Path) -> None:
    write_idx(tmp_path / "file", np.array([[1, 2, 3]], dtype=np.uint8))
    expected = bytes([0, 0, 8, 2, 0, 0, 0, 1, 0, 0, 0, 3, 1, 2, 3])
    assert (tmp_path / "file").read_bytes() == expected


def test_a_failed_write_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_idx(path, np.zeros(3, dtype=np.uint8))
    before = path.read_bytes()

    def refuse(*args: object) -> None:
        raise OSError("no")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="no"):
        write_idx(path, np.ones(4, dtype=np.uint8))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["file"]


def test_only_bytes_are_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a uint8 array to write, found float32"):
        write_idx(tmp_path / "file", np.zeros(3, dtype=np.float32))


GOOD = header((2, 28, 28)) + bytes(2 * 28 * 28)
HUGE = 2**32 - 1
BROKEN = {
    "empty": (b"", r"found b''"),
    "html": (b"<html></html>", r"expected an IDX file .* found b'<htm'"),
    "floats": (b"\0\0\x0d\1" + bytes(40), r"expected an IDX file of bytes or 32-bit numbers"),
    "255 dimensions": (b"\0\0\x08\xff" + bytes(2000), r"takes 1,024 bytes, found 2,004"),
    "ends in the header": (b"\0\0\x08\3\0\0", r"expected 3 dimensions, found the end"),
    "cut short": (GOOD[:-1], r"takes 1,584 bytes, found 1,583"),
    "trailing byte": (GOOD + b"\0", r"takes 1,584 bytes, found 1,585"),
    "count too large": (header((HUGE, 28, 28)) + bytes(99), r"takes 3,367,\S+ bytes, found 115"),
    "product overflows": (header((2**31, 2**31, 2**31)), r"takes 9,\S+ bytes, found 16"),
    "nothing times too much": (header((0, HUGE, HUGE)), r"takes 16 bytes, found 16"),
}


@pytest.mark.parametrize("gzipped", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_named_with_its_fault(tmp_path: Path, kind: str, gzipped: bool) -> None:
    raw, message = BROKEN[kind]
    path = tmp_path / "some-file"
    path.write_bytes(gzip.compress(raw) if gzipped else raw)
    with pytest.raises(DataError, match=f"some-file: .*{message}"):
        read_idx(path)


def test_damaged_gzip_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.gz"
    packed = gzip.compress(GOOD)
    for body in (packed[:-9], packed[:5], packed[:2], packed[:-6] + b"\0" + packed[-5:]):
        path.write_bytes(body)
        with pytest.raises(DataError, match=r"file\.gz: expected a"):
            read_idx(path)
    path.write_bytes(packed + b"trailing")
    with pytest.raises(DataError, match=r"found a damaged one"):
        read_idx(path)


def test_memory_is_bounded_whatever_a_file_unpacks_to(tmp_path: Path) -> None:
    path = tmp_path / "bomb.gz"
    with gzip.open(path, "wb", compresslevel=1) as stream:
        stream.write(header((64, 2**20)))
        for _ in range(64):
            stream.write(bytes(2**20))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="expected at most 3,000,000 bytes, found more"):
            read_idx(path, max_bytes=3_000_000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10_000_000


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="can't be read: No such file"):
        read_idx(tmp_path / "absent")
    with pytest.raises(DataError, match="can't be read: Is a directory"):
        read_idx(tmp_path)


def test_the_header_is_big_endian() -> None:
    assert header((60_000,)) == struct.pack(">II", 2049, 60_000)
