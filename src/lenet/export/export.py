"""Write an export, run it, compare it with its source, and only then keep it."""

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from lenet.data.datasets import Progress
from lenet.errors import ExportError, LeNetError, install_hint
from lenet.export import (
    c_code,
    html_page,
    int8,
    onnx_graph,
    torch_program,
    triton,
)
from lenet.export.artifact import Artifact, Exporter, Settings
from lenet.export.parity import Parity, compare, require_close, require_equal
from lenet.export.placing import check_target, record_path, staging
from lenet.export.source import Source, describe, read_source
from lenet.models.files import find_model
from lenet.results.records import command_line, environment
from lenet.schema import Environment, to_json

ONNX_PACKAGES = ("onnx", "onnxruntime", "onnxscript")

EXPORTERS: dict[str, Exporter] = {
    "onnx": Exporter(
        default_name="model.onnx",
        suffix=".onnx",
        write=onnx_graph.write,
        packages=ONNX_PACKAGES,
    ),
    "torch": Exporter(default_name="model.pt2", suffix=".pt2", write=torch_program.write),
    "int8": Exporter(
        default_name="model.int8.onnx",
        suffix=".onnx",
        write=int8.write,
        packages=ONNX_PACKAGES,
    ),
    "html": Exporter(default_name="model.html", suffix=".html", write=html_page.write),
    "c": Exporter(default_name="lenet5.c", suffix=".c", companions=(".h",), write=c_code.write),
    "triton": Exporter(
        default_name="triton", is_folder=True, write=triton.write, packages=ONNX_PACKAGES
    ),
}


@dataclass(frozen=True, kw_only=True)
class ExportRecord:
    """What was exported, and how near it is to its source."""

    kind: str
    """Key of `EXPORTERS`."""
    path: str
    """The file or folder, as named."""
    files: dict[str, dict[str, Any]]
    """Of each file, relative to the folder that holds `path`: `num_bytes` and `sha256`."""
    num_bytes: int
    """Of all of them, this record left out."""
    parity: Parity
    details: dict[str, Any]
    """What is said of this kind alone."""
    source: dict[str, Any]
    environment: Environment
    command: str
    format: int = 1


def export_model(
    model: Path,
    kind: str,
    *,
    out: Path | None = None,
    overwrite: bool = False,
    settings: Settings | None = None,
    data_dir: Path | None = None,
    progress: Progress | None = None,
) -> ExportRecord:
    """Export a model, compared with its source on the test images of its data set.

    Args:
        model: Run directory or model file.
        kind: Key of `EXPORTERS`.
        out: File (or folder, for some kinds) to write; beside the model file by default.
        overwrite: Take the place of what is there, if an export wrote it.
        settings: What may be chosen; all defaults if None.
        data_dir: A folder that holds the data set's files; see `lenet.data.fetch`.
        progress: Told what is being fetched.

    Returns:
        The record, which also lies in a JSON file beside the export (in it, if it is a folder).

    Raises:
        ExportError: The export can't be made, or differs from its source; then nothing is left.
        CheckpointError: `model` is none.
        DownloadError: The data set can't be had.
    """
    if kind not in EXPORTERS:
        raise ExportError(f"`kind` (={kind!r}) must be one of {', '.join(EXPORTERS)}")
    exporter, settings = EXPORTERS[kind], settings or Settings()
    target = out or find_model(model).parent / exporter.default_name
    check_target(target, exporter, overwrite=overwrite)
    _require_packages(kind, exporter)
    source = read_source(model, data_dir=data_dir, progress=progress)
    try:
        with staging(target, exporter) as staged:
            artifact = exporter.write(source, staged, settings)
            parity = _verify(source, artifact, settings)
            found = dict(_hash_files(staged.parent))
            record = ExportRecord(
                kind=kind,
                path=str(target),
                files=found,
                num_bytes=sum(item["num_bytes"] for item in found.values()),
                parity=parity,
                details=artifact.details,
                source=describe(source),
                environment=environment(),
                command=command_line(),
            )
            text = to_json(record, indent=1) + "\n"
            record_path(staged, exporter).write_text(text, encoding="utf-8")
    except LeNetError:
        raise
    except (OSError, RuntimeError) as error:  # a full disk; an exporter that can't
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ExportError(f"{target}: {kind} failed: {reason}; no file was left") from error
    return record


def _require_packages(kind: str, exporter: Exporter) -> None:
    for name in exporter.packages:
        try:
            import_module(name)
        except ImportError:
            raise ExportError(f"--to {kind} needs {name}: {install_hint('onnx')}") from None


def _verify(source: Source, artifact: Artifact, settings: Settings) -> Parity:
    """Run what was written, write the figures into it, and run what will be kept."""
    parity = _compare(source, artifact, settings)
    artifact.annotate({**describe(source), **artifact.details, "parity": asdict(parity)})
    if _compare(source, artifact, settings) != parity:
        raise ExportError("the export changed its answers when its metadata was written")
    return parity


def _compare(source: Source, artifact: Artifact, settings: Settings) -> Parity:
    parity = compare(source, artifact.open())
    if artifact.quantized:
        require_close(parity, settings.min_agreement)
    else:
        require_equal(parity)
    return parity


def _hash_files(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            name = path.relative_to(folder).as_posix()
            yield (
                name,
                {
                    "num_bytes": len(content),
                    "sha256": hashlib.sha256(content).hexdigest(),
                },
            )
