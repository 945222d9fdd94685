"""What a finished run leaves: its model, its predictions on the test images, and its record."""

import os
import platform
import shlex
import subprocess
import sys
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file
from torch import Tensor

from lenet import __version__
from lenet.files import replacing
from lenet.models.files import MODEL_FILE, save_model
from lenet.results.scores import compute_logits, fit_temperature, score_logits
from lenet.schema import (
    PREDICTIONS_FILE,
    RECORD_FILE,
    CardScores,
    Environment,
    ModelCard,
    RunRecord,
    write,
)
from lenet.training.learners import TorchLearner
from lenet.training.run import Progress, Run

if TYPE_CHECKING:
    from lenet.models import Network
    from lenet.training.loop import Splits

MIN_CALIBRATION = 1000
"""Images that a temperature is fitted on, at least: on 20, it can be off by a factor of 9."""


def write_results(
    run: Run, learner: TorchLearner, splits: "Splits", progress: Progress, device: torch.device
) -> RunRecord:
    """Score a finished model, once, and write its files; the record comes last."""
    model: Network = learner.result  # type: ignore[assignment]  # a recipe's
    classes = splits.train.classes
    has_garbage = model.num_classes > len(classes)

    def logits_of(images: Tensor) -> Tensor:
        logits = compute_logits(learner.logits, images, device=device, takes_bytes=True)
        return logits[:, :-1] - logits[:, -1:] if has_garbage else logits

    # The test images calibrate nothing, and neither does a handful of pictures: without enough
    # others, the temperature stays that of the model the run began with.
    temperature = run.start_temperature()
    held_out = splits.calibration
    if held_out is not None and len(held_out) >= MIN_CALIBRATION:
        temperature = fit_temperature(logits_of(held_out.images), held_out.labels)

    scores = {}
    for digits in (splits.train, splits.val, splits.test):
        if digits is not None:
            logits = logits_of(digits.images)
            scores[digits.split] = score_logits(logits, digits.labels, split=digits.split)
    # The test split came last: these are its logits.
    wrong = (logits.argmax(1) != splits.test.labels).nonzero().flatten().tolist()
    with replacing(run.path / PREDICTIONS_FILE) as temporary:
        save_file({"logits": logits, "labels": splits.test.labels}, temporary)

    if has_garbage:
        from lenet.training.line_learner import fold_garbage

        model = fold_garbage(model)
    recipe = asdict(run.recipe)
    accuracies = {f"{split}_accuracy": score.accuracy for split, score in scores.items()}
    card = ModelCard(
        model=run.recipe.model,
        config=model.config(),
        classes=classes,
        dataset=run.recipe.dataset,
        recipe_name=run.recipe_name,
        recipe=recipe,
        seed=run.seed,
        epochs=len(progress.epochs),
        images=run.images,
        has_garbage=has_garbage,
        scores=CardScores(**accuracies, temperature=temperature),
        lenet_version=__version__,
    )
    save_model(run.path / MODEL_FILE, model, card)

    val = scores.get("val")
    record = RunRecord(
        recipe_name=run.recipe_name,
        recipe=recipe,
        seed=run.seed,
        train_accuracy=scores["train"].accuracy,
        train_loss=scores["train"].loss,
        test_accuracy=scores["test"].accuracy,
        test_loss=scores["test"].loss,
        val_accuracy=None if val is None else val.accuracy,
        val_loss=None if val is None else val.loss,
        num_parameters=sum(p.numel() for p in model.parameters()),
        num_train_images=len(splits.train),
        epochs=tuple(progress.epochs),
        scores=scores,
        training_s=sum(epoch.duration_s for epoch in progress.epochs),
        num_sessions=progress.num_sessions,
        device=describe_device(device, run.world_size),
        engine=learner.engine,
        data_sha256=splits.sha256,
        environment=environment(),
        command=command_line(),
        test_wrong=tuple(wrong),
        images=run.images,
        start=run.start,
    )
    write(run.path / RECORD_FILE, record)
    return record


def describe_device(device: torch.device, num_processes: int = 1) -> str:
    """Return a name for people and records, such as "cuda (NVIDIA A100)"."""
    name = str(device)
    if device.type == "cuda":
        name += f" ({torch.cuda.get_device_name(device)})"
    return name if num_processes == 1 else f"{name}, {num_processes} processes"


def environment() -> Environment:
    """Return the versions and the machine."""
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
