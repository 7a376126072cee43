"""Studies: YAML files that say which weights are measured on which graphs, and beside what.

::

    folds:                                    # weights, and targets that they have not seen
      - {weights: gat_lip_universal_16.cs_computers_digits, targets: [cora, citeseer]}
    labels: [5, 1, 10, 20]                    # a class, in the order of work
    seeds: 0..9                               # a seed draws the split, and starts the training
    num_val: 500
    fit: {epochs: 100, early_stopping: {patience: 30}}
    methods:                                  # what a method lays over `fit`
      fine-tuned: {kind: finetune, fit: {optimizer: {lr: 0.001}}}
      2-layer GAT: {kind: scratch, architecture: gat_2, encoded: false}
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic

from lab.settings import STRICT, Seeds, digest, read_settings
from lipzoo._schema import validate
from lipzoo.errors import ConfigError, did_you_mean
from lipzoo.registry import find_checkpoint, get_architecture
from lipzoo.training.recipe import Count, FitSettings
from lipzoo.weights import Checkpoint

__all__ = ["Fold", "Method", "Point", "Study", "load_study", "make_study"]

#: The studies of the docs.
CONFIGS = Path(__file__).with_name("configs")


class Fold(pydantic.BaseModel, **STRICT):
    """Pretrained weights, and graphs that they were not pretrained on."""

    weights: str
    targets: Annotated[list[str], pydantic.Field(min_length=1)]

    @property
    def checkpoint(self) -> Checkpoint:
        """Read once a process."""
        return _read(self.weights)


@lru_cache(maxsize=8)
def _read(weights: str) -> Checkpoint:
    return find_checkpoint(weights)


class Method(pydantic.BaseModel, **STRICT):
    """One way to a classifier.

    ``finetune`` and ``probe`` begin with the fold's weights, ``scratch`` with a fresh
    ``architecture`` (by default the one of the weights). ``overrides`` are arguments of the model
    class; ``fit`` is laid over the study's. ``encoded`` says what ``scratch`` and
    ``logistic_regression`` read.
    """

    kind: Literal[
        "finetune",
        "probe",
        "scratch",
        "logistic_regression",
        "label_propagation",
        "closed_form_stack",
    ]
    architecture: str | None = None
    overrides: dict[str, Any] = {}
    encoded: bool = True
    fit: dict[str, Any] = {}


class Study(pydantic.BaseModel, **STRICT):
    """A study file: folds x targets x labels x seeds x methods."""

    description: str = ""
    folds: Annotated[list[Fold], pydantic.Field(min_length=1)]
    labels: Annotated[list[Count], pydantic.Field(min_length=1)] = [5, 1, 10, 20]
    seeds: Seeds = "0..9"
    num_val: Count = 500
    fit: dict[str, Any] = {}
    methods: Annotated[dict[str, Method], pydantic.Field(min_length=1)]

    @pydantic.model_validator(mode="after")
    def _no_target_twice(self) -> Study:
        targets = [target for fold in self.folds for target in fold.targets]
        if len(set(targets)) < len(targets):
            raise ValueError("folds: a target stands in two folds")
        return self

    @property
    def targets(self) -> list[str]:
        """Of all folds."""
        return [target for fold in self.folds for target in fold.targets]

    def settings(self, method: str) -> FitSettings:
        """What the training loop reads for a method."""
        content = {**self.fit, **self.methods[method].fit}
        return validate(FitSettings, content, where=f"{method}: fit")

    def points(
        self,
        targets: list[str] | None = None,
        methods: list[str] | None = None,
        labels: list[int] | None = None,
        seeds: list[int] | None = None,
    ) -> list[Point]:
        """All runs in the order of work: a number of labels after the other, seed after seed.

        Raises
        ------
        ConfigError
            If a target or a method is not the study's.
        """
        for what, asked, known in (
            ("target", targets, self.targets),
            ("method", methods, self.methods),
        ):
            for name in asked or []:
                if name not in known:
                    raise ConfigError(f"no {what} {name!r} in the study{did_you_mean(name, known)}")
        chosen = [
            (fold, target)
            for fold in self.folds
            for target in fold.targets
            if targets is None or target in targets
        ]
        names = [name for name in self.methods if methods is None or name in methods]
        hashes = {(fold.weights, m): self._hash(fold, m) for fold in self.folds for m in names}
        return [
            Point(fold, target, method, count, seed, hashes[fold.weights, method])
            for count in labels or self.labels
            for seed in (self.seeds if seeds is None else seeds)
            for fold, target in chosen
            for method in names
        ]

    def _hash(self, fold: Fold, name: str) -> str:
        """Ten hexadecimal digits of what decides a method's results, the seed apart."""
        method = self.methods[name]
        content: dict[str, Any] = {"method": method.model_dump(), "num_val": self.num_val}
        if method.kind in ("finetune", "scratch"):
            # Without defaults: a setting that lipzoo gains later changes no hash.
            content["fit"] = self.settings(name).model_dump(mode="json", exclude_defaults=True)
        if method.kind in ("finetune", "probe"):
            content["weights"] = fold.checkpoint.card.weights.sha256
        if method.kind == "scratch":
            found = get_architecture(method.architecture or fold.checkpoint.card.name)
            content["model"] = [found.model, found.args]
        if method.kind not in ("label_propagation", "closed_form_stack") and method.encoded:
            content["encoding"] = fold.checkpoint.card.encoding
        return digest(content)


@dataclass(frozen=True)
class Point:
    """One run of a study."""

    fold: Fold
    target: str
    method: str
    labels: int
    seed: int
    settings_hash: str

    @property
    def key(self) -> tuple[str, ...]:
        """What a row of ``runs.csv`` is known by, as text."""
        return (self.target, self.method, str(self.labels), str(self.seed), self.settings_hash)

    def __str__(self) -> str:
        return f"{self.target}, {self.labels} labels, seed {self.seed}, {self.method}"


def load_study(
    path: str | os.PathLike, changes: list[str] | None = None
) -> tuple[Study, dict[str, Any]]:
    """Read a study, by the path of a file or by the name of one in ``configs/``.

    Returns the study and the content that :func:`make_study` makes it of again; ``changes`` are
    ``key=value`` pairs.

    Raises
    ------
    UnknownNameError
        If no study of that name is there.
    ConfigError
        If the file or a change is wrong; all faults are named.
    """
    content, file = read_settings(path, CONFIGS, "transfer study", changes or ())
    return make_study(content, file), content


def make_study(content: dict[str, Any], where: str) -> Study:
    """A study from a mapping.

    Raises
    ------
    ConfigError
        Which names all faults.
    """
    study = validate(Study, content, where)
    for name in study.methods:
        study.settings(name)
    for fold in study.folds:
        if fold.checkpoint.card.encoding is None:
            raise ConfigError(
                f"{where}: {fold.weights} reads the features of its own graph only; name weights "
                "that tools/pretrain.py made"
            )
    return study
