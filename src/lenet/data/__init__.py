"""Digits in: data sets found or fetched, verified, and served as batches."""

from importlib import import_module
from typing import TYPE_CHECKING

from lenet.data.datasets import (
    DATASETS,
    DataFile,
    Dataset,
    DatasetStatus,
    FileStatus,
    Wheel,
    cache_dir,
    fetch,
    find_dataset,
    list_datasets,
    read_split,
    verify,
)
from lenet.data.idx import read_idx, write_idx

if TYPE_CHECKING:
    from lenet.data.digits import Digits, batches, load, order, split_validation, to_input

__all__ = [
    "DATASETS",
    "DataFile",
    "Dataset",
    "DatasetStatus",
    "Digits",
    "FileStatus",
    "Wheel",
    "batches",
    "cache_dir",
    "fetch",
    "find_dataset",
    "list_datasets",
    "load",
    "order",
    "read_idx",
    "read_split",
    "split_validation",
    "to_input",
    "verify",
    "write_idx",
]


def __getattr__(name: str) -> object:
    # The names of `digits` are imported when first used, for they need PyTorch (over a second).
    if name in __all__:
        return getattr(import_module("lenet.data.digits"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
