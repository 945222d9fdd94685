"""Any picture to RGB pixels of a bounded size, in bounded memory and time.

What can be known from a file's header is checked before a pixel is decoded. Pictures are made
smaller as they are read, so that a photograph of 12 or 100 megapixels costs little more than its
decoding.
"""

import io
import os
import stat
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import (
    Image,
    TiffImagePlugin,  # noqa: F401  # registers the format
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401  # likewise
)

from lenet.errors import PictureError

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
"""What Pillow may try. Some phones' JPEGs hold several pictures; it calls them MPO."""
SUFFIXES = (
    ".png .jpg .jpeg .jpe .bmp .gif .tif .tiff .webp .ppm .pgm .pbm .pnm".split()  # noqa: SIM905
)
"""What is taken from a folder."""
MAX_SIDE = 768
"""Longest side of what is worked on, in pixels."""
MAX_BYTES = 200 * 10**6
MAX_PIXELS = 64 * 10**6
"""Of a picture that must be decoded whole: 64 million in four bytes are 256 MB."""
MAX_JPEG_PIXELS = 178 * 10**6
"""Of a JPEG, which is decoded at a fraction of its size."""
MAX_SCANNED_PIXELS = 10**9
"""Of a JPEG in several scans: pixels times scans. A photograph has some ten scans; a file made
to keep us busy, thousands."""
FOREIGN = (
    (b"%PDF", "a PDF; save the page as a PNG"),
    (b"<svg", "an SVG drawing; save it as a PNG"),
    (b"<?xml", "an XML file, perhaps an SVG drawing; save it as a PNG"),
)

Source = str | os.PathLike[str] | bytes | NDArray[Any] | Image.Image


@dataclass(frozen=True, eq=False, kw_only=True)
class Picture:
    """Pixels to work on."""

    rgb: NDArray[Any]
    """(H, W, 3) in [0, 1], at most `MAX_SIDE` on a side."""
    size: tuple[int, int]
    """Width and height before it was made smaller, as seen by a person."""
    format: str
    """As Pillow names it, or "array"."""


def read_picture(source: Source) -> Picture:
    """Read a picture; of an animation or a file of several pages the first.

    Args:
        source: Path of a file, its bytes, an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), or
            a Pillow image. A float array is in [0, 1], or in [0, 255] if it has values over 1.

    Raises:
        PictureError: Not a picture that is read here; the message says why.
    """
    if isinstance(source, np.ndarray):
        return Picture(
            rgb=_from_array(source), size=(source.shape[1], source.shape[0]), format="array"
        )
    if isinstance(source, Image.Image):
        if source.width * source.height > MAX_PIXELS:
            raise PictureError(_too_many(source.width, source.height, MAX_PIXELS))
        return _shrink(source, source.format or "image")
    return _decode(source if isinstance(source, bytes) else _read_bytes(Path(source)))


def _read_bytes(path: Path) -> bytes:
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise PictureError("a folder, not a picture")
        if not stat.S_ISREG(status.st_mode):
            raise PictureError("not a regular file")
        if status.st_size > MAX_BYTES:
            raise PictureError(
                f"{status.st_size:,} bytes; pictures of at most {MAX_BYTES:,} are read"
            )
        return path.read_bytes()
    except (OSError, ValueError) as error:
        if isinstance(error, PictureError):
            raise
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise PictureError(f"can't be read: {reason}") from None


def _decode(data: bytes) -> Picture:
    if not data:
        raise PictureError("an empty file")
    start = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n")
    for magic, what in FOREIGN:
        if start.startswith(magic):
            raise PictureError(f"{what} first")
    if data[4:8] == b"ftyp" and data[8:12] in (b"heic", b"heix", b"mif1", b"msf1", b"avif"):
        raise PictureError("a HEIC or AVIF picture; save it as a JPEG or PNG first")
    try:
        with warnings.catch_warnings():
            # Pillow warns of odd metadata, which is not used, and of sizes, which are checked.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                _check_header(image, data)
                return _shrink(image, image.format or "image")
    except PictureError:
        raise
    except Image.DecompressionBombError:
        raise PictureError("more pixels than are decoded here") from None
    except UnidentifiedImageError:
        known = "PNG, JPEG, BMP, GIF, TIFF, WebP or PNM"
        raise PictureError(f"not a picture, or a damaged one; expected {known}") from None
    except Exception as error:  # a decoder that is fed with hostile bytes may raise anything
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise PictureError(f"a damaged picture: {said}") from None


def _check_header(image: Image.Image, data: bytes) -> None:
    width, height = image.size
    is_jpeg = image.format in ("JPEG", "MPO")
    limit = MAX_JPEG_PIXELS if is_jpeg else MAX_PIXELS
    if width * height > limit:
        raise PictureError(_too_many(width, height, limit))
    if not is_jpeg or _is_one_scan(data):
        return
    # In the compressed data a byte 0xff is followed by 0 or by a marker, so this counts scans.
    num_scans = data.count(b"\xff\xda")
    if num_scans > 3 and width * height * num_scans > MAX_SCANNED_PIXELS:
        raise PictureError(
            f"a JPEG of {width} x {height} pixels in {num_scans} scans takes too long to decode"
        )


