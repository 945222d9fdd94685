"""The networks, by name."""

from lenet.models.lenet5 import LeNet5

MODELS: dict[str, type[LeNet5]] = {"lenet5": LeNet5}

__all__ = ["MODELS", "LeNet5"]
