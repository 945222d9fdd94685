import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch
from torch import Tensor

from lenet.data.digits import to_input
from lenet.data.distortions import (
    CENTRE,
    DISTORTIONS,
    ELASTIC,
    NUM_KNOTS,
    NUM_VALUES,
    Distortion,
    draw,
    render,
    spline_basis,
)
from lenet.native.distorter import load_renderer
from lenet.schema import EpochScores
from lenet.training.loop import Watcher, train
from lenet.training.recipe import RECIPES, Recipe
from lenet.training.run import create_run, open_run
from lenet.training.sampling import Sampling

Render = Callable[[Tensor, Tensor, Tensor], Tensor]


@pytest.fixture
def images() -> Tensor:
    """Ten smooth blobs, so that bilinear samples say where they were taken."""
    y, x = torch.meshgrid(torch.arange(28.0), torch.arange(28.0), indexing="ij")
    blobs = [
        255 * torch.exp(-((y - 10 - i % 4) ** 2 + (x - 9 - i) ** 2 / 2) / 18) for i in range(10)
    ]
    return torch.stack(blobs).to(torch.uint8)


@pytest.fixture(params=["torch", "native"])
def renderer(request: pytest.FixtureRequest, shared_kernels: None) -> Render:
    if request.param == "torch":
        return render
    if sys.platform == "win32" or not any(map(shutil.which, ("g++", "clang++", "c++"))):
        pytest.skip("no C++ compiler here")
    return load_renderer()


def test_recipes_may_use_the_distortions_that_exist() -> None:
    assert get_args(get_type_hints(Recipe)["distortions"]) == tuple(DISTORTIONS)


