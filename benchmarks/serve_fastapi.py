"""The plain server that `serve.py load` compares with: the same model behind FastAPI, no batching.

Run: `.venv/bin/python benchmarks/serve_fastapi.py PORT`. It is what FastAPI's documentation leads
to: one process, torch's own operations on one thread, `POST /predict` with `{"images":
[[[...]]]}` as `lenet serve` takes it, no log of requests.
"""

import sys
from importlib.resources import as_file, files
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from lenet import load_model
from lenet.reading.reader import PRETRAINED


class Body(BaseModel):
    """Images (N, 28, 28) of 0 to 255."""

    images: list[list[list[int]]]


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

    @app.post("/predict")
    def predict(body: Body) -> dict[str, Any]:
        x = torch.tensor(body.images).unsqueeze(1) / 255
        with torch.inference_mode():
            return describe(model(x).softmax(1))

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)


if __name__ == "__main__":
    run(int(sys.argv[1]))
