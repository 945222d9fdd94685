"""The options of each verb of the command line: dataclasses from which tyro makes flags.

The fields of `Recipe` become flags of `train` and `study` in the same way, so a setting that is
added there is a flag, with its help, at once.
"""

# Over 300 lines: a short dataclass for each verb.

from collections.abc import Sequence
from dataclasses import dataclass, field
from inspect import cleandoc
from pathlib import Path
from typing import Annotated, Literal, Protocol, TypeVar

import tyro
from tyro.conf import Positional

from lenet.errors import RecipeError
from lenet.training.recipe import RECIPES, Recipe

Split = Literal["train", "val", "test"]
DatasetName = Literal["mnist", "fashion-mnist", "kmnist"]
RecipeName = Annotated[
    Positional[str], tyro.conf.arg(metavar="[RECIPE]", help_behavior_hint="(default: default)")
]
Folder = Annotated[Path | None, tyro.conf.arg(metavar="DIR")]
Settings = Annotated[Recipe, tyro.conf.arg(name="")]


@dataclass(frozen=True, kw_only=True)
class StudyOptions:
    """Train a recipe under many seeds and summarize.

    Examples:
      lenet study default --seeds 10
      lenet study report --seeds 10 --out studies/report
      lenet study fast --sweep lr=1e-3,2e-3,4e-3 --seeds 5

    Run again with the same arguments, it goes on with what is missing.
    """

    recipe: RecipeName = ""
    """Named recipe; every field of it is a flag below."""
    seeds: int = 10
    """How many seeds."""
    first_seed: int = 0
    """The first of them; the others follow."""
    sweep: Annotated[
        tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="FIELD=V,V,...")
    ] = ()
    """Vary a field of the recipe, and compare on validation images, not on the test images (10,000
    are cut off unless --num-val says otherwise); given twice, every combination."""
    jobs: int = 0
    """Runs side by side; 0 for one a core, or one at a time on a GPU."""
    ray: Annotated[str | None, tyro.conf.arg(metavar="[ADDRESS]")] = None
    """Put the runs on a Ray cluster (`auto`: that which runs here); without an address, on one of
    this machine's own. Needs lenet[cluster]; --jobs does not count then."""
    out: Annotated[
        Path | None,
        tyro.conf.arg(
            metavar="DIR", help_behavior_hint="(default: runs/study-RECIPE or runs/sweep-RECIPE)"
        ),
    ] = None
    """Folder of the study."""
    device: str = "auto"
    """As for `lenet train`."""
    engine: Literal["auto", "native", "torch"] = "auto"
    """As for `lenet train`."""
    data_dir: Folder = None
    """As for `lenet train`."""
    quiet: bool = False
    """Show no progress."""
    json: bool = False
    """Print the study's record as one JSON object."""
    settings: Settings = field(default_factory=lambda: RECIPES["default"])


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """Say whether one recipe is better than another on the test images.

    Examples:
      lenet compare runs/study-default runs/study-fast
      lenet compare runs/default-seed0 runs/fast-seed0
    Studies are paired over the seeds they share, runs over the test images (McNemar's test).
    """

    a: Annotated[Positional[Path], tyro.conf.arg(metavar="STUDY|RUN")]
    """A study's folder or record, or a run directory."""
    b: Annotated[Positional[Path], tyro.conf.arg(metavar="STUDY|RUN")]
    """What to compare it with."""
    json: bool = False
    """Print the comparison as one JSON object."""


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """Score a run or a model file on a split, or on your own pictures.

    Examples:
      lenet evaluate runs/default-seed0
      lenet evaluate pretrained --images my-digits/    # a subfolder for each label
      lenet evaluate model.safetensors --split train --json
    """

    model: Annotated[Positional[Path], tyro.conf.arg(metavar="RUN|MODEL")]
    """Run directory, a model file that lenet wrote, or `pretrained`, the package's own."""
    images: Annotated[Path | None, tyro.conf.arg(metavar="DIR|CSV")] = None
    """Pictures in a subfolder for each label, or a CSV with columns path and label."""
    split: Split = "test"
    """Which images; val is the part that the run cut from its training images."""
    device: str = "auto"
    """As for `lenet train`."""
    engine: Literal["auto", "native", "torch"] = "auto"
    """As for `lenet train`."""
    data_dir: Folder = None
    """As for `lenet train`."""
    json: bool = False
    """Print the scores as one JSON object."""


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Write a model in another format, compared with its source before it is kept.

    Examples:
      lenet export runs/default-seed0 --to onnx
      lenet export runs/default-seed0 --to c --c-type int8 --out firmware/digits.c
      lenet export runs/default-seed0 --to html --with-1998 runs/lecun1998-seed0
      lenet export model.safetensors --to triton --out models --json
    A JSON file beside the export says what was measured.
    """

    model: Annotated[Positional[Path], tyro.conf.arg(metavar="RUN|MODEL")]
    """Run directory, a model file that lenet wrote, or `pretrained`: that of the package."""
    to: Literal["onnx", "torch", "int8", "html", "c", "triton", "mlflow"]
    """ONNX, a torch.export program, ONNX in 8 bits, a page in which one draws and watches, C99
    source, a model repository for Triton, or an MLflow model."""
    out: Annotated[
        Path | None,
        tyro.conf.arg(metavar="PATH", help_behavior_hint="(default: beside the model file)"),
    ] = None
    """File to write; for triton and mlflow a folder."""
    overwrite: bool = False
    """Take the place of an export that is there."""
    c_type: Literal["float", "int8"] = "float"
    """What C code computes with."""
    opset: int = 18
    """Version of the ONNX operators, for onnx and triton: an older one for an older runtime."""
    min_agreement: float = 0.999
    """Labels that an export in 8 bits must share with its source on the test images, 0 to 1; its
    accuracy may differ by half of what is left to 1."""
    with_1998: Annotated[Path | None, tyro.conf.arg(metavar="RUN|MODEL")] = None
    """For html: a run of the paper's network (`lenet train lecun1998`), shown beside the first."""
    data_dir: Folder = None
    """As for `lenet train`."""
    json: bool = False
    """Print the export's record as one JSON object."""


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """Read the digit in each picture; a model comes with the package.

    Examples:
      lenet predict seven.jpg scans/
      lenet predict photo.jpg --show-steps steps.png
      lenet predict scans/ --csv > labels.csv
      curl -s https://example.org/7.png | lenet predict - --json
      lenet predict scans/ digits.parquet --out labels/ --ray
    """

    pictures: Annotated[Positional[tuple[str, ...]], tyro.conf.arg(metavar="PICTURE...")]
    """Files, folders, or - for standard input."""
    model: Annotated[Path | None, tyro.conf.arg(metavar="RUN|FILE")] = None
    """Another model than the package's own."""
    reject: float = 0.0
    """Give no label below this probability, 0 to 1."""
    csv: bool = False
    """Print a table of comma-separated values."""
    json: bool = False
    """Print one JSON object a line."""
    show_steps: Annotated[Path | None, tyro.conf.arg(metavar="PNG")] = None
    """Draw what each step made of each picture."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Write Parquet files into this folder instead, and go on with them if the command was stopped;
    PICTURE may then be Parquet files too. Needs lenet[cluster]."""
    column: str = "image"
    """Of the pictures in Parquet files: their bytes, or a struct with a field `bytes`."""
    jobs: int = 0
    """With --out: processes side by side; 0 for one a core."""
    ray: Annotated[str | None, tyro.conf.arg(metavar="[ADDRESS]")] = None
    """With --out: read on a Ray cluster (`auto`: that which runs here); without an address, on one
    of this machine's own."""


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """Read the number, or the lines of numbers, in each picture.

    Examples:
      lenet read amount.jpg meters/
      lenet read page.png --json
      lenet read amount.jpg --method sweep
    """

    pictures: Annotated[Positional[tuple[str, ...]], tyro.conf.arg(metavar="PICTURE...")]
    """Files, folders, or - for standard input."""
    model: Annotated[Path | None, tyro.conf.arg(metavar="RUN|FILE")] = None
    """Another model than the package's own."""
    method: Literal["segment", "sweep"] = "segment"
    """Cut the ink and find the best string, or sweep the network over each line."""
    reject: float = 0.0
    """Give no number below this probability, 0 to 1."""
    csv: bool = False
    """Print a table of comma-separated values."""
    json: bool = False
    """Print one JSON object a line."""


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """Serve a model over HTTP: pictures, pixels and tensors in, labels out.

    Examples:
      lenet serve                              the package's own model on this machine alone
      lenet serve --model runs/default-seed0 --port 8080
      LENET_API_KEY=$(openssl rand -hex 16) lenet serve --host 0.0.0.0
      curl -F picture=@seven.png http://127.0.0.1:8000/predict
    Standard output has a JSON object a line for each request. Ctrl-C or SIGTERM ends the server
    once it has answered what it has accepted.
    """

    model: Annotated[Path | None, tyro.conf.arg(metavar="RUN|FILE")] = None
    """Another model than the package's own."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 for every one of this machine."""
    port: int = 8000
    """Port to listen on; 0 for any that is free."""
    engine: Literal["auto", "native", "onnxruntime", "torch", "numpy"] = "auto"
    """Who computes: auto takes the first of compiled kernels, ONNX Runtime, numpy that is here."""
    workers: int = 0
    """Processes that read pictures; 0 for one a core."""
    api_key_file: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """File with the key that clients must send; or the variable LENET_API_KEY."""
    cors_origins: Annotated[tuple[str, ...], tyro.conf.arg(metavar="ORIGIN...")] = ()
    """Web origins whose pages may use this server, such as https://example.org."""
    max_body_mb: float = 20.0
    """Largest request, in millions of bytes."""
    max_images: int = 1024
    """Most 28x28 images of a request."""
    max_pictures: int = 16
    """Most pictures of a request."""
    max_requests: int = 256
    """Most requests in work at a time; more are told to come again."""
    max_connections: int = 1024
    """Most connections at a time."""
    rate: float = 0.0
    """Requests a second that one client may make; 0 for any number."""
    trusted_proxies: Annotated[tuple[str, ...], tyro.conf.arg(metavar="ADDRESS...")] = ()
    """Addresses of reverse proxies whose X-Forwarded-For names the client, for --rate and the log;
    without it every user behind a proxy counts as one client."""
    picture_s: float = 10.0
    """Longest time for one picture, in seconds."""
    drain_s: float = 30.0
    """Longest time to answer what was accepted, once told to end."""
    access_log: bool = True
    """Write a line for each request; --no-access-log for none."""


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Draw the figures and the report of a finished run again.

    Examples:
      lenet report runs/default-seed0
    """

    run: Annotated[Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Run directory."""
    data_dir: Folder = None
    """As for `lenet train`."""
    json: bool = False
    """Print where the report is as one JSON object."""


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """Measure the speed of this machine's engines, in turns.

    Examples:
      lenet bench
      lenet bench --num-images 60000 --rounds 3    # whole epochs; minutes
    The last line is one JSON object.
    """

    num_images: int = 6000
    """Training images of one timed pass."""
    batch_size: int = 32
    """Images a training step."""
    threads: int = 0
    """CPU threads of every contestant; 0 for one a core."""
    rounds: int = 5
    """How often each contestant takes its turn."""
    data_dir: Folder = None
    """As for `lenet train`."""


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Fetch, list or verify the data sets.

    Examples:
      lenet data fetch
      lenet data list
      lenet data verify fashion-mnist --data-dir ~/data/FashionMNIST/raw
    """

    action: Positional[Literal["fetch", "list", "verify"]]
    """What to do."""
    dataset: Positional[DatasetName] = "mnist"
    """Which data set; `list` shows all."""
    data_dir: Folder = None
    """Folder to look in before the cache; LENET_DATA does the same."""
    json: bool = False
    """Print one JSON object."""


@dataclass(frozen=True, kw_only=True)
class RecipesOptions:
    """Show the named recipes.

    Examples:
      lenet recipes
      lenet recipes --json
    """

    json: bool = False
    """Print one JSON object."""


@dataclass(frozen=True, kw_only=True)
class EnvOptions:
    """Show versions and machine, for a bug report.

    Examples:
      lenet env
      lenet env --json
    """

    json: bool = False
    """Print one JSON object."""


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