def test_no_distortion_leaves_the_pixels_as_they_are(images: Tensor, renderer: Render) -> None:
    indices = torch.tensor([3, 1, 1])
    table = draw(DISTORTIONS["none"], indices, seed=0, epoch=0)
    found = renderer(images, indices, table)
    torch.testing.assert_close(found, to_input(images[indices]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", DISTORTIONS)
def test_the_compiled_renderer_is_torchs(
    name: str, images: Tensor, renderer: Render, shared_kernels: None
) -> None:
    indices = torch.arange(10).repeat(20)
    tables = [draw(DISTORTIONS[name], indices, seed=1, epoch=e) for e in range(2)]
    for table in tables:
        found, expected = renderer(images, indices, table), render(images, indices, table)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_whole_pixels_are_shifted_exactly(images: Tensor, renderer: Render) -> None:
    table = draw(DISTORTIONS["none"], torch.tensor([2]), seed=0, epoch=0)
    table[0, 2], table[0, 5] = -3.0, 40.0
    assert float(renderer(images, torch.tensor([2]), table).max()) == 0
    table[0, 5] = 2.0
    found = renderer(images, torch.tensor([2]), table)[0, 0]
    torch.testing.assert_close(found[3:, :-2], to_input(images)[2, 0, :-3, 2:], rtol=0, atol=1e-5)
    assert float(found[:3].max()) == 0


def test_images_that_are_not_there_are_refused(images: Tensor, shared_kernels: None) -> None:
    if not any(map(shutil.which, ("g++", "clang++", "c++"))):
        pytest.skip("no C++ compiler here")
    native = load_renderer()
    for index in (-1, 10):
        indices = torch.tensor([index])
        with pytest.raises(IndexError, match=r"0\.\.9"):
            native(images, indices, draw(Distortion(), indices, seed=0, epoch=0))
    with pytest.raises(ValueError, match="uint8"):
        native(images.float(), torch.tensor([0]), torch.zeros(1, NUM_VALUES))


def test_what_is_drawn_depends_on_seed_epoch_and_image_alone() -> None:
    elastic = DISTORTIONS["elastic"]
    indices = torch.tensor([5, 59_999, 0])
    table = draw(elastic, indices, seed=3, epoch=7)
    assert torch.equal(draw(elastic, indices[1:2], seed=3, epoch=7), table[1:2])
    assert not torch.equal(draw(elastic, indices, seed=3, epoch=8), table)
    assert not torch.equal(draw(elastic, indices, seed=4, epoch=7), table)
    # The same on every machine and in every later version.
    assert table[1, :3].tolist() == pytest.approx([1.1077, -0.0125, -0.0887], abs=1e-4)


def test_draws_are_uniform_and_not_correlated() -> None:
    distortion = Distortion(translation=1.0, elastic=1.0)
    table = draw(distortion, torch.arange(20_000), seed=0, epoch=0).numpy()
    shifts = np.stack([table[:, 2], table[:, 5], table[:, 6] / table[:, 6].max()])
    assert np.abs(shifts.mean(1)).max() < 0.02
    assert np.abs(shifts.std(1) - 3**-0.5).max() < 0.01
    assert np.abs(np.corrcoef(shifts) - np.eye(3)).max() < 0.03


def test_ranges_are_kept() -> None:
    distortion = Distortion(scaling=0.2, squeezing=0.1, shear=0.3, rotation=15)
    table = draw(distortion, torch.arange(5000), seed=0, epoch=0)[:, :6].double().view(-1, 2, 3)
    forward = torch.linalg.inv(table[:, :, :2])
    # The middle stays where it is.
    middle = table[:, :, :2].sum(2) * CENTRE + table[:, :, 2]
    torch.testing.assert_close(middle, torch.full_like(middle, CENTRE), rtol=0, atol=1e-4)
    areas = forward.det().log() / 2
    assert 0.19 < areas.max() < 0.2001
    assert -0.2001 < areas.min() < -0.19
    # Shear keeps rows horizontal, so the x axis shows the rotation.
    angles = torch.rad2deg(torch.atan2(forward[:, 0, 1], forward[:, 1, 1]))
    assert 14.5 < angles.abs().max() < 15.001


def test_the_elastic_field_is_as_strong_as_asked_and_the_spline_sums_to_one() -> None:
    basis = torch.from_numpy(spline_basis())
    torch.testing.assert_close(basis.sum(1), torch.ones(28))
    table = draw(Distortion(elastic=1.4), torch.arange(2000), seed=0, epoch=0)
    knots = table[:, ELASTIC].reshape(-1, 2, NUM_KNOTS, NUM_KNOTS)
    field = basis @ knots @ basis.T
    assert float(field.square().mean().sqrt()) == pytest.approx(1.4, rel=0.02)


def test_a_scaled_distortion_draws_the_same_that_much_weaker() -> None:
    full, half = DISTORTIONS["elastic"], DISTORTIONS["elastic"].scaled(0.5)
    tables = [draw(d, torch.arange(50), seed=0, epoch=0)[:, ELASTIC] for d in (full, half)]
    torch.testing.assert_close(tables[1], tables[0] / 2)
    assert half.rotation == full.rotation / 2


@pytest.mark.parametrize(("end", "factors"), [(1.0, [1, 1, 1]), (0.2, [1, 0.6, 0.2])])
def test_distortions_change_linearly_to_the_last_epoch(
    end: float, factors: list[float], images: Tensor
) -> None:
    recipe = replace(RECIPES["fast"], distortions="elastic", epochs=3, distortion_end=end)
    places = torch.arange(10)
    sampling = Sampling(recipe, 0, "torch", images, torch.arange(len(images)))
    for epoch, factor in enumerate(factors):
        sample = sampling.epoch(epoch)
        distortion = DISTORTIONS["elastic"].scaled(factor)
        expected = render(images, places, draw(distortion, places, seed=0, epoch=epoch))
        torch.testing.assert_close(sample(places)[0], expected)


@pytest.mark.parametrize("engine", ["native", "torch"])
def test_a_distorted_run_that_stops_ends_like_one_that_does_not(
    engine: str, tiny_mnist: None, tmp_path: Path
) -> None:
    if engine == "native" and not any(map(shutil.which, ("g++", "clang++", "c++"))):
        pytest.skip("no C++ compiler here")
    recipe = replace(RECIPES["fast"], distortions="elastic", epochs=3, batch_size=16)
    whole, stopped = (create_run(tmp_path / name, "fast", recipe, 0) for name in ("a", "b"))
    train(whole, engine=engine)
    with pytest.raises(KeyboardInterrupt):
        train(stopped, engine=engine, watcher=_StopAfterOne())
    assert open_run(stopped.path).num_epochs_done == 1
    train(open_run(stopped.path), engine=engine)
    model = "model.safetensors"
    assert (whole.path / model).read_bytes() == (stopped.path / model).read_bytes()


class _StopAfterOne(Watcher):
    def epoch(self, scores: EpochScores) -> None:
        raise KeyboardInterrupt
