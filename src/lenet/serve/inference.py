"""The Open Inference Protocol, version 2: the REST interface of KServe, Triton and others."""

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from lenet import __version__
from lenet.serve.bodies import MAX_INLINE_JSON, held_body, json_response
from lenet.serve.problems import ProblemError
from lenet.serve.service import Routes, Service
from lenet.serve.tensors import (
    LENGTH_HEADER,
    OUTPUTS,
    Floats,
    Inference,
    encode_answer,
    parse_inference,
)

VERSION = "1"
MAX_INLINE_BINARY = 2**20
"""Bytes of a binary tensor that are parsed on the event loop."""
PLATFORMS = {
    "native": "lenet_native",
    "onnxruntime": "onnxruntime_onnx",
    "torch": "pytorch_torch",
    "numpy": "lenet_numpy",
}


def routes(service: Service) -> Routes:
    """Return the protocol's routes; those of the model exist with and without its version."""
    classifier = service.classifier

    async def infer(request: Request) -> Response:
        async with held_body(request, service) as body:
            inference, x = await _parse(request, body, service)
            logits = await service.batcher.infer(x)
        wanted = {name for name, _ in inference.outputs}
        values = {"logits": logits}
        if "probabilities" in wanted:
            values["probabilities"] = classifier.probabilities(logits)
        if "labels" in wanted:
            values["labels"] = logits.argmax(axis=1)
        answer = {"model_name": classifier.model, "model_version": VERSION}
        if inference.id is not None:
            answer["id"] = inference.id
        content, length = encode_answer(answer, inference, values)
        if length is None:
            return Response(content, media_type="application/json")
        headers = {LENGTH_HEADER: str(length)}
        return Response(content, headers=headers, media_type="application/octet-stream")

    async def describe_model(request: Request) -> Response:
        num_classes = len(classifier.classes)
        shapes = {"logits": [-1, num_classes], "probabilities": [-1, num_classes], "labels": [-1]}
        return json_response(
            {
                "name": classifier.model,
                "versions": [VERSION],
                "platform": PLATFORMS[classifier.engine],
                "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 1, 28, 28]}],
                "outputs": [
                    {"name": name, "datatype": kind, "shape": shapes[name]}
                    for name, kind in OUTPUTS.items()
                ],
            }
        )

    async def describe_server(request: Request) -> Response:
        return json_response(
            {"name": "lenet", "version": __version__, "extensions": ["binary_tensor_data"]}
        )

    async def live(request: Request) -> Response:
        return Response()

    async def ready(request: Request) -> Response:
        if not service.is_ready or service.is_draining:
            raise ProblemError(503, "the server is starting or ending")
        return Response()

    routes: Routes = {
        "/v2": ("GET", describe_server),
        "/v2/health/live": ("GET", live),
        "/v2/health/ready": ("GET", ready),
    }
    base = f"/v2/models/{classifier.model}"
    for path in (base, f"{base}/versions/{VERSION}"):
        routes[path] = ("GET", describe_model)
        routes[f"{path}/ready"] = ("GET", ready)
        routes[f"{path}/infer"] = ("POST", infer)
    return routes


async def _parse(request: Request, body: bytes, service: Service) -> tuple[Inference, Floats]:
    length = request.headers.get(LENGTH_HEADER)
    kind = request.headers.get("content-type", "application/json").partition(";")[0]
    # Clients name either type for a binary tensor; the length header tells them apart.
    if kind.strip().lower() not in ("application/json", "application/octet-stream"):
        raise ProblemError(415, "expected application/json or application/octet-stream")
    limits = {"max_images": service.limits.max_images}
    if len(body) <= (MAX_INLINE_JSON if length is None else MAX_INLINE_BINARY):
        return parse_inference(body, length, **limits)
    service.workers.require_room()
    job = {"job": "tensors", "header_length": length, "limits": limits}
    value, data = await service.workers.run(job, body)
    x = np.frombuffer(data, np.float32).reshape(value["num_images"], 28, 28)
    return Inference(id=value["id"], outputs=tuple(map(tuple, value["outputs"]))), x
