"""The page: put together in Python, and used in Chromium as people use it."""

import base64
import functools
import hashlib
import html
import http.server
import io
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from lenet.errors import ExportError
from lenet.export.browser import find_browsers, run_page
from lenet.models import LeNet5
from lenet.models.files import load_model, save_model
from lenet.models.lenet5_1998 import LeNet5_1998
from lenet.page import PageDigits, build_page, content_security_policy
from lenet.page.build import NUMBERS, PARTS, read_models
from lenet.reading.decode import read_picture
from lenet.reading.inference import read_network
from lenet.reading.normalize import normalize
from lenet.schema import ModelCard

PRETRAINED = Path(str(files("lenet").joinpath("pretrained", "robust.safetensors")))
CHROMIUM = next(iter(find_browsers()), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium or Chrome is installed")
SEVEN = [(0.3, 0.22), (0.72, 0.22), (0.52, 0.55), (0.42, 0.86)]
"""Corners of a drawn 7, as shares of the board."""


def draw_pictures() -> list[Image.Image]:
    """Pictures of digits, each with something that must be seen to."""
    rng = np.random.default_rng(6)
    strokes = {
        "2": [(30, 40), (60, 20), (90, 40), (30, 100), (95, 100)],
        "4": [(60, 10), (25, 70), (90, 70), (70, 40), (66, 110)],
        "7": [(25, 20), (95, 20), (50, 110)],
    }
    pictures = []
    for number, points in enumerate(list(strokes.values()) * 4):
        side = (64, 150, 300, 500)[number // 3]
        scale = side / 120
        paper, ink = (
            ((250, 250, 245), (20, 20, 40)) if number % 2 else ((30, 60, 50), (240, 240, 235))
        )
        image = Image.new("RGB", (side, round(side * 0.98)), paper)
        pen = ImageDraw.Draw(image)
        pen.line([(x * scale, y * scale) for x, y in points], fill=ink, width=max(2, side // 40))
        if number % 3 == 0:  # a ruled line
            pen.line([(0, side * 0.7), (side, side * 0.71)], fill=(120, 140, 200), width=1)
        pixels = np.asarray(image).astype(np.float64)
        if number >= 6:  # light from one side, and grain
            pixels *= np.linspace(1, 0.6, pixels.shape[1])[None, :, None]
            pixels += rng.normal(0, 3, pixels.shape)
        pictures.append(Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)))
    return [*pictures, *draw_oddities()]


def draw_oddities() -> list[Image.Image]:
    """A card on a page, a digit cut by three sides, one in a crooked frame, one in pieces, a
    patterned table along the sheet, and a small cell of a form."""
    two = [(30, 40), (60, 20), (90, 40), (30, 100), (95, 100)]
    card = Image.new("RGB", (300, 260), (250, 250, 250))
    pen = ImageDraw.Draw(card)
    pen.rectangle((90, 60, 230, 200), fill=(15, 15, 15))
    pen.line([(x + 100, y + 70) for x, y in two], fill=(250, 250, 250), width=6)
    cut = Image.new("RGB", (150, 190), (10, 10, 10))
    pen = ImageDraw.Draw(cut)
    pen.ellipse((0, 0, 100, 100), outline=(240, 240, 240), width=16)
    pen.line([(92, 50), (60, 190)], fill=(240, 240, 240), width=16)
    framed = Image.new("RGB", (180, 170), (250, 250, 250))
    pen = ImageDraw.Draw(framed)
    corners = [(16, 20), (150, 8), (170, 150), (25, 160)]
    pen.line([*corners, *corners[:2]], fill=(20, 20, 20), width=7)
    pen.line([(x + 30, y + 25) for x, y in two], fill=(20, 20, 20), width=6)
    pieces = Image.new("RGB", (28, 28), (250, 250, 250))
    pen = ImageDraw.Draw(pieces)
    pen.line([(6, 5), (20, 5), (12, 23)], fill=(40, 40, 40), width=2)
    for y in (8, 12, 16, 20):
        pen.line([(0, y), (27, y)], fill=(240, 240, 240), width=1)
    rng = np.random.default_rng(1)
    scene = np.full((320, 240, 3), 225.0) * np.linspace(1, 0.85, 320)[:, None, None]
    sheet = Image.fromarray(scene.astype(np.uint8))
    ImageDraw.Draw(sheet).line([(2 * x, 2 * y + 90) for x, y in two], fill=(120, 120, 140), width=6)
    scene = np.asarray(sheet).astype(np.float64)
    scene[:80] = np.kron(rng.choice([15.0, 75.0], size=(16, 48, 1)), np.ones((5, 5, 3)))
    scene[16:70, 80:150] = 220
    scene[24:62, 90:140] = 25
    scene += rng.normal(0, 2.5, scene.shape)
    cell = np.full((48, 48), 190.0) + np.linspace(0, 15, 48)
    cell[:2] = cell[:, :2] = 70
    cell[10:40, 22:26] = cell[34:38, 14:34] = 60
    cell += rng.normal(0, 2.5, cell.shape)
    scenes = [scene, cell]
    return [
        card,
        cut,
        framed,
        pieces,
        *(Image.fromarray(s.clip(0, 255).astype(np.uint8)) for s in scenes),
    ]


@pytest.fixture(scope="session")
def model_1998(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The paper's network, untrained: what it computes can be compared all the same."""
    torch.manual_seed(1998)
    model = LeNet5_1998()
    path = tmp_path_factory.mktemp("models") / "1998.safetensors"
    card = ModelCard(
        model="lenet5-1998",
        config=model.config(),
        classes=tuple("0123456789"),
        dataset="mnist",
        recipe_name="lecun1998",
    )
    save_model(path, model, card)
    return path


@pytest.fixture(scope="session")
def digits() -> PageDigits:
    """Drawn digits that stand for test images, and the network's logits."""
    found = [normalize(read_picture(picture).rgb).image for picture in draw_pictures()[:6]]
    images = np.stack([image for image in found if image is not None])
    network = read_network(PRETRAINED)
    assert network is not None
    return PageDigits(
        images=images.tobytes(),
        labels=[2, 4, 7, 2, 4, 7],
        numbers=range(6),
        mistakes=[False] * 4 + [True] * 2,
        classes="0123456789",
        logits=network[0].logits(images).astype("<f4").tobytes(),
    )


@pytest.fixture(scope="session")
def page_file(
    tmp_path_factory: pytest.TempPathFactory, model_1998: Path, digits: PageDigits
) -> Path:
    path = tmp_path_factory.mktemp("page") / "page.html"
    models = [PRETRAINED.read_bytes(), model_1998.read_bytes()]
    path.write_text(build_page(models, digits=digits), encoding="utf-8")
    return path


@pytest.fixture(scope="module")  # its event loop would be in the way of other files' own
def chromium() -> Iterator[Any]:
    """Debian's Chromium, or whichever is there, under Playwright."""
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Any, page_file: Path) -> Iterator[Callable[..., Any]]:
    """Open the page; at the end, nothing may have been complained of or asked for elsewhere."""
    complaints: list[str] = []
    contexts = []

    def open_page(url: str = "", **options: Any) -> Any:
        settings = {"viewport": {"width": 1280, "height": 720}, "reduced_motion": "reduce"}
        context = chromium.new_context(**(settings | options))
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)  # the machine may be busy
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        requests: list[str] = []
        page.goto(url or page_file.as_uri())
        wait_until(page, "document.readyState === 'complete'")
        page.requests = requests
        return page

    yield open_page
    for context in contexts:
        for page in context.pages:
            assert len([u for u in page.requests if not u.startswith("data:")]) == 1, page.requests
        context.close()
    assert complaints == []


def wait_until(page: Any, expression: str) -> None:
    """Wait for a condition. Playwright's own way evaluates strings in the page, which won't."""
    end = time.monotonic() + 60
    while not page.evaluate(expression):
        assert time.monotonic() < end, expression
        time.sleep(0.01)


def draw(page: Any, points: list[tuple[float, float]]) -> None:
    """Draw a stroke with the mouse."""
    box = page.locator("#board").bounding_box()
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=8)
    page.mouse.up()


