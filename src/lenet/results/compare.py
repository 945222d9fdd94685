"""Compare the test accuracies of two recipes, paired over seeds, or of two runs, over images."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lenet.errors import RunError
from lenet.results.statistics import summarize
from lenet.schema import PREDICTIONS_FILE, RECORD_FILE, STUDY_FILE, RunRecord, StudyRecord, read

SIGNIFICANCE = 0.05


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two runs of one seed."""

    seed: int
    a_accuracy: float
    """On the test images, 0..1."""
    b_accuracy: float
    only_a_right: int | None
    """Test images that only run A reads right; None if there are no predictions to compare."""
    only_b_right: int | None
    num_images: int | None
    p_value: float | None
    """Of McNemar's exact test on these images."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The difference in test accuracy of two recipes, or of two runs."""

    a: str
    b: str
    pairs: tuple[Pair, ...]
    difference: float
    """Mean accuracy of B less that of A, -1..1."""
    low: float
    """Lower end of its 95 % interval: over seeds, or for one pair over test images."""
    high: float
    sentence: str


def compare(a: Path, b: Path) -> Comparison:
    """Compare two studies, or two runs.

    Args:
        a: A study's folder or record, or a run directory.
        b: A study's folder or record, or a run directory.

    Raises:
        RunError: One of them is not there or not readable, they share no seed, or they were
            scored on different images.
    """
    name_a, runs_a = _read(a)
    name_b, runs_b = _read(b)
    if len(runs_a) == len(runs_b) == 1 and runs_a.keys() != runs_b.keys():
        # Two runs need not share their seed: the images pair them.
        runs_b = dict(zip(runs_a, runs_b.values(), strict=True))
    seeds = sorted(runs_a.keys() & runs_b.keys())
    if not seeds:
        raise RunError(
            f"{a} has seeds {sorted(runs_a)}, {b} has {sorted(runs_b)}: none in common to pair"
        )
    pairs = tuple(_pair(seed, runs_a[seed], runs_b[seed], (a, b)) for seed in seeds)
    if len(pairs) == 1 and pairs[0].p_value is None:
        raise RunError(f"{a} and {b} share one seed and have no predictions: nothing to pair")
    if len(pairs) == 1:
        # A run is not its recipe: another seed would do better or worse.
        name_a, name_b = (f"the run {path} ({name})" for path, name in ((a, name_a), (b, name_b)))
    low, high = _interval(pairs)
    difference = sum(p.b_accuracy - p.a_accuracy for p in pairs) / len(pairs)
    names = (name_a, name_b) if name_a != name_b else (str(a), str(b))
    return Comparison(
        a=names[0],
        b=names[1],
        pairs=pairs,
        difference=difference,
        low=low,
        high=high,
        sentence=_sentence(*names, pairs, difference, low, high),
    )


def mcnemar(only_a: int, only_b: int) -> float:
    """Return the two-sided p-value of McNemar's exact test.

    Source: Q. McNemar, Psychometrika 12 (1947), 153-157; exact by the binomial distribution.

    Example:
        >>> round(mcnemar(2, 10), 4)
        0.0386
    """
    n, few = only_a + only_b, min(only_a, only_b)
    # In logarithms: n may be thousands.
    tail = sum(
        math.exp(math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2))
        for k in range(few + 1)
    )
    return min(1.0, 2 * tail)


_Runs = dict[int, tuple[float, Path]]
"""Test accuracy and file of predictions, which need not exist, by seed."""


def _read(path: Path) -> tuple[str, _Runs]:
    """Return a recipe's name, and its runs by seed."""
    if (path / RECORD_FILE).is_file():
        record = read(path / RECORD_FILE, RunRecord)
        return record.recipe_name, {record.seed: (record.test_accuracy, path / PREDICTIONS_FILE)}
    study = read(path / STUDY_FILE if path.is_dir() else path, StudyRecord)
    found = {}
    for run in study.runs:
        if run.test_accuracy is None:
            raise RunError(f"{path}: run of seed {run.seed} has no `test_accuracy`")
        found[run.seed] = (run.test_accuracy, path / f"seed-{run.seed}" / PREDICTIONS_FILE)
    return study.recipe_name, found


def _pair(
    seed: int, a: tuple[float, Path], b: tuple[float, Path], paths: tuple[Path, Path]
) -> Pair:
    (a_accuracy, a_file), (b_accuracy, b_file) = a, b
    only_a = only_b = num_images = p_value = None
    if a_file.is_file() and b_file.is_file():
        only_a, only_b, num_images = _count_discordant(a_file, b_file, paths)
        p_value = mcnemar(only_a, only_b)
    return Pair(
        seed=seed,
        a_accuracy=a_accuracy,
        b_accuracy=b_accuracy,
        only_a_right=only_a,
        only_b_right=only_b,
        num_images=num_images,
        p_value=p_value,
    )


def _count_discordant(a: Path, b: Path, paths: tuple[Path, Path]) -> tuple[int, int, int]:
    """Return how many images only A reads right, how many only B, and how many there are."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    right, labels = [], []
    for path in (a, b):
        try:
            tensors = load_file(path)
            right.append(tensors["logits"].argmax(1) == tensors["labels"])
            labels.append(tensors["labels"])
        except (OSError, SafetensorError, KeyError, IndexError, RuntimeError) as error:
            raise RunError(f"{path}: not the predictions of a run ({error})") from None
    if not torch.equal(*labels):
        raise RunError(f"{paths[0]} and {paths[1]} were scored on different test images")
    only_a, only_b = (right[0] & ~right[1]).sum(), (right[1] & ~right[0]).sum()
    return int(only_a), int(only_b), len(labels[0])


def _interval(pairs: Sequence[Pair]) -> tuple[float, float]:
    """Return the 95 % interval of the difference."""
    if len(pairs) > 1:
        return summarize([p.b_accuracy - p.a_accuracy for p in pairs]).interval
    (pair,) = pairs
    gain, loss, num_images = pair.only_b_right or 0, pair.only_a_right or 0, pair.num_images or 1
    difference = pair.b_accuracy - pair.a_accuracy
    # Of a difference of paired proportions, by the normal approximation.
    # Source: A. Agresti, Categorical Data Analysis (2013), section 11.1.1.
    half = 1.96 * math.sqrt(max(0.0, gain + loss - (gain - loss) ** 2 / num_images)) / num_images
    return difference - half, difference + half


def _sentence(
    a: str, b: str, pairs: Sequence[Pair], difference: float, low: float, high: float
) -> str:
    sign = 1 if difference >= 0 else -1
    ends = sorted((100 * sign * low, 100 * sign * high))
    points = f"{100 * abs(difference):.2f} points (95 % interval {ends[0]:.2f} to {ends[1]:.2f}"
    if len(pairs) > 1:
        shown = low > 0 or high < 0
        points += f", paired over {len(pairs)} seeds)"
    else:
        (pair,) = pairs
        shown = pair.p_value is not None and pair.p_value < SIGNIFICANCE
        points += f", over the test images; McNemar's p = {pair.p_value:.3f})"
    if not shown:
        return f"No difference shown between {a} and {b}: {points}."
    better, worse = (b, a) if difference > 0 else (a, b)
    if len(pairs) == 1:
        return (
            f"{better} reads more test images than {worse}, by {points}. Of their recipes this "
            "says nothing: two seeds of one recipe differ as well. `lenet study` compares recipes."
        )
    return f"{better} is better than {worse} by {points}."
