"""Sweeps: YAML files that say which models are trained, how deep, and with which seeds.

::

    kind: depth                      # depth, missing, gradients or untuned
    depths: [2, 10, 30]
    seeds: 0..4
    missing_rates: [0, 1]            # shares of all non-training nodes without features
    recipe: {dataset: {name: cora}, epochs: 400, overrides: {hidden_feats: 64}}
    by_depth: {30: {epochs: 800}}    # laid over `recipe`
    models:                          # laid over both
      GAT: {architecture: gat_2}
      GAT+LipschitzNorm: {architecture: gat_lip_2}
    reference: {source: …, test: {GAT: {0: {2: 82.3}}}}   # model, missing rate, depth: %
    space: {optimizer.lr: {low: 1e-4, high: 0.1, log: true}}  # untuned: seed k trains with draw k
    levels: [0.5, 0.7]               # untuned: metrics that count as trained
    thirds: [optimizer.lr]           # untuned: tell the recipes apart by thirds of these fields
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic

from lab.settings import STRICT, Seeds, digest
from lipzoo._schema import validate
from lipzoo.errors import ConfigError, UnknownNameError, did_you_mean
from lipzoo.registry import get_architecture
from lipzoo.training.recipe import Count, Recipe, make_recipe, read_settings
from lipzoo.training.search_space import draw, make_space, with_values

__all__ = ["Point", "Reference", "Sweep", "list_sweeps", "load_sweep", "make_sweep"]

#: The sweeps of the docs.
CONFIGS = Path(__file__).with_name("configs")

Share = Annotated[float, pydantic.Field(ge=0, le=1)]
Percent = Annotated[float, pydantic.Field(ge=0, le=100)]


class Reference(pydantic.BaseModel, **STRICT):
    """Published figures: test metric in % by model, missing rate and depth.

    ``test`` may hold models that the sweep does not train. ``notes`` stand below the table.
    """

    source: str = ""
    test: dict[str, dict[Share, dict[Count, Percent]]] = {}
    notes: list[str] = []


class Sweep(pydantic.BaseModel, **STRICT):
    """A sweep file: models x missing rates x depths x seeds.

    ``recipe`` holds the fields of a recipe that all runs share, ``by_depth`` and ``models`` what
    a depth and a model lay over it, in this order; mappings such as ``optimizer`` are joined key
    by key. The depth sets the override ``num_layers``. ``record_epochs`` is for gradients: how
    many epochs were trained when their norms are taken. ``space`` (a search space, see
    :mod:`lipzoo.training.search_space`) is for recipes that nobody tuned: each seed has a draw of
    its own, the same for all models and depths, laid over all else. ``thirds`` names fields of the
    space that are intervals.
    """

    description: str = ""
    kind: Literal["depth", "missing", "gradients", "untuned"]
    depths: Annotated[list[Count], pydantic.Field(min_length=1)]
    seeds: Seeds = "0..4"
    missing_rates: Annotated[list[Share], pydantic.Field(min_length=1)] = [0.0]
    recipe: dict[str, Any]
    by_depth: dict[int, dict[str, Any]] = {}
    models: Annotated[dict[str, dict[str, Any]], pydantic.Field(min_length=1)]
    record_epochs: list[Annotated[int, pydantic.Field(ge=0)]] = []
    reference: Reference = Reference()
    space: dict[str, Any] = {}
    levels: list[Share] = []
    thirds: list[str] = []

    @pydantic.field_validator("depths", "missing_rates", "record_epochs")
    @classmethod
    def _none_twice(cls, value: list) -> list:
        if len(set(value)) < len(value):
            raise ValueError("holds a value twice")
        return value

    @pydantic.field_validator("by_depth", mode="before")
    @classmethod
    def _depths_are_numbers(cls, value: Any) -> Any:
        # `--set by_depth.30.epochs=9` names its key as text, beside the number in the file.
        if not isinstance(value, dict):
            return value
        joined: dict[Any, Any] = {}
        for key, fields in value.items():
            key = int(key) if isinstance(key, str) and key.isdigit() else key
            joined[key] = _laid_over(joined[key], fields) if key in joined else fields
        return joined

    @pydantic.model_validator(mode="after")
    def _fits_together(self) -> Sweep:
        strange = sorted(set(self.by_depth) - set(self.depths))
        if strange:
            raise ValueError(f"by_depth: {strange} are none of the depths {self.depths}")
        if (self.kind == "gradients") != bool(self.record_epochs):
            raise ValueError("record_epochs: is for gradients, which need it; such as [0, 10, 100]")
        if (self.kind == "untuned") != bool(self.space):
            raise ValueError("space: is for untuned, which needs it")
        for name in self.thirds:
            if not isinstance(self.space.get(name), dict):
                raise ValueError(f"thirds: {name!r} is no interval of the space")
        if self.thirds and not self.levels:
            raise ValueError("thirds: needs levels, of which the middle one is counted")
        return self

    @property
    def dataset(self) -> str:
        """Name of the dataset."""
        return Path(self.recipe["dataset"]["name"]).stem

    def points(
        self,
        models: list[str] | None = None,
        depths: list[int] | None = None,
        seeds: list[int] | None = None,
    ) -> list[Point]:
        """All runs in the order of work: seed after seed, so that a part of it covers all depths.

        ``models`` and ``depths`` are some of the sweep's; ``seeds`` stand instead of the sweep's.

        Raises
        ------
        ConfigError
            If a model or depth is not the sweep's, or a recipe is wrong; all faults are named.
        """
        for name in models or []:
            if name not in self.models:
                raise ConfigError(
                    f"no model {name!r} in the sweep{did_you_mean(name, self.models)}"
                )
        for depth in depths or []:
            if depth not in self.depths:
                raise ConfigError(
                    f"no depth {depth} in the sweep (choices: {', '.join(map(str, self.depths))}); "
                    "--set 'depths=[…]' changes them"
                )
        chosen = [
            (model, depth, float(rate))
            for depth in depths or self.depths
            for rate in self.missing_rates
            for model in models or self.models
        ]
        seeds = self.seeds if seeds is None else seeds
        recipes, faults = {}, []
        for seed in seeds if self.space else seeds[:1]:  # else all seeds have one recipe
            for model, depth, rate in chosen:
                try:
                    recipe = self.recipe_of(model, depth, rate, seed)
                    recipes[model, depth, rate, seed] = recipe, recipe_hash(recipe)
                except ConfigError as fault:
                    faults.append(str(fault))
        if faults:
            raise ConfigError("; ".join(faults))
        return [
            Point(*key, seed, *recipes[(*key, seed if self.space else seeds[0])])
            for seed in seeds
            for key in chosen
        ]

    def third_of(self, name: str, seed: int) -> tuple[float, float]:
        """The third of an interval of the space, on its own scale, that a seed's draw lies in."""
        space = make_space({name: self.space[name]}, "space")
        value = draw(space, seed)[name]
        return next(pair for pair in pairwise(space[name].thirds()) if value <= pair[1])

    def recipe_of(self, model: str, depth: int, missing_rate: float, seed: int = 0) -> Recipe:
        """The recipe of a model at a depth, for a seed."""
        content = _laid_over(self.recipe, self.by_depth.get(depth, {}))
        content = _laid_over(content, self.models[model])
        content = _laid_over(content, {"overrides": {"num_layers": depth}, "num_threads": 1})
        if missing_rate:
            content = _laid_over(content, {"dataset": {"missing_rate": missing_rate}})
        where = f"{model} at depth {depth}"
        recipe = make_recipe(content, where)
        if self.space:
            recipe = with_values(recipe, draw(make_space(self.space, "space"), seed), where)
        return recipe