def read_answer(page: Any, wanted: str) -> None:
    wait_until(page, f"document.getElementById('verdict').textContent === '{wanted}'")
    assert re.fullmatch(rf"{wanted}\s>?[\d.]+\s%\s*", page.locator(".bar.is-best").inner_text())


def spot(page: Any, selector: str, across: float, down: float) -> tuple[float, float]:
    box = page.locator(selector).bounding_box()
    return box["x"] + across * box["width"], box["y"] + down * box["height"]


def test_the_policy_names_the_pages_only_script_and_style() -> None:
    page = build_page([PRETRAINED.read_bytes()])
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    policy = content_security_policy()
    for text in (script, style):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert "unsafe" not in policy.replace("'wasm-unsafe-eval'", "")
    assert html.escape(content_security_policy(is_header=False)) in page
    assert not re.search(
        r"\bon\w+=|style=|(?:src|href)=\"(?!data:|#)|https?://(?!www\.w3\.org)", page
    )


def test_no_text_gets_out_of_its_element() -> None:
    nasty = "</script><script>alert(1)</script><!--"
    page = build_page([b"model"], title=nasty, facts={"recipe": nasty, "exported": nasty})
    assert "<script>alert" not in page
    assert page.count("<!--") == 0
    block = re.search(r'id="page-data">(.*?)</script>', page)
    assert block is not None
    assert json.loads(block[1])["exported"] == nasty
    assert read_models(page) == [b"model"]


