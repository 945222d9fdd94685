"""Draw the figures of docs/lenet5-1998.md from records.

Run: `.venv/bin/python scripts/figures_1998.py`. Writes docs/images/lenet5-1998-*.png. The paper's
points are those that its text states or that can be read off its Figs. 5 and 6.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lenet.plots import TRAIN_COLOUR, VALID_COLOUR, new_figure, save_figure
from lenet.records import read_study_record, summarize

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
PAPER_SIZES = {15_000: 1.7, 30_000: 1.14, 60_000: 0.95}
"""Test error in %, read off Fig. 6."""


def read(part: str) -> dict[str, Any]:
    """Return the committed result of a part of benchmarks/lecun1998.py."""
    path = ROOT / "benchmarks" / "results" / f"lecun1998-{part}.json"
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return result


def passes_figure() -> "Figure":
    """Fig. 5: error against passes."""
    study = read("passes")["studies"][0]
    figure = new_figure(8, 4.5)
    axes = figure.add_subplot()
    for kind, colour, label in (
        ("train", TRAIN_COLOUR, "training images, as they were presented"),
        ("test", VALID_COLOUR, "test images, after each pass (for this figure alone)"),
    ):
        points = study[f"{kind}_error_by_pass"]
        numbers = range(1, len(points) + 1)
        axes.plot(numbers, [p["mean"] for p in points], "o-", color=colour, ms=3, label=label)
        axes.fill_between(
            numbers,
            [p["min"] for p in points],
            [p["max"] for p in points],
            color=colour,
            alpha=0.2,
            linewidth=0,
        )
    axes.plot([10, 20], [0.95, 0.95], "--", color=VALID_COLOUR, label="paper: test error 0.95 %")
    axes.plot(19, 0.35, "*", color="black", ms=11, label="paper: training error 0.35 %")
    seeds = study["test_error"]["n"]
    axes.set(
        title="Error against passes, "
        + (f"mean and range of {seeds} seeds" if seeds > 1 else "one seed"),
        xlabel="Pass through the training images",
        ylabel="Error, %",
        ylim=(0, 5),
        xticks=range(0, 21, 2),
    )
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    return figure


def sizes_figure() -> "Figure":
    """Fig. 6: error against the number of training images."""
    studies = read("sizes")["studies"]
    full = read_study_record(ROOT / "records" / "lecun1998.json")
    figure = new_figure(8, 4.5)
    axes = figure.add_subplot()
    for kind, colour in (("test", VALID_COLOUR), ("train", TRAIN_COLOUR)):
        whole = summarize([100 * (1 - getattr(run, f"{kind}_accuracy")) for run in full.runs])
        errors = [*(s[f"{kind}_error"] for s in studies), asdict(whole)]
        means = [e["mean"] for e in errors]
        spread = [
            [e["mean"] - e["min"] for e in errors],
            [e["max"] - e["mean"] for e in errors],
        ]
        numbers = [*(s["recipe"]["num_train"] / 1000 for s in studies), 60]
        label = f"ours, {kind}: mean and range of {errors[0]['n']} to {whole.n} seeds"
        axes.errorbar(numbers, means, spread, fmt="o-", color=colour, capsize=4, label=label)
    axes.plot(
        [n / 1000 for n in PAPER_SIZES],
        list(PAPER_SIZES.values()),
        "k*--",
        ms=9,
        label="paper, test",
    )
    distorted = read_study_record(ROOT / "records" / "lecun1998-distorted.json")
    axes.plot(
        60,
        100 * (1 - distorted.summary["test_accuracy"].mean),
        "s",
        color=VALID_COLOUR,
        label="ours, distorted",
    )
    axes.plot(60, 0.8, "k^", label="paper, distorted")
    axes.set(
        title="Error against the number of training images",
        xlabel="Training images, thousands",
        ylabel="Error, %",
        ylim=(0, None),
        xticks=(15, 30, 60),
    )
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    return figure


def road_figure() -> "Figure":
    """The error after each change on the road."""
    record = read("road")
    studies = record["studies"][::-1]
    figure = new_figure(9, 4.8)
    axes = figure.add_subplot()
    errors = [s["test_error"] for s in studies]
    places = range(len(studies))
    axes.errorbar(
        [e["mean"] for e in errors],
        places,
        xerr=[[e["mean"] - e["low"] for e in errors], [e["high"] - e["mean"] for e in errors]],
        fmt="o",
        color=VALID_COLOUR,
        capsize=4,
    )
    axes.set_yticks(places, [s["title"] for s in studies])
    recipe, seeds = studies[0]["recipe"], errors[0]["n"]
    figure.suptitle(
        "From the paper's network to the common one: "
        f"{recipe['epochs']} epochs of {recipe['num_train']:,} images"
    )
    axes.set(
        xlabel=f"Test error, % (mean of {seeds} seeds and its 95 % interval)",
    )
    axes.grid(visible=True, axis="x", alpha=0.3)
    return figure


def main() -> None:
    """Draw all three."""
    for name, draw in (("passes", passes_figure), ("sizes", sizes_figure), ("road", road_figure)):
        save_figure(draw(), IMAGES / f"lenet5-1998-{name}.png")
        print(f"docs/images/lenet5-1998-{name}.png: written")


if __name__ == "__main__":
    main()
