"""Adam's step from the compiled kernels.

torch's fused Adam takes longer over LeNet-5's ten tensors than the kernels take over the gradients
of a small batch, and most of that is not arithmetic. Here the pointers are gathered once.
"""

import ctypes
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from operator import is_
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam

from lenet.native.engine import AdamSettings, load_kernels


@dataclass
class Plan:
    """Parameters of one group that have taken as many steps, as the kernel wants them."""

    group: dict[str, Any]
    parameters: list[nn.Parameter]
    num_steps: int
    steps: list[Tensor]
    """The state's own counts, written when somebody asks for the state."""
    arguments: tuple[Any, ...]
    """Count, sizes, and the addresses of parameters, gradients and both moments."""

    def next_settings(self) -> AdamSettings:
        """Return what the kernel needs for the step after `num_steps`."""
        group, num_steps = self.group, self.num_steps + 1
        beta1, beta2 = group["betas"]
        return AdamSettings(
            group["lr"],
            beta1,
            beta2,
            group["eps"],
            group["weight_decay"],
            1 - beta1**num_steps,
            1 - beta2**num_steps,
            group["decoupled_weight_decay"],
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
        self._plans: list[Plan] = []
        self._addresses: list[int] | None = None
        super().__init__(parameters, lr=lr, weight_decay=weight_decay)
        for group in self.param_groups:
            group["decoupled_weight_decay"] = decoupled  # where newer versions of torch keep it
        self._library = load_kernels()
        self._num_threads = num_threads

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take a step with the gradients that the parameters hold."""
        loss = None if closure is None else closure()
        self._check_plans()
        for plan in self._plans:
            self._library.lenet5_adam(plan.next_settings(), *plan.arguments, self._num_threads)
            plan.num_steps += 1
        return loss

    def plan_for(self, parameters: list[nn.Parameter]) -> Plan | None:
        """Return the one plan of these parameters and no others; None where there is none.

        For who takes the step with it, and counts it there.
        """
        self._check_plans()
        if len(self._plans) != 1:
            return None
        plan = self._plans[0]
        # Tensors compare element by element; which ones they are is what matters here.
        same = len(plan.parameters) == len(parameters) and all(
            map(is_, plan.parameters, parameters)
        )
        return plan if same else None

    def state_dict(self) -> dict[str, Any]:
        """Return the state as `torch.optim.Adam` does."""
        self._write_steps()
        return super().state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the state of this class or of `torch.optim.Adam` or `AdamW`."""
        super().load_state_dict(state_dict)
        self._plans, self._addresses = [], None

    def _check_plans(self) -> None:
        addresses = self._find_addresses()
        if addresses != self._addresses:
            self._make_plans()
            self._addresses = self._find_addresses()

    def _find_addresses(self) -> list[int]:
        """Return what the plans are valid for; 0 stands for no gradient."""
        parameters = [p for group in self.param_groups for p in group["params"]]
        gradients = [p.grad for p in parameters]
        return [p.data_ptr() for p in parameters] + [
            0 if g is None else g.data_ptr() for g in gradients
        ]

    def _write_steps(self) -> None:
        for plan in self._plans:
            for step in plan.steps:
                step.fill_(plan.num_steps)

    def _make_plans(self) -> None:
        self._write_steps()
        self._plans = []
        for group in self.param_groups:
            by_steps: dict[int, list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_steps[int(self._state_of(parameter)["step"])].append(parameter)
            for num_steps, parameters in by_steps.items():
                self._plans.append(self._plan(group, num_steps, parameters))

    def _state_of(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self.state[parameter]
        if not state:
            state["step"] = torch.tensor(0.0)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        return state

    def _plan(self, group: dict[str, Any], num_steps: int, parameters: list[nn.Parameter]) -> Plan:
        states = [self._state_of(parameter) for parameter in parameters]
        kinds: list[list[Tensor]] = [list(parameters)]
        kinds.append([p.grad for p in parameters if p.grad is not None])
        kinds += [[state[key] for state in states] for key in ("exp_avg", "exp_avg_sq")]
        if any(t.dtype != torch.float32 or not t.is_contiguous() for kind in kinds for t in kind):
            raise ValueError("the compiled Adam is for contiguous float32 tensors")
        count = len(parameters)
        sizes = (ctypes.c_long * count)(*[p.numel() for p in parameters])
        pointers = [(ctypes.c_void_p * count)(*[t.data_ptr() for t in kind]) for kind in kinds]
        steps = [state["step"] for state in states]
        return Plan(group, parameters, num_steps, steps, (count, sizes, *pointers))
