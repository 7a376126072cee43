"""Search spaces: YAML files that say which fields of a recipe vary, and how."""

from __future__ import annotations

import copy
import json
import math
import os
import zlib
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
import pydantic

from lipzoo._paths import find_config, packaged_folder
from lipzoo._schema import validate
from lipzoo._yaml import read_yaml
from lipzoo.errors import ConfigError, LipzooError, shown
from lipzoo.settings import Part
from lipzoo.training.recipe import Recipe, make_recipe, set_field

__all__ = [
    "Choices",
    "Interval",
    "SearchSpace",
    "check_space",
    "draw",
    "load_space",
    "make_space",
    "own_values",
    "to_dict",
    "with_values",
]


#: Whole numbers that a float holds exactly.
_Bound = Annotated[int | float, pydantic.Field(ge=-(2**53), le=2**53)]


class Interval(Part):
    """Numbers from ``low`` to ``high``, both included: whole ones where both bounds are whole.

    ``log`` draws them evenly on a logarithmic scale; ``step`` goes from ``low`` in steps.
    """

    low: _Bound
    high: _Bound
    log: bool = False
    step: int | float | None = None

    @pydantic.model_validator(mode="after")
    def _is_an_interval(self) -> Interval:
        if not self.low < self.high:
            raise ValueError("low must be less than high")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("log needs low > 0 and goes without step")
        if self.step is not None and not 0 < self.step <= self.high - self.low:
            raise ValueError("step must be more than 0 and at most high - low")
        if self.is_whole and not isinstance(self.step or 1, int):
            raise ValueError("low and high are whole, so step must be; write 0.0 for 0")
        return self

    @property
    def is_whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    def suggest(self, trial: Any, key: str) -> int | float:
        if self.is_whole:
            return trial.suggest_int(key, self.low, self.high, log=self.log, step=self.step or 1)
        return self.read(
            trial.suggest_float(key, self.low, self.high, log=self.log, step=self.step)
        )

    def draw(self, rng: np.random.Generator) -> int | float:
        """One at random."""
        if self.step is not None or (self.is_whole and not self.log):
            step = self.step or 1
            steps = math.floor((self.high - self.low) / step + 1e-9)
            return self.read(self.low + step * int(rng.integers(steps + 1)))
        low, high = (self.low, self.high + 1) if self.is_whole else (self.low, self.high)
        if self.log:
            value = math.exp(rng.uniform(math.log(low), math.log(high)))
        else:
            value = rng.uniform(low, high)
        return min(math.floor(value), self.high) if self.is_whole else min(value, self.high)

    def read(self, kept: int | float) -> int | float:
        """The value of what Optuna keeps of it: 0.3, and not three times 0.1."""
        return kept if self.is_whole or self.step is None else float(f"{kept:.12g}")

    def keep(self, value: Any) -> int | float | None:
        """What Optuna keeps of a value; None where it is none of these."""
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return None
        if not self.low <= value <= self.high:
            return None
        step = self.step or (1 if self.is_whole else None)
        steps = (value - self.low) / step if step else 0
        return value if abs(steps - round(steps)) < 1e-9 else None

    def extremes(self) -> list[Any]:
        return [self.low, self.high]

    def thirds(self) -> list[float]:
        """The four ends of its thirds, evenly on its own scale."""
        return (np.geomspace if self.log else np.linspace)(self.low, self.high, 4).tolist()


class Choices(Part):
    """One of some values, of any kind that YAML has."""

    choices: list[Any] = pydantic.Field(min_length=1)

    @property
    def _texts(self) -> list[str]:
        """Optuna keeps plain values only; lists and mappings as text."""
        return [self.keep(choice) for choice in self.choices]

    def suggest(self, trial: Any, key: str) -> Any:
        return self.read(trial.suggest_categorical(key, self._texts))

    def draw(self, rng: np.random.Generator) -> Any:
        """One at random."""
        return self.choices[int(rng.integers(len(self.choices)))]

    def read(self, kept: str) -> Any:
        """The value of what Optuna keeps of it."""
        return json.loads(kept)

    def keep(self, choice: Any) -> str:
        """What Optuna keeps of one of these."""
        return json.dumps(choice)

    def extremes(self) -> list[Any]:
        return self.choices


SearchSpace = dict[str, Interval | Choices]


