"""Score a model on images with labels, with the uncertainty of the figures."""

import math
from collections.abc import Callable
from statistics import NormalDist

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lenet.schema import Scores

NUM_CALIBRATION_BINS = 15


def wilson_interval(
    num_correct: int, num_images: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Return the Wilson score interval of a proportion.

    Source: E. B. Wilson, J. Am. Stat. Assoc. 22 (1927), 209-212.

    Example:
        >>> low, high = wilson_interval(9889, 10_000)
        >>> f"{low:.4f} {high:.4f}"
        '0.9867 0.9908'
    """
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = num_correct / num_images
    centre = share + z * z / (2 * num_images)
    spread = z * math.sqrt(share * (1 - share) / num_images + z * z / (4 * num_images**2))
    scale = 1 + z * z / num_images
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


@torch.inference_mode()
def compute_logits(
    model: nn.Module | Callable[[Tensor], Tensor],
    images: Tensor,
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 1000,
    takes_bytes: bool = False,
) -> Tensor:
    """Return the logits of every image, the last short batch included.

    Args:
        model: Takes (B, 1, 28, 28) float in [0, 1], returns (B, num_classes) logits.
        images: (N, 28, 28) uint8, 0 = background, 255 = ink.
        device: Where the model is.
        batch_size: Images at a time; changes the memory needed, not the result.
        takes_bytes: The model takes (B, 28, 28) uint8 instead.

    Returns:
        (N, num_classes) float32 on the CPU.
    """
    was_training = isinstance(model, nn.Module) and model.training
    if isinstance(model, nn.Module):
        model.eval()
    parts = []
    for start in range(0, len(images), batch_size):
        chunk = images[start : start + batch_size]
        x = chunk.to(device)  # (B, 28, 28)
        if not takes_bytes:
            x = x.unsqueeze(1).float() / 255  # (B, 1, 28, 28)
        parts.append(model(x).float().cpu())
    if isinstance(model, nn.Module):
        model.train(was_training)
    return torch.cat(parts)


def score_logits(logits: Tensor, labels: Tensor, *, split: str) -> Scores:
    """Score logits against labels.

    Args:
        logits: (N, num_classes) float.
        labels: (N,) int64.
        split: What to call these images.

    Raises:
        ValueError: No images, or another number of labels than of logits.
    """
    if len(labels) == 0 or logits.ndim != 2 or len(logits) != len(labels):
        raise ValueError(
            f"`logits` has shape {tuple(logits.shape)} and `labels` {tuple(labels.shape)}; "
            "expected (N, num_classes) and (N,) with N of at least 1"
        )
    logits, labels = logits.double().cpu(), labels.cpu()
    num_images, num_classes = logits.shape
    predicted = logits.argmax(1)
    num_correct = int((predicted == labels).sum())
    low, high = wilson_interval(num_correct, num_images)
    pairs = labels * num_classes + predicted
    confusion = torch.bincount(pairs, minlength=num_classes**2).view(num_classes, num_classes)
    return Scores(
        split=split,
        num_images=num_images,
        num_correct=num_correct,
        accuracy=num_correct / num_images,
        accuracy_low=low,
        accuracy_high=high,
        loss=float(F.cross_entropy(logits, labels)),
        calibration_error=_calibration_error(logits, predicted == labels),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
    )


def _calibration_error(logits: Tensor, correct: Tensor) -> float:
    confidence = logits.softmax(1).amax(1)
    bins = (confidence * NUM_CALIBRATION_BINS).long().clamp(max=NUM_CALIBRATION_BINS - 1)
    # Sum over bins of |hits - summed confidence| is |accuracy - mean confidence| weighted by size.
    gap = torch.zeros(NUM_CALIBRATION_BINS, dtype=torch.float64)
    gap.index_add_(0, bins, correct.double() - confidence)
    return float(gap.abs().sum() / len(confidence))


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """Return the temperature that calibrates logits: they are divided by it before the softmax.

    Source: Guo et al. 2017, section 4.2: the temperature with the least cross-entropy, here to
    1 % and between 0.05 and 20.

    Args:
        logits: (N, num_classes) float, of images that were not trained on.
        labels: (N,) int64.
    """
    logits, labels = logits.double().cpu(), labels.cpu()

    def loss(exponent: float) -> float:
        return float(F.cross_entropy(logits / math.exp(exponent), labels))

    # Cross-entropy is convex in the inverse of the temperature: ternary search finds its minimum.
    low, high = math.log(0.05), math.log(20)
    while high - low > 0.01:
        a, b = low + (high - low) / 3, high - (high - low) / 3
        low, high = (low, b) if loss(a) < loss(b) else (a, high)
    return math.exp((low + high) / 2)


def evaluate(
    model: nn.Module | Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    *,
    split: str,
    device: torch.device | str = "cpu",
    takes_bytes: bool = False,
) -> Scores:
    """Score a model on images with labels.

    Args:
        model: Takes (B, 1, 28, 28) float in [0, 1], returns (B, num_classes) logits.
        images: (N, 28, 28) uint8.
        labels: (N,) int64.
        split: What to call these images in the result.
        device: Where the model is.
        takes_bytes: The model takes (B, 28, 28) uint8 instead.
    """
    logits = compute_logits(model, images, device=device, takes_bytes=takes_bytes)
    return score_logits(logits, labels, split=split)
