"""Numbers and text as C99 source, safe whatever they hold."""

import string
from typing import Any

import numpy as np
from numpy.typing import NDArray

WIDTH = 96
TYPES = {
    np.dtype(np.float32): "float",
    np.dtype(np.int8): "int8_t",
    np.dtype(np.uint8): "uint8_t",
    np.dtype(np.int32): "int32_t",
}


class Constants:
    """Constant arrays, in the order they were added."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self.num_bytes = 0
        """Of all arrays together, as a compiler lays them out."""

    def add(self, name: str, values: NDArray[Any]) -> None:
        """Add `static const TYPE NAME[...]...`."""
        shape = "".join(f"[{n}]" for n in values.shape)
        kind = TYPES[values.dtype]
        self._parts.append(f"static const {kind} {name}{shape} = {_braced(values, '')};\n")
        self.num_bytes += values.nbytes

    def define(self, name: str, text: str) -> None:
        """Add `#define NAME TEXT`."""
        self._parts.append(f"#define {name} {text}\n")

    def text(self) -> str:
        """Return all of them as source."""
        return "\n".join(self._parts)


def _braced(values: NDArray[Any], indent: str) -> str:
    inner = indent + "    "
    if values.ndim > 1:
        rows = ",\n".join(inner + _braced(row, inner) for row in values)
        return f"{{\n{rows},\n{indent}}}"
    numbers = [float_text(float(v)) if values.dtype == np.float32 else str(int(v)) for v in values]
    one_line = ", ".join(numbers)
    if len(indent) + len(one_line) + 3 <= WIDTH and indent:
        return f"{{{one_line}}}"
    lines, line = [], inner
    for number in numbers:
        if len(line) + len(number) + 2 > WIDTH:
            lines.append(line.rstrip())
            line = inner
        line += number + ", "
    lines.append(line.rstrip())
    return "{\n" + "\n".join(lines) + f"\n{indent}}}"


def float_text(value: float) -> str:
    """Return a float32 as a C literal that reads back as the same number.

    Example:
        >>> float_text(1.0), float_text(0.1), float_text(1e-20)
        ('1.0f', '0.1f', '1e-20f')
    """
    text = f"{float(np.float32(value)):.9g}"
    shorter = f"{float(np.float32(value)):.7g}"
    if np.float32(shorter) == np.float32(value):
        text = shorter
    return text + ("f" if "." in text or "e" in text else ".0f")


def quoted(text: str) -> str:
    r"""Return a C string literal; whatever is not plain ASCII becomes octal escapes of its UTF-8.

    Example:
        >>> quoted('T-shirt/top'), quoted('"\n')
        ('"T-shirt/top"', '"\\042\\012"')
    """
    plain = set((string.ascii_letters + string.digits + " _-+/.,:").encode())
    return '"' + "".join(chr(b) if b in plain else f"\\{b:03o}" for b in text.encode()) + '"'


def comment_text(text: str) -> str:
    """Return text that can't end a comment or a line.

    Example:
        >>> comment_text("a*/ int x")
        'a*_ int x'
    """
    plain = set(string.ascii_letters + string.digits + " _-+.,:()*")
    return "".join(c if c in plain else "_" for c in text)
