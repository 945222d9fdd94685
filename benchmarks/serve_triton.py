"""Ask a server with the real Triton client; run by `serve.py`, in the client's own environment.

Run: `python benchmarks/serve_triton.py HOST:PORT digits.npz`. The last line is JSON.
"""

import json
import sys

import numpy as np
import tritonclient.http as http


def main() -> None:
    """Ask for everything that the client can ask, in each of its forms."""
    client = http.InferenceServerClient(sys.argv[1])
    digits = np.load(sys.argv[2])
    x = (digits["images"].astype(np.float32) / np.float32(255)).reshape(-1, 1, 28, 28)
    health = [
        client.is_server_live(),
        client.is_server_ready(),
        client.is_model_ready("lenet5"),
        client.is_model_ready("lenet5", "1"),
    ]
    metadata = client.get_model_metadata("lenet5", "1")
    runs = []
    for sent in ("binary", "json"):
        for wanted in ("binary", "json"):
            for size in (1, 64, 1000):
                labels = []
                for start in range(0, len(x), size):
                    part = x[start : start + size]
                    tensor = http.InferInput("x", list(part.shape), "FP32")
                    tensor.set_data_from_numpy(part, binary_data=sent == "binary")
                    output = http.InferRequestedOutput("logits", binary_data=wanted == "binary")
                    answer = client.infer("lenet5", [tensor], outputs=[output], request_id="7")
                    assert answer.get_response()["id"] == "7"
                    labels += answer.as_numpy("logits").argmax(axis=1).tolist()
                num_right = int((np.array(labels) == digits["labels"]).sum())
                runs.append(
                    {"sent": sent, "wanted": wanted, "images_a_request": size, "right": num_right}
                )
    print(
        json.dumps(
            {
                "health": health,
                "server": client.get_server_metadata(),
                "model": metadata,
                "num_digits": len(x),
                "runs": runs,
            }
        )
    )


if __name__ == "__main__":
    main()
