"""Any picture to RGB pixels of a bounded size, in bounded memory and time.

What can be known from a file's header is checked before a pixel is decoded. Pictures are made
smaller as they are read, so that a photograph of 12 or 100 megapixels costs little more than its
decoding.
"""

import os
import stat
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import (
    Image,
    TiffImagePlugin,  # noqa: F401  # registers the format
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401  # likewise
)

from lenet.errors import PictureError
from lenet.reading.limits import (
    LARGE_BYTES,
    MAX_BYTES,
    MAX_PIXELS,
    Pieces,
    check_header,
    check_jpeg,
    check_tiff,
    is_large,
    too_many,
)

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
"""What Pillow may try. Some phones' JPEGs hold several pictures; it calls them MPO."""
SUFFIXES = (
    ".png .jpg .jpeg .jpe .bmp .gif .tif .tiff .webp .ppm .pgm .pbm .pnm".split()  # noqa: SIM905
)
"""What is taken from a folder."""
SYSTEM_FOLDERS = ("__MACOSX", "@eaDir", "$RECYCLE.BIN")
"""Folders that macOS's zip, Synology and Windows make; they may hold copies of pictures."""
MAX_SIDE, DIGIT_SIDE = 768, 512
"""Longest side of what is worked on, in pixels; the second of a picture of one digit."""
CHANNELS = (1, 3, 4)
"""Numbers of channels of an array: grey, RGB, RGB with transparency."""
FOREIGN = (
    (b"%PDF", "a PDF; save the page as a PNG"),
    (b"<svg", "an SVG drawing; save it as a PNG"),
    (b"<?xml", "an XML file, perhaps an SVG drawing; save it as a PNG"),
)

_LARGE = threading.RLock()


class ArrayLike(Protocol):
    """Whatever numpy can make an array of, such as a PyTorch tensor."""

    def __array__(self) -> NDArray[Any]:
        """Return the array."""


Source = str | os.PathLike[str] | bytes | list[Any] | ArrayLike | Image.Image


@dataclass(frozen=True, eq=False, kw_only=True)
class Picture:
    """Pixels to work on."""

    rgb: NDArray[Any]
    """(H, W, 3) in [0, 1]."""
    size: tuple[int, int]
    """Width and height before it was made smaller, as seen by a person."""
    format: str
    """As Pillow names it, or "array"."""


def read_picture(source: Source, max_side: int = MAX_SIDE) -> Picture:
    """Read a picture; of an animation or a file of several pages the first.

    Args:
        source: Path of a file, its bytes, a Pillow image, or an array or tensor of shape (H, W),
            (H, W, C) or (C, H, W) with C of 1, 3 or 4. Floats are in [0, 1], or in [0, 255] if
            there are values over 1.
        max_side: A longer picture is made smaller.

    Raises:
        PictureError: Not a picture that is read here; the message says why.
    """
    if hasattr(source, "detach"):  # a PyTorch tensor, which may be on a GPU or need gradients
        source = source.detach().cpu().numpy()
    if isinstance(source, Image.Image):
        if source.width * source.height > MAX_PIXELS:
            raise PictureError(too_many(source.width, source.height, MAX_PIXELS))
        return _shrink(source, source.format or "image", max_side)
    if isinstance(source, bytes | bytearray | memoryview):
        return _decode(bytes(source), max_side)
    if isinstance(source, list) or hasattr(source, "__array__"):
        with _explained():
            return _from_array(np.asarray(source), max_side)
    if not isinstance(source, str | os.PathLike):
        kind = type(source).__name__
        raise PictureError(f"expected a path, bytes, an array or a Pillow image, found {kind}")
    path = Path(source)
    with _alone(_size_of(path) > LARGE_BYTES):
        return _decode(_read_bytes(path), max_side)


def walk(folder: str | os.PathLike[str], suffixes: Iterable[str] = SUFFIXES) -> Iterator[str]:
    """Yield the paths of a folder's files with these endings, in order, subfolders included.

    What operating systems and notebooks leave there is passed over: hidden files and folders (such
    as `._7.png` and `.ipynb_checkpoints`) and `SYSTEM_FOLDERS`. Links to folders are not followed.
    """
    endings = tuple(suffixes)
    for parent, subfolders, names in os.walk(folder):
        subfolders[:] = sorted(name for name in subfolders if not is_junk(name))
        for name in sorted(names):
            if name.lower().endswith(endings) and not is_junk(name):
                yield os.path.join(parent, name)


