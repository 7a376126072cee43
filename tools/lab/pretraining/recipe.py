"""Pretraining recipes: which graphs or which prior, which objective, how long."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic

from lab.prior import Prior
from lab.settings import STRICT
from lipzoo._schema import validate
from lipzoo.errors import ConfigError
from lipzoo.settings import Evidence
from lipzoo.training.recipe import Count, Optimizer, Rate, read_settings

__all__ = [
    "ContextRecipe",
    "Encoding",
    "Objective",
    "PretrainingRecipe",
    "Source",
    "WeightsRecipe",
    "load_pretraining",
]

#: The recipes of the weights that ship with lipzoo.
CONFIGS = Path(__file__).with_name("configs")

Share = Annotated[float, pydantic.Field(ge=0, lt=1)]


class Encoding(pydantic.BaseModel, **STRICT):
    """Arguments of :func:`~lipzoo.datasets.encoding.encode_task`."""

    width: Count = 64
    seed: Annotated[int, pydantic.Field(ge=0)] = 0


class Source(pydantic.BaseModel, **STRICT):
    """A graph to learn from: whole, or as ``parts`` induced subgraphs of ``nodes`` nodes."""

    name: str
    options: dict[str, Any] = {}
    parts: Count | None = None
    nodes: Count | None = None

    @pydantic.model_validator(mode="after")
    def _parts_have_a_size(self) -> Source:
        if (self.parts is None) != (self.nodes is None):
            raise ValueError("parts and nodes go together: how many subgraphs, and of what size")
        return self


class Objective(pydantic.BaseModel, **STRICT):
    """What is minimised; see :mod:`lab.pretraining.objectives`.

    ``reconstruction`` and ``episodes`` weigh the two terms. ``mask_rate`` of the nodes lose their
    features; ``teleport`` and ``hops`` belong to the smoothed features; an episode has up to
    ``shots`` labels a class and ``queries`` nodes.
    """

    reconstruction: Rate = 1.0
    episodes: Rate = 1.0
    mask_rate: Share = 0.3
    teleport: Annotated[float, pydantic.Field(gt=0, le=1)] = 0.1
    hops: Count = 10
    shots: Count = 10
    queries: Count = 400

    @pydantic.model_validator(mode="after")
    def _something_is_learnt(self) -> Objective:
        if not (self.reconstruction or self.episodes):
            raise ValueError("reconstruction and episodes are both 0: nothing would be learnt")
        return self


class WeightsRecipe(pydantic.BaseModel, **STRICT):
    """What all pretraining files have: which architecture, under which tag."""

    description: str = ""
    architecture: str
    overrides: dict[str, Any] = {}
    tag: str
    grad_clip: Annotated[float, pydantic.Field(gt=0)] = 1.0
    seed: Annotated[int, pydantic.Field(ge=0)] = 0

    @pydantic.field_validator("tag")
    @classmethod
    def _tag_is_a_name(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", value):
            raise ValueError("may hold letters, digits, '_' and '-' only")
        return value

    @property
    def full_name(self) -> str:
        """``gat_lip_universal_16.cs_computers_digits``."""
        return f"{self.architecture}.{self.tag}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for YAML; what stands at its default is left out."""
        return self.model_dump(mode="json", exclude_defaults=True)


class PretrainingRecipe(WeightsRecipe):
    """A pretraining file with ``graphs``.

    An epoch is one step on each graph (on one part of it). ``held_out`` names graphs that these
    weights are measured on later: a source of the same data is refused. ``start`` says what the
    weights begin as: the initialisation of the architecture, or identity maps.
    """

    encoding: Encoding = Encoding()
    graphs: Annotated[list[Source], pydantic.Field(min_length=1)]
    held_out: list[str] = []
    objective: Objective = Objective()
    start: Literal["default", "identity"] = "identity"
    epochs: Count = 400
    optimizer: Optimizer = Optimizer(name="adamw", lr=0.001, weight_decay=1e-4)
    warmup: Annotated[int, pydantic.Field(ge=0)] = 20

    @pydantic.model_validator(mode="after")
    def _no_graph_is_held_out(self) -> PretrainingRecipe:
        both = sorted({source.name for source in self.graphs} & set(self.held_out))
        if both:
            raise ValueError(f"{', '.join(both)}: both learnt from and held out; leave one out")
        return self


class ContextRecipe(WeightsRecipe):
    """A pretraining file with a ``prior``: of a network in context, which learns from drawn tasks.

    A step is on ``batch`` tasks: ``fresh`` new ones, the others from the last ``kept``. The weights
    are the average of the steps with ``ema_decay``; the learning rate rises over ``warmup`` steps
    and falls to 0 along a cosine. ``validation`` tasks are not learnt from.
    """

    prior: Prior
    evidence: Evidence = Evidence()
    steps: Count = 5000
    batch: Count = 8
    fresh: Count = 2
    kept: Count = 512
    optimizer: Optimizer = Optimizer(name="adamw", lr=0.0015, weight_decay=0.01)
    warmup: Annotated[int, pydantic.Field(ge=0)] = 100
    ema_decay: Annotated[float, pydantic.Field(gt=0, lt=1)] = 0.995
    validation: Count = 64

    @pydantic.model_validator(mode="after")
    def _fresh_ones_fit(self) -> ContextRecipe:
        if self.fresh > self.batch:
            raise ValueError("fresh must not be above batch: a step is on batch tasks")
        return self

    @property
    def encoding(self) -> dict[str, Any]:
        """As on the card."""
        return {"kind": "context", **self.evidence.model_dump()}


def load_pretraining(
    path: str | os.PathLike, changes: list[str] | None = None
) -> PretrainingRecipe | ContextRecipe:
    """Read a pretraining recipe: a file, a card's, or by the name of one in ``configs/``.

    ``changes`` are ``key=value`` pairs.

    Raises
    ------
    ConfigError
        If the file or a change is wrong; all faults are named.
    UnknownNameError
        If no recipe of that name is there.
    """
    return make_pretraining(
        *read_settings(path, CONFIGS, "pretraining recipe", changes or (), part="recipe")
    )


def make_pretraining(content: dict[str, Any], where: str) -> PretrainingRecipe | ContextRecipe:
    """A recipe from a mapping: with a ``prior``, or with ``graphs``.

    Raises
    ------
    ConfigError
        Which names all faults.
    """
    if "graphs" not in content and "dataset" in content:
        raise ConfigError(
            f"{where}: is a recipe for `lipzoo train`; pretraining needs 'graphs' or 'prior'"
        )
    return validate(ContextRecipe if "prior" in content else PretrainingRecipe, content, where)
