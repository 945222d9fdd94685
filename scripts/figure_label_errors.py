"""Draw docs/images/label-errors.png: the test images whose labels are known to be wrong.

Run: `.venv/bin/python scripts/figure_label_errors.py`
"""

from pathlib import Path

from lenet.data import load
from lenet.data.label_errors import MNIST_TEST_ERRORS
from lenet.plots import new_figure, save_figure

IMAGE = Path(__file__).resolve().parent.parent / "docs" / "images" / "label-errors.png"


def main() -> None:
    """Write the figure."""
    digits = load("mnist", "test")
    figure = new_figure(8, 2.9)
    for axes, error in zip(figure.subplots(2, 8).flat, (*MNIST_TEST_ERRORS, None), strict=True):
        axes.axis("off")
        if error is None:
            continue
        axes.imshow(digits.images[error.image], cmap="gray_r")
        axes.set_title(f"{error.image}\nlabel {error.label}, or {error.other}", fontsize=8)
    save_figure(figure, IMAGE)


if __name__ == "__main__":
    main()
