"""LeNet-5 compiled for this machine's processor: loss, gradients and logits; Adam's step."""

from lenet.native.adam import NativeAdam
from lenet.native.build import NativeUnavailableError, build
from lenet.native.engine import NativeEngine

__all__ = ["NativeAdam", "NativeEngine", "NativeUnavailableError", "build"]
