"""Statistics over seeds, and over test images: means, their intervals, and a paired test."""

import math
from collections import Counter
from collections.abc import Sequence
from statistics import fmean, stdev

from lenet.schema import RunFigures, RunRecord, Summary

# Two-sided 95 % points of Student's t for 1 to 30 degrees of freedom.
_T_95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


def student_t_95(degrees: int) -> float:
    """Return the two-sided 95 % point of Student's t with that many degrees of freedom."""
    if degrees <= len(_T_95):
        return _T_95[degrees - 1]
    # Two terms of the expansion about the normal; wrong by less than 0.001 from here on.
    # Source: Abramowitz & Stegun, 26.7.5.
    z = 1.959964
    return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)


def paired_p_value(differences: Sequence[float]) -> float:
    """Return the two-sided p-value of Student's t test that the mean of differences is 0.

    Args:
        differences: One for each pair, at least two.

    Example:
        >>> round(paired_p_value([1, 2, 3, 4, 5]), 4)  # t = 4.2426, 4 degrees of freedom
        0.0132
    """
    n, std = len(differences), stdev(differences)
    if std == 0:
        return 0.0 if any(differences) else 1.0
    t, degrees = abs(fmean(differences)) / (std / math.sqrt(n)), n - 1
    # With t = sqrt(degrees) tan(x) the density is cos(x)^(degrees - 1); Simpson's rule over x.
    end, steps = math.atan(t / math.sqrt(degrees)), 1000
    weights = [4 if i % 2 else 2 for i in range(1, steps)]
    powers = [math.cos(end * i / steps) ** (degrees - 1) for i in range(steps + 1)]
    inner = sum(w * p for w, p in zip(weights, powers[1:-1], strict=True))
    area = (powers[0] + inner + powers[-1]) * end / (3 * steps)
    whole = math.sqrt(math.pi) * math.gamma(degrees / 2) / math.gamma((degrees + 1) / 2)
    return max(0.0, 1 - 2 * area / whole)


def summarize(values: Sequence[float]) -> Summary:
    """Return mean, spread and the 95 % interval of the mean over seeds."""
    n, mean = len(values), fmean(values)
    std = stdev(values) if n > 1 else 0.0
    low = high = None
    if n > 1:
        half = student_t_95(n - 1) * std / math.sqrt(n)
        low, high = mean - half, mean + half
    return Summary(n=n, mean=mean, std=std, low=low, high=high, min=min(values), max=max(values))


def summarize_runs(runs: Sequence[RunFigures]) -> dict[str, Summary]:
    """Summarize each numeric figure that all runs have, the seed left out."""
    found = {}
    for name in RunFigures.__struct_fields__:
        if name in ("seed", "test_wrong"):
            continue
        values = [getattr(run, name) for run in runs]
        if None not in values:
            found[name] = summarize(values)
    return found


def summarize_images(wrong: Sequence[Sequence[int]], num_images: int) -> Summary:
    """Summarize the share of runs that read each image right, over images.

    Args:
        wrong: For each run, the indices of the images that it misreads.
        num_images: How many images there are.

    Example:
        >>> round(summarize_images([[0], [0, 2]], 4).mean, 3)  # shares right: 0, 1, 1/2, 1
        0.625
    """
    misread = Counter(index for indices in wrong for index in indices)
    return summarize([1 - misread[index] / len(wrong) for index in range(num_images)])


def run_figures(record: RunRecord) -> RunFigures:
    """Return the figures of a run that a study keeps."""
    return RunFigures(**{name: getattr(record, name) for name in RunFigures.__struct_fields__})
