"""Training images that the reader cuts from strings of digits: digits with their cuts, and garbage.

Strings of training digits are over-segmented as a stranger's number is. What holds one digit and
little else is that digit; what holds half of one, or parts of two, is garbage, an eleventh class.
"""

from itertools import count

import numpy as np
import torch
from numpy.typing import NDArray

from lenet.data.digits import Digits
from lenet.errors import DataError
from lenet.models import LeNet5, Network
from lenet.reading.normalize import to_mnist
from lenet.reading.segment import Line, arc_image, find_arcs, find_lines
from lenet.reading.strings import StringImage, make_amount, make_string

Parts = tuple[NDArray[np.uint8], NDArray[np.int64]]

SEED = 1998
"""Fixed and apart from a run's seed: all runs train on the same pieces."""
STRING_LENGTH = 6
AMOUNT_SHARE = 0.6
"""Share of strings written as amounts of money are; the others are the paper's."""
MAX_GARBAGE = 8
"""Of one string; most arcs are garbage."""
SIDE = 28
MAX_WINDOWS = 16
"""Of one string."""
ZERO_SHARE = 0.25
"""Share of strings that are mostly zeros."""
NEAR, FAR = 2.0, 4.5
"""Pixels from a digit's middle within which a window shows it, and beyond which it does not."""
MARK_SHARE = 0.05
"""Share of dots and dashes among the pieces."""


def add_segments(digits: Digits, num_pieces: int, num_windows: int) -> Digits:
    """Return training images with parts of strings of them; garbage is one class more.

    Args:
        digits: The training images.
        num_pieces: How many pieces of over-segmented strings to add.
        num_windows: How many 28x28 windows of strings to add, neighbours left in.
    """
    parts = [_pieces(digits, num_pieces)] if num_pieces else []
    parts += [_windows(digits, num_windows)] if num_windows else []
    return Digits(
        images=torch.cat([digits.images, *(torch.from_numpy(images) for images, _ in parts)]),
        labels=torch.cat([digits.labels, *(torch.from_numpy(labels) for _, labels in parts)]),
        name=digits.name,
        split=digits.split,
        classes=(*digits.classes, "garbage"),
    )


def _pieces(digits: Digits, num_pieces: int) -> Parts:
    rng = np.random.default_rng(SEED)
    images, labels = digits.images.numpy(), digits.labels.numpy()
    # Half zeros, half anything: amounts end in zeros, and writers join them.
    places = np.nonzero(labels == 0)[0]
    if len(places):
        places = np.concatenate([rng.choice(places, 2000), rng.integers(0, len(labels), 2000)])
    pools = [(images, labels)]
    pools += [(images[places], labels[places])] if len(places) else []
    garbage = len(digits.classes)
    num_marks = round(MARK_SHARE * num_pieces)
    found: list[NDArray[np.uint8]] = [draw_mark(rng) for _ in range(num_marks)]
    names = [garbage] * num_marks
    for attempt in count():
        if len(found) >= num_pieces:
            break
        if attempt > 100 and len(found) == num_marks:
            raise DataError(f"{digits.name}: no digit could be cut from strings of its images")
        pool = pools[-1 if rng.random() < ZERO_SHARE else 0]
        if rng.random() < AMOUNT_SHARE:
            string = make_amount(*pool, rng, length=STRING_LENGTH)
        else:
            gaps = (-1, 4) if rng.random() < 0.5 else (-5, 0)
            string = make_string(*pool, rng, length=STRING_LENGTH, gaps=gaps, ligatures=0.3)
        rgb = np.repeat(string.image[:, :, None] / np.float32(255), 3, axis=2)
        for line in find_lines(rgb):
            for image, name in _judge(line, string, garbage, rng):
                found.append(image)
                names.append(name)
    return np.stack(found[:num_pieces]), np.array(names[:num_pieces], np.int64)


