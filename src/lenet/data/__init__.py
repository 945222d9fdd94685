"""Digits in: data sets found or fetched, verified, and served as batches.

Names are imported when first used, since the tensors need PyTorch and the rest does not.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lenet.data.datasets import DATASETS, DataFile, Dataset, Wheel, find_dataset
    from lenet.data.digits import (
        Digits,
        batches,
        load,
        order,
        split_validation,
        to_input,
    )
    from lenet.data.download import (
        DatasetStatus,
        FileStatus,
        cache_dir,
        fetch,
        list_datasets,
        verify,
    )
    from lenet.data.idx import read_idx, read_images, read_labels, write_idx

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
    "read_images",
    "read_labels",
    "split_validation",
    "to_input",
    "verify",
    "write_idx",
]

_HOMES = {
    "digits": ("Digits", "batches", "load", "order", "split_validation", "to_input"),
    "download": (
        "DatasetStatus",
        "FileStatus",
        "cache_dir",
        "fetch",
        "list_datasets",
        "verify",
    ),
    "idx": ("read_idx", "read_images", "read_labels", "write_idx"),
    "datasets": ("DATASETS", "DataFile", "Dataset", "Wheel", "find_dataset"),
}


def __getattr__(name: str) -> object:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"lenet.data.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
