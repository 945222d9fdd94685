"""Requests and responses of the Open Inference Protocol: JSON and binary tensors to arrays.

Source: github.com/kserve/open-inference-protocol, and Triton's binary tensor data extension: the
JSON comes first, its length is in a header, and each tensor's bytes, little endian, follow.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from lenet.serve.problems import ProblemError

NUM_PIXELS = 28 * 28
LENGTH_HEADER = "inference-header-content-length"
OUTPUTS = {"logits": "FP32", "probabilities": "FP32", "labels": "INT64"}
"""Name and data type of each output, in this order."""
TYPES: dict[str, Any] = {"FP32": np.dtype("<f4"), "INT64": np.dtype("<i8")}

Floats = NDArray[np.float32]


class InputParameters(msgspec.Struct):
    """Of the input tensor."""

    binary_data_size: Annotated[int, Meta(ge=1)] | None = None


class InputTensor(msgspec.Struct):
    """The images, (N, 1, 28, 28) in [0, 1], 1 = ink."""

    name: Literal["x"]
    datatype: Literal["FP32"]
    shape: tuple[Annotated[int, Meta(ge=1)], Literal[1], Literal[28], Literal[28]]
    data: msgspec.Raw = msgspec.Raw()  # empty where it is absent
    parameters: InputParameters | None = None


class OutputParameters(msgspec.Struct):
    """Of an output."""

    binary_data: bool | None = None
    classification: Any = None


class Output(msgspec.Struct):
    """A requested output tensor."""

    name: Literal["logits", "probabilities", "labels"]
    parameters: OutputParameters | None = None


class RequestParameters(msgspec.Struct):
    """Of the request."""

    binary_data_output: bool = False


class InferenceRequest(msgspec.Struct):
    """The JSON of a request."""

    inputs: Annotated[tuple[InputTensor, ...], Meta(min_length=1, max_length=1)]
    outputs: Annotated[tuple[Output, ...], Meta(max_length=len(OUTPUTS))] | None = None
    id: Annotated[str, Meta(max_length=256)] | None = None
    parameters: RequestParameters | None = None


@dataclass(frozen=True, kw_only=True)
class Inference:
    """A request without its pixels."""

    id: str | None
    outputs: tuple[tuple[str, bool], ...]
    """Name of each output, and whether it is sent as binary."""


DECODER = msgspec.json.Decoder(InferenceRequest)
FLAT = msgspec.json.Decoder(list[float])
NESTED = msgspec.json.Decoder(list[list[list[list[float]]]])


def parse_inference(
    body: bytes, header_length: str | None, *, max_images: int
) -> tuple[Inference, Floats]:
    """Parse a request.

    Args:
        body: JSON, then the binary tensor if there is one.
        header_length: Value of `Inference-Header-Content-Length`; None for JSON alone.
        max_images: More are refused.

    Returns:
        The request without its pixels, and the images (N, 28, 28), finite and in [0, 1].

    Raises:
        ProblemError: 400, or 413 for too many images.
    """
    head, binary = body, b""
    if header_length is not None:
        is_count = header_length.isascii() and header_length.isdigit() and len(header_length) < 12
        length = int(header_length) if is_count else 0
        if not 0 < length <= len(body):
            raise ProblemError(400, f"{LENGTH_HEADER} is not a length within the body")
        head, binary = body[:length], body[length:]
    try:
        request = DECODER.decode(head)
        x = _pixels(request.inputs[0], binary, max_images)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ProblemError(400, str(error)) from None
    is_binary = request.parameters is not None and request.parameters.binary_data_output
    outputs = []
    for output in request.outputs or [Output(name) for name in OUTPUTS]:  # type: ignore[arg-type]
        parameters = output.parameters or OutputParameters()
        if parameters.classification:
            raise ProblemError(400, "the classification extension is not offered; ask for `labels`")
        wanted = parameters.binary_data
        outputs.append((output.name, is_binary if wanted is None else wanted))
    return Inference(id=request.id, outputs=tuple(outputs)), x


def _pixels(tensor: InputTensor, binary: bytes, max_images: int) -> Floats:
    num_images = tensor.shape[0]
    if num_images > max_images:
        raise ProblemError(413, f"{num_images} images; at most {max_images} are accepted")
    size = tensor.parameters.binary_data_size if tensor.parameters else None
    has_data = memoryview(tensor.data).nbytes > 0
    if size is not None and not has_data:
        if size != len(binary) or size != num_images * NUM_PIXELS * 4:
            raise ProblemError(
                400,
                f"`binary_data_size` is {size} and {len(binary)} bytes follow the JSON; "
                f"expected {num_images * NUM_PIXELS * 4}",
            )
        x = np.frombuffer(binary, "<f4").astype(np.float32, copy=False)
    elif size is None and has_data and not binary:
        try:
            values: Any = FLAT.decode(tensor.data)
        except msgspec.ValidationError:
            values = NESTED.decode(tensor.data)
        try:
            with np.errstate(over="ignore"):  # infinity is refused below
                x = np.array(values, np.float64).astype(np.float32).ravel()
        except ValueError:
            raise ProblemError(400, "`data` has rows of different lengths") from None
        if len(x) != num_images * NUM_PIXELS:
            raise ProblemError(
                400, f"`data` has {len(x)} numbers; expected {num_images * NUM_PIXELS}"
            )
    else:
        raise ProblemError(400, "expected either `data`, or `binary_data_size` and bytes")
    # A single pass finds NaN too, which fails every comparison.
    if not (x.min() >= 0 and x.max() <= 1):
        raise ProblemError(400, "expected finite values in [0, 1], 1 = ink")
    return x.reshape(num_images, 28, 28)


def encode_answer(
    answer: dict[str, Any], inference: Inference, values: dict[str, NDArray[Any]]
) -> tuple[bytes, int | None]:
    """Encode a response.

    Args:
        answer: Its members but `outputs`.
        inference: The request.
        values: The requested outputs.

    Returns:
        The body, and the length of its JSON if binary tensors follow.
    """
    outputs, parts = [], []
    for name, is_binary in inference.outputs:
        value = np.ascontiguousarray(values[name], TYPES[OUTPUTS[name]])
        output: dict[str, Any] = {"name": name, "datatype": OUTPUTS[name], "shape": value.shape}
        if is_binary:
            output["parameters"] = {"binary_data_size": value.nbytes}
            parts.append(value.tobytes())
        else:
            output["data"] = value.ravel().tolist()
        outputs.append(output)
    head = msgspec.json.encode({**answer, "outputs": outputs})
    return b"".join([head, *parts]), len(head) if parts else None
