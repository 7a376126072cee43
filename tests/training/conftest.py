import pytest

import lipzoo
from lipzoo.training.recipe import make_recipe


@pytest.fixture(scope="session")
def iris():
    return lipzoo.load_dataset("iris")


@pytest.fixture
def recipe():
    """A recipe that trains in a second: ``recipe(epochs=3)`` changes fields."""

    def make(**changes):
        content = {
            "architecture": "test_tiny",
            "overrides": {"feat_drop": 0.3, "attn_drop": 0.2},
            "dataset": {"name": "iris"},
            "epochs": 12,
            "seeds": [0, 1],
            "eval_every": 2,
        }
        return make_recipe({**content, **changes}, where="test")

    return make
