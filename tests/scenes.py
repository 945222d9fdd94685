"""Pictures of a digit as people make them, drawn from a digit of MNIST, seeded.

They stand in for strangers' photographs, scans and drawings, of which no collection can be shipped:
each kind has one thing that misleads naive pipelines. How well each is read is a number anyone
can repeat.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Rng = np.random.Generator
Rgb = NDArray[Any]

KINDS = (
    "screenshot",
    "drawing",
    "photo",
    "pencil",
    "lined",
    "squared",
    "sheet",
    "frame",
    "neighbour",
    "coloured",
    "board",
    "shadow",
)


def make_scene(digit: NDArray[np.uint8], kind: str, rng: Rng, *, side: int = 320) -> Rgb:
    """Draw a picture of a digit.

    Args:
        digit: (28, 28) uint8.
        kind: One of `KINDS`.
        rng: Decides all that is random.
        side: Longer side in pixels; a screenshot has its own.

    Returns:
        (H, W, 3) float32 in [0, 1].
    """
    if kind == "screenshot":
        return _screenshot(digit, rng)
    width, height = side, round(side * rng.uniform(0.7, 1.0))
    share = rng.uniform(0.3, 0.75)
    tall = round(share * height)
    stroke = _draw_digit(digit, tall, rng)
    # The digit's own box; 28 rows hold 20 of digit.
    box = round(tall * 28 / 20)
    top = rng.integers(
        -(box - tall) // 2 + 4, max(-(box - tall) // 2 + 5, height - tall - (box - tall) // 2 - 4)
    )
    left = rng.integers(-(box - tall) // 2 + 4, width - tall - (box - tall) // 2 - 4)
    cover = _place(stroke, int(top), int(left), (height, width))
    if kind == "drawing":
        return _drawing(cover, rng)
    return _PHOTOS[kind](cover, tall, rng)


def _draw_digit(digit: NDArray[np.uint8], tall: int, rng: Rng) -> NDArray[Any]:
    """Return the digit enlarged with sharp edges, strokes thinner or thicker: (B, B) in [0, 1]."""
    box = round(tall * 28 / 20)
    large = Image.fromarray(digit).resize((box, box), Image.Resampling.BICUBIC)
    values = np.asarray(large.filter(ImageFilter.GaussianBlur(box / 60)), dtype=np.float32) / 255
    level = rng.uniform(0.25, 0.7)
    return np.clip((values - level) * box / 20 + 0.5, 0, 1)


def _place(stroke: NDArray[Any], top: int, left: int, shape: tuple[int, int]) -> NDArray[Any]:
    """Return (H, W) with the stroke's box at a place, cut where it leaves the picture."""
    cover = np.zeros(shape, np.float32)
    height, width = stroke.shape
    y0, x0 = max(0, top), max(0, left)
    y1, x1 = min(shape[0], top + height), min(shape[1], left + width)
    if y1 > y0 and x1 > x0:
        cover[y0:y1, x0:x1] = stroke[y0 - top : y1 - top, x0 - left : x1 - left]
    return cover


def _screenshot(digit: NDArray[np.uint8], rng: Rng) -> Rgb:
    """A tiny drawing, 28x28 or so, either polarity, often faint."""
    side = int(rng.integers(24, 49))
    scale = rng.uniform(0.6, 1.0)
    inner = max(12, round(side * scale))
    small = Image.fromarray(digit).resize((inner, inner), Image.Resampling.BILINEAR)
    values = np.asarray(small, dtype=np.float32) / 255
    if rng.random() < 0.3:
        values = (values > rng.uniform(0.3, 0.6)).astype(np.float32)
    top, left = rng.integers(0, side - inner + 1, 2)
    cover = _place(values, int(top), int(left), (side, side)) * np.float32(rng.uniform(0.35, 1.0))
    grey = cover if rng.random() < 0.5 else 1 - cover
    return np.repeat(grey[:, :, None], 3, axis=2)


def _drawing(cover: NDArray[Any], rng: Rng) -> Rgb:
    """Flat paper and ink of any two colours that differ enough."""
    while True:
        paper, ink = rng.random(3), rng.random(3)
        if abs(paper.mean() - ink.mean()) > 0.3:
            return _blend(np.broadcast_to(paper, (*cover.shape, 3)), ink, cover)


def _blend(paper: Rgb, ink: NDArray[Any], cover: NDArray[Any]) -> Rgb:
    mixed: Rgb = (paper + (ink - paper) * cover[:, :, None]).astype(np.float32)
    return mixed


def _paper(shape: tuple[int, ...], rng: Rng, colour: NDArray[Any] | None = None) -> Rgb:
    """Paper with a gradient of light and slow stains."""
    height, width = shape
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    angle = rng.uniform(0, 2 * np.pi)
    light = 1 + rng.uniform(0, 0.35) * (np.cos(angle) * (x - 0.5) + np.sin(angle) * (y - 0.5))
    stains = rng.normal(size=(6, 6)).astype(np.float32)
    light += 0.02 * np.asarray(
        Image.fromarray(stains).resize((width, height), Image.Resampling.BICUBIC)
    )
    if colour is None:
        colour = np.full(3, rng.uniform(0.55, 0.9)) + rng.uniform(-0.04, 0.04, 3)
    paper: Rgb = (light[:, :, None] * colour).astype(np.float32)
    return paper


