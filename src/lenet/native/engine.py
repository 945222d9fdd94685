"""Training steps, gradients and logits of LeNet-5 from the compiled kernels, on the CPU.

The kernels work on the model's own parameters and on the state of torch's optimizer, so a run may
stop under one engine and continue under another. Their results do not depend on the number of
threads (see kernels.cpp); they differ from torch's in rounding.
"""

import ctypes
import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.optim import Adam, AdamW

from lenet.data.digits import to_input
from lenet.models import LeNet5, Network
from lenet.native.build import NativeUnavailableError, load_library

if TYPE_CHECKING:
    from lenet.native.engine_1998 import NativeEngine1998

ACTIVATIONS = {"tanh": 0, "relu": 1, "silu": 2}
POOLINGS = {"average": 0, "max": 1}
FIELDS, PIXELS, BYTES = range(3)
BAD_LABEL, NO_MEMORY = 1, 2
MAX_CLASSES = 64

_Tensors = ctypes.c_void_p * 10


class _Adam(ctypes.Structure):
    """The struct `Adam` of kernels.cpp."""

    _fields_ = (
        *((name, ctypes.c_double) for name in ("lr", "beta1", "beta2", "eps", "weight_decay")),
        ("decoupled", ctypes.c_int64),
        *((name, _Tensors) for name in ("step", "exp_avg", "exp_avg_sq")),
    )


class _Call(ctypes.Structure):
    """The struct `Call` of kernels.cpp."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("pixels", "labels", "logits", "adam")),
        ("batch", ctypes.c_int64),
        ("weights", _Tensors),
        ("gradients", _Tensors),
        ("scores", ctypes.c_double * 3),
        ("format", ctypes.c_int32),
        *((name, ctypes.c_int32) for name in ("classes", "activation", "pooling", "threads")),
        *((name, ctypes.c_float) for name in ("background", "span", "smoothing")),
    )


class BatchScores(NamedTuple):
    """Loss and accuracy of a batch before the training step."""

    loss: float
    """Mean cross-entropy, in nats."""
    num_correct: int
    """Number of images whose largest logit is the label's."""
    minimized: float
    """Mean of the loss that the gradients are of; with smoothed labels not equal to `loss`."""


