"""Score how people's digits and numbers are read, on pictures made from MNIST's test images.

Run: `.venv/bin/python benchmarks/reading.py [--model FILE] [--record]`

Measures the rejection curve; accuracy under rotation, scale, shift, noise and blur; accuracy on
each kind of scene (tests/scenes.py); what is taken for no digit; the error rate of strings, and how
far their probabilities can be trusted. Draws the figures of docs/reading.md.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import ROOT, main
from non_digits import make_non_digits
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from scenes import KINDS, make_scene, make_string

from lenet import load
from lenet.data.distortions import BLUR, INK, NOISE, NOISE_KEY, Distortion, draw, render
from lenet.reading.reader import Reader
from lenet.reading.steps import save_steps
from lenet.results.plots import new_figure, save_figure

FIGURES = ROOT / "docs" / "images"
SEED = 5
LENGTH = 5
CONDITIONS: dict[str, dict[str, Any]] = {
    "gaps of 1 to 4": {"gaps": (1, 4)},
    "gaps of -1 to 4": {"gaps": (-1, 4)},
    "touching, gaps of -1 to 0": {"gaps": (-1, 0)},
    "gaps of -1 to 4, salt and pepper on 10 %": {"gaps": (-1, 4), "noise": 0.1},
}
LENGTHS = range(1, 11)
NUM_BINS = 10
HARD = ("pencil", "lined", "sheet", "frame", "shadow")


def reading(
    model: Path | None = None,
    num_strings: int = 2000,
    num_scenes: int = 40,
    num_non_digits: int = 150,
    figures: Path = FIGURES,
) -> dict[str, Any]:
    """Measure, and draw the figures.

    Args:
        model: A model file or a run; None for the package's model.
        num_strings: Of each kind.
        num_scenes: Of each kind.
        num_non_digits: Of each kind.
        figures: Folder of the figures.
    """
    torch.set_num_threads(1)
    reader = Reader.from_model(model) if model else Reader.from_pretrained()
    test = load("mnist", "test")
    images, labels = test.images.numpy(), test.labels.numpy()
    found = {
        "test_accuracy": float((reader.probabilities(images).argmax(axis=1) == labels).mean()),
        "rejection": rejection(reader, images, labels),
        "robustness": robustness(reader, test.images[:1000], labels[:1000]),
        "scenes": scenes(reader, images, labels, num_scenes),
        "non_digits": non_digits(reader, images, num_non_digits),
        "strings": strings(reader, images, labels, num_strings),
        "lengths": lengths(reader, images, labels, max(1, num_strings // 10)),
    }
    plot(found, figures)
    draw_hard(reader, images, figures)
    return found


def rejection(reader: Reader, images: NDArray[Any], labels: NDArray[Any]) -> dict[str, Any]:
    """Return error against share rejected, by the paper's score: the first less the second."""
    chances = reader.probabilities(images)
    ordered = np.sort(chances, axis=1)
    wrong = (chances.argmax(axis=1) != labels)[np.argsort(ordered[:, -2] - ordered[:, -1])]
    # Sorted from the surest: of the first k, this share is wrong.
    errors = np.cumsum(wrong) / np.arange(1, len(wrong) + 1)
    shares = 1 - np.arange(1, len(wrong) + 1) / len(wrong)
    enough = np.nonzero(errors <= 0.005)[0]
    at = [round((1 - share) * len(wrong)) - 1 for share in np.linspace(0, 0.05, 26)]
    return {
        "share_rejected": [round(float(shares[i]), 5) for i in at],
        "error": [round(float(errors[i]), 5) for i in at],
        "rejected_for_half_a_percent": round(float(shares[enough[-1]]), 5),
    }


def robustness(reader: Reader, images: torch.Tensor, labels: NDArray[Any]) -> dict[str, Any]:
    """Return accuracy by kind and strength of distortion."""
    places = torch.arange(len(images))
    clean = draw(Distortion(), places, seed=0, epoch=0)

    def accuracy(table: torch.Tensor) -> float:
        x = (render(images, places, table)[:, 0] * 255).round().to(torch.uint8).numpy()
        return round(float((reader.probabilities(x).argmax(axis=1) == labels).mean()), 4)

    def turned(angle: float, scale: float = 1.0, dx: float = 0.0) -> torch.Tensor:
        table, a = clean.clone(), np.deg2rad(angle)
        matrix = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]) / scale
        offset = 13.5 - matrix @ np.array([13.5, 13.5 + dx])
        values = np.concatenate([matrix, offset[:, None]], axis=1).ravel()
        table[:, :6] = torch.tensor(values, dtype=torch.float32)
        return table

    def noisy(amount: float) -> torch.Tensor:
        table = clean.clone()
        table[:, NOISE], table[:, INK] = amount, 1.0
        table[:, NOISE_KEY] = torch.arange(len(table)).float()
        return table

    def blurred(sigma: float) -> float:
        x = [
            np.asarray(Image.fromarray(i).filter(ImageFilter.GaussianBlur(sigma)))
            for i in images.numpy()
        ]
        return round(float((reader.probabilities(np.stack(x)).argmax(1) == labels).mean()), 4)

    clean[:, BLUR] = 0
    return {
        "rotation, degrees": {str(a): accuracy(turned(a)) for a in range(-40, 41, 10)},
        "scale": {
            str(s): accuracy(turned(0, s)) for s in (0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.3)
        },
        "shift, pixels": {str(d): accuracy(turned(0, 1, d)) for d in range(-6, 7, 2)},
        "noise, share of ink": {str(n): accuracy(noisy(n)) for n in (0, 0.1, 0.2, 0.3, 0.5, 0.7)},
        "blur, pixels": {str(b): blurred(b) for b in (0, 0.5, 1, 1.5, 2, 2.5)},
    }


