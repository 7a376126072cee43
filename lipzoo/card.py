"""The card beside the weights: what they are, how they were trained, what they reach."""

from __future__ import annotations

import platform
from typing import Annotated, Any, Literal

import pydantic

from lipzoo._schema import validate
from lipzoo.settings import Evidence, Start, per_seed

__all__ = [
    "ArchitectureEntry",
    "Card",
    "DatasetEntry",
    "LipschitzEntry",
    "ScalingEntry",
    "Summary",
    "WeightsEntry",
    "versions",
]


#: Becomes part of the names of files and of headlines.
Name = Annotated[str, pydantic.Field(pattern=r"^[^/\\\x00-\x1f\x7f.][^/\\\x00-\x1f\x7f]*$")]
Count = Annotated[int, pydantic.Field(ge=0, lt=2**63)]


def _known_encoding(value: dict[str, int | str]) -> dict[str, int | str]:
    if value.get("kind", "context") != "context":
        raise ValueError(f"no kind of encoding {value['kind']!r} (choices: context)")
    known = {"width", "seed", *(("kind", "num_random") if "kind" in value else ())}
    if unknown := sorted(set(value) - known):
        raise ValueError(f"unknown {', '.join(unknown)} (choices: {', '.join(sorted(known))})")
    validate(Evidence, {name: value[name] for name in value if name != "kind"}, "encoding")
    return value


#: ``{"width": 64, "seed": 0}``; see ``lipzoo.encoding``.
Encoding = Annotated[dict[str, int | str], pydantic.AfterValidator(_known_encoding)]


class _Entry(pydantic.BaseModel):
    # NaN (the spread of one seed) stays a number instead of becoming null.
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")


class ArchitectureEntry(_Entry):
    """The registered class and all of its arguments."""

    model: str
    args: dict[str, Any]


class WeightsEntry(_Entry):
    """The file, its hash, its length and what *these* weights (one seed) reach."""

    file: Literal["model.safetensors"] = "model.safetensors"
    sha256: Annotated[str, pydantic.Field(pattern="^([0-9a-f]{64})?$")] = ""
    num_bytes: Count | None = None  # cards of 0.1.0 do not say it
    num_parameters: Count = 0
    seed: Count | None = None
    epoch: Count | None = None
    #: Where they were trained, if not on the CPU seed by seed: then no run replays to the bit.
    device: str | None = None
    metrics: dict[str, float] = {}


class DatasetEntry(_Entry):
    """What ``load_dataset(name, **options)`` must give again.

    ``multilabel`` says whether a node may have several labels, ``data_fingerprint`` what the data
    are without their split; cards of 0.1.0 say neither. ``class_names`` and ``feature_names`` are
    there where the data name their classes, and each column of their features.
    """

    name: str
    options: dict[str, Any] = {}
    fingerprint: str
    data_fingerprint: str | None = None
    multilabel: bool | None = None
    class_names: list[str] | None = None
    feature_names: list[str] | None = None

    @pydantic.field_validator("options")
    @classmethod
    def _options_name_no_place(cls, value: dict[str, Any]) -> dict[str, Any]:
        # A card that was fetched must not say where files are read from or written to.
        if "raw_dir" in value or "name_or_path" in value:
            raise ValueError("must not hold raw_dir or name_or_path; leave them out")
        return value


class ScalingEntry(_Entry):
    """What each column of the features was scaled by, where ``scaling`` is ``standard``: its mean
    was taken from it, then it was divided by its deviation (1 where that is 0)."""

    mean: list[pydantic.FiniteFloat]
    scale: list[Annotated[pydantic.FiniteFloat, pydantic.Field(gt=0)]]

    @pydantic.model_validator(mode="after")
    def _as_many(self) -> ScalingEntry:
        if len(self.mean) != len(self.scale):
            raise ValueError("mean and scale must be as many numbers, one a column")
        return self


class Summary(_Entry):
    """A metric over the seeds: mean, sample standard deviation, the value of each seed."""

    mean: float
    std: float
    values: list[float]


class LipschitzEntry(_Entry):
    """A proven Lipschitz bound of these weights on this data, or why there is none."""

    bound: float | None = None
    bound_per_node: float | None = None
    reason: str = ""