def _is_one_scan(data: bytes) -> bool:
    """Tell whether a JPEG's first scan is the whole picture; decoders then read no other.

    Most files of cameras are so, and to count the scans of a large one takes milliseconds.
    """
    place, num_colours = 2, 0
    while data[place : place + 1] == b"\xff" and len(data) > place + 9:
        marker, length = data[place + 1], int.from_bytes(data[place + 2 : place + 4], "big")
        if marker == 0xDA:
            return 0 < num_colours <= data[place + 4]
        if marker in (0xC0, 0xC1):
            num_colours = data[place + 9]
        place += 2 + length
    return False


def _too_many(width: int, height: int, limit: int) -> str:
    return f"{width} x {height} pixels; at most {limit:,} are decoded"


def _shrink(image: Image.Image, name: str) -> Picture:
    # Pillow turns a TIFF by itself.
    orientation = image.getexif().get(0x0112) if image.format != "TIFF" else None
    size = image.size
    # A JPEG decoder halves the size for a fraction of the cost, again and again; Pillow keeps both
    # sides at least as long as asked for.
    part = min(1.0, MAX_SIDE / max(size))
    image.draft(None, (max(1, int(size[0] * part)), max(1, int(size[1] * part))))
    if image.mode in ("P", "PA", "LA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
    elif image.mode in ("1", "CMYK", "YCbCr", "LAB", "HSV", "RGBX"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    elif image.mode not in ("L", "RGB", "RGBA"):
        image = _stretch(image)
    if image.mode == "RGBA":
        image = image.convert("RGBa")  # so that invisible pixels do not bleed into visible ones
    factor = max(image.size) // MAX_SIDE
    if factor >= 2:
        image = image.reduce(factor)
    longest = max(image.size)
    if longest > MAX_SIDE:
        scaled = [max(1, round(side * MAX_SIDE / longest)) for side in image.size]
        image = image.resize((scaled[0], scaled[1]), Image.Resampling.BOX)
    pixels = np.divide(np.asarray(image), np.float32(255), dtype=np.float32)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[:, :, None], 3, axis=2)
    rgb = _on_paper(pixels) if pixels.shape[2] == 4 else pixels
    rgb = np.ascontiguousarray(_turn(rgb, orientation))
    if orientation in (5, 6, 7, 8):
        size = size[1], size[0]
    return Picture(rgb=rgb, size=size, format=name)


def _stretch(image: Image.Image) -> Image.Image:
    """Map more than eight bits to eight: all that is there to the whole range."""
    values = np.asarray(image)
    # Some rows at a time: all of them as floats would take a gigabyte.
    parts = [values[start : start + 256] for start in range(0, len(values), 256)]
    low = min(float(_finite(part).min()) for part in parts)
    high = max(float(_finite(part).max()) for part in parts)
    scale = np.float32(255 / (high - low) if high > low else 0.0)
    stretched = np.empty(values.shape, np.uint8)
    for number, part in enumerate(parts):
        stretched[256 * number : 256 * number + len(part)] = (_finite(part) - low) * scale
    return Image.fromarray(stretched)


def _finite(values: NDArray[Any]) -> NDArray[Any]:
    return np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)


def _on_paper(premultiplied: NDArray[Any]) -> NDArray[Any]:
    """Put a drawing with transparency on white, or on black where the drawing itself is light."""
    colours, alpha = premultiplied[:, :, :3], premultiplied[:, :, 3:]
    weight = float(alpha.sum())
    # Opaque all over: nothing shows through.
    if weight == 0 or float(alpha.min()) == 1:
        return colours
    is_light = float(colours.mean(axis=2).sum()) > weight / 2
    return colours if is_light else colours + (1 - alpha)


def _turn(rgb: NDArray[Any], orientation: object) -> NDArray[Any]:
    """Undo how the camera was held. Source: Exif 2.3, tag 0x0112."""
    if orientation in (5, 6, 7, 8):
        rgb = rgb.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        rgb = rgb[:, ::-1]
    if orientation in (3, 4, 7, 8):
        rgb = rgb[::-1]
    return rgb


def _from_array(values: NDArray[Any]) -> NDArray[Any]:
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    if (
        values.dtype.kind not in "buif"
        or not (values.ndim == 2 or (values.ndim == 3 and values.shape[2] in (3, 4)))
        or min(values.shape) == 0
    ):
        raise PictureError(
            f"an array of shape {values.shape} and type {values.dtype}; "
            "expected numbers (H, W), (H, W, 3) or (H, W, 4)"
        )
    if values.shape[0] * values.shape[1] > MAX_PIXELS:
        raise PictureError(_too_many(values.shape[1], values.shape[0], MAX_PIXELS))
    if values.dtype.kind == "b":
        values = values.astype(np.uint8) * np.uint8(255)
    elif values.dtype.kind == "f":
        values = np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=1.0, neginf=0.0)
        values = np.clip(values * (255 if values.max() <= 1 else 1), 0, 255).round()
    elif values.dtype != np.uint8:
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > 255:
            values = (values.astype(np.float64) - low) * (255 / max(1, high - low))
    return _shrink(Image.fromarray(np.ascontiguousarray(values.astype(np.uint8))), "array").rgb
