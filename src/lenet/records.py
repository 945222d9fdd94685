"""What a run or a study leaves behind, as JSON, and the machine it ran on."""

# Over 300 lines: what is written, and the checks of it as it is read, side by side.

import json
import math
import os
import platform
import re
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, get_args

from lenet.errors import RunError
from lenet.evaluation import Scores
from lenet.files import write_text
from lenet.recipes import from_dict

RECORD_FILE = "record.json"
STUDY_FILE = "study.json"
SWEEP_FILE = "sweep.json"
METRICS_FILE = "metrics.jsonl"
PREDICTIONS_FILE = "predictions.safetensors"


@dataclass(frozen=True, kw_only=True)
class EpochScores:
    """One epoch of a run: a line of metrics.jsonl.

    The training figures are running ones: each batch is scored before the step it causes, so
    they cost no second pass and lag a little behind the model as it is at the epoch's end.
    """

    epoch: int
    """1 for the first."""
    train_loss: float
    """Mean cross-entropy in nats, unsmoothed even where smoothed labels are learned."""
    train_accuracy: float
    val_loss: float | None = None
    val_accuracy: float | None = None
    test_loss: float | None = None
    """Only in recipes that score the test images each epoch."""
    test_accuracy: float | None = None
    lr: float
    """Learning rate of the epoch's last step."""
    duration_s: float
    images_per_s: float
    """Training images a second, scoring of the val split excluded."""


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One recipe, one seed: what was run, where, and what came out."""

    recipe_name: str
    recipe: dict[str, Any]
    seed: int
    train_accuracy: float
    """Of the finished model on every training image, in one pass after the last epoch, 0..1."""
    train_loss: float
    test_accuracy: float
    """Of the finished model on every test image, 0..1."""
    test_loss: float
    val_accuracy: float | None
    val_loss: float | None
    num_parameters: int
    num_train_images: int
    epochs: tuple[EpochScores, ...]
    scores: dict[str, dict[str, Any]]
    """Per split, the fields of `lenet.evaluation.Scores`."""
    training_s: float
    """Sum over epochs, its teachers' included and the scoring of each; no downloads or figures."""
    num_sessions: int
    """1, or more where the run was stopped and resumed."""
    device: str
    engine: str
    """"native" (compiled kernels) or "torch"."""
    data_sha256: dict[str, str]
    environment: dict[str, Any]
    command: str
    test_wrong: tuple[int, ...] | None = None
    """Places of the test images that the finished model misreads; None in older records."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One figure over seeds."""

    n: int
    mean: float
    std: float
    """Sample standard deviation; 0 for one seed."""
    low: float
    """Lower end of the 95 % interval of the mean (Student's t)."""
    high: float
    min: float
    max: float


@dataclass(frozen=True, kw_only=True)
class StudyRecord:
    """One recipe, many seeds."""

    recipe_name: str
    recipe: dict[str, Any]
    seeds: tuple[int, ...]
    summary: dict[str, Summary]
    """`train_accuracy`, `test_accuracy`, `test_loss`, `training_s`, ..."""
    runs: tuple[dict[str, Any], ...]
    """Per seed, the same figures."""
    environment: dict[str, Any]
    command: str
    test_images: Summary | None = None
    """Over test images, the share of runs that read each one right: its mean is that of
    `test_accuracy`, its interval says how far other images might move it. None in older records."""


@dataclass(frozen=True, kw_only=True)
class SweepPoint:
    """One setting of a sweep."""

    values: dict[str, Any]
    """By field of the recipe."""
    summary: dict[str, Summary]
    """Over the seeds that were trained to the end; figures of the test images are left out."""
    runs: tuple[dict[str, Any], ...]
    """Per seed, the same figures."""
    failed: dict[str, str]
    """Why seeds failed, by seed."""


@dataclass(frozen=True, kw_only=True)
class SweepRecord:
    """One recipe under several settings, compared on the validation images."""

    recipe_name: str
    recipe: dict[str, Any]
    fields: tuple[str, ...]
    """What was varied."""
    seeds: tuple[int, ...]
    points: tuple[SweepPoint, ...]
    best: int | None
    """Place of the point of the highest mean validation accuracy; None where all failed."""
    sentence: str
    """What the sweep says."""
    environment: dict[str, Any]
    command: str


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


def summarize(values: Sequence[float]) -> Summary:
    """Return mean, spread and the 95 % interval of the mean over seeds."""
    n, mean = len(values), fmean(values)
    std = stdev(values) if n > 1 else 0.0
    half = student_t_95(n - 1) * std / math.sqrt(n) if n > 1 else math.nan
    return Summary(
        n=n, mean=mean, std=std, low=mean - half, high=mean + half, min=min(values), max=max(values)
    )


def to_json(record: Any) -> str:
    """Return a dataclass as JSON text; a NaN becomes null, which JSON can say."""
    text = json.dumps(_plain(asdict(record)), indent=1, ensure_ascii=True)
    # Lists of whole numbers in a line each; no string of JSON holds a line's end.
    return re.sub(r"\[\n[\s\d,]+\]", lambda m: f"[{' '.join(m[0][1:-1].split())}]", text) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_record(path: Path, record: RunRecord | StudyRecord | SweepRecord) -> None:
    """Write a record, whole or not at all."""
    write_text(path, to_json(record))


