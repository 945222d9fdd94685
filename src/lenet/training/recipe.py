"""What to run: one frozen dataclass of plain values, and the named recipes as data."""

from dataclasses import dataclass, fields, replace
from typing import Annotated, Literal, get_args, get_origin

import msgspec
from msgspec import Meta

from lenet.errors import RecipeError

DatasetName = Literal["mnist", "fashion-mnist", "kmnist"]
"""Key of `lenet.data.datasets.DATASETS`."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides a run's numbers, except the seed."""

    dataset: DatasetName = "mnist"
    """Data set to train on."""
    model: Literal["lenet5", "lenet5-1998"] = "lenet5"
    """Network: that of common PyTorch versions, or the paper's."""
    activation: Literal["tanh", "relu", "silu", "scaled_tanh"] = "tanh"
    """Squashing function after C1, C3, C5 and F6; lenet5-1998 has scaled_tanh."""
    pooling: Literal["average", "max", "trainable"] = "average"
    """What S2 and S4 do with each 2x2 window; trainable: the paper's coefficient and bias."""
    connections: Literal["dense", "table"] = "dense"
    """Which maps of S2 a map of C3 looks at: all, or those of the paper's Table I."""
    output: Literal["linear", "rbf"] = "linear"
    """Last layer: linear, or the paper's distances from fixed codes."""
    init: Literal["torch", "sqrt", "linear"] = "torch"
    """Initial weights: PyTorch's, or (lenet5-1998) by the root of the fan-in or the fan-in."""
    resize: Literal["pad", "stretch"] = "pad"
    """How 28x28 pixels become the 32x32 field: background on each side, or interpolation."""
    background: Annotated[float, Meta(ge=-1e3, le=1e3)] = 0.0
    """What a background pixel becomes at the network's input (the paper: -0.1)."""
    ink: Annotated[float, Meta(ge=-1e3, le=1e3)] = 1.0
    """What a full ink pixel becomes at the network's input (the paper: 1.175)."""
    loss: Literal["cross_entropy", "mse", "map"] = "cross_entropy"
    """Loss function; mse and map are the paper's eqs. (8) and (9), for rbf outputs."""
    map_j: Annotated[float, Meta(ge=0, le=1000)] = 10.0
    """Penalty of the garbage class; for map alone."""
    distortions: Literal["none", "affine", "elastic", "mild", "robust"] = "none"
    """How training images are distorted, anew in each epoch."""
    distortion_end: Annotated[float, Meta(ge=0, le=10)] = 1.0
    """Share of the distortions' strength in the last epoch; from the first it changes linearly."""
    non_digits: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    """Images of letters, marks and scribbles added, as one class more: garbage."""
    lines: Annotated[int, Meta(ge=0, le=100_000)] = 0
    """Digits in the lines of writing that each step also learns from, by CTC; 0 for no lines."""
    label_smoothing: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """Share of each target spread evenly over all classes, 0 to 1."""
    optimizer: Literal["adam", "adamw", "sgd", "sdlm"] = "adam"
    """Optimizer; sgd has momentum 0.9, sdlm is the paper's, one pattern at a time."""
    curvature: Literal["fresh", "running"] = "running"
    """Of sdlm: estimated anew for each pass, as the paper is worded, or averaged over them."""
    lr: Annotated[float, Meta(gt=0, le=100)] = 1e-3
    """Peak learning rate; the paper's eta."""
    weight_decay: Annotated[float, Meta(ge=0, le=100)] = 0.0
    """L2 penalty (adam, sgd) or decoupled decay per unit of learning rate (adamw)."""
    schedule: Literal["constant", "linear", "cosine", "lecun1998"] = "constant"
    """How the learning rate falls from its peak; lecun1998: in the paper's steps between passes."""
    warmup: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """Share of all steps over which the learning rate first rises linearly to its peak, 0 to 1."""
    batch_size: Annotated[int, Meta(ge=1, le=1_000_000)] = 32
    """Images a step."""
    epochs: Annotated[int, Meta(ge=1, le=100_000)] = 15
    """Passes over the training images."""
    ema: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """Decay a step of the moving average of the weights that is scored and kept; 0 for none."""
    order: Literal["shuffled", "constant"] = "shuffled"
    """A new random order for each epoch, or one for all."""
    num_train: Annotated[int, Meta(ge=0, le=60_000)] = 0
    """Train on that many of the training images, the same for all seeds; 0 for all."""
    num_val: Annotated[int, Meta(ge=0, le=59_999)] = 0
    """Training images cut off as the val split and scored after each epoch; 0 trains on all."""
    test_as_validation: bool = False
    """Score the *test* images after each epoch, as the notebook does. Choose nothing by it."""

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            RecipeError: A value is not allowed; the message names field, value and range.
        """
        for field in fields(self):
            value = getattr(self, field.name)
            try:
                msgspec.convert(value, field.type)
            except msgspec.ValidationError as error:
                allowed = get_args(field.type) if get_origin(field.type) is Literal else ()
                reason = f"must be one of: {', '.join(allowed)}" if allowed else f"{error}"
                raise RecipeError(f"`{field.name}` (={value!r}): {reason}") from None
        if self.num_val and self.test_as_validation:
            raise RecipeError(
                f"`num_val` (={self.num_val}) must be 0 when `test_as_validation` is set: "
                "an epoch is scored on one split"
            )
        self._check_together()

    def _check_together(self) -> None:
        """Refuse what would be ignored, or what no code is for."""
        for field, allowed in _BY_MODEL[self.model].items():
            if getattr(self, field) not in allowed:
                raise RecipeError(
                    f"`{field}` (={getattr(self, field)}) must be one of: {', '.join(allowed)} "
                    f"when `model` is {self.model}"
                )
        if self.model != "lenet5" and self.non_digits:
            raise RecipeError(
                f"`non_digits` (={self.non_digits}) must be 0 when `model` is {self.model}: its "
                "ten codes have no room for garbage"
            )
        if self.lines and not self.non_digits:
            raise RecipeError(
                f"`lines` (={self.lines}) must be 0 when `non_digits` is: between the digits of a "
                "line the network sees garbage"
            )
        if self.loss != "cross_entropy" and (self.output != "rbf" or self.label_smoothing):
            raise RecipeError(f"`loss` (={self.loss}) is for `output` rbf and no `label_smoothing`")
        for field, used, when in (
            ("map_j", self.loss == "map", f"`loss` is {self.loss}"),
            ("curvature", self.optimizer == "sdlm", f"`optimizer` is {self.optimizer}"),
            ("distortion_end", self.distortions != "none", "`distortions` is none"),
        ):
            if not used and getattr(self, field) != getattr(Recipe, field):
                raise RecipeError(f"`{field}` (={getattr(self, field)}) has no effect when {when}")
        if self.optimizer == "sdlm":
            for field, value in _WITH_SDLM.items():
                if getattr(self, field) != value:
                    raise RecipeError(
                        f"`{field}` (={getattr(self, field)}) must be {value} when `optimizer` "
                        "is sdlm"
                    )
            if self.schedule not in ("constant", "lecun1998"):
                raise RecipeError(
                    f"`schedule` (={self.schedule}) must be constant or lecun1998 when "
                    "`optimizer` is sdlm: rates are fixed within a pass"
                )


_BY_MODEL: dict[str, dict[str, tuple[str, ...]]] = {
    "lenet5": {
        "activation": ("tanh", "relu", "silu"),
        "pooling": ("average", "max"),
        "connections": ("dense",),
        "output": ("linear",),
        "init": ("torch",),
    },
    "lenet5-1998": {
        "activation": ("scaled_tanh",),
        "pooling": ("trainable", "average"),
        "init": ("sqrt", "linear"),
        "resize": ("pad",),
    },
}
_WITH_SDLM: dict[str, object] = {
    "model": "lenet5-1998",
    "pooling": "trainable",
    "output": "rbf",
    "batch_size": 1,
    "warmup": 0.0,
    "weight_decay": 0.0,
    "label_smoothing": 0.0,
    "ema": 0.0,
}


_REMOVED = {
    "teachers": 0,
    "teacher_epochs": 0,
    "teacher_weight": 0.0,
    "shared_teachers": False,
    "distortion_cycle": 0,
    "pieces": 0,
    "windows": 0,
}
"""Fields of version 0.1, with the values at which they changed nothing."""


def from_dict(values: object, *, source: str) -> Recipe:
    """Build a recipe from what a JSON file held.

    Args:
        values: The parsed JSON.
        source: Where it came from, for the error message.

    Raises:
        RecipeError: Not a JSON object of exactly a recipe's fields, or a value is not allowed.
    """
    known = {field.name for field in fields(Recipe)}
    if isinstance(values, dict):
        values = {k: v for k, v in values.items() if not (k in _REMOVED and v == _REMOVED[k])}
    if not isinstance(values, dict) or not set(values) <= known:
        extra = sorted(set(values) - known) if isinstance(values, dict) else type(values).__name__
        raise RecipeError(f"{source}: not a recipe of this version of lenet (found {extra})")
    try:
        return Recipe(**values)
    except RecipeError as error:
        raise RecipeError(f"{source}: {error}") from None


# Source: the notebook behind the report, erykml/medium_articles, lenet5_pytorch.ipynb.
# Command: lenet study report --seeds 10. Record: records/report.json
_REPORT = Recipe(
    resize="stretch",
    optimizer="adam",
    lr=1e-3,
    schedule="constant",
    batch_size=32,
    epochs=15,
    test_as_validation=True,
)

# Chosen on a validation part of the training images: docs/decisions.md.
# Command: lenet study default --seeds 10. Record: records/default.json
_DEFAULT = replace(
    _REPORT,
    resize="pad",
    label_smoothing=0.02,
    lr=2e-3,
    schedule="linear",
    warmup=0.05,
    num_val=5000,
    test_as_validation=False,
)

# The report's accuracy in seconds. Chosen on a validation part: docs/decisions.md.
# Command: lenet study fast --seeds 30. Record: records/fast.json
_FAST = replace(
    _DEFAULT,
    activation="relu",
    pooling="max",
    # Mean 0 and variance 1 over the training images, padding left out.
    background=-0.4242,
    ink=2.8215,
    lr=3e-3,
    warmup=0.1,
    batch_size=64,
    epochs=3,
    num_val=0,
)

# The paper's network and training, section III; what it leaves open: docs/lenet5-1998.md.
# Command: lenet study lecun1998 --seeds 8. Record: records/lecun1998.json
_LECUN1998 = Recipe(
    model="lenet5-1998",
    activation="scaled_tanh",
    pooling="trainable",
    connections="table",
    output="rbf",
    init="sqrt",
    background=-0.1,
    ink=1.175,
    loss="mse",
    optimizer="sdlm",
    lr=0.0005,
    schedule="lecun1998",
    batch_size=1,
    epochs=20,
    order="constant",
)

# The paper's distortions: translation, scaling, squeezing, horizontal shear.
# Command: lenet study lecun1998-distorted --seeds 8. Record: records/lecun1998-distorted.json
_LECUN1998_DISTORTED = replace(_LECUN1998, distortions="affine")

# The model that reads people's own digits, part of the package: docs/reading.md.
# Command: lenet study robust --seeds 4. Record: records/robust.json
_ROBUST = replace(
    _FAST,
    activation="silu",
    distortions="robust",
    distortion_end=0.4,
    non_digits=4000,
    lines=128,
    optimizer="adamw",
    lr=6e-3,
    weight_decay=0.1,
    schedule="cosine",
    warmup=0.05,
    batch_size=128,
    epochs=80,
    ema=0.999,
    num_val=5000,
)

# As accurate as 61,706 parameters were made. Chosen on a validation part: docs/decisions.md.
# Command: lenet study best --seeds 10. Record: records/best.json
_BEST = replace(
    _FAST,
    activation="silu",
    distortions="mild",
    optimizer="adamw",
    lr=4e-3,
    weight_decay=0.1,
    schedule="cosine",
    warmup=0.05,
    batch_size=128,
    epochs=100,
    ema=0.999,
)

RECIPES: dict[str, Recipe] = {
    "default": _DEFAULT,
    "report": _REPORT,
    "fast": _FAST,
    "lecun1998": _LECUN1998,
    "lecun1998-distorted": _LECUN1998_DISTORTED,
    "robust": _ROBUST,
    "best": _BEST,
}

SUMMARIES: dict[str, str] = {
    "default": "LeNet-5 as a careful person trains it: 5,000 images held out, test scored once",
    "report": "the notebook's settings, with the 10,000 test images as its validation",
    "fast": "the report's accuracy in seconds: relu, max pooling, three epochs",
    "lecun1998": "the paper's network, trained as in the paper: one image at a time, 20 passes",
    "lecun1998-distorted": "the same on randomly distorted images, anew in each pass",
    "best": "as accurate as this network was made: mild distortions, weight decay, 100 epochs",
    "robust": "reads strangers' digits: trained on distorted, faint and blurred images",
}
