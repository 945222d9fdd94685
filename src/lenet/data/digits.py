"""Images and their labels as tensors: load, cut off a validation part, draw batches.

The whole data set is one uint8 tensor, and a batch is drawn from it by index. The order is a pure
function of (seed, epoch), the same on every device, and a global batch is drawn first and sliced
by rank after, so any number of ranks sees the batches that one process sees.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lenet.data.datasets import Dataset, Progress, find_dataset, read_split
from lenet.errors import DataError

VALIDATION_SEED = 1998
"""Not the run's seed, so that all runs are compared on the same images."""
GATHERED = 256
"""Images gathered at a time: 200 kB, which stay in a core's cache until they are used."""

Sampler = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Makes (x, labels) from indices (B,) int64 of images."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Digits:
    """Images with their labels."""

    images: Tensor
    """(N, 28, 28) uint8, 0 = background, 255 = ink."""
    labels: Tensor
    """(N,) int64."""
    name: str
    """Of the data set."""
    split: str
    """"train", "val" (cut from train) or "test"."""
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)


def load(
    dataset: str | Dataset = "mnist",
    split: str = "train",
    *,
    data_dir: Path | None = None,
    progress: Progress | None = None,
) -> Digits:
    """Load a split of a data set, fetching it first where it is not on this machine.

    Args:
        dataset: A name in `DATASETS`, or a `Dataset`.
        split: "train" or "test".
        data_dir: A folder that holds the files; see `lenet.data.datasets.fetch`.
        progress: Called as the bytes of a file arrive.

    Raises:
        DownloadError: No source had the files.
        DataError: There is no such data set or split, or its files are broken.
    """
    found = find_dataset(dataset)
    images, labels = read_split(found, split, data_dir=data_dir, progress=progress)
    return Digits(
        images=torch.from_numpy(images),
        labels=torch.from_numpy(labels).long(),
        name=found.name,
        split=split,
        classes=found.classes,
    )


def split_validation(
    digits: Digits, num_val: int, seed: int = VALIDATION_SEED
) -> tuple[Digits, Digits]:
    """Cut a validation part off the training images.

    Args:
        digits: The training images.
        num_val: How many images the validation part gets, drawn at random.
        seed: Decides which; leave it alone to compare with other runs.

    Returns:
        The remaining "train" and the "val" part, both in the original order.
    """
    if digits.split != "train":
        raise DataError(f"a validation part is cut from 'train', not from {digits.split!r}")
    if not 0 < num_val < len(digits):
        raise DataError(
            f"`num_val` (={num_val}) must lie between 1 and {len(digits) - 1}, "
            f"one less than there are training images"
        )
    shuffled = _permutation(len(digits), f"validation {seed}")
    return (
        _select(digits, shuffled[num_val:].sort().values, "train"),
        _select(digits, shuffled[:num_val].sort().values, "val"),
    )


def subset(digits: Digits, num_images: int) -> Digits:
    """Return that many of the images, drawn at random but always the same, in their order.

    A smaller subset is part of every larger one.

    Raises:
        DataError: There are not so many.
    """
    if not 0 < num_images <= len(digits):
        raise DataError(f"`num_images` (={num_images}) must lie between 1 and {len(digits)}")
    chosen = _permutation(len(digits), f"subset {VALIDATION_SEED}")[:num_images]
    return _select(digits, chosen.sort().values, digits.split)


def order(num_images: int, seed: int, epoch: int) -> Tensor:
    """Return the order of an epoch's images: a permutation, (num_images,) int64, on the CPU."""
    return _permutation(num_images, f"order {seed} {epoch}")


