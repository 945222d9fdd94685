from dataclasses import asdict, replace
from typing import get_args, get_type_hints

import pytest

from lenet.data.datasets import DATASETS
from lenet.errors import RecipeError
from lenet.models import MODELS
from lenet.models.lenet5 import ACTIVATIONS, POOLINGS, RESIZES
from lenet.models.lenet5_1998 import INITS
from lenet.training.optimization import LOSSES, OPTIMIZERS, SCHEDULES
from lenet.training.recipe import RECIPES, SUMMARIES, Recipe, from_dict


def test_report_is_the_notebook() -> None:
    report = RECIPES["report"]
    assert (report.lr, report.batch_size, report.epochs) == (0.001, 32, 15)
    assert (report.optimizer, report.weight_decay, report.schedule) == ("adam", 0.0, "constant")
    assert (report.activation, report.pooling, report.resize) == ("tanh", "average", "stretch")
    assert (report.background, report.ink, report.label_smoothing) == (0.0, 1.0, 0.0)
    assert report.test_as_validation


def test_default_never_looks_at_the_test_images_while_training() -> None:
    assert not RECIPES["default"].test_as_validation


@pytest.mark.parametrize(
    ("field", "names"),
    [
        ("dataset", DATASETS),
        ("model", MODELS),
        ("activation", (*ACTIVATIONS, "scaled_tanh")),
        ("pooling", (*POOLINGS, "trainable")),
        ("connections", ("dense", "table")),
        ("output", ("linear", "rbf")),
        ("init", ("torch", *INITS)),
        ("resize", RESIZES),
        ("loss", LOSSES),
        ("optimizer", OPTIMIZERS),
        ("schedule", SCHEDULES),
    ],
)
def test_names_a_recipe_may_use_are_those_that_exist(
    field: str, names: dict[str, object] | tuple[str, ...]
) -> None:
    assert get_args(get_type_hints(Recipe)[field]) == tuple(names)


def test_every_recipe_has_a_summary() -> None:
    assert SUMMARIES.keys() == RECIPES.keys()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr": 0.0}, r"`lr` \(=0.0\): Expected `float` > 0"),
        ({"lr": -1.0}, r"`lr` \(=-1.0\): Expected `float` > 0"),
        ({"lr": float("nan")}, r"`lr` \(=nan\)"),
        ({"lr": "fast"}, r"`lr` \(='fast'\): Expected `float`, got `str`"),
        ({"epochs": 0}, r"`epochs` \(=0\): Expected `int` >= 1"),
        ({"epochs": True}, r"`epochs` \(=True\): Expected `int`, got `bool`"),
        ({"batch_size": 0}, r"`batch_size` \(=0\)"),
        ({"warmup": 1.5}, r"`warmup` \(=1.5\): Expected `float` <= 1"),
        ({"activation": "gelu"}, r"`activation` \(='gelu'\): must be one of: tanh, relu"),
        ({"num_val": 5000, "test_as_validation": True}, "scored on one split"),
        ({"num_val": 60_000}, r"`num_val` \(=60000\)"),
        ({"num_train": 60_001}, r"`num_train` \(=60001\)"),
        ({"output": "rbf"}, r"`output` \(=rbf\) must be one of: linear when `model` is lenet5"),
        ({"model": "lenet5-1998"}, r"`activation` \(=tanh\) must be one of: scaled_tanh"),
        ({"loss": "map"}, r"`loss` \(=map\) is for `output` rbf"),
        ({"ema": 1.5}, r"`ema` \(=1.5\): Expected `float` <= 1"),
        ({"distortion_end": 0.5}, r"`distortion_end` \(=0.5\) has no effect when `distortions`"),
        ({"optimizer": "sdlm"}, r"`model` \(=lenet5\) must be lenet5-1998 when `optimizer`"),
    ],
)
def test_a_value_out_of_range_is_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        replace(RECIPES["default"], **changes)  # type: ignore[arg-type]  # that is the point


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 2}, r"`batch_size` \(=2\) must be 1"),
        ({"weight_decay": 0.1}, r"`weight_decay` \(=0.1\) must be 0"),
        ({"schedule": "linear"}, "rates are fixed within a pass"),
        ({"label_smoothing": 0.1}, "no `label_smoothing`"),
        ({"ema": 0.9}, r"`ema` \(=0.9\) must be 0.0 when `optimizer` is sdlm"),
        ({"pooling": "max"}, r"`pooling` \(=max\) must be one of: trainable, average"),
        ({"map_j": -1.0}, r"`map_j` \(=-1.0\)"),
        ({"map_j": 3.0}, r"`map_j` \(=3.0\) has no effect when `loss` is mse"),
        ({"optimizer": "adam", "curvature": "fresh"}, r"`curvature` \(=fresh\) has no effect"),
    ],
)
def test_what_the_papers_method_is_not_for_is_refused(
    changes: dict[str, object], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        replace(RECIPES["lecun1998"], **changes)  # type: ignore[arg-type]  # that is the point


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_a_recipe_survives_json(recipe: Recipe) -> None:
    assert from_dict(asdict(recipe), source="x") == recipe


@pytest.mark.parametrize("values", [[], None, {"epoch": 3}, {"lr": "x"}, {"lr": None}])
def test_json_that_is_no_recipe_is_refused_with_its_file(values: object) -> None:
    with pytest.raises(RecipeError, match=r"run/recipe\.json"):
        from_dict(values, source="run/recipe.json")
