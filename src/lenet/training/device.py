"""Where to compute, and what makes equal runs equal there."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from lenet.errors import RecipeError


def choose_device(name: str = "auto") -> torch.device:
    """Return the device of that name; "auto" is CUDA, else MPS, else the CPU.

    Raises:
        RecipeError: torch does not know the name, or the device is not on this machine.
    """
    if name == "auto":
        name = next((kind for kind in ("cuda", "mps") if _is_available(kind)), "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise RecipeError(f"`device` (={name!r}) must be auto, cpu, cuda, cuda:N or mps") from None
    if not _is_available(device.type):
        have = [kind for kind in ("cuda", "mps", "cpu") if _is_available(kind)]
        raise RecipeError(f"`device` (={name!r}) is not on this machine; there is: {have}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise RecipeError(
            f"`device` (={name!r}): this machine has {torch.cuda.device_count()} CUDA device(s)"
        )
    return device


def _is_available(kind: str) -> bool:
    if kind == "cuda":
        return torch.cuda.is_available()
    if kind == "mps":
        return torch.backends.mps.is_available()
    return kind == "cpu"


def describe_device(device: torch.device, num_processes: int = 1) -> str:
    """Return a name for people and records, such as "cuda (NVIDIA A100)"."""
    name = str(device)
    if device.type == "cuda":
        name += f" ({torch.cuda.get_device_name(device)})"
    return name if num_processes == 1 else f"{name}, {num_processes} processes"


@contextmanager
def reproducible(device: torch.device) -> Iterator[None]:
    """Compute inside the block so that equal runs give equal bits.

    torch takes one CPU thread: on work this small, more gain a fifth on an idle machine and stall a
    busy one (docs/decisions.md), and figures would depend on the number of cores. CUDA is asked for
    deterministic algorithms; the CPU's are.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    if device.type == "cuda":
        # cuBLAS reads this when its first handle is made.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        if device.type == "cuda":
            torch.use_deterministic_algorithms(before[0])
            torch.backends.cudnn.benchmark = before[1]