def write_metrics(path: Path, epochs: Sequence[EpochScores]) -> None:
    """Write metrics.jsonl, a line an epoch, whole or not at all."""
    write_text(path, "".join(json.dumps(asdict(epoch)) + "\n" for epoch in epochs))


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        RunError: It can't be read, or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path}: expected JSON, found: {error}") from None


def read_run_record(path: Path) -> RunRecord:
    """Read a run's record.json.

    Raises:
        RunError: It is not there, or not a record of this version.
    """
    values = read_json(path)
    try:
        epochs = tuple(EpochScores(**epoch) for epoch in values["epochs"])
        wrong = _read_places(values.get("test_wrong"))
        record = RunRecord(**{**values, "epochs": epochs, "test_wrong": wrong})
        from_dict(record.recipe, source=str(path))
        for split in {"train", "test", *record.scores}:
            scores = Scores(**record.scores[split])
            _check_numbers(scores)
            if not all(isinstance(n, int) for row in scores.confusion for n in row):
                raise TypeError("`confusion` holds something other than whole numbers")
        if not epochs:
            raise KeyError("epochs")
        for item in (record, *epochs):
            _check_numbers(item)
        return record
    except (TypeError, KeyError, AttributeError) as error:
        raise RunError(f"{path}: not a run record of this version of lenet ({error})") from None


def _read_places(values: Any) -> tuple[int, ...] | None:
    if values is None:
        return None
    if not isinstance(values, list) or not all(type(place) is int for place in values):
        raise TypeError("`test_wrong` holds something other than whole numbers")
    return tuple(values)


def _check_numbers(record: Any) -> None:
    for f in fields(record):
        kinds, value = get_args(f.type) or (f.type,), getattr(record, f.name)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        # JSON has no NaN: null stands for it.
        if {int, float} & set(kinds) and value is not None and not is_number:
            raise TypeError(f"`{f.name}` is {type(value).__name__}, expected a number")


def read_study_record(path: Path) -> StudyRecord:
    """Read a study's record.

    Raises:
        RunError: It is not there, or not a record of this version.
    """
    values = read_json(path)
    try:
        summary = {name: Summary(**item) for name, item in values["summary"].items()}
        images = values.get("test_images")
        return StudyRecord(
            **{
                **values,
                "summary": summary,
                "test_images": None if images is None else Summary(**images),
                "seeds": tuple(values["seeds"]),
                "runs": tuple(values["runs"]),
            }
        )
    except (TypeError, KeyError, AttributeError) as error:
        raise RunError(f"{path}: not a study record of this version of lenet ({error})") from None


def summarize_runs(runs: Sequence[Mapping[str, Any]]) -> dict[str, Summary]:
    """Summarize each numeric figure that all runs have, the seed left out."""
    names = [name for name in runs[0] if name != "seed"]
    return {
        name: summarize([run[name] for run in runs])
        for name in names
        if all(isinstance(run[name], int | float) for run in runs)
    }


def summarize_images(wrong: Sequence[Sequence[int]], num_images: int) -> Summary:
    """Summarize over images the share of runs that read each right.

    Args:
        wrong: For each run, the places of the images that it misreads.
        num_images: How many images there are.

    Example:
        >>> round(summarize_images([[0], [0, 2]], 4).mean, 3)  # shares right: 0, 1, 1/2, 1
        0.625
    """
    misread = Counter(place for places in wrong for place in places)
    return summarize([1 - misread[place] / len(wrong) for place in range(num_images)])


def run_figures(record: RunRecord) -> dict[str, Any]:
    """Return the figures of a run that a study keeps, as they are in JSON."""
    kept = {
        "seed", "train_accuracy", "train_loss", "test_accuracy", "test_loss",
        "val_accuracy", "val_loss", "training_s", "test_wrong",
    }  # fmt: skip
    figures = {f.name: getattr(record, f.name) for f in fields(record) if f.name in kept}
    return {k: list(v) if isinstance(v, tuple) else v for k, v in figures.items()}


def environment() -> dict[str, Any]:
    """Return the versions and the machine, for a record: plain values, nothing personal."""
    import torch

    packages = {}
    for name in ("lenet", "torch", "numpy", "safetensors"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "not installed"
    packages["torch"] = torch.__version__
    return {
        "python": platform.python_version(),
        "packages": packages,
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_name(),
        "num_cores": os.cpu_count(),
        "num_threads": torch.get_num_threads(),
        "cuda": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "commit": _commit(),
    }


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
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return None
    git = ["git", "-C", str(folder)]
    try:
        head = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=True
        ).stdout.strip()
        status = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no"],
            capture_output=True, text=True, timeout=5, check=True,
        ).stdout  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return head + ("+" if status else "")


def command_line() -> str:
    """Return the command that started this process, as one would type it."""
    return shlex.join(["lenet", *sys.argv[1:]])
