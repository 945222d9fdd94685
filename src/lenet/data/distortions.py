"""Random distortions of digits, anew in each epoch: a pure function of (seed, epoch, image).

What is drawn is apart from how it is rendered: `draw` turns hashes into a table of plain numbers,
one row an image, and `render` applies a table with torch, on any device. The compiled renderer of
`lenet.native` takes the same table, so that `render` is its oracle.
"""

import hashlib
from dataclasses import asdict, dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from lenet.data.marks import MARK_VALUES, NUM_MARKS, Anchors, draw_marks, place_marks

SIDE = 28
CENTRE = (SIDE - 1) / 2
NUM_KNOTS = 7
"""Control points of the elastic field along each side; 28 / 4 = 7 pixels apart, three of them
outside. A cubic B-spline over them is as smooth as noise under a Gaussian of 4 pixels, which is
what Simard, Steinkraus and Platt (2003) found best."""
SPACING = SIDE / (NUM_KNOTS - 3)
NUM_AFFINE = 6
ELASTIC = slice(NUM_AFFINE, NUM_AFFINE + 2 * NUM_KNOTS**2)
STROKE, BLUR, INK, NOISE, NOISE_KEY = range(ELASTIC.stop, ELASTIC.stop + 5)
MARKS = slice(NOISE_KEY + 1, NOISE_KEY + 1 + NUM_MARKS * MARK_VALUES)
NUM_VALUES = MARKS.stop
"""Length of a row: the 2x3 matrix from output to source pixels (y, x order), row by row; the
knots of the displacement in y and in x, (2, 7, 7); pixels that strokes grow or shrink by; share
of blur; level of full ink; amplitude and key of noise; marks."""


@dataclass(frozen=True, kw_only=True)
class Distortion:
    """Ranges to draw from, uniformly; 0 leaves a property as it is."""

    translation: float = 0.0
    """Pixels to each side, along each axis."""
    scaling: float = 0.0
    """Natural logarithm of the largest factor, both ways."""
    squeezing: float = 0.0
    """Likewise, of a factor that one axis is multiplied with and the other divided by."""
    shear: float = 0.0
    """Horizontal pixels per vertical pixel."""
    rotation: float = 0.0
    """Degrees, both ways."""
    elastic: float = 0.0
    """Root mean square of a pixel's displacement along each axis, in pixels."""
    thinning: float = 0.0
    """Pixels that strokes lose on each side, at most 1."""
    thickening: float = 0.0
    """Pixels that strokes gain on each side, at most 2."""
    blur: float = 0.0
    """Share of a 3x3 binomial filter."""
    fading: float = 0.0
    """Share of the ink's strength that is lost."""
    noise: float = 0.0
    """Amplitude of noise on each pixel, uniform both ways, as a share of full ink."""
    marks: float = 0.0
    """Share of ones and sevens that get a flag, foot or bar; see `lenet.data.marks`."""

    def scaled(self, factor: float) -> "Distortion":
        """Return the same kinds, each that much as strong."""
        return Distortion(**{name: factor * value for name, value in asdict(self).items()})


# The paper's kinds of planar affine distortion; it gives no ranges (section III.A). Elastic as
# in Simard, Steinkraus and Platt (2003), whose fields displace by 1.4 pixels.
DISTORTIONS: dict[str, Distortion] = {
    "none": Distortion(),
    "affine": Distortion(translation=1.0, scaling=0.1, squeezing=0.1, shear=0.2),
    "elastic": Distortion(
        translation=1.5, scaling=0.12, squeezing=0.12, shear=0.2, rotation=10.0, elastic=1.0
    ),
    # Six tenths of that: chosen on a validation part, docs/decisions.md.
    "mild": Distortion(
        translation=0.9, scaling=0.07, squeezing=0.07, shear=0.12, rotation=6.0, elastic=0.6
    ),
    # What is left of strangers' pens and pictures once they are normalized; seven tenths of ranges
    # that were first set by eye: docs/decisions.md.
    "robust": Distortion(
        translation=1.05,
        scaling=0.105,
        squeezing=0.14,
        shear=0.175,
        rotation=7.0,
        elastic=0.84,
        thinning=0.42,
        thickening=0.7,
        blur=0.56,
        fading=0.28,
        noise=0.14,
        marks=0.35,
    ),
}