#: The columns that a point is known by in the tables of a sweep.
POINT_KEY = ("model", "depth", "missing_rate", "seed", "recipe_hash")


@dataclass(frozen=True)
class Point:
    """One run of a sweep."""

    model: str
    depth: int
    missing_rate: float
    seed: int
    recipe: Recipe
    recipe_hash: str

    @property
    def key(self) -> tuple[str, ...]:
        """What it has in the columns ``POINT_KEY``, as text."""
        point = (self.model, str(self.depth), f"{self.missing_rate:g}", str(self.seed))
        return (*point, self.recipe_hash)

    def __str__(self) -> str:
        rate = f", {self.missing_rate:.0%} missing" if self.missing_rate else ""
        return f"{self.model}, {self.depth} layers{rate}, seed {self.seed}"


def recipe_hash(recipe: Recipe) -> str:
    """Ten hexadecimal digits of what decides a result, seed and versions apart.

    The architecture counts with its arguments, not its name: a changed YAML is another setting.
    """
    content = recipe.to_dict()
    for name in ("description", "architecture", "tag", "seeds", "baselines"):
        content.pop(name, None)
    architecture = get_architecture(recipe.architecture)
    content["model"] = architecture.model
    content["overrides"] = {**architecture.args, **recipe.overrides}
    return digest(content)


def list_sweeps(kind: str) -> list[str]:
    """The datasets for which ``configs/`` holds a sweep of this kind."""
    return sorted(path.stem.removeprefix(f"{kind}_") for path in CONFIGS.glob(f"{kind}_*.yaml"))


def load_sweep(
    kind: str, data: str | os.PathLike, changes: list[str] | None = None
) -> tuple[Sweep, dict[str, Any]]:
    """Read a sweep of a kind: by the dataset of one in ``configs/``, or by the path of a file.

    Returns the sweep and the content that :func:`make_sweep` makes it of again; ``changes`` are
    ``key=value`` pairs, such as ``recipe.epochs=100``.

    Raises
    ------
    UnknownNameError
        If no sweep for that dataset is there.
    ConfigError
        If the file or a change is wrong; all faults are named.
    """
    is_path = Path(data).is_file() or Path(data).suffix in (".yaml", ".yml")
    if not is_path and str(data) not in list_sweeps(kind):
        hint = did_you_mean(data, list_sweeps(kind))
        raise UnknownNameError(
            f"no sweep {kind!r} for {str(data)!r}{hint}; one of your own is given by its path"
        )
    name = data if is_path else f"{kind}_{data}"
    content, file = read_settings(name, CONFIGS, "sweep", changes or ())
    sweep = make_sweep(content, file)
    if sweep.kind != kind:
        raise ConfigError(f"{file}: is a sweep of kind {sweep.kind!r}, not {kind!r}")
    return sweep, content


def make_sweep(content: dict[str, Any], where: str) -> Sweep:
    """A sweep from a mapping.

    Raises
    ------
    ConfigError
        Which names all faults, those of the recipes too.
    """
    sweep = validate(Sweep, content, where)
    try:
        sweep.points(seeds=[0])
    except ConfigError as fault:
        raise ConfigError(f"{where}: {fault}") from None
    return sweep


def _laid_over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """``below`` with the fields of ``above``; mappings in both are joined."""
    joined = {**below, **above}
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(below.get(key), dict):
            joined[key] = {**below[key], **value}
    return joined
