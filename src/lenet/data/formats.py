"""Digits in the files that people have: NumPy's, CSV, Parquet, MATLAB's, HDF5, LIBSVM's, IDX.

`read_arrays` takes a file or a folder. What a file is, its first bytes say; whether its digits are
to train on or to test with, the names in it do, or its own name.
"""

import bz2
import math
import warnings
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lenet.data.idx import Bytes, read_idx
from lenet.errors import DataError, install_hint

MAX_BYTES = 2**30
"""Of a file and of what it unpacks to: 1 GiB, ten times Kaggle's table."""
MAX_TEXT = 2**26
"""Of LIBSVM's text, three times that of USPS: each number in it takes many times its length."""
TEST_SHARE = 7
"""Where nothing is to test with, a seventh of the digits is cut off for it, as in MNIST."""
ARRAYS = {
    "x_train": ("train", 0), "y_train": ("train", 1), "x_test": ("test", 0), "y_test": ("test", 1),
    "train_images": ("train", 0), "train_labels": ("train", 1),
    "test_images": ("test", 0), "test_labels": ("test", 1),
}  # fmt: skip
"""Names of arrays in Keras's mnist.npz, and of the files of MNIST-C."""

Part = tuple[str, int, NDArray[Any]]
"""The split, 0 for images or 1 for labels, and the array."""


def read_arrays(path: Path) -> list[Bytes]:
    """Return training images (N, 28, 28) and labels (N,), then those to test with, all uint8.

    Args:
        path: A file, or a folder of files.

    Returns:
        Four arrays, or none where there is nothing that is read here.

    Raises:
        DataError: A file is damaged, or there are labels without images.
    """
    parts: dict[tuple[str, int], list[Bytes]] = {}
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    _require_one(files, path)
    for file in files:
        for split, kind, array in _read(file):
            parts.setdefault((split, kind), []).append((_labels if kind else _images)(array, file))
    if not parts:
        return []
    # A data set may be cut into several files, each with its labels.
    found = {key: np.concatenate(arrays) for key, arrays in parts.items()}
    for split in ("train", "test"):
        images, labels = found.get((split, 0)), found.get((split, 1))
        if (images is None) != (labels is None) or (
            images is not None and labels is not None and len(images) != len(labels)
        ):
            counts = [0 if part is None else len(part) for part in (images, labels)]
            raise DataError(f"{path}: {split}: expected as many labels as images, found {counts}")
    if ("test", 0) not in found:
        _cut_test(found)
    empty = {0: np.empty((0, 28, 28), np.uint8), 1: np.empty(0, np.uint8)}
    return [found.get((split, kind), empty[kind]) for split in ("train", "test") for kind in (0, 1)]


def read_table(path: Path) -> tuple[Bytes, Bytes | None]:
    """Return the images (N, 28, 28) of a CSV table of pixels, and its labels if it has any.

    A row is the label and 784 pixels, 0 = background, 255 = ink, or the pixels alone; a first line
    of names is passed over. So are MNIST's tables on Kaggle, and those without names elsewhere.

    Raises:
        DataError: It is anything else.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            first = file.readline()
        is_named = not first.split(",")[0].strip().isdigit()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a table without rows, which is refused below
            rows = np.loadtxt(path, np.int64, delimiter=",", skiprows=int(is_named), ndmin=2)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: expected a table of whole numbers, found: {error}") from None
    if not len(rows) or rows.shape[1] not in (784, 785):
        raise DataError(
            f"{path}: expected rows of 784 pixels, with or without a label before them, found "
            f"{rows.shape[0]} rows of {rows.shape[1]}"
        )
    labels = rows[:, 0] if rows.shape[1] == 785 else None
    return _images(rows[:, -784:], path), None if labels is None else _labels(labels, path)


def _read(file: Path) -> Iterator[Part]:
    """Yield the arrays of a file; none if it is of another kind."""
    if not file.is_file():
        return
    _check_size(file, file.stat().st_size)
    with file.open("rb") as opened:
        start = opened.read(8)
    readers: dict[bytes, Callable[[Path], Iterator[Part]]] = {
        b"PK\x03\x04": _npz, b"\x93NUMPY": _npy, b"PAR1": _parquet, b"MATLAB": _matlab,
        b"\x89HDF": _hdf5, b"\0\0\x08": _idx, b"\0\0\x0c": _idx, b"\x1f\x8b": _idx, b"BZh": _libsvm,
    }  # fmt: skip
    for magic, reader in readers.items():
        if start.startswith(magic):
            try:
                yield from reader(file)
            except DataError:
                raise
            except Exception as error:  # libraries that are fed with broken files raise anything
                raise DataError(f"{file}: can't be read: {error}") from None
            return
    if file.suffix.lower() == ".csv":
        images, labels = read_table(file)
        if labels is not None:  # Kaggle's test.csv has none
            yield from _both(_split_of(file), images, labels)


def _npz(file: Path) -> Iterator[Part]:
    with file.open("rb") as opened, np.load(opened, allow_pickle=False) as archive:
        for member in archive.zip.infolist():
            name = member.filename.removesuffix(".npy")
            if name in ARRAYS:
                _check_size(file, member.file_size)
                yield *ARRAYS[name], archive[name]


def _npy(file: Path) -> Iterator[Part]:
    if file.stem in ARRAYS:
        yield *ARRAYS[file.stem], np.load(file, allow_pickle=False)


def _idx(file: Path) -> Iterator[Part]:
    array = read_idx(file)
    # EMNIST's images are transposed.
    is_turned = array.ndim == 3 and "emnist" in file.name.lower()
    if array.ndim == 2:  # QMNIST's: the digit, and then who wrote it where
        array = array[:, 0]
    yield _split_of(file), int(array.ndim == 1), array.transpose(0, 2, 1) if is_turned else array


def _libsvm(file: Path) -> Iterator[Part]:
    """Read USPS as LIBSVM's page has it: lines of a digit + 1 and 256 `place:value` pairs."""
    with bz2.open(file) as opened:
        text = opened.read(MAX_TEXT + 1)
    _check_size(file, len(text), MAX_TEXT)
    rows = [line.split() for line in text.decode("ascii").splitlines()]
    images = np.array([[pair.partition(":")[2] for pair in row[1:]] for row in rows], float)
    yield from _both(_split_of(file), images, np.array([row[0] for row in rows], float) - 1)