# The mean square of the spline at a random place, for knots of variance 1, is (sum of the squared
# B-spline, averaged)^2 = (151/315)^2; a knot uniform in [-1, 1] has variance 1/3.
_KNOT_RANGE = float(np.sqrt(3.0) * 315 / 151)


def draw(
    distortion: Distortion,
    indices: Tensor,
    *,
    seed: int,
    epoch: int,
    anchors: Anchors | None = None,
) -> Tensor:
    """Draw the distortions of some images in an epoch.

    Args:
        distortion: What to draw from.
        indices: (B,) int64, the images' places in the training set.
        seed: Of the run.
        epoch: Counted from 0.
        anchors: Where marks go, in the training images; None for no marks.

    Returns:
        (B, NUM_VALUES) float32 on the CPU. A row depends on `distortion`, seed, epoch and index
        alone, not on the other images drawn with it.
    """
    uniform = _uniform(f"distort {seed} {epoch}", indices.cpu().numpy(), NUM_VALUES)
    signed = 2 * uniform - 1
    table = np.zeros((len(signed), NUM_VALUES), np.float32)
    table[:, :NUM_AFFINE] = _affine(distortion, signed[:, :NUM_AFFINE])
    table[:, ELASTIC] = signed[:, ELASTIC] * (distortion.elastic * _KNOT_RANGE)
    grow = signed[:, STROKE]
    table[:, STROKE] = grow * np.where(grow < 0, distortion.thinning, distortion.thickening)
    table[:, BLUR] = distortion.blur * uniform[:, BLUR]
    table[:, INK] = 1 - distortion.fading * uniform[:, INK]
    # Squared: most pictures are clean, some are not.
    table[:, NOISE] = distortion.noise * uniform[:, NOISE] ** 2
    table[:, NOISE_KEY] = np.floor(uniform[:, NOISE_KEY] * 2**24)
    if anchors is not None and distortion.marks:
        marks = place_marks(anchors, indices, uniform[:, MARKS], distortion.marks)
        table[:, MARKS] = marks.reshape(len(table), -1)
    return torch.from_numpy(table)


def render(images: Tensor, indices: Tensor, table: Tensor) -> Tensor:
    """Return distorted images, bilinearly sampled, with background outside.

    Args:
        images: (N, 28, 28) uint8.
        indices: (B,) int64, which of them.
        table: (B, NUM_VALUES) float32, from `draw`.

    Returns:
        (B, 1, 28, 28) float32 in [0, 1], on the images' device.
    """
    device = images.device
    table = table.to(device)
    x = images[indices.to(device)].unsqueeze(1).float() / 255  # (B, 1, 28, 28)
    x = _grow(x, table[:, STROKE].view(-1, 1, 1, 1))
    x = draw_marks(x, table[:, MARKS].reshape(-1, NUM_MARKS, MARK_VALUES))
    pixels = torch.arange(SIDE, dtype=torch.float32, device=device)
    ones = torch.ones(SIDE, SIDE, device=device)
    positions = torch.stack([ones * pixels[:, None], ones * pixels, ones])  # (3, 28, 28)
    matrix = table[:, :NUM_AFFINE].view(-1, 2, 3)
    source = torch.einsum("bij,jyx->biyx", matrix, positions)  # (B, 2, 28, 28)
    basis = torch.from_numpy(spline_basis()).to(device)
    knots = table[:, ELASTIC].reshape(-1, 2, NUM_KNOTS, NUM_KNOTS)
    source = source + basis @ knots @ basis.T
    grid = source.flip(1).permute(0, 2, 3, 1) / CENTRE - 1  # (B, 28, 28, 2): x, y in [-1, 1]
    x = F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=True)
    return _expose(x, table)


def _grow(x: Tensor, amount: Tensor) -> Tensor:
    """Let strokes grow (amount > 0, at most 2) or shrink (at least -1) by that many pixels."""
    once = _largest_neighbour(x)
    twice = _largest_neighbour(once)
    grown = x + amount.clamp(0, 1) * (once - x) + (amount - 1).clamp(0, 1) * (twice - once)
    shrunk = -_largest_neighbour(-x)
    return torch.where(amount < 0, x + amount.abs() * (shrunk - x), grown)


