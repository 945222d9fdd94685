"""The files that lenet writes and reads back, as typed structures, and their strict decoding.

msgspec checks types and ranges as it decodes, so that a damaged or hostile file is one error that
names the file and the field. Unknown keys are ignored: a later version may add some.
"""

import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from lenet.errors import CheckpointError, LeNetError, RunError
from lenet.files import write_text

METRICS_FILE = "metrics.jsonl"
PREDICTIONS_FILE = "predictions.safetensors"
RECORD_FILE = "record.json"
STUDY_FILE = "study.json"
SWEEP_FILE = "sweep.json"

T = TypeVar("T")

Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=0)]
Pixel = Annotated[float, Meta(ge=-1e6, le=1e6)]
Plain = str | bool | int | float
"""A value of a recipe's field."""


def decode(text: str | bytes, kind: type[T], where: object, error: type[LeNetError]) -> T:
    """Return JSON text as a structure.

    Args:
        text: JSON.
        kind: A structure of this module, or any other type that msgspec knows.
        where: Names the source in the error.
        error: Raised if the text is not JSON, or not of that type.
    """
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as fault:
        raise error(f"{where}: {fault}") from None


def read(path: Path, kind: type[T], error: type[LeNetError] = RunError) -> T:
    """Return a JSON file as a structure; see `decode`."""
    try:
        content = path.read_bytes()
    except OSError as fault:
        raise error(f"{path}: expected JSON, found: {fault.strerror}") from None
    return decode(content, kind, path, error)


def write(path: Path, value: Any) -> None:
    """Write a structure as a JSON file that people can read, whole or not at all."""
    write_text(path, to_json(value, indent=1) + "\n")


def to_json(value: Any, *, indent: int = -1) -> str:
    """Return a structure or plain values as JSON text; NaN and infinity become null, paths text.

    Args:
        value: What msgspec can encode.
        indent: Spaces of each level; -1 for a single line.
    """
    return msgspec.json.format(
        msgspec.json.encode(value, enc_hook=os.fspath), indent=indent
    ).decode()


class LeNet5Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Arguments that build `LeNet5`."""

    num_classes: Annotated[int, Meta(ge=2, le=1000)]
    in_channels: Annotated[int, Meta(ge=1, le=16)]
    activation: Literal["tanh", "relu", "silu"]
    pooling: Literal["average", "max"]
    resize: Literal["pad", "stretch"]
    background: Pixel
    ink: Pixel


class LeNet5Config1998(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Arguments that build `LeNet5_1998`."""

    num_classes: Literal[10]
    connections: Literal["table", "dense"]
    pooling: Literal["trainable", "average"]
    output: Literal["rbf", "linear"]
    background: Pixel
    ink: Pixel


CONFIGS = {"lenet5": LeNet5Config, "lenet5-1998": LeNet5Config1998}


@dataclass(frozen=True, kw_only=True)
class CardScores:
    """Figures of a model as they were when its file was written."""

    train_accuracy: Share | None = None
    val_accuracy: Share | None = None
    test_accuracy: Share | None = None
    temperature: Annotated[float, Meta(ge=0.01, le=100)] | None = None
    """Logits are divided by it before the softmax (Guo et al. 2017)."""


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """The description in a model file."""

    format: Literal[1] = 1
    model: Literal["lenet5", "lenet5-1998"]
    """Key of `lenet.models.MODELS`."""
    config: dict[str, Any]
    """Arguments that build the network."""
    classes: tuple[str, ...]
    """Name of each logit, in order."""
    dataset: str
    recipe_name: str = ""
    recipe: dict[str, Plain] = field(default_factory=dict)
    seed: int = 0
    epochs: int = 0
    images: str | None = None
    """The user's own pictures that it was also trained on."""
    has_garbage: bool = False
    """It was trained to tell what is no digit, whose logit is 0, and to read lines of digits."""
    scores: CardScores = field(default_factory=CardScores)
    lenet_version: str = ""

    def __post_init__(self) -> None:
        """Check the config against its network, and that each logit has a name."""
        config = msgspec.convert(self.config, CONFIGS[self.model])
        if len(self.classes) != config.num_classes:
            raise ValueError(f"`classes` must name each of the {config.num_classes}")

    @property
    def temperature(self) -> float:
        """Logits are divided by it before the softmax; 1 where none was fitted."""
        return self.scores.temperature or 1.0


def encode_card(card: ModelCard) -> str:
    """Return a card as JSON with sorted keys, so that equal models are equal files."""
    values = msgspec.to_builtins(card)
    values["scores"] = {k: v for k, v in values["scores"].items() if v is not None}
    if card.images is None:
        del values["images"]
    if not card.has_garbage:
        del values["has_garbage"]
    return msgspec.json.encode(values, order="sorted").decode()


def decode_card(header: str, path: Path) -> ModelCard:
    """Return the card in a model file's header.

    Raises:
        CheckpointError: It is damaged, or of a network that this version does not know.
    """
    return decode(header, ModelCard, f"{path}: the `lenet` key of its header", CheckpointError)


@dataclass(frozen=True, kw_only=True)
class RunFile:
    """recipe.json: the settings of a run."""

    recipe_name: str
    seed: Annotated[int, Meta(ge=0, lt=2**32)]
    recipe: dict[str, Plain]
    images: str | None = None
    """The user's own pictures, as named on the command line."""
    start: str | None = None
    """The model whose weights the run begins with, as named there."""


