"""Read a line of writing: the best string through a graph of pieces, or a sweep of the network."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet.reading.segment import Arc, Line, arc_image, find_arcs, piece_heights, to_field

Logits = Callable[[NDArray[np.uint8]], NDArray[Any]]

MIN_HEIGHT = 0.42
"""Least height of a digit, in heights of its line; below are commas, dots and dashes."""
SHAPE_COST = 8.0
"""Cost, in nats, of a digit too low or too wide by a whole height of the line."""
MAX_ASPECT = 1.3
TEAR_COST = 3.0
"""Cost of a cut through as much ink as the line is tall; each of its two sides pays half."""
GAP_COST = 10.0
"""Cost of columns without ink inside a digit, as many as the line is tall: digits have hardly any,
and two that are read as one often do."""
ARC_COST = 0.0
"""Cost of each digit."""
SKIP_COST = 6.0
"""Cost of leaving out a piece as tall as the line; smaller ones cost less, by their squares."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A digit of a string."""

    label: int
    probability: float
    """That this piece of ink is this digit and no garbage, 0..1."""
    first: int
    end: int


def read_line(line: Line, logits: Logits, *, temperature: float = 1.0) -> list[Choice]:
    """Return the most likely digits of a line, left to right.

    Each arc costs what the network says against its best label, garbage counted as a class whose
    logit is 0; each piece may also be left out, which is cheap for a comma and dear for a digit.
    The cheapest way from the line's start to its end is found by Viterbi's recursion
    (section V.B of the paper).
    """
    arcs = find_arcs(line)
    if not arcs:
        return []
    found = logits(np.stack([arc_image(line, arc) for arc in arcs]))
    # The search weighs the raw scores; the temperature makes the probabilities it reports honest.
    scores, honest = log_probabilities(found), log_probabilities(found / temperature)
    heights = piece_heights(line)
    num_pieces = len(line.boxes)
    best = np.full(num_pieces + 1, np.inf)
    best[0] = 0.0
    back: list[tuple[int, Choice | None]] = [(0, None)] * (num_pieces + 1)
    by_end: list[list[int]] = [[] for _ in range(num_pieces + 1)]
    for number, arc in enumerate(arcs):
        by_end[arc.end].append(number)
    for node in range(1, num_pieces + 1):
        best[node] = best[node - 1] + SKIP_COST * min(1.0, heights[node - 1]) ** 2
        back[node] = node - 1, None
        for number in by_end[node]:
            arc = arcs[number]
            label = int(scores[number].argmax())
            cost = best[arc.first] - scores[number, label] + _shape_cost(arc)
            if cost < best[node]:
                probability = float(np.exp(honest[number, label]))
                choice = Choice(label=label, probability=probability, first=arc.first, end=node)
                best[node], back[node] = cost, (arc.first, choice)
    node, choices = num_pieces, []
    while node:
        node, choice_or_none = back[node]
        if choice_or_none is not None:
            choices.append(choice_or_none)
    return choices[::-1]


def sweep_line(
    line: Line, sweep: Callable[[NDArray[Any]], NDArray[Any]], *, temperature: float = 1.0
) -> list[Choice]:
    """Return the digits of a line by sweeping the network over it, without cutting anything.

    The paper's space displacement network (section VII). Each place of the sweep is garbage or a
    digit; the likeliest way through stays in a digit or goes back to garbage, so that one digit
    seen at several places counts once and two never touch.
    """
    field = to_field(line)
    # The network moves by 4 pixels; a second sweep takes the places in between.
    swept = [sweep(field[None, :, shift:])[0, 0] for shift in (0, 2)]
    num_places = min(map(len, swept))
    logits = np.stack([part[:num_places] for part in swept], axis=1).reshape(2 * num_places, -1)
    scores, honest = log_probabilities(logits), log_probabilities(logits / temperature)
    garbage = np.log(np.maximum(1e-9, 1 - np.exp(scores).sum(axis=1)))
    table = np.concatenate([garbage[:, None], scores], axis=1)
    num_states = table.shape[1]
    best, back = table[0].copy(), np.zeros(table.shape, np.int64)
    for place in range(1, len(table)):
        from_digit = int(best[1:].argmax()) + 1
        stay, start = best[1:], best[0]
        back[place, 1:] = np.where(stay >= start, np.arange(1, num_states), 0)
        back[place, 0] = from_digit if best[from_digit] > best[0] else 0
        best = np.concatenate([[max(best[0], best[from_digit])], np.maximum(stay, start)])
        best += table[place]
    states = [int(best.argmax())]
    for place in range(len(table) - 1, 0, -1):
        states.append(int(back[place, states[-1]]))
    states.reverse()
    found: list[Choice] = []
    for place, state in enumerate(states):
        if state and (place == 0 or states[place - 1] != state):
            end = place
            while end < len(states) and states[end] == state:
                end += 1
            peak = float(np.exp(honest[place:end, state - 1].max()))
            found.append(Choice(label=state - 1, probability=peak, first=place, end=end))
    return found


def log_probabilities(logits: NDArray[Any]) -> NDArray[Any]:
    """Return the logarithms (N, num_classes) of the chances that it is a digit, and which.

    What is missing to 1 is the chance of garbage, whose logit is 0 (equation 9 of the paper).
    """
    logits = logits.astype(np.float64)
    top = np.maximum(logits.max(axis=1, keepdims=True), 0)
    norm = top + np.log(np.exp(logits - top).sum(axis=1, keepdims=True) + np.exp(-top))
    result: NDArray[Any] = logits - norm
    return result


def _shape_cost(arc: Arc) -> float:
    too_low = max(0.0, MIN_HEIGHT - arc.height)
    too_wide = max(0.0, arc.width - MAX_ASPECT)
    shape = SHAPE_COST * (4 * too_low + too_wide) + GAP_COST * arc.gap
    return shape + TEAR_COST / 2 * arc.torn + ARC_COST
