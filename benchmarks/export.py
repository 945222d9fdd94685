"""Every export of one model: its size, and how near its source it is on the 10,000 test images.

Run: `.venv/bin/python benchmarks/export.py [--run RUN] [--record]`

Trains `default` if no run is named, and exports it in every format; `lenet export` itself compares
each with its source. Tests compile the C code with sanitizers, by each compiler that is here.
"""

import subprocess
import tempfile
from pathlib import Path
from typing import Any

from harness import LENET, lenet, main

FORMATS: dict[str, tuple[str, ...]] = {
    "onnx": ("model.onnx",),
    "torch": ("model.pt2",),
    "int8": ("model.int8.onnx",),
    "html": ("model.html",),
    "c, float": ("lenet5.c",),
    "c, int8": ("lenet5_int8.c", "--c-type", "int8"),
    "triton": ("triton",),
}


def export(run: Path | None = None, epochs: int = 15, min_agreement: float = 0.999) -> Any:
    """Export a run in every format.

    Args:
        run: A finished run; one is trained if it is left out.
        epochs: Of that training.
        min_agreement: Share of labels that a format of 8 bits must keep.
    """
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        if run is None:
            run = folder / "run"
            train = ["train", "--quiet", "--epochs", str(epochs), "--out", str(run)]
            subprocess.run([*LENET, *train], check=True, stdout=subprocess.DEVNULL)
        exports = {}
        for name, (file, *flags) in FORMATS.items():
            to = name.partition(",")[0]
            more = [*flags, "--min-agreement", min_agreement]
            record = lenet("export", run, "--to", to, "--out", folder / file, *more)
            exports[name] = {key: record[key] for key in ("num_bytes", "parity", "details")}
        source = record["source"]
        size = (run / "model.safetensors").stat().st_size
    return {"source": source, "source_bytes": size, "exports": exports}


if __name__ == "__main__":
    main("export", export)