def _windows(digits: Digits, num_windows: int) -> Parts:
    """Cut windows out of strings: a digit in the middle is that digit, anything else garbage."""
    rng = np.random.default_rng(SEED + 1)
    images, labels = digits.images.numpy(), digits.labels.numpy()
    found: list[NDArray[np.uint8]] = []
    names: list[int] = []
    while len(found) < num_windows:
        string = make_string(images, labels, rng, length=STRING_LENGTH)
        centres = []
        for place in range(1, STRING_LENGTH + 1):
            columns = np.nonzero((string.owners == place).any(axis=0))[0]
            centres.append((columns[0] + columns[-1]) / 2 if len(columns) else -99.0)
        padded = np.pad(string.image, ((0, 0), (SIDE, SIDE)))
        for x in rng.permutation(string.image.shape[1])[:MAX_WINDOWS]:
            distances = np.abs(np.array(centres) - x)
            nearest = int(distances.argmin())
            if NEAR < distances[nearest] < FAR:
                continue
            is_digit = distances[nearest] <= NEAR
            left = int(x) + SIDE - SIDE // 2
            top = 6 + int(rng.integers(-1, 2))
            found.append(padded[top : top + SIDE, left : left + SIDE])
            names.append(int(string.text[nearest]) if is_digit else len(digits.classes))
    return np.stack(found[:num_windows]), np.array(names[:num_windows], np.int64)


def fold_garbage(model: Network) -> Network:
    """Return the network without its last class, whose logit becomes 0 for every image.

    Subtracting the last logit from all changes no probability, so nothing is lost: the chance of
    garbage is 1 / (1 + sum of exp(logits)), the paper's constant garbage class (equation 9).
    """
    if not isinstance(model, LeNet5):  # which recipes see to
        raise TypeError(f"{type(model).__name__} has no linear output")
    config = model.config()
    num_classes = model.num_classes - 1
    folded = LeNet5(**{**config, "num_classes": num_classes})  # type: ignore[arg-type]  # plain
    state = model.state_dict()
    for name in ("classifier.2.weight", "classifier.2.bias"):
        state[name] = state[name][:-1] - state[name][-1:]
    folded.load_state_dict(state)
    return folded


def _judge(
    line: Line, string: StringImage, garbage: int, rng: np.random.Generator
) -> list[tuple[NDArray[np.uint8], int]]:
    """Return a line's arcs with their labels, the doubtful ones left out."""
    owners = line.patch.project(string.owners)
    num_owners = len(string.text) + 1
    counts = np.bincount(
        (line.cells * num_owners + owners).ravel(), minlength=(len(line.boxes) + 1) * num_owners
    ).reshape(-1, num_owners)[:, 1:]
    totals = np.bincount(owners.ravel(), minlength=num_owners)[1:]
    digits, rest = [], []
    for arc in find_arcs(line):
        held = counts[arc.first + 1 : arc.end + 1].sum(axis=0)
        best = int(held.argmax())
        recall, precision = held[best] / max(1, totals[best]), held[best] / max(1, held.sum())
        if recall > 0.9 and precision > 0.9:
            digits.append((arc, int(string.text[best])))
        elif recall < 0.75 or precision < 0.75:
            rest.append((arc, garbage))
    chosen = rng.permutation(len(rest))[:MAX_GARBAGE]
    picked = digits + [rest[i] for i in chosen]
    return [(arc_image(line, arc), name) for arc, name in picked]


def draw_mark(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a dot or a dash, fitted as a digit is: (28, 28) uint8."""
    y, x = np.mgrid[0:60, 0:60] - 30.0
    if rng.random() < 0.5:
        squeeze, turn = rng.uniform(0.6, 1.6), rng.uniform(0, np.pi)
        u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
        ink = np.hypot(u * squeeze, v) < rng.uniform(8, 18)
    else:
        slope, bend = rng.uniform(-0.25, 0.25), rng.uniform(-0.008, 0.008)
        ink = np.abs(y - slope * x - bend * x * x) < rng.uniform(1.5, 5)
        ink &= np.abs(x) < rng.uniform(18, 29)
    return to_mnist(ink.astype(np.float32), ink)
