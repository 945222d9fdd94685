"""What the verbs' options share: dataclasses from which tyro makes flags.

The fields of `Recipe` become flags of `train` and `study` in the same way, so a setting that is
added there is a flag, with its help, at once.
"""

from collections.abc import Sequence
from inspect import cleandoc
from pathlib import Path
from typing import Annotated, Literal, Protocol, TypeVar

import tyro
from tyro.conf import Positional

from lenet.errors import RecipeError
from lenet.training.recipe import RECIPES, Recipe

Split = Literal["train", "val", "test"]
RecipeName = Annotated[
    Positional[str], tyro.conf.arg(metavar="[RECIPE]", help_behavior_hint="(default: default)")
]
Folder = Annotated[Path | None, tyro.conf.arg(metavar="DIR")]
DataDirOption = Annotated[
    Path | None,
    tyro.conf.arg(
        metavar="DIR",
        help="Folder with the data set's files, in torchvision's layout or flat; or a file or "
        "folder of another format: NumPy, CSV, Parquet, MATLAB, HDF5 (docs/data.md).",
    ),
]
DeviceOption = Annotated[
    str, tyro.conf.arg(help="auto (CUDA, else MPS, else CPU), cpu, cuda, cuda:N or mps.")
]
EngineOption = Annotated[
    Literal["auto", "native", "torch"],
    tyro.conf.arg(
        help="native: compiled kernels, on the CPU, compiled on first use; torch; auto: native if "
        "possible."
    ),
]
Settings = Annotated[Recipe, tyro.conf.arg(name="")]


T = TypeVar("T")
R = TypeVar("R", bound="WithRecipe")


def fill_in(arguments: Sequence[str], flag: str, value: str) -> list[str]:
    """Give a flag that stands alone a value.

    Example:
        >>> fill_in(["default", "--ray", "--json"], "--ray", "local")
        ['default', '--ray', 'local', '--json']
    """
    filled = []
    for word, after in zip(arguments, [*arguments, "--"][1:], strict=True):
        filled += [word, value] if word == flag and after.startswith("-") else [word]
    return filled


def parse(kind: type[T], verb: str, arguments: Sequence[str], *, default: T | None = None) -> T:
    """Parse a verb's arguments; --help and wrong usage end in `SystemExit`, 0 or 2."""
    options: T = tyro.cli(
        kind,
        prog=f"lenet {verb}",
        description=cleandoc(kind.__doc__ or ""),
        args=list(arguments),
        default=default,
        config=(tyro.conf.FlagCreatePairsOff,),
    )  # type: ignore[assignment]  # tyro types the default, and so the result, as optional
    return options


class WithRecipe(Protocol):
    """Options that name a recipe and hold its fields."""

    @property
    def recipe(self) -> str:
        """The name; empty for the default."""

    def __init__(self, *, settings: Recipe) -> None: ...


def parse_with_recipe(kind: type[R], verb: str, arguments: Sequence[str]) -> tuple[R, str]:
    """Parse options over the named recipe's own values; return them and the recipe's name."""
    # The name is known only after parsing, the defaults needed before: guess, parse, and parse
    # again where the guess was wrong. For --help, which ends the first parse, the guess must do.
    guess = next((word for word in arguments if word in RECIPES), "default")
    options = parse(kind, verb, arguments, default=kind(settings=RECIPES[guess]))
    name = options.recipe or "default"
    if name not in RECIPES:
        raise RecipeError(f"`recipe` (={name!r}) must be one of: {', '.join(RECIPES)}")
    if name != guess:
        options = parse(kind, verb, arguments, default=kind(settings=RECIPES[name]))
    return options, name