def batches(
    images: Tensor,
    labels: Tensor,
    *,
    batch_size: int,
    seed: int = 0,
    epoch: int = 0,
    shuffle: bool = True,
    rank: int = 0,
    world_size: int = 1,
    as_bytes: bool = False,
    sample: Sampler | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Draw the batches of one epoch, on the device that the images are on.

    Args:
        images: (N, 28, 28) uint8.
        labels: (N,) int64, on the same device.
        batch_size: Global, over all ranks.
        seed: Of the run; decides the order.
        epoch: Counted from 0; decides the order too.
        shuffle: Draw in `order(N, seed, epoch)`; otherwise as they lie.
        rank: Which of the processes this is, counted from 0.
        world_size: How many processes share each batch.
        as_bytes: Return the pixels as bytes.
        sample: Makes (x, labels) from indices, in place of the images as they are.

    Returns:
        This rank's share (x, labels) of each global batch; x: (B, 1, 28, 28) float32 in [0, 1],
        1 = ink, or with `as_bytes` (B, 28, 28) uint8. No image is left out: the last batch is
        short where `batch_size` does not divide N. Shares may differ by an image, and be empty.
    """
    if batch_size < 1:
        raise DataError(f"`batch_size` (={batch_size}) must be at least 1")
    if not 0 <= rank < world_size:
        raise DataError(f"`rank` (={rank}) must lie between 0 and `world_size` (={world_size}) - 1")
    if len(images) != len(labels):
        raise DataError(f"there are {len(images)} images, but {len(labels)} labels")
    num_images = len(labels)
    indices = order(num_images, seed, epoch) if shuffle else torch.arange(num_images)
    indices = indices.to(images.device)
    if sample is None and world_size == 1:
        drawn = _draw_whole(images, labels, indices, batch_size)
    else:
        drawn = _draw_shares(images, labels, indices, batch_size, rank, world_size, sample)
    if as_bytes or sample is not None:
        return drawn
    return ((to_input(x), y) for x, y in drawn)


def _draw_whole(
    images: Tensor, labels: Tensor, indices: Tensor, batch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    if not len(labels):
        return
    # Several small batches are gathered at once, which takes half the time of one by one; as
    # bytes, which are a quarter of the memory traffic of floats.
    for several in torch.split(indices, max(1, GATHERED // batch_size) * batch_size):
        gathered = images.index_select(0, several), labels.index_select(0, several)
        yield from zip(*(torch.split(part, batch_size) for part in gathered), strict=True)


def _draw_shares(
    images: Tensor,
    labels: Tensor,
    indices: Tensor,
    batch_size: int,
    rank: int,
    world_size: int,
    sample: Sampler | None,
) -> Iterator[tuple[Tensor, Tensor]]:
    for start in range(0, len(labels), batch_size):
        size = min(batch_size, len(labels) - start)
        mine = indices[start + size * rank // world_size : start + size * (rank + 1) // world_size]
        if sample is not None:
            yield sample(mine)
        else:
            yield images.index_select(0, mine), labels.index_select(0, mine)


def to_input(images: Tensor) -> Tensor:
    """Convert images (B, 28, 28) uint8 to the model's input (B, 1, 28, 28) float32 in [0, 1]."""
    # Divided by a tensor on the device: by a Python number, CUDA multiplies with the reciprocal,
    # which differs in the last bit from the quotient that the CPU gives. Converted and divided in
    # one pass, which takes half the time of two.
    divisor = torch.full((), 255.0, dtype=torch.float32, device=images.device)
    return images.unsqueeze(1) / divisor  # (B, 1, 28, 28)


def _select(digits: Digits, indices: Tensor, split: str) -> Digits:
    indices = indices.to(digits.images.device)
    return Digits(
        images=digits.images[indices],
        labels=digits.labels[indices],
        name=digits.name,
        split=split,
        classes=digits.classes,
    )


def _permutation(num_items: int, key: str) -> Tensor:
    # PyTorch's CPU generator keeps 32 bits of its seed, so neighbouring (seed, epoch) pairs are
    # spread by a hash; sums such as seed + epoch would give two runs the same orders.
    generator = torch.Generator()
    generator.manual_seed(int.from_bytes(hashlib.sha256(key.encode()).digest()[:4]))
    return torch.randperm(num_items, generator=generator)
