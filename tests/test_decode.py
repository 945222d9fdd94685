import io
import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lenet.errors import PictureError
from lenet.reading import decode, limits
from lenet.reading.decode import FORMATS, read_picture


@pytest.fixture
def grey() -> np.ndarray[Any, Any]:
    """A light page with a dark stroke, 40 wide and 30 high."""
    page = np.full((30, 40), 230, np.uint8)
    page[5:25, 18:22] = 20
    return page


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", FORMATS)
def test_each_format_is_read(kind: str, grey: np.ndarray[Any, Any], tmp_path: Path) -> None:
    data = encode(Image.fromarray(grey), kind)
    picture = read_picture(data)
    assert picture.format == kind
    assert picture.size == (40, 30)
    assert picture.rgb.shape == (30, 40, 3)
    assert picture.rgb.dtype == np.float32
    assert np.abs(picture.rgb[:, :, 0] - grey / 255).max() < 0.2
    path = tmp_path / f"x.{kind}"
    path.write_bytes(data)
    assert np.array_equal(read_picture(path).rgb, picture.rgb)
    assert np.array_equal(read_picture(str(path)).rgb, picture.rgb)


@pytest.mark.parametrize(
    "mode", ["1", "L", "P", "LA", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "I", "F"]
)
def test_each_mode_shows_the_same_picture(mode: str, grey: np.ndarray[Any, Any]) -> None:
    image = Image.fromarray(grey).convert("L" if mode in ("LA", "PA", "P") else "RGB")
    image = image.convert("L").convert(mode) if mode in ("1", "I", "F", "LA", "P") else image
    if mode in ("PA", "RGBA", "CMYK", "YCbCr"):
        image = image.convert("P").convert(mode) if mode == "PA" else image.convert(mode)
    rgb = read_picture(image).rgb
    assert rgb[15, 20, 0] < 0.3
    assert rgb[2, 2, 0] > 0.7


def test_sixteen_bits_keep_their_contrast(grey: np.ndarray[Any, Any]) -> None:
    deep = grey.astype(np.uint16) * 16  # twelve bits in sixteen
    rgb = read_picture(encode(Image.fromarray(deep), "PNG")).rgb
    assert rgb.min() == 0
    assert rgb.max() == 1


@pytest.mark.parametrize(("ink", "paper"), [(0, 1.0), (255, 0.0)])
def test_transparency_is_paper_that_the_ink_stands_out_from(ink: int, paper: float) -> None:
    pixels = np.zeros((20, 20, 4), np.uint8)
    pixels[5:15, 9:11] = (ink, ink, ink, 255)
    rgb = read_picture(encode(Image.fromarray(pixels), "PNG")).rgb
    assert float(rgb[0, 0, 0]) == paper
    assert float(rgb[10, 10, 0]) == pytest.approx(1 - paper)


def test_a_turned_photograph_is_turned_back(grey: np.ndarray[Any, Any]) -> None:
    upright = Image.fromarray(grey).convert("RGB")
    methods = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    marked = np.asarray(upright).copy()
    marked[2, 3] = (255, 0, 0)
    upright = Image.fromarray(marked)
    for orientation, method in methods.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = encode(upright.transpose(method), "PNG", exif=exif)
        picture = read_picture(data)
        assert picture.size == (40, 30)
        assert np.array_equal(picture.rgb, marked.astype(np.float32) / 255), orientation
        again = read_picture(encode(upright.transpose(method), "TIFF", exif=exif))
        assert np.array_equal(again.rgb, picture.rgb), orientation


