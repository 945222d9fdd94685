"""What is compiled for this machine: LeNet-5, Adam's step, the rendering of distortions."""

from lenet.native.adam import NativeAdam
from lenet.native.build import NativeUnavailableError, build
from lenet.native.distorter import Renderer, load_renderer
from lenet.native.engine import NativeEngine
from lenet.native.engine_1998 import NativeEngine1998

Engine = NativeEngine | NativeEngine1998

__all__ = [
    "Engine",
    "NativeAdam",
    "NativeEngine",
    "NativeEngine1998",
    "NativeUnavailableError",
    "Renderer",
    "build",
    "load_renderer",
]