class Card(_Entry):
    """``card.yaml``.

    Parameters
    ----------
    name, tag : str
        ``gat_lip_16`` and ``cora``.
    architecture : ArchitectureEntry
        Class and arguments.
    weights : WeightsEntry
        File, hash, seed and the metrics of that seed.
    dataset : DatasetEntry
        Name, options and fingerprint of the data.
    metrics : dict of Summary
        ``test_accuracy`` …, over the seeds.
    seeds : list of int
        The seeds, in the order of the values.
    baselines : dict of dict of Summary
        The same metrics of what the recipe compares with.
    encoding : dict, optional
        Arguments of ``encode_task``, where the weights read encoded features; with ``kind:
        context``, of ``encode_context``.
    start : Start, optional
        Where the weights correct what the training labels say.
    scaling : ScalingEntry, optional
        By what the features of other graphs are scaled; older cards do not say it.
    pretrained_on : list of DatasetEntry
        The graphs that weights without a head have learnt from, with fingerprints of the data
        without masks.
    lipschitz : LipschitzEntry, optional
        What ``lipzoo.lipschitz.bound`` says of the weights on the data.
    recipe : dict
        The whole recipe; ``lipzoo train`` takes it.
    description, source, licence : str
        For people.
    versions : dict
        Of Python, the libraries and the machine type.
    """

    name: Name
    tag: Name
    description: str = ""
    source: str = ""
    licence: str = "Apache-2.0"
    architecture: ArchitectureEntry
    weights: WeightsEntry = WeightsEntry()
    dataset: DatasetEntry
    seeds: list[int] = []
    metrics: dict[str, Summary] = {}
    baselines: dict[str, dict[str, Summary]] = {}
    encoding: Encoding | None = None
    start: Start | None = None
    scaling: ScalingEntry | None = None
    pretrained_on: list[DatasetEntry] = []
    lipschitz: LipschitzEntry | None = None
    recipe: dict[str, Any] = {}
    versions: dict[str, str] = {}

    @pydantic.model_validator(mode="after")
    def _one_reading(self) -> Card:
        if self.start is not None and self.reads_context:
            raise ValueError("start: weights in context have none; leave one out")
        return self

    @property
    def reads_context(self) -> bool:
        """Whether the weights read rows made of evidence, and no features."""
        return self.encoding is not None and "kind" in self.encoding

    @property
    def full_name(self) -> str:
        """``gat_lip_16.cora``."""
        return f"{self.name}.{self.tag}"

    @property
    def words_per_seed(self) -> str:
        """``", each with its own split_index"`` where the recipe says so; else nothing."""
        names = per_seed(self.recipe.get("dataset"))
        names += [f"start.{name}" for name in per_seed(self.recipe.get("start"))]
        return f", each with its own {' and '.join(names)}" if names else ""

    def with_weights(self, digest: str, num_bytes: int, num_parameters: int) -> Card:
        """The card with the hash and the length of the weights file filled in."""
        changed = self.weights.model_copy(
            update={"sha256": digest, "num_bytes": num_bytes, "num_parameters": num_parameters}
        )
        return self.model_copy(update={"weights": changed})

    def without_figures(self, args: dict[str, Any]) -> Card:
        """The card of the model that ``args`` build, of which nothing was measured."""
        return self.model_copy(
            update={
                "architecture": self.architecture.model_copy(update={"args": args}),
                "weights": WeightsEntry(),
                "metrics": {},
                "baselines": {},
                "lipschitz": None,
            }
        )

    @classmethod
    def from_dict(cls, content: dict[str, Any], where: str) -> Card:
        """Check a mapping that was read from ``where``.

        Raises
        ------
        ConfigError
            Which names all faults.
        """
        return validate(cls, content, where)


def versions() -> dict[str, str]:
    """Versions of everything that the figures depend on."""
    import numpy
    import torch

    from lipzoo import __version__
    from lipzoo._dgl import dgl_version

    return {
        "lipzoo": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),  # which is a class of its own
        "dgl": dgl_version(),
        "numpy": numpy.__version__,
        "machine": f"{platform.system()} {platform.machine()}",
    }
