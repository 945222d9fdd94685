"""Read people's pictures of digits: from a file to a label with its probability."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet.errors import CheckpointError, PictureError
from lenet.reading.card import cut_card
from lenet.reading.decode import Picture, Source, read_picture
from lenet.reading.graph import log_probabilities, read_line, sweep_line
from lenet.reading.inference import read_network
from lenet.reading.normalize import Normalized, normalize
from lenet.reading.segment import find_lines
from lenet.reading.views import turn

Logits = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Of images (N, 28, 28) uint8, 0 = background, 255 = ink: (N, num_classes)."""

Sweep = Callable[[NDArray[Any]], NDArray[Any]]
"""Of fields (N, H, W) float in [0, 1]: logits at each place, (N, h, w, num_classes)."""

METHODS = ("segment", "sweep")
VIEWS = ((-6.0, 0.0), (6.0, 1.0))
"""Degrees by which a piece of writing is turned, and pixels by which it is moved, to be looked at
again. The mean of the logits counts; how much that gives depends on the model:
docs/decisions.md."""
HOPELESS = -8.0
"""Logarithm of a chance; what has less of one is not looked at again."""
PRETRAINED = "robust.safetensors"


@dataclass(frozen=True, eq=False, kw_only=True)
class Digit:
    """What was read from a picture of one digit."""

    label: str | None
    """None where no digit was found."""
    probability: float
    """Of the label, 0..1; 0 where no digit was found."""
    second: str | None
    """The next likely label."""
    second_probability: float
    probabilities: tuple[float, ...]
    """Of each class, in the order of `Reader.classes`; empty where no digit was found."""
    box: tuple[int, int, int, int] | None
    """Left, top, right, bottom in the picture that was given, in pixels."""
    normalized: Normalized = field(repr=False)
    """The 28x28 image that the network saw, and how it was made."""


@dataclass(frozen=True, eq=False, kw_only=True)
class WrittenLine:
    """What was read from a line of writing."""

    text: str
    """Its digits, left to right."""
    probabilities: tuple[float, ...]
    """Of each digit, that its ink is this digit and no garbage, 0..1."""
    box: tuple[int, int, int, int]
    """Left, top, right, bottom in the picture that was given, in pixels."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Number:
    """What was read from a picture of one or several numbers."""

    lines: tuple[WrittenLine, ...]
    """Top to bottom; none where no digit was found."""

    @property
    def text(self) -> str:
        """The number; several lines are joined by a slash."""
        return "/".join(line.text for line in self.lines)

    @property
    def probability(self) -> float:
        """Product of the digits' probabilities, 0..1; 0 without digits."""
        found = [p for line in self.lines for p in line.probabilities]
        return float(np.prod(found)) if found else 0.0


