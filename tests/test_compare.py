import json
import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lenet.cli import main as cli
from lenet.errors import RunError
from lenet.results.compare import compare, mcnemar
from lenet.results.statistics import summarize_runs
from lenet.schema import PREDICTIONS_FILE, STUDY_FILE, RunFigures, StudyRecord, write
from lenet.training.finish import environment
from lenet.training.recipe import RECIPES


def write_study(path: Path, name: str, accuracies: list[float], seeds: list[int]) -> Path:
    runs = tuple(
        RunFigures(seed=s, test_accuracy=a) for s, a in zip(seeds, accuracies, strict=True)
    )
    path.mkdir(parents=True, exist_ok=True)
    write(
        path / STUDY_FILE,
        StudyRecord(
            recipe_name=name,
            recipe=asdict(RECIPES["default"]),
            seeds=tuple(seeds),
            summary=summarize_runs(runs),
            runs=runs,
            environment=environment(),
            command="",
        ),
    )
    return path


def write_predictions(study: Path, seed: int, right: list[bool]) -> None:
    folder = study / f"seed-{seed}"
    folder.mkdir()
    labels = torch.zeros(len(right), dtype=torch.int64)
    logits = torch.tensor([[1.0, 0.0] if r else [0.0, 1.0] for r in right])
    save_file({"logits": logits, "labels": labels}, folder / PREDICTIONS_FILE)


@pytest.mark.parametrize(("b", "c"), [(0, 0), (1, 0), (2, 10), (10, 2), (7, 7), (30, 55)])
def test_mcnemar_equals_the_binomial_sum(b: int, c: int) -> None:
    n = b + c
    expected = min(1.0, 2 * sum(math.comb(n, k) for k in range(min(b, c) + 1)) / 2**n)
    assert mcnemar(b, c) == pytest.approx(expected)
    assert mcnemar(5000, 5400) < 1e-4


def test_studies_are_paired_over_the_seeds_they_share(tmp_path: Path) -> None:
    a = write_study(tmp_path / "a", "default", [0.990, 0.991, 0.992, 0.5], [0, 1, 2, 9])
    b = write_study(tmp_path / "b", "fast", [0.994, 0.992, 0.993], [2, 0, 1])
    found = compare(a, b)
    differences = [0.002, 0.002, 0.002]
    assert [p.b_accuracy - p.a_accuracy for p in found.pairs] == pytest.approx(differences)
    assert (found.difference, found.low, found.high) == pytest.approx((0.002, 0.002, 0.002))
    assert found.sentence.startswith("fast is better than default by 0.20 points")
    assert "paired over 3 seeds" in found.sentence
    assert compare(b, a).sentence.startswith("fast is better than default by 0.20 points")
    assert compare(a / STUDY_FILE, b / STUDY_FILE).pairs == found.pairs


def test_one_pair_is_judged_by_its_images(tmp_path: Path) -> None:
    a = write_study(tmp_path / "a", "default", [0.6], [0])
    b = write_study(tmp_path / "b", "fast", [0.9], [5])
    # 10 of 100 images only A reads right, 40 only B.
    write_predictions(a, 0, [True] * 60 + [False] * 40)
    write_predictions(b, 5, [True] * 50 + [False] * 10 + [True] * 40)
    found = compare(a, b)
    (pair,) = found.pairs
    assert (pair.only_a_right, pair.only_b_right, pair.num_images) == (10, 40, 100)
    assert pair.p_value == pytest.approx(mcnemar(10, 40))
    half = 1.96 * math.sqrt(50 - 900 / 100) / 100
    assert (found.low, found.high) == pytest.approx((0.3 - half, 0.3 + half))
    assert "b (fast) reads more test images than the run" in found.sentence
    assert "by 30.00 points" in found.sentence
    # A run is not its recipe.
    assert "Of their recipes this says nothing" in found.sentence


def test_no_difference_is_shown_for_equals_about_19_times_of_20(tmp_path: Path) -> None:
    """Two studies of the same recipe under different seeds, many times over."""
    rng = np.random.default_rng(0)
    shown, trials = 0, 200
    for _ in range(trials):
        first, second = (0.9906 + 0.0008 * rng.standard_normal((2, 8))).tolist()
        a = write_study(tmp_path / "a", "default", first, list(range(8)))
        b = write_study(tmp_path / "b", "default", second, list(range(8)))
        shown += not compare(a, b).sentence.startswith("No difference shown")
    # Binomial with 200 trials of 0.05: 10 expected; outside 3 to 20 once in a few hundred.
    assert 3 <= shown <= 20


def test_what_cannot_be_compared_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = write_study(tmp_path / "a", "default", [0.99, 0.98], [0, 1])
    b = write_study(tmp_path / "b", "fast", [0.99, 0.98], [2, 3])
    with pytest.raises(RunError, match=r"seeds \[0, 1\].*none in common"):
        compare(a, b)
    one = write_study(tmp_path / "c", "fast", [0.99], [0])
    with pytest.raises(RunError, match="nothing to pair"):
        compare(one, one)
    with pytest.raises(RunError, match=r"study\.json"):
        compare(tmp_path, a)
    two = write_study(tmp_path / "d", "fast", [0.99], [0])
    write_predictions(one, 0, [True])
    write_predictions(two, 0, [True, True])
    with pytest.raises(RunError, match="different test images"):
        compare(one, two)
    (two / "seed-0" / PREDICTIONS_FILE).write_bytes(b"no tensors")
    assert cli.main(["compare", str(one), str(two)]) == 1
    assert "not the predictions of a run" in capsys.readouterr().err


def test_the_command_prints_a_sentence_or_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = write_study(tmp_path / "a", "default", [0.990, 0.991], [0, 1])
    b = write_study(tmp_path / "b", "default", [0.991, 0.990], [0, 1])
    assert cli.main(["compare", str(a), str(b)]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1].startswith(f"No difference shown between {a} and {b}")
    assert cli.main(["compare", str(a), str(b), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["difference"] == pytest.approx(0)
