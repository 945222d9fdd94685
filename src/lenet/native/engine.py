"""The training loop's "loss and gradients of this batch", and logits, from the compiled kernels.

The kernels work on the model's own parameters, so a run may stop under one engine and go on under
another. Their results do not depend on the number of threads (see kernels.cpp); they differ from
torch's in rounding.
"""

import ctypes
from typing import cast

import torch
from torch import Tensor, nn

from lenet.models import LeNet5
from lenet.native.build import NativeUnavailableError, build

ACTIVATIONS = {"tanh": 0, "relu": 1}
POOLINGS = {"average": 0, "max": 1}
MAX_CLASSES = 64

_TenPointers = ctypes.c_void_p * 10


class NativeEngine:
    """Loss, gradients and logits of one LeNet-5 on the CPU; for one thread of Python at a time."""

    def __init__(
        self, model: LeNet5, *, label_smoothing: float = 0.0, num_threads: int = 1
    ) -> None:
        """Compile or find the kernels, and give every parameter a gradient to write to.

        Args:
            model: float32, on the CPU.
            label_smoothing: As in `nn.CrossEntropyLoss`.
            num_threads: 1 to 64; changes the speed, not the results.

        Raises:
            NativeUnavailableError: The kernels can't be had here, or are not made for this model.
        """
        parameters = list(model.parameters())
        if model.in_channels != 1 or model.num_classes > MAX_CLASSES:
            raise NativeUnavailableError(
                f"the kernels are for 1 channel and at most {MAX_CLASSES} classes"
            )
        if any(p.device.type != "cpu" or p.dtype != torch.float32 for p in parameters):
            raise NativeUnavailableError("the kernels are for float32 on the CPU")
        self._library = _load()
        self._model = model
        self._label_smoothing = label_smoothing
        self._num_threads = num_threads
        self._variant = ACTIVATIONS[model.activation], POOLINGS[model.pooling]
        self._parameters = parameters
        background, ink = cast(Tensor, model.background), cast(Tensor, model.ink)
        self._background, self._span = float(background), float(ink - background)
        self._kept = torch.empty(0, 1, 32, 32)
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter)

    def loss_and_gradients(self, x: Tensor, labels: Tensor) -> tuple[float, Tensor]:
        """Write the gradients of the batch's mean cross-entropy into the parameters' `.grad`.

        Args:
            x: (B, 1, 28, 28) float32 in [0, 1].
            labels: (B,) int64.

        Returns:
            The loss, and the logits (B, num_classes).

        Raises:
            ValueError: A label is out of range, or the batch is empty.
        """
        field = self._field(x)
        labels = labels.contiguous()
        logits = torch.empty(len(x), self._model.num_classes)
        loss = self._library.lenet5_train(
            field.data_ptr(),
            labels.data_ptr(),
            len(x),
            self._pointers(self._parameters),
            self._pointers([_gradient(parameter) for parameter in self._parameters]),
            self._model.num_classes,
            *self._variant,
            self._label_smoothing,
            self._num_threads,
            logits.data_ptr(),
        )
        if loss < 0:
            raise ValueError(f"empty batch, or a label outside 0..{self._model.num_classes - 1}")
        return loss, logits

    def logits(self, x: Tensor) -> Tensor:
        """Return the logits (B, num_classes) of x (B, 1, 28, 28) float32 in [0, 1]."""
        field = self._field(x)
        logits = torch.empty(len(x), self._model.num_classes)
        if len(x):
            self._library.lenet5_infer(
                field.data_ptr(),
                len(x),
                self._pointers(self._parameters),
                logits.data_ptr(),
                self._model.num_classes,
                *self._variant,
                self._num_threads,
            )
        return logits

    def _field(self, x: Tensor) -> Tensor:
        """Return what `LeNet5.prepare` does, bit for bit, (B, 1, 32, 32) contiguous."""
        with torch.no_grad():
            if self._model.resize != "pad" or x.shape[1:] != (1, 28, 28):
                return self._model.prepare(x.float()).contiguous()
            # In a field kept from the last batch, whose border is background already: for one
            # image, padding and scaling cost more than the network.
            if len(self._kept) != len(x):
                self._kept = torch.full((len(x), 1, 32, 32), self._background)
            inner = self._kept[:, :, 2:30, 2:30]
            torch.mul(x, self._span, out=inner)
            inner += self._background
            return self._kept

    @staticmethod
    def _pointers(tensors: list[nn.Parameter] | list[Tensor]) -> ctypes.Array[ctypes.c_void_p]:
        return _TenPointers(*[tensor.data_ptr() for tensor in tensors])


def _gradient(parameter: nn.Parameter) -> Tensor:
    # An optimizer's zero_grad() takes the gradient away.
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


def _load() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(str(build()))
    except OSError as error:
        raise NativeUnavailableError(f"the compiled kernels can't be loaded: {error}") from None
    pointer, integer, long = ctypes.c_void_p, ctypes.c_int, ctypes.c_long
    library.lenet5_train.restype = library.lenet5_infer.restype = ctypes.c_double
    library.lenet5_train.argtypes = [
        pointer, pointer, long, _TenPointers, _TenPointers, integer, integer, integer,
        ctypes.c_float, integer, pointer,
    ]  # fmt: skip
    library.lenet5_infer.argtypes = [
        pointer, long, _TenPointers, pointer, integer, integer, integer, integer,
    ]  # fmt: skip
    return library