class Reader:
    """A network, and what turns strangers' pictures into its input."""

    def __init__(
        self,
        logits: Logits,
        classes: Sequence[str] = tuple("0123456789"),
        *,
        temperature: float = 1.0,
        sweep: Sweep | None = None,
    ) -> None:
        """Read with any network.

        Args:
            logits: Takes images, returns logits.
            classes: What each logit stands for.
            temperature: What logits are divided by to give honest probabilities.
            sweep: The network over wide fields, for `read_number(method="sweep")`.
        """
        self.classes = tuple(classes)
        self._logits, self._temperature, self._sweep = logits, temperature, sweep

    @classmethod
    def from_pretrained(cls) -> "Reader":
        """Return a reader over the model that is part of the package."""
        with pretrained_model() as path:
            return cls.from_model(path)

    @classmethod
    def from_model(cls, path: Path) -> "Reader":
        """Return a reader over a model file or run directory.

        Raises:
            CheckpointError: There is none, or it is damaged.
        """
        found = read_network(path / "model.safetensors" if path.is_dir() else path)
        if found is not None:
            network, card = found
            return cls(
                network.logits,
                card.classes,
                temperature=card.temperature,
                sweep=network.sweep,
            )
        return _with_torch(cls, path)

    @property
    def can_sweep(self) -> bool:
        """Whether `read_number(method="sweep")` is possible."""
        return self._sweep is not None

    def read_digit(self, source: Source, *, keep_steps: bool = False) -> Digit:
        """Read a picture of one digit.

        Args:
            source: Path, bytes, array or Pillow image; see `lenet.reading.decode.read_picture`.
            keep_steps: Keep what each step of normalization made.

        Raises:
            PictureError: Not a picture that can be read.
        """
        picture = read_picture(source)
        normalized = normalize(picture.rgb, keep_steps=keep_steps)
        if normalized.image is None:
            return self._digit(_scale_of(picture), normalized, None)
        probabilities = self.probabilities(normalized.image[None])[0]
        return self._digit(_scale_of(picture), normalized, probabilities)

    def read_digits(self, sources: Iterable[Source | PictureError]) -> list[Digit | PictureError]:
        """Read pictures of one digit each, in less time than one by one.

        Args:
            sources: As for `read_digit`, taken one by one; an error stands for a picture that
                isn't there.

        Returns:
            For each what was read, or why nothing could be.
        """
        found: list[Digit | PictureError] = []
        waiting: list[tuple[int, float, Normalized]] = []
        for source in sources:
            try:
                if isinstance(source, PictureError):
                    raise source
                picture = read_picture(source)
            except PictureError as error:
                found.append(error)
                continue
            normalized = normalize(picture.rgb)
            if normalized.image is not None:
                waiting.append((len(found), _scale_of(picture), normalized))
            found.append(self._digit(_scale_of(picture), normalized, None))
        images = [n.image for _, _, n in waiting if n.image is not None]
        if images:
            rows = self.probabilities(np.stack(images))
            for (place, scale, normalized), probabilities in zip(waiting, rows, strict=True):
                found[place] = self._digit(scale, normalized, probabilities)
        return found

    def _digit(
        self, scale: float, normalized: Normalized, probabilities: NDArray[np.float64] | None
    ) -> Digit:
        """Return what the probabilities say; None where no digit was found."""
        if probabilities is None:
            return Digit(
                label=None,
                probability=0.0,
                second=None,
                second_probability=0.0,
                probabilities=(),
                box=None,
                normalized=normalized,
            )
        first, second = np.argsort(probabilities)[::-1][:2]
        left, top, right, bottom = normalized.box or (0, 0, 0, 0)
        return Digit(
            label=self.classes[first],
            probability=float(probabilities[first]),
            second=self.classes[second],
            second_probability=float(probabilities[second]),
            probabilities=tuple(float(p) for p in probabilities),
            box=(
                round(left * scale),
                round(top * scale),
                round(right * scale),
                round(bottom * scale),
            ),
            normalized=normalized,
        )

    def read_number(self, source: Source, *, method: str = "segment") -> Number:
        """Read a picture of a number, or of several in lines.

        Args:
            source: Path, bytes, array or Pillow image.
            method: "segment" cuts the ink into pieces and takes the best way through them;
                "sweep" runs the network over the whole line.

        Raises:
            PictureError: Not a picture that can be read.
            ValueError: No such method, or this reader's network can't be swept.
        """
        if method not in METHODS or (method == "sweep" and self._sweep is None):
            raise ValueError(f"`method` (={method!r}) must be one of {METHODS}, sweep for LeNet-5")
        picture = read_picture(source)
        scale = _scale_of(picture)
        lines = []
        rgb, shift = cut_card(picture.rgb)
        for line in find_lines(rgb):
            if method == "sweep" and self._sweep is not None:
                choices = sweep_line(line, self._sweep, temperature=self._temperature)
            else:
                choices = read_line(line, self._look, temperature=self._temperature)
            if not choices:
                continue
            corners = np.add(line.patch.box, shift * 2)
            left, top, right, bottom = (round(corner * scale) for corner in corners.tolist())
            lines.append(
                WrittenLine(
                    text="".join(self.classes[choice.label] for choice in choices),
                    probabilities=tuple(choice.probability for choice in choices),
                    box=(left, top, right, bottom),
                )
            )
        return Number(lines=tuple(lines))

    def _look(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return logits of pieces of writing, each that may be a digit looked at three times."""
        logits = self._logits(images)
        likely = np.nonzero(log_probabilities(logits).max(axis=1) > HOPELESS)[0]
        if len(likely):
            views = [self._logits(turn(images[likely], *view)) for view in VIEWS]
            logits = logits.copy()
            logits[likely] = np.mean([logits[likely], *views], axis=0)
        return logits

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return the probabilities (N, num_classes) of images (N, 28, 28) uint8."""
        logits = self._logits(images).astype(np.float64) / self._temperature
        likely = np.exp(logits - logits.max(axis=1, keepdims=True))
        result: NDArray[np.float64] = likely / likely.sum(axis=1, keepdims=True)
        return result


def _scale_of(picture: Picture) -> float:
    """Return how many of the given pixels lie along one of those that were worked on."""
    return float(picture.size[0] / picture.rgb.shape[1])


@contextmanager
def pretrained_model() -> Iterator[Path]:
    """Yield the path of the model that is part of the package."""
    with as_file(files("lenet").joinpath("pretrained", PRETRAINED)) as path:
        yield path


@contextmanager
def named_model(name: str | Path) -> Iterator[Path]:
    """Yield the path of a model that a user names: `pretrained` is the package's own."""
    if str(name) == "pretrained" and not Path(name).exists():
        with pretrained_model() as path:
            yield path
    else:
        yield Path(name)


def describe_digit(name: str, digit: Digit, reject: float) -> dict[str, Any]:
    """Return what is told of a picture: plain values by column.

    Args:
        name: Of the picture.
        digit: What was read.
        reject: No label is given below this probability.
    """
    is_rejected = digit.label is not None and digit.probability < reject
    status = "rejected" if is_rejected else "read" if digit.label is not None else "empty"
    return {
        "path": name,
        "label": None if is_rejected else digit.label,
        "probability": round(digit.probability, 4),
        "second": digit.second,
        "second_probability": round(digit.second_probability, 4),
        "status": status,
        "best": digit.label,
        "box": digit.box,
    }


def _with_torch(kind: type[Reader], path: Path) -> Reader:
    """Return a reader over a model that only torch computes; explain a file that is none."""
    import torch

    from lenet.models.files import load_model

    torch.set_num_threads(1)
    model, card = load_model(path)
    if model.in_channels != 1:
        raise CheckpointError(f"{path}: takes {model.in_channels} channels; pictures are grey")

    def logits(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            parts = [
                model(x.unsqueeze(1) / 255) for x in torch.split(torch.from_numpy(images), 1000)
            ]
        found: NDArray[np.float32] = torch.cat(parts).numpy()
        return found

    return kind(logits, card.classes, temperature=card.temperature)
