"""The networks, by name."""

from lenet.models.lenet5 import LeNet5
from lenet.models.lenet5_1998 import LeNet5_1998

Network = LeNet5 | LeNet5_1998

MODELS: dict[str, type[LeNet5] | type[LeNet5_1998]] = {
    "lenet5": LeNet5,
    "lenet5-1998": LeNet5_1998,
}

__all__ = ["MODELS", "LeNet5", "LeNet5_1998", "Network"]
