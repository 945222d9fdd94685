"""Figures of a run, from what it left behind.

Every function returns a matplotlib figure and draws on nothing global, so that they work with no
display and leave a caller's own figures alone.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lenet.files import replacing
from lenet.schema import EpochScores

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TRAIN_COLOUR, VALID_COLOUR, WRONG_COLOUR = "tab:blue", "tab:red", "#c62828"
GRID_ROWS, GRID_COLUMNS = 5, 10
DPI = 120


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty figure of that size in inches, with a canvas that needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def axes_figure(width: float = 8, height: float = 4.5) -> "tuple[Figure, Axes]":
    """Return an empty figure of that size in inches, and the one pair of axes in it."""
    figure = new_figure(width, height)
    return figure, figure.add_subplot()


def save_figure(figure: "Figure", path: Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    with replacing(path) as temporary:
        # Without the metadata, equal figures are equal files under one version of matplotlib.
        figure.savefig(temporary, format="png", dpi=DPI, metadata={"Software": None})


def losses_figure(epochs: Sequence[EpochScores], *, test_loss: float) -> "Figure":
    """Fig. 1: loss over the epochs, and the test loss of the finished model.

    Args:
        epochs: The run's epochs; at least one.
        test_loss: Of the finished model, in nats.
    """
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    figure, axes = axes_figure()
    numbers = [epoch.epoch for epoch in epochs]
    for attribute, colour, label in (
        ("train_loss", TRAIN_COLOUR, "training images (running mean)"),
        ("val_loss", VALID_COLOUR, "val images (cut from training)"),
        ("test_loss", VALID_COLOUR, "test images, every epoch (the notebook's validation)"),
    ):
        values = [getattr(epoch, attribute) for epoch in epochs]
        if None not in values:
            axes.plot(numbers, values, "o-", markersize=3, color=colour, label=label)
    if epochs[-1].test_loss is None:
        axes.plot(numbers[-1], test_loss, "k*", markersize=11, label="test images, scored once")
    axes.set(title="Loss over epochs", xlabel="Epoch", ylabel="Cross-entropy (nats, log scale)")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend()
    return figure


def predictions_figure(
    images: Tensor, labels: Tensor, logits: Tensor, classes: Sequence[str]
) -> "Figure":
    """Fig. 2: the first 50 images with predicted and true label, the wrong ones marked.

    Args:
        images: (N, 28, 28) uint8.
        labels: (N,) int64.
        logits: (N, num_classes) float.
        classes: Name of each class.
    """
    num_images = min(len(images), GRID_ROWS * GRID_COLUMNS)
    wrong = int((logits[:num_images].argmax(1) != labels[:num_images]).sum())
    title = f"The first {num_images} test images: {wrong} read wrongly"
    return _grid_figure(images, labels, logits, classes, range(num_images), title)


def mistakes_figure(
    images: Tensor, labels: Tensor, logits: Tensor, classes: Sequence[str]
) -> "Figure":
    """Show the images read wrongly with the least probability for the true label, worst first.

    Args:
        images: (N, 28, 28) uint8.
        labels: (N,) int64.
        logits: (N, num_classes) float.
        classes: Name of each class.
    """
    true_log_probability = logits.log_softmax(1).gather(1, labels.unsqueeze(1)).squeeze(1)
    wrong = (logits.argmax(1) != labels).nonzero().squeeze(1)
    worst = wrong[true_log_probability[wrong].argsort(stable=True)][: GRID_ROWS * GRID_COLUMNS]
    title = f"The worst {len(worst)} of {len(wrong)} mistakes on the test images"
    return _grid_figure(images, labels, logits, classes, worst.tolist(), title)


def _grid_figure(
    images: Tensor,
    labels: Tensor,
    logits: Tensor,
    classes: Sequence[str],
    indices: Sequence[int],
    title: str,
) -> "Figure":
    from matplotlib.patches import Rectangle

    # All in one picture on one pair of axes: fifty pairs take matplotlib seconds to lay out.
    side, step_x, step_y = 28, 36, 46
    rows = max(1, -(-len(indices) // GRID_COLUMNS))
    canvas = torch.zeros(rows * step_y, GRID_COLUMNS * step_x, dtype=torch.uint8)
    figure, axes = axes_figure(11, 0.5 + 1.4 * rows)
    axes.axis("off")
    axes.set_title(title)
    probabilities = logits.softmax(1)
    for cell, index in enumerate(indices):
        row, column = divmod(cell, GRID_COLUMNS)
        left, top = column * step_x + (step_x - side) // 2, row * step_y + step_y - side - 2
        canvas[top : top + side, left : left + side] = images[index]
        true, predicted = int(labels[index]), int(logits[index].argmax())
        share = float(probabilities[index, predicted])
        right = predicted == true
        axes.text(
            left + side / 2,
            top - 2,
            f"#{index}\nread {classes[predicted]} ({share:.0%})\ntrue {classes[true]}",
            fontsize=7 if max(map(len, classes)) <= 2 else 5,
            ha="center",
            va="bottom",
            color="black" if right else WRONG_COLOUR,
            fontweight="normal" if right else "bold",
        )
        frame = Rectangle(
            (left - 0.5, top - 0.5),
            side,
            side,
            fill=False,
            edgecolor="0.85" if right else WRONG_COLOUR,
            linewidth=0.5 if right else 1.5,
        )
        axes.add_patch(frame)
    axes.imshow(canvas.numpy(), cmap="gray_r", vmin=0, vmax=255, interpolation="nearest")
    return figure


def confusion_figure(confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> "Figure":
    """Show how many images of each class were read as which.

    Args:
        confusion: Row: true class; column: predicted class.
        classes: Name of each class.
    """
    size = len(classes)
    figure, axes = axes_figure(6.4, 5.8)
    # Coloured by mistakes alone: the diagonal, a hundred times as large, would hide them.
    errors = [[0 if i == j else confusion[i][j] for j in range(size)] for i in range(size)]
    darkest = max(1, max(max(row) for row in errors))
    axes.imshow(errors, cmap="Reds", vmin=0, vmax=darkest)
    for i in range(size):
        for j in range(size):
            count = confusion[i][j]
            if count:
                dark = i != j and count > 0.6 * darkest
                colour = "white" if dark else "0.45" if i == j else "black"
                axes.text(j, i, str(count), ha="center", va="center", fontsize=8, color=colour)
    title = f"{sum(map(sum, errors))} mistakes on {sum(map(sum, confusion)):,} test images"
    axes.set(xlabel="Read as", ylabel="True label", title=title)
    is_long = max(map(len, classes)) > 2
    axes.set_xticks(
        range(size), classes, rotation=45 if is_long else 0, ha="right" if is_long else "center"
    )
    axes.set_yticks(range(size), classes)
    return figure


def filters_figure(c1: Tensor, c3: Tensor) -> "Figure":
    """Show the kernels of the first two convolutions.

    Args:
        c1: (6, 1, 5, 5) float, the kernels of C1.
        c3: (16, 6, 5, 5) float, the kernels of C3.
    """
    figure = new_figure(9, 5.6)
    upper, lower = figure.subplots(2, 1, height_ratios=[1, 2.6])
    c1_title = "C1: six kernels on the image (red: ink speaks for it, blue: against)"
    c3_title = "C3: sixteen units (columns), each over the six maps of S2 (rows)"
    _show_kernels(upper, c1.transpose(0, 1), c1_title)
    _show_kernels(lower, c3.transpose(0, 1), c3_title)
    return figure


def _show_kernels(axes: "Axes", kernels: Tensor, title: str) -> None:
    """Draw kernels (rows, columns, 5, 5) as one picture with gaps."""
    rows, columns, height, width = kernels.shape
    canvas = torch.full((rows * (height + 1) - 1, columns * (width + 1) - 1), float("nan"))
    for row in range(rows):
        for column in range(columns):
            top, left = row * (height + 1), column * (width + 1)
            canvas[top : top + height, left : left + width] = kernels[row, column]
    limit = float(kernels.abs().max())
    axes.imshow(canvas.numpy(), cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
    axes.set_title(title, fontsize=10)
    axes.axis("off")
