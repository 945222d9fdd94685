"""Read a line of writing by sweeping the network over it (LeCun et al. 1998, section VII).

The network's output at every second column is a digit or garbage. As in connectionist temporal
classification (CTC; Graves et al. 2006), a string's probability is the sum over all ways to say
it: each digit at one or more columns in a row, garbage anywhere between, and garbage alone between
two equal digits. Views of the line, scaled and sheared, each propose strings, and the string with
the largest mean log-probability is the answer.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lenet.reading.layout import Patch
from lenet.reading.paper import resize_grey
from lenet.reading.regions import Grey, dilate

Floats = NDArray[Any]
Sweep = Callable[[Floats], Floats]
"""Of fields (N, 32, W) float32 in [0, 1]: logits at every second column, (N, T, num_classes)."""
Text = tuple[int, ...]
"""Labels, left to right."""

FIELD = 32
DIGIT_HEIGHT = 20
"""Of a digit in its field, in pixels, as in MNIST."""
MARGIN = 16
"""Background at either end of a field: the first window is centred on its first ink."""
VIEWS = ((1.0, 0.0), (0.85, 0.0), (1.15, 0.0), (1.0, 0.2), (1.0, -0.2))
"""Scale of a line, and columns a row by which it is sheared."""
LEAN = 0.25
"""A lean up to this, in columns a row, is kept as it was written: MNIST's digits lean as much."""
GARBAGE = -1.0
"""Logit of garbage in a line. With the network's own 0, more digits are lost where they touch than
are put in, in strings of validation digits (docs/lab/reading.md)."""
BEAM = 8
"""Strings kept at each place of the search."""
PROPOSED = 4
"""Strings of a view that all views judge."""
UNLIKELY = -7.0
"""Log-probability of a label below which a place can't begin it."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a line of writing says."""

    labels: Text
    probability: float
    """That all labels are right, 0..1."""
    probabilities: tuple[float, ...]
    """That each label is right, 0..1."""


def read_line(patch: Patch, sweep: Sweep, *, temperature: float = 1.0) -> Reading:
    """Return the likeliest string of a line; no labels where it holds no digit."""
    field = line_field(patch)
    lean = min(LEAN, max(-LEAN, patch.slant))
    fields = [_view(field, scale, lean + shear) for scale, shear in VIEWS]
    views = [log_probabilities(sweep(view[None])[0], GARBAGE) for view in fields]
    proposed = {text for view in views for text in propose(view)}
    texts = sorted(proposed)
    scores = np.mean([string_scores(view, texts) for view in views], axis=0)
    return _weigh(texts, scores / temperature)


