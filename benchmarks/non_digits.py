"""Pictures of what is no digit, by other means than those of `lenet.training.non_digits`."""

import io
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

SIDE = 200
LETTERS = "AEFHKMNPRTUVWXYacdefhkmnprtuvwxy&%#@?+=*"
"""In Pillow's own font, none of which is trained on."""
ICONS = ("^", "v", "<", ">", "P", "*", "+", "x", "X")
"""Markers of matplotlib: triangles, crosses, stars. The outline of a polygon may pass for a 0."""

Picture = NDArray[np.uint8]
Rng = np.random.Generator


def make_non_digits(num: int, seed: int) -> dict[str, list[Picture]]:
    """Return `num` pictures (200, 200) uint8 of each kind, dark on light."""
    rng = np.random.default_rng(seed)
    kinds = {"letters": _letter, "icons": _icon, "scribbles": _scribble, "dirty paper": _dirt}
    return {kind: [make(rng) for _ in range(num)] for kind, make in kinds.items()}


def _letter(rng: Rng) -> Picture:
    canvas, pen = _canvas()
    font = ImageFont.load_default(size=110)
    pen.text((100, 100), str(rng.choice(list(LETTERS))), fill=30, font=font, anchor="mm")
    canvas = canvas.rotate(rng.uniform(-10, 10), fillcolor=255, resample=Image.Resampling.BICUBIC)
    return _photograph(canvas, rng)


def _icon(rng: Rng) -> Picture:
    figure = Figure(figsize=(2, 2), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    marker, width = str(rng.choice(ICONS)), rng.uniform(4, 10)
    axes.plot([0], [0], marker=marker, ms=80, mfc="none", mec="black", mew=width)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    return _photograph(Image.open(drawn).convert("L"), rng)


def _scribble(rng: Rng) -> Picture:
    """Return a closed curve of some random frequencies, a knot that no one writes as a digit."""
    angle = np.linspace(0, 2 * np.pi, 400)
    waves = rng.normal(size=(2, 5, 2)) / np.arange(1, 6)[:, None] ** 0.3
    points = sum(
        waves[:, k, :1] * np.cos((k + 1) * angle) + waves[:, k, 1:] * np.sin((k + 1) * angle)
        for k in range(5)
    )
    points = points * 70 / np.abs(points).max() + 100
    canvas, pen = _canvas()
    line: list[Any] = [tuple(point) for point in points.T.tolist()]
    pen.line(line, fill=30, width=int(rng.integers(4, 9)), joint="curve")
    return _photograph(canvas, rng)


def _dirt(rng: Rng) -> Picture:
    """Return paper with specks, perhaps a hair, and nothing written."""
    canvas, pen = _canvas()
    for _ in range(rng.integers(0, 12)):
        (x, y), radius = rng.uniform(0, SIDE, 2), rng.uniform(0.5, 4)
        pen.ellipse(
            (x - radius, y - radius, x + radius, y + radius), fill=int(rng.integers(60, 200))
        )
    if rng.random() < 0.3:
        turns = np.cumsum(rng.normal(0, 0.25, 30))
        steps = 4 * np.stack([np.cos(turns), np.sin(turns)], axis=1)
        hair: list[Any] = [
            tuple(p) for p in (rng.uniform(50, 150, 2) + np.cumsum(steps, 0)).tolist()
        ]
        pen.line(hair, fill=120, width=1)
    return _photograph(canvas, rng)


def _canvas() -> tuple[Image.Image, ImageDraw.ImageDraw]:
    canvas = Image.new("L", (SIDE, SIDE), 255)
    return canvas, ImageDraw.Draw(canvas)


def _photograph(canvas: Image.Image, rng: Rng) -> Picture:
    """Return a picture on grey, unevenly lit paper, a little blurred, with grain."""
    soft = np.asarray(canvas.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.5))), np.float64)
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE - 0.5
    light = rng.uniform(0.75, 0.95) + rng.uniform(-0.15, 0.15) * x + rng.uniform(-0.15, 0.15) * y
    grain = rng.normal(0, rng.uniform(0.5, 4), soft.shape)
    picture: Picture = (soft * light + grain).clip(0, 255).astype(np.uint8)
    return picture
