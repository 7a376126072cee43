"""Recipes: YAML files that say how weights are trained."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic

from lipzoo._paths import find_config, packaged_folder
from lipzoo._schema import validate
from lipzoo._yaml import parse_yaml, read_yaml
from lipzoo.datasets.metric import METRICS
from lipzoo.errors import ConfigError
from lipzoo.settings import (
    SEED,
    Consistency,
    Count,
    EarlyStopping,
    FitSettings,
    Optimizer,
    Part,
    Rate,
    RecipeStart,
    Schedule,
    Start,
    parse_seeds,
    per_seed,
)

__all__ = [
    "Baseline",
    "Consistency",
    "Count",
    "EarlyStopping",
    "FitSettings",
    "Optimizer",
    "Rate",
    "Recipe",
    "Schedule",
    "Start",
    "load_recipe",
    "parse_seeds",
    "recipe_names",
]

#: Those that ship with lipzoo.
RECIPES: Path = packaged_folder("zoo_configs") / "recipes"


class Baseline(Part):
    """What the card compares with: the same recipe with some things changed, or an estimator.

    ``overrides`` are added to the recipe's; ``changes`` replaces whole fields of the recipe, such
    as ``{architecture: gat_lin_2, overrides: {}, epochs: 1000}``, but none that say what is
    learnt and how it is measured. ``estimator`` is one of scikit-learn's on the raw features,
    fitted on the training nodes.
    """

    overrides: dict[str, Any] = {}  # noqa: RUF012 - pydantic copies it
    changes: dict[str, Any] = {}  # noqa: RUF012 - pydantic copies it
    estimator: Literal["closed_form_stack", "knn", "logistic_regression"] | None = None
    args: dict[str, Any] = {}  # noqa: RUF012 - pydantic copies it


_SAME_FOR_BASELINES = {"dataset", "tag", "metric", "seeds", "description", "baselines"}


class Recipe(FitSettings):
    """A recipe file.

    ``architecture`` and ``overrides`` give the model, ``dataset`` the arguments of
    ``load_dataset``, ``tag`` the trained variant (by default the name of the dataset), ``metric``
    what decides on validation and is reported (by default the dataset's; see
    :mod:`lipzoo.datasets.metric`).
    Where ``dataset`` says ``split_index: seed``, seed k takes split k of those that come with the
    data; ``split_seed: seed`` and ``missing_seed: seed`` are meant likewise.
    ``start`` gives the network evidence from the training labels beside the features, and lets it
    learn a correction to what that says (:class:`~lipzoo.settings.Start`); with ``seed: seed`` in
    it, evidence is drawn for each seed.
    ``num_threads`` is set for the time of the training: sums over threads round differently, so
    a recipe that fixes it replays exactly.
    """

    description: str = ""
    architecture: str
    overrides: dict[str, Any] = {}  # noqa: RUF012 - pydantic copies it
    dataset: dict[str, Any]
    metric: Literal[METRICS] | None = None
    tag: str = ""
    seeds: Annotated[list[int] | str, pydantic.Field(validate_default=True)] = "0..4"
    num_threads: Count | None = 1
    start: RecipeStart | None = None
    baselines: dict[str, Baseline] = {}  # noqa: RUF012 - pydantic copies it

    @pydantic.field_validator("dataset")
    @classmethod
    def _dataset_has_name(cls, value: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(value.get("name"), str):
            raise ValueError("needs a key 'name', such as {name: cora}")
        if "metric" in value:
            raise ValueError("must not hold metric; say it beside dataset, at the top level")
        if "raw_dir" in value or "name_or_path" in value:
            raise ValueError("must not hold raw_dir or name_or_path; pass --raw-dir DIR instead")
        if "require_labels" in value:
            raise ValueError("must not hold require_labels: a training needs them; leave it out")
        return value

    @pydantic.field_validator("seeds")
    @classmethod
    def _seeds_parse(cls, value: list[int] | str) -> list[int]:
        return parse_seeds(value)

    @pydantic.field_validator("tag")
    @classmethod
    def _tag_is_a_name(cls, value: str) -> str:
        if value and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", value):
            raise ValueError("may hold letters, digits, '_' and '-' only")
        return value

    def variant(self, baseline: Baseline, where: str = "changes") -> Recipe:
        """The recipe that a baseline which is no estimator is trained with.

        Raises
        ------
        ConfigError
            If its changes make no recipe, or one that learns something else.
        """
        wrong = sorted(_SAME_FOR_BASELINES & set(baseline.changes))
        if wrong:
            raise ConfigError(
                f"{where}: must not hold {', '.join(wrong)}: a baseline learns the same and is "
                "measured on the same"
            )
        content = {**self.to_dict(), "baselines": {}, **baseline.changes}
        made = make_recipe(content, where)
        return made.model_copy(update={"overrides": {**made.overrides, **baseline.overrides}})

    @property
    def full_name(self) -> str:
        """``gat_lip_16.cora``."""
        return f"{self.architecture}.{self.tag or Path(self.dataset['name']).stem}"

    def data_options(self, seed: int | None = None) -> dict[str, Any]:
        """The options of ``load_dataset``, for a seed.

        Raises
        ------
        ConfigError
            If they are another for each seed, and none is said.
        """
        options = {key: value for key, value in self.dataset.items() if key != "name"}
        names = per_seed(options)
        if names and seed is None:
            raise ConfigError(
                f"{self.full_name}: dataset: {', '.join(names)} is another for each seed, so that "
                "there is no one task; say a number, such as --set dataset.split_index=0"
            )
        return {**options, **dict.fromkeys(names, seed)}

    def start_of(self, seed: int | None = None) -> Start | None:
        """What the network of a seed begins from; None where there is no start.

        Raises
        ------
        ConfigError
            If it is another for each seed, and none is said.
        """
        if self.start is None:
            return None
        if self.start.seed == SEED and seed is None:
            raise ConfigError(
                f"{self.full_name}: start: is another for each seed; say a number, such as "
                "--set start.seed=0"
            )
        return self.start.of_seed(seed)

    def settings(self) -> FitSettings:
        """The part that the training loop reads."""
        return FitSettings(**{name: getattr(self, name) for name in FitSettings.model_fields})

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for YAML; what stands at its default is left out."""
        return self.model_dump(mode="json", exclude_defaults=True)