def _largest_neighbour(x: Tensor) -> Tensor:
    """Return the largest of each pixel and the four around it; 0 outside."""
    p = F.pad(x, (1, 1, 1, 1))
    across = torch.maximum(p[:, :, 1:-1, :-2], p[:, :, 1:-1, 2:])
    down = torch.maximum(p[:, :, :-2, 1:-1], p[:, :, 2:, 1:-1])
    return torch.maximum(torch.maximum(across, down), x)


def _expose(x: Tensor, table: Tensor) -> Tensor:
    """Blur, fade and add noise."""
    kernel = torch.tensor([1.0, 2.0, 1.0], device=x.device) / 4
    soft = F.conv2d(x, (kernel[:, None] * kernel).view(1, 1, 3, 3), padding=1)
    x = x + table[:, BLUR].view(-1, 1, 1, 1) * (soft - x)
    x = x * table[:, INK].view(-1, 1, 1, 1)
    pixels = torch.arange(SIDE * SIDE, device=x.device).view(1, 1, SIDE, SIDE)
    key = table[:, NOISE_KEY].long().view(-1, 1, 1, 1)
    noise = _hash32(key * 1024 + pixels).float() * 2.0**-31 - 1
    return (x + table[:, NOISE].view(-1, 1, 1, 1) * noise).clamp(0, 1)


def _hash32(values: Tensor) -> Tensor:
    """Return 32 mixed bits of each value. Source: O'Neill 2014, PCG RXS M XS with 32 bits."""
    low = 0xFFFFFFFF
    state = (values * 747796405 + 2891336453) & low
    word = (((state >> ((state >> 28) + 4)) ^ state) * 277803737) & low
    return (word >> 22) ^ word


def spline_basis() -> NDArray[np.float32]:
    """Return (28, 7) float32: the weight of each knot at each pixel, of the cubic B-spline."""
    # Knot k lies at pixel (k - 1) * SPACING - 0.5, so that the pixels' area is covered evenly.
    distance = np.abs((np.arange(SIDE)[:, None] + 0.5) / SPACING + 1 - np.arange(NUM_KNOTS))
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = (2 - np.clip(distance, 0, 2)) ** 3 / 6
    weights: NDArray[np.float32] = np.where(distance < 1, near, far).astype(np.float32)
    return weights


def _affine(distortion: Distortion, signed: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the matrices (B, 6) from output to source, of draws (B, 6) in [-1, 1)."""
    angle = np.deg2rad(distortion.rotation) * signed[:, 2]
    cos, sin = np.cos(angle), np.sin(angle)
    squeeze = distortion.squeezing * signed[:, 4]
    scale = distortion.scaling * signed[:, 3]
    shrink_y, shrink_x = np.exp(squeeze - scale), np.exp(-squeeze - scale)
    shear = distortion.shear * signed[:, 5]
    # The digit is scaled, sheared, turned, then shifted; the inverse of each, in turn.
    yy, yx = shrink_y * cos, -shrink_y * sin
    xy, xx = shrink_x * (sin - shear * cos), shrink_x * (cos + shear * sin)
    shift_y, shift_x = distortion.translation * signed[:, 0], distortion.translation * signed[:, 1]
    y0 = CENTRE - yy * (CENTRE + shift_y) - yx * (CENTRE + shift_x)
    x0 = CENTRE - xy * (CENTRE + shift_y) - xx * (CENTRE + shift_x)
    return np.stack([yy, yx, y0, xy, xx, x0], axis=1).astype(np.float32)


def _uniform(key: str, indices: NDArray[np.int64], num_values: int) -> NDArray[np.float32]:
    """Return (B, num_values) float32 in [0, 1): hashes of (key, index, column)."""
    start = np.uint64(int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]))
    columns = np.arange(1, num_values + 1, dtype=np.uint64)
    counters: NDArray[np.uint64] = np.bitwise_or(
        np.left_shift(indices.astype(np.uint64)[:, None], np.uint64(16)), columns
    )
    # SplitMix64 (Steele, Lea and Flood 2014): a counter times an odd constant, then a mixer.
    z = start + counters * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    fractions: NDArray[np.float32] = (z >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)
    return fractions
