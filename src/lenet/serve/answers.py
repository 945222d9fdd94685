"""What routes answer, as the OpenAPI description says it."""

# Routes write JSON themselves; these classes describe it, and the tests hold the answers to them.

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Box = tuple[int, int, int, int]
Status = Literal["read", "rejected", "empty"]


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Problem(BaseModel):
    """What is wrong with a request; RFC 9457."""

    type: str = Field(examples=["about:blank"])
    title: str = Field(examples=["Unprocessable Content"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["`images` has shape (1, 27, 28); expected (N, 28, 28)"])
    error: str | None = Field(None, description="The detail again, under /v2: its clients ask so.")


class Digit(_Answer):
    """What was read of one picture."""

    label: str | None = Field(description="null where nothing was found or it was too unlikely")
    probability: float = Field(ge=0, le=1, description="Of the likeliest class")
    probabilities: list[float] = Field(description="Of each class; empty where nothing was found")
    status: Status
    box: Box | None = Field(description="Left, top, right, bottom in the picture, in pixels")


class Digits(_Answer):
    """What was read of each picture, in the order they came."""

    model: str
    classes: list[str] = Field(description="What each probability is of")
    digits: list[Digit]


class Line(_Answer):
    """A line of digits."""

    text: str
    probabilities: list[float] = Field(description="Of each digit")
    box: Box


class Number(_Answer):
    """What was read of one picture; several lines are joined by a slash."""

    number: str | None = Field(description="null where nothing was found or it was too unlikely")
    probability: float = Field(ge=0, le=1, description="Product of the digits' probabilities")
    status: Status
    lines: list[Line]


class Numbers(_Answer):
    """What was read of each picture, in the order they came."""

    model: str
    numbers: list[Number]


class Health(_Answer):
    """How the server is."""

    status: Literal["ok", "starting", "draining"]
    version: str
    model: str
    engine: str
    requests_in_work: int
    images_waiting: int
    pictures_waiting: int


class ServerMetadata(_Answer):
    """Open Inference Protocol: the server."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadata(_Answer):
    """Open Inference Protocol: a tensor; -1 is any size."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(_Answer):
    """Open Inference Protocol: the model."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class OutputTensor(_Answer):
    """Open Inference Protocol: a tensor of an answer."""

    name: str
    datatype: str
    shape: list[int]
    data: list[float] | list[int] | None = None
    parameters: dict[str, int] | None = None


class InferenceAnswer(_Answer):
    """Open Inference Protocol: an answer."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[OutputTensor]
