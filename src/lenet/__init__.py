"""LeNet-5 on MNIST in PyTorch.

The public names are loaded when first used: importing the package loads neither torch nor
matplotlib, so that the command line answers at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from lenet.data.digits import Digits as Digits
    from lenet.data.digits import load as load
    from lenet.errors import LeNetError as LeNetError
    from lenet.models.files import load_model as load_model
    from lenet.models.files import save_model as save_model
    from lenet.models.lenet5 import LeNet5 as LeNet5
    from lenet.models.lenet5_1998 import LeNet5_1998 as LeNet5_1998
    from lenet.reading.reader import Digit as Digit
    from lenet.reading.reader import Reader as Reader
    from lenet.results.scores import evaluate as evaluate
    from lenet.schema import Scores as Scores
    from lenet.training.loop import train as train
    from lenet.training.recipe import RECIPES as RECIPES
    from lenet.training.recipe import Recipe as Recipe
    from lenet.training.run import create_run as create_run
    from lenet.training.run import open_run as open_run
    from lenet.training.training_loop import get_accuracy as get_accuracy
    from lenet.training.training_loop import plot_losses as plot_losses
    from lenet.training.training_loop import training_loop as training_loop

_HOMES = {
    "Digit": "lenet.reading.reader",
    "Digits": "lenet.data.digits",
    "LeNet5": "lenet.models.lenet5",
    "LeNet5_1998": "lenet.models.lenet5_1998",
    "LeNetError": "lenet.errors",
    "RECIPES": "lenet.training.recipe",
    "Reader": "lenet.reading.reader",
    "Recipe": "lenet.training.recipe",
    "Scores": "lenet.schema",
    "create_run": "lenet.training.run",
    "evaluate": "lenet.results.scores",
    "get_accuracy": "lenet.training.training_loop",
    "load": "lenet.data.digits",
    "load_model": "lenet.models.files",
    "open_run": "lenet.training.run",
    "plot_losses": "lenet.training.training_loop",
    "save_model": "lenet.models.files",
    "train": "lenet.training.loop",
    "training_loop": "lenet.training.training_loop",
}

__all__ = [*_HOMES]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'lenet' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
