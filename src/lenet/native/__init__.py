"""What is compiled for this machine: LeNet-5, Adam's step, the rendering of distortions."""

from lenet.native.adam import NativeAdam
from lenet.native.build import NativeUnavailableError, build
from lenet.native.distorter import Renderer, load_renderer
from lenet.native.engine import NativeEngine

__all__ = [
    "NativeAdam",
    "NativeEngine",
    "NativeUnavailableError",
    "Renderer",
    "build",
    "load_renderer",
]
