"""JSON bodies of /predict and /read, decoded strictly into arrays."""

from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from lenet.serve.problems import ProblemError

SIDE = 28
MAX_SIDE = 4096
"""Longest side of a picture given as numbers."""

Bytes = NDArray[np.uint8]
Grey = Annotated[int, Meta(ge=0, le=255)]
DigitRow = Annotated[list[Grey], Meta(min_length=SIDE, max_length=SIDE)]
PictureRow = Annotated[list[Grey], Meta(min_length=1, max_length=MAX_SIDE)]


class Pixels(msgspec.Struct, forbid_unknown_fields=True):
    """The body: exactly one of the two."""

    images: list[Annotated[list[DigitRow], Meta(min_length=SIDE, max_length=SIDE)]] = []
    """Digits as MNIST has them, 0 = background."""
    pictures: list[Annotated[list[PictureRow], Meta(min_length=1, max_length=MAX_SIDE)]] = []
    """Rows of grey values, 0 = black, as a picture file has them."""


DECODER = msgspec.json.Decoder(Pixels)


def parse_pixels(body: bytes, *, max_images: int, max_pictures: int) -> tuple[str, list[Bytes]]:
    """Return "images" and one array (N, 28, 28), or "pictures" and arrays (H, W), all uint8.

    Raises:
        ProblemError: 400 if the body is not JSON, 413 for too many, 422 for anything else.
    """
    try:
        pixels = DECODER.decode(body)
    except msgspec.ValidationError as error:
        raise ProblemError(422, str(error)) from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ProblemError(400, f"the body is not JSON: {error}") from None
    if bool(pixels.images) == bool(pixels.pictures):
        raise ProblemError(422, "expected either `images` or `pictures`, a list that is not empty")
    for kind, items, most in (
        ("images", pixels.images, max_images),
        ("pictures", pixels.pictures, max_pictures),
    ):
        if len(items) > most:
            raise ProblemError(413, f"{len(items)} {kind}; at most {most} are accepted")
    if pixels.images:
        rows = [row for image in pixels.images for row in image]
        return "images", [_rows_to_array(rows).reshape(-1, SIDE, SIDE)]
    for i, picture in enumerate(pixels.pictures):
        if len({len(row) for row in picture}) > 1:
            raise ProblemError(422, f"`pictures[{i}]` has rows of different lengths")
    return "pictures", [_rows_to_array(picture) for picture in pixels.pictures]


def _rows_to_array(rows: list[list[int]]) -> Bytes:
    return np.frombuffer(b"".join(map(bytes, rows)), np.uint8).reshape(len(rows), -1)