@dataclass(frozen=True, kw_only=True)
class EpochScores:
    """One epoch of a run: a line of metrics.jsonl.

    The training figures are running ones: each batch is scored before the step it causes, so
    they cost no second pass and lag a little behind the model as it is at the epoch's end.
    """

    epoch: Annotated[int, Meta(ge=1)]
    """1 for the first."""
    train_loss: float
    """Mean cross-entropy in nats, unsmoothed even where smoothed labels are learned."""
    train_accuracy: Share
    val_loss: float | None = None
    val_accuracy: Share | None = None
    test_loss: float | None = None
    """Only in recipes that score the test images each epoch."""
    test_accuracy: Share | None = None
    lr: float
    """Learning rate of the epoch's last step."""
    duration_s: float
    images_per_s: float
    """Training images a second, scoring of the val split excluded."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Accuracy and loss of a model on one split."""

    split: str
    """Which images: "train", "val", "test", or a name of the caller's."""
    num_images: Annotated[int, Meta(ge=1)]
    num_correct: Count
    accuracy: Share
    """Share of images whose largest logit is the label's, 0..1."""
    accuracy_low: Share
    """Lower end of the 95 % Wilson interval over images."""
    accuracy_high: Share
    """Upper end of it."""
    loss: float
    """Mean cross-entropy, in nats."""
    calibration_error: Share
    """Expected calibration error over 15 bins of confidence, 0..1 (Guo et al. 2017, eq. 3)."""
    confusion: tuple[tuple[Count, ...], ...]
    """Row: true class; column: predicted class; entry: number of images."""

    def __post_init__(self) -> None:
        """Check that the confusion matrix is square."""
        if not self.confusion or any(len(row) != len(self.confusion) for row in self.confusion):
            raise ValueError("`confusion` must have as many columns as rows, at least 1")


@dataclass(frozen=True, kw_only=True)
class Environment:
    """Versions and machine: plain values, nothing personal."""

    python: str
    packages: dict[str, str]
    system: str
    cpu: str
    num_cores: int | None
    num_threads: int
    cuda: tuple[str, ...]
    commit: str | None


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One recipe, one seed: what was run, where, and what came out."""

    recipe_name: str
    recipe: dict[str, Plain]
    seed: int
    train_accuracy: Share
    """Of the finished model on every training image, in one pass after the last epoch, 0..1."""
    train_loss: float
    test_accuracy: Share
    """Of the finished model on every test image, 0..1."""
    test_loss: float
    val_accuracy: Share | None
    val_loss: float | None
    num_parameters: Count
    num_train_images: Count
    epochs: Annotated[tuple[EpochScores, ...], Meta(min_length=1)]
    scores: dict[str, Scores]
    """By split."""
    training_s: float
    """Sum over epochs, scoring included; no downloads or figures."""
    num_sessions: Count
    """1, or more where the run was stopped and resumed."""
    device: str
    engine: str
    """"native" (compiled kernels) or "torch"."""
    data_sha256: dict[str, str]
    environment: Environment
    command: str
    test_wrong: tuple[Count, ...] | None = None
    """Indices of the test images that the finished model misreads; None in older records."""
    images: str | None = None
    """The user's own pictures, as named on the command line."""
    start: str | None = None
    """The model whose weights the run began with, as named there."""

    def __post_init__(self) -> None:
        """Check that the splits that every run has are there."""
        for name, parts in (("scores", self.scores), ("data_sha256", self.data_sha256)):
            if not {"train", "test"} <= parts.keys():
                raise ValueError(f"`{name}` must have the splits train and test")
        if not isinstance(self.recipe.get("dataset"), str):
            raise ValueError("`recipe` must name its `dataset`")


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One figure over seeds."""

    n: Annotated[int, Meta(ge=1)]
    mean: float
    std: float
    """Sample standard deviation; 0 for one seed."""
    low: float | None
    """Lower end of the 95 % interval of the mean (Student's t); None for one seed."""
    high: float | None
    min: float
    max: float

    @property
    def interval(self) -> tuple[float, float]:
        """(low, high); NaN for one seed."""
        return math.nan if self.low is None else self.low, (
            math.nan if self.high is None else self.high
        )


class RunFigures(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The figures of a run that a study keeps; those of the test images are not in a sweep."""

    seed: int
    train_accuracy: Share | None = None
    train_loss: float | None = None
    test_accuracy: Share | None = None
    test_loss: float | None = None
    val_accuracy: Share | None = None
    val_loss: float | None = None
    training_s: float | None = None
    test_wrong: tuple[Count, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class StudyRecord:
    """One recipe, many seeds."""

    recipe_name: str
    recipe: dict[str, Plain]
    seeds: Annotated[tuple[int, ...], Meta(min_length=1)]
    summary: dict[str, Summary]
    """`train_accuracy`, `test_accuracy`, `test_loss`, `training_s`, ..."""
    runs: tuple[RunFigures, ...]
    environment: Environment
    command: str
    test_images: Summary | None = None
    """Over test images, the share of runs that read each one right: its mean is that of
    `test_accuracy`, its interval says how far other images might move it. None in older records."""
    failed: dict[str, str] = field(default_factory=dict)
    """Why seeds failed, by seed; in the studies of a sweep alone."""


@dataclass(frozen=True, kw_only=True)
class SweepRecord:
    """One recipe under several settings, compared on the validation images."""

    recipe_name: str
    fields: tuple[str, ...]
    """The fields of the recipe that were varied."""
    studies: dict[str, StudyRecord]
    """By setting; figures of the test images are left out."""
    best: str | None
    """The setting of the highest mean validation accuracy; None where all failed."""
    sentence: str
    """The conclusion."""