def _shoot(scene: Rgb, rng: Rng, grain: float = 0.015) -> Rgb:
    """What a camera adds: blur and noise."""
    image = Image.fromarray((np.clip(scene, 0, 1) * 255).astype(np.uint8))
    image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.5)))
    values = np.asarray(image, dtype=np.float32) / 255
    values = values + rng.normal(scale=grain, size=values.shape[:2])[:, :, None]
    return np.clip(values, 0, 1).astype(np.float32)


def _dark_ink(rng: Rng) -> NDArray[Any]:
    return rng.uniform(0.03, 0.25) + rng.uniform(0, 0.12, 3)


def _photo(cover: NDArray[Any], tall: int, rng: Rng) -> Rgb:
    return _shoot(_blend(_paper(cover.shape, rng), _dark_ink(rng), cover), rng)


def _pencil(cover: NDArray[Any], tall: int, rng: Rng) -> Rgb:
    """A faint stroke on coarse paper: the grain of single pixels is as strong as the stroke."""
    paper = _paper(cover.shape, rng)
    contrast = rng.uniform(0.1, 0.2)
    return _shoot(paper * (1 - contrast * cover[:, :, None]), rng, grain=rng.uniform(0.02, 0.05))


def _lines(
    shape: tuple[int, ...], spacing: float, offset: float, thick: float, slope: float
) -> NDArray[Any]:
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]]
    distance = np.abs((y + slope * x - offset + spacing / 2) % spacing - spacing / 2)
    lines: NDArray[Any] = np.clip(thick / 2 + 0.5 - distance, 0, 1).astype(np.float32)
    return lines


def _lined(cover: NDArray[Any], tall: int, rng: Rng) -> Rgb:
    """Ruled paper: a line near or under the digit's foot, as writers use it."""
    rows = np.nonzero(cover.max(axis=1) > 0.5)[0]
    bottom = float(rows.max()) if len(rows) else cover.shape[0] / 2
    slope, thick = rng.uniform(-0.03, 0.03), rng.uniform(1, 2.5)
    offset = bottom + slope * cover.shape[1] / 2 + rng.uniform(-0.15, 0.25) * tall
    lines = _lines(cover.shape, tall * rng.uniform(1.1, 1.6), offset, thick, slope)
    paper = _paper(cover.shape, rng)
    tint = np.array([0.35, 0.5, 0.75]) if rng.random() < 0.6 else np.full(3, 0.5)
    paper = _blend(paper, tint * paper.mean(), lines * np.float32(rng.uniform(0.4, 0.9)))
    return _shoot(_blend(paper, _dark_ink(rng), cover), rng)


def _squared(cover: NDArray[Any], tall: int, rng: Rng) -> Rgb:
    spacing, thick = tall * rng.uniform(0.3, 0.8), rng.uniform(1, 2)
    grid = _lines(cover.shape, spacing, rng.uniform(0, spacing), thick, 0.0)
    across = _lines(cover.shape[::-1], spacing, rng.uniform(0, spacing), thick, 0.0).T
    paper = _paper(cover.shape, rng)
    tint = np.array([0.5, 0.62, 0.8]) if rng.random() < 0.6 else np.full(3, 0.62)
    grid = np.maximum(grid, across) * np.float32(rng.uniform(0.3, 0.7))
    return _shoot(_blend(_blend(paper, tint * paper.mean(), grid), _dark_ink(rng), cover), rng)


