"""Draw the figures of docs/lenet5-1998.md from records, and the doubtful labels of docs/results.md.

Run: `.venv/bin/python scripts/figures.py`. Writes docs/images/lenet5-1998-*.png and
label-errors.png. The paper's points are those that its text states or that can be read off its
Figs. 5 and 6.
"""

from typing import TYPE_CHECKING

from tables import ROOT, benchmark, error, study

from lenet.data.digits import load
from lenet.data.label_errors import MNIST_TEST_ERRORS
from lenet.results.plots import TRAIN_COLOUR, VALID_COLOUR, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAPER_SIZES = {15_000: 1.7, 30_000: 1.14, 60_000: 0.95}
"""Test error in %, read off Fig. 6."""


def draw_passes() -> "Figure":
    """Fig. 5: error against passes."""
    study = benchmark("lecun1998-passes")["studies"][0]
    figure = new_figure(8, 4.5)
    axes = figure.add_subplot()
    for kind, colour, label in (
        ("train", TRAIN_COLOUR, "training images, as they were presented"),
        ("test", VALID_COLOUR, "test images, after each pass (for this figure alone)"),
    ):
        points = study[f"{kind}_error_by_pass"]
        numbers = range(1, len(points) + 1)
        axes.plot(numbers, [p["mean"] for p in points], "o-", color=colour, ms=3, label=label)
        lows, highs = ([p[key] for p in points] for key in ("min", "max"))
        axes.fill_between(numbers, lows, highs, color=colour, alpha=0.2, linewidth=0)
    axes.plot([10, 20], [0.95, 0.95], "--", color=VALID_COLOUR, label="paper: test error 0.95 %")
    axes.plot(19, 0.35, "*", color="black", ms=11, label="paper: training error 0.35 %")
    seeds = study["test_error"]["n"]
    title = f"mean and range of {seeds} seeds" if seeds > 1 else "one seed"
    axes.set(
        title=f"Error against passes, {title}",
        xlabel="Pass through the training images",
        ylabel="Error, %",
        ylim=(0, 5),
        xticks=range(0, 21, 2),
    )
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    return figure


def draw_sizes() -> "Figure":
    """Fig. 6: error against the number of training images."""
    studies = benchmark("lecun1998-sizes")["studies"]
    figure = new_figure(8, 4.5)
    axes = figure.add_subplot()
    for kind, colour in (("test", VALID_COLOUR), ("train", TRAIN_COLOUR)):
        full = error(study("lecun1998"), f"{kind}_accuracy")
        errors = [*(s[f"{kind}_error"] for s in studies), full]
        means = [e["mean"] for e in errors]
        below = [e["mean"] - e["min"] for e in errors]
        above = [e["max"] - e["mean"] for e in errors]
        numbers = [*(s["recipe"]["num_train"] / 1000 for s in studies), 60]
        label = f"ours, {kind}: mean and range of {errors[0]['n']} to {full['n']} seeds"
        axes.errorbar(
            numbers, means, [below, above], fmt="o-", color=colour, capsize=4, label=label
        )
    thousands = [number / 1000 for number in PAPER_SIZES]
    axes.plot(thousands, list(PAPER_SIZES.values()), "k*--", ms=9, label="paper, test")
    distorted = error(study("lecun1998-distorted"), "test_accuracy")["mean"]
    axes.plot(60, distorted, "s", color=VALID_COLOUR, label="ours, distorted")
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


def draw_road() -> "Figure":
    """The error after each change on the road."""
    studies = benchmark("lecun1998-road")["studies"][::-1]
    figure = new_figure(9, 4.8)
    axes = figure.add_subplot()
    errors = [s["test_error"] for s in studies]
    means = [e["mean"] for e in errors]
    below = [e["mean"] - e["low"] for e in errors]
    above = [e["high"] - e["mean"] for e in errors]
    rows = range(len(studies))
    axes.errorbar(means, rows, xerr=[below, above], fmt="o", color=VALID_COLOUR, capsize=4)
    axes.set_yticks(rows, [s["title"] for s in studies])
    recipe = studies[0]["recipe"]
    figure.suptitle(
        "From the paper's network to the common one: "
        f"{recipe['epochs']} epochs of {recipe['num_train']:,} images"
    )
    axes.set(xlabel=f"Test error, % (mean of {errors[0]['n']} seeds and its 95 % interval)")
    axes.grid(visible=True, axis="x", alpha=0.3)
    return figure


def draw_label_errors() -> "Figure":
    """The test images whose labels are known to be wrong."""
    digits = load("mnist", "test")
    figure = new_figure(8, 2.9)
    for axes, doubt in zip(figure.subplots(2, 8).flat, (*MNIST_TEST_ERRORS, None), strict=True):
        axes.axis("off")
        if doubt is not None:
            axes.imshow(digits.images[doubt.image], cmap="gray_r")
            axes.set_title(f"{doubt.image}\nlabel {doubt.label}, or {doubt.other}", fontsize=8)
    return figure


def main() -> None:
    """Draw all of them."""
    for name, draw in (
        ("lenet5-1998-passes", draw_passes),
        ("lenet5-1998-sizes", draw_sizes),
        ("lenet5-1998-road", draw_road),
        ("label-errors", draw_label_errors),
    ):
        save_figure(draw(), ROOT / "docs" / "images" / f"{name}.png")
        print(f"docs/images/{name}.png: written")


if __name__ == "__main__":
    main()
