"""Studies: YAML files that say which methods are measured on which graphs, at how many labels.

::

    weights: [gat_lip_universal_16.cs_computers_digits, gat_lip_universal_16.cora_citeseer_digits]
    targets: [cora, citeseer]                 # each takes the first weights that have not seen it
    labels: [5, 1, 10, 20, published]         # a class, or the published split; in this order
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

from lab.settings import STRICT, Seeds, digest
from lab.transfer.splits import PUBLISHED, Labels, num_different
from lipzoo._schema import validate
from lipzoo.card import Card
from lipzoo.encoding import as_start
from lipzoo.errors import ConfigError, did_you_mean
from lipzoo.registry import find_checkpoint, get_architecture
from lipzoo.training.recipe import Count, FitSettings, read_settings
from lipzoo.weights import Checkpoint

__all__ = ["Method", "Point", "Study", "load_study", "make_study"]

#: The studies of the docs.
CONFIGS = Path(__file__).with_name("configs")


@lru_cache(maxsize=8)
def _read(weights: str) -> Checkpoint:
    """Read once a process."""
    return find_checkpoint(weights)


class Changes(pydantic.BaseModel, **STRICT):
    """What a target may change of a method."""

    architecture: str | None = None
    overrides: dict[str, Any] = {}
    fit: dict[str, Any] = {}


class Method(pydantic.BaseModel, **STRICT):
    """One way to a classifier.

    ``finetune``, ``probe`` and ``in_context`` begin with ``weights`` (by default the study's),
    ``scratch`` with a fresh ``architecture`` (by default the one of the weights), and from what
    ``start`` says. ``overrides`` are arguments of the model class; ``fit`` is laid over the
    study's. ``encoded`` says what ``scratch`` and ``logistic_regression`` read. ``best_of`` is no
    run: of the methods ``of``, the one that does best on the validation nodes, seed by seed.
    ``on`` names targets with what they change of the method (:class:`Changes`), and it is run on
    these alone; on the targets ``not_on`` it is not run.
    """

    kind: Literal[
        "finetune",
        "probe",
        "in_context",
        "scratch",
        "logistic_regression",
        "label_propagation",
        "closed_form_stack",
        "graphany",
        "best_of",
    ]
    architecture: str | None = None
    overrides: dict[str, Any] = {}
    encoded: bool = True
    fit: dict[str, Any] = {}
    weights: list[str] = []
    start: str | None = None
    of: list[str] = []
    on: dict[str, dict[str, Any]] = {}
    not_on: list[str] = []

    def runs_on(self, target: str) -> bool:
        return target not in self.not_on and (not self.on or target in self.on)

    @property
    def is_trained(self) -> bool:
        """Whether it has epochs."""
        return self.kind in ("finetune", "scratch")

    @property
    def reads_evidence(self) -> bool:
        """Whether it reads closed-form evidence, of which some is drawn: by the seed of the run.

        (What fine-tunes weights in context does too, and is trained.)
        """
        return self.kind in ("closed_form_stack", "in_context") or self.start is not None

    @property
    def draws_numbers(self) -> bool:
        """Whether two seeds differ on the same split."""
        return self.is_trained or self.reads_evidence

    @property
    def has_weights(self) -> bool:
        """Whether it begins with weights."""
        return self.kind in ("finetune", "probe", "in_context")


#: Fields of `Method` that decide no result, and that came after the first rows were measured.
_NOT_HASHED = {"of", "on", "not_on", "weights"}


class Study(pydantic.BaseModel, **STRICT):
    """A study file: targets x labels x seeds x methods.

    Settings were chosen on ``development``; the other targets are reported apart from these.
    ``ours`` are the methods that the others are compared with, by default the first that is
    fine-tuned.
    """

    description: str = ""
    weights: list[str] = []
    targets: Annotated[list[str], pydantic.Field(min_length=1)]
    development: list[str] = []
    labels: Annotated[list[Labels], pydantic.Field(min_length=1)] = [5, 1, 10, 20]
    seeds: Seeds = "0..9"
    num_val: Count = 500
    fit: dict[str, Any] = {}
    methods: Annotated[dict[str, Method], pydantic.Field(min_length=1)]
    ours: list[str] = []

    @pydantic.model_validator(mode="after")
    def _names_are_known(self) -> Study:
        if len(set(self.targets)) < len(self.targets):
            raise ValueError("targets: one stands there twice")
        known = {"target": self.targets, "method": list(self.methods)}
        asked = [("target", name) for name in self.development]
        asked += [("method", name) for name in self.ours]
        for method in self.methods.values():
            asked += [("target", name) for name in (*method.on, *method.not_on)]
            asked += [("method", name) for name in method.of]
        for what, name in asked:
            if name not in known[what]:
                raise ValueError(f"no {what} {name!r}{did_you_mean(name, known[what])}")
        for name, method in self.methods.items():
            if (method.kind == "best_of") != bool(method.of):
                raise ValueError(f"{name}: best_of, and nothing else, says which methods it is of")
        return self

    def method_on(self, name: str, target: str) -> Method:
        """A method as it is run on a target."""
        method = self.methods[name]
        if target not in method.on:
            return method
        changes = validate(Changes, method.on[target], where=f"{name}: on {target}")
        return method.model_copy(update=changes.model_dump(exclude_unset=True))

    def settings(self, name: str, target: str) -> FitSettings:
        """What the training loop reads for a method."""
        content = {**self.fit, **self.method_on(name, target).fit}
        return validate(FitSettings, content, where=f"{name}: fit")

    def weights_of(self, name: str) -> list[str]:
        """What a method begins with, or reads features encoded for; empty where it does neither."""
        method = self.methods[name]
        needs = method.has_weights or self.reads_encoded(name)
        return (method.weights or self.weights) if needs else []

    @property
    def cards(self) -> list[Card]:
        """Of all weights that methods begin with, or are encoded for."""
        names = [weights for method in self.methods for weights in self.weights_of(method)]
        return [_read(name).card for name in dict.fromkeys(names)]

    def checkpoint(self, method: str, target: str) -> Checkpoint | None:
        """Of the weights of a method the first whose card does not name the target, or the first;
        None without weights."""
        names = self.weights_of(method)
        for name in names:
            if target not in (entry.name for entry in _read(name).card.pretrained_on):
                return _read(name)
        return _read(names[0]) if names else None

    def points(
        self,
        targets: list[str] | None = None,
        methods: list[str] | None = None,
        labels: list[int | str] | None = None,
        seeds: list[int] | None = None,
    ) -> list[Point]:
        """All runs in the order of work: a number of labels after the other, seed after seed.

        On a published split, what draws no numbers is run once; evidence draws some.

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
        chosen = [name for name in self.targets if targets is None or name in targets]
        names = [
            name
            for name, method in self.methods.items()
            if method.kind != "best_of" and (methods is None or name in methods)
        ]
        hashes = {
            (target, name): self._hash(target, name)
            for target in chosen
            for name in names
            if self.methods[name].runs_on(target)
        }
        return [
            Point(target, name, count, seed, hashes[target, name], self.checkpoint(name, target))
            for count in labels or self.labels
            for seed in (self.seeds if seeds is None else seeds)
            for target in chosen
            for name in names
            if (target, name) in hashes
            and (self.methods[name].draws_numbers or seed < num_different(target, count))
        ]

    def _hash(self, target: str, name: str) -> str:
        """Ten hexadecimal digits of what decides a method's results, the seed apart."""
        method, checkpoint = self.method_on(name, target), self.checkpoint(name, target)
        # A start came later, too: without one the hash is what it was.
        later = _NOT_HASHED if method.start else {*_NOT_HASHED, "start"}
        content: dict[str, Any] = {
            "method": method.model_dump(exclude=later),
            "num_val": self.num_val,
        }
        if method.is_trained:
            # Without defaults: a setting that lipzoo gains later changes no hash.
            settings = self.settings(name, target)
            content["fit"] = settings.model_dump(mode="json", exclude_defaults=True)
        if method.has_weights:
            content["weights"] = checkpoint.card.weights.sha256
        if method.kind == "scratch":
            found = get_architecture(method.architecture or checkpoint.card.name)
            content["model"] = [found.model, found.args]
        if method.start not in (None, "stack"):
            content["start"] = as_start(method.start).sha256
        if checkpoint is not None:
            content["encoding"] = checkpoint.card.encoding
        if method.reads_evidence or (method.has_weights and checkpoint.card.reads_context):
            content["evidence"] = "drawn by the seed"
        return digest(content)

    def reads_encoded(self, name: str) -> bool:
        """Whether a method without weights reads features encoded as those of the weights."""
        method = self.methods[name]
        return method.kind in ("scratch", "logistic_regression") and method.encoded

    def check(self, where: str) -> None:
        """Refuse what would fail later: settings, and weights that read no other graph.

        Raises
        ------
        ConfigError
        """
        for name, method in self.methods.items():
            for target in method.on or self.targets[:1]:
                self.settings(name, target)
            as_start(method.start)
            if (method.has_weights or self.reads_encoded(name)) and not self.weights_of(name):
                raise ConfigError(f"{where}: {name}: say which weights")
            for weights in self.weights_of(name):
                if _read(weights).card.encoding is None:
                    raise ConfigError(
                        f"{where}: {weights} reads the features of its own graph only; name "
                        "weights that tools/pretrain.py made"
                    )


@dataclass(frozen=True)
class Point:
    """One run of a study."""

    target: str
    method: str
    labels: int | str
    seed: int
    settings_hash: str
    checkpoint: Checkpoint | None

    @property
    def key(self) -> tuple[str, ...]:
        """What a row of ``runs.csv`` is known by, as text."""
        return (self.target, self.method, str(self.labels), str(self.seed), self.settings_hash)

    def __str__(self) -> str:
        labels = "published split" if self.labels == PUBLISHED else f"{self.labels} labels"
        return f"{self.target}, {labels}, seed {self.seed}, {self.method}"


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
    study.check(where)
    return study
