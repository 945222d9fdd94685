"""Digits in other files than MNIST's own: each kind, written by its library, or broken."""

import bz2
import gzip
import io
import struct
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat

from lenet import load
from lenet.cli.main import main
from lenet.data import formats
from lenet.data.formats import read_arrays
from lenet.data.idx import write_idx
from lenet.errors import DataError

Bytes = NDArray[np.uint8]
Digits = tuple[Bytes, Bytes]


def make_digits(count: int, seed: int) -> Digits:
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (count, 28, 28)).astype(np.uint8)
    return images, random.integers(0, 10, count).astype(np.uint8)


TRAIN, TEST = make_digits(30, 1), make_digits(12, 2)


def write_npz(folder: Path) -> Path:
    path = folder / "mnist.npz"
    np.savez(path, x_train=TRAIN[0], y_train=TRAIN[1], x_test=TEST[0], y_test=TEST[1])
    return path


def write_npy(folder: Path) -> Path:
    for name, (images, labels) in (("train", TRAIN), ("test", TEST)):
        np.save(folder / f"{name}_images.npy", images[..., None] / 255.0)
        np.save(folder / f"{name}_labels.npy", labels.astype(np.int64))
    return folder


def write_csv(folder: Path) -> Path:
    names = ",".join(["label", *(f"pixel{i}" for i in range(784))])
    for name, (images, labels) in (("mnist_train", TRAIN), ("mnist_test", TEST)):
        rows = np.hstack([labels[:, None], images.reshape(-1, 784)])
        header = names if name == "mnist_train" else ""
        np.savetxt(folder / f"{name}.csv", rows, "%d", ",", header=header, comments="")
    return folder


def write_parquet(folder: Path) -> Path:
    for name, (images, labels) in (("train", TRAIN), ("test", TEST)):
        rows = []
        for image in images:
            file = io.BytesIO()
            Image.fromarray(image).save(file, "PNG")
            rows.append({"bytes": file.getvalue(), "path": None})
        pq.write_table(pa.table({"image": rows, "label": labels}), folder / f"{name}-00000.parquet")
    return folder


def write_emnist(folder: Path) -> Path:
    for name, (images, labels) in (("train", TRAIN), ("test", TEST)):
        write_idx(folder / f"emnist-digits-{name}-images-idx3-ubyte", images.transpose(0, 2, 1))
        write_idx(folder / f"emnist-digits-{name}-labels-idx1-ubyte", labels)
    return folder


def write_qmnist(folder: Path) -> Path:
    for name, (images, labels) in (("train", TRAIN), ("test", TEST)):
        write_idx(folder / f"qmnist-{name}-images-idx3-ubyte", images)
        rows = np.stack([labels, *np.arange(7 * len(labels)).reshape(7, -1)], 1).astype(">i4")
        header = b"\0\0\x0c\x02" + struct.pack(">2I", *rows.shape)
        content = gzip.compress(header + rows.tobytes())
        (folder / f"qmnist-{name}-labels-idx2-int.gz").write_bytes(content)
    return folder


WRITERS = [write_npz, write_npy, write_csv, write_parquet, write_emnist, write_qmnist]


@pytest.mark.parametrize("write", WRITERS)
def test_each_format_gives_the_digits_that_were_written(
    write: Callable[[Path], Path], tmp_path: Path
) -> None:
    path = write(tmp_path)
    for found, wanted in zip(read_arrays(path), (*TRAIN, *TEST), strict=True):
        assert found.dtype == np.uint8
        assert np.array_equal(found, wanted)
    digits = load("mnist", "test", data_dir=path)
    assert np.array_equal(digits.images.numpy(), TEST[0])


def test_files_of_two_data_sets_in_one_folder_are_refused(tmp_path: Path) -> None:
    for file in list(write_emnist(tmp_path).iterdir()):
        letters = tmp_path / file.name.replace("digits", "letters")
        letters.write_bytes(file.read_bytes())
    with pytest.raises(DataError, match="found those of emnist-digits, emnist-letters; copy"):
        read_arrays(tmp_path)


def test_matlab_s_columns_are_cut_after_sixty_thousand(tmp_path: Path) -> None:
    labels = (np.arange(60_012) % 10).astype(float)
    data = np.zeros((784, len(labels)), np.uint8)
    data[:, 60_000:] = TEST[0].reshape(12, 784).T
    savemat(tmp_path / "mnist-original.mat", {"data": data, "label": labels[None]})
    _, train_labels, images, test_labels = read_arrays(tmp_path)
    assert len(train_labels) == 60_000
    assert np.array_equal(images, TEST[0])
    assert test_labels.tolist() == labels[60_000:].tolist()


def write_usps_h5(folder: Path, images: NDArray[np.float32]) -> None:
    with h5py.File(folder / "usps.h5", "w") as file:
        for split in ("train", "test"):
            file.create_dataset(f"{split}/data", data=images)
            file.create_dataset(f"{split}/target", data=np.ones(len(images), int))


def write_usps_bz2(folder: Path, images: NDArray[np.float32]) -> None:
    for name in ("usps.bz2", "usps.t.bz2"):
        rows = (enumerate(2 * image - 1, start=1) for image in images)
        lines = ("2 " + " ".join(f"{i}:{value}" for i, value in row) + " \n" for row in rows)
        (folder / name).write_bytes(bz2.compress("".join(lines).encode()))