def test_the_page_is_put_together_without_torch_or_numpy() -> None:
    code = (
        "import sys; from pathlib import Path; from lenet.page import build_page; "
        f"build_page([Path({str(PRETRAINED)!r}).read_bytes()]); "
        "print([m for m in ('torch', 'numpy', 'PIL') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_every_script_is_in_the_page() -> None:
    folder = Path(str(files("lenet").joinpath("page")))
    assert {f"{name}.js" for name in (*NUMBERS, *PARTS)} == {p.name for p in folder.glob("*.js")}
    for path in folder.iterdir():
        if path.suffix in {".js", ".css", ".html"}:
            assert path.read_bytes().isascii(), path


@needs_chromium
def test_a_page_is_run_without_a_driver(page_file: Path, tmp_path: Path) -> None:
    assert CHROMIUM is not None
    assert run_page(CHROMIUM, page_file, "`${lenet.SIDE ** 2} & <`") == "784 & <"
    with pytest.raises(ExportError, match="did not compute"):
        run_page(CHROMIUM, page_file, "noSuchThing()")


@needs_chromium
def test_what_is_drawn_is_read_as_it_is_drawn(visit: Callable[..., Any]) -> None:
    page = visit()
    draw(page, SEVEN)
    read_answer(page, "7")
    wait_until(page, "document.getElementById('live').textContent.startsWith('Read as 7')")
    page.click("#undo")
    read_empty = "document.getElementById('verdict').textContent === '\u2013'"
    wait_until(page, read_empty)
    draw(page, [(0.5, 0.2), (0.5, 0.85)])
    read_answer(page, "1")
    page.click("#clear")
    wait_until(page, read_empty)


@needs_chromium
def test_a_number_is_read_by_sliding_over_it(visit: Callable[..., Any]) -> None:
    page = visit()
    wait_until(page, "document.getElementById('verdict').textContent === '3'")
    page.click("#clear")
    draw(page, [(0.3, 0.3), (0.3, 0.7)])
    read_answer(page, "1")
    draw(page, [(0.5, 0.3), (0.75, 0.3), (0.6, 0.7)])
    wait_until(page, "document.getElementById('verdict').textContent === '17'")
    assert "a number" in page.inner_text("#verdict-text")
    marks = page.locator("#line-digits span")
    assert marks.all_inner_texts() == ["1", "7"]
    assert marks.nth(0).bounding_box()["x"] < marks.nth(1).bounding_box()["x"]
    wait_until(
        page, "document.getElementById('live').textContent.startsWith('Read as the number 17')"
    )
    page.click("#undo")
    read_answer(page, "1")
    assert page.locator("#line").is_hidden()


@needs_chromium
def test_a_drawing_and_a_cell_are_sent_as_a_link(
    visit: Callable[..., Any], page_file: Path
) -> None:
    page = visit()
    page.click("#clear")
    draw(page, SEVEN)
    read_answer(page, "7")
    page.locator(".layer-C3 canvas").click(position={"x": 15, "y": 15})
    title = page.inner_text("#inspector-title")
    assert title.startswith("C3, map 1, row")
    wait_until(page, "location.hash.includes('cell=3.0.')")
    link = page.evaluate("location.hash")
    again = visit(page_file.as_uri() + link)
    read_answer(again, "7")
    # Points are kept to a pixel of the board, so values may differ a little.
    assert again.inner_text("#inspector-title").partition(" =")[0] == title.partition(" =")[0]
    assert "held" in again.locator("#inspector").get_attribute("class")
    for broken in ("#drawing=AAA", "#drawing=_w", "#drawing=A&cell=9", "#cell=1"):
        read_answer(visit(page_file.as_uri() + broken), "3")  # the page's own


@needs_chromium
def test_sliding_gives_the_logits_of_the_sweep(visit: Callable[..., Any]) -> None:
    field = np.random.default_rng(3).random((32, 81), np.float32) ** 4
    page = visit()
    found = page.evaluate(
        """([data, width]) => {
          const model = document.querySelector("script[data-model]").textContent;
          const network = lenet.readNetwork(lenet.fromBase64(model));
          const field = lenet.grey(width, 32, Float32Array.from(data));
          return lenet.sweep(network, field).map((logits) => Array.from(logits));
        }""",
        [field.ravel().tolist(), 81],
    )
    model, _ = load_model(PRETRAINED)
    assert isinstance(model, LeNet5)
    with torch.no_grad():
        wanted = model.sweep(torch.from_numpy(field)[None, None])[0]
    torch.testing.assert_close(torch.tensor(found), wanted, rtol=0, atol=1e-4)


@needs_chromium
def test_served_the_page_is_the_same(visit: Callable[..., Any], page_file: Path) -> None:
    policy = content_security_policy()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def end_headers(self) -> None:
            self.send_header("Content-Security-Policy", policy)
            super().end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    handler = functools.partial(Handler, directory=page_file.parent)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = visit(f"http://127.0.0.1:{server.server_address[1]}/page.html")
        draw(page, SEVEN)
        read_answer(page, "7")
        assert page.locator("#check").get_attribute("data-equal") == "true"
        server.shutdown()


@needs_chromium
def test_lenet_serve_hands_it_out(visit: Callable[..., Any], tmp_path: Path) -> None:
    pytest.importorskip("uvicorn")
    command = [sys.executable, "-m", "lenet", "serve", "--port", "0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert server.stderr is not None
    try:
        found = next(filter(None, (re.search(r"http://\S+", line) for line in server.stderr)))
        page = visit(found[0])
        draw(page, SEVEN)
        read_answer(page, "7")
        assert page.locator(".layer").count() == 7
    finally:
        server.terminate()
        server.wait(60)
        server.stderr.close()


PASTE = """([base64, type]) => {
  const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], "picture.png", { type: "image/png" }));
  const options = { bubbles: true, cancelable: true };
  document.dispatchEvent(type === "paste"
    ? new ClipboardEvent("paste", { clipboardData: data, ...options })
    : new DragEvent("drop", { dataTransfer: data, ...options }));
}"""


def encode(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


@needs_chromium
def test_a_picture_is_pasted_dropped_or_opened(
    visit: Callable[..., Any], seven: Image.Image, tmp_path: Path
) -> None:
    page = visit()
    page.evaluate(PASTE, [encode(seven), "paste"])
    read_answer(page, "7")
    page.evaluate(PASTE, [encode(draw_pictures()[4]), "drop"])
    read_answer(page, "4")
    seven.save(tmp_path / "seven.png")
    page.set_input_files("#file", tmp_path / "seven.png")
    read_answer(page, "7")
    # What is none is said, and the picture before it stays.
    (tmp_path / "none.png").write_bytes(b"no picture")
    page.set_input_files("#file", tmp_path / "none.png")
    page.wait_for_selector("#notice:not([hidden])")
    assert "none.png: not a picture" in page.inner_text("#notice")
    read_answer(page, "7")


@needs_chromium
def test_a_cell_is_traced_back_to_the_drawing(visit: Callable[..., Any]) -> None:
    page = visit()
    draw(page, SEVEN)
    read_answer(page, "7")
    page.mouse.move(*spot(page, ".layer-C3 canvas", 0.35, 0.45))
    page.wait_for_selector("#inspector.is-open")
    assert re.match(r"C3, map \d+, row \d+, column \d+ = ", page.inner_text("#inspector-title"))
    # Six maps of S2 and of C1, then the input and the drawing.
    assert page.locator("#links .patch").count() == 6
    assert page.locator("#links .field").count() == 6 + 1 + 1
    assert page.locator(".term").count() == 6
    sums = [float(t.replace("\u2212", "-")) for t in page.locator(".term b").all_inner_texts()]
    numbers = page.locator(".formula b").all_inner_texts()
    total = float(numbers[0].replace("\u2212", "-"))
    assert abs(sum(sums) - total) < 0.05
    # A click holds the cell: pointing elsewhere does not change it, Escape lets go.
    page.mouse.down()
    page.mouse.up()
    held = page.inner_text("#inspector-title")
    page.mouse.move(*spot(page, ".layer-C1 canvas", 0.2, 0.2))
    assert page.inner_text("#inspector-title") == held
    page.keyboard.press("Escape")
    assert page.inner_text("#inspector-title") == "How a cell is computed"
    assert page.locator("#links *").count() == 0


EXPLAIN = """([which, places]) => {
  const element = document.querySelectorAll("script[data-model]")[which];
  const network = lenet.readNetwork(lenet.fromBase64(element.textContent));
  const state = lenet.makeState(network);
  const isInk = (i) => i % 28 > 12 && i % 28 < 17;
  const image = Uint8Array.from({ length: 784 }, (_, i) => (isInk(i) ? 255 - i % 90 : 0));
  lenet.run(network, image, state);
  const read = (selector) => [...document.querySelectorAll(`#explanation ${selector}`)].map((e) =>
    Number(e.textContent.replace("\u2212", "-").replaceAll(",", "")));
  return places.map(([layer, place]) => {
    const index = 1 + Math.floor(layer * (network.layers.length - 1));
    const { maps, rows, columns, kind, pooling } = network.layers[index];
    const cell = { map: Math.floor(place * maps), row: Math.floor(place * 97 * rows) % rows,
      column: Math.floor(place * 89 * columns) % columns };
    lenet.showCell(network, state, index, cell, false);
    return { kind, pooling, terms: read(".term b"), formula: read(".formula b"),
      grid: read(".operand:last-child i") };
  });
}"""


@needs_chromium
@pytest.mark.parametrize("which", [0, 1])
def test_terms_add_up_to_the_total_that_is_shown(visit: Callable[..., Any], which: int) -> None:
    """For 70 cells of each network, drawn at random, to the last place that is shown."""
    page = visit()
    places = np.random.default_rng(which).random((70, 2)).tolist()
    seen = set()
    for found in page.evaluate(EXPLAIN, [which, places]):
        kind, formula = found["kind"], found["formula"]
        if kind == "subsampling":
            seen.add(kind)
            if found["pooling"] == "max":
                assert max(found["grid"]) == formula[0]
            elif len(formula) < 4:
                assert abs(sum(found["grid"]) / 4 - formula[0]) < 0.0051
            else:
                assert round(sum(found["grid"]) - formula[0], 6) == 0
                assert round(formula[2] + formula[3] - formula[4], 6) == 0
        elif kind in {"convolution", "full"}:
            assert round(formula[0] + formula[1] - formula[2], 6) == 0
            if kind == "convolution":
                terms = found["terms"] or found["grid"]
                seen.add(f"{kind} {len(terms) > 16}")
                assert round(sum(terms) - formula[0], 6) == 0
    assert seen >= {"subsampling", "convolution True", "convolution False"}


@needs_chromium
def test_a_score_is_followed_to_its_share(visit: Callable[..., Any]) -> None:
    page = visit()
    draw(page, SEVEN)
    read_answer(page, "7")
    page.locator(".bar.is-best").click()
    page.wait_for_selector("#inspector.is-open")
    shown = page.locator(".formula").last.inner_text()
    best = page.locator(".bar.is-best .number").inner_text().strip()
    assert shown.endswith(f"that is {best}.")
    power, total = re.findall(r"(?:e: |together, )([\d,.]+)", shown)
    share = float(power.replace(",", "")) / float(total.replace(",", ""))
    assert share > 0.5


@needs_chromium
def test_everything_can_be_done_on_the_keyboard(visit: Callable[..., Any]) -> None:
    page = visit()
    page.focus("#board")
    page.keyboard.press("Space")
    for _ in range(14):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    read_answer(page, "1")
    page.keyboard.press("Delete")
    wait_until(page, "document.getElementById('verdict').textContent === '\u2013'")
    page.focus("#strip .example")
    page.keyboard.press("ArrowRight")
    wait_until(page, "document.getElementById('example-text').textContent !== ''")
    page.focus(".layer-S2 canvas")
    page.keyboard.press("Home")
    for key in ("ArrowRight", "ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
    assert page.inner_text("#inspector-title").startswith("S2, map 1, row 2, column 3 =")
    page.keyboard.press("PageDown")
    page.keyboard.press("Enter")
    assert page.inner_text("#live").startswith("S2, map 2, row 2, column 3:")
    assert page.inner_text("#live").endswith("held")
    page.focus(".bar[tabindex='0']")
    page.keyboard.press("End")
    assert page.inner_text("#inspector-title").startswith("Output for 9")


@needs_chromium
def test_the_network_of_1998_is_shown_beside(visit: Callable[..., Any], model_1998: Path) -> None:
    page = visit()
    draw(page, SEVEN)
    read_answer(page, "7")
    assert page.inner_text("#rivals").startswith("The 1998 network says")
    page.get_by_role("radio", name="1998").click()
    assert page.locator(".bar .code").count() == 10
    page.hover(".bar >> nth=3")
    assert page.inner_text("#inspector-title").startswith("Output for 3")
    shapes = page.evaluate(
        "[...document.querySelectorAll('.terms canvas')].map((c) => [c.width, c.height])"
    )
    assert shapes == [[7, 12]] * 3
    # A model file that is dropped joins them.
    dropped = model_1998.with_name("dropped.safetensors")
    dropped.write_bytes(model_1998.read_bytes())
    page.set_input_files("#file", dropped)
    wait_until(page, "document.querySelectorAll('#networks button').length === 3")
    assert page.locator("#networks button").all_inner_texts() == ["Common", "1998", "dropped"]


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_nothing_is_wider_than_the_screen(
    visit: Callable[..., Any], scheme: str
) -> None:
    page = visit(
        viewport={"width": 360, "height": 740},
        has_touch=True,
        is_mobile=True,
        device_scale_factor=2,
        color_scheme=scheme,
    )
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    page.locator("#strip .example >> nth=7").tap()
    read_answer(page, "7")
    page.locator(".layer-S4 canvas").scroll_into_view_if_needed()
    page.touchscreen.tap(*spot(page, ".layer-S4 canvas", 0.3, 0.3))
    page.wait_for_selector("#inspector.is-held")
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    box = page.locator("#inspector").bounding_box()
    assert 0 < box["y"] < 740
    small = page.evaluate(
        "[...document.querySelectorAll('button')].filter((b) => b.offsetParent)"
        ".filter((b) => b.offsetHeight < 24).length"
    )
    assert small == 0


@needs_chromium
def test_the_browser_computes_what_python_does(visit: Callable[..., Any], model_1998: Path) -> None:
    """Both networks on the same images, and the way from a picture to 28 x 28."""
    from lenet.data.digits import to_input
    from lenet.models.files import load_model

    page = visit()
    images = np.random.default_rng(0).integers(0, 256, (20, 28, 28), dtype=np.uint8)
    encoded = base64.b64encode(images.tobytes()).decode()
    for which, path in enumerate((PRETRAINED, model_1998)):
        found = base64.b64decode(page.evaluate(f"lenet.predict('{encoded}', {which})"))
        logits = torch.from_numpy(np.frombuffer(found, "<f4").reshape(-1, 10).copy())
        with torch.inference_mode():
            wanted = load_model(path)[0](to_input(torch.from_numpy(images)))
        torch.testing.assert_close(logits, wanted, rtol=1e-5, atol=1e-4)
    for picture in draw_pictures():
        wanted_image = normalize(read_picture(np.asarray(picture)).rgb).image
        got = page.evaluate(NORMALIZE, encode(picture))
        assert wanted_image is not None
        assert got is not None
        seen = np.frombuffer(base64.b64decode(got), np.uint8).reshape(28, 28)
        assert int(np.abs(seen.astype(int) - wanted_image).max()) <= 1


NORMALIZE = """async (base64) => {
  const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  const { pixels } = await lenet.readPicture(new File([bytes], "picture.png"));
  const { image } = lenet.normalize(pixels);
  return image && lenet.toBase64(image);
}"""
