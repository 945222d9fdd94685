"""Optimizers, by name: torch's own, and the paper's."""

from collections.abc import Callable, Iterable

import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from lenet.training.sdlm import StochasticDiagonalLM

SGD_MOMENTUM = 0.9


def _adam(parameters: list[nn.Parameter], lr: float, weight_decay: float) -> Optimizer:
    return Adam(parameters, lr=lr, weight_decay=weight_decay, fused=_can_fuse(parameters))


def _adamw(parameters: list[nn.Parameter], lr: float, weight_decay: float) -> Optimizer:
    return AdamW(parameters, lr=lr, weight_decay=weight_decay, fused=_can_fuse(parameters))


def _sgd(parameters: list[nn.Parameter], lr: float, weight_decay: float) -> Optimizer:
    return SGD(parameters, lr=lr, momentum=SGD_MOMENTUM, weight_decay=weight_decay)


def _sdlm(parameters: list[nn.Parameter], lr: float, weight_decay: float) -> Optimizer:
    return StochasticDiagonalLM(parameters, lr)  # recipes admit no decay


def _can_fuse(parameters: Iterable[torch.Tensor]) -> bool:
    # One kernel for all ten tensors: on the CPU the step then costs a fifth (docs/decisions.md).
    return all(parameter.device.type in ("cpu", "cuda") for parameter in parameters)


OPTIMIZERS: dict[str, Callable[[list[nn.Parameter], float, float], Optimizer]] = {
    "adam": _adam,
    "adamw": _adamw,
    "sgd": _sgd,
    "sdlm": _sdlm,
}