def scenes(reader: Reader, images: NDArray[Any], labels: NDArray[Any], num: int) -> dict[str, Any]:
    """Return the share read right of each kind of scene."""
    found = {}
    for number, kind in enumerate(KINDS):
        rng = np.random.default_rng([SEED, number])
        hits = 0
        for index in rng.choice(len(images), num, replace=False):
            digit = reader.read_digit(make_scene(images[index], kind, rng))
            hits += digit.label == str(labels[index])
        found[kind] = round(hits / num, 4)
    return {"num_each": num, "accuracy": found}


def non_digits(reader: Reader, images: NDArray[Any], num: int) -> dict[str, Any]:
    """Return the shares of what is no digit that get no label, and of test digits that get none."""
    found = {
        kind: round(sum(reader.read_digit(picture).label is None for picture in pictures) / num, 4)
        for kind, pictures in make_non_digits(num, SEED).items()
    }
    chances = reader.probabilities(images)
    refused = float((1 - chances.sum(axis=1) > chances.max(axis=1)).mean())
    return {"num_each": num, "told_apart": found, "test_digits_refused": round(refused, 4)}


def strings(reader: Reader, images: NDArray[Any], labels: NDArray[Any], num: int) -> dict[str, Any]:
    """Return the shares of strings of five digits misread, and of digits, by gaps."""
    found: dict[str, dict[str, float]] = {}
    chances, hits = [], []
    for name, options in CONDITIONS.items():
        wrong = distance = 0
        rng = np.random.default_rng([SEED, len(found)])
        for _ in range(num):
            picture, text = make_string(images, labels, rng, length=LENGTH, **options)
            number = reader.read_number(picture)
            wrong += number.text != text
            distance += edit_distance(number.text, text)
            chances.append(number.probability)
            hits.append(number.text == text)
        found[name] = {
            "strings": round(wrong / num, 4),
            "digits": round(distance / (num * LENGTH), 4),
        }
    return {
        "num_each": num,
        "length": LENGTH,
        "error": found,
        "reliability": reliability(np.array(chances), np.array(hits)),
    }


def reliability(chances: NDArray[Any], hits: NDArray[Any]) -> list[dict[str, float]]:
    """Return, by tenths of the probability, how many strings, its mean, and the share right."""
    bins = np.minimum((chances * NUM_BINS).astype(int), NUM_BINS - 1)
    return [
        {
            "num": int((bins == k).sum()),
            "probability": round(float(chances[bins == k].mean()), 4),
            "right": round(float(hits[bins == k].mean()), 4),
        }
        for k in np.unique(bins)
    ]


def lengths(
    reader: Reader, images: NDArray[Any], labels: NDArray[Any], num: int
) -> dict[str, float]:
    """Return the share misread of strings with gaps of -1 to 4, by their length."""
    found = {}
    for length in LENGTHS:
        rng = np.random.default_rng([SEED, 100 + length])
        wrong = 0
        for _ in range(num):
            picture, text = make_string(images, labels, rng, length=length, gaps=(-1, 4))
            wrong += reader.read_number(picture).text != text
        found[str(length)] = round(wrong / num, 4)
    return found


def edit_distance(a: str, b: str) -> int:
    """Return the least number of digits put in, left out or changed that makes `b` of `a`."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        last, row[0] = row[0], i
        for j, y in enumerate(b, start=1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
    return row[-1]


def plot(found: dict[str, Any], folder: Path) -> None:
    """Draw the rejection curve and the curves of robustness."""
    figure = new_figure(5, 3.4)
    axes, curve = figure.add_subplot(), found["rejection"]
    axes.plot(
        [100 * s for s in curve["share_rejected"]], [100 * e for e in curve["error"]], marker="."
    )
    axes.set(xlabel="test images rejected, %", ylabel="error among the rest, %", ylim=(0, None))
    axes.grid(alpha=0.3)
    save_figure(figure, folder / "rejection.png")
    figure = new_figure(13, 2.8)
    panels = figure.subplots(1, 5, sharey=True)
    for panel, (name, values) in zip(panels, found["robustness"].items(), strict=True):
        panel.plot([float(x) for x in values], [100 * y for y in values.values()], marker=".")
        panel.set(xlabel=name, ylim=(50, 100.5))
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("accuracy, %")
    save_figure(figure, folder / "robustness.png")


def draw_hard(reader: Reader, images: NDArray[Any], folder: Path) -> None:
    """Draw the steps of five hard pictures."""
    rows = []
    for number, kind in enumerate(HARD):
        rng = np.random.default_rng([SEED + 1, number])
        scene = make_scene(images[100 + 7 * number], kind, rng, side=240)
        digit = reader.read_digit(scene, keep_steps=True)
        rows.append((f"{kind}: {digit.label} ({digit.probability:.0%})", digit.normalized.steps))
    save_steps(folder / "steps.png", rows)
    with Image.open(folder / "steps.png") as sheet:
        sheet.quantize(128).save(folder / "steps.png", optimize=True)


if __name__ == "__main__":
    main("reading", reading)
