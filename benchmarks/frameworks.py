"""One epoch of LeNet-5 in other frameworks, each in a process of its own, in turns.

Run: `python -m venv .frameworks && .frameworks/bin/pip install jax optax tinygrad tensorflow-cpu
keras`, then `.venv/bin/python benchmarks/frameworks.py --environment .frameworks [--record]`

All train the network of recipe `default` (tanh, average pooling, 61,706 weights) on the 60,000
images, padded to 32x32, in batches of 32 by Adam at 2e-3, and then score the test images. Each is
written as its documentation advises where speed counts: JAX jits a step with Optax's Adam,
tinygrad replays a step by TinyJit, Keras uses `fit` over TensorFlow. Reading, compiling and a first
epoch come before the rounds; each round trains one epoch more. Accuracy is that after the last.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

BATCH_SIZE = 32
LR = 2e-3
Learner = tuple[Callable[[Any], None], Callable[[], Any]]
"""Trains one epoch in a given order of the images; returns the test images' logits, (N, 10)."""


def lenet(data: Any, engine: str = "native") -> Learner:
    """Train by this project's compiled kernels, or by torch's own operations, eager."""
    import torch

    from lenet.models import build_network
    from lenet.training.learners import make_learner
    from lenet.training.recipe import RECIPES

    images, labels, test = (torch.from_numpy(data[n]) for n in ("images", "labels", "test"))
    recipe, threads = RECIPES["default"], os.cpu_count() or 1
    torch.set_num_threads(threads if engine == "torch" else 1)
    learner = make_learner(recipe, build_network(recipe, 0), engine=engine, num_threads=threads)

    def epoch(order: Any) -> None:
        learner.begin_epoch(0, images)
        for part in torch.from_numpy(order).view(-1, BATCH_SIZE):
            learner.step(images[part], labels[part], LR)

    return epoch, lambda: learner.logits(test).numpy()


def jax(data: Any) -> Learner:
    """Train by a jitted step with Optax's Adam; scanned over an epoch it is slower on a CPU."""
    jax, jnp = import_module("jax"), import_module("jax.numpy")
    lax, optax = jax.lax, import_module("optax")
    images, labels, test = (jnp.asarray(data[n]) for n in ("images", "labels", "test"))
    random = np.random.default_rng(0)

    def layer(*shape: int) -> Any:
        """Return weights and biases drawn as torch draws them."""
        bound = 1 / np.sqrt(np.prod(shape[1:]))
        sizes = (shape, shape[:1])
        return tuple(jnp.asarray(random.uniform(-bound, bound, s), "float32") for s in sizes)

    convolutions = [layer(6, 1, 5, 5), layer(16, 6, 5, 5), layer(120, 16, 5, 5)]
    weights = convolutions, [layer(84, 120), layer(10, 84)]
    adam = optax.adam(LR)
    carry = weights, adam.init(weights)

    def pool(x: Any) -> Any:
        return lax.reduce_window(x, 0.0, lax.add, (1, 1, 2, 2), (1, 1, 2, 2), "VALID") / 4

    def logits(weights: Any, x: Any) -> Any:
        (c1, c3, c5), (f6, output) = weights
        x = jnp.pad(x.astype("float32") / 255, ((0, 0), (2, 2), (2, 2)))[:, None]
        for k, (w, b) in enumerate((c1, c3, c5)):
            x = jnp.tanh(lax.conv(x, w, (1, 1), "VALID") + b[:, None, None])
            x = pool(x) if k < 2 else x.reshape(len(x), -1)
        return jnp.tanh(x @ f6[0].T + f6[1]) @ output[0].T + output[1]

    def loss(weights: Any, x: Any, y: Any) -> Any:
        return optax.softmax_cross_entropy_with_integer_labels(logits(weights, x), y).mean()

    def step(carry: Any, part: Any) -> Any:
        weights, state = carry
        gradients = jax.grad(loss)(weights, images[part], labels[part])
        updates, state = adam.update(gradients, state)
        return optax.apply_updates(weights, updates), state

    predict = jax.jit(logits)
    run = jax.jit(step, donate_argnums=0)

    def epoch(order: Any) -> None:
        nonlocal carry
        for part in order.reshape(-1, BATCH_SIZE):
            carry = run(carry, part)
        jax.block_until_ready(carry)

    return epoch, lambda: np.asarray(predict(carry[0], test))