def load_space(path: str | os.PathLike) -> SearchSpace:
    """Read a search space: a YAML file, or the name of one that ships with lipzoo.

    ::

        optimizer.lr: {low: 1e-4, high: 0.03, log: true}    # evenly in its logarithm
        overrides.attn_drop: {low: 0.0, high: 0.6, step: 0.1}
        overrides.num_layers: {low: 2, high: 32}            # whole numbers
        overrides.residual: [none, {name: initial, initial: 0.1}]   # one of these

    Raises
    ------
    ConfigError
        If the file is wrong; all faults are named.
    UnknownNameError
        If none of that name ships with lipzoo.
    """
    file = find_config(path, packaged_folder("zoo_configs") / "spaces", "search space")
    return make_space(read_yaml(file), where=str(file))


def make_space(content: dict[str, Any], where: str) -> SearchSpace:
    """A search space from a mapping.

    Raises
    ------
    ConfigError
        Which names all faults.
    """
    space: SearchSpace = {}
    faults: list[str] = []
    for key, entry in content.items():
        try:
            if not isinstance(key, str):
                raise ConfigError(f"the key {shown(key)} is no field of a recipe")
            if isinstance(entry, list):
                space[key] = validate(Choices, {"choices": entry}, key)
            elif isinstance(entry, dict):
                parts = [name for name, each in entry.items() if isinstance(each, (dict, list))]
                if parts:
                    raise ConfigError(f"{key}: name its parts with a dot, such as {key}.{parts[0]}")
                space[key] = validate(Interval, entry, key)
            else:
                raise ConfigError(
                    f"{shown(key)}: must be a list of choices or {{low: …, high: …}}, got "
                    f"{shown(entry)}"
                )
        except ConfigError as fault:
            faults.append(str(fault))
    if not content:
        faults = ["holds no field to vary, such as optimizer.lr: {low: 1e-4, high: 0.01}"]
    if faults:
        raise ConfigError(f"{where}: " + "; ".join(faults))
    return space


def to_dict(space: SearchSpace) -> dict[str, Any]:
    """Plain values, for YAML."""
    return {
        key: each.choices if isinstance(each, Choices) else each.model_dump(exclude_defaults=True)
        for key, each in space.items()
    }


def draw(space: SearchSpace, seed: int) -> dict[str, Any]:
    """A value of each field at random; a field's does not depend on which others there are."""
    return {
        key: entry.draw(np.random.default_rng([seed, zlib.crc32(key.encode())]))
        for key, entry in space.items()
    }


def own_values(
    recipe: Recipe, space: SearchSpace, settled: Callable[[Recipe], dict[str, Any]]
) -> dict[str, Any]:
    """What the recipe itself has of the space, as Optuna keeps it; not what lies outside.

    ``settled`` gives a recipe with all that it leaves to defaults: a choice may be written in
    another way than the recipe has it.
    """
    content = settled(recipe)
    found = {}
    for key, entry in space.items():
        if isinstance(entry, Choices):
            for choice in entry.choices:
                if settled(with_values(recipe, {key: choice}, key)) == content:
                    found[key] = entry.keep(choice)
                    break
            continue
        value: Any = content
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if (kept := entry.keep(value)) is not None:
            found[key] = kept
    return found


def with_values(recipe: Recipe, values: dict[str, Any], where: str) -> Recipe:
    """The recipe with these values of its fields.

    Raises
    ------
    ConfigError
        If the recipe has no such field, or a value is none of it.
    """
    content = copy.deepcopy(recipe.to_dict())
    for key, value in values.items():
        set_field(content, key, value, where)
    return make_recipe(content, where)


#: Fields that decide what trials are compared by: between two of these there is no better.
_NOT_SEARCHED = {"baselines", "dataset.metric", "metric", "seeds"}


def check_space(recipe: Recipe, space: SearchSpace, build: Any) -> None:
    """See that the recipe takes each bound and choice, one by one; ``build`` makes its model.

    Raises
    ------
    ConfigError
        Which names all that it does not take.
    """
    faults: list[str] = []
    for key, entry in space.items():
        if {key, key.split(".")[0]} & _NOT_SEARCHED:
            faults.append(f"{key}: says what trials are compared by; set it in the recipe")
            continue
        if parts := [other for other in space if other.startswith(f"{key}.")]:
            faults.append(f"{key}: varies as a whole, and so does its part {parts[0]}; choose one")
            continue
        for value in entry.extremes():
            where = f"{key} = {shown(value)}"
            try:
                build(with_values(recipe, {key: value}, where))
            except LipzooError as fault:
                words = str(fault)
                faults.append(words if words.startswith(where) else f"{where}: {words}")
    if faults:
        raise ConfigError("search space: " + "; ".join(dict.fromkeys(faults)))
