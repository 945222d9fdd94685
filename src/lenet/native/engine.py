"""The training loop's "loss and gradients of this batch", and logits, from the compiled kernels.

The kernels work on the model's own parameters, so a run may stop under one engine and go on under
another. Their results do not depend on the number of threads (see kernels.cpp); they differ from
torch's in rounding.
"""

import ctypes
import math
from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from torch import Tensor, nn

from lenet.models import LeNet5, Network
from lenet.native.build import NativeUnavailableError, load_library

if TYPE_CHECKING:
    from lenet.native.adam import NativeAdam
    from lenet.native.engine_1998 import NativeEngine1998

ACTIVATIONS = {"tanh": 0, "relu": 1, "silu": 2}
POOLINGS = {"average": 0, "max": 1}
MAX_CLASSES = 64
OUT_OF_MEMORY = -3

FIELDS, PIXELS, BYTES = range(3)

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


class BatchScores(NamedTuple):
    """What a training step saw of its batch, before the step."""

    loss: float
    """Mean cross-entropy, in nats."""
    num_correct: int
    """Number of images whose largest logit is the label's."""
    minimized: float
    """Mean of what the gradients are of: with smoothed labels, not `loss`."""


class NativeEngine:
    """Loss, gradients and logits of one LeNet-5 on the CPU; for one thread of Python at a time.

    Batches are (B, 1, 28, 28) float32 in [0, 1], or (B, 28, 28) uint8, which become the same
    numbers to the bit and take a quarter of the memory.
    """

    def __init__(
        self, model: LeNet5, *, label_smoothing: float = 0.0, num_threads: int = 1
    ) -> None:
        """Compile or find the kernels.

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
        self.num_threads = num_threads
        self._library = load_kernels()
        self._model = model
        self._parameters = parameters
        self._num_classes = model.num_classes
        self._pads = model.resize == "pad"
        self._settings = (model.num_classes, ACTIVATIONS[model.activation], POOLINGS[model.pooling])
        self._label_smoothing = label_smoothing
        background, ink = cast(Tensor, model.background), cast(Tensor, model.ink)
        self._images = Images(None, FIELDS, float(background), float(ink - background))
        self._scores = (ctypes.c_double * 3)()
        self._known: dict[str, tuple[list[int], ctypes.Array[ctypes.c_void_p]]] = {}

    def loss_and_gradients(
        self,
        x: Tensor,
        labels: Tensor,
        *,
        logits: Tensor | None = None,
    ) -> BatchScores:
        """Write the gradients of the batch's mean cross-entropy into the parameters' `.grad`.

        Args:
            x: A batch, see the class.
            labels: (B,) int64.
            logits: (B, num_classes) float32, contiguous; overwritten with the logits if given.

        Raises:
            ValueError: `x` has another shape or type, a label is out of range, or the batch is
                empty.
        """
        x = self._show(x)
        labels = labels.contiguous()
        status = self._library.lenet5_train(
            self._images,
            labels.data_ptr(),
            len(x),
            self._pointers("parameters", [p.data_ptr() for p in self._parameters]),
            self._pointers("gradients", [_gradient(p).data_ptr() for p in self._parameters]),
            *self._settings,
            self._label_smoothing,
            self.num_threads,
            None if logits is None else logits.data_ptr(),
            self._scores,
        )
        return self._read_scores(status, len(x))

    def learn(self, x: Tensor, labels: Tensor, optimizer: "NativeAdam") -> BatchScores:
        """Do a batch's whole step: `loss_and_gradients` and `optimizer.step`, to the bit.

        In one call where the optimizer is of this model's parameters alone, which spares what
        Python and torch do between the two: some 60 us, a tenth of a step of 32 images.

        Args:
            x: A batch, see the class.
            labels: (B,) int64.
            optimizer: Holds the parameters' state; its hooks are not called.

        Raises:
            ValueError: As `loss_and_gradients`; nothing has been learned then.
        """
        plan = optimizer.plan_for(self._parameters)
        if plan is None:
            scores = self.loss_and_gradients(x, labels)
            optimizer.step()
            return scores
        x = self._show(x)
        labels = labels.contiguous()
        status = self._library.lenet5_learn(
            self._images,
            labels.data_ptr(),
            len(x),
            *self._settings,
            self._label_smoothing,
            self.num_threads,
            self._scores,
            plan.next_settings(),
            *plan.arguments,
        )
        scores = self._read_scores(status, len(x))
        plan.num_steps += 1
        return scores

    def _read_scores(self, status: int, batch_size: int) -> BatchScores:
        if status == OUT_OF_MEMORY:
            raise MemoryError(f"no memory for a batch of {batch_size} images")
        if status:
            raise ValueError(f"empty batch, or a label outside 0..{self._num_classes - 1}")
        minimized, loss, num_correct = self._scores
        return BatchScores(loss=loss, num_correct=int(num_correct), minimized=minimized)

    def logits(self, x: Tensor) -> Tensor:
        """Return the logits (B, num_classes) float32 of a batch, see the class.

        Raises:
            ValueError: `x` has another shape or type.
        """
        x = self._show(x)
        logits = torch.empty(len(x), self._num_classes)
        if len(x):
            status = self._library.lenet5_infer(
                self._images,
                len(x),
                self._pointers("parameters", [p.data_ptr() for p in self._parameters]),
                logits.data_ptr(),
                *self._settings,
                self.num_threads,
            )
            if status:
                raise MemoryError(f"no memory for a batch of {len(x)} images")
        return logits

    def _pointers(self, kind: str, addresses: list[int]) -> "ctypes.Array[ctypes.c_void_p]":
        # Tensors rarely move, and comparing costs less than filling an array anew.
        known = self._known.get(kind)
        if known is None or known[0] != addresses:
            known = self._known[kind] = addresses, TenPointers(*addresses)
        return known[1]

    def _show(self, x: Tensor) -> Tensor:
        """Point the kernels at a batch; return what must stay alive meanwhile."""
        images = self._images
        if x.dtype == torch.uint8:
            if x.shape[1:] != (28, 28):
                raise ValueError(f"`x` has shape {tuple(x.shape)}; expected (B, 28, 28) for uint8")
            if self._pads:
                images.format = BYTES
            else:
                x = x.unsqueeze(1) / torch.tensor(255.0)
        if x.dtype != torch.uint8:
            if self._pads and x.shape[1:] == (1, 28, 28):
                x = x.float()
                images.format = PIXELS
            else:
                with torch.no_grad():
                    x = self._model.prepare(x.float())
                images.format = FIELDS
        x = x.contiguous()
        images.data = x.data_ptr()
        return x


def _gradient(parameter: nn.Parameter) -> Tensor:
    gradient = parameter.grad
    if gradient is None:  # an optimizer's zero_grad() takes it away
        gradient = parameter.grad = torch.zeros_like(parameter)
    return gradient


def load_engine(
    model: Network,
    *,
    label_smoothing: float = 0.0,
    garbage: float | None = math.inf,
    num_threads: int = 1,
) -> "NativeEngine | NativeEngine1998":
    """Return the compiled kernels of a network.

    Args:
        model: float32, on the CPU.
        label_smoothing: As in `nn.CrossEntropyLoss`; for `LeNet5`.
        garbage: As for `NativeEngine1998`; for `LeNet5_1998`.
        num_threads: 1 to 64; the 1998 network takes one.

    Raises:
        NativeUnavailableError: They can't be had here, or are not made for this model.
    """
    if isinstance(model, LeNet5):
        return NativeEngine(model, label_smoothing=label_smoothing, num_threads=num_threads)
    from lenet.models.lenet5_1998 import LeNet5_1998
    from lenet.native.engine_1998 import NativeEngine1998

    assert isinstance(model, LeNet5_1998)
    if label_smoothing:
        raise NativeUnavailableError("those of lenet5-1998 know no label smoothing")
    return NativeEngine1998(model, garbage=garbage)
