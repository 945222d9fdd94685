"""The records of runs and studies as JSON files, and the statistics in them."""

import math
import os
import platform
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import fmean, stdev

from lenet.files import write_text
from lenet.schema import (
    Environment,
    EpochScores,
    RunFigures,
    RunRecord,
    StudyRecord,
    Summary,
    SweepRecord,
    read,
    to_json,
)

RECORD_FILE = "record.json"
STUDY_FILE = "study.json"
SWEEP_FILE = "sweep.json"
METRICS_FILE = "metrics.jsonl"
PREDICTIONS_FILE = "predictions.safetensors"


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


def write_record(path: Path, record: RunRecord | StudyRecord | SweepRecord) -> None:
    """Write a record, whole or not at all."""
    write_text(path, to_json(record, indent=1) + "\n")


def write_metrics(path: Path, epochs: Sequence[EpochScores]) -> None:
    """Write metrics.jsonl, a line an epoch, whole or not at all."""
    write_text(path, "".join(to_json(epoch) + "\n" for epoch in epochs))


def read_run_record(path: Path) -> RunRecord:
    """Read a run's record.json.

    Raises:
        RunError: It is not there, or not a record.
    """
    return read(path, RunRecord)


def read_study_record(path: Path) -> StudyRecord:
    """Read a study's record.

    Raises:
        RunError: It is not there, or not a record.
    """
    return read(path, StudyRecord)


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


def environment() -> Environment:
    """Return the versions and the machine."""
    import torch

    packages = {}
    for name in ("lenet", "torch", "numpy", "safetensors"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "not installed"
    packages["torch"] = str(torch.__version__)
    return Environment(
        python=platform.python_version(),
        packages=packages,
        system=f"{platform.system()} {platform.machine()}",
        cpu=_cpu_name(),
        num_cores=os.cpu_count(),
        num_threads=torch.get_num_threads(),
        cuda=tuple(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())),
        commit=_commit(),
    )


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _commit() -> str | None:
    """Return the commit of the checkout the package runs from, "+" if it was changed since."""
    folder = Path(__file__).resolve().parents[3]
    if not (folder / ".git").exists():
        return None
    describe = ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"]
    try:
        done = subprocess.run(
            describe, cwd=folder, capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def command_line() -> str:
    """Return the command that started this process, as one would type it."""
    return shlex.join(["lenet", *sys.argv[1:]])
