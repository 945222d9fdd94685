"""Send digits with the real Triton client; `serve.py` runs this in the client's own environment.

Run: `python benchmarks/serve_triton.py HOST:PORT digits.npz`. Prints one line of JSON.
"""

import itertools
import json
import sys

import numpy as np
import tritonclient.http as http


def main() -> None:
    """Send the digits in every form and several sizes, and count the right labels."""
    client = http.InferenceServerClient(sys.argv[1])
    assert client.is_server_live() and client.is_server_ready()  # noqa: PT018
    assert client.is_model_ready("lenet5", "1")
    digits = np.load(sys.argv[2])
    x = (digits["images"].astype(np.float32) / np.float32(255)).reshape(-1, 1, 28, 28)
    runs = []
    for sent, wanted, size in itertools.product(("binary", "json"), ("binary", "json"), (1, 1000)):
        labels = []
        for start in range(0, len(x), size):
            part = x[start : start + size]
            tensor = http.InferInput("x", list(part.shape), "FP32")
            tensor.set_data_from_numpy(part, binary_data=sent == "binary")
            output = http.InferRequestedOutput("logits", binary_data=wanted == "binary")
            response = client.infer("lenet5", [tensor], outputs=[output], request_id="7")
            assert response.get_response()["id"] == "7"
            labels += response.as_numpy("logits").argmax(axis=1).tolist()
        right = int((np.array(labels) == digits["labels"]).sum())
        runs.append({"sent": sent, "wanted": wanted, "images_a_request": size, "right": right})
    metadata = client.get_model_metadata("lenet5", "1")
    print(json.dumps({"model": metadata, "num_digits": len(x), "runs": runs}))


if __name__ == "__main__":
    main()
