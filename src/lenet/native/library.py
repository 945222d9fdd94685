"""The functions of kernels.cpp and the structures that they take."""

import ctypes

from lenet.native.build import load_library

TenPointers = ctypes.c_void_p * 10


class Images(ctypes.Structure):
    """A batch as `struct Images` of the kernels describes it."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("format", ctypes.c_int32),
        ("background", ctypes.c_float),
        ("span", ctypes.c_float),
    )


class AdamSettings(ctypes.Structure):
    """What a step of Adam needs beside the tensors, as `struct Adam` of the kernels."""

    _fields_ = (
        ("lr", ctypes.c_float),
        ("beta1", ctypes.c_float),
        ("beta2", ctypes.c_float),
        ("eps", ctypes.c_float),
        ("weight_decay", ctypes.c_float),
        ("correction1", ctypes.c_float),
        ("correction2", ctypes.c_float),
        ("decoupled", ctypes.c_int32),
    )


def load_kernels() -> ctypes.CDLL:
    """Return the compiled kernels, with the types of their functions declared.

    Raises:
        NativeUnavailableError: They can't be had here.
    """
    library = load_library("kernels")
    pointer, integer, long = ctypes.c_void_p, ctypes.c_int, ctypes.c_long
    library.lenet5_train.argtypes = [
        ctypes.POINTER(Images), pointer, long, TenPointers, TenPointers, integer, integer,
        integer, ctypes.c_float, integer, pointer, ctypes.c_double * 3,
    ]  # fmt: skip
    library.lenet5_infer.argtypes = [
        ctypes.POINTER(Images), long, TenPointers, pointer, integer, integer, integer, integer,
    ]  # fmt: skip
    tensors = (integer, pointer, pointer, pointer, pointer, pointer)
    library.lenet5_adam.argtypes = (ctypes.POINTER(AdamSettings), *tensors, integer)
    library.lenet5_learn.argtypes = (
        ctypes.POINTER(Images), pointer, long, integer, integer, integer, ctypes.c_float, integer,
        ctypes.c_double * 3, ctypes.POINTER(AdamSettings), *tensors,
    )  # fmt: skip
    return library
