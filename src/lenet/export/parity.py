"""Hold an export to its source: the same labels, and logits that differ by rounding alone."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from lenet.errors import ExportError
from lenet.export.source import Source
from lenet.results.scores import compute_logits

Predict = Callable[[Tensor], Tensor]
"""(B, 28, 28) uint8 to (B, num_classes) float32 logits, computed from the exported files."""

ROUNDING = 1e-5
"""Largest difference of logits that float32 sums in another order may cause, as a share of the
largest logit; measured: 1e-6."""


@dataclass(frozen=True, kw_only=True)
class Parity:
    """An export beside its source, on the test images of the source's data set."""

    num_images: int
    largest_logit: float
    """Largest absolute value of the source's logits: the scale of the next figure."""
    largest_logit_difference: float
    num_labels_differ: int
    label_agreement: float
    """Share of the images on which both give the same label, 0..1."""
    source_accuracy: float
    accuracy: float


def compare(source: Source, predict: Predict) -> Parity:
    """Run the export on every test image and compare it with its source."""
    logits = compute_logits(predict, source.scored.images, takes_bytes=True)
    if logits.shape != source.logits.shape:
        raise ExportError(
            f"the export returns logits of shape {tuple(logits.shape)}; "
            f"expected {tuple(source.logits.shape)}"
        )
    labels, wanted = logits.argmax(1), source.logits.argmax(1)
    num_images, differ = len(labels), int((labels != wanted).sum())
    return Parity(
        num_images=num_images,
        largest_logit=float(source.logits.abs().max()),
        # NaN comes through `max` and is refused by the comparison below.
        largest_logit_difference=float((logits - source.logits).abs().max()),
        num_labels_differ=differ,
        label_agreement=1 - differ / num_images,
        source_accuracy=int((wanted == source.scored.labels).sum()) / num_images,
        accuracy=int((labels == source.scored.labels).sum()) / num_images,
    )


def require_equal(parity: Parity) -> None:
    """Refuse an export that should equal its source but for rounding.

    Raises:
        ExportError: A label differs, or a logit by more than rounding.
    """
    allowed = ROUNDING * max(1.0, parity.largest_logit)
    if parity.num_labels_differ or not parity.largest_logit_difference <= allowed:
        raise ExportError(
            f"the export differs from its source: {parity.num_labels_differ} of "
            f"{parity.num_images:,} labels, logits by up to {parity.largest_logit_difference:.2g} "
            f"(allowed: none, and {allowed:.2g}); no file was left"
        )


def require_close(parity: Parity, min_agreement: float) -> None:
    """Refuse a quantized export that differs from its source too often.

    Args:
        parity: What was measured.
        min_agreement: Smallest share of equal labels, 0..1. The accuracy may differ by half of
            what is left to 1: at 0.999, by 0.05 points.

    Raises:
        ExportError: It does.
    """
    moved = abs(parity.accuracy - parity.source_accuracy)
    # NaN is no number to compare with: `not <=` refuses it.
    finite = parity.largest_logit_difference <= float("inf")
    allowed = (1 - min_agreement) / 2 + 1e-9
    if not finite or parity.label_agreement < min_agreement or moved > allowed:
        raise ExportError(
            f"the quantized export differs from its source: labels agree on "
            f"{parity.label_agreement:.2%} of {parity.num_images:,} images (at least "
            f"{min_agreement:.2%} must), accuracy {parity.accuracy:.2%} after "
            f"{parity.source_accuracy:.2%} (at most {100 * allowed:.2f} points apart); "
            "no file was left; --min-agreement allows more"
        )
