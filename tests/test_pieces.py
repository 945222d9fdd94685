import numpy as np
import torch
from PIL import Image, ImageDraw

from lenet.data.digits import Digits
from lenet.models import LeNet5
from lenet.training.segments import add_segments, fold_garbage


def digits() -> Digits:
    """Sevens and ones of straight strokes."""
    images = []
    for label in (7, 1) * 10:
        image = Image.new("L", (28, 28))
        pen = ImageDraw.Draw(image)
        pen.line([(16, 5), (12, 23)], fill=255, width=3)
        if label == 7:
            pen.line([(7, 5), (17, 5)], fill=255, width=3)
        images.append(np.asarray(image))
    return Digits(
        images=torch.from_numpy(np.stack(images)),
        labels=torch.tensor([7, 1] * 10),
        name="x",
        split="train",
        classes=tuple("0123456789"),
    )


def test_pieces_and_windows_are_added_with_rubbish_and_are_the_same_each_time() -> None:
    base = digits()
    added = add_segments(base, 40, 60)
    assert len(added) == len(base) + 100
    assert added.classes[-1] == "garbage"
    assert torch.equal(added.images[: len(base)], base.images)
    assert set(added.labels[len(base) :].tolist()) == {1, 7, 10}
    assert torch.equal(add_segments(base, 40, 60).images, added.images)


def test_folding_the_rubbish_away_changes_no_probability() -> None:
    torch.manual_seed(0)
    model = LeNet5(11, activation="relu", pooling="max", background=-0.4, ink=2.8)
    folded = fold_garbage(model)
    assert sum(p.numel() for p in folded.parameters()) == 61_706
    x = torch.rand(5, 1, 28, 28)
    with torch.no_grad():
        expected = model(x).softmax(1)
        logits = torch.cat([folded(x), torch.zeros(5, 1)], dim=1)
    torch.testing.assert_close(logits.softmax(1), expected)
