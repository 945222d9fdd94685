"""Adam's step from the compiled kernels.

torch's fused Adam takes longer over LeNet-5's ten tensors than the kernels take over the gradients
of a small batch.
"""

import ctypes
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam

from lenet.native.engine import load_kernels


class _Settings(ctypes.Structure):
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


class NativeAdam(Adam):
    """`torch.optim.Adam` or `AdamW`, its state included, with another way to take the step."""

    def __init__(
        self,
        parameters: list[nn.Parameter],
        *,
        lr: float,
        weight_decay: float = 0.0,
        decoupled: bool = False,
        num_threads: int = 1,
    ) -> None:
        """Compile or find the kernels.

        Args:
            parameters: float32, contiguous, on the CPU.
            lr: Learning rate.
            weight_decay: As in `torch.optim.Adam`, or `AdamW` where decoupled.
            decoupled: AdamW.
            num_threads: 1 to 64; changes the speed, not the results.

        Raises:
            NativeUnavailableError: The kernels can't be had here.
        """
        super().__init__(parameters, lr=lr, weight_decay=weight_decay)
        for group in self.param_groups:
            group["decoupled_weight_decay"] = decoupled  # where newer versions of torch keep it
        self._library = load_kernels()
        self._num_threads = num_threads

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take a step with the gradients that the parameters hold."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            self._step_group(group)
        return loss

    def _step_group(self, group: dict[str, Any]) -> None:
        tensors: tuple[list[Tensor], ...] = ([], [], [], [], [])
        for parameter in group["params"]:
            if parameter.grad is None:
                continue
            state = self.state[parameter]
            if not state:
                state["step"] = torch.tensor(0.0)
                state["exp_avg"] = torch.zeros_like(parameter)
                state["exp_avg_sq"] = torch.zeros_like(parameter)
            values = parameter, parameter.grad, state["exp_avg"], state["exp_avg_sq"], state["step"]
            for kind, value in zip(tensors, values, strict=True):
                kind.append(value)
        *arrays, steps = tensors
        if not steps:
            return
        torch._foreach_add_(steps, 1)
        step = float(steps[0])
        beta1, beta2 = group["betas"]
        settings = _Settings(
            group["lr"],
            beta1,
            beta2,
            group["eps"],
            group["weight_decay"],
            1 - beta1**step,
            1 - beta2**step,
            bool(group["decoupled_weight_decay"]),
        )
        count = len(steps)
        pointers = ctypes.c_void_p * count
        self._library.lenet5_adam(
            ctypes.addressof(settings),
            count,
            (ctypes.c_long * count)(*[p.numel() for p in arrays[0]]),
            *[pointers(*[t.data_ptr() for t in kind]) for kind in arrays],
            self._num_threads,
        )
