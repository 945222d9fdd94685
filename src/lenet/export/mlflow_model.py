"""An MLflow model folder around the ONNX file, which `mlflow.pyfunc.load_model` reads.

Its files are few and documented, so they are written here, without the forty packages that
MLflow brings.
"""

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any

from lenet.export import onnx_graph
from lenet.export.artifact import Artifact, Settings
from lenet.export.source import Source

MODEL_FILE = "model.onnx"
PACKAGES = ("numpy", "onnx", "onnxruntime")
"""What MLflow's ONNX flavour needs to run the file; it adds pandas and itself."""


def write(source: Source, path: Path, settings: Settings) -> Artifact:
    """Write the folder `path`."""
    artifact = onnx_graph.write(source, path / MODEL_FILE, settings)
    requirements = [f"{name}=={version(name).split('+')[0]}" for name in PACKAGES]
    needed = ["mlflow-skinny", "pandas", *requirements]
    (path / "requirements.txt").write_text("".join(f"{line}\n" for line in needed))
    python_env = {
        "python": python_version(),
        "build_dependencies": ["pip"],
        "dependencies": ["-r requirements.txt"],
    }
    # JSON is YAML, and needs no package to be written.
    _write_yaml(path / "python_env.yaml", python_env)

    def annotate(facts: Mapping[str, Any]) -> None:
        artifact.annotate(facts)
        _write_yaml(path / "MLmodel", describe_model(source, facts))

    annotate({})
    return Artifact(open=artifact.open, annotate=annotate, details=artifact.details)


def describe_model(source: Source, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of `MLmodel`: two flavours of one file, and its signature."""
    x = {"dtype": "float32", "shape": [-1, 1, 28, 28]}
    logits = {"dtype": "float32", "shape": [-1, source.model.num_classes]}
    return {
        "flavors": {
            "onnx": {
                "code": None,
                "data": MODEL_FILE,
                "onnx_version": version("onnx"),
                "providers": ["CPUExecutionProvider"],
            },
            "python_function": {
                "data": MODEL_FILE,
                "env": {"virtualenv": "python_env.yaml"},
                "loader_module": "mlflow.onnx",
                "python_version": python_version(),
            },
        },
        "signature": {
            "inputs": _tensor("x", x),
            "outputs": _tensor("logits", logits),
            "params": None,
        },
        "metadata": dict(facts),
    }


def _tensor(name: str, spec: Mapping[str, Any]) -> str:
    return json.dumps([{"name": name, "type": "tensor", "tensor-spec": spec}])


def _write_yaml(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