def test_a_large_picture_is_made_smaller() -> None:
    picture = read_picture(encode(Image.new("RGB", (3000, 1500), "white"), "JPEG"))
    assert picture.size == (3000, 1500)
    assert picture.rgb.shape == (decode.MAX_SIDE // 2, decode.MAX_SIDE, 3)
    assert read_picture(Image.new("L", (5000, 1))).rgb.shape == (1, decode.MAX_SIDE, 3)


def test_the_first_frame_is_read(grey: np.ndarray[Any, Any]) -> None:
    first, rest = Image.fromarray(grey), [Image.new("L", (40, 30))] * 3
    for kind in ("GIF", "TIFF", "WEBP", "PNG"):
        data = encode(first, kind, save_all=True, append_images=rest)
        assert read_picture(data).rgb[2, 2, 0] > 0.7


@pytest.mark.parametrize(
    "values",
    [
        np.zeros((3, 4), bool), np.zeros((3, 4), np.uint8), np.ones((3, 4), np.int64) * 255,
        np.zeros((3, 4, 1)), np.zeros((3, 4, 3), np.float32), np.full((3, 4, 4), np.nan),
        np.full((2, 2), 40_000, np.uint16),
    ],
)  # fmt: skip
def test_arrays_are_read(values: np.ndarray[Any, Any]) -> None:
    rgb = read_picture(values).rgb
    assert rgb.shape == (*values.shape[:2], 3)
    assert np.isfinite(rgb).all()


@pytest.mark.parametrize(
    "values",
    [
        np.zeros(5), np.zeros((0, 4)), np.zeros((2, 2, 2)), np.zeros((2, 2, 3, 1)),
        np.array([["a"]]), np.zeros((2, 2), complex),
    ],
)  # fmt: skip
def test_other_arrays_are_refused(values: np.ndarray[Any, Any]) -> None:
    with pytest.raises(PictureError, match="an array of shape"):
        read_picture(values)


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, depth: int, *more: bytes) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(bytes(100)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + b"".join(more) + body + chunk(b"IEND", b"")


TEXT_BOMB = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(200 * 10**6), 9))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "an empty file"),
        (b"hello", "not a picture"),
        (b"%PDF-1.4", "a PDF"),
        (b"\xef\xbb\xbf <svg xmlns='x'/>", "an SVG"),
        (b"<?xml version='1.0'?><svg/>", "perhaps an SVG"),
        (b"\0\0\0\x20ftypheic", "a HEIC"),
        (png(65_535, 65_535, 8), "pixels"),
        (png(40_000, 40_000, 1), "pixels"),
        (png(9000, 9000, 1), "9000 x 9000 pixels; at most"),
        (png(28, 28, 8, TEXT_BOMB), "a damaged picture"),
        (
            b"BM" + struct.pack("<IIIIiiHHI", 0, 0, 54, 40, 60_000, 60_000, 1, 1, 0) + bytes(20),
            "pixels",
        ),
        (b"P5 70000 70000 255 ", "pixels"),
        (
            b"GIF89a"
            + struct.pack("<HHBBB", 65_535, 65_535, 0, 0, 0)
            + b","
            + struct.pack("<HHHHB", 0, 0, 65_535, 65_535, 0)
            + bytes(9),
            "pixels",
        ),
    ],
)
def test_bombs_and_other_files_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(PictureError, match=message):
        read_picture(data)


def test_a_jpeg_of_very_many_scans_is_refused() -> None:
    image = Image.new("L", (8000, 8000))
    more = b"\xff\xda" * 20
    with pytest.raises(PictureError, match=r"in 2\d scans takes too long"):
        read_picture(encode(image, "JPEG", progressive=True) + more)
    # What follows a scan that is the whole picture is not decoded.
    assert read_picture(encode(image, "JPEG") + more).size == (8000, 8000)


def tiff(order: str, big: bool, num_strips: int) -> bytes:
    """A grey TIFF of one row a strip, of which all but the first are nowhere."""
    head = {"<": b"II", ">": b"MM"}[order]
    head += struct.pack(order + "HHHQ", 43, 8, 0, 16) if big else struct.pack(order + "HL", 42, 8)
    tags = [(256, 1, 1), (257, 1, num_strips), (258, 1, 8), (259, 1, 1), (262, 1, 1),
            (273, num_strips, 4), (278, 1, 1), (279, num_strips, 4)]  # fmt: skip
    # Places and counts are four bytes each, and values that do not fit follow: all alike.
    entries = b"".join(
        struct.pack(order + ("HHQQ" if big else "HHLL"), tag, 4, count, value)
        if count > 1 or not (order == ">" and big)
        else struct.pack(order + "HHQLL", tag, 4, count, value, 0)
        for tag, count, value in tags
    )
    number = struct.pack(order + ("Q" if big else "H"), len(tags))
    return head + number + entries + bytes(8) + bytes(4 * num_strips)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
def test_a_tiff_of_millions_of_strips_is_refused(order: str, big: bool) -> None:
    with pytest.raises(PictureError, match="a TIFF with 1,000,001 values of one property"):
        read_picture(tiff(order, big, 1_000_001))
    with pytest.raises(PictureError, match="damaged"):
        read_picture(tiff(order, big, 10)[:60])


def test_a_tiff_of_huge_tiles_and_a_large_webp_are_refused() -> None:
    tags = [(256, 100), (257, 100), (258, 8), (259, 8), (262, 1), (277, 1), (322, 32_768),
            (323, 32_768), (324, 8), (325, 9)]  # fmt: skip
    entries = b"".join(struct.pack("<HHLL", tag, 4, 1, value) for tag, value in tags)
    data = b"II" + struct.pack("<HLH", 42, 8, len(tags)) + entries + bytes(4)
    with pytest.raises(PictureError, match="a TIFF with tiles of 1,073,741,824 pixels"):
        read_picture(data)
    with pytest.raises(PictureError, match="8000 x 4001 pixels; at most 32,000,000"):
        read_picture(encode(Image.new("L", (8000, 4001)), "WEBP", method=0))


def test_a_jpeg_of_millions_of_markers_is_refused() -> None:
    data = encode(Image.new("L", (28, 28)), "JPEG")
    with pytest.raises(PictureError, match="of too many pieces"):
        read_picture(data[:2] + b"\xff\xfe\0\2" * 2_000_000 + data[2:])


