from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lenet.data.datasets import Dataset
from lenet.data.digits import (
    Digits,
    batches,
    load,
    order,
    split_validation,
    subset,
    to_input,
)
from lenet.errors import DataError


def make_digits(num_images: int, split: str = "train") -> Digits:
    # Each image holds its own position, so that it can be told again.
    images = torch.zeros(num_images, 28, 28, dtype=torch.uint8)
    positions = torch.arange(num_images)
    images[:, 0, 0], images[:, 0, 1] = positions % 256, positions // 256
    return Digits(
        images=images,
        labels=positions % 10,
        name="tiny",
        split=split,
        classes=tuple("0123456789"),
    )


def positions(x: Tensor) -> list[int]:
    pixels = (x[:, 0, 0, :2] * 255).round().long()
    return (pixels[:, 0] + 256 * pixels[:, 1]).tolist()


def test_loaded_digits_are_the_files(
    tiny: Dataset, contents: dict[str, bytes], fill: Callable[..., Path], tmp_path: Path
) -> None:
    for split, part in (("train", "train"), ("test", "t10k")):
        digits = load(tiny, split, data_dir=fill(tmp_path / "digits"))
        assert digits.images.dtype == torch.uint8
        assert digits.labels.dtype == torch.int64
        assert digits.images.numpy().tobytes() == contents[f"{part}-images-idx3-ubyte"][16:]
        assert bytes(digits.labels.tolist()) == contents[f"{part}-labels-idx1-ubyte"][8:]
        assert (digits.name, digits.split) == ("tiny", split)
        assert len(digits) == len(digits.labels)
        assert len(digits.classes) == 10


def test_a_split_that_does_not_exist_is_refused_before_anything_is_fetched(tiny: Dataset) -> None:
    with pytest.raises(DataError, match="'train' or 'test'"):
        load(tiny, "val")


def test_validation_part_and_rest_are_all_of_train_once() -> None:
    digits = make_digits(1000)
    train, val = split_validation(digits, 100)
    assert (len(train), len(val)) == (900, 100)
    assert (train.split, val.split) == ("train", "val")
    found = [positions(to_input(part.images)) for part in (train, val)]
    assert sorted(found[0] + found[1]) == list(range(1000))
    assert all(part == sorted(part) for part in found)
    for part in (train, val):
        assert part.labels.tolist() == [i % 10 for i in positions(to_input(part.images))]


def test_validation_part_is_the_same_every_time_and_drawn_from_everywhere() -> None:
    parts = [
        positions(to_input(split_validation(make_digits(1000), 100)[1].images)) for _ in range(2)
    ]
    assert parts[0] == parts[1]
    assert parts[0][:5] == [9, 21, 24, 33, 39]
    assert parts[0] != positions(to_input(split_validation(make_digits(1000), 100, 1)[1].images))


@pytest.mark.parametrize("num_val", [-1, 0, 10, 11])
def test_both_parts_of_a_split_hold_something(num_val: int) -> None:
    with pytest.raises(DataError, match=rf"`num_val` \(={num_val}\) must lie between 1 and 9"):
        split_validation(make_digits(10), num_val)


def test_validation_is_cut_from_train_alone() -> None:
    with pytest.raises(DataError, match="cut from 'train', not from 'test'"):
        split_validation(make_digits(10, "test"), 3)


def test_order_is_the_same_on_every_machine() -> None:
    assert order(10, seed=0, epoch=0).tolist() == [9, 5, 3, 1, 8, 2, 7, 4, 0, 6]
    assert order(10, seed=0, epoch=1).tolist() == [0, 8, 7, 2, 5, 9, 3, 4, 6, 1]
    assert order(10, seed=1, epoch=0).tolist() == [1, 7, 0, 2, 9, 5, 6, 8, 3, 4]
    assert order(60_000, seed=5, epoch=14)[:4].tolist() == [50699, 12772, 23854, 52520]


