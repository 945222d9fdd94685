"""Every export is held to its source: torch's own forward pass is the oracle."""

import base64
import ctypes
import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from lenet import __version__
from lenet.cli import main as cli
from lenet.data.datasets import DATASETS, DataFile, Dataset
from lenet.data.digits import Digits, load, to_input
from lenet.data.idx import write_idx
from lenet.errors import ExportError
from lenet.export import Settings, export_model, onnx_graph, parity
from lenet.export.browser import find_browsers
from lenet.export.c_code import comment_text, identifier, literal, quoted
from lenet.export.parity import Parity, Source, check
from lenet.models import LeNet5
from lenet.models.files import load_model, save_model
from lenet.models.lenet5_1998 import LeNet5_1998
from lenet.page.build import read_models
from lenet.schema import CardScores, ModelCard

NUM_TRAIN, NUM_TEST = 400, 50
COMPILERS = [name for name in ("gcc", "clang") if shutil.which(name)]
SANITIZED = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined")


def draw(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Ten blurred patterns under noise: classes that are quickly told apart."""
    patterns = np.random.default_rng(1998).random((10, 7, 7)) > 0.6
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, count, dtype=np.uint8)
    images = np.kron(patterns[labels], np.ones((1, 4, 4))) * 180 + rng.integers(
        0, 75, (count, 28, 28)
    )
    return images.astype(np.uint8), labels


@pytest.fixture(scope="session")
def trained() -> Callable[..., LeNet5]:
    """Train on the patterns for a moment, once for each network."""
    made: dict[tuple[tuple[str, object], ...], LeNet5] = {}

    def train(**config: object) -> LeNet5:
        key = tuple(sorted(config.items()))
        if key not in made:
            torch.manual_seed(0)
            model = LeNet5(10, **config)  # type: ignore[arg-type]  # of any of its arguments
            optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
            images, labels = draw(NUM_TRAIN, 1)
            for start in [*range(0, NUM_TRAIN, 40)] * 3:
                part = slice(start, start + 40)
                x = to_input(torch.from_numpy(images[part]))
                target = torch.from_numpy(labels[part]).long()
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(model(x), target).backward()  # type: ignore[no-untyped-call]  # torch's own
                optimizer.step()
            made[key] = model.eval()
        return made[key]

    return train


@pytest.fixture
def patterns(cache: Path, tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """MNIST is the patterns."""
    folder = cache / "mnist"
    folder.mkdir(parents=True)
    files = []
    names = iter(tiny.files)
    for part in (draw(NUM_TRAIN, 1), draw(NUM_TEST, 2)):
        for values in part:
            name = next(names).name
            write_idx(folder / name, values)
            digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
            files.append(DataFile(name=name, shape=values.shape, sha256=digest))
    a, b, c, d = files
    dataset = replace(tiny, name="mnist", files=(a, b, c, d))
    monkeypatch.setitem(DATASETS, "mnist", dataset)


@pytest.fixture
def save(tmp_path: Path, patterns: None, trained: Callable[..., LeNet5]) -> Callable[..., Path]:
    """Write a trained model file, in an empty folder, and return its path."""

    def write(**config: object) -> Path:
        model = trained(**config)
        folder = tmp_path / "model"
        folder.mkdir(exist_ok=True)
        card = ModelCard(
            model="lenet5",
            config=model.config(),
            classes=tuple("0123456789"),
            dataset="mnist",
            recipe_name="default",
            seed=3,
            epochs=3,
            scores=CardScores(temperature=1.3),
        )
        save_model(folder / "model.safetensors", model, card)
        return folder / "model.safetensors"

    return write


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def read_test() -> tuple[Digits, Tensor]:
    digits = load("mnist", "test")
    return digits, to_input(digits.images)


def run_outputs(path: Path, x: Tensor) -> dict[str, np.ndarray[Any, Any]]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"x": x.numpy()}), strict=True))


def run_onnx(path: Path, x: Tensor) -> Tensor:
    return torch.from_numpy(run_outputs(path, x)["logits"])


@torch.inference_mode()
def source_logits(path: Path, x: Tensor) -> Tensor:
    logits: Tensor = load_model(path)[0](x)
    return logits


def test_onnx_gives_the_sources_logits_at_any_batch_size_and_says_what_it_is(
    save: Callable[..., Path],
) -> None:
    import onnx

    model = save(resize="stretch", pooling="max", background=-0.1, ink=1.175)
    record = export_model(model, "onnx")
    path = model.parent / "model.onnx"
    assert names(model.parent) == {"model.safetensors", "model.onnx", "model.onnx.json"}
    digits, x = read_test()
    logits = source_logits(model, x)
    for part in (slice(0, 1), slice(3, 10), slice(0, NUM_TEST)):
        torch.testing.assert_close(run_onnx(path, x[part]), logits[part], rtol=0, atol=1e-4)
    outputs = run_outputs(path, x)
    expected = (logits / load_model(model)[1].temperature).softmax(1)
    np.testing.assert_allclose(outputs["probabilities"], expected, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(outputs["labels"], logits.argmax(1))
    found = onnx.load(path)
    onnx.checker.check_model(found, full_check=True)
    assert [(o.domain, o.version) for o in found.opset_import] == [("", onnx_graph.OPSET)]
    assert found.ir_version == 8  # the lowest for opset 18, so that ONNX Runtime 1.14 reads it
    metadata = {item.key: item.value for item in found.metadata_props}
    assert metadata["dataset"] == "mnist"
    assert metadata["recipe_name"] == "default"
    assert metadata["seed"] == "3"
    assert metadata["lenet_version"] == __version__
    assert metadata["source_sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert json.loads(metadata["classes"]) == list("0123456789")
    assert "1 = ink" in metadata["input"]
    figures = json.loads(metadata["parity"])
    assert figures["num_images"] == NUM_TEST
    assert figures["label_agreement"] == 1
    assert figures["accuracy"] == float((logits.argmax(1) == digits.labels).float().mean())
    # Nothing of the machine that exported.
    assert str(Path(__file__).parent.parent).encode() not in path.read_bytes()
    written = json.loads((model.parent / "model.onnx.json").read_text())
    assert written["parity"] == figures
    assert written["files"]["model.onnx"]["num_bytes"] == path.stat().st_size
    assert written["num_bytes"] == path.stat().st_size == record.num_bytes


def test_a_torch_program_gives_the_sources_logits_without_its_code(
    save: Callable[..., Path],
) -> None:
    model = save(activation="silu")
    export_model(model, "torch")
    _, x = read_test()
    notes = {"parity": "", "classes": ""}
    program = torch.export.load(model.parent / "model.pt2", extra_files=notes).module()
    for part in (slice(0, 1), slice(0, NUM_TEST)):
        torch.testing.assert_close(program(x[part]), source_logits(model, x[part]))
    assert json.loads(notes["parity"])["num_labels_differ"] == 0
    assert json.loads(notes["classes"]) == list("0123456789")


@pytest.mark.parametrize("activation", ["tanh", "relu", "silu"])
def test_int8_onnx_multiplies_bytes_and_keeps_the_labels(
    activation: str, save: Callable[..., Path]
) -> None:
    import onnx

    model = save(activation=activation)
    record = export_model(model, "int8", settings=Settings(min_agreement=0.98))
    path = model.parent / "model.int8.onnx"
    assert names(model.parent) == {"model.safetensors", path.name, path.name + ".json"}
    _, x = read_test()
    logits = source_logits(model, x)
    found = run_onnx(path, x)
    assert record.parity.num_labels_differ == int((found.argmax(1) != logits.argmax(1)).sum())
    assert float((found - logits).abs().max()) < 0.1 * float(logits.abs().max())
    graph = onnx.load(path).graph
    weights = {i.name: i for i in graph.initializer if i.name.endswith("weight_quantized")}
    assert len(weights) == 5
    assert all(w.data_type == onnx.TensorProto.UINT8 for w in weights.values())
    assert sum(int(np.prod(w.dims)) for w in weights.values()) == 61_706 - 236


C_CASES = [
    ("float", {}),
    ("float", {"activation": "relu", "pooling": "max", "background": -0.1, "ink": 1.175}),
    ("float", {"activation": "silu"}),
    ("int8", {}),
    ("int8", {"activation": "relu", "pooling": "max", "background": -0.1, "ink": 1.175}),
    ("int8", {"activation": "silu", "background": -0.4, "ink": 2.8}),
]


@pytest.mark.skipif(not COMPILERS, reason="no C compiler")
@pytest.mark.parametrize(("c_type", "config"), C_CASES)
def test_c_code_gives_the_sources_labels(
    c_type: str, config: dict[str, object], save: Callable[..., Path], tmp_path: Path
) -> None:
    model = save(**config)
    settings = Settings(c_type=c_type, min_agreement=0.98)  # type: ignore[arg-type]
    record = export_model(model, "c", out=tmp_path / "my-net.c", settings=settings)
    digits, x = read_test()
    logits = source_logits(model, x)
    scratch = bytearray(record.details["ram_bytes"]) + b"untouched"
    cells = (ctypes.c_char * len(scratch)).from_buffer(scratch)
    found = torch.zeros(NUM_TEST, 10)
    library = compile_shared(tmp_path / "my-net.c", tmp_path / "my-net.so")
    for image, row in zip(digits.images.contiguous(), found, strict=True):
        label = library.my_net_run(
            ctypes.c_void_p(image.data_ptr()), ctypes.c_void_p(row.data_ptr()), cells
        )
        assert label == int(row.argmax())
    assert scratch.endswith(b"untouched")
    assert record.parity.num_labels_differ == int((found.argmax(1) != logits.argmax(1)).sum())
    allowed = 1e-5 if c_type == "float" else 0.1
    assert float((found - logits).abs().max()) < allowed * max(1.0, float(logits.abs().max()))


def compile_shared(path: Path, library: Path) -> ctypes.CDLL:
    command = (COMPILERS[0], "-std=c99", "-O2", "-shared", "-fPIC", path, "-o", library, "-lm")
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(library))


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize(("c_type", "config"), [C_CASES[0], C_CASES[4]])
def test_c_code_passes_its_self_test_under_sanitizers(
    compiler: str,
    c_type: str,
    config: dict[str, object],
    save: Callable[..., Path],
    tmp_path: Path,
) -> None:
    settings = Settings(c_type=c_type, min_agreement=0.98)  # type: ignore[arg-type]
    export_model(save(**config), "c", out=tmp_path / "net.c", settings=settings)
    strict = (*SANITIZED, "-pedantic", "-Wconversion", "-Wdouble-promotion", "-Wshadow")
    build = (compiler, *strict, "-DLENET_SELFTEST", "net.c", "-o", "selftest", "-lm")
    subprocess.run(build, check=True, cwd=tmp_path)
    done = subprocess.run([tmp_path / "selftest"], capture_output=True, text=True, check=True)
    assert done.stdout == "self-test passed\n"
    assert done.stderr == ""
    code = (tmp_path / "net.c").read_text()
    assert "malloc" not in code
    # Other biases fail it.
    assert run_changed(compiler, code, tmp_path) == "self-test FAILED\n"


def run_changed(compiler: str, code: str, folder: Path) -> str:
    start = code.index("output_bias[10] = {") + len("output_bias[10] = {")
    end = code.index("}", start)
    zeros = ", ".join(["3"] + ["0"] * 9)
    (folder / "net.c").write_text(code[:start] + zeros + code[end:])
    build = (compiler, "-std=c99", "-DLENET_SELFTEST", "net.c", "-o", "changed", "-lm")
    subprocess.run(build, check=True, cwd=folder)
    done = subprocess.run([folder / "changed"], capture_output=True, text=True)
    assert done.returncode == 1
    return done.stdout


@pytest.mark.skipif(not COMPILERS, reason="no C compiler")
def test_a_hostile_model_file_writes_no_code_of_its_own(
    save: Callable[..., Path], tmp_path: Path
) -> None:
    path = save()
    model, card = load_model(path)
    nasty = '"}; int main(void){return 3;} /* */ \\ ??/\n'
    card = replace(card, classes=(nasty, *card.classes[1:]), recipe_name="*/ #error no\n")
    save_model(path, model, card)
    export_model(path, "c", out=tmp_path / "5 odd name.c")
    code = (tmp_path / "5 odd name.c").read_text()
    assert "int main(void){return 3" not in code
    assert "#error" not in (tmp_path / "5 odd name.h").read_text()
    library = compile_shared(tmp_path / "5 odd name.c", tmp_path / "odd.so")
    found = (ctypes.c_char_p * 10).in_dll(library, "lenet_5_odd_name_names")
    assert found[0] == nasty.encode()


def test_onnx_is_written_in_the_opset_asked_for(
    save: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    import onnx

    model = save(pooling="max", activation="silu")
    path = model.parent / "model.onnx"
    assert cli.main(["export", str(model), "--to", "onnx", "--opset", "14"]) == 0
    found = onnx.load(path)
    assert [(o.domain, o.version) for o in found.opset_import] == [("", 14)]
    assert found.ir_version == 7
    _, x = read_test()
    torch.testing.assert_close(run_onnx(path, x), source_logits(model, x), rtol=0, atol=1e-4)
    command = ["export", str(model), "--to", "onnx", "--opset", "9", "--overwrite"]
    assert cli.main(command) == 1
    assert "`opset` (=9)" in capsys.readouterr().err


@pytest.mark.parametrize("has_garbage", [False, True])
def test_a_triton_repository_has_the_layout_and_fields_that_triton_reads(
    has_garbage: bool, save: Callable[..., Path]
) -> None:
    model = save()
    network, card = load_model(model)
    save_model(model, network, replace(card, has_garbage=has_garbage))
    export_model(model, "triton")
    folder = model.parent / "triton" / "lenet5"
    assert names(folder) == {"1", "config.pbtxt", "labels.txt"}
    assert names(folder / "1") == {"model.onnx"}
    config = (folder / "config.pbtxt").read_text()
    for line in ('name: "lenet5"', 'platform: "onnxruntime_onnx"', "dynamic_batching {"):
        assert line in config
    assert (folder / "labels.txt").read_text().split() == list("0123456789")
    # The names under which `lenet serve` answers.
    for name in ("logits", "probabilities", "labels"):
        assert f'name: "{name}"' in config
    _, x = read_test()
    logits = source_logits(model, x)
    torch.testing.assert_close(run_onnx(folder / "1" / "model.onnx", x), logits, rtol=0, atol=1e-4)
    found = run_outputs(folder / "1" / "model.onnx", x)
    scaled = torch.nn.functional.pad(logits / card.temperature, (0, 1 if has_garbage else 0))
    expected = torch.softmax(scaled, 1)[:, :10]
    np.testing.assert_allclose(found["probabilities"], expected, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(found["labels"], logits.argmax(1))
    assert json.loads((model.parent / "triton" / "export.json").read_text())["kind"] == "triton"


@pytest.mark.parametrize("has_garbage", [False, True])
def test_a_hub_s_folder_is_a_model_with_its_arguments_and_a_card(
    has_garbage: bool, save: Callable[..., Path]
) -> None:
    model = save(activation="silu", pooling="max", background=-0.1)
    network, card = load_model(model)
    save_model(model, network, replace(card, has_garbage=has_garbage))
    export_model(model, "hub")
    folder = model.parent / "hub"
    assert names(folder) == {"model.safetensors", "config.json", "README.md", "export.json"}
    assert (folder / "model.safetensors").read_bytes() == model.read_bytes()
    # As huggingface_hub builds a model: from the arguments that it knows, then the tensors.
    config = json.loads((folder / "config.json").read_text())
    assert config.pop("model_type") == "lenet5"
    rebuilt = LeNet5(**config)
    rebuilt.load_state_dict(load_file(folder / "model.safetensors"))
    _, x = read_test()
    torch.testing.assert_close(rebuilt(x), network(x), rtol=0, atol=0)
    text = (folder / "README.md").read_text()
    accuracy = json.loads((folder / "export.json").read_text())["parity"]["accuracy"]
    assert f"**Accuracy: {100 * accuracy:.2f} %** of the {NUM_TEST} test images" in text
    assert ("no digit" in text) == has_garbage


@pytest.mark.parametrize("config", [{}, {"resize": "stretch", "activation": "silu"}])
@pytest.mark.parametrize("is_run", [True, False])
def test_a_page_is_run_in_a_browser_where_there_is_one(
    config: dict[str, object],
    is_run: bool,
    save: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if is_run and not find_browsers():
        pytest.skip("no Chromium or Chrome is installed")
    if not is_run:  # something of the name that is no browser
        monkeypatch.setenv("CHROME_BIN", sys.executable)
    model = save(**config)
    assert cli.main(["export", str(model), "--to", "html"]) == 0
    assert ("not run in a browser" in capsys.readouterr().out) == (not is_run)
    assert names(model.parent) == {"model.safetensors", "model.html", "model.html.json"}
    page = (model.parent / "model.html").read_text()
    assert read_models(page) == [model.read_bytes()]
    found = re.search(r'id="page-data">(.*?)</script>', page)
    assert found is not None
    data = json.loads(found[1])
    assert data["parity"]["num_labels_differ"] == 0
    assert data["source_sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert ("this page ran in" in data["exported"]) == is_run
    digits, x = read_test()
    held = data["digits"]
    shown = np.frombuffer(base64.b64decode(held["images"]), np.uint8).reshape(-1, 28, 28)
    assert (torch.from_numpy(shown.copy()) == digits.images[held["numbers"]]).all()
    logits = source_logits(model, x[held["numbers"]])
    stored = np.frombuffer(base64.b64decode(held["logits"]), "<f4").reshape(-1, 10)
    torch.testing.assert_close(torch.from_numpy(stored.copy()), logits)
    wrong = (logits.argmax(1) != digits.labels[held["numbers"]]).tolist()
    assert held["mistakes"] == wrong


def test_only_the_network_of_1998_stands_beside_another(
    save: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = save()
    export = ["export", str(model), "--to", "html", "--with-1998"]
    assert cli.main([*export, str(model)]) == 1
    assert "must be 'lenet5-1998'" in capsys.readouterr().err
    torch.manual_seed(0)
    old = LeNet5_1998()
    card = replace(load_model(model)[1], model="lenet5-1998", config=old.config())
    save_model(tmp_path / "1998.safetensors", old, card)
    assert cli.main([*export, str(tmp_path / "1998.safetensors"), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["details"]["with_1998"]["parity"]["num_labels_differ"] == 0
    assert len(read_models((model.parent / "model.html").read_text())) == 2
    # Shown by itself, too.
    assert cli.main(["export", str(tmp_path / "1998.safetensors"), "--to", "html"]) == 0


@pytest.mark.parametrize("kind", ["torch", "c", "triton"])
def test_an_export_that_differs_leaves_nothing(
    kind: str, save: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "c" and not COMPILERS:
        pytest.skip("no C compiler")
    model = save()
    compare = parity.compare

    def compare_wrong(source: Source, logits: torch.Tensor) -> Parity:
        return compare(source, logits + torch.tensor([1e-3] + [0.0] * 9))

    monkeypatch.setattr(parity, "compare", compare_wrong)
    with pytest.raises(ExportError, match="differs from its source"):
        export_model(model, kind)
    assert names(model.parent) == {"model.safetensors"}


def test_parity_refuses_what_is_no_number_and_too_many_other_labels() -> None:
    good = Parity(
        num_images=10_000,
        largest_logit=10.0,
        largest_logit_difference=1e-5,
        num_labels_differ=0,
        label_agreement=1.0,
        source_accuracy=0.99,
        accuracy=0.99,
    )
    check(good)
    check(good, 0.999)
    for change in (
        {"largest_logit_difference": float("nan")},
        {"largest_logit_difference": 2e-4},
        {"num_labels_differ": 1},
    ):
        with pytest.raises(ExportError):
            check(replace(good, **change))
    check(replace(good, label_agreement=0.999, accuracy=0.9895), 0.999)
    for change in (
        {"largest_logit_difference": float("nan")},
        {"label_agreement": 0.9989},
        {"accuracy": 0.9894},
        {"accuracy": 0.9906},
    ):
        with pytest.raises(ExportError, match=r"at least 99\.90%"):
            check(replace(good, **change), 0.999)  # type: ignore[arg-type]
    with pytest.raises(ExportError, match="`min_agreement`"):
        Settings(min_agreement=1.5)


def test_nothing_is_overwritten_unasked(save: Callable[..., Path], tmp_path: Path) -> None:
    model = save()
    export_model(model, "torch", out=tmp_path / "net.pt2")
    before = (tmp_path / "net.pt2").read_bytes()
    with pytest.raises(ExportError, match="--overwrite"):
        export_model(model, "torch", out=tmp_path / "net.pt2")
    assert (tmp_path / "net.pt2").read_bytes() == before
    save(activation="relu")
    export_model(model, "torch", out=tmp_path / "net.pt2", overwrite=True)
    assert export_model(model, "torch", out=tmp_path / "new" / "folder" / "net.pt2").num_bytes
    assert (tmp_path / "net.pt2").read_bytes() != before
    # A header of one's own is as safe as the file that was named.
    (tmp_path / "net.h").write_text("mine")
    with pytest.raises(ExportError, match=r"net\.h: exists already"):
        export_model(model, "c", out=tmp_path / "net.c")
    assert (tmp_path / "net.h").read_text() == "mine"


def test_a_folder_is_replaced_whole_if_an_export_wrote_it(
    save: Callable[..., Path], tmp_path: Path
) -> None:
    model = save()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious").touch()
    with pytest.raises(ExportError, match="not an export"):
        export_model(model, "triton", out=tmp_path / "mine", overwrite=True)
    assert names(tmp_path / "mine") == {"precious"}
    export_model(model, "triton", out=tmp_path / "there")
    graph = (tmp_path / "there" / "lenet5" / "1" / "model.onnx").read_bytes()
    (tmp_path / "there" / "stale").touch()
    with pytest.raises(ExportError, match="--overwrite"):
        export_model(model, "triton", out=tmp_path / "there")
    export_model(model, "triton", out=tmp_path / "there", overwrite=True)
    assert "stale" not in names(tmp_path / "there")
    # Equal models are equal files.
    assert (tmp_path / "there" / "lenet5" / "1" / "model.onnx").read_bytes() == graph
    assert not list(tmp_path.glob(".*"))


def test_export_from_the_command_line(
    save: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = save()
    export = ["export", str(model.parent), "--to", "torch", "--out", str(tmp_path / "net.pt2")]
    assert cli.main(export) == 0
    assert f"{NUM_TEST} of {NUM_TEST} labels are the source's" in capsys.readouterr().out
    assert cli.main([*export, "--overwrite", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["parity"]["label_agreement"] == 1


def test_bad_requests_are_one_line(
    save: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, stretched = save(), tmp_path / "stretched.safetensors"
    shutil.copy(save(resize="stretch"), stretched)
    save()
    (tmp_path / "folder.onnx").mkdir()
    to = ["export", str(model), "--to"]
    for arguments, message in (
        (["export", "nowhere", "--to", "onnx"], "no such file or run directory"),
        (["export", str(tmp_path), "--to", "onnx"], "no model.safetensors in it"),
        ([*to, "onnx", "--out", "model.pb"], "ends in .onnx"),
        ([*to, "onnx", "--out", str(tmp_path / "folder.onnx")], "is a folder"),
        ([*to, "triton", "--out", str(model)], "is a file"),
        ([*to, "int8", "--min-agreement", "2"], "`min_agreement` (=2.0)"),
        (["export", str(stretched), "--to", "c"], "`resize` (='stretch')"),
    ):
        assert cli.main(arguments) == 1, arguments
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert line.startswith("error: ")
        assert message in line
    assert cli.main([*to, "coreml"]) == 2
    capsys.readouterr()
    for compiler, message in (("false", "`false` failed"), ("no-such-cc", "No such file")):
        monkeypatch.setenv("CC", compiler)
        assert cli.main([*to, "c"]) == 1
        assert message in capsys.readouterr().err
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    assert cli.main([*to, "c"]) == 1
    assert "no C compiler found" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert cli.main([*to, "onnx"]) == 1
    assert "pip install '.[onnx]'" in capsys.readouterr().err
    assert names(model.parent) == {"model.safetensors"}


def test_numbers_and_text_survive_the_way_through_c() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=2000).astype(np.float32) * 10.0 ** rng.integers(-30, 30, 2000)
    for value in values.astype(np.float32):
        text = literal(value)
        assert text.endswith("f")
        assert set(text) & set(".e")
        assert np.float32(text[:-1]) == value
    assert quoted("\x00é") == '"\\000\\303\\251"'
    assert "*/" not in comment_text("**//*/")
    assert identifier("é") == "lenet__"
