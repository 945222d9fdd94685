"""What every exporter is given and what it returns."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lenet.errors import ExportError
from lenet.export.parity import Predict
from lenet.export.source import Source


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What may be chosen of an export."""

    c_type: Literal["float", "int8"] = "float"
    """What the C code computes with."""
    min_agreement: float = 0.999
    """Smallest share of equal labels that a quantized export is kept with."""
    opset: int = 18
    """Version of the ONNX operators, for onnx and triton."""
    with_1998: Path | None = None
    """Run directory or model file of a 1998 network, which the page shows beside the first."""

    def __post_init__(self) -> None:
        """Check the range."""
        if not 0 <= self.min_agreement <= 1:
            raise ExportError(f"`min_agreement` (={self.min_agreement}) must be between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """What an exporter has written, to be compared, annotated and kept."""

    open: Callable[[], Predict]
    """Loads what is on the disk now."""
    annotate: Callable[[Mapping[str, Any]], None]
    """Writes facts (plain values) into it."""
    quantized: bool = False
    """Rounded to 8 bits, so held to most of the source's labels instead of all."""
    details: dict[str, Any] = field(default_factory=dict)
    """What the record says of this kind alone."""


@dataclass(frozen=True, kw_only=True)
class Exporter:
    """One kind of export."""

    default_name: str
    """Of the file or folder, beside the model file."""
    write: Callable[[Source, Path, Settings], Artifact]
    """Writes to the path (a folder if `is_folder`, which exists), and beside it nothing but
    files of the same stem."""
    suffix: str = ""
    """That the name must have; a folder's is free."""
    is_folder: bool = False
    packages: tuple[str, ...] = ()
    """That must be there, from the extra `onnx`."""
    companions: tuple[str, ...] = ()
    """Suffixes of further files that are written beside the first."""


def as_strings(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return facts as a file's metadata holds them: strings as they are, all else as JSON."""
    return {
        key: value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        for key, value in facts.items()
    }
