"""The page learns: its kernels compared with torch in Node, and its training view in Chromium."""

import base64
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lenet import LeNet5, load_model
from lenet.data.idx import write_idx
from lenet.export.browser import find_browsers
from lenet.page import TrainingDigits, build_page

PAGE = Path(str(files("lenet").joinpath("page")))
PRETRAINED = Path(str(files("lenet").joinpath("pretrained", "robust.safetensors")))
NODE, CHROMIUM = shutil.which("node"), next(iter(find_browsers()), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium or Chrome is installed")
BACKGROUND, INK, SMOOTHING, LR = -0.4, 2.8, 0.02, 0.003
NUM_STEPS = 5

LEARN = """
const { readFileSync, writeFileSync } = require("fs");
const lenet = {};
eval(readFileSync(process.argv[2], "utf8"));
const kernels = new WebAssembly.Module(readFileSync(process.argv[3]));
const bytes = (base64) => new Uint8Array(Buffer.from(base64, "base64"));
const task = JSON.parse(readFileSync(process.argv[4], "utf8"));
const { images, labels, weights, settings, lr, numSteps } = task;
const digits = { images: bytes(images), labels };
const trainer = new lenet.Trainer(kernels, settings);
trainer.setWeights(weights.map((base64) => new Float32Array(bytes(base64).buffer)));
const all = labels.map((_, i) => i);
const logits = trainer.logits(digits.images);
const first = trainer.learn(digits, all, 0);
const gradients = trainer.gradients();
for (let i = 0; i < numSteps; i++) trainer.learn(digits, all, lr);
const text = (a) => Buffer.from(a.buffer, a.byteOffset, a.byteLength).toString("base64");
const texts = (arrays) => arrays.map(text);
writeFileSync(process.argv[5], JSON.stringify({
  first, logits: texts([logits]), gradients: texts(gradients), weights: texts(trainer.weights()),
}));
"""


def make_digits(num_images: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images of ten kinds that are easily told apart: a bright bar at a height, in noise."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 10, num_images)
    images = random.integers(0, 90, (num_images, 28, 28)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[2 + 2 * label : 5 + 2 * label, 4:24] = 255
    return torch.from_numpy(images), torch.from_numpy(labels)


def encode(tensor: torch.Tensor) -> str:
    return base64.b64encode(tensor.detach().contiguous().numpy().tobytes()).decode()


def decode(text: str, like: torch.Tensor) -> torch.Tensor:
    values = np.frombuffer(base64.b64decode(text), "<f4").astype(np.float32)
    return torch.from_numpy(values).view(like.shape)


def assert_near(found: torch.Tensor, wanted: torch.Tensor, tolerance: float) -> None:
    """Compare within a share of the largest value."""
    found, wanted = found.detach(), wanted.detach()
    limit = tolerance * float(wanted.abs().max())
    torch.testing.assert_close(found, wanted, rtol=0, atol=limit)


def backward(logits: torch.Tensor, labels: torch.Tensor) -> None:
    loss = F.cross_entropy(logits, labels, label_smoothing=SMOOTHING)
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped


@pytest.mark.skipif(NODE is None, reason="no Node.js is installed")
@pytest.mark.parametrize("activation", ["tanh", "relu", "silu"])
@pytest.mark.parametrize("pooling", ["average", "max"])
def test_the_page_learns_as_torch_does(activation: str, pooling: str, tmp_path: Path) -> None:
    assert NODE is not None
    torch.manual_seed(5)
    images, labels = make_digits(37, seed=1)
    options: dict[str, Any] = {"activation": activation, "pooling": pooling}
    model = LeNet5(10, **options, background=BACKGROUND, ink=INK)
    parameters = list(model.parameters())
    settings = {**options, "background": BACKGROUND, "ink": INK, "smoothing": SMOOTHING}
    task = {
        "images": encode(images), "labels": labels.tolist(), "lr": LR, "numSteps": NUM_STEPS,
        "weights": [encode(p) for p in parameters], "settings": settings,
    }  # fmt: skip
    (tmp_path / "task.json").write_text(json.dumps(task))
    (tmp_path / "learn.cjs").write_text(LEARN)
    names = (PAGE / "trainer.js", PAGE / "kernels.wasm", "task.json", "result.json")
    subprocess.run([NODE, "learn.cjs", *map(str, names)], cwd=tmp_path, check=True)
    found = json.loads((tmp_path / "result.json").read_text())

    x = images.unsqueeze(1) / 255
    logits = model(x)
    assert_near(decode(found["logits"][0], logits), logits, 1e-5)
    loss = F.cross_entropy(logits.detach(), labels)
    assert found["first"]["loss"] == pytest.approx(float(loss), rel=1e-5)
    assert found["first"]["correct"] == int((logits.argmax(1) == labels).sum())
    backward(logits, labels)
    for text, parameter in zip(found["gradients"], parameters, strict=True):
        assert parameter.grad is not None
        assert_near(decode(text, parameter), parameter.grad, 1e-4)
    optimizer = torch.optim.Adam(parameters, lr=LR)
    for _ in range(NUM_STEPS):
        optimizer.zero_grad()
        backward(model(x), labels)
        optimizer.step()
    trained = LeNet5(10, **options, background=BACKGROUND, ink=INK)
    with torch.no_grad():
        for text, parameter in zip(found["weights"], trained.parameters(), strict=True):
            parameter.copy_(decode(text, parameter))
    # Adam divides by the gradient's size, so weights of tiny gradients may differ; what they
    # compute does not.
    assert_near(trained(x), model(x), 1e-3)


@pytest.fixture
def page() -> Iterator[Any]:
    """A page in Chromium; at the end it must have asked for nothing and complained of nothing."""
    sync_api = pytest.importorskip("playwright.sync_api")
    complaints: list[str] = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        opened = browser.new_page()
        opened.set_default_timeout(60_000)
        opened.on("console", lambda message: complaints.append(message.text))
        opened.on("pageerror", lambda error: complaints.append(str(error)))
        opened.on("request", lambda request: complaints.append(request.url))
        yield opened
        browser.close()
    assert [c for c in complaints if not c.startswith(("file:", "data:", "blob:"))] == []


def wait_for(page: Any, selector: str, text: str) -> str:
    end = time.monotonic() + 60
    while text not in (found := page.inner_text(selector)):
        assert time.monotonic() < end, found
        time.sleep(0.02)
    return str(found)


@needs_chromium
def test_the_page_trains_and_saves_what_it_trained(page: Any, tmp_path: Path) -> None:
    (images, labels), (x, y) = make_digits(2000, seed=2), make_digits(500, seed=3)
    content = b"".join(part.numpy().tobytes() for part in (images, labels.byte(), x, y.byte()))
    training = TrainingDigits(num_train=2000, num_test=500, content=content)
    file = tmp_path / "page.html"
    file.write_text(build_page([PRETRAINED.read_bytes()], training=training), encoding="utf-8")
    page.goto(file.as_uri())
    wait_for(page, "#training-lead", "from 1,800 images")
    page.click("#training-step")
    wait_for(page, "#training-text", "step 1 of 87")
    wait_for(page, "#networks", "Yours")
    page.click("#training-run")
    wait_for(page, "#training-result", "right")
    with page.expect_download() as download:
        page.click("#training-save")
    download.value.save_as(tmp_path / "model.safetensors")
    model, card = load_model(tmp_path / "model.safetensors")
    wrong = int((model(x.unsqueeze(1) / 255).argmax(1) != y).sum())
    trained = page.evaluate("lenet.trained")
    assert wrong == trained["numWrong"] < 10
    assert card.scores.test_accuracy == trained["accuracy"] == 1 - wrong / 500
    page.click("text=100 images")
    wait_for(page, "#experiment-text", "overfits")
    wait_for(page, "#training-text", "of 100, step")


@needs_chromium
def test_the_page_trains_on_files_that_are_chosen(page: Any, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text(build_page([PRETRAINED.read_bytes()]), encoding="utf-8")
    paths = []
    for name, count in (("train", 1000), ("test", 300)):
        images, labels = make_digits(count, seed=count)
        for kind, values in (("images", images), ("labels", labels.byte())):
            paths.append(tmp_path / f"{name}-{kind}")
            write_idx(paths[-1], values.numpy())
    page.goto(file.as_uri())
    page.click("#train")
    page.set_input_files("#training-files", [str(path) for path in paths[:2]])
    wait_for(page, "#training-text", "choose four files")
    page.set_input_files("#training-files", [str(file)])
    wait_for(page, "#training-text", "not a file of 28")
    page.set_input_files("#training-files", [str(path) for path in paths])
    wait_for(page, "#training-lead", "300 test images")
    # Dropped together, they do the same.
    page.reload()
    drop = """(files) => {
      const dataTransfer = new DataTransfer();
      for (const [name, content] of files) {
        dataTransfer.items.add(new File([lenet.fromBase64(content)], name));
      }
      document.dispatchEvent(new DragEvent("drop", { dataTransfer, cancelable: true }));
    }"""
    encoded = [(path.name, base64.b64encode(path.read_bytes()).decode()) for path in paths]
    page.evaluate(drop, encoded)
    wait_for(page, "#training-lead", "from 900 images")
