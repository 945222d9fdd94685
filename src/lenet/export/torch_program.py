"""A `torch.export` program: the graph and its weights in one file, without this package's code."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lenet.data.digits import to_input
from lenet.export.artifact import Artifact, Settings, as_strings
from lenet.export.parity import Predict
from lenet.export.source import Source


def write(source: Source, path: Path, settings: Settings) -> Artifact:
    """Write `path`: takes (batch, 1, 28, 28), any batch size."""
    x = torch.zeros(2, 1, 28, 28)
    with _quiet():
        program = torch.export.export(
            source.model, (x,), dynamic_shapes={"x": {0: torch.export.Dim("batch")}}
        )
    for node in program.graph.nodes:
        # The folders of the machine that exported are nobody's business.
        node.meta.pop("stack_trace", None)

    def save(facts: Mapping[str, Any]) -> None:
        with _quiet():
            torch.export.save(program, path, extra_files=as_strings(facts))

    save({})
    return Artifact(open=lambda: _open(path), annotate=save)


def _open(path: Path) -> Predict:
    with _quiet():
        module = torch.export.load(path).module()

    def predict(images: Tensor) -> Tensor:
        logits: Tensor = module(to_input(images))
        return logits

    return predict


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence torch's use of its own deprecated names."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*LeafSpec.*deprecated", FutureWarning)
        yield