class NativeEngine:
    """Training steps, gradients and logits of one LeNet-5; for one thread of Python at a time.

    Batches are (B, 1, 28, 28) float32 in [0, 1], or (B, 28, 28) uint8, which become the same
    numbers to the bit and take a quarter of the memory.
    """

    def __init__(
        self, model: LeNet5, *, label_smoothing: float = 0.0, num_threads: int = 1
    ) -> None:
        """Compile the kernels, or find them in the cache.

        Args:
            model: float32, on the CPU.
            label_smoothing: As in `nn.CrossEntropyLoss`.
            num_threads: Changes the speed, not the results.

        Raises:
            NativeUnavailableError: They can't be compiled here, or are not made for this model.
        """
        if model.in_channels != 1 or model.num_classes > MAX_CLASSES:
            raise NativeUnavailableError(
                f"the kernels are for 1 channel and at most {MAX_CLASSES} classes"
            )
        self._parameters = float32_parameters(model)
        self._gradients = [torch.zeros_like(parameter) for parameter in self._parameters]
        self._library = load_library("kernels")
        self._library.lenet5_call.argtypes = [ctypes.POINTER(_Call)]
        self._model, self._pads = model, model.resize == "pad"
        self._call = _Call(
            gradients=_Tensors(*[gradient.data_ptr() for gradient in self._gradients]),
            classes=model.num_classes,
            activation=ACTIVATIONS[model.activation],
            pooling=POOLINGS[model.pooling],
            threads=num_threads,
            background=float(model.background),
            span=float(model.ink - model.background),
            smoothing=label_smoothing,
        )
        self._addresses: list[int] = []
        self._adam = _Adam()
        self._adam_state: object = None  # that of the optimizer which `_adam` points into

    def learn(self, x: Tensor, labels: Tensor, optimizer: Adam | AdamW) -> BatchScores:
        """Train on a batch: gradients and the optimizer's step in one call.

        torch's own fused Adam would cost a fifth of a step of 32 images.

        Args:
            x: A batch, see the class.
            labels: (B,) int64.
            optimizer: Of this model's parameters, in one group. Its state is updated; its hooks
                are not called.

        Raises:
            ValueError: As `loss_and_gradients`; nothing has changed then.
        """
        (group,) = optimizer.param_groups
        adam = self._adam
        # Loading a state dict gives the optimizer a new state object.
        if optimizer.state is not self._adam_state:
            self._take_state(optimizer)
        adam.lr, adam.eps, adam.weight_decay = group["lr"], group["eps"], group["weight_decay"]
        adam.beta1, adam.beta2 = group["betas"]
        return self._train(x, labels, adam=ctypes.addressof(adam))

    def loss_and_gradients(
        self, x: Tensor, labels: Tensor, *, logits: Tensor | None = None
    ) -> BatchScores:
        """Set the parameters' `.grad` to the gradients of the batch's mean cross-entropy.

        Args:
            x: A batch, see the class.
            labels: (B,) int64.
            logits: (B, num_classes) float32, contiguous; overwritten with the logits if given.

        Raises:
            ValueError: `x` has another shape or type, a label is out of range, or the batch is
                empty.
        """
        scores = self._train(x, labels, logits=None if logits is None else logits.data_ptr())
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient
        return scores

    def logits(self, x: Tensor) -> Tensor:
        """Return the logits (B, num_classes) float32 of a batch, see the class.

        Raises:
            ValueError: `x` has another shape or type.
        """
        logits = torch.empty(len(x), self._call.classes)
        if len(x):
            self._run(x, logits=logits.data_ptr())
        return logits

    def _train(
        self, x: Tensor, labels: Tensor, *, logits: int | None = None, adam: int | None = None
    ) -> BatchScores:
        if not len(labels):
            raise ValueError("the batch is empty")
        labels = labels.contiguous()
        self._run(x, labels=labels.data_ptr(), logits=logits, adam=adam)
        minimized, loss, num_correct = self._call.scores
        return BatchScores(loss=loss, num_correct=int(num_correct), minimized=minimized)

    def _run(
        self,
        x: Tensor,
        *,
        labels: int | None = None,
        logits: int | None = None,
        adam: int | None = None,
    ) -> None:
        """Call the kernels; tensors are given by their addresses."""
        call = self._call
        if x.dtype == torch.uint8 and x.shape[1:] == (28, 28) and self._pads:
            call.format = BYTES
        else:
            x = to_input(x) if x.dtype == torch.uint8 else x.float()
            call.format = PIXELS
            if not self._pads or x.shape[1:] != (1, 28, 28):
                call.format = FIELDS
                with torch.no_grad():
                    x = self._model.prepare(x)
        x = x.contiguous()
        call.pixels, call.batch = x.data_ptr(), len(x)
        call.labels, call.logits, call.adam = labels, logits, adam
        # Tensors rarely move, and comparing costs less than filling the array anew.
        addresses = [parameter.data_ptr() for parameter in self._parameters]
        if addresses != self._addresses:
            self._addresses, call.weights = addresses, _Tensors(*addresses)
        status = self._library.lenet5_call(call)
        if status == BAD_LABEL:
            raise ValueError(f"a label is outside 0..{call.classes - 1}")
        if status == NO_MEMORY:
            raise MemoryError(f"no memory for a batch of {len(x)} images")

    def _take_state(self, optimizer: Adam | AdamW) -> None:
        """Point the kernels at the optimizer's state, made here as torch's first step makes it."""
        (group,) = optimizer.param_groups
        if list(map(id, group["params"])) != list(map(id, self._parameters)):
            raise ValueError("the optimizer is not of this model's parameters")
        for k, parameter in enumerate(self._parameters):
            state = optimizer.state[parameter]
            if not state:
                state["step"] = torch.tensor(0.0)
                state["exp_avg"] = torch.zeros_like(parameter)
                state["exp_avg_sq"] = torch.zeros_like(parameter)
            for name in ("step", "exp_avg", "exp_avg_sq"):
                getattr(self._adam, name)[k] = state[name].data_ptr()
        self._adam.decoupled = isinstance(optimizer, AdamW)
        self._adam_state = optimizer.state


def float32_parameters(model: Network) -> list[Tensor]:
    """Return a network's parameters.

    Raises:
        NativeUnavailableError: They are not float32 on the CPU, which the kernels are made for.
    """
    parameters: list[Tensor] = list(model.parameters())
    if any(p.device.type != "cpu" or p.dtype != torch.float32 for p in parameters):
        raise NativeUnavailableError("the kernels are for float32 on the CPU")
    return parameters


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
        garbage: See `NativeEngine1998`; for `LeNet5_1998`.
        num_threads: Of `LeNet5`; the 1998 network takes one.

    Raises:
        NativeUnavailableError: They can't be compiled here, or are not made for this model.
    """
    if isinstance(model, LeNet5):
        return NativeEngine(model, label_smoothing=label_smoothing, num_threads=num_threads)
    from lenet.models.lenet5_1998 import LeNet5_1998
    from lenet.native.engine_1998 import NativeEngine1998

    assert isinstance(model, LeNet5_1998)
    if label_smoothing:
        raise NativeUnavailableError("the kernels of lenet5-1998 have no label smoothing")
    return NativeEngine1998(model, garbage=garbage)
