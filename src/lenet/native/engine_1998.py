"""The 1998 network compiled: one pattern at a time with its update, or the gradients of a batch.

It works on the model's own parameters, so a run may stop under one engine and go on under another.
A call copies them into the kernels' layout and back, which 500 patterns take 200 times as long as.
"""

import ctypes
import math
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from lenet.models.lenet5_1998 import RBF, LeNet5_1998
from lenet.native.build import load_library
from lenet.native.engine import BatchScores, float32_parameters

_MSE, _MAP = 0, 1
_NUM_TENSORS = 14
_Pointers = ctypes.c_void_p * _NUM_TENSORS
_LAYERS = ("c1", "s2", "c3", "s4", "c5", "f6", "output")


class _Net(ctypes.Structure):
    """The struct `Net` of lenet5_1998.cpp."""

    _fields_ = (
        ("codes", ctypes.c_void_p),
        ("table", ctypes.c_void_p),
        ("kernels", ctypes.c_int32),
        ("plain", ctypes.c_int32),
        ("linear", ctypes.c_int32),
        ("criterion", ctypes.c_int32),
        ("j", ctypes.c_float),
        ("background", ctypes.c_float),
        ("span", ctypes.c_float),
    )


class NativeEngine1998:
    """Steps, gradients and logits of one 1998 network, on one thread.

    Patterns are (N, 1, 28, 28) float32 in [0, 1], or (N, 28, 28) uint8.
    """

    num_threads = 1

    def __init__(self, model: LeNet5_1998, *, garbage: float | None = math.inf) -> None:
        """Compile or find the kernels, and give every parameter a gradient to write to.

        Args:
            model: float32, on the CPU.
            garbage: j of the MAP criterion; infinite for cross-entropy, None for the MSE.

        Raises:
            NativeUnavailableError: The kernels can't be had here, or are not made for this model.
        """
        self._parameters = float32_parameters(model)
        self._library = _load()
        self._model = model
        self._places = _places(model)
        # Kept here, since the struct holds bare addresses.
        self._table = (
            torch.stack([model.c3.maps, model.c3.inputs], 1).int().contiguous()
        )  # (kernels, 2)
        self._codes = model.output.codes if isinstance(model.output, RBF) else None
        self._net = _Net(
            codes=None if self._codes is None else self._codes.data_ptr(),
            table=self._table.data_ptr(),
            kernels=len(self._table),
            plain=model.pooling == "average",
            linear=model.output_kind == "linear",
            criterion=_MSE if garbage is None else _MAP,
            j=0.0 if garbage is None else garbage,
            background=float(model.background),
            span=float(model.ink - model.background),
        )

    def learn(
        self, x: Tensor, labels: Tensor, rates: Sequence[Tensor], *, logits: Tensor | None = None
    ) -> BatchScores:
        """Present patterns one after the other, w_k <- w_k - eps_k dE/dw_k after each.

        Args:
            x: Patterns, see the class.
            labels: (N,) int64.
            rates: eps_k, in the parameters' order and shapes.
            logits: (N, 10) float32, contiguous; overwritten with those of before each update.

        Returns:
            Scores of each pattern before its update.

        Raises:
            ValueError: `x` has another shape, a label is out of range, or there are no patterns.
        """
        # Named, so that a copy made here lives until the call is over.
        held = [rate.contiguous() for rate in rates]
        return self._call(self._library.lenet5_1998_learn, x, labels, held, logits)

    def loss_and_gradients(
        self, x: Tensor, labels: Tensor, *, logits: Tensor | None = None
    ) -> BatchScores:
        """Write the gradients of the batch's mean criterion into the parameters' `.grad`.

        Args:
            x: A batch, see the class.
            labels: (N,) int64.
            logits: (N, 10) float32, contiguous; overwritten with the logits if given.

        Raises:
            ValueError: As for `learn`.
        """
        for parameter in self._parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [cast(Tensor, parameter.grad) for parameter in self._parameters]
        return self._call(self._library.lenet5_1998_gradients, x, labels, gradients, logits)

    def logits(self, x: Tensor) -> Tensor:
        """Return the logits (N, 10) float32 of patterns, see the class.

        Raises:
            ValueError: `x` has another shape.
        """
        x = _pixels(x)
        logits = torch.empty(len(x), self._model.num_classes)
        self._library.lenet5_1998_infer(
            self._net, x.data_ptr(), len(x), self._pointers(self._parameters), logits.data_ptr()
        )
        return logits

    def _call(
        self,
        function: "ctypes._NamedFuncPointer",
        x: Tensor,
        labels: Tensor,
        second: list[Tensor],
        logits: Tensor | None,
    ) -> BatchScores:
        x, labels = _pixels(x), labels.contiguous()
        if logits is None:
            logits = torch.empty(len(x), self._model.num_classes)
        minimized: float = function(
            self._net,
            x.data_ptr(),
            labels.data_ptr(),
            len(x),
            self._pointers(self._parameters),
            self._pointers(second),
            logits.data_ptr(),
        )
        if minimized == -math.inf:
            raise ValueError(f"no patterns, or a label outside 0..{self._model.num_classes - 1}")
        return BatchScores(
            loss=float(F.cross_entropy(logits, labels)),
            num_correct=int((logits.argmax(1) == labels).sum()),
            minimized=minimized,
        )

    def _pointers(self, tensors: Sequence[Tensor]) -> ctypes.Array[ctypes.c_void_p]:
        pointers = _Pointers()
        for place, tensor in zip(self._places, tensors, strict=True):
            pointers[place] = tensor.data_ptr()
        return pointers


def _places(model: LeNet5_1998) -> list[int]:
    """Return where each of the model's parameters stands in the kernels' list of 14 tensors."""
    places = []
    for name, _ in model.named_parameters():
        layer, kind = name.split(".")
        places.append(2 * _LAYERS.index(layer) + (kind == "bias"))
    return places


def _pixels(x: Tensor) -> Tensor:
    if x.dtype == torch.uint8 and x.shape[1:] == (28, 28):
        x = x.unsqueeze(1) / torch.tensor(255.0)
    if x.shape[1:] != (1, 28, 28):
        raise ValueError(
            f"`x` has shape {tuple(x.shape)}; expected (N, 1, 28, 28), or (N, 28, 28) of uint8"
        )
    return x.float().contiguous()


def _load() -> ctypes.CDLL:
    library = load_library("lenet5_1998")
    net, pointer, long = ctypes.POINTER(_Net), ctypes.c_void_p, ctypes.c_long
    for function in (library.lenet5_1998_learn, library.lenet5_1998_gradients):
        function.restype = ctypes.c_double
        function.argtypes = [net, pointer, pointer, long, _Pointers, _Pointers, pointer]
    library.lenet5_1998_infer.restype = None
    library.lenet5_1998_infer.argtypes = [net, pointer, long, _Pointers, pointer]
    return library