def _parquet(file: Path) -> Iterator[Part]:
    """Read a data set of Hugging Face's: a struct with the bytes of a picture, and a label."""
    try:
        import pyarrow.parquet as pq
    except ImportError:
        raise DataError(f"{file}: needs pyarrow: {install_hint('formats')}") from None
    table = pq.read_table(file, columns=["image", "label"])
    images = []
    for row in table.column("image").to_pylist():
        picture = Image.open(BytesIO(row["bytes"]))
        if picture.size != (28, 28):
            raise DataError(f"{file}: expected pictures of 28x28, found {picture.size}")
        images.append(np.asarray(picture.convert("L")))
    yield from _both(_split_of(file), np.stack(images), table.column("label").to_numpy())


def _matlab(file: Path) -> Iterator[Part]:
    """Read mnist-original.mat: 60,000 columns to train on, and then those to test with."""
    try:
        from scipy.io import loadmat, whosmat
    except ImportError:
        raise DataError(f"{file}: needs scipy: {install_hint('formats')}") from None
    _check_size(file, sum(math.prod(shape) for _, shape, _ in whosmat(file)))
    found = loadmat(file, variable_names=["data", "label"])
    images, labels = found["data"].T, found["label"].ravel()
    yield from _both("train", images[:60_000], labels[:60_000])
    if len(labels) > 60_000:
        yield from _both("test", images[60_000:], labels[60_000:])


def _hdf5(file: Path) -> Iterator[Part]:
    """Read USPS: `data` and `target` in the groups `train` and `test`."""
    try:
        import h5py
    except ImportError:
        raise DataError(f"{file}: needs h5py: {install_hint('formats')}") from None
    with h5py.File(file) as groups:
        for split in ("train", "test"):
            if split in groups:
                _check_size(file, groups[split]["data"].nbytes)
                yield from _both(split, groups[split]["data"][:], groups[split]["target"][:])


def _check_size(file: Path, num_bytes: int, limit: int | None = None) -> None:
    """Refuse a file, or what it unpacks to, that is far larger than any data set of this kind."""
    limit = limit or MAX_BYTES
    if num_bytes > limit:
        raise DataError(f"{file}: expected at most {limit:,} bytes, found {num_bytes:,}")


def _both(split: str, images: NDArray[Any], labels: NDArray[Any]) -> Iterator[Part]:
    yield split, 0, images
    yield split, 1, labels


def _split_of(file: Path) -> str:
    name = file.name.lower()
    return "test" if any(word in name for word in ("test", "t10k", "valid", ".t.")) else "train"


def _require_one(files: list[Path], folder: Path) -> None:
    """Refuse IDX files of several data sets: EMNIST's six come in one folder."""
    names = (file.name.lower().partition("-train-images-idx3") for file in files)
    found = sorted({before for before, word, _ in names if word})
    if len(found) > 1:
        raise DataError(
            f"{folder}: expected the files of one data set, found those of {', '.join(found)}; "
            "copy those of one into a folder of their own"
        )


def _images(array: NDArray[Any], file: Path) -> Bytes:
    """Return images as (N, 28, 28) uint8; those of USPS, 16x16, as MNIST's are in their field."""
    count = len(array)
    values = array.reshape(count, -1) if array.ndim > 1 else array
    if values.ndim != 2 or values.shape[1] not in (256, 784):
        raise DataError(f"{file}: expected images of 28x28 or 16x16, found {array.shape}")
    if values.dtype.kind == "f" and count and values.max() <= 1:  # 0 to 1, or -1 to 1
        low = min(0.0, float(values.min()))
        values = (values - low) / (1 - low) * 255
    if count and not (values.min() >= 0 and values.max() <= 255):  # nor NaN
        raise DataError(
            f"{file}: expected pixels from 0 to 255, found {values.min()} to {values.max()}"
        )
    pixels = np.rint(values).astype(np.uint8)
    if values.shape[1] == 784:
        return np.ascontiguousarray(pixels.reshape(count, 28, 28))
    images = np.zeros((count, 28, 28), np.uint8)
    for image, small in zip(images, pixels.reshape(count, 16, 16), strict=True):
        larger = Image.fromarray(small).resize((20, 20), Image.Resampling.BILINEAR)
        image[4:24, 4:24] = np.asarray(larger)
    return images


def _labels(array: NDArray[Any], file: Path) -> Bytes:
    labels = array.ravel().astype(np.uint8)
    if not np.array_equal(labels, array.ravel()):
        raise DataError(f"{file}: expected labels that are small whole numbers, found others")
    return labels


def _cut_test(found: dict[tuple[str, int], Bytes]) -> None:
    """Take some digits to test with from those to train on, the same each time."""
    images, labels = found["train", 0], found["train", 1]
    order = np.random.default_rng(0).permutation(len(labels))
    num_test = len(labels) // TEST_SHARE
    for split, chosen in (("test", order[:num_test]), ("train", order[num_test:])):
        chosen = np.sort(chosen)
        found[split, 0], found[split, 1] = images[chosen], labels[chosen]
