"""Read people's pictures of digits: from a file to a label with its probability."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet.errors import CheckpointError
from lenet.images.decode import Source, read_picture
from lenet.images.normalize import Normalized, normalize
from lenet.inference import read_network

Logits = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Of images (N, 28, 28) uint8, 0 = background, 255 = ink: (N, num_classes)."""

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


class Reader:
    """A network, and what turns strangers' pictures into its input."""

    def __init__(
        self,
        logits: Logits,
        classes: Sequence[str] = tuple("0123456789"),
        *,
        temperature: float = 1.0,
    ) -> None:
        """Read with any network.

        Args:
            logits: Takes images, returns logits.
            classes: What each logit stands for.
            temperature: What logits are divided by to give honest probabilities.
        """
        self.classes = tuple(classes)
        self._logits, self._temperature = logits, temperature

    @classmethod
    def from_pretrained(cls) -> "Reader":
        """Return a reader over the model that is part of the package."""
        with as_file(files("lenet").joinpath("pretrained", PRETRAINED)) as path:
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
            return cls(network.logits, card["classes"], temperature=_temperature(card))
        return _with_torch(cls, path)

    def read_digit(self, source: Source, *, keep_steps: bool = False) -> Digit:
        """Read a picture of one digit.

        Args:
            source: Path, bytes, array or Pillow image; see `lenet.images.decode.read_picture`.
            keep_steps: Keep what each step of normalization made.

        Raises:
            PictureError: Not a picture that can be read.
        """
        picture = read_picture(source)
        normalized = normalize(picture.rgb, keep_steps=keep_steps)
        if normalized.image is None:
            return Digit(
                label=None,
                probability=0.0,
                second=None,
                second_probability=0.0,
                probabilities=(),
                box=None,
                normalized=normalized,
            )
        probabilities = self.probabilities(normalized.image[None])[0]
        first, second = np.argsort(probabilities)[::-1][:2]
        scale = picture.size[0] / picture.rgb.shape[1]
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

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return the probabilities (N, num_classes) of images (N, 28, 28) uint8."""
        logits = self._logits(images).astype(np.float64) / self._temperature
        likely = np.exp(logits - logits.max(axis=1, keepdims=True))
        result: NDArray[np.float64] = likely / likely.sum(axis=1, keepdims=True)
        return result


def _temperature(card: dict[str, Any]) -> float:
    found = card.get("scores", {}).get("temperature", 1.0)
    return float(found) if isinstance(found, float) and found > 0 else 1.0


def _with_torch(kind: type[Reader], path: Path) -> Reader:
    """Return a reader over a model that only torch computes; explain a file that is none."""
    import torch

    from lenet.checkpoint import load_model
    from lenet.evaluation import compute_logits

    torch.set_num_threads(1)
    model, card = load_model(path)
    if model.in_channels != 1:
        raise CheckpointError(f"{path}: takes {model.in_channels} channels; pictures are grey")

    def logits(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = compute_logits(model, torch.from_numpy(images)).numpy()
        return found

    return kind(logits, card.classes)
