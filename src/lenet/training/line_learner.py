"""Learn from lines of writing beside single digits: connectionist temporal classification."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lenet.models import LeNet5, Network
from lenet.training.learners import Tally, TorchLearner, WrappedLearner
from lenet.training.lines import LineMaker, Lines

WEIGHT = 0.3
"""Of the lines' loss beside that of single digits: with 1.0, twice as many validation digits were
misread and no fewer lines (docs/lab/reading.md)."""


class LineLearner(WrappedLearner):
    """Adds to each step of another learner the loss of some lines, drawn anew for each.

    The network sweeps over a line, and its last class, garbage, is CTC's blank (Graves et al.
    2006): the loss is -log of the probability of all ways to read the line's digits, a digit.
    """

    def __init__(self, learner: TorchLearner, maker: LineMaker, num_digits: int) -> None:
        """Wrap the learner of single digits.

        Args:
            learner: Of a `LeNet5` whose last class is garbage.
            maker: Draws the lines.
            num_digits: How many digits the lines of a step have together.
        """
        super().__init__(learner)
        self._maker, self._num_digits = maker, num_digits

    def begin_epoch(self, epoch: int, images: Tensor) -> None:
        """Prepare for an epoch; see `TorchLearner.begin_epoch`."""
        super().begin_epoch(epoch, images)
        self._maker.begin_epoch(epoch)

    def gradients(self, images: Tensor, labels: Tensor) -> Tally:
        """Leave the gradients of both losses in the parameters.

        Returns:
            Loss and accuracy of the single digits alone.
        """
        tally = self.learner.gradients(images, labels)
        assert isinstance(self.model, LeNet5)  # which recipes see to
        loss = WEIGHT * line_loss(self.model, self._maker.draw(self._num_digits))
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return tally


def line_loss(model: LeNet5, lines: Lines) -> Tensor:
    """Return the CTC loss of lines, in nats a digit; the last class is the blank."""
    log_probabilities = model.sweep(lines.fields).log_softmax(2).transpose(0, 1)  # (T, B, 11)
    num_places, num_lines, num_classes = log_probabilities.shape
    loss = F.ctc_loss(
        log_probabilities,
        lines.labels,
        torch.full((num_lines,), num_places),
        lines.lengths,
        blank=num_classes - 1,
        reduction="sum",
        zero_infinity=True,  # two equal digits may be too close to have a blank between them
    )
    return loss / max(1, len(lines.labels))


def fold_garbage(model: Network) -> LeNet5:
    """Return the network without its last class, whose logit becomes 0 for every image.

    Subtracting the last logit from all changes no probability, so nothing is lost: the chance of
    garbage is 1 / (1 + sum of exp(logits)), the paper's constant garbage class (equation 9).
    """
    if not isinstance(model, LeNet5):  # which recipes see to
        raise TypeError(f"{type(model).__name__} has no linear output")
    config: dict[str, Any] = {**model.config(), "num_classes": model.num_classes - 1}
    folded = LeNet5(**config)
    state = model.state_dict()
    for name in ("classifier.2.weight", "classifier.2.bias"):
        state[name] = state[name][:-1] - state[name][-1:]
    folded.load_state_dict(state)
    return folded
