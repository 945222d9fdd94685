"""Put compiled kernels into a wheel, where scripts/build_wheels.py has made some."""

import os
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class KernelsHook(BuildHookInterface):
    """Adds the libraries of the folder LENET_KERNELS, which has the name of their platform."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before a wheel is built."""
        if not (named := os.environ.get("LENET_KERNELS")):
            return
        folder = Path(named)
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{folder.name}"
        for library in folder.glob("*.so"):
            build_data["force_include"][str(library)] = f"lenet/native/{library.name}"
