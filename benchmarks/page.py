"""The page that `lenet export --to html` writes, measured in Chromium.

Run: `.venv/bin/python benchmarks/page.py --with-1998 RUN [--run RUN|MODEL]`

Three parts, a line of text each and then one line of JSON:
- what `lenet export` itself compares: both networks' answers on the 10,000 test images;
- pictures of digits as people make them (`images/scenes.py`), made 28 x 28 by page and by Python:
  how many come out the same to the byte, and how many are read the same;
- how long after a movement of the pen the bars have changed: from the event's own time stamp until
  the page has drawn everything, while strokes are drawn with the mouse, a movement every 16 ms.
"""

import argparse
import base64
import json
import math
import os
import tempfile
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lenet.checkpoint import load_model
from lenet.data import load, to_input
from lenet.export import Settings, export_model
from lenet.export.browser import Browser, find_browsers, start_browser
from lenet.images.normalize import normalize
from lenet.images.scenes import KINDS, make_scene
from lenet.records import environment

PRETRAINED = Path(str(files("lenet").joinpath("pretrained", "robust.safetensors")))
MOVES = 120
WARM_UP = 30

READ = """([pixels, width, height]) => {
  const data = lenet.fromBase64(pixels);
  const { image } = lenet.normalize(lenet.toPlanes({ width, height, data }));
  return image && lenet.toBase64(image);
}"""


def compare_pictures(browser: Browser, model: Path, count: int) -> dict[str, Any]:
    """Make pictures 28 x 28 in the page and in Python."""
    digits = load("mnist", "test")
    network, _ = load_model(model)

    @torch.inference_mode()
    def read(image: NDArray[np.uint8] | None) -> int:
        if image is None:
            return -1
        return int(network(to_input(torch.from_numpy(image)[None])).argmax())

    equal, near, same = 0, 0, 0
    for number, kind in enumerate(KINDS):
        for i in range(count):
            rng = np.random.default_rng((number, i))
            digit = digits.images[int(rng.integers(len(digits)))].numpy()
            rgb = np.clip(make_scene(digit, kind, rng) * 255, 0, 255).round().astype(np.uint8)
            wanted = normalize(rgb.astype(np.float32) / 255).image
            rgba = np.concatenate([rgb, np.full_like(rgb[:, :, :1], 255)], axis=2)
            pixels = base64.b64encode(rgba.tobytes()).decode()
            call = json.dumps([pixels, rgb.shape[1], rgb.shape[0]])
            got = browser.evaluate(f"({READ})({call})")
            found = None
            if got is not None:
                found = np.frombuffer(base64.b64decode(got), np.uint8).reshape(28, 28).copy()
            if found is None or wanted is None:
                equal += found is wanted
                near += found is wanted
            else:
                difference = int(np.abs(found.astype(int) - wanted).max())
                equal += difference == 0
                near += difference <= 1
            same += read(found) == read(wanted)
    num = count * len(KINDS)
    return {"num_pictures": num, "equal": equal, "within_one_level": near, "read_the_same": same}


def time_pen(page_file: Path, strokes: int) -> dict[str, Any]:
    """Draw with the mouse and return the delays that the page itself notes."""
    from playwright.sync_api import sync_playwright

    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=find_browsers()[0], args=sandbox)
        page = chromium.new_page(viewport={"width": 1280, "height": 720})
        page.goto(page_file.as_uri())
        page.wait_for_timeout(2000)  # the page draws a digit by itself
        box = page.locator("#board").bounding_box()
        assert box is not None
        delays: list[float] = []
        for _ in range(strokes):
            page.evaluate("lenet.delays.length = 0")
            page.mouse.move(box["x"] + 60, box["y"] + 60)
            page.mouse.down()
            for i in range(MOVES):
                angle = 4 * math.pi * i / MOVES
                x = box["x"] + 120 + 70 * math.sin(angle)
                page.mouse.move(x, box["y"] + 60 + 20 * math.cos(angle) + 1.1 * i)
                page.wait_for_timeout(16)
            page.mouse.up()
            delays += page.evaluate("lenet.delays")[WARM_UP if not delays else 0 :]
            page.click("#clear")
        chromium.close()
    return {
        "num_moves": len(delays),
        "median_ms": median(delays),
        "p90_ms": float(np.quantile(delays, 0.9)),
        "slowest_ms": max(delays),
    }


def main() -> None:
    """Export, compare, draw, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, default=PRETRAINED, help="a run or a model file")
    parser.add_argument("--with-1998", type=Path, help="a run of lecun1998")
    parser.add_argument("--scenes", type=int, default=50, help="of each kind")
    parser.add_argument("--strokes", type=int, default=6)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as work:
        path = Path(work) / "page.html"
        record = export_model(
            options.run, "html", out=path, settings=Settings(with_1998=options.with_1998)
        )
        print(f"page: {record.num_bytes:,} bytes, {record.parity}")
        browser = start_browser()
        assert browser is not None
        with browser:
            browser.open(path)
            pictures = compare_pictures(browser, options.run, options.scenes)
        print(f"pictures: {pictures}")
        pen = time_pen(path, options.strokes)
        print(f"pen: {pen}")
    result = {
        "benchmark": "page",
        "source": record.source,
        "num_bytes": record.num_bytes,
        "parity": asdict(record.parity),
        "details": record.details,
        "pictures": pictures,
        "pen": pen,
        "environment": asdict(environment()),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
