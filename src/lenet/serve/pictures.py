"""`POST /predict` and `POST /read`: pictures or pixels in, digits or numbers out."""

import asyncio
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from lenet.serve.bodies import MAX_INLINE_JSON, held_body, json_response, parse_files
from lenet.serve.pixels import parse_pixels
from lenet.serve.problems import ProblemError
from lenet.serve.service import Routes, Service

Picture = tuple[dict[str, Any], bytes]
"""A picture for a worker: what the job says of it, and its bytes."""


def routes(service: Service) -> Routes:
    """Return the two routes."""
    classifier = service.classifier

    async def predict(request: Request) -> Response:
        reject = _reject(request)
        async with held_body(request, service) as body:
            found = await _parse(request, body, service)
            if isinstance(found, np.ndarray):
                digits = await _classify(found, reject, service)
            else:
                digits = await _read_all("digit", found, reject, service)
        return json_response(
            {"model": classifier.model, "classes": classifier.classes, "digits": digits}
        )

    async def read(request: Request) -> Response:
        reject = _reject(request)
        async with held_body(request, service) as body:
            found = await _parse(request, body, service)
            if isinstance(found, np.ndarray):
                raise ProblemError(422, "28x28 images hold no number; expected `pictures`")
            numbers = await _read_all("number", found, reject, service)
        return json_response({"model": classifier.model, "numbers": numbers})

    return {"/predict": ("POST", predict), "/read": ("POST", read)}


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


async def _parse(
    request: Request, body: bytes, service: Service
) -> NDArray[np.uint8] | list[Picture]:
    """Return images (N, 28, 28) uint8, or pictures for workers."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        name, arrays = await _parse_json(body, service)
        if name == "images":
            return arrays[0]
        return [({"shape": array.shape}, array.tobytes()) for array in arrays]
    if kind == "multipart/form-data":
        files = await parse_files(body, request, max_pictures=service.limits.max_pictures)
        return [({"name": name}, data) for name, data in files]
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


async def _classify(images: NDArray[np.uint8], reject: float, service: Service) -> list[Any]:
    classifier = service.classifier
    rows = classifier.probabilities(await service.classify(images))
    digits = []
    for row, label in zip(rows.tolist(), rows.argmax(axis=1).tolist(), strict=True):
        nothing = max(0.0, 1 - sum(row))
        is_digit = row[label] >= nothing
        is_rejected = row[label] < reject
        digits.append(
            {
                "label": classifier.classes[label] if is_digit and not is_rejected else None,
                "probability": row[label] if is_digit else nothing,
                "probabilities": row,
                "status": ("rejected" if is_rejected else "read") if is_digit else "not a digit",
                "box": None,
            }
        )
    return digits


async def _read_all(
    job: str, pictures: list[Picture], reject: float, service: Service
) -> list[Any]:
    """Read pictures in workers; an error names each picture that cannot be read."""
    service.workers.require_room()
    found = await asyncio.gather(
        *(
            service.workers.run({"job": job, "reject": reject, **about}, data)
            for about, data in pictures
        ),
        return_exceptions=True,
    )
    wrong = []
    for i, result in enumerate(found):
        if isinstance(result, ProblemError) and result.status == 422:
            name = pictures[i][0].get("name")
            wrong.append({"picture": i, "name": name, "detail": result.detail})
        elif isinstance(result, BaseException):
            raise result
    if wrong:
        first = wrong[0]
        raise ProblemError(
            422, f"picture {first['picture']}: {first['detail']}", members={"pictures": wrong}
        )
    return [result[0] for result in found if not isinstance(result, BaseException)]