@pytest.mark.parametrize("write", [write_usps_h5, write_usps_bz2])
def test_usps_is_made_as_large_as_mnist(
    write: Callable[[Path, NDArray[np.float32]], None], tmp_path: Path
) -> None:
    images = np.zeros((3, 256), np.float32)
    images.reshape(3, 16, 16)[:, :, 7:9] = 1  # a stroke from top to bottom
    write(tmp_path, images)
    found, labels, test_images, _ = read_arrays(tmp_path)
    rows, columns = np.nonzero(found[0] > 127)
    assert (rows.min(), rows.max()) == (4, 23)
    assert 12 <= columns.min() <= columns.max() <= 15
    assert labels.tolist() == [1, 1, 1]
    assert np.array_equal(found, test_images)


def test_a_single_table_is_cut_for_the_test(tmp_path: Path) -> None:
    write_csv(tmp_path)
    parts = read_arrays(tmp_path / "mnist_train.csv")
    assert [len(part) for part in parts] == [26, 26, 4, 4]
    assert sorted([*parts[1], *parts[3]]) == sorted(TRAIN[1])
    again = read_arrays(tmp_path / "mnist_train.csv")
    assert all(np.array_equal(a, b) for a, b in zip(parts, again, strict=True))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("mnist.npz", b"PK\x03\x04 and no more", "can't be read"),
        ("train.parquet", b"PAR1 and no more", "can't be read"),
        ("mnist.mat", b"MATLAB 5.0 MAT-file", "can't be read"),
        ("usps.h5", b"\x89HDF\r\n\x1a\n", "can't be read"),
        ("usps.bz2", b"BZh9 and no more", "can't be read"),
        ("usps.bz2", bz2.compress(b"1 1:0.5 2:x\n"), "can't be read"),
        ("usps.bz2", bz2.compress(b"1 1:0.5\n"), "expected images of 28x28 or 16x16"),
        ("labels", b"\0\0\x0c\x02\0\0\0\x01\0\0\0\x08", "shape"),
        ("train.csv", b"label,pixel0\n1,2\n", "expected rows of 784 pixels"),
        ("train.csv", b"label,pixel0\n1,x\n", "expected a table of whole numbers"),
        ("train.csv", b"label,pixel0\n", "expected rows of 784 pixels"),
        ("train.csv", b"1," + b"300," * 783 + b"0\n", "expected pixels from 0 to 255"),
    ],
)
def test_a_broken_file_is_one_error_that_names_it(
    name: str, content: bytes, reason: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name}: {reason}"):
        read_arrays(tmp_path)


def test_a_data_set_in_several_files_is_joined(tmp_path: Path) -> None:
    write_parquet(tmp_path)
    content = (tmp_path / "train-00000.parquet").read_bytes()
    (tmp_path / "train-00001.parquet").write_bytes(content)
    images, labels, test_images, _ = read_arrays(tmp_path)
    assert np.array_equal(images, np.concatenate([TRAIN[0], TRAIN[0]]))
    assert np.array_equal(labels, np.concatenate([TRAIN[1], TRAIN[1]]))
    assert np.array_equal(test_images, TEST[0])


def test_what_unpacks_to_gigabytes_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "MAX_BYTES", 100_000)
    np.savez_compressed(tmp_path / "mnist.npz", x_train=np.zeros((200, 28, 28), np.uint8))
    assert (tmp_path / "mnist.npz").stat().st_size < 10_000
    with pytest.raises(DataError, match=r"mnist.npz: expected at most 100,000 bytes, found 156,"):
        read_arrays(tmp_path)


def test_text_that_unpacks_to_much_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "MAX_TEXT", 100_000)
    (tmp_path / "usps.bz2").write_bytes(bz2.compress(b"1 1:0 " * 20_000))
    with pytest.raises(DataError, match=r"usps.bz2: expected at most 100,000 bytes, found 100,001"):
        read_arrays(tmp_path)


def test_pixels_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    images = TRAIN[0] / 255.0
    images[3, 4, 5] = np.nan
    np.savez(tmp_path / "mnist.npz", x_train=images, y_train=TRAIN[1])
    with pytest.raises(DataError, match="expected pixels from 0 to 255, found nan"):
        read_arrays(tmp_path)


def test_a_pickle_in_a_file_is_not_opened(tmp_path: Path) -> None:
    np.savez(tmp_path / "mnist.npz", x_train=np.array([{"not": "numbers"}], object))
    with pytest.raises(DataError, match="can't be read: Object arrays"):
        read_arrays(tmp_path)


def test_labels_must_be_as_many_as_images(tmp_path: Path) -> None:
    np.savez(tmp_path / "mnist.npz", x_train=TRAIN[0], y_train=TRAIN[1][:-1])
    with pytest.raises(DataError, match=r"train: expected as many labels as images, found \[30"):
        read_arrays(tmp_path)
    np.save(tmp_path / "test_images.npy", TEST[0])
    with pytest.raises(DataError, match="as many labels"):
        read_arrays(tmp_path / "test_images.npy")


def test_kaggle_s_table_is_predicted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = np.zeros((2, 28, 28), np.uint8)
    images[0, 4:24, 13:15] = 255  # a one
    images[1, 4:6, 8:20] = 255  # a seven
    for row in range(6, 24):
        images[1, row, 19 - row // 3 : 21 - row // 3] = 255
    names = ",".join(f"pixel{i}" for i in range(784))
    path = tmp_path / "test.csv"
    np.savetxt(path, images.reshape(2, 784), "%d", ",", header=names, comments="")
    assert main(["predict", str(path), "--csv"]) == 0
    assert capsys.readouterr().out == "ImageId,Label\n1,1\n2,7\n"
    path.write_text("pixel0\n1\n")
    assert main(["predict", str(path), "--csv"]) == 1
    assert "expected rows of 784 pixels" in capsys.readouterr().err
