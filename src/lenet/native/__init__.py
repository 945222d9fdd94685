"""LeNet-5 compiled for this machine's processor: loss, gradients and logits of a batch."""

from lenet.native.build import NativeUnavailableError, build
from lenet.native.engine import NativeEngine

__all__ = ["NativeEngine", "NativeUnavailableError", "build"]
