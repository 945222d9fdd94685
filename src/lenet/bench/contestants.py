"""The contestants of `lenet bench`: what each prepares, and what it then does in its turn."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from lenet.data.digits import Digits, batches, to_input
from lenet.errors import LeNetError, install_hint
from lenet.models import Network, build_network
from lenet.native.engine import load_engine
from lenet.results.scores import evaluate
from lenet.training.learners import Tally, make_learner
from lenet.training.recipe import RECIPES

MATRIX_SIZE = 1024

Prepared = Callable[[], object]
Contestants = Mapping[tuple[str, str], tuple[Prepared, int]]
"""(discipline, name) to what is timed, and how many images that is."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What every contestant is given."""

    digits: Digits
    """Trained on."""
    scored: Digits
    """Only scored."""
    batch_size: int
    num_threads: int
    work: Path
    """A folder for files, gone afterwards."""
    left_out: dict[str, str]
    """Contestants that can't run put their reason here."""


def prepare_training(setup: Setup) -> Contestants:
    """An epoch with its optimizer steps, then loss and accuracy of both sets.

    "native, one pass" takes the training images' figures from the training pass, as `lenet train`
    does; the others pass over them again, as the notebook does.
    """
    ways = {"torch": prepare_epoch(setup, "torch")}
    try:
        ways = {
            "native": prepare_epoch(setup, "native"),
            "native, one pass": prepare_epoch(setup, "native", score_training_images=False),
            **ways,
        }
    except LeNetError as error:
        setup.left_out["native"] = str(error)
    return {("train", name): (run, len(setup.digits)) for name, run in ways.items()}


def prepare_epoch(
    setup: Setup,
    engine_name: str,
    *,
    score_training_images: bool = True,
    compiled: Callable[[nn.Module], nn.Module] = lambda model: model,
) -> Prepared:
    """Return an epoch of recipe `default` and the scoring after it.

    Args:
        setup: Images, batch size and threads.
        engine_name: "native" or "torch".
        score_training_images: Pass over the training images again, as well as the scored ones.
        compiled: Returns what stands in for the model, such as `torch.compile`.

    Raises:
        LeNetError: "native", and it can't be compiled here.
    """
    digits, num_threads = setup.digits, setup.num_threads
    recipe = replace(RECIPES["default"], batch_size=setup.batch_size)
    learner = make_learner(
        recipe, build_network(recipe, 0), engine=engine_name, num_threads=num_threads
    )
    if engine_name == "torch":
        learner.model = compiled(learner.model)

    def run() -> None:
        # Beside the kernels, torch works on what is too small for threads.
        torch.set_num_threads(num_threads if learner.engine == "torch" else 1)
        learner.begin_epoch(0, digits.images)
        tally = Tally()
        for x, labels in batches(
            digits.images, digits.labels, batch_size=setup.batch_size, as_bytes=True
        ):
            tally += learner.step(x, labels)
        for part in (digits, setup.scored) if score_training_images else (setup.scored,):
            evaluate(learner.logits, part.images, part.labels, split=part.split, takes_bytes=True)
        torch.set_num_threads(num_threads)

    return run


def prepare_gradients(setup: Setup) -> Contestants:
    """Loss and gradients alone, at batch 64: what the arithmetic costs."""
    if "native" in setup.left_out:
        return {}
    model = build_network(RECIPES["default"], 0)
    engine = load_engine(model, num_threads=setup.num_threads)
    x, labels = to_input(setup.digits.images[:64]), setup.digits.labels[:64]
    repeats = 200

    def run() -> None:
        for _ in range(repeats):
            engine.loss_and_gradients(x, labels)

    return {("gradients", "native"): (run, repeats * len(labels))}


def prepare_inference(setup: Setup) -> Contestants:
    """Logits from pixels in [0, 1], one image at a time and 1000."""
    model = build_network(RECIPES["default"], 0)
    model.eval()
    predictors: dict[str, Callable[[Tensor], object]] = {}
    if "native" not in setup.left_out:
        predictors["native"] = load_engine(model, num_threads=setup.num_threads).logits
    predictors["torch"] = model
    try:
        predictors["ONNX Runtime"] = _onnx_runtime(
            model, setup.work / "model.onnx", setup.num_threads
        )
    except ImportError as error:
        setup.left_out["ONNX Runtime"] = f"{error}; {install_hint('onnx')}"
    found: dict[tuple[str, str], tuple[Prepared, int]] = {}
    for size in (1, 1000):
        # Long turns: other libraries' threads go on spinning for some milliseconds.
        repeats = 3000 if size == 1 else 30
        x = to_input(setup.digits.images[:size])
        for name, predict in predictors.items():
            run = _repeat(predict, x, repeats, 1 if name == "native" else setup.num_threads)
            found[f"infer {size}", name] = (run, repeats * len(x))
    return found


def _repeat(
    predict: Callable[[Tensor], object], x: Tensor, repeats: int, num_threads: int
) -> Prepared:
    @torch.inference_mode()
    def run() -> None:
        before = torch.get_num_threads()
        torch.set_num_threads(num_threads)
        for _ in range(repeats):
            predict(x)
        torch.set_num_threads(before)

    return run


def _onnx_runtime(model: Network, path: Path, num_threads: int) -> Callable[[Tensor], object]:
    import onnx  # noqa: F401  # the exporter needs it
    import onnxruntime
    import onnxscript  # noqa: F401  # torch's exporter needs it

    from lenet.export.onnx_graph import export_network

    export_network(model, "lenet5", path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"x": x.numpy()})


def prepare_matrix() -> tuple[Prepared, int]:
    """Return float32 matrix products, the machine's arithmetic at its best, and how many."""
    a, b = (torch.rand(MATRIX_SIZE, MATRIX_SIZE) for _ in range(2))
    repeats = 20  # a single one ends before the second thread is awake

    def run() -> None:
        for _ in range(repeats):
            torch.mm(a, b)

    return run, repeats