def tinygrad(data: Any) -> Learner:
    """Train by tinygrad's own layers and Adam, a step replayed by TinyJit."""
    tinygrad = import_module("tinygrad")
    tensor, nn = tinygrad.Tensor, tinygrad.nn
    images, labels, test = (tensor(data[n]) for n in ("images", "labels", "test"))
    convolutions = [nn.Conv2d(i, o, 5) for i, o in ((1, 6), (6, 16), (16, 120))]
    c1, c3, c5, f6, output = layers = [*convolutions, nn.Linear(120, 84), nn.Linear(84, 10)]
    adam = nn.optim.Adam(nn.state.get_parameters(layers), lr=LR)

    def logits(x: Any) -> Any:
        x = (x.float() / 255).unsqueeze(1).pad((2, 2, 2, 2))
        x = c3(c1(x).tanh().avg_pool2d()).tanh().avg_pool2d()
        return output(f6(c5(x).tanh().flatten(1)).tanh())

    def learn(part: Any) -> Any:
        with tinygrad.Context(TRAINING=1):
            adam.zero_grad()
            loss = logits(images[part]).sparse_categorical_crossentropy(labels[part]).backward()
            return loss.realize(*adam.schedule_step())

    step = tinygrad.TinyJit(learn)

    def epoch(order: Any) -> None:
        for part in order.astype("int32").reshape(-1, BATCH_SIZE):
            step(tensor(part))
        tinygrad.Device[tinygrad.Device.DEFAULT].synchronize()

    return epoch, lambda: np.concatenate([logits(part).numpy() for part in test.split(1000)])


def keras(data: Any) -> Learner:
    """Train by Keras's `fit` over TensorFlow; it shuffles by itself."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    keras = import_module("keras")
    layers = keras.layers
    images, test = (
        np.pad(data[n].astype("f") / 255, ((0, 0), (2, 2), (2, 2)))[..., None]
        for n in ("images", "test")
    )
    model = keras.Sequential(
        [
            *(layers.Conv2D(6, 5, activation="tanh"), layers.AveragePooling2D(2)),
            *(layers.Conv2D(16, 5, activation="tanh"), layers.AveragePooling2D(2)),
            *(layers.Conv2D(120, 5, activation="tanh"), layers.Flatten()),
            *(layers.Dense(84, activation="tanh"), layers.Dense(10)),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(LR), loss)

    def epoch(order: Any) -> None:
        model.fit(images, data["labels"], batch_size=BATCH_SIZE, verbose=0)

    return epoch, lambda: model.predict(test, batch_size=1000, verbose=0)


CONTESTANTS: dict[str, Callable[[Any], Learner]] = {
    "lenet": lenet,
    "torch": partial(lenet, engine="torch"),
    "jax": jax,
    "tinygrad": tinygrad,
    "keras": keras,
}
PACKAGES = {"jax": ("jax", "optax"), "keras": ("keras", "tensorflow-cpu")}


def contestant(name: str, file: str) -> None:
    """Train an epoch for each line of standard input, and print its seconds and accuracy."""
    with np.load(file) as arrays:
        data = {key: arrays[key] for key in arrays.files}
    epoch, predict = CONTESTANTS[name](data)
    random = np.random.default_rng(0)
    for _ in sys.stdin:
        order = random.permutation(len(data["images"]))
        start = perf_counter()
        epoch(order)
        seconds = perf_counter() - start
        accuracy = float((predict().argmax(1) == data["test_labels"]).mean())
        versions = {package: version(package) for package in PACKAGES.get(name, (name,))}
        print(
            json.dumps({"seconds": seconds, "accuracy": accuracy, "versions": versions}), flush=True
        )


def frameworks(
    environment: Path = Path(".frameworks"), num_images: int = 60_000, rounds: int = 4
) -> dict[str, Any]:
    """Train in turns.

    Args:
        environment: A virtual environment with the other frameworks.
        num_images: Training images, a multiple of 32.
        rounds: Epochs of each, after a first one that compiles.
    """
    from harness import in_turns, report

    from lenet import load

    train, test = load("mnist", "train"), load("mnist", "test")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        file = f"{folder}/digits.npz"
        np.savez(
            file,
            images=train.images[:num_images].numpy(),
            labels=train.labels[:num_images].numpy(),
            test=test.images.numpy(),
            test_labels=test.labels.numpy(),
        )

        def start(name: str) -> Any:
            own = name in ("lenet", "torch")
            python = sys.executable if own else str(environment / "bin" / "python")
            process = subprocess.Popen(
                [python, __file__, "--contestant", name, file],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(process)

            def epoch() -> Any:
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write("go\n")
                process.stdin.flush()
                line = process.stdout.readline()
                if not line:
                    raise SystemExit(f"{name} ended without an answer; what it said stands above")
                return json.loads(line)

            report(f"{name}, first epoch: {epoch()}")
            return epoch

        results = in_turns({name: start(name) for name in CONTESTANTS}, rounds)
    return {"num_images": num_images, "rounds": rounds, "results": results}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--contestant"]:
        contestant(*sys.argv[2:4])
    else:
        from harness import main

        main("frameworks", frameworks)
