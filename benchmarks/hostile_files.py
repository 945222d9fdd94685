"""Files that are made to do harm, or are merely odd; `pictures.py` reads each of them."""

import struct
import zlib
from collections.abc import Callable, Iterator

import numpy as np
from hostile_content import encode, hostile_content
from PIL import Image

from lenet.images.limits import MAX_BYTES, MAX_JPEG_PIXELS, MAX_PIXELS

SEED = 6
SIDE = int(MAX_PIXELS**0.5)
File = tuple[str, Callable[[], bytes]]


def hostile_files() -> Iterator[File]:
    """Yield what each file is, and what makes it."""
    yield from _of_png()
    yield from _of_jpeg()
    yield from _of_tiff()
    yield from _of_others()
    yield from hostile_content()
    for kind in ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM"):
        yield f"{kind} cut off in the middle", lambda kind=kind: _cut(kind)  # type: ignore[misc]


def chunk(name: bytes, body: bytes) -> bytes:
    """Return a piece of a PNG."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_of(width: int, height: int, depth: int, colour: int = 0, *more: bytes) -> bytes:
    """Return a blank PNG of that size; of more than `MAX_PIXELS`, the header and little else."""
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    row = bytes(1 + -(-width * depth * samples // 8))
    packer = zlib.compressobj(1)
    rows = height if width * height <= MAX_PIXELS else 1
    block = row * max(1, 2**20 // len(row))
    total, pixels = rows * len(row), b""
    pixels += b"".join(packer.compress(block) for _ in range(total // len(block)))
    pixels += packer.compress(block[: total % len(block)]) + packer.flush()
    parts = [chunk(b"IHDR", head), *more, chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff_of(tags: list[tuple[int, int, int, int]], body: bytes = bytes(1000)) -> bytes:
    """Return a TIFF of these tags (number, type, count, value); `body` begins at byte 8."""
    entries = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
    return (
        b"II*\0"
        + struct.pack("<I", 8 + len(body))
        + body
        + struct.pack("<H", len(tags))
        + entries
        + struct.pack("<I", 8 + len(body))  # the next page is this one
    )


def _grey(width: int, height: int, *, depth: int = 8) -> list[tuple[int, int, int, int]]:
    return [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, depth), (262, 3, 1, 1),
            (277, 3, 1, 1)]  # fmt: skip


def _of_png() -> Iterator[File]:
    packed = zlib.compress(bytes(200 * 10**6), 9)
    yield "PNG that claims 65,535 x 65,535 pixels", lambda: png_of(65_535, 65_535, 8)
    yield "PNG of 1.6 gigapixels in 1 bit", lambda: png_of(40_000, 40_000, 1)
    for name, body in ((b"zTXt", b"a\0\0"), (b"iCCP", b"a\0\0"), (b"iTXt", b"a\0\1\0\0\0")):
        piece = chunk(name, body + packed)
        title = f"PNG with 200 MB in 200 kB of {name.decode()}"
        yield title, lambda piece=piece: png_of(28, 28, 8, 0, piece)  # type: ignore[misc]
    yield "PNG of 64 megapixels, 1 bit", lambda: png_of(SIDE, SIDE, 1)
    yield "PNG of 64 megapixels, 16 bits", lambda: png_of(SIDE, SIDE, 16)
    yield "PNG of 64 megapixels, 16 bits RGBA", lambda: png_of(SIDE, SIDE, 16, 6)
    yield "PNG of 64 megapixels, RGBA", lambda: png_of(SIDE, SIDE, 8, 6)
    palette = chunk(b"PLTE", bytes(768)) + chunk(b"tRNS", bytes(256))
    yield (
        "PNG of 64 megapixels, palette with transparency",
        lambda: png_of(SIDE, SIDE, 8, 3, palette),
    )
    empty = chunk(b"abCd", b"") * (MAX_BYTES // 12 - 100)
    yield "PNG of 16 million empty chunks", lambda: png_of(28, 28, 8, 0, empty)
    frames = [Image.new("L", (64, 64), i % 256) for i in range(1000)]
    yield (
        "APNG of 1,000 frames",
        lambda: encode(frames[0], "PNG", save_all=True, append_images=frames[1:]),
    )
    yield "PNG of 1 x 64,000,000 pixels", lambda: png_of(1, MAX_PIXELS, 8)


def _of_jpeg() -> Iterator[File]:
    side = int(MAX_JPEG_PIXELS**0.5)
    rng = np.random.default_rng(SEED)

    def noise(width: int, height: int) -> Image.Image:
        tile = Image.fromarray(rng.integers(0, 256, (1000, 1000, 3), dtype=np.uint8))
        image = Image.new("RGB", (width, height))
        for y in range(0, height, 1000):
            for x in range(0, width, 1000):
                image.paste(tile, (x, y))
        return image

    def progressive(pixels: int) -> bytes:
        wide = Image.new("RGB", (int(pixels**0.5),) * 2, (200, 190, 180))
        return encode(wide, "JPEG", progressive=True, subsampling=0, quality=90)

    yield (
        "JPEG, the largest that is decoded",
        lambda: encode(Image.new("RGB", (side, side), (200, 190, 180)), "JPEG", subsampling=0),
    )
    yield (
        "JPEG of 64 megapixels of noise",
        lambda: encode(noise(SIDE, SIDE), "JPEG", subsampling=0, quality=90),
    )
    yield "JPEG of 178 megapixels in 10 scans", lambda: progressive(MAX_JPEG_PIXELS)
    yield "JPEG of 64 megapixels in 10 scans", lambda: progressive(MAX_PIXELS)
    yield (
        "JPEG of 16 megapixels of noise in 10 scans",
        lambda: encode(noise(4000, 4000).convert("L"), "JPEG", progressive=True, quality=50),
    )
    yield "JPEG of 178 megapixels that claims 3 scans", lambda: _three_scans(side)
    yield (
        "JPEG of 1 megapixel in 990 scans",
        lambda: _many_scans(progressive(10**6), 980),
    )
    small = encode(Image.new("L", (64, 64), 99), "JPEG")
    garbage = b"\xff\xe1" + struct.pack(">H", 60_000) + b"Exif\0\0II*\0" + rng.bytes(59_988)
    yield "JPEG with 3,000 pieces of EXIF garbage", lambda: small[:2] + garbage * 3000 + small[2:]
    yield (
        "JPEG with 40 million markers",
        lambda: small[:2] + b"\xff\xfe\0\2" * (MAX_BYTES // 4 - 1000) + small[2:],
    )
    profile = b"".join(
        b"\xff\xe2" + struct.pack(">H", 65_000) + b"ICC_PROFILE\0" + bytes([1, 255]) + bytes(64_984)
        for _ in range(2500)
    )
    yield "JPEG with 160 MB of ICC profile", lambda: small[:2] + profile + small[2:]


def _three_scans(side: int) -> bytes:
    """Return a progressive JPEG cut off in its third scan: all coefficients must be kept."""
    small = encode(Image.new("RGB", (800, 800)), "JPEG", progressive=True, subsampling=0)
    place = small.index(b"\xff\xc2")
    size = struct.pack(">HH", side, side)
    small = small[: place + 5] + size + small[place + 9 :]
    starts = [i for i in range(len(small)) if small[i : i + 2] == b"\xff\xda"]
    return small[: starts[3]] + b"\xff\xd9"


def _many_scans(data: bytes, num_more: int) -> bytes:
    """Repeat the last scan of a progressive JPEG."""
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * num_more + b"\xff\xd9"


def _of_tiff() -> Iterator[File]:
    strip = [(273, 4, 1, 8), (278, 4, 1, 2**31 - 1), (279, 4, 1, 1000)]
    yield (
        "TIFF of 64 megapixels, 16 bits",
        lambda: encode(Image.fromarray(np.full((SIDE, SIDE), 40_000, np.uint16)), "TIFF"),
    )
    yield (
        "TIFF of 64 megapixels, floats, deflated",
        lambda: encode(
            Image.fromarray(np.zeros((SIDE, SIDE), np.float32)),
            "TIFF",
            compression="tiff_adobe_deflate",
        ),
    )
    yield (
        "TIFF of 64 megapixels, CMYK, LZW",
        lambda: encode(Image.new("CMYK", (SIDE, SIDE)), "TIFF", compression="tiff_lzw"),
    )
    yield (
        "TIFF of 64 megapixels, fax",
        lambda: encode(Image.new("1", (SIDE, SIDE)), "TIFF", compression="group4"),
    )
    yield (
        "TIFF of 64 megapixels in one strip that is not there",
        lambda: tiff_of([*_grey(SIDE, SIDE), (259, 3, 1, 8), *strip]),
    )
    count = (MAX_BYTES - 2000) // 8
    yield f"TIFF of {count:,} strips", lambda: tiff_of(
        [*_grey(1, 60_000_000), (259, 3, 1, 1), (278, 4, 1, 1), (273, 4, count, 8),
         (279, 4, count, 8)],
        bytes(count * 4),
    )  # fmt: skip
    yield "TIFF of one tile of 32,768 x 32,768", lambda: tiff_of(
        [*_grey(100, 100), (259, 3, 1, 8), (322, 4, 1, 32_768), (323, 4, 1, 32_768),
         (324, 4, 1, 8), (325, 4, 1, 1000)]
    )  # fmt: skip
    yield "TIFF of 60,000 samples a pixel", lambda: tiff_of(
        [(256, 4, 1, 100), (257, 4, 1, 100), (258, 3, 1, 8), (262, 3, 1, 1), (277, 3, 1, 60_000),
         (259, 3, 1, 1), *strip]
    )  # fmt: skip
    yield (
        "TIFF whose next page is itself",
        lambda: tiff_of([*_grey(20, 20), (259, 3, 1, 1), *strip]),
    )
    pages = [Image.new("L", (64, 64), i % 256) for i in range(1000)]
    yield (
        "TIFF of 1,000 pages",
        lambda: encode(pages[0], "TIFF", save_all=True, append_images=pages[1:]),
    )


def _of_others() -> Iterator[File]:
    yield (
        "WebP of 64 megapixels",
        lambda: encode(Image.new("RGB", (SIDE, SIDE), (9, 99, 9)), "WEBP", method=0),
    )
    yield (
        "WebP of 64 megapixels, transparent, lossless",
        lambda: encode(
            Image.new("RGBA", (SIDE, SIDE), (9, 9, 9, 50)),
            "WEBP",
            method=0,
            lossless=True,
            quality=0,
        ),
    )
    yield (
        "WebP, the largest that is decoded, transparent",
        lambda: encode(Image.new("RGBA", (8000, 4000), (9, 9, 9, 50)), "WEBP", method=0),
    )
    frames = [Image.new("RGB", (64, 64), (i % 256, 0, 0)) for i in range(300)]
    yield (
        "WebP of 300 frames",
        lambda: encode(frames[0], "WEBP", save_all=True, append_images=frames[1:], method=0),
    )
    greys = [Image.new("P", (64, 64), i % 256) for i in range(3000)]
    yield (
        "GIF of 3,000 frames",
        lambda: encode(greys[0], "GIF", save_all=True, append_images=greys[1:]),
    )
    yield (
        "GIF of 64 megapixels, transparent",
        lambda: encode(Image.new("P", (SIDE, SIDE), 3), "GIF", transparency=3),
    )
    small = encode(greys[1], "GIF")
    wide = small[:6] + struct.pack("<HH", 65_535, 65_535) + small[10:]
    yield "GIF of 64 x 64 on a screen of 65,535 x 65,535", lambda: wide
    comment = b"!\xfe" + b"\1a" * (MAX_BYTES // 2 - 2000) + b"\0"
    place = 13 + 3 * 2 ** ((small[10] & 7) + 1) * (small[10] >> 7)
    yield (
        "GIF with 100 million pieces of a comment",
        lambda: small[:place] + comment + small[place:],
    )
    yield "BMP of 64 megapixels in runs of one pixel", lambda: _rle(8000, 8000)
    yield "BMP of 64 megapixels, 24 bits", lambda: encode(Image.new("RGB", (SIDE, SIDE)), "BMP")
    yield (
        "PGM of 64 megapixels as text",
        lambda: f"P2 {SIDE} {SIDE} 255\n".encode() + b"7 " * MAX_PIXELS,
    )
    yield "PBM of 64 megapixels as text", lambda: f"P1 {SIDE} {SIDE}\n".encode() + b"1" * MAX_PIXELS
    yield (
        "PPM of 64 megapixels of 100 greys",
        lambda: f"P5 {SIDE} {SIDE} 100\n".encode() + bytes(MAX_PIXELS),
    )
    yield "PPM with 200 MB of comment", lambda: b"P5 #" + b"a" * (MAX_BYTES - 100) + b"\n2 2 9 abcd"
    yield "PFM of 48 megapixels", lambda: b"Pf 6900 6900 -1.0\n" + bytes(4 * 6900**2)
    yield "ICO", lambda: encode(Image.new("RGBA", (64, 64)), "ICO")
    yield "random bytes", lambda: np.random.default_rng(SEED).bytes(10_000_000)
    yield "SVG", lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>"
    yield "PDF", lambda: b"%PDF-1.7\n"


def _rle(width: int, height: int) -> bytes:
    body = (b"\1\7" * width + b"\0\0") * height
    body = body[: MAX_BYTES - 2000]
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(body), 0, 0, 256, 0)
    start = 14 + len(head) + 1024
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + head + bytes(1024) + body


def _cut(kind: str) -> bytes:
    data = encode(Image.new("RGB", (5000, 5000), (200, 190, 180)), kind)
    return data[: len(data) // 2]
