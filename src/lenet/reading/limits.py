"""What a picture's file may cost: limits of memory and time, checked before a pixel is decoded."""

import contextlib
import io
import struct
from collections.abc import Iterator

from PIL import Image, ImageFile

from lenet.errors import PictureError

MAX_BYTES = 200 * 10**6
LARGE_BYTES, LARGE_PIXELS = 32 * 10**6, 16 * 10**6
"""Pictures larger than this are read one after the other, however many threads there are."""
MAX_PIXELS = 64 * 10**6
"""Of a picture that must be decoded whole: 64 million in four bytes are 256 MB."""
MAX_WEBP_PIXELS = 32 * 10**6
"""WebP's decoder keeps four such pictures at once."""
MAX_JPEG_PIXELS = 178 * 10**6
"""Of a JPEG, which is decoded at a fraction of its size."""
MAX_HEADER_READS, MAX_READS = 10_000, 200_000
"""Of pieces of a file, by decoders in Python: a file may consist of millions of empty ones."""
MAX_EXIF_PIECES = 64
MAX_SLOW_PIXELS = 4 * 10**6
"""Of formats that Pillow decodes in Python, at up to a microsecond a pixel."""
SLOW_READS = 4
"""Of these, for each pixel."""
SLOW_DECODERS = ("bmp_rle", "ppm_plain", "ppm")
MAX_TIFF_VALUES = 10**6
"""Of one property of a TIFF: its strips may be tens of millions, of a hundred bytes of memory."""
MAX_SCANNED_PIXELS = 10**9
"""Of a JPEG in several scans: pixels times scans. A photograph has some ten scans; a file made
to keep us busy, thousands."""


class Pieces(io.BytesIO):
    """A file that is read in so many pieces and no more."""

    num_left = MAX_HEADER_READS

    def read(self, size: int | None = -1, /) -> bytes:
        """As of any file."""
        self.num_left -= 1
        if self.num_left < 0:
            raise PictureError("a file of too many pieces")
        return super().read(size)


def check_tiff(data: bytes) -> None:
    """Look at a TIFF's tiles and at how many values its properties have, before Pillow does."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 16:
        return
    # In BigTIFF, whose version is 43, places and counts have eight bytes.
    is_big = struct.unpack_from(order + "H", data, 2)[0] == 43
    start = struct.unpack_from(order + ("Q" if is_big else "L"), data, 8 if is_big else 4)[0]
    head, entry = (order + "Q", order + "HHQ8x") if is_big else (order + "H", order + "HHL4x")
    tile = 1
    with contextlib.suppress(struct.error, OverflowError):  # cut off: Pillow says so
        num_entries = struct.unpack_from(head, data, start)[0]
        for number in range(min(num_entries, MAX_HEADER_READS)):
            place = start + struct.calcsize(head) + number * struct.calcsize(entry)
            tag, kind, count = struct.unpack_from(entry, data, place)
            if tag in (322, 323):  # the width and height of its tiles
                form = order + {3: "H", 16: "Q"}.get(kind, "L")
                tile *= struct.unpack_from(form, data, place + (12 if is_big else 8))[0]
            if tile > LARGE_PIXELS:
                raise PictureError(f"a TIFF with tiles of {tile:,} pixels")
            if count > MAX_TIFF_VALUES and count <= len(data):
                raise PictureError(f"a TIFF with {count:,} values of one property")


def check_header(image: Image.Image, data: bytes) -> int:
    """Refuse what takes too long or too much memory to decode.

    Returns:
        In how many pieces the pixels may be read.
    """
    width, height = image.size
    is_jpeg = image.format in ("JPEG", "MPO")
    is_whole = is_jpeg and _is_one_scan(data)
    tiles = image.tile if isinstance(image, ImageFile.ImageFile) else []
    is_slow = any(tile.codec_name in SLOW_DECODERS for tile in tiles)
    # Of a JPEG in several scans all coefficients are kept, at its full size.
    limit = MAX_JPEG_PIXELS if is_whole else MAX_SLOW_PIXELS if is_slow else MAX_PIXELS
    if image.format == "WEBP":
        limit = MAX_WEBP_PIXELS
    if width * height > limit:
        raise PictureError(too_many(width, height, limit))
    if not is_jpeg or is_whole:
        return SLOW_READS * MAX_SLOW_PIXELS if is_slow else MAX_READS
    # In the compressed data a byte 0xff is followed by 0 or by a marker, so this counts scans.
    num_scans = data.count(b"\xff\xda")
    if num_scans > 3 and width * height * num_scans > MAX_SCANNED_PIXELS:
        raise PictureError(
            f"a JPEG of {width} x {height} pixels in {num_scans} scans takes too long to decode"
        )
    return MAX_READS


def is_large(image: Image.Image, data: bytes) -> bool:
    """Tell whether many megabytes are needed to decode a picture."""
    is_whole = image.format in ("JPEG", "MPO") and _is_one_scan(data)
    return image.width * image.height > LARGE_PIXELS and not is_whole


def check_jpeg(data: bytes) -> None:
    """Count a JPEG's pieces of EXIF: Pillow joins them one by one, each time copying all."""
    exif = sum(
        marker == 0xE1 and data.startswith(b"Exif", place) for marker, place in _segments(data)
    )
    if exif > MAX_EXIF_PIECES:
        raise PictureError(f"a JPEG with {exif:,} pieces of EXIF")


def _is_one_scan(data: bytes) -> bool:
    """Tell whether a JPEG's first scan is the whole picture; decoders then read no other.

    Most files of cameras are so, and to count the scans of a large one takes milliseconds.
    """
    num_colours = 0
    for marker, place in _segments(data):
        if marker == 0xDA:
            return 0 < num_colours <= data[place]
        if marker in (0xC0, 0xC1):
            num_colours = data[place + 5]
    return False


def _segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield the markers before a JPEG's first scan, that scan's too, and where their bodies are."""
    place, num_left = 2, MAX_HEADER_READS
    while (
        num_left
        and data[:2] == b"\xff\xd8"
        and data[place : place + 1] == b"\xff"
        and len(data) > place + 9
    ):
        marker = data[place + 1]
        num_left -= 1
        yield marker, place + 4
        if marker == 0xDA:
            return
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")


def too_many(width: int, height: int, limit: int) -> str:
    """Return what is said of a picture of more pixels than that."""
    return f"{width} x {height} pixels; at most {limit:,} are decoded"
