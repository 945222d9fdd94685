"""Export a model: write it in a temporary folder, compare it there, then move it into place."""

import hashlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from lenet.data.datasets import Progress
from lenet.errors import ExportError, LeNetError, install_hint
from lenet.export import c_code, html_page, hub, int8, onnx_graph, torch_program, triton
from lenet.export.parity import Measured, Parity, Settings, Source, read_source
from lenet.files import TEMPORARY_SUFFIX
from lenet.models.files import find_model
from lenet.schema import Environment, to_json
from lenet.training.finish import command_line, environment


@dataclass(frozen=True)
class Format:
    """One format, and the function that writes it."""

    default_name: str
    """File name beside the model file; a name without a suffix is a folder's."""
    write: Callable[[Source, Path, Settings], Measured]
    """Writes to a path and compares what it wrote; raises ExportError if that differs."""
    needs_onnx: bool = False

    @property
    def suffix(self) -> str:
        """Suffix that the file name must have; empty for a folder."""
        return Path(self.default_name).suffix


FORMATS = {
    "onnx": Format("model.onnx", onnx_graph.write, needs_onnx=True),
    "torch": Format("model.pt2", torch_program.write),
    "int8": Format("model.int8.onnx", int8.write, needs_onnx=True),
    "html": Format("model.html", html_page.write),
    "c": Format("lenet5.c", c_code.write),
    "triton": Format("triton", triton.write, needs_onnx=True),
    "hub": Format("hub", hub.write),
}


@dataclass(frozen=True, kw_only=True)
class ExportRecord:
    """What was exported, and how it compares with its source."""

    kind: str
    """Key of `FORMATS`."""
    path: str
    """The file or folder."""
    files: dict[str, dict[str, Any]]
    """`num_bytes` and `sha256` of each file, by its path relative to the folder of `path`."""
    num_bytes: int
    """Sum over the files, without this record."""
    parity: Parity
    details: dict[str, Any]
    """Facts that only this format has."""
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
        kind: Key of `FORMATS`.
        out: File (for triton and hub, folder) to write; beside the model file by default.
        overwrite: Replace an earlier export.
        settings: Options; all defaults if None.
        data_dir: A folder that holds the data set's files; see `lenet.data.fetch`.
        progress: Called during downloads.

    Returns:
        The record, which is also written as JSON beside the export (inside, if it is a folder).

    Raises:
        ExportError: The export can't be made, or differs from its source; then nothing is left.
        CheckpointError: `model` is not a model.
        DownloadError: The data set can't be downloaded.
    """
    if kind not in FORMATS:
        raise ExportError(f"`kind` (={kind!r}) must be one of {', '.join(FORMATS)}")
    chosen = FORMATS[kind]
    target = out or find_model(model).parent / chosen.default_name
    _check_target(target, chosen.suffix, overwrite=overwrite)
    for package in ("onnx", "onnxruntime", "onnxscript") if chosen.needs_onnx else ():
        try:
            import_module(package)
        except ImportError:
            raise ExportError(f"--to {kind} needs {package}: {install_hint('onnx')}") from None
    source = read_source(model, data_dir=data_dir, progress=progress)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Beside the target, since only a move within one disk is atomic.
        with tempfile.TemporaryDirectory(
            prefix=f".{target.name}.",
            suffix=TEMPORARY_SUFFIX,
            dir=target.parent,
            ignore_cleanup_errors=True,
        ) as folder:
            staged = Path(folder) / target.name
            measured = chosen.write(source, staged, settings or Settings())
            files = _hash_files(staged.parent)
            record = ExportRecord(
                kind=kind,
                path=str(target),
                files=files,
                num_bytes=sum(file["num_bytes"] for file in files.values()),
                parity=measured.parity,
                details=measured.details,
                source=source.describe(),
                environment=environment(),
                command=command_line(),
            )
            text = to_json(record, indent=1) + "\n"
            _paths(staged, chosen.suffix)[-1].write_text(text, encoding="utf-8")
            _move_into_place(staged, target, chosen.suffix)
    except LeNetError:
        raise
    except (OSError, RuntimeError) as error:  # a full disk; a network that torch can't export
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ExportError(f"{target}: {kind} failed: {reason}; no file was left") from error
    return record


def _paths(target: Path, suffix: str) -> list[Path]:
    """Return the paths of an export: the target first, its record last."""
    if not suffix:
        return [target, target / "export.json"]
    headers = [target.with_suffix(".h")] if suffix == ".c" else []
    return [target, *headers, target.with_name(target.name + ".json")]


def _check_target(target: Path, suffix: str, *, overwrite: bool) -> None:
    """Refuse a target that can't be written or must not be replaced."""
    paths = _paths(target, suffix)
    if suffix:
        if target.suffix != suffix:
            raise ExportError(f"{target}: expected a file name that ends in {suffix}")
        for path in paths:
            if path.is_dir():
                raise ExportError(f"{path}: is a folder; this export is a file")
    elif target.is_file():
        raise ExportError(f"{target}: is a file; this export is a folder")
    elif target.exists() and not paths[-1].is_file():
        raise ExportError(f"{target}: this folder is not an export; name another")
    for path in paths:
        if path.exists() and not overwrite:
            raise ExportError(f"{path}: exists already; --overwrite replaces it")


def _move_into_place(staged: Path, target: Path, suffix: str) -> None:
    """Move the finished files to the target's folder, the record last."""
    for path in staged.parent.rglob("*"):
        if path.is_file():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
    if suffix:
        for path in _paths(staged, suffix):
            os.replace(path, target.with_name(path.name))
    elif not target.exists():
        staged.rename(target)
    else:  # a folder that is not empty can't be replaced: it goes with the temporary one
        old = target.rename(staged.with_name("replaced"))
        try:
            staged.rename(target)
        except OSError:
            old.rename(target)
            raise


def _hash_files(folder: Path) -> dict[str, dict[str, Any]]:
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            files[path.relative_to(folder).as_posix()] = {
                "num_bytes": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
            }
    return files
