"""Lines of writing to train on, drawn anew at every step from the training images.

A line is digits side by side as people write numbers: of unequal sizes, slanted, apart or touching,
joined by ligatures, with commas, dots and dashes, symbols that are no digit, rulings and the sides
of cells. All lines of a batch are made together, on the images' device.
"""

import hashlib
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lenet.data.digits import Digits
from lenet.data.distortions import MARKS, STROKE, Distortion, draw
from lenet.data.marks import draw_marks, find_anchors, place_marks
from lenet.training.non_digits import draw_non_digits
from lenet.training.sampling import choose_renderer

HEIGHT = 32
"""Of a field, in pixels: that of LeNet-5's."""
CELL = 40
"""Width of the cell that a digit is drawn into before it takes its place in the line."""
MARGIN = 17
"""Background to the right of the last digit, in pixels; a window of 32 sees it whole."""
MAX_LENGTH = 7
INK = 0.25
"""Pixels above this are ink when distances between digits are measured."""
STYLES = ((-1, 4), (1, 7), (-3, 2), (-5, 0), (-1, 0), (3, 12))
"""Least and largest gap between the boxes of neighbours, in pixels, of a writer."""
CROWDED_ZEROS = 0.25
"""Share of lines of which half the digits are zeros: amounts end in them, and writers join them."""
SYMBOLS = 0.06
"""Share of what stands in a line that is no digit."""
NUM_SYMBOLS = 10_000
WRITING = Distortion(
    squeezing=0.1, shear=0.1, rotation=6.0, elastic=0.8, thinning=1.0, thickening=1.0
)
"""Of each digit, before its line's own slant, size and stroke width."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Lines:
    """Some lines of equal width and what they say."""

    fields: Tensor
    """(B, 1, 32, W) float32 in [0, 1], 1 = ink."""
    labels: Tensor
    """(N,) int64: the digits of all lines, one line after the other."""
    lengths: Tensor
    """(B,) int64, on the CPU: how many digits each line has."""


class LineMaker:
    """Draws lines; the same for equal (seed, epoch, number of lines drawn before)."""

    def __init__(self, digits: Digits, *, seed: int, engine: str, device: torch.device) -> None:
        """Measure the training images.

        Args:
            digits: Of ten classes.
            seed: Of the run.
            engine: "auto", "native" (compiled, on the CPU) or "torch": what distorts the digits.
            device: Where lines are drawn.
        """
        self._num_digits = len(digits)
        symbols = draw_non_digits(NUM_SYMBOLS)
        self._images = torch.cat([digits.images, symbols]).to(device)
        # A symbol's label is one more than the last digit's.
        none = torch.full((NUM_SYMBOLS,), len(digits.classes))
        self._labels = torch.cat([digits.labels, none])
        self._num_classes = len(digits.classes)
        self._zeros = (digits.labels == 0).nonzero().flatten()
        self._anchors = find_anchors(digits.images, digits.labels)
        self._render = choose_renderer(engine, device)
        self._seed, self._device = seed, device
        self.begin_epoch(0)

    def begin_epoch(self, epoch: int) -> None:
        """Start the lines of an epoch, counted from 0."""
        key = hashlib.sha256(f"lines {self._seed} {epoch}".encode()).digest()
        self._random = torch.Generator().manual_seed(int.from_bytes(key[:4]))

    def draw(self, num_digits: int) -> Lines:
        """Draw lines of equal length, of about `num_digits` digits together."""
        length = self._integer(1, MAX_LENGTH + 1)
        num_lines = max(1, num_digits // max(2, length))
        chosen = self._choose(num_lines, length)
        labels = self._labels[chosen]
        cells = self._write(chosen, labels)  # (B, L, 32, 40)
        edges = _edges(cells)
        left = self._space(*edges)  # (B, L)
        fields = _compose(cells, left, edges[1])  # (B, 32, W)
        strokes = self._strokes(*edges, left, fields.shape[2])
        fields = draw_marks(fields.unsqueeze(1), strokes)
        is_digit = labels < self._num_classes
        return Lines(
            fields=self._expose(fields),
            labels=labels[is_digit].to(self._device),
            lengths=is_digit.sum(1),
        )

    def _choose(self, num_lines: int, length: int) -> Tensor:
        """Return the images (B, L) that stand in each line."""
        shape = num_lines, length
        chosen = self._integers(self._num_digits, *shape)
        if len(self._zeros):
            is_zero = self._chance(CROWDED_ZEROS, num_lines, 1) & self._chance(0.55, *shape)
            zeros = self._zeros[self._integers(len(self._zeros), *shape)]
            chosen = torch.where(is_zero, zeros, chosen)
        symbols = self._num_digits + self._integers(NUM_SYMBOLS, *shape)
        return torch.where(self._chance(SYMBOLS, *shape), symbols, chosen)

    def _write(self, chosen: Tensor, labels: Tensor) -> Tensor:
        """Return each digit in a cell of its own, (B, L, 32, 40): its size, slant and height."""
        shape = num_lines, length = chosen.shape
        places = chosen.flatten()
        key = self._integer(0, 2**31)
        table = draw(WRITING, torch.arange(len(places)), seed=self._seed, epoch=key)
        pen = self._uniform(-0.85, 0.9, num_lines, 1) + self._uniform(-0.15, 0.15, *shape)
        table[:, STROKE] = pen.flatten().clamp(-1, 2)
        # Who writes one 1 with a flag, or one 7 with a bar, mostly does so again.
        habit = 0.8 * self._uniform(0, 1, num_lines, 1) + 0.2 * self._uniform(0, 1, *shape)
        draws = torch.cat([habit.view(-1, 1), self._uniform(0, 1, len(places), 4)], 1)
        marks = place_marks(
            self._anchors, places.clamp(max=self._num_digits - 1), draws.numpy(), 0.5
        )
        marks[places.numpy() >= self._num_digits] = 0
        table[:, MARKS] = torch.from_numpy(marks).flatten(1)
        cells = self._render(self._images, places.to(self._device), table)

        is_zero = labels == 0
        whole = torch.exp(self._uniform(-0.35, 0.25, num_lines, 1))  # of the line's digits
        size = whole * torch.exp(self._uniform(-0.16, 0.1, *shape))
        small = self._often(0.4, self._uniform(0.5, 1, num_lines, 1), 1.0)
        size = torch.where(is_zero, size * small, size)
        size = self._often(0.08, size * self._uniform(0.45, 0.8, *shape), size)
        squeeze = torch.exp(
            self._uniform(-0.15, 0.2, num_lines, 1) + self._uniform(-0.15, 0.15, *shape)
        )
        wide = torch.exp(self._often(0.35, self._uniform(0, 0.5, num_lines, 1), 0.0))
        squeeze = torch.where(is_zero, squeeze * wide, squeeze)
        slant = self._often(0.6, self._uniform(-0.25, 0.45, num_lines, 1), 0.0)
        slant = slant + self._uniform(-0.05, 0.05, *shape)
        # What is smaller stands lower, mostly on the line.
        low = 10 * (whole - size) * self._uniform(0, 1, num_lines, 1)
        slope = self._often(0.4, self._uniform(-0.08, 0.08, num_lines, 1), 0.0)
        rise = 14 * whole * slope * (torch.arange(length) - (length - 1) / 2)
        down = self._uniform(-2.5, 2.5, num_lines, 1) + self._uniform(-1, 1, *shape) + low + rise

        values = torch.stack([size, size * squeeze, slant, down], -1).view(-1, 4).to(self._device)
        size, width, slant, down = (value.view(-1, 1, 1) for value in values.unbind(1))
        rows = torch.arange(HEIGHT, device=self._device).view(1, -1, 1) - (HEIGHT - 1) / 2 - down
        columns = torch.arange(CELL, device=self._device).view(1, 1, -1) - (CELL - 1) / 2
        y, x = rows / size, (columns + slant * rows) / width
        middle = (cells.shape[-1] - 1) / 2
        grid = torch.stack([x, y.expand_as(x)], -1) / middle
        drawn = F.grid_sample(cells, grid, padding_mode="zeros", align_corners=True)
        return drawn.view(num_lines, length, HEIGHT, CELL)

    def _space(self, first: Tensor, last: Tensor) -> Tensor:
        """Return where each cell begins in its line, (B, L) int64; for the ink see `_edges`."""
        left, right = first.amin(2), last.amax(2)
        num_lines, length = left.shape
        style = torch.tensor(STYLES)[self._integers(len(STYLES), num_lines)]
        low, high = style[:, :1], style[:, 1:]
        gap = (low + (high - low + 1) * self._uniform(0, 1, num_lines, length - 1)).floor()
        wide = self._uniform(8, 30, num_lines, length - 1).floor()
        gap = self._often(0.03, wide, gap).to(self._device)
        boxes = right[:, :-1] - left[:, 1:]
        # Some writers let an arm reach over the next digit: there the nearest rows count.
        near = F.max_pool1d(last, 5, 1, 2)[:, :-1] - first[:, 1:]
        rows = torch.maximum(near.amax(2), boxes - 14)
        reaches = self._chance(0.4, num_lines, 1).to(self._device)
        offset = torch.where(reaches, rows.clamp(min=0) + gap.clamp(min=-3), boxes + gap) + 1
        start = self._uniform(6, 18, num_lines, 1).floor().to(self._device) - left[:, :1]
        return torch.cat([start, start + offset.clamp(min=3).cumsum(1)], 1).round().long()

    def _strokes(self, first: Tensor, last: Tensor, left: Tensor, width: int) -> Tensor:
        """Return ligatures, punctuation, a ruling and a cell's side, as `draw_marks` takes them."""
        num_lines, length = left.shape
        lines = torch.arange(num_lines, device=self._device)
        rows = torch.arange(HEIGHT, device=self._device, dtype=torch.float32)
        is_inked = last >= 0
        top = torch.where(is_inked, rows, HEIGHT - 1.0).amin(2)
        bottom = torch.where(is_inked, rows, 0.0).amax(2)
        start, end = left + first.amin(2), left + last.amax(2)

        def random(low: float, high: float) -> Tensor:
            return self._uniform(low, high, num_lines).to(self._device)

        def pen(share: float, thin: float, thick: float) -> Tensor:
            """Return half the strokes' widths, 0 for no stroke."""
            radius = self._uniform(thin, thick, num_lines)
            return self._often(share, radius, 0.0).to(self._device)

        strokes = []
        for _ in range(2 if length > 1 else 0):  # ligatures, mostly near the top
            k = self._integers(length - 1, num_lines).to(self._device)
            height = bottom - top
            y0 = top[lines, k] + random(0, 0.7) ** 2 * height[lines, k]
            y1 = top[lines, k + 1] + random(0, 0.7) ** 2 * height[lines, k + 1]
            x0 = left[lines, k] + last[lines, k, y0.long()]
            x1 = left[lines, k + 1] + first[lines, k + 1, y1.long()]
            is_short = (x1 - x0).abs() < 14
            strokes.append(torch.stack([y0, x0, y1, x1, pen(0.22, 0.5, 1.4) * is_short], 1))
        for _ in range(3):  # dots, commas, dashes
            k = self._integers(length, num_lines).to(self._device)
            kind = self._integers(3, num_lines).to(self._device)
            y = bottom[lines, k] - random(-2, 3) - (kind == 2) * random(4, 10)
            x = end[lines, k] + random(0.5, 5)
            dy = torch.where(kind == 1, random(2, 7), random(-0.5, 0.5))
            dx = torch.where(kind == 1, -random(0, 4), random(0, 0.6))
            dx = torch.where(kind == 2, random(3, 10), dx)
            strokes.append(torch.stack([y, x, y + dy, x + dx, pen(0.2, 0.6, 1.9)], 1))
        y = self._often(0.6, self._uniform(24, 32, num_lines), self._uniform(0, 32, num_lines))
        y, x = y.to(self._device), random(-20, 0.6 * width)
        strokes.append(
            torch.stack([y, x, y + random(-2, 2), x + random(20, 200), pen(0.06, 0.3, 1)], 1)
        )
        is_left = random(0, 1) < 0.5
        x = torch.where(is_left, start[:, 0] - random(5, 12), end[:, -1] + random(6, 14))
        over, under = torch.full_like(x, -2.0), torch.full_like(x, HEIGHT + 2.0)
        strokes.append(torch.stack([over, x, under, x + random(-1, 1), pen(0.05, 0.3, 1.2)], 1))
        return torch.stack(strokes, 1)

    def _expose(self, fields: Tensor) -> Tensor:
        """Break strokes, blur, change the contrast and add noise."""
        num_lines, _, height, width = fields.shape
        x = fields / fields.amax((1, 2, 3), keepdim=True).clamp(min=0.2)
        coarse = torch.rand(num_lines, 1, 9, max(3, width // 4), generator=self._random)
        coarse = F.interpolate(coarse.to(self._device), size=(height, width), mode="bilinear")
        limit = self._often(0.12, self._uniform(0.8, 0.95, num_lines, 1, 1, 1), 2.0)
        x = x * (1 - (12 * (coarse - limit.to(self._device))).clamp(0, 1))
        soft = F.pad(x, (1, 1, 1, 1))
        soft = soft[..., :-2, :] + 2 * soft[..., 1:-1, :] + soft[..., 2:, :]
        soft = (soft[..., :-2] + 2 * soft[..., 1:-1] + soft[..., 2:]) / 16
        each = num_lines, 1, 1, 1
        x = x + self._uniform(0, 0.8, *each).to(self._device) * (soft - x)
        x = x * self._uniform(0.95, 1.7, *each).to(self._device)
        level = self._often(0.4, 0.3 * self._uniform(0, 1, *each) ** 3, 0.0)
        noise = torch.rand(x.shape, generator=self._random) * 2 - 1
        return (x + (level * noise).to(self._device)).clamp(0, 1)

    def _uniform(self, low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=self._random)

    def _chance(self, share: float, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self._random) < share

    def _often(self, share: float, values: Tensor, otherwise: Tensor | float) -> Tensor:
        """Return that share of the values, at random, and something else for the rest."""
        kept = self._chance(share, *values.shape)
        return torch.where(kept, values, torch.as_tensor(otherwise))

    def _integers(self, end: int, *shape: int) -> Tensor:
        return torch.randint(0, end, shape, generator=self._random)

    def _integer(self, start: int, end: int) -> int:
        return int(torch.randint(start, end, (1,), generator=self._random))


def _edges(cells: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first and the last column with ink of each row, (B, L, 32) float.

    Of a row without ink they are far to the right and to the left, so that it limits nothing; a
    cell without ink counts as some columns in its middle.
    """
    columns = torch.arange(CELL, device=cells.device, dtype=torch.float32)
    ink = cells > INK
    ink[..., CELL // 2 - 2 : CELL // 2 + 2] |= ~ink.flatten(2).any(2)[..., None, None]
    first = torch.where(ink, columns, 199.0).amin(3)
    last = torch.where(ink, columns, -99.0).amax(3)
    return first, last


def _compose(cells: Tensor, left: Tensor, last: Tensor) -> Tensor:
    """Return the lines (B, 32, W) of cells that begin at columns (B, L); the darkest ink counts."""
    num_lines, length = left.shape
    width = int((left + last.amax(2)).amax()) + MARGIN
    width += -width % 4
    # A cell may begin before its line or end behind it, with what holds no ink.
    fields = cells.new_zeros(num_lines, HEIGHT, width + 2 * CELL)
    columns = torch.arange(CELL, device=cells.device)
    for place in range(length):
        index = (left[:, place, None] + CELL + columns).clamp(max=fields.shape[2] - 1)
        index = index[:, None].expand(-1, HEIGHT, -1)
        fields.scatter_reduce_(2, index, cells[:, place], "amax")
    return fields[:, :, CELL : CELL + width]
