"""A small synthetic data set, and a cache of the test's own."""

import gzip
import hashlib
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image, ImageDraw

from lenet.data.datasets import DATASETS, DataFile, Dataset
from lenet.data.idx import header
from lenet.native.build import NativeUnavailableError, build

FILES = {
    "train-images-idx3-ubyte": (60, 28, 28),
    "train-labels-idx1-ubyte": (60,),
    "t10k-images-idx3-ubyte": (20, 28, 28),
    "t10k-labels-idx1-ubyte": (20,),
}


LONGEST = (
    "test_real.py",
    "test_benchmarks.py",
    "test_native.py",
    "test_export.py",
    "test_study.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest: where there are workers, none ends long after."""
    last = len(LONGEST)
    items.sort(
        key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else last
    )


@pytest.fixture
def contents() -> dict[str, bytes]:
    """The raw IDX files of the data set `tiny`, by name: random images and labels."""
    rng = np.random.default_rng(0)
    return {
        name: header(shape) + rng.integers(0, 10, shape, dtype=np.uint8).tobytes()
        for name, shape in FILES.items()
    }


@pytest.fixture
def tiny(contents: dict[str, bytes]) -> Dataset:
    """A data set of 60 + 20 images that no source has yet."""
    train_images, train_labels, test_images, test_labels = (
        DataFile(name=name, shape=FILES[name], sha256=hashlib.sha256(raw).hexdigest())
        for name, raw in contents.items()
    )
    return Dataset(
        name="tiny",
        title="Tiny",
        folder="TINY",
        files=(train_images, train_labels, test_images, test_labels),
        classes=tuple("0123456789"),
        licence="none",
        citation="none",
        mirrors=(),
    )


@pytest.fixture(scope="session")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the compiled kernels, which take seconds to compile: once for all tests."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # the folder beside it is that of all of them
        root = root.parent
    cache = root / "compiled"
    with FileLock(root / "compiled.lock"), pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache))
        for name in ("kernels", "distort", "lenet5_1998"):
            with suppress(NativeUnavailableError):
                build(name)
    folder = cache / "lenet" / "native"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no folder named by the environment."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("LENET_DATA", raising=False)
    return tmp_path / "cache" / "lenet"


@pytest.fixture
def shared_kernels(kernels: Path, cache: Path) -> None:
    """The cache holds the compiled kernels of the other tests."""
    cache.mkdir(parents=True)
    (cache / "native").symlink_to(kernels)


@pytest.fixture
def fill(contents: dict[str, bytes]) -> Callable[..., Path]:
    """Write the files of `tiny` into a folder, gzipped or not."""

    def write(folder: Path, *, gzipped: bool = False) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for name, raw in contents.items():
            path = folder / (name + ".gz" if gzipped else name)
            path.write_bytes(gzip.compress(raw) if gzipped else raw)
        return folder

    return write


@pytest.fixture(scope="session")
def seven() -> Image.Image:
    """A picture of a 7, dark on light, 300 pixels on a side."""
    image = Image.new("RGB", (300, 300), (230, 230, 225))
    points = [(90, 60), (210, 60), (135, 240)]
    ImageDraw.Draw(image).line(points, fill=(20, 20, 30), width=16, joint="curve")
    return image


@pytest.fixture(autouse=True, scope="session")
def ctrl_c() -> None:
    """Ctrl-C works, here and in processes that tests start, even where a shell's `&` ignores it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Networks this small gain nothing from more, and on a busy machine the threads wait long."""
    torch.set_num_threads(1)


@pytest.fixture
def tiny_mnist(
    tiny: Dataset,
    fill: Callable[..., Path],
    cache: Path,
    shared_kernels: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """MNIST is `tiny`, and it lies in the cache."""
    monkeypatch.setitem(DATASETS, "mnist", replace(tiny, name="mnist"))
    fill(cache / "mnist")


@pytest.fixture
def everywhere(tiny_mnist: None, tmp_path: Path) -> dict[str, str]:
    """An environment in which MNIST is `tiny` in every process, however it is started."""
    folder = tmp_path / "site"
    folder.mkdir()
    # Python imports this module first, if it finds it.
    (folder / "sitecustomize.py").write_text(
        "from lenet.data.datasets import DATASETS, DataFile, Dataset\n"
        f"DATASETS['mnist'] = {DATASETS['mnist']!r}\n"
    )
    paths = [str(folder), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
