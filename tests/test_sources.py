import re
import subprocess
import sys

import pytest

from lenet.data.datasets import DATASETS, Dataset, find_dataset
from lenet.errors import DataError


@pytest.mark.parametrize("name", DATASETS)
def test_every_entry_is_complete(name: str) -> None:
    dataset = DATASETS[name]
    assert dataset.name == name
    assert len(dataset.classes) == len(set(dataset.classes)) == 10
    assert dataset.licence
    assert dataset.citation
    assert [file.shape for file in dataset.files] == [
        (60_000, 28, 28),
        (60_000,),
        (10_000, 28, 28),
        (10_000,),
    ]
    assert len({file.name for file in dataset.files}) == 4
    for hashes in (
        [file.gz_sha256 or "" for file in dataset.files],
        [file.sha256 or "" for file in dataset.files if name != "kmnist"],
    ):
        assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in hashes)
        assert len(set(hashes)) == len(hashes)


@pytest.mark.parametrize("name", DATASETS)
def test_mirrors_are_folders_under_https(name: str) -> None:
    assert DATASETS[name].mirrors
    for mirror in DATASETS[name].mirrors:
        assert mirror.startswith("https://")
        assert mirror.endswith("/")


def test_file_names_are_the_canonical_ones() -> None:
    for dataset in DATASETS.values():
        assert [file.gz_name for file in dataset.files] == [
            "train-images-idx3-ubyte.gz",
            "train-labels-idx1-ubyte.gz",
            "t10k-images-idx3-ubyte.gz",
            "t10k-labels-idx1-ubyte.gz",
        ]


def test_a_data_set_is_found_by_name_or_passed_on(tiny: Dataset) -> None:
    assert find_dataset("mnist") is DATASETS["mnist"]
    assert find_dataset(tiny) is tiny
    with pytest.raises(DataError, match=r"`dataset` \(='mnits'\) must be one of mnist, fashion"):
        find_dataset("mnits")


def test_knowing_the_data_sets_takes_neither_torch_nor_requests() -> None:
    code = (
        "import sys; from lenet.data.datasets import list_datasets; list_datasets(); "
        "sys.exit(bool({'torch', 'requests', 'pooch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
