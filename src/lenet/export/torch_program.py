"""A `torch.export` program: the graph and its weights in one file, without this package's code."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lenet.export.parity import (
    Measured,
    Predict,
    Settings,
    Source,
    as_strings,
    predictor,
    save_and_compare,
)


def write(source: Source, path: Path, settings: Settings) -> Measured:
    """Write `path`: takes (batch, 1, 28, 28), any batch size."""

    def save(facts: Mapping[str, Any]) -> None:
        torch.export.save(program, path, extra_files=as_strings(facts))

    def load() -> Predict:
        return predictor(torch.export.load(path).module())

    with warnings.catch_warnings():
        # torch's own use of its own deprecated names.
        warnings.filterwarnings("ignore", ".*LeafSpec.*deprecated", FutureWarning)
        batch = torch.export.Dim("batch")
        program = torch.export.export(
            source.model, (torch.zeros(2, 1, 28, 28),), dynamic_shapes={"x": {0: batch}}
        )
        for node in program.graph.nodes:
            node.meta.pop("stack_trace", None)  # names folders of this machine
        return save_and_compare(source, save, load, details={})
