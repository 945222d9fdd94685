"""Choose where to compute."""

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


def describe_device(device: torch.device) -> str:
    """Return a name for people and records, such as "cuda (NVIDIA A100)"."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return str(device)