def recipe_names() -> list[str]:
    """The names of the recipes that ship with lipzoo, sorted."""
    return sorted(file.stem for file in RECIPES.glob("*.yaml"))


def load_recipe(path: str | os.PathLike, changes: list[str] | None = None) -> Recipe:
    """Read a recipe.

    Parameters
    ----------
    path : path or str
        A recipe file, a card (whose recipe is taken), or the name of a recipe that ships with
        lipzoo, such as ``gat_lip_16.cora``.
    changes : list of str, optional
        ``key=value`` with dots for nested keys and the value in YAML, such as
        ``optimizer.lr=0.01``.

    Raises
    ------
    ConfigError
        If the file or a change is wrong; all faults are named.
    UnknownNameError
        If no recipe of that name ships with lipzoo.
    """
    return make_recipe(*read_settings(path, RECIPES, "recipe", changes or (), part="recipe"))


def make_recipe(content: dict[str, Any], where: str) -> Recipe:
    """A recipe from a mapping.

    Raises
    ------
    ConfigError
        Which names all faults.
    """
    recipe = validate(Recipe, content, where)
    for name, baseline in recipe.baselines.items():
        if baseline.estimator is None:
            recipe.variant(baseline, f"{where}: baselines: {name}: changes")
        elif baseline.changes or baseline.overrides:
            raise ConfigError(f"{where}: baselines: {name}: an estimator takes args, nothing else")
    return recipe


def read_settings(
    path: str | os.PathLike, folder: Path, what: str, changes: Sequence[str] = (), part: str = ""
) -> tuple[dict[str, Any], str]:
    """The content of a file (or of one in ``folder``, by its name), and where it stands.

    ``changes`` are ``key=value`` pairs. Where the file has a mapping ``part``, as a card has one
    of its recipe, that is taken.
    """
    file = find_config(path, folder, what)
    content = read_yaml(file)
    if isinstance(content.get(part), dict):
        content = content[part]
    apply_changes(content, changes)
    return content, str(file)


def apply_changes(
    content: dict[str, Any], changes: Iterable[str], option: str = "--set"
) -> dict[str, Any]:
    """The mapping, with each ``key=value`` in it: dots for nested keys, the value in YAML.

    Raises
    ------
    ConfigError
        If one is no such pair; ``option`` is what gave it.
    """
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals or not key:
            raise ConfigError(f"{option} {change}: must look like key=value")
        try:
            value = parse_yaml(text)
        except ConfigError as fault:
            raise ConfigError(f"{option} {change}: the value is no valid YAML ({fault})") from None
        set_field(content, key, value, where=f"{option} {change}")
    return content


def set_field(content: dict[str, Any], key: str, value: Any, where: str) -> None:
    """Set what ``key`` names, with dots for nested keys, in the mapping of a recipe.

    Raises
    ------
    ConfigError
        If it goes through a key that holds a value.
    """
    *parents, last = key.split(".")
    node = content
    for parent in parents:
        node = node.setdefault(parent, {})
        if not isinstance(node, dict):
            raise ConfigError(f"{where}: {parent!r} holds a value, not keys")
    node[last] = value