def line_field(patch: Patch) -> Grey:
    """Return a line as the network's field, (32, W) float32 in [0, 1].

    A digit is 20 pixels tall, and the middle of the line's ink lies in the middle.
    """
    mask = patch.parts > 0
    full = float(np.percentile(patch.strength[mask], 75))
    near = dilate(mask.astype(np.float32), 1)
    ink = np.clip((patch.strength / full - 0.15) / 0.7, 0, 1) * near
    scale = DIGIT_HEIGHT / patch.height
    size = max(1, round(ink.shape[1] * scale)), max(1, round(ink.shape[0] * scale))
    kind = Image.Resampling.BOX if scale < 0.7 else Image.Resampling.BILINEAR
    scaled = resize_grey(ink.astype(np.float32), size, kind)
    rows = scaled.sum(axis=1)
    middle = round(float((rows * np.arange(len(rows))).sum() / max(1e-6, float(rows.sum()))))
    padded = np.pad(scaled, ((FIELD, FIELD), (MARGIN, MARGIN + FIELD)))
    field: Grey = padded[middle + FIELD // 2 : middle + FIELD // 2 + FIELD]
    return field


def _view(field: Grey, scale: float, shear: float) -> Grey:
    """Return a field scaled about its middle row and sheared, bilinearly sampled."""
    if (scale, shear) == (1.0, 0.0):
        return field
    middle, width = (FIELD - 1) / 2, max(FIELD, round(field.shape[1] * scale))
    # From a view's pixels to the field's: x, then y.
    matrix = (1 / scale, shear / scale, -shear * middle, 0.0, 1 / scale, middle - middle / scale)
    image = Image.fromarray(field.astype(np.float32))
    view: Grey = np.asarray(
        image.transform(
            (width, FIELD), Image.Transform.AFFINE, matrix, resample=Image.Resampling.BILINEAR
        )
    )
    return view


def log_probabilities(logits: Floats, garbage: float = 0.0) -> Floats:
    """Return the log-probabilities (T, n + 1) of each class and, last, of garbage.

    Args:
        logits: (T, n) of the digits.
        garbage: Logit of garbage, 0 in the network (equation 9 of the paper).
    """
    logits = np.pad(logits.astype(np.float64), ((0, 0), (0, 1)), constant_values=garbage)
    top = logits.max(axis=1, keepdims=True)
    found: Floats = logits - top - np.log(np.exp(logits - top).sum(axis=1, keepdims=True))
    return found


def propose(table: Floats) -> list[Text]:
    """Return the likeliest strings of a table of `log_probabilities`, the best first.

    Prefix beam search (Graves 2012): each string is kept with its log-probability of having ended
    in garbage and in its last digit.
    """
    garbage = table.shape[1] - 1
    beam: dict[Text, tuple[float, float]] = {(): (0.0, -math.inf)}
    for row in table:
        likely = [int(label) for label in np.flatnonzero(row[:garbage] > UNLIKELY)]
        if not likely:  # as at most places between digits
            beam = {text: (_add(*ends) + row[garbage], -math.inf) for text, ends in beam.items()}
            continue
        found: dict[Text, tuple[float, float]] = {}

        def add(text: Text, in_garbage: float, in_digit: float, to: dict[Any, Any] = found) -> None:
            before = to.get(text, (-math.inf, -math.inf))
            to[text] = (_add(before[0], in_garbage), _add(before[1], in_digit))

        for text, (in_garbage, in_digit) in beam.items():
            either = _add(in_garbage, in_digit)
            add(text, either + row[garbage], -math.inf)
            if text:
                add(text, -math.inf, in_digit + row[text[-1]])
            for label in likely:
                before = in_garbage if text and text[-1] == label else either
                add((*text, label), -math.inf, before + row[label])
        best = sorted(found, key=lambda text: -_add(*found[text]))[:BEAM]
        beam = {text: found[text] for text in best}
    return list(beam)[:PROPOSED]


def string_scores(table: Floats, texts: Sequence[Text]) -> Floats:
    """Return the log-probabilities (N,) of strings: CTC's forward algorithm, for all at once.

    Args:
        table: (T, n + 1) from `log_probabilities`.
        texts: N strings.
    """
    garbage = table.shape[1] - 1
    # Garbage, digit, garbage, digit, ..., garbage; shorter strings are filled up with garbage.
    states = np.full((len(texts), 2 * max(map(len, texts)) + 1), garbage)
    for row, text in zip(states, texts, strict=True):
        row[1 : 2 * len(text) : 2] = text
    # A digit may follow another one without garbage between them, unless they are equal.
    may_skip = np.zeros(states.shape, np.bool_)
    may_skip[:, 3::2] = states[:, 3::2] != states[:, 1:-2:2]
    barrier = np.where(may_skip, 0.0, -np.inf)
    scores = np.full(states.shape, -np.inf)
    scores[:, :2] = table[0, states[:, :2]]
    for row in table[1:]:
        before = scores
        scores = before.copy()
        scores[:, 1:] = np.logaddexp(scores[:, 1:], before[:, :-1])
        scores[:, 2:] = np.logaddexp(scores[:, 2:], before[:, :-2] + barrier[:, 2:])
        scores += row[states]
    # A string ends in its last digit or in the garbage behind it.
    ends = 2 * np.array([len(text) for text in texts])
    each = np.arange(len(texts))
    last = np.where(ends > 0, scores[each, ends - 1], -np.inf)
    found: Floats = np.logaddexp(scores[each, ends], last)
    return found


def _weigh(texts: Sequence[Text], scores: Floats) -> Reading:
    """Return the best string with the probabilities that all of them give it."""
    weights = np.exp(scores - scores.max())
    weights /= weights.sum()
    best = texts[int(weights.argmax())]
    each = np.zeros(len(best))
    for text, weight in zip(texts, weights, strict=True):
        for block in SequenceMatcher(None, best, text, autojunk=False).get_matching_blocks():
            each[block.a : block.a + block.size] += weight
    return Reading(
        labels=best,
        probability=float(weights.max()),
        probabilities=tuple(min(1.0, float(p)) for p in each),
    )


def _add(a: float, b: float) -> float:
    """Return log(exp(a) + exp(b))."""
    high, low = max(a, b), min(a, b)
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))
