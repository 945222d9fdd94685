"""Training and inference speed of this machine's engines, measured in turns.

Contestants are prepared and warmed up, then run one after the other within each round, so that a
busy machine slows all alike; medians over rounds are compared. Preparing (reading data, compiling,
exporting) is not timed. A contestant that can't run here says why and is left out.
"""

import gc
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import torch

from lenet.bench.contestants import (
    MATRIX_SIZE,
    Contestants,
    Prepared,
    Setup,
    prepare_gradients,
    prepare_inference,
    prepare_matrix,
    prepare_training,
)
from lenet.data.digits import Digits, load
from lenet.parallel import num_cores
from lenet.schema import Environment
from lenet.training.finish import environment

FLOP_PER_IMAGE = 2 * (2 * 416_520 + 298_920)
"""Forward and backward: 416,520 multiply-adds each for outputs and for weight gradients, and the
same less C1's 117,600 for input gradients, two operations each."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """One contestant in one discipline."""

    discipline: str
    """"train", "gradients" (no optimizer, batch 64) or "infer B" with B images at a time."""
    name: str
    images_per_s: float
    """Median over rounds."""
    slowest: float
    fastest: float
    ratio: float
    """The native engine's median over this one; the torch engine's where there is no native."""


@dataclass(frozen=True, kw_only=True)
class BenchRecord:
    """What `lenet bench` measured."""

    results: tuple[Result, ...]
    left_out: dict[str, str]
    """Contestant to the reason that it did not run."""
    matrix_gflops: float
    """Median speed of a float32 matrix product of 1024 x 1024 with as many threads."""
    share_of_matrix_peak: float | None
    """Speed of the native engine's gradients as a share of it."""
    num_images: int
    batch_size: int
    num_threads: int
    rounds: int
    environment: Environment


def run_bench(
    *,
    num_images: int = 6000,
    batch_size: int = 32,
    num_threads: int = 0,
    rounds: int = 5,
    data_dir: Path | None = None,
    on_round: Callable[[int], None] | None = None,
    more: Callable[[Setup], Contestants] = lambda setup: {},
) -> BenchRecord:
    """Measure every contestant that can run here.

    Args:
        num_images: Training images of one timed pass, at most 60,000.
        batch_size: Of the training discipline.
        num_threads: For every contestant; 0 for one a core.
        rounds: How often each takes its turn.
        data_dir: As for `lenet.data.load`.
        on_round: Called as each round begins, 1 first.
        more: Prepares further contestants, which take their turns among these.
    """
    num_threads = num_threads or num_cores()
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    digits = _cut(load("mnist", "train", data_dir=data_dir), num_images)
    scored = _cut(load("mnist", "test", data_dir=data_dir), max(1, num_images // 6))
    left_out: dict[str, str] = {}
    contestants: dict[tuple[str, str], tuple[Prepared, int]] = {}
    with tempfile.TemporaryDirectory() as work:
        setup = Setup(
            digits=digits,
            scored=scored,
            batch_size=batch_size,
            num_threads=num_threads,
            work=Path(work),
            left_out=left_out,
        )
        for prepare in (prepare_training, more, prepare_gradients, prepare_inference):
            contestants |= prepare(setup)
        contestants["matrix", "torch"] = prepare_matrix()
        for run, _ in contestants.values():
            run()
        gc.collect()
        gc.freeze()  # else every contestant pays for walking what preparing left behind
        seconds: dict[tuple[str, str], list[float]] = {key: [] for key in contestants}
        for number in range(1, rounds + 1):
            if on_round is not None:
                on_round(number)
            for key, (run, _) in contestants.items():
                start = time.perf_counter()
                run()
                seconds[key].append(time.perf_counter() - start)
    gc.unfreeze()
    torch.set_num_threads(before)
    speeds = {key: [contestants[key][1] / s for s in values] for key, values in seconds.items()}
    matrix = median(speeds.pop(("matrix", "torch"))) * 2 * MATRIX_SIZE**3 / 1e9
    gradients = speeds.get(("gradients", "native"))
    return BenchRecord(
        results=_compare(speeds),
        left_out=left_out,
        matrix_gflops=matrix,
        share_of_matrix_peak=(
            median(gradients) * FLOP_PER_IMAGE / 1e9 / matrix if gradients else None
        ),
        num_images=len(digits),
        batch_size=batch_size,
        num_threads=num_threads,
        rounds=rounds,
        environment=environment(),
    )


def _compare(speeds: dict[tuple[str, str], list[float]]) -> tuple[Result, ...]:
    results = []
    for (discipline, name), values in speeds.items():
        base = speeds.get((discipline, "native")) or speeds[discipline, "torch"]
        results.append(
            Result(
                discipline=discipline,
                name=name,
                images_per_s=median(values),
                slowest=min(values),
                fastest=max(values),
                ratio=median(base) / median(values),
            )
        )
    return tuple(results)


def _cut(digits: Digits, num_images: int) -> Digits:
    return replace(digits, images=digits.images[:num_images], labels=digits.labels[:num_images])
