"""Measure training in the page: accuracy, speed, and how soon the page answers the pen meanwhile.

Run: `.venv/bin/python benchmarks/page_training.py --tfjs FOLDER [--record]`, where in FOLDER
`npm install @tensorflow/tfjs` was run. Needs the dev extra and Chromium.

In turns: the page in a headless Chromium, opened as a file, with MNIST inside, trains its three
epochs while a pen draws on its board; the native engine trains the recipe `fast` on one thread; and
TensorFlow.js trains the same network in the same browser, on each of its backends that can.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from harness import in_turns, lenet, main, report
from playwright.sync_api import Browser, sync_playwright

from lenet import load
from lenet.export.browser import find_browser
from lenet.page import TrainingDigits, build_page
from lenet.reading.reader import pretrained_model

BATCH = 64
IDLE_S = 10
"""How long a pen draws before the training, to tell what the training adds."""
BACKENDS = ("webgl", "cpu")
TFJS = """async ({ backend, batch, steps }) => {
  if (!await tf.setBackend(backend)) return null;
  const convolution = (filters) =>
    tf.layers.conv2d({ filters, kernelSize: 5, activation: "relu", inputShape: [32, 32, 1] });
  const pooling = () => tf.layers.maxPooling2d({ poolSize: 2 });
  const dense = (units, activation) => tf.layers.dense({ units, activation });
  const model = tf.sequential({ layers: [
    convolution(6), pooling(), convolution(16), pooling(), convolution(120), tf.layers.flatten(),
    dense(84, "relu"), dense(10, "softmax"),
  ] });
  model.compile({ optimizer: tf.train.adam(0.003), loss: "categoricalCrossentropy" });
  const x = tf.randomUniform([batch, 32, 32, 1]);
  const y = tf.oneHot(tf.randomUniform([batch], 0, 10, "int32"), 10);
  await model.trainOnBatch(x, y); // compiles
  const begin = performance.now();
  for (let i = 0; i < steps; i++) await model.trainOnBatch(x, y);
  return { images_per_s: (1000 * steps * batch) / (performance.now() - begin) };
}"""


def page_training(
    tfjs: Path, rounds: int = 3, num_train: int = 60_000, steps: int = 30
) -> dict[str, Any]:
    """Measure, and return medians and all rounds.

    Args:
        tfjs: Folder in which @tensorflow/tfjs is installed.
        rounds: How often each takes its turn.
        num_train: Training images in the page; a thirtieth, at most 2,000, is held out there.
        steps: Of TensorFlow.js, of which a step takes much longer.
    """
    found = find_browser()
    if found is None:
        raise SystemExit("no Chromium found")
    program, browser_name = found
    train, test = load("mnist", "train"), load("mnist", "test")
    learned = train.images[:num_train], train.labels[:num_train].byte()
    parts = [*learned, test.images, test.labels.byte()]
    content = b"".join(part.numpy().tobytes() for part in parts)
    training = TrainingDigits(num_train=num_train, num_test=len(test), content=content)
    with (
        tempfile.TemporaryDirectory() as folder,
        pretrained_model() as model,
        sync_playwright() as playwright,
    ):
        path = Path(folder) / "page.html"
        path.write_text(build_page([model.read_bytes()], training=training), encoding="utf-8")
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])

        def native() -> dict[str, float]:
            record = lenet(
                *("train", "fast", "--threads", 1, "--engine", "native", "--quiet"),
                *("--out", tempfile.mkdtemp(dir=folder) + "/run"),
            )
            num_images = record["num_train_images"] * len(record["epochs"])
            return {
                "images_per_s": num_images / record["training_s"],
                "test_accuracy": record["test_accuracy"],
            }

        ways: dict[str, Any] = {"page": lambda: train_page(browser, path), "native": native}
        for backend in BACKENDS:
            ways[f"tfjs {backend}"] = lambda b=backend: train_tfjs(browser, tfjs, b, steps)
        results = in_turns(ways, rounds)
        size = path.stat().st_size
        browser.close()
    summary = {
        way: {key: median(each[key] for each in each_round) for key in each_round[0]}
        for way, each_round in results.items()
        if each_round[0]
    }
    report(summary)
    return {
        "browser": browser_name,
        "num_train": num_train,
        "page_bytes": size,
        "median": summary,
        "rounds": results,
    }


def train_page(browser: Browser, path: Path) -> dict[str, float]:
    """Train in the page while a pen draws on its board."""
    page = browser.new_page(viewport={"width": 1280, "height": 720})
    page.set_default_timeout(600_000)
    page.goto(path.as_uri())
    page.wait_for_selector("#training-buttons:not([hidden])")
    box = page.locator("#board").bounding_box()
    assert box is not None
    random = np.random.default_rng(0)

    def draw_until(is_over: Callable[[], bool]) -> list[float]:
        """Draw, and return the delays from the pen's movements to the frames that show them."""
        page.evaluate("lenet.delays.length = 0")
        num_moves = 0
        while not is_over():
            if num_moves % 30 == 0:  # a new stroke now and then
                page.mouse.up()
                page.click("#clear")
                page.mouse.move(box["x"] + 60, box["y"] + 60)
                page.mouse.down()
            x, y = random.uniform(20, box["width"] - 20, 2)
            page.mouse.move(box["x"] + x, box["y"] + y, steps=4)
            page.wait_for_timeout(30)
            num_moves += 1
        page.mouse.up()
        delays: list[float] = page.evaluate("lenet.delays")
        return delays

    end = time.monotonic() + IDLE_S
    idle = draw_until(lambda: time.monotonic() > end)
    page.evaluate("window.began = performance.now()")
    page.click("text=As usual")
    delays = draw_until(lambda: bool(page.inner_text("#training-result")))
    wall_s = page.evaluate("(performance.now() - window.began) / 1000")
    trained = page.evaluate("lenet.trained")
    text = page.inner_text("#training-text")
    page.close()
    report(text, trained)
    return {
        "seconds": trained["seconds"],
        "wall_s": wall_s,
        "images_per_s": trained["numImages"] / trained["seconds"],
        "test_accuracy": trained["accuracy"],
        "num_delays": len(delays),
        "delay_ms_median": median(delays),
        "delay_ms_p95": float(np.percentile(delays, 95)),
        "idle_delay_ms_median": median(idle),
        "idle_delay_ms_p95": float(np.percentile(idle, 95)),
    }


def train_tfjs(browser: Browser, folder: Path, backend: str, steps: int) -> dict[str, float]:
    """Train the same network with TensorFlow.js; nothing where the backend can't."""
    page = browser.new_page()
    page.set_default_timeout(600_000)
    page.add_script_tag(path=folder / "node_modules/@tensorflow/tfjs/dist/tf.min.js")
    arguments = {"backend": backend, "batch": BATCH, "steps": steps}
    found: dict[str, float] | None = page.evaluate(TFJS, arguments)
    page.close()
    return found or {}


if __name__ == "__main__":
    main("page_training", page_training)
