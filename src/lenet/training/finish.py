"""What a finished run leaves: its model, its predictions on the test images, and its record."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file
from torch import Tensor

from lenet import __version__
from lenet.files import replacing
from lenet.models.files import MODEL_FILE, save_model
from lenet.results.records import (
    PREDICTIONS_FILE,
    RECORD_FILE,
    command_line,
    environment,
    write_record,
)
from lenet.results.scores import compute_logits, fit_temperature, score_logits
from lenet.schema import CardScores, ModelCard, RunRecord
from lenet.training.device import describe_device
from lenet.training.learners import TorchLearner
from lenet.training.run import Progress, Run
from lenet.training.splits import Splits

if TYPE_CHECKING:
    from lenet.models import Network

MIN_CALIBRATION = 1000
"""Images that a temperature is fitted on, at least: on 20, it can be off by a factor of 9."""


def write_results(
    run: Run, learner: TorchLearner, splits: Splits, progress: Progress, device: torch.device
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
    write_record(run.path / RECORD_FILE, record)
    return record
