"""The parts of the OpenAPI description that FastAPI can't know of itself."""

from typing import Any

from pydantic import BaseModel

from lenet.serve.answers import Problem
from lenet.serve.pixels import MAX_SIDE, SIDE
from lenet.serve.problems import MEDIA_TYPE
from lenet.serve.settings import Limits
from lenet.serve.tensors import IMAGE_SHAPE, INPUT, LENGTH_HEADER, MAX_ID, NUM_PIXELS, OUTPUTS

MEANINGS = {
    400: "The body can't be read as what it says it is",
    401: "The server wants its key",
    404: "No such thing here",
    405: "Not with this method",
    408: "The body did not arrive in time",
    413: "More than is taken at a time",
    415: "Not a content type that is read here",
    422: "Read, but not what is expected",
    429: "Too many requests of one client; Retry-After says when to come again",
    500: "The server made a mistake",
    503: "The server has all the work it takes on; Retry-After says when to come again",
}
OF_MODEL = (401, 429, 500, 503)
"""What any route that needs the model may answer."""
OF_BODY = (*OF_MODEL, 400, 408, 413, 415, 422)

BINARY = {"type": "string", "format": "binary"}
GREY = {"type": "integer", "minimum": 0, "maximum": 255}
UNIT = {"type": "number", "minimum": 0, "maximum": 1}


def responses(model: type[BaseModel] | None, *statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the answers of a route: a success and the problems."""
    found: dict[int | str, dict[str, Any]] = {}
    if model is not None:
        found[200] = {"model": model, "description": "As asked"}
    for status in sorted(statuses):
        schema = {"$ref": f"#/components/schemas/{Problem.__name__}"}
        found[status] = {
            "description": MEANINGS[status],
            "content": {MEDIA_TYPE: {"schema": schema}},
        }
        if status in (429, 503):
            found[status]["headers"] = {
                "Retry-After": {"description": "Seconds", "schema": {"type": "integer"}}
            }
    return found


def picture_body(limits: Limits, *, takes_images: bool) -> dict[str, Any]:
    """Return the request body of `/predict` or `/read`."""
    of_json = [_only("pictures", _pictures(limits))]
    if takes_images:
        of_json.append(_only("images", _images(limits)))
    content = {
        "multipart/form-data": {"schema": _form(limits)},
        "application/json": {"schema": {"oneOf": of_json} if takes_images else of_json[0]},
        "image/*": {"schema": BINARY},
        "application/octet-stream": {"schema": BINARY},
    }
    reject = {
        "name": "reject",
        "in": "query",
        "required": False,
        "schema": {**UNIT, "default": 0},
        "description": "Give no label below this probability",
    }
    return {"requestBody": {"required": True, "content": content}, "parameters": [reject]}


def _form(limits: Limits) -> dict[str, Any]:
    picture = {
        "type": "array",
        "minItems": 1,
        "maxItems": limits.max_pictures,
        "items": BINARY,
        "description": "Files: PNG, JPEG, BMP, GIF, TIFF, WebP or PNM",
    }
    return {"type": "object", "required": ["picture"], "properties": {"picture": picture}}


def _pictures(limits: Limits) -> dict[str, Any]:
    row = {"type": "array", "minItems": 1, "maxItems": MAX_SIDE, "items": GREY}
    return {
        "type": "array",
        "minItems": 1,
        "maxItems": limits.max_pictures,
        "description": "Pictures as rows of grey values of one length, 0 = black",
        "items": {"type": "array", "minItems": 1, "maxItems": MAX_SIDE, "items": row},
    }


def _images(limits: Limits) -> dict[str, Any]:
    row = {"type": "array", "minItems": SIDE, "maxItems": SIDE, "items": GREY}
    return {
        "type": "array",
        "minItems": 1,
        "maxItems": limits.max_images,
        "description": "Digits as MNIST has them: 28 rows of 28, 0 = background, 255 = ink",
        "items": {"type": "array", "minItems": SIDE, "maxItems": SIDE, "items": row},
    }


def _only(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": [name],
        "properties": {name: schema},
        "additionalProperties": False,
    }


def inference_body(limits: Limits) -> dict[str, Any]:
    """Return the request body and header of an inference."""
    request = {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string", "maxLength": MAX_ID},
            "inputs": {"type": "array", "minItems": 1, "maxItems": 1, "items": _tensor(limits)},
            "outputs": {"type": "array", "maxItems": len(OUTPUTS), "items": _output()},
            "parameters": _parameters("binary_data_output", {"type": "boolean"}),
        },
    }
    content = {
        "application/json": {"schema": request},
        "application/octet-stream": {"schema": BINARY},
    }
    header = {
        "name": LENGTH_HEADER.title(),
        "in": "header",
        "required": False,
        "schema": {"type": "integer", "minimum": 1},
        "description": "Bytes of JSON before the binary tensor; absent for JSON alone",
    }
    return {"requestBody": {"required": True, "content": content}, "parameters": [header]}


def _tensor(limits: Limits) -> dict[str, Any]:
    sizes: list[dict[str, Any]] = [
        {"type": "integer", "minimum": 1, "maximum": limits.max_images},
        *({"const": size} for size in IMAGE_SHAPE),
    ]
    return {
        "type": "object",
        "required": ["name", "shape", "datatype"],
        "properties": {
            "name": {"const": INPUT},
            "datatype": {"const": "FP32"},
            "shape": {"type": "array", "minItems": 4, "maxItems": 4, "prefixItems": sizes},
            "data": {
                "type": "array",
                "minItems": NUM_PIXELS,
                "items": UNIT,
                "description": f"{NUM_PIXELS} numbers an image, row by row, 0 = background; left "
                "out where `parameters.binary_data_size` says that bytes follow",
            },
            "parameters": _parameters("binary_data_size", {"type": "integer", "minimum": 1}),
        },
    }


def _output() -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": {"enum": list(OUTPUTS)},
            "parameters": _parameters("binary_data", {"type": "boolean"}),
        },
    }


def _parameters(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {name: schema}}
