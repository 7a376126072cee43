"""Recipes: YAML files that say how weights are trained."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic

from lipzoo._paths import find_config, packaged_folder
from lipzoo._schema import validate
from lipzoo._yaml import parse_yaml, read_yaml
from lipzoo.errors import ConfigError

__all__ = [
    "Baseline",
    "Consistency",
    "EarlyStopping",
    "FitSettings",
    "Optimizer",
    "Recipe",
    "Schedule",
    "load_recipe",
    "parse_seeds",
]

Rate = Annotated[float, pydantic.Field(ge=0)]
Count = Annotated[int, pydantic.Field(ge=1, lt=2**31)]

MAX_SEEDS = 10_000


class _Part(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False
    )


class Optimizer(_Part):
    """Adam or AdamW.

    ``attention_weight_decay`` is for the attention layers (and their feature norms);
    ``weight_decay`` for the input layer and the head, and for all where the former is absent.
    """

    name: Literal["adam", "adamw"] = "adam"
    lr: Annotated[float, pydantic.Field(gt=0)] = 0.005
    weight_decay: Rate = 5e-4
    attention_weight_decay: Rate | None = None


class Schedule(_Part):
    """How the learning rate changes over the epochs.

    ``plateau`` multiplies it by ``factor`` after ``patience`` epochs without a better validation
    loss; ``cosine`` lets it go to 0 over all epochs; ``warmup`` epochs rise linearly in each.
    """

    name: Literal["constant", "plateau", "cosine"] = "constant"
    factor: Annotated[float, pydantic.Field(gt=0, lt=1)] = 0.5
    patience: Count = 50
    warmup: Annotated[int, pydantic.Field(ge=0)] = 0


class EarlyStopping(_Part):
    """Stop after ``patience`` epochs without a better validation result.

    The best epoch, whose weights are kept, is the one with the highest validation metric, ties
    broken by the lower loss (``monitor: metric``), or with the lowest loss (``monitor: loss``).
    """

    monitor: Literal["metric", "loss"] = "metric"
    patience: Count = 100


class Consistency(_Part):
    """Consistency training; see :func:`~lipzoo.training.consistency.consistency_loss`.

    Each epoch runs the model ``passes`` times, each time with other dropout masks, and all nodes,
    labelled or not, are drawn to the mean of these predictions, sharpened by ``temperature``.
    """

    passes: Annotated[int, pydantic.Field(ge=2)] = 2
    weight: Annotated[float, pydantic.Field(gt=0)] = 1.0
    temperature: Annotated[float, pydantic.Field(gt=0, le=1)] = 0.5
    warmup: Annotated[int, pydantic.Field(ge=0)] = 50


class FitSettings(_Part):
    """What the training loop needs to know, for training and fine-tuning alike.

    With ``ema_decay`` d, what is validated, chosen and exported are the averaged weights
    ``m <- d m + (1 - d) w`` after each epoch (an exponential moving average, from the first epoch's
    weights on), in place of the weights w themselves.
    """

    epochs: Count = 500
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    early_stopping: EarlyStopping = EarlyStopping()
    eval_every: Count = 1
    label_smoothing: Annotated[float, pydantic.Field(ge=0, lt=1)] = 0.0
    grad_clip: Annotated[float, pydantic.Field(gt=0)] | None = None
    consistency: Consistency | None = None
    ema_decay: Annotated[float, pydantic.Field(gt=0, lt=1)] | None = None


class Baseline(_Part):
    """What the card compares with: the same recipe with other arguments, or an estimator.

    ``estimator`` is one of scikit-learn's on the raw features, fitted on the training nodes.
    """

    overrides: dict[str, Any] = {}
    estimator: Literal["knn", "logistic_regression"] | None = None
    args: dict[str, Any] = {}


class Recipe(FitSettings):
    """A recipe file.

    ``architecture`` and ``overrides`` give the model, ``dataset`` the arguments of
    ``load_dataset``, ``tag`` the trained variant (by default the name of the dataset).
    ``num_threads`` is set for the time of the training: sums over threads round differently, so
    a recipe that fixes it replays exactly.
    """

    description: str = ""
    architecture: str
    overrides: dict[str, Any] = {}
    dataset: dict[str, Any]
    tag: str = ""
    seeds: list[int] | str = "0..4"
    num_threads: Count | None = 1
    baselines: dict[str, Baseline] = {}

    @pydantic.field_validator("dataset")
    @classmethod
    def _dataset_has_name(cls, value: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(value.get("name"), str):
            raise ValueError("needs a key 'name', such as {name: cora}")
        if "raw_dir" in value or "name_or_path" in value:
            raise ValueError("must not hold raw_dir or name_or_path; pass --raw-dir DIR instead")
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

    @property
    def full_name(self) -> str:
        """``gat_lip_16.cora``."""
        return f"{self.architecture}.{self.tag or Path(self.dataset['name']).stem}"

    def settings(self) -> FitSettings:
        """The part that the training loop reads."""
        return FitSettings(**{name: getattr(self, name) for name in FitSettings.model_fields})

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for YAML; what stands at its default is left out."""
        return self.model_dump(mode="json", exclude_defaults=True)


def parse_seeds(seeds: list[int] | str) -> list[int]:
    """``"0..9"``, ``"0,3,5"`` or a list of seeds, none twice, none negative.

    Raises
    ------
    ValueError
        If it is none of these.
    """
    if isinstance(seeds, str):
        span = re.fullmatch(r"(\d+)\.\.(\d+)", seeds)
        if span:
            first, last = int(span[1]), int(span[2])
            seeds = list(range(first, min(last, first + MAX_SEEDS) + 1))
        elif re.fullmatch(r"\d+(,\d+)*", seeds):
            seeds = [int(seed) for seed in seeds.split(",")]
        else:
            raise ValueError(f"seeds must look like 0..9 or 0,1,2, got {seeds!r}")
    if len(seeds) > MAX_SEEDS:
        raise ValueError(f"at most {MAX_SEEDS} seeds are trained at once; name fewer")
    if not seeds or len(set(seeds)) < len(seeds) or not 0 <= min(seeds) <= max(seeds) < 2**32:
        raise ValueError(f"seeds must be distinct numbers from 0 to {2**32 - 1}, got {seeds}")
    return seeds


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
    file = find_config(path, packaged_folder("zoo_configs") / "recipes", "recipe")
    content = read_yaml(file)
    if isinstance(content.get("recipe"), dict):
        content = content["recipe"]
    for change in changes or []:
        apply_change(content, change)
    return make_recipe(content, where=str(file))


def make_recipe(content: dict[str, Any], where: str) -> Recipe:
    """A recipe from a mapping.

    Raises
    ------
    ConfigError
        Which names all faults.
    """
    return validate(Recipe, content, where)


def apply_change(content: dict[str, Any], change: str) -> None:
    key, equals, text = change.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {change}: must look like key=value, such as optimizer.lr=0.01")
    try:
        value = parse_yaml(text)
    except Exception:
        raise ConfigError(f"--set {change}: the value is no valid YAML") from None
    *parents, last = key.split(".")
    node = content
    for parent in parents:
        node = node.setdefault(parent, {})
        if not isinstance(node, dict):
            raise ConfigError(f"--set {change}: {parent!r} holds a value, not keys")
    node[last] = value
