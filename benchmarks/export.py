"""Every export of one model: its size, and how near its source it is on the 10,000 test images.

Run: `.venv/bin/python benchmarks/export.py [--run RUN] [--check-with PYTHON]`

Trains `default` if no run is named, exports it in every format (each is compared with its source by
`lenet export` itself), and then once more from outside: the C code compiled by each compiler that
is here, with sanitizers, reading the test images from a pipe; and with `--check-with`, an
interpreter that has mlflow and tritonclient, the MLflow model through `mlflow.pyfunc` and Triton's
configuration through Triton's own protocol buffer. Prints a line for each; then one line of JSON.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lenet.checkpoint import load_model
from lenet.data import load, to_input
from lenet.evaluation import compute_logits
from lenet.export import Settings, export_model
from lenet.records import environment

CASES = {
    "onnx": ("onnx", "float", "model.onnx"),
    "torch": ("torch", "float", "model.pt2"),
    "int8": ("int8", "float", "model.int8.onnx"),
    "html": ("html", "float", "model.html"),
    "c, float": ("c", "float", "lenet5.c"),
    "c, int8": ("c", "int8", "lenet5_int8.c"),
    "triton": ("triton", "float", "triton"),
    "mlflow": ("mlflow", "float", "mlflow"),
}
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined")

DRIVER = """\
#include <stdio.h>
#include "{stem}.h"
int main(void)
{{
    static struct {stem}_scratch scratch;
    uint8_t pixels[784];
    float logits[{num_classes}];
    while (fread(pixels, 1, sizeof pixels, stdin) == sizeof pixels) {{
        {stem}_run(pixels, logits, &scratch);
        fwrite(logits, sizeof logits, 1, stdout);
    }}
    return 0;
}}
"""

MLFLOW = """\
import sys, numpy, mlflow
found = mlflow.pyfunc.load_model(sys.argv[1]).predict(numpy.load(sys.argv[2]))
numpy.save(sys.argv[3], found["logits"])
print(mlflow.__version__)
"""

TRITON = """\
import sys, tritonclient
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2
config = text_format.Parse(open(sys.argv[1]).read(), model_config_pb2.ModelConfig())
assert config.platform == "onnxruntime_onnx" and config.HasField("dynamic_batching")
assert list(config.input[0].dims) == [1, 28, 28] and config.input[0].name == "x"
from importlib.metadata import version
print(version("tritonclient"))
"""


def compare(found: Tensor, logits: Tensor) -> dict[str, Any]:
    """Return how many labels differ, and the largest difference of logits."""
    return {
        "num_images": len(found),
        "num_labels_differ": int((found.argmax(1) != logits.argmax(1)).sum()),
        "largest_logit_difference": float((found - logits).abs().max()),
    }


def run_compiled(compiler: str, path: Path, images: Tensor, logits: Tensor) -> dict[str, Any]:
    """Compile C code with sanitizers, feed it the images and compare its logits."""
    num_classes = logits.shape[1]
    driver = path.with_name("driver.c")
    driver.write_text(DRIVER.format(stem=path.stem, num_classes=num_classes))
    program = path.with_name(f"{path.stem}-{compiler}")
    selftest = path.with_name(f"{path.stem}-{compiler}-selftest")
    build = [compiler, *STRICT, "-O1", str(path)]
    subprocess.run([*build, str(driver), "-o", str(program), "-lm"], check=True)
    subprocess.run([*build, "-DLENET_SELFTEST", "-o", str(selftest), "-lm"], check=True)
    done = subprocess.run(
        [program], input=images.numpy().tobytes(), capture_output=True, check=True
    )
    assert not done.stderr, done.stderr
    found = torch.from_numpy(np.frombuffer(done.stdout, np.float32).reshape(-1, num_classes).copy())
    passed = subprocess.run([selftest], capture_output=True, text=True, check=True).stdout
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True).stdout
    return {
        "compiler": version.splitlines()[0],
        "flags": " ".join(STRICT),
        "selftest": passed.strip(),
        **compare(found, logits),
    }


def check_outside(python: Path, folder: Path, images: Tensor, logits: Tensor) -> dict[str, Any]:
    """Read the MLflow model and Triton's configuration with their own libraries."""
    x, found = folder / "x.npy", folder / "logits.npy"
    np.save(x, to_input(images).numpy())
    done = subprocess.run(
        [python, "-c", MLFLOW, folder / "mlflow", x, found],
        capture_output=True,
        text=True,
        check=True,
    )
    result = compare(torch.from_numpy(np.load(found)), logits)
    config = folder / "triton" / "lenet5" / "config.pbtxt"
    triton = subprocess.run(
        [python, "-c", TRITON, config], capture_output=True, text=True, check=True
    )
    return {
        "mlflow": {"version": done.stdout.split()[-1], **result},
        "triton_config": {"tritonclient": triton.stdout.split()[-1]},
    }


def main() -> int:
    """Export, check, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, help="a finished run; trained anew if not given")
    parser.add_argument("--epochs", type=int, default=15, help="of the training, if any")
    parser.add_argument("--min-agreement", type=float, default=0.999)
    parser.add_argument("--check-with", type=Path, metavar="PYTHON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        run = options.run
        if run is None:
            run = folder / "run"
            train = [sys.executable, "-m", "lenet", "train", "--quiet", "--out", str(run)]
            subprocess.run([*train, "--epochs", str(options.epochs)], check=True, stdout=sys.stderr)
        model, _ = load_model(run)
        images = load("mnist", "test").images
        logits = compute_logits(model, images)
        rows, compiled, source = {}, {}, {}
        for name, (kind, c_type, file) in CASES.items():
            settings = Settings(c_type=c_type, min_agreement=options.min_agreement)  # type: ignore[arg-type]
            record = export_model(run, kind, out=folder / file, settings=settings)
            source = record.source
            parity = record.parity
            rows[name] = {
                "files": {k: v["num_bytes"] for k, v in record.files.items()},
                "num_bytes": record.num_bytes,
                "parity": asdict(parity),
                "details": record.details,
            }
            print(
                f"{name:<10} {record.num_bytes:>9,} bytes   labels that differ: "
                f"{parity.num_labels_differ}   accuracy {parity.accuracy:.2%}"
            )
            if kind == "c":
                compiled[name] = [
                    run_compiled(compiler, folder / file, images, logits)
                    for compiler in ("gcc", "clang")
                    if shutil.which(compiler)
                ]
        outside = {}
        if options.check_with:
            outside = check_outside(options.check_with, folder, images, logits)
        size = (run / "model.safetensors").stat().st_size
    result = {
        "benchmark": "export",
        "source": source,
        "source_bytes": size,
        "exports": rows,
        "compiled": compiled,
        "outside": outside,
        "environment": environment(),
    }
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