def test_a_file_of_millions_of_pieces_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits.Pieces, "num_left", 1000)
    few, many = (png(28, 28, 8, *[chunk(b"abCd", b"")] * number) for number in (100, 1000))
    with pytest.raises(PictureError, match="of too many pieces"):
        read_picture(many)
    with pytest.raises(PictureError, match="a damaged picture"):
        read_picture(few)  # it is: of 100 bytes of pixels


def test_a_jpeg_of_many_pieces_of_exif_is_refused() -> None:
    data = encode(Image.new("L", (28, 28)), "JPEG")
    piece = b"\xff\xe1\0\x0cExif\0\0\1\2\3\4"
    assert read_picture(data[:2] + 64 * piece + data[2:]).size == (28, 28)
    with pytest.raises(PictureError, match="a JPEG with 65 pieces of EXIF"):
        read_picture(data[:2] + 65 * piece + data[2:])


def test_a_gif_of_many_comments_is_refused() -> None:
    data = encode(Image.new("L", (28, 28)), "GIF")
    place = 13 + 3 * 2 ** ((data[10] & 7) + 1)  # after the palette
    comment = b"!\xfe" + (b"\xff" + 255 * b"a") * 6000 + b"\0"
    with pytest.raises(PictureError, match="of too many pieces"):
        read_picture(data[:place] + comment + data[place:])


def test_what_python_decodes_may_be_less_large() -> None:
    header = b"P2 2001 2000 255\n"
    with pytest.raises(PictureError, match="2001 x 2000 pixels; at most 4,000,000"):
        read_picture(header)
    assert read_picture(b"P2 200 200 99\n" + b"7 " * 40_000).size == (200, 200)
    assert read_picture(b"P5 700 700 100\n" + bytes(490_000)).size == (700, 700)


def test_a_large_jpeg_in_several_scans_is_refused() -> None:
    data = encode(Image.new("RGB", (64, 64)), "JPEG", progressive=True)
    place = data.index(b"\xff\xc2") + 5
    large = data[:place] + struct.pack(">HH", 9000, 9000) + data[place + 4 :]
    with pytest.raises(PictureError, match="9000 x 9000 pixels; at most 64,000,000"):
        read_picture(large)
    large = encode(Image.new("L", (9000, 9000)), "JPEG")
    assert read_picture(large).size == (9000, 9000)


def test_large_pictures_are_read_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LARGE_PIXELS", 10)
    image = encode(Image.new("L", (28, 28)), "PNG")
    with ThreadPoolExecutor(1) as pool:
        with decode._LARGE:
            waiting = pool.submit(read_picture, image)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=0.3)
        assert waiting.result(timeout=60).size == (28, 28)


@pytest.mark.parametrize("kind", FORMATS)
def test_damaged_files_are_one_clear_error(kind: str, grey: np.ndarray[Any, Any]) -> None:
    rng = np.random.default_rng(0)
    data = encode(Image.fromarray(np.tile(grey, (3, 3))), kind)
    for cut in (1, 4, 10, 30, len(data) // 2, len(data) - 2):
        _read_or_refuse(data[:cut])
    for _ in range(60):
        broken = bytearray(data)
        for place in rng.integers(0, len(data), 4):
            broken[place] = rng.integers(256)
        _read_or_refuse(bytes(broken))


def _read_or_refuse(data: bytes) -> None:
    try:
        assert np.isfinite(read_picture(data).rgb).all()
    except PictureError as error:
        said = str(error)
    else:
        return
    assert "\n" not in said


def test_what_is_no_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "x.png"
    folder.mkdir()
    loop = tmp_path / "loop.png"
    loop.symlink_to(loop)
    for path, message in (
        (folder, "a folder"),
        (loop, "can't be read"),
        (tmp_path / "none.png", "No such file"),
        (Path("/dev/null"), "not a regular file"),
        (tmp_path / "a\0b", "can't be read"),
    ):
        with pytest.raises(PictureError, match=message):
            read_picture(path)
    monkeypatch.setattr(decode, "MAX_BYTES", 3)
    large = tmp_path / "large.png"
    large.write_bytes(b"1234")
    with pytest.raises(PictureError, match="at most 3 are read"):
        read_picture(large)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.real
def test_the_largest_picture_stays_within_a_gigabyte(tmp_path: Path) -> None:
    side = int(limits.MAX_PIXELS**0.5)
    path = tmp_path / "large.png"
    Image.new("RGBA", (side, side), (0, 0, 0, 10)).save(path, compress_level=1)
    # Not ru_maxrss, in which a process begins with what the one that started it holds.
    read = f"""
from lenet.reading.decode import read_picture
read_picture({str(path)!r})
print(*[line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM:")])
"""
    found = subprocess.run([sys.executable, "-c", read], capture_output=True, check=True)
    assert int(found.stdout) < 1_000_000
