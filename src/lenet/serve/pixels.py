"""JSON bodies of `/predict` and `/read` to arrays, every number checked."""

from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from lenet.serve.problems import ProblemError

SIDE = 28
MAX_SIDE = 4096
"""Longest side of a picture given as numbers."""

Bytes = NDArray[np.uint8]


def parse_pixels(body: bytes, *, max_images: int, max_pictures: int) -> tuple[str, list[Bytes]]:
    """Read a JSON object with one member.

    Returns:
        "images" and one array (N, 28, 28), digits as MNIST has them, 0 = background; or
        "pictures" and arrays (H, W), 0 = black, as a picture file has them.

    Raises:
        ProblemError: 400 if it is no JSON, 422 if it is anything else.
    """
    value = parse_json(body)
    if not isinstance(value, dict) or len(value) != 1 or not value.keys() <= {"images", "pictures"}:
        raise ProblemError(422, "expected a JSON object with one member, `images` or `pictures`")
    ((kind, items),) = value.items()
    if not isinstance(items, list) or not items:
        raise ProblemError(422, f"`{kind}` must be a list that is not empty")
    most = max_images if kind == "images" else max_pictures
    if len(items) > most:
        raise ProblemError(413, f"{len(items)} {kind}; at most {most} are taken at a time")
    if has_booleans(items, body):
        raise ProblemError(422, f"`{kind}` must be whole numbers 0 to 255, found true or false")
    if kind == "images":
        quick = _to_digits(items)
        if quick is not None:
            return kind, [quick]
        images = _to_bytes(items, "images")
        if images.shape[1:] != (SIDE, SIDE):
            raise ProblemError(
                422, f"`images` has shape {_shown(images.shape)}; expected (N, {SIDE}, {SIDE})"
            )
        return kind, [images]
    pictures = [_to_bytes(item, f"pictures[{i}]") for i, item in enumerate(items)]
    for i, picture in enumerate(pictures):
        if picture.ndim != 2 or not 1 <= min(picture.shape) <= max(picture.shape) <= MAX_SIDE:
            raise ProblemError(
                422,
                f"`pictures[{i}]` has shape {_shown(picture.shape)}; "
                f"expected rows of grey values, at most {MAX_SIDE} on a side",
            )
    return kind, pictures


def parse_json(body: bytes) -> Any:
    """Return a JSON text's value; NaN and infinity are no JSON.

    Raises:
        ProblemError: 400.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ProblemError(400, f"the body is no JSON: {error}") from None


def has_booleans(value: Any, body: bytes) -> bool:
    """Return whether nested lists hold a boolean, which Python and numpy take for 0 or 1.

    Args:
        value: What was parsed.
        body: What it was parsed from; nearly always it shows at once that there are none.
    """

    def search(value: Any) -> bool:
        return any(map(search, value)) if isinstance(value, list) else isinstance(value, bool)

    return (b"true" in body or b"false" in body) and search(value)


def _to_digits(items: list[Any]) -> Bytes | None:
    """Return what is as it should be, (N, 28, 28), in a third of the time; else None."""
    rows = []
    for image in items:
        if type(image) is not list or len(image) != SIDE:
            return None
        rows += image
    if not all(type(row) is list and len(row) == SIDE for row in rows):
        return None
    try:
        data = b"".join(map(bytes, rows))  # checks each to be a whole number and 0 to 255
    except (TypeError, ValueError):
        return None
    return np.frombuffer(data, np.uint8).reshape(-1, SIDE, SIDE)


def _to_bytes(value: Any, name: str) -> Bytes:
    try:
        array = np.array(value) if isinstance(value, list) else None
    except (ValueError, OverflowError):  # rows of different lengths, or too deep
        array = None
    if array is None or array.dtype.kind not in "iu" or array.ndim < 2 or array.size == 0:
        raise ProblemError(422, f"`{name}` must be whole numbers 0 to 255 in rows of one length")
    if array.min() < 0 or array.max() > 255:
        raise ProblemError(
            422, f"`{name}` has values from {array.min()} to {array.max()}; expected 0 to 255"
        )
    return array.astype(np.uint8)


def _shown(shape: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, shape))})"
