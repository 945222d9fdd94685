"""`POST /predict` and `POST /read`: pictures or pixels in, digits or numbers out."""

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
from fastapi import APIRouter, Request
from fastapi.responses import Response
from numpy.typing import NDArray

from lenet.serve.answers import Digits, Numbers
from lenet.serve.bodies import held_body, parse_parts
from lenet.serve.describe import OF_BODY, picture_body, responses
from lenet.serve.pixels import parse_pixels
from lenet.serve.problems import ProblemError
from lenet.serve.service import Service

MAX_INLINE_JSON = 32_768
"""Bytes of JSON that are parsed on the event loop, in some 0.2 ms; longer ones by a worker."""

Picture = tuple[dict[str, Any], bytes]
"""What a worker is told of a picture, and the picture."""


def build_router(service: Service) -> APIRouter:
    """Return the routes."""
    router = APIRouter(tags=["pictures"])
    limits = service.limits

    @router.post(
        "/predict",
        responses=responses(Digits, *OF_BODY),
        openapi_extra=picture_body(limits, takes_images=True),
    )
    async def predict(request: Request) -> Response:
        """Read the digit in each picture, or in each 28x28 image."""
        reject = _reject(request)
        async with held_body(request, service) as body:
            found = await _parse(request, body, service)
            if isinstance(found, np.ndarray):
                return _json(await _classify(found, reject, service))
            digits = await _read_all("digit", found, reject, service)
            return _json(_digits(service, digits))

    @router.post(
        "/read",
        responses=responses(Numbers, *OF_BODY),
        openapi_extra=picture_body(limits, takes_images=False),
    )
    async def read(request: Request) -> Response:
        """Read the number, or the lines of numbers, in each picture."""
        reject = _reject(request)
        async with held_body(request, service) as body:
            found = await _parse(request, body, service)
            if isinstance(found, np.ndarray):
                raise ProblemError(422, "28x28 images hold no number; expected `pictures`")
            numbers = await _read_all("number", found, reject, service)
            return _json({"model": service.classifier.model, "numbers": numbers})

    return router


def _reject(request: Request) -> float:
    if not request.scope["query_string"]:
        return 0.0
    text = request.query_params.get("reject", "0")
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ProblemError(422, f"`reject` (={text[:40]!r}) must be a number from 0 to 1")
    return value


def _json(value: Any) -> Response:
    body = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, media_type="application/json")


def _digits(service: Service, digits: Sequence[Any]) -> dict[str, Any]:
    classifier = service.classifier
    return {"model": classifier.model, "classes": classifier.classes, "digits": digits}


async def _parse(
    request: Request, body: bytes, service: Service
) -> NDArray[np.uint8] | list[Picture]:
    """Return images (N, 28, 28) uint8, or pictures for workers."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        name, arrays = await _parse_json(body, service)
        if name == "images":
            return arrays[0]
        return [({"shape": list(a.shape)}, a.tobytes()) for a in arrays]
    if kind == "multipart/form-data":
        most = service.limits.max_pictures
        parts = await parse_parts(body, request, max_pictures=most)
        return [({"name": name}, data) for name, data in parts]
    if kind.startswith("image/") or kind == "application/octet-stream":
        return [({}, body)]
    raise ProblemError(
        415,
        "expected multipart/form-data, application/json, image/* or application/octet-stream",
        headers={"accept-post": "multipart/form-data, application/json, image/*"},
    )


async def _parse_json(body: bytes, service: Service) -> tuple[str, list[NDArray[np.uint8]]]:
    limits = {
        "max_images": service.limits.max_images,
        "max_pictures": service.limits.max_pictures,
    }
    if len(body) <= MAX_INLINE_JSON:
        return parse_pixels(body, **limits)
    service.workers.require_room()
    value, data = await service.workers.run({"job": "pixels", "limits": limits}, body)
    arrays, start = [], 0
    for shape in value["shapes"]:
        size = int(np.prod(shape))
        arrays.append(np.frombuffer(data[start : start + size], np.uint8).reshape(shape))
        start += size
    return value["kind"], arrays


async def _classify(images: NDArray[np.uint8], reject: float, service: Service) -> dict[str, Any]:
    classifier = service.classifier
    rows = classifier.probabilities(await service.classify_bytes(images))
    best = rows.argmax(axis=1).tolist()
    digits = []
    for row, label in zip(rows, best, strict=True):
        probability = float(row[label])
        is_rejected = probability < reject
        digits.append(
            {
                "label": None if is_rejected else classifier.classes[label],
                "probability": probability,
                "probabilities": row,
                "status": "rejected" if is_rejected else "read",
                "box": None,
            }
        )
    return _digits(service, digits)


async def _read_all(
    job: str, pictures: list[Picture], reject: float, service: Service
) -> list[Any]:
    """Have workers read pictures; what is wrong with any is told of all."""
    service.workers.require_room()
    told = {
        "job": job,
        "reject": reject,
        "classes": service.classifier.classes,
        "temperature": service.classifier.temperature,
    }
    found = await asyncio.gather(
        *(service.workers.run({**told, **about}, data) for about, data in pictures),
        return_exceptions=True,
    )
    wrong = [
        {"picture": i, "name": pictures[i][0].get("name"), "detail": result.detail}
        for i, result in enumerate(found)
        if isinstance(result, ProblemError) and result.status == 422
    ]
    for result in found:
        if isinstance(result, BaseException) and not (
            isinstance(result, ProblemError) and result.status == 422
        ):
            raise result
    if wrong:
        raise ProblemError(
            422,
            f"picture {wrong[0]['picture']}: {wrong[0]['detail']}",
            members={"pictures": wrong},
        )
    return [result[0] for result in found if not isinstance(result, BaseException)]
