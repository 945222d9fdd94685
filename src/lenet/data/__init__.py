"""Data sets: found or downloaded, verified, and drawn as batches.

The names of `digits` need PyTorch, which takes over a second to import, so they are imported when
they are first used.
"""

from typing import TYPE_CHECKING

from lenet.data.datasets import DATASETS, cache_dir, fetch, list_datasets, read_split, verify

if TYPE_CHECKING:
    from lenet.data.digits import Digits, batches, load, order, split_validation, to_input

__all__ = [
    "DATASETS",
    "Digits",
    "batches",
    "cache_dir",
    "fetch",
    "list_datasets",
    "load",
    "order",
    "read_split",
    "split_validation",
    "to_input",
    "verify",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from lenet.data import digits

    return getattr(digits, name)
