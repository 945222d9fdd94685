"""The plain server that `serve.py load` compares with: the same model behind FastAPI, no batching.

Run: `.venv/bin/python benchmarks/serve_fastapi.py PORT`. It is what FastAPI's documentation leads
to: one process, torch's own operations on one thread, `POST /predict` with `{"images":
[[[...]]]}` as `lenet serve` takes it, no log of requests.
"""

import sys
from importlib.resources import as_file, files
from typing import Annotated, Any

import torch
import uvicorn
from fastapi import Body, FastAPI

from lenet import load_model
from lenet.reading.reader import PRETRAINED


def load() -> torch.nn.Module:
    """Return the model of the package."""
    torch.set_num_threads(1)
    with as_file(files("lenet").joinpath("pretrained", PRETRAINED)) as path:
        return load_model(path)[0]


def describe(probabilities: torch.Tensor) -> dict[str, Any]:
    """Return the response for (N, 10) probabilities."""
    return {
        "digits": [
            {"label": str(int(row.argmax())), "probabilities": row.tolist()}
            for row in probabilities
        ]
    }


def run(port: int) -> None:
    """Answer each request by itself, in FastAPI's threads, until ended."""
    app, model = FastAPI(), load()

    def predict(images: Annotated[list[list[list[int]]], Body(embed=True)]) -> dict[str, Any]:
        x = torch.tensor(images).unsqueeze(1) / 255
        with torch.inference_mode():
            return describe(model(x).softmax(1))

    app.post("/predict")(predict)

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)


if __name__ == "__main__":
    run(int(sys.argv[1]))