def _sheet(cover: NDArray[Any], tall: int, rng: Rng) -> Rgb:
    """A rotated sheet that leaves dark corners of the table."""
    height, width = cover.shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    angle = np.deg2rad(rng.uniform(3, 9)) * rng.choice([-1, 1])
    dy, dx = y - height / 2, x - width / 2
    u, v = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
    inside = (np.abs(u) < width / 2 - 1) & (np.abs(v) < height / 2 - 1)
    soft = (
        np.asarray(
            Image.fromarray((inside * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(1)),
            dtype=np.float32,
        )
        / 255
    )
    table = _paper(cover.shape, rng, colour=rng.uniform(0.1, 0.35) + rng.uniform(0, 0.1, 3))
    scene = _blend(_paper(cover.shape, rng), _dark_ink(rng), cover)
    return _shoot(table + (scene - table) * soft[:, :, None], rng)


def _frame(cover: NDArray[Any], tall: int, rng: Rng) -> Rgb:
    """A box of a form around the digit."""
    rows, columns = np.nonzero(cover > 0.5)
    margin = tall * rng.uniform(0.1, 0.35)
    frame = Image.new("L", cover.shape[::-1])
    if len(rows):
        corners = (
            float(columns.min() - margin),
            float(rows.min() - margin),
            float(columns.max() + margin),
            float(rows.max() + margin),
        )
        ImageDraw.Draw(frame).rectangle(corners, outline=255, width=int(rng.integers(1, 4)))
    scene = _blend(_paper(cover.shape, rng), _dark_ink(rng), np.asarray(frame, np.float32) / 255)
    return _shoot(_blend(scene, _dark_ink(rng), cover), rng)


def _neighbour(cover: NDArray[Any], tall: int, rng: Rng) -> Rgb:
    """Strokes of other writing that reach in from the edge."""
    height, width = cover.shape
    others = Image.new("L", (width, height))
    pen = ImageDraw.Draw(others)
    for _ in range(int(rng.integers(1, 3))):
        y, x = rng.uniform(0.2, 0.8) * height, rng.uniform(0.2, 0.8) * width
        depth, length = rng.uniform(0.02, 0.07) * width, rng.uniform(0.1, 0.35) * height
        line = {
            0: [(-5, y), (depth, y + length / 2), (-5, y + length)],
            1: [(width + 5, y), (width - depth, y + length / 2), (width + 5, y + length)],
            2: [(x, -5), (x + length / 2, depth), (x + length, -5)],
            3: [(x, height + 5), (x + length / 2, height - depth), (x + length, height + 5)],
        }[int(rng.integers(4))]
        pen.line(line, fill=255, width=max(2, round(tall / 14)))
    ink = _dark_ink(rng)
    both = np.maximum(cover, np.asarray(others, dtype=np.float32) / 255)
    return _shoot(_blend(_paper(cover.shape, rng), ink, both), rng)


def _coloured(cover: NDArray[Any], tall: int, rng: Rng) -> Rgb:
    """Ink and paper of about the same lightness, in different colours."""
    papers = [(0.95, 0.85, 0.35), (0.65, 0.85, 0.6), (0.95, 0.7, 0.75), (0.6, 0.75, 0.95)]
    inks = [(0.1, 0.25, 0.75), (0.75, 0.1, 0.15), (0.35, 0.1, 0.5), (0.05, 0.4, 0.2)]
    paper = np.array(papers[int(rng.integers(4))])
    ink = np.array(inks[int(rng.integers(4))])
    return _shoot(_blend(_paper(cover.shape, rng, colour=paper * 0.95), ink, cover), rng)


def _board(cover: NDArray[Any], tall: int, rng: Rng) -> Rgb:
    """Chalk on a dark board."""
    board = _paper(cover.shape, rng, colour=np.array([0.1, 0.2, 0.15]) + rng.uniform(0, 0.15))
    return _shoot(_blend(board, np.full(3, rng.uniform(0.6, 0.95)), cover), rng, grain=0.025)


def _shadow(cover: NDArray[Any], tall: int, rng: Rng) -> Rgb:
    """The shadow of a hand or a telephone across the paper, and often across the digit."""
    height, width = cover.shape
    y, x = np.mgrid[0:height, 0:width]
    angle = rng.uniform(0, 2 * np.pi)
    distance = (x - width / 2) * np.cos(angle) + (y - height / 2) * np.sin(angle)
    edge = rng.uniform(-0.3, 0.3) * height
    soft = 1 / (1 + np.exp(-(distance - edge) / (rng.uniform(0.02, 0.1) * height)))
    scene = _blend(_paper(cover.shape, rng), _dark_ink(rng), cover)
    return _shoot(scene * (1 - rng.uniform(0.25, 0.5) * soft[:, :, None]).astype(np.float32), rng)


_PHOTOS: dict[str, Callable[[NDArray[Any], int, Rng], Rgb]] = {
    "photo": _photo,
    "pencil": _pencil,
    "lined": _lined,
    "squared": _squared,
    "sheet": _sheet,
    "frame": _frame,
    "neighbour": _neighbour,
    "coloured": _coloured,
    "board": _board,
    "shadow": _shadow,
}


def make_string(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    rng: Rng,
    *,
    length: int,
    gaps: tuple[int, int],
    noise: float = 0.0,
) -> tuple[NDArray[np.uint8], str]:
    """Put random digits in a row, as the paper does (section VII.B).

    Args:
        images: (N, 28, 28) uint8 to draw from.
        labels: (N,) int64.
        rng: Decides which, and the rest.
        length: Number of digits.
        gaps: Least and largest number of pixels between the boxes of neighbours.
        noise: Share of pixels that become black or white.

    Returns:
        (40, W) uint8, 255 = ink, and the digits.
    """
    chosen = rng.integers(0, len(images), length)
    canvas = np.zeros((40, 32 * length + 16), np.uint8)
    x = 8
    for place, index in enumerate(chosen):
        columns = np.nonzero(images[index].max(axis=0) > 64)[0]
        crop = images[index][:, columns[0] : columns[-1] + 1]
        if place:
            x = max(0, x + int(rng.integers(gaps[0], gaps[1] + 1)))
        y = 6 + int(rng.integers(-1, 2))
        area = canvas[y : y + 28, x : x + crop.shape[1]]
        np.maximum(area, crop, out=area)
        x += crop.shape[1]
    canvas = canvas[:, : x + 8]
    if noise:
        dirty = rng.random(canvas.shape) < noise
        canvas[dirty] = rng.choice(np.array([0, 255], np.uint8), int(np.count_nonzero(dirty)))
    return canvas, "".join(str(labels[index]) for index in chosen)
