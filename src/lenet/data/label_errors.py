"""Test images of MNIST whose label most people did not see in them.

Confident learning proposed 100 test images as mislabelled, and five people were shown each. Here
are those for which fewer than three of the five chose the label that MNIST gives.

Source: C. G. Northcutt, A. Athalye, J. Mueller, "Pervasive Label Errors in Test Sets Destabilize
Machine Learning Benchmarks" (2021), arXiv 2103.14749; the votes are those of the file
mturk/mnist_mturk.json of github.com/cleanlab/label-errors.
"""

from typing import NamedTuple


class LabelError(NamedTuple):
    """A test image with a doubtful label."""

    image: int
    """Its place among the 10,000 test images, from 0."""
    label: int
    """What MNIST says."""
    other: int
    """What was offered instead."""
    votes_label: int
    """People, of five, who chose MNIST's label."""
    votes_other: int
    votes_neither: int
    """Who chose neither, or both."""


MNIST_TEST_ERRORS = (
    LabelError(947, 8, 9, 0, 5, 0),
    LabelError(1621, 0, 6, 2, 3, 0),
    LabelError(1901, 9, 4, 2, 3, 0),
    LabelError(2130, 4, 9, 2, 2, 1),
    LabelError(2462, 2, 0, 0, 4, 1),
    LabelError(2597, 5, 3, 0, 4, 1),
    LabelError(2654, 6, 1, 0, 2, 3),
    LabelError(3520, 6, 4, 2, 0, 3),
    LabelError(3558, 5, 0, 1, 4, 0),
    LabelError(5937, 5, 3, 1, 3, 1),
    LabelError(6651, 0, 6, 0, 5, 0),
    LabelError(6783, 1, 6, 2, 3, 0),
    LabelError(8527, 4, 9, 2, 2, 1),
    LabelError(9679, 6, 3, 2, 0, 3),
    LabelError(9729, 5, 6, 2, 3, 0),
)
