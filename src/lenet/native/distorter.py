"""The compiled renderer of distorted digits; `lenet.data.distortions.render` is its oracle."""

import ctypes
from collections.abc import Callable

import torch
from torch import Tensor

from lenet.data.distortions import NUM_VALUES, SIDE, spline_basis
from lenet.native.build import load_library

Renderer = Callable[[Tensor, Tensor, Tensor], Tensor]


def load_renderer() -> Renderer:
    """Compile or find the renderer: a function with `render`'s arguments, for the CPU.

    Raises:
        NativeUnavailableError: It can't be had on this machine.
    """
    library = load_library("distort")
    pointer, long = ctypes.c_void_p, ctypes.c_int64
    library.lenet_distort.restype = ctypes.c_int
    library.lenet_distort.argtypes = [pointer, long, pointer, long, pointer, pointer, pointer]
    basis = torch.from_numpy(spline_basis()).contiguous()

    def render(images: Tensor, indices: Tensor, table: Tensor) -> Tensor:
        images, indices, table = images.contiguous(), indices.contiguous(), table.contiguous()
        if images.shape[1:] != (SIDE, SIDE) or table.shape != (len(indices), NUM_VALUES):
            raise ValueError(
                f"`images` {tuple(images.shape)} must be (N, {SIDE}, {SIDE}) and "
                f"`table` {tuple(table.shape)} ({len(indices)}, {NUM_VALUES})"
            )
        types = images.dtype, indices.dtype, table.dtype
        if types != (torch.uint8, torch.int64, torch.float32):
            raise ValueError(f"types {types} must be uint8, int64 and float32")
        x = torch.empty(len(indices), 1, SIDE, SIDE)
        failed = library.lenet_distort(
            images.data_ptr(),
            len(images),
            indices.data_ptr(),
            len(indices),
            table.data_ptr(),
            basis.data_ptr(),
            x.data_ptr(),
        )
        if failed:
            raise IndexError(f"an index is outside 0..{len(images) - 1}")
        return x

    return render
