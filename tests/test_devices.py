"""The first step of every recipe on a GPU that is not there: devices and shapes are checked."""

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.func import functional_call

from lenet.data.digits import batches, to_input
from lenet.data.distortions import NUM_VALUES
from lenet.models import build_network
from lenet.training.optimization import LOSSES
from lenet.training.recipe import RECIPES
from lenet.training.sampling import Sampling

NUM_IMAGES = 70


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("name", RECIPES)
def test_the_first_step_of_a_recipe_mixes_no_devices(
    name: str, shuffle: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, gpu = RECIPES[name], torch.device("meta")
    model = build_network(recipe, 0)
    # These read values, on the CPU by way of numpy; tensors here have none.
    monkeypatch.setattr("lenet.training.sampling.find_anchors", lambda images, labels: None)
    monkeypatch.setattr(
        "lenet.training.sampling.draw",
        lambda distortion, places, **more: torch.zeros(len(places), NUM_VALUES),
    )
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:

        def on_gpu(tensor: Tensor) -> Tensor:
            return FakeTensor(mode, torch.empty_like(tensor, device="meta"), gpu)

        images = on_gpu(torch.zeros(NUM_IMAGES, 28, 28, dtype=torch.uint8))
        labels = on_gpu(torch.zeros(NUM_IMAGES, dtype=torch.int64))
        weights = {key: on_gpu(value) for key, value in model.state_dict().items()}
        sample = None
        if recipe.distortions != "none":
            sample = Sampling(recipe, 0, "torch", images, labels).epoch(0)
        drawn = batches(
            images, labels, batch_size=32, shuffle=shuffle, as_bytes=True, sample=sample
        )
        x, y = next(iter(drawn))
        assert x.device.type == y.device.type == "meta"
        x = to_input(x) if x.dtype == torch.uint8 else x
        logits = functional_call(model, weights, (x,))
        assert LOSSES[recipe.loss](recipe)(logits, y).device.type == "meta"
        assert logits.shape == (32, 10)
