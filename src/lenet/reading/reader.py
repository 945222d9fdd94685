"""Read people's pictures of digits: from a file to a label with its probability."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lenet.errors import CheckpointError, PictureError
from lenet.reading.card import cut_card
from lenet.reading.decode import DIGIT_SIDE, Picture, Source, read_picture
from lenet.reading.inference import read_network
from lenet.reading.layout import find_patches
from lenet.reading.normalize import Normalized, normalize
from lenet.reading.number import Sweep, read_line

Box = tuple[int, int, int, int]
Logits = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Of images (N, 28, 28) uint8, 0 = background, 255 = ink: (N, num_classes)."""

TURNS = (0, 8, -8)
"""Degrees by which a digit is turned; the logits of the three are averaged. A third fewer digits
are misread than with one look (docs/lab/reading.md)."""
SURE = 0.5
"""Probability from which a number is suggested where one digit was asked for and none found."""
MIN_TURNED = 3
"""Digits, at least, that a turned picture must show."""
MAX_WRITING, MAX_DOUBTFUL = 300, 50
"""Length of all lines of a picture together, in heights of their digits; 100 take a second. Of more
than the second, nothing is tried but what was asked for."""
DOUBTFUL, CLEAR, CLEARER = 0.2, 0.97, 0.02
"""A number of less probability than the first is also read with the picture turned. A turn counts
if its digits' mean probability is at least the second, higher by the third, and no fewer digits
are read."""
PRETRAINED = "robust.safetensors"


@dataclass(frozen=True, eq=False, kw_only=True)
class Digit:
    """What was read from a picture of one digit."""

    label: str | None
    """None where nothing was found, or several things, or what is likelier no digit."""
    probability: float
    """Of the label or, without one, that it is no digit; 0..1, 0 where nothing was found."""
    second: str | None
    """The next likely label."""
    second_probability: float
    probabilities: tuple[float, ...]
    """Of each class, in the order of `Reader.classes`; what is missing to 1 is that of no digit.
    Empty where nothing was found."""
    number: str | None = None
    """The number of several digits that it seems to be, where there is no label."""
    box: tuple[int, int, int, int] | None
    """Left, top, right, bottom in the picture that was given, in pixels."""
    normalized: Normalized = field(repr=False)
    """The 28x28 image that the network saw, and how it was made."""


