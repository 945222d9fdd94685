"""Draw what each step of normalization made, side by side."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from lenet.errors import PictureError
from lenet.files import replacing

TILE = 160
GAP = 8
CAPTION = 16
Step = tuple[str, NDArray[Any]]


def draw_steps(rows: Sequence[tuple[str, Sequence[Step]]]) -> Image.Image:
    """Draw a row for each picture.

    Args:
        rows: A caption, and the steps: a name and (H, W) or (H, W, 3) float32 in [0, 1].
    """
    num_columns = max(len(steps) for _, steps in rows)
    width = num_columns * (TILE + GAP) + GAP
    height = len(rows) * (TILE + 2 * CAPTION + GAP) + GAP
    sheet = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(sheet)
    for r, (caption, steps) in enumerate(rows):
        top = GAP + r * (TILE + 2 * CAPTION + GAP)
        pen.text((GAP, top), caption, fill="black")
        for c, (name, values) in enumerate(steps):
            left = GAP + c * (TILE + GAP)
            pen.text((left, top + CAPTION), name, fill="#555555")
            tile = _tile(values)
            box = left + (TILE - tile.width) // 2, top + 2 * CAPTION + (TILE - tile.height) // 2
            sheet.paste(tile, box)
            corners = (box[0] - 1, box[1] - 1, box[0] + tile.width, box[1] + tile.height)
            pen.rectangle(corners, outline="#999999")
    return sheet


def save_steps(path: Path, rows: Sequence[tuple[str, Sequence[Step]]]) -> None:
    """Draw and write a PNG, whole or not at all.

    Raises:
        PictureError: The file can't be written.
    """
    try:
        with replacing(path) as temporary:
            draw_steps(rows).save(temporary, format="PNG")
    except OSError as error:
        raise PictureError(f"{path}: can't be written: {error.strerror or error}") from None


def _tile(values: NDArray[Any]) -> Image.Image:
    grey = np.clip(values * 255, 0, 255).round().astype(np.uint8)
    image = Image.fromarray(grey).convert("RGB")
    scale = TILE / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    kind = Image.Resampling.NEAREST if scale > 2 else Image.Resampling.BILINEAR
    return image.resize(size, kind)