def test_order_is_a_permutation_and_depends_on_nothing_else() -> None:
    torch.manual_seed(1)
    first = order(1000, seed=3, epoch=7)
    state = torch.get_rng_state()
    assert torch.equal(first, order(1000, seed=3, epoch=7))
    assert torch.equal(torch.get_rng_state(), state)
    assert first.dtype == torch.int64
    assert sorted(first.tolist()) == list(range(1000))


def test_no_two_epochs_of_near_seeds_share_an_order() -> None:
    seen = {tuple(order(50, seed, epoch).tolist()) for seed in range(20) for epoch in range(20)}
    assert len(seen) == 400


def test_pixels_are_divided_exactly() -> None:
    images = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16)
    expected = np.arange(256, dtype=np.float32).reshape(1, 1, 16, 16) / np.float32(255)
    x = to_input(images)
    assert x.dtype == torch.float32
    np.testing.assert_array_equal(x.numpy(), expected)
    assert x.min() == 0
    assert x.max() == 1


@pytest.mark.parametrize("shuffle", [False, True])
def test_every_image_comes_once_with_its_label(shuffle: bool) -> None:
    digits = make_digits(1003)
    drawn = list(batches(digits.images, digits.labels, batch_size=32, seed=1, shuffle=shuffle))
    assert [len(x) for x, _ in drawn] == [32] * 31 + [11]
    assert all(x.shape == (len(y), 1, 28, 28) for x, y in drawn)
    found = [i for x, _ in drawn for i in positions(x)]
    labels = [label for _, y in drawn for label in y.tolist()]
    assert labels == [i % 10 for i in found]
    expected = order(1003, 1, 0).tolist() if shuffle else list(range(1003))
    assert found == expected


def test_ten_thousand_scored_means_ten_thousand() -> None:
    digits = make_digits(10_000, "test")
    drawn = batches(digits.images, digits.labels, batch_size=128, shuffle=False)
    assert sum(len(labels) for _, labels in drawn) == 10_000


@pytest.mark.parametrize("world_size", [1, 2, 4, 8])
@pytest.mark.parametrize("num_images", [64, 61, 50, 33])
def test_the_ranks_share_the_batch_that_one_process_draws(world_size: int, num_images: int) -> None:
    digits = make_digits(num_images)

    def draw(rank: int, world_size: int) -> list[tuple[Tensor, Tensor]]:
        return list(
            batches(
                digits.images,
                digits.labels,
                batch_size=16,
                seed=2,
                epoch=3,
                rank=rank,
                world_size=world_size,
            )
        )

    ranks = [draw(rank, world_size) for rank in range(world_size)]
    for number, (x, labels) in enumerate(draw(0, 1)):
        shares = [rank[number] for rank in ranks]
        assert torch.equal(torch.cat([share[0] for share in shares]), x)
        assert torch.equal(torch.cat([share[1] for share in shares]), labels)
        sizes = [len(share[1]) for share in shares]
        assert max(sizes) - min(sizes) <= 1
    assert len({len(rank) for rank in ranks}) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, r"`batch_size` \(=0\) must be at least 1"),
        ({"batch_size": 4, "rank": 2, "world_size": 2}, r"`rank` \(=2\) must lie between 0 and"),
    ],
)
def test_impossible_batches_are_refused_at_once(arguments: dict[str, Any], message: str) -> None:
    digits = make_digits(10)
    with pytest.raises(DataError, match=message):
        batches(digits.images, digits.labels, **arguments)


def test_images_and_labels_of_different_number_are_refused() -> None:
    digits = make_digits(10)
    with pytest.raises(DataError, match="10 images, but 9 labels"):
        batches(digits.images, digits.labels[:9], batch_size=2)


def test_subsets_are_nested_and_always_the_same() -> None:
    digits = make_digits(60)
    small, large = subset(digits, 10), subset(digits, 30)
    assert torch.equal(small.images, subset(digits, 10).images)
    places = [set(positions(to_input(part.images))) for part in (small, large)]
    assert [len(place) for place in places] == [10, 30]
    assert places[0] < places[1]
    assert torch.equal(subset(digits, 60).images, digits.images)
    for num_images in (0, 61):
        with pytest.raises(DataError, match=rf"=({num_images})\)"):
            subset(digits, num_images)
