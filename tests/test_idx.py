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

from lenet.data.idx import (
    file_bytes,
    header,
    read_idx,
    read_images,
    read_labelled,
    read_labels,
    write_idx,
)
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
    with pytest.raises(DataError, match="uint8 arrays of 1 to 8 dimensions, not float32"):
        write_idx(tmp_path / "file", np.zeros(3, dtype=np.float32))
    with pytest.raises(DataError, match="not uint8 of 0"):
        write_idx(tmp_path / "file", np.array(3, dtype=np.uint8))


GOOD = header((2, 28, 28)) + bytes(2 * 28 * 28)
HUGE = 2**32 - 1
BROKEN = {
    "empty": (b"", r"found b''"),
    "html": (b"<html></html>", r"expected an IDX file .* found b'<htm'"),
    "floats": (b"\0\0\x0d\1" + bytes(40), r"expected an IDX file of unsigned bytes"),
    "no dimensions": (b"\0\0\x08\0" + bytes(40), r"expected an IDX file"),
    "255 dimensions": (b"\0\0\x08\xff" + bytes(2000), r"expected an IDX file"),
    "ends in the header": (b"\0\0\x08\3\0\0", r"expected 3 dimensions, found the end"),
    "cut short": (GOOD[:-1], r"takes 1,584 bytes, found 1,583"),
    "trailing byte": (GOOD + b"\0", r"takes 1,584 bytes, found (1,585|more)"),
    "count too large": (header((3, 28, 28)) + GOOD[16:], r"takes 2,368 bytes, found 1,584"),
    "count too small": (header((1, 28, 28)) + GOOD[16:], r"takes 800 bytes, found (1,584|more)"),
    "2^32-1 images": (header((HUGE, 28, 28)) + bytes(99), r"at most 1,073,741,824 bytes"),
    "nothing times too much": (header((0, HUGE, HUGE)), r"at most 1,073,741,824 bytes"),
    "too much times nothing": (header((HUGE, 2, HUGE, 0)), r"at most 1,073,741,824 bytes"),
    "product overflows": (header((2**31, 2**31, 2**31)), r"at most 1,073,741,824 bytes"),
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


@pytest.mark.parametrize("shape", [(60,), (HUGE, 28, 28), (1_000, 1_000, 1_000)])
def test_memory_is_bounded_whatever_a_file_claims_or_unpacks_to(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    path = tmp_path / "bomb.gz"
    with gzip.open(path, "wb", compresslevel=1) as stream:
        stream.write(header(shape))
        for _ in range(64):
            stream.write(bytes(2**20))
    tracemalloc.start()
    try:
        with pytest.raises(DataError):
            read_idx(path, max_bytes=50_000_000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000


def test_a_plain_file_that_lies_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "liar"
    path.write_bytes(header((1_000_000, 28, 28)) + bytes(10))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="takes 784,000,016 bytes, found 26"):
            read_idx(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="can't be read: No such file"):
        read_idx(tmp_path / "absent")
    with pytest.raises(DataError, match="expected a file, found something else"):
        read_idx(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="found something else"):
        read_idx(tmp_path / "pipe")


def test_images_and_labels_have_their_shapes(tmp_path: Path) -> None:
    images, labels = tmp_path / "images", tmp_path / "labels"
    write_idx(images, np.zeros((3, 28, 28), dtype=np.uint8))
    write_idx(labels, np.array([0, 9, 5], dtype=np.uint8))
    assert read_images(images).shape == (3, 28, 28)
    assert read_labels(labels).tolist() == [0, 9, 5]
    with pytest.raises(DataError, match=r"labels: expected images .* found \(3,\)"):
        read_images(labels)
    with pytest.raises(DataError, match=r"images: expected labels .* found \(3, 28, 28\)"):
        read_labels(images)
    write_idx(images, np.zeros((3, 32, 32), dtype=np.uint8))
    with pytest.raises(DataError, match=r"\(N, 28, 28\), found \(3, 32, 32\)"):
        read_images(images)


def test_labels_lie_below_the_number_of_classes(tmp_path: Path) -> None:
    write_idx(tmp_path / "labels", np.array([0, 9, 255, 10], dtype=np.uint8))
    with pytest.raises(DataError, match="labels: expected labels 0 to 9, found 255 at position 2"):
        read_labels(tmp_path / "labels")
    with pytest.raises(DataError, match="expected labels 0 to 8, found 9 at position 1"):
        read_labels(tmp_path / "labels", num_classes=9)


def test_there_is_one_label_for_each_image(tmp_path: Path) -> None:
    images, labels = tmp_path / "images", tmp_path / "labels"
    write_idx(images, np.zeros((3, 28, 28), dtype=np.uint8))
    write_idx(labels, np.zeros(2, dtype=np.uint8))
    with pytest.raises(DataError, match=r"labels: expected 3 labels, .*images, found 2"):
        read_labelled(images, labels)


def test_the_header_is_big_endian() -> None:
    assert header((60_000,)) == struct.pack(">II", 2049, 60_000)
