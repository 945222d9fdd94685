"""The server that `serve.py load` compares with: the same model behind LitServe.

Run: `.venv/bin/python benchmarks/serve_litserve.py PORT [--batched]`, with LitServe on the path.
One process answers HTTP and one computes, with torch on one thread; the request is that of
`lenet serve`, one image each. Batched: up to 64, or what comes in 2 ms.
"""

import sys
from typing import Any

import litserve
import torch
from serve_fastapi import describe, load


class API(litserve.LitAPI):  # type: ignore[misc]  # ships no types
    """What LitServe calls, in this order."""

    def setup(self, device: str) -> None:
        """Read the model."""
        self.model = load()

    def decode_request(self, request: dict[str, Any]) -> torch.Tensor:
        """Return (1, 1, 28, 28)."""
        return torch.tensor(request["images"]).unsqueeze(1) / 255

    def batch(self, inputs: list[torch.Tensor]) -> torch.Tensor:
        """Put requests together."""
        return torch.cat(inputs)

    def predict(self, x: torch.Tensor) -> torch.Tensor:
        """Return the probabilities."""
        with torch.inference_mode():
            return torch.softmax(self.model(x), 1)

    def unbatch(self, output: torch.Tensor) -> list[torch.Tensor]:
        """Take requests apart."""
        return list(torch.chunk(output, len(output)))

    def encode_response(self, output: torch.Tensor) -> dict[str, Any]:
        """Return the response."""
        return describe(output)


def main() -> None:
    """Serve until ended."""
    batching = {"max_batch_size": 64, "batch_timeout": 0.002} if "--batched" in sys.argv else {}
    server = litserve.LitServer(API(**batching), accelerator="cpu", workers_per_device=1)
    port = int(sys.argv[1])
    server.run(host="127.0.0.1", port=port, log_level="warning", generate_client_file=False)


if __name__ == "__main__":
    main()