def is_junk(name: str) -> bool:
    """Return whether a file or folder is one that no person put there."""
    return name.startswith(".") or name in SYSTEM_FOLDERS


def _alone(is_large: bool) -> AbstractContextManager[Any]:
    """Return what lets threads read large pictures one after the other."""
    return _LARGE if is_large else nullcontext()


def _size_of(path: Path) -> int:
    with _explained():
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise PictureError("a folder, not a picture")
        if not stat.S_ISREG(status.st_mode):
            raise PictureError("not a regular file")
        if status.st_size > MAX_BYTES:
            raise PictureError(
                f"{status.st_size:,} bytes; pictures of at most {MAX_BYTES:,} are read"
            )
        return status.st_size


def _read_bytes(path: Path) -> bytes:
    with _explained(), path.open("rb") as file:
        return file.read(MAX_BYTES)  # it may have grown


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        if isinstance(error, PictureError):
            raise
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise PictureError(f"can't be read: {reason}") from None


def _decode(data: bytes, max_side: int) -> Picture:
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
            check_tiff(data)
            check_jpeg(data)
            file = Pieces(data)
            with Image.open(file, formats=FORMATS) as image:
                file.num_left = check_header(image, data)
                with _alone(is_large(image, data)):
                    return _shrink(image, image.format or "image", max_side)
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


def _shrink(image: Image.Image, name: str, max_side: int) -> Picture:
    # Pillow turns a TIFF by itself.
    orientation = image.getexif().get(0x0112) if image.format != "TIFF" else None
    size = image.size
    # A JPEG decoder halves the size for a fraction of the cost, again and again; Pillow keeps both
    # sides at least as long as asked for.
    part = min(1.0, max_side / max(size))
    image.draft(None, (max(1, int(size[0] * part)), max(1, int(size[1] * part))))
    if image.mode in ("P", "PA", "LA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
    elif image.mode in ("1", "CMYK", "YCbCr", "LAB", "HSV", "RGBX"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    elif image.mode not in ("L", "RGB", "RGBA"):
        image = _stretch(image)
    if image.mode == "RGBA":
        image = image.convert("RGBa")  # so that invisible pixels do not bleed into visible ones
    factor = max(image.size) // max_side
    if factor >= 2:
        image = image.reduce(factor)
    longest = max(image.size)
    if longest > max_side:
        scaled = [max(1, round(side * max_side / longest)) for side in image.size]
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


def _from_array(given: NDArray[Any], max_side: int) -> Picture:
    values = given
    if values.ndim == 3 and values.shape[0] in CHANNELS and values.shape[2] not in CHANNELS:
        values = np.moveaxis(values, 0, 2)
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    if (
        values.dtype.kind not in "buif"
        or not (values.ndim == 2 or (values.ndim == 3 and values.shape[2] in CHANNELS))
        or min(values.shape) == 0
    ):
        raise PictureError(
            f"an array of shape {given.shape} and type {given.dtype}; expected numbers (H, W), "
            "(H, W, C) or (C, H, W) with C of 1, 3 or 4"
        )
    if values.shape[0] * values.shape[1] > MAX_PIXELS:
        raise PictureError(too_many(values.shape[1], values.shape[0], MAX_PIXELS))
    if values.dtype.kind == "b":
        values = values.astype(np.uint8) * np.uint8(255)
    elif values.dtype.kind == "f":
        values = np.nan_to_num(values, nan=0.0, posinf=1.0, neginf=0.0)
        values = np.clip(values * (255 if values.max() <= 1 else 1), 0, 255).round()
    elif values.dtype != np.uint8:
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > 255:
            values = (values.astype(np.float64) - low) * (255 / max(1, high - low))
    image = Image.fromarray(np.ascontiguousarray(values.astype(np.uint8)))
    return _shrink(image, "array", max_side)
