"""What makes equal runs equal: seeded weights, fixed threads, fixed algorithms, the same data."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from lenet.data.digits import Digits
from lenet.models import LeNet5, LeNet5_1998, Network
from lenet.training.recipe import Recipe


def build_model(recipe: Recipe, seed: int, *, num_classes: int = 10) -> Network:
    """Return the recipe's network with the seed's initial weights, on the CPU.

    The weights of `LeNet5` are PyTorch's defaults, drawn after `torch.manual_seed(seed)` as in the
    notebook; the caller's own random state is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if recipe.model == "lenet5-1998":
            return LeNet5_1998(
                num_classes,
                connections=recipe.connections,
                pooling=recipe.pooling,
                output=recipe.output,
                init=recipe.init,
                background=recipe.background,
                ink=recipe.ink,
            )
        return LeNet5(
            num_classes,
            activation=recipe.activation,
            pooling=recipe.pooling,
            resize=recipe.resize,
            background=recipe.background,
            ink=recipe.ink,
        )


def fingerprint(digits: Digits) -> str:
    """Return the SHA-256 of the pixels, then the labels."""
    digest = hashlib.sha256(digits.images.numpy().data)
    digest.update(digits.labels.numpy().data)
    return digest.hexdigest()


def file_fingerprint(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def threads(num_threads: int) -> Iterator[None]:
    """Compute on that many CPU threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """Ask CUDA for the algorithms that give the same bits each time; others do already."""
    if device.type != "cuda":
        yield
        return
    # cuBLAS reads this when its first handle is made.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]
