"""Requests and answers of the Open Inference Protocol: JSON and binary tensors to arrays.

Source: Open Inference Protocol, version 2, REST; Triton's binary tensor data extension: the JSON
comes first, its length is in a header, and each tensor's bytes, little endian, follow in order.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from lenet.serve.pixels import has_booleans, parse_json
from lenet.serve.problems import ProblemError

INPUT = "x"
IMAGE_SHAPE = (1, 28, 28)
NUM_PIXELS = 28 * 28
MAX_ID = 256
LENGTH_HEADER = "inference-header-content-length"

Floats = NDArray[np.float32]

OUTPUTS = {"logits": "FP32", "probabilities": "FP32", "labels": "INT64"}
"""Name and data type of what is answered, in this order."""
TYPES: dict[str, Any] = {"FP32": np.dtype("<f4"), "INT64": np.dtype("<i8")}


@dataclass(frozen=True, kw_only=True)
class Inference:
    """A request without its pixels."""

    id: str | None
    outputs: tuple[tuple[str, bool], ...]
    """Name of each output asked for, and whether it is to be binary."""


def parse_inference(
    body: bytes, header_length: str | None, *, max_images: int
) -> tuple[Inference, Floats]:
    """Read a request.

    Args:
        body: JSON, and the binary tensor if there is one.
        header_length: Value of `Inference-Header-Content-Length`; None for JSON alone.
        max_images: More are refused.

    Returns:
        What is asked, and the images (N, 28, 28), finite and in [0, 1].

    Raises:
        ProblemError: 400, or 413 for too many images.
    """
    head, binary = body, b""
    if header_length is not None:
        length = int(header_length) if _is_count(header_length) else -1
        if not 0 < length <= len(body):
            raise ProblemError(
                400, f"{LENGTH_HEADER} (={header_length[:40]!r}) is not within the body"
            )
        head, binary = body[:length], body[length:]
    request = parse_json(head)
    if not isinstance(request, dict):
        raise ProblemError(400, "expected a JSON object")
    name = request.get("id")
    if name is not None and not (isinstance(name, str) and len(name) <= MAX_ID):
        raise ProblemError(400, f"`id` must be a string of at most {MAX_ID} characters")
    outputs = _outputs(request)
    return Inference(id=name, outputs=outputs), _input(request, head, binary, max_images)


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 12


def _parameters(holder: dict[str, Any], name: str) -> dict[str, Any]:
    found = holder.get("parameters")
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ProblemError(400, f"`parameters` of {name} must be an object")
    return found


def _outputs(request: dict[str, Any]) -> tuple[tuple[str, bool], ...]:
    is_binary = _parameters(request, "the request").get("binary_data_output") is True
    asked = request.get("outputs")
    if asked is None or asked == []:
        return tuple((name, is_binary) for name in OUTPUTS)
    if not isinstance(asked, list) or len(asked) > len(OUTPUTS):
        raise ProblemError(400, f"`outputs` must be a list of at most {len(OUTPUTS)}")
    found = []
    for output in asked:
        if not isinstance(output, dict) or output.get("name") not in list(OUTPUTS):
            raise ProblemError(400, f"an output's `name` must be one of: {', '.join(OUTPUTS)}")
        parameters = _parameters(output, "an output")
        if parameters.get("classification"):
            raise ProblemError(400, "the classification extension is not offered; ask for `labels`")
        found.append((output["name"], parameters.get("binary_data", is_binary) is True))
    return tuple(found)


def _input(request: dict[str, Any], head: bytes, binary: bytes, max_images: int) -> Floats:
    inputs = request.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise ProblemError(400, f"`inputs` must be a list of one tensor, `{INPUT}`")
    (tensor,) = inputs
    if tensor.get("name") != INPUT:
        raise ProblemError(400, f"the input's `name` must be `{INPUT}`")
    if tensor.get("datatype") != "FP32":
        raise ProblemError(400, "the input's `datatype` must be FP32")
    shape = tensor.get("shape")
    is_shape = isinstance(shape, list) and len(shape) == 4 and all(type(n) is int for n in shape)
    if not is_shape or tuple(shape[1:]) != IMAGE_SHAPE or shape[0] < 1:
        raise ProblemError(400, "`shape` of the input must be [N, 1, 28, 28], N at least 1")
    num_images = shape[0]
    if num_images > max_images:
        raise ProblemError(413, f"{num_images} images; at most {max_images} are taken at a time")
    size = _parameters(tensor, "the input").get("binary_data_size")
    if size is not None:
        if type(size) is not int or size != len(binary) or "data" in tensor:
            raise ProblemError(
                400, f"`binary_data_size` (={size!r}) must be the {len(binary)} bytes that follow"
            )
        if size != num_images * NUM_PIXELS * 4:
            raise ProblemError(
                400, f"{size} bytes; shape {shape} has {num_images * NUM_PIXELS * 4}"
            )
        x = np.frombuffer(binary, "<f4").astype(np.float32, copy=False)
    else:
        if binary:
            raise ProblemError(400, "bytes follow the JSON, but no input has `binary_data_size`")
        if has_booleans(tensor.get("data"), head):
            raise ProblemError(400, "`data` must be numbers, found true or false")
        x = _numbers(tensor.get("data"), num_images)
    # One pass finds NaN too: it fails every comparison.
    if not (x.min() >= 0 and x.max() <= 1):
        raise ProblemError(400, "the input's values must be finite and in [0, 1], 1 = ink")
    return x.reshape(num_images, 28, 28)


def _numbers(data: Any, num_images: int) -> Floats:
    try:
        array = np.array(data) if isinstance(data, list) else None
    except (ValueError, OverflowError):  # rows of different lengths, or too deep
        array = None
    if array is None or array.dtype.kind not in "iuf":
        raise ProblemError(400, "`data` must be numbers, flat or in rows of one length")
    if array.size != num_images * NUM_PIXELS:
        raise ProblemError(
            400, f"`data` has {array.size} numbers; the shape says {num_images * NUM_PIXELS}"
        )
    if array.ndim != 1 and array.shape != (num_images, *IMAGE_SHAPE):
        raise ProblemError(400, "`data` must be flat or have the shape given")
    with np.errstate(over="ignore"):  # what float32 can't hold becomes infinite, and is refused
        return array.ravel().astype(np.float32)


def encode_answer(
    model: str, inference: Inference, values: dict[str, NDArray[Any]]
) -> tuple[bytes, int | None]:
    """Write an answer.

    Args:
        model: Its name.
        inference: What was asked.
        values: Each of `OUTPUTS`.

    Returns:
        The body, and the length of its JSON if bytes follow it.
    """
    outputs, parts = [], []
    for name, is_binary in inference.outputs:
        value = np.ascontiguousarray(values[name], TYPES[OUTPUTS[name]])
        output: dict[str, Any] = {
            "name": name,
            "datatype": OUTPUTS[name],
            "shape": list(value.shape),
        }
        if is_binary:
            output["parameters"] = {"binary_data_size": value.nbytes}
            parts.append(value.tobytes())
        else:
            output["data"] = value.ravel()
        outputs.append(output)
    answer: dict[str, Any] = {"model_name": model, "model_version": "1", "outputs": outputs}
    if inference.id is not None:
        answer["id"] = inference.id
    head = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    return b"".join([head, *parts]), len(head) if parts else None
