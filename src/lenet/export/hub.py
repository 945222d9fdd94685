"""A folder for the Hugging Face Hub: the model file, its configuration and a model card."""

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from lenet.export.parity import Measured, Predict, Settings, Source, predictor, save_and_compare
from lenet.models.files import MODEL_FILE, load_model


def write(source: Source, path: Path, settings: Settings) -> Measured:
    """Write the folder `path`.

    `load_model` reads it, and so does `huggingface_hub`: config.json holds the network's arguments,
    and the tensors have the names of its parameters.
    """
    template = Environment(undefined=StrictUndefined, trim_blocks=True).from_string(
        (files("lenet.export") / "hub.md.j2").read_text(encoding="utf-8")
    )

    def save(facts: Mapping[str, Any]) -> None:
        path.mkdir(exist_ok=True)
        (path / MODEL_FILE).write_bytes(source.file)
        config = {**source.card.config, "model_type": source.card.model}
        (path / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        text = template.render(
            card=source.card,
            network=type(source.model).__name__,
            num_parameters=sum(p.numel() for p in source.model.parameters()),
            parity=facts.get("parity"),
        )
        (path / "README.md").write_text(text, encoding="utf-8")

    def load() -> Predict:
        return predictor(load_model(path)[0])

    return save_and_compare(source, save, load, details={})