@dataclass(frozen=True, eq=False, kw_only=True)
class WrittenLine:
    """What was read from a line of writing."""

    text: str
    """Its digits, left to right."""
    probability: float
    """That all of them are right, 0..1."""
    probabilities: tuple[float, ...]
    """Of each digit, that it is right, 0..1."""
    box: tuple[int, int, int, int]
    """Left, top, right, bottom in the picture that was given, in pixels."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Number:
    """What was read from a picture of one or several numbers."""

    lines: tuple[WrittenLine, ...]
    """Top to bottom; none where no digit was found."""
    turned: int = 0
    """Degrees, clockwise, by which the picture had to be turned to be read: 0, 90, 180 or 270."""

    @property
    def text(self) -> str:
        """The number; several lines are joined by a slash."""
        return "/".join(line.text for line in self.lines)

    @property
    def num_digits(self) -> int:
        """Of all lines."""
        return sum(len(line.text) for line in self.lines)

    @property
    def clarity(self) -> float:
        """Mean probability of the digits, 0..1; 0 without digits."""
        found = [p for line in self.lines for p in line.probabilities]
        return sum(found) / len(found) if found else 0.0

    @property
    def probability(self) -> float:
        """That all lines are right, 0..1; 0 without digits."""
        return math.prod(line.probability for line in self.lines) if self.lines else 0.0


class Reader:
    """A network, and what turns strangers' pictures into its input."""

    def __init__(
        self,
        logits: Logits,
        classes: Sequence[str] = tuple("0123456789"),
        *,
        temperature: float = 1.0,
        has_garbage: bool = False,
        sweep: Sweep | None = None,
    ) -> None:
        """Read with any network.

        Args:
            logits: Takes images, returns logits.
            classes: What each logit stands for.
            temperature: What logits are divided by to give honest probabilities.
            has_garbage: It was trained to tell what is no digit, whose logit is 0.
            sweep: The network over wide fields, for `read_number`.
        """
        self.classes = tuple(classes)
        self._logits, self._temperature = logits, temperature
        self._has_garbage, self._sweep = has_garbage, sweep

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
                has_garbage=card.has_garbage,
                sweep=network.sweep if card.has_garbage else None,
            )
        return _with_torch(cls, path)

    def read_digit(self, source: Source, *, keep_steps: bool = False) -> Digit:
        """Read a picture of one digit.

        Args:
            source: Path, bytes, array or Pillow image; see `lenet.reading.decode.read_picture`.
            keep_steps: Keep what each step of normalization made.

        Raises:
            PictureError: Not a picture that can be read.
        """
        picture = read_picture(source, DIGIT_SIDE)
        normalized = normalize(picture.rgb, keep_steps=keep_steps)
        if normalized.image is None:
            return self._digit(_scale_of(picture), normalized, None)
        probabilities = self.probabilities(normalized.image[None])[0]
        digit = self._digit(_scale_of(picture), normalized, probabilities)
        return digit if digit.label else replace(digit, number=self._seems(picture))

    def read_digits(self, sources: Iterable[Source | PictureError]) -> list[Digit | PictureError]:
        """Read pictures of one digit each, in less time than one by one.

        Args:
            sources: As for `read_digit`, taken one by one; an error stands for a picture that
                isn't there.

        Returns:
            For each what was read, or why nothing could be; without `Digit.number`.
        """
        found: list[Digit | PictureError] = []
        waiting: list[tuple[int, float, Normalized]] = []
        for source in sources:
            try:
                if isinstance(source, PictureError):
                    raise source
                picture = read_picture(source, DIGIT_SIDE)
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
        """Return what the probabilities say; None where nothing was found."""
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
        first, second = np.argsort(probabilities)[::-1][:2].tolist()
        nothing = max(0.0, 1 - float(probabilities.sum()))
        is_digit = normalized.is_alone and float(probabilities[first]) >= nothing
        if not is_digit:
            second = first
        return Digit(
            label=self.classes[first] if is_digit else None,
            probability=float(probabilities[first]) if is_digit else nothing,
            second=self.classes[second],
            second_probability=float(probabilities[second]),
            probabilities=tuple(float(p) for p in probabilities),
            box=_scaled(normalized.box or (0, 0, 0, 0), scale),
            normalized=normalized,
        )

    def _seems(self, picture: Picture) -> str | None:
        """Return the number of several digits that a picture seems to show."""
        if self._sweep is None:
            return None
        try:
            number = Number(lines=self._lines(picture, picture.rgb, most=MAX_DOUBTFUL))
        except PictureError:
            return None
        return number.text if len(number.text) > 1 and number.probability > SURE else None

    def read_number(self, source: Source) -> Number:
        """Read a picture of a number, or of several in lines.

        Args:
            source: Path, bytes, array or Pillow image.

        Raises:
            PictureError: Not a picture that can be read, or this model doesn't read numbers.
        """
        if self._sweep is None:
            raise PictureError(
                "this model doesn't read numbers: it was not trained on lines of digits, as the "
                "recipe `robust` does"
            )
        picture = read_picture(source)
        best = Number(lines=self._lines(picture, picture.rgb))
        if best.probability < DOUBTFUL:
            for turned in (90, 180, 270):
                try:
                    rgb = np.rot90(picture.rgb, -turned // 90)
                    lines = self._lines(picture, rgb, turned=turned, most=MAX_DOUBTFUL)
                except PictureError:
                    continue
                number = Number(lines=lines, turned=turned)
                is_longer = number.num_digits >= max(MIN_TURNED, best.num_digits)
                if is_longer and number.clarity >= max(CLEAR, best.clarity + CLEARER):
                    best = number
        return best

    def _lines(
        self, picture: Picture, rgb: NDArray[Any], *, turned: int = 0, most: int = MAX_WRITING
    ) -> tuple[WrittenLine, ...]:
        """Read the lines of a picture that was turned by some degrees.

        Raises:
            PictureError: More writing than `most`, in heights of its digits.
        """
        assert self._sweep is not None
        lines = []
        rgb, (x, y) = cut_card(rgb)
        patches = find_patches(rgb)
        if sum(patch.parts.shape[1] / patch.height for patch in patches) > most:
            raise PictureError(
                f"more writing than {most} digits in a row is not read; cut the picture into parts"
            )
        for patch in patches:
            found = read_line(patch, self._sweep, temperature=self._temperature)
            if found.labels:
                left, top, right, bottom = patch.box
                box = (left + x, top + y, right + x, bottom + y)
                lines.append(
                    WrittenLine(
                        text="".join(self.classes[label] for label in found.labels),
                        probability=found.probability,
                        probabilities=found.probabilities,
                        box=_scaled(
                            _turned_back(box, turned, picture.rgb.shape), _scale_of(picture)
                        ),
                    )
                )
        return tuple(lines)

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return the probabilities (N, num_classes) of images (N, 28, 28) uint8.

        What is missing to 1 is the probability of no digit.
        """
        views = [self._logits(_turn(images, degrees)) for degrees in TURNS]
        logits = np.mean(views, axis=0, dtype=np.float64) / self._temperature
        if self._has_garbage:
            logits = np.pad(logits, ((0, 0), (0, 1)))
        likely = np.exp(logits - logits.max(axis=1, keepdims=True))
        result: NDArray[np.float64] = likely / likely.sum(axis=1, keepdims=True)
        return result[:, : len(self.classes)]


def _turn(images: NDArray[np.uint8], degrees: int) -> NDArray[np.uint8]:
    """Return images turned about their middle."""
    views = [Image.fromarray(i).rotate(degrees, Image.Resampling.BILINEAR) for i in images]
    return np.array(views, np.uint8).reshape(images.shape)


def _scale_of(picture: Picture) -> float:
    """Return how many of the given pixels lie along one of those that were worked on."""
    return float(picture.size[0] / picture.rgb.shape[1])


def _scaled(box: Box, scale: float) -> Box:
    """Return a box in the pixels that were given, of one in those that were worked on."""
    left, top, right, bottom = (round(side * scale) for side in box)
    return left, top, right, bottom


def _turned_back(box: Box, turned: int, shape: tuple[int, ...]) -> Box:
    """Return a box in a picture (H, W, 3), of one in the picture turned clockwise by degrees."""
    height, width = shape[:2]
    left, top, right, bottom = box
    if turned == 90:
        return top, height - right, bottom, height - left
    if turned == 180:
        return width - right, height - bottom, width - left, height - top
    if turned == 270:
        return width - bottom, left, width - top, right
    return box


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


def status_of(digit: Digit, reject: float) -> str:
    """Return "read", "rejected", "not a digit", "several" or "empty".

    Args:
        digit: What was read.
        reject: No label is given below this probability.
    """
    if digit.label is None and digit.probabilities:
        return "not a digit" if digit.normalized.is_alone else "several"
    if digit.label is None:
        return "empty"
    return "rejected" if digit.probability < reject else "read"


def describe_digit(name: str, digit: Digit, reject: float) -> dict[str, Any]:
    """Return what is told of a picture: plain values by column.

    Args:
        name: Of the picture.
        digit: What was read.
        reject: No label is given below this probability.
    """
    status = status_of(digit, reject)
    is_rejected = status == "rejected"
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
    """Return a reader over a model that only torch computes, or raise for a damaged file."""
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

    return kind(logits, card.classes, temperature=card.temperature, has_garbage=card.has_garbage)
