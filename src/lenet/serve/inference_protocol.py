"""The Open Inference Protocol, version 2, over HTTP: what KServe, Triton and others speak.

Source: github.com/kserve/open-inference-protocol, and Triton's extension for binary tensors.
"""

from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from lenet import __version__
from lenet.serve.answers import InferenceAnswer, ModelMetadata, ServerMetadata
from lenet.serve.bodies import held_body
from lenet.serve.describe import OF_BODY, OF_MODEL, inference_body, responses
from lenet.serve.problems import ProblemError
from lenet.serve.service import RETRY_AFTER_S, Service
from lenet.serve.tensors import (
    IMAGE_SHAPE,
    INPUT,
    LENGTH_HEADER,
    OUTPUTS,
    Floats,
    Inference,
    encode_answer,
    parse_inference,
)

VERSION = "1"
MAX_INLINE_JSON = 32_768
"""Bytes of JSON that are parsed on the event loop; longer ones by a worker."""
MAX_INLINE_BINARY = 2**20
"""The same for a binary tensor, which is only looked over."""
PLATFORMS = {
    "native": "lenet_native",
    "onnxruntime": "onnxruntime_onnx",
    "torch": "pytorch_torch",
    "numpy": "lenet_numpy",
}


def build_router(service: Service) -> APIRouter:
    """Return the routes; each route of the model is there with and without its version."""
    router = APIRouter(tags=["open inference protocol"])
    name = service.classifier.model
    bases = (f"/v2/models/{name}", f"/v2/models/{name}/versions/{VERSION}")

    async def infer(request: Request) -> Response:
        """Infer from tensors, JSON or binary."""
        async with held_body(request, service) as body:
            inference, x = await _parse(request, body, service)
            return await _infer(inference, x, service)

    async def metadata() -> Response:
        """Describe the model's tensors."""
        return JSONResponse(_describe_model(service))

    async def model_ready() -> Response:
        """Say whether the model may be asked."""
        _require_ready(service)
        return Response()

    for base in bases:
        router.add_api_route(
            f"{base}/infer",
            infer,
            methods=["POST"],
            responses=responses(InferenceAnswer, *OF_BODY),
            openapi_extra=inference_body(service.limits),
        )
        router.add_api_route(base, metadata, responses=responses(ModelMetadata, *OF_MODEL))
        router.add_api_route(
            f"{base}/ready",
            model_ready,
            responses=responses(None, *OF_MODEL),
            response_class=Response,  # empty, and no JSON
        )

    _add_server(router, service)
    return router


def _add_server(router: APIRouter, service: Service) -> None:
    @router.get("/v2", responses=responses(ServerMetadata, *OF_MODEL))
    async def server() -> Response:
        """Describe the server."""
        return JSONResponse(
            {"name": "lenet", "version": __version__, "extensions": ["binary_tensor_data"]}
        )

    @router.get("/v2/health/live", responses=responses(None, 500), response_class=Response)
    async def live() -> Response:
        """Say that the process answers."""
        return Response()

    @router.get("/v2/health/ready", responses=responses(None, 500, 503), response_class=Response)
    async def ready() -> Response:
        """Say whether requests may be sent: not while it starts or ends."""
        _require_ready(service)
        return Response()


def _require_ready(service: Service) -> None:
    if not service.is_ready or service.is_draining:
        raise ProblemError(503, "the server starts or ends", retry_after_s=RETRY_AFTER_S)


def _describe_model(service: Service) -> dict[str, Any]:
    classifier = service.classifier
    shapes = {name: [-1, len(classifier.classes)] for name in OUTPUTS} | {"labels": [-1]}
    return {
        "name": classifier.model,
        "versions": [VERSION],
        "platform": PLATFORMS[classifier.engine],
        "inputs": [{"name": INPUT, "datatype": "FP32", "shape": [-1, *IMAGE_SHAPE]}],
        "outputs": [
            {"name": name, "datatype": kind, "shape": shapes[name]}
            for name, kind in OUTPUTS.items()
        ],
    }


async def _parse(request: Request, body: bytes, service: Service) -> tuple[Inference, Floats]:
    length = request.headers.get(LENGTH_HEADER)
    kind = request.headers.get("content-type", "application/json")
    kind = kind.partition(";")[0].strip().lower()
    # The header alone says what is binary: clients name various content types.
    if kind not in ("application/json", "application/octet-stream"):
        raise ProblemError(415, "expected application/json or application/octet-stream")
    limits = {"max_images": service.limits.max_images}
    if len(body) <= (MAX_INLINE_JSON if length is None else MAX_INLINE_BINARY):
        return parse_inference(body, length, **limits)
    job = {"job": "tensors", "header_length": length, "limits": limits}
    service.workers.require_room()
    value, data = await service.workers.run(job, body)
    outputs = tuple((name, is_binary) for name, is_binary in value["outputs"])
    x = np.frombuffer(data, np.float32).reshape(value["num_images"], 28, 28)
    return Inference(id=value["id"], outputs=outputs), x


async def _infer(inference: Inference, x: Floats, service: Service) -> Response:
    logits = await service.batcher.infer(x)
    wanted = {name for name, _ in inference.outputs}
    values: dict[str, Any] = {"logits": logits}
    if "probabilities" in wanted:
        values["probabilities"] = service.classifier.probabilities(logits)
    if "labels" in wanted:
        values["labels"] = logits.argmax(axis=1)
    body, length = encode_answer(service.classifier.model, inference, values)
    if length is None:
        return Response(body, media_type="application/json")
    headers = {LENGTH_HEADER: str(length)}
    return Response(body, media_type="application/octet-stream", headers=headers)
