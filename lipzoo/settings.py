"""What training and fine-tuning may be told, with defaults and texts; without PyTorch."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import pydantic

from lipzoo.errors import did_you_mean

__all__ = [
    "BATCHINGS",
    "FREEZE",
    "METRICS",
    "SAVE_EVERY",
    "Batching",
    "Clusters",
    "Consistency",
    "Count",
    "EarlyStopping",
    "Engine",
    "Evidence",
    "FinetuneSettings",
    "FitSettings",
    "Full",
    "Neighbours",
    "Optimizer",
    "Part",
    "Rate",
    "Schedule",
    "Shadow",
    "parse_seeds",
    "per_seed",
]

Rate = Annotated[float, pydantic.Field(ge=0)]
Count = Annotated[int, pydantic.Field(ge=1, lt=2**31)]

#: What fine-tuning freezes: nothing; the attention layers; the input layer and these.
FREEZE = ("none", "body", "all-but-head")

#: What a task may be judged by; :mod:`lipzoo.datasets.metric` defines each.
METRICS = ("accuracy", "micro_f1", "macro_f1", "roc_auc", "average_precision")

MAX_SEEDS = 10_000
#: What a recipe says instead of a number where each seed takes its own: seed k takes k.
SEED = "seed"
#: Where it may say so: options of `load_dataset`, and the `seed` of a start.
_PER_SEED = ("split_index", "split_seed", "missing_seed", "seed")
#: Epochs between two states of a fine-tuning.
SAVE_EVERY = 20


class Part(pydantic.BaseModel):
    """A mapping whose keys and types are checked strictly."""

    model_config = pydantic.ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False
    )


class Optimizer(Part):
    """Adam or AdamW.

    ``attention_weight_decay`` is for the attention layers (and their feature norms);
    ``weight_decay`` for the input layer and the head, and for all where the former is absent.
    """

    name: Literal["adam", "adamw"] = "adam"
    lr: Annotated[float, pydantic.Field(gt=0, description="learning rate")] = 0.005
    weight_decay: Annotated[Rate, pydantic.Field(description="weight decay")] = 5e-4
    attention_weight_decay: Rate | None = None


class Schedule(Part):
    """How the learning rate changes over the epochs.

    ``plateau`` multiplies it by ``factor`` after ``patience`` epochs without a better validation
    loss (so many evaluations, where these are some epochs apart); ``cosine`` lets it go to 0 over
    all epochs; ``warmup`` epochs rise linearly in each.
    """

    name: Literal["constant", "plateau", "cosine"] = "constant"
    factor: Annotated[float, pydantic.Field(gt=0, lt=1)] = 0.5
    patience: Count = 50
    warmup: Annotated[int, pydantic.Field(ge=0)] = 0


class EarlyStopping(Part):
    """Stop after ``patience`` epochs without a better validation result.

    The best epoch, whose weights are kept, is the one with the highest validation metric, ties
    broken by the lower loss (``monitor: metric``), or with the lowest loss (``monitor: loss``).
    ``ties`` says whether the same metric with a lower loss is such a better result (``improve``),
    or decides which epoch is kept and nothing else (``break``): with the latter a metric that does
    not move ends the training, though the loss creeps on.
    """

    monitor: Literal["metric", "loss"] = "metric"
    ties: Literal["improve", "break"] = "improve"
    patience: Annotated[
        Count, pydantic.Field(description="epochs without a better validation result")
    ] = 100


class Consistency(Part):
    """Consistency training; see :func:`~lipzoo.training.consistency.consistency_loss`.

    Each epoch runs the model ``passes`` times, each time with other dropout masks, and all nodes,
    labelled or not, are drawn to the mean of these predictions, sharpened by ``temperature``.
    """

    passes: Annotated[int, pydantic.Field(ge=2)] = 2
    weight: Annotated[float, pydantic.Field(gt=0)] = 1.0
    temperature: Annotated[float, pydantic.Field(gt=0, le=1)] = 0.5
    warmup: Annotated[int, pydantic.Field(ge=0)] = 50


class Evidence(Part):
    """What evidence is made with: arguments of :class:`~lipzoo.context.ClosedFormStack`, and the
    width and seed of :func:`~lipzoo.datasets.encode_task`."""

    width: Annotated[int, pydantic.Field(ge=1, le=4096)] = 64
    num_random: Annotated[int, pydantic.Field(ge=1, le=16384)] = 256
    seed: Annotated[int, pydantic.Field(ge=0, lt=2**32)] = 0


class Start(Evidence):
    """What a network begins from, and reads beside the features; see `lipzoo.encoding.add_start`.

    ``of`` is ``stack``, the closed-form stack, or the name of weights in context (no path, and no
    address: cards of others say it too); the evidence is made as their card says. ``sha256`` of
    the weights is on cards, so that they are not taken for others.
    """

    of: Annotated[str, pydantic.Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")] = "stack"
    sha256: Annotated[str, pydantic.Field(pattern="^([0-9a-f]{64})?$")] = ""


class RecipeStart(Start):
    """What the networks of a recipe begin from; ``seed: seed`` draws evidence for each seed."""

    seed: Annotated[int, pydantic.Field(ge=0, lt=2**32)] | Literal[SEED] = 0

    def of_seed(self, seed: int) -> Start:
        """What the network of a seed begins from."""
        content = self.model_dump(exclude_unset=True)
        return Start(**(content | {"seed": seed} if self.seed == SEED else content))


#: How many neighbours of a node are drawn; -1: all.
_Fanout = Annotated[int, pydantic.Field(ge=-1, lt=2**31)]


class Full(Part):
    """An epoch is one step on the whole graph."""

    name: Literal["full"]


class Clusters(Part):
    """An epoch is a step for each ``per_batch`` clusters, with the edges between them.

    (All at once where there are fewer.) The graph is cut into ``parts`` clusters of nodes once, by
    METIS, which leaves few edges between them, or, ``contiguous``, by the nodes' numbers; which of
    them share a batch is drawn anew each epoch. Other edges are left out of it.
    """

    name: Literal["clusters"]
    parts: Count = 32
    per_batch: Count = 4
    method: Literal["metis", "contiguous"] = "metis"

    @pydantic.model_validator(mode="after")
    def _batch_is_of_parts(self) -> Clusters:
        if "per_batch" in self.model_fields_set and self.per_batch > self.parts:
            raise ValueError(
                f"per_batch is {self.per_batch}, and there are {self.parts} parts: say at most as "
                "many"
            )
        return self


class Neighbours(Part):
    """An epoch is a step for each ``batch_size`` training nodes, on a sample of what they read.

    Layer by layer, the last one first, up to ``fanouts`` in-neighbours of each node are drawn (-1:
    all): one number for all layers, or a list, the first layer first. ``labor`` draws with the same
    random numbers for all nodes of a layer, and so reads fewer nodes than ``uniform``.
    """

    name: Literal["neighbours"]
    sampler: Literal["labor", "uniform"] = "labor"
    fanouts: _Fanout | list[_Fanout] = 10
    batch_size: Count = 1024

    @pydantic.field_validator("fanouts")
    @classmethod
    def _fanouts_draw(cls, value: int | list[int]) -> int | list[int]:
        return _drawing(value)


class Shadow(Part):
    """An epoch is a step for each ``batch_size`` training nodes, on a graph around them.

    All layers run on the nodes that ``hops`` draws of up to ``fanout`` in-neighbours (-1: all)
    reach, with all edges between these, however deep the network is.
    """

    name: Literal["shadow"]
    hops: Count = 2
    fanout: _Fanout = 10
    batch_size: Count = 256

    @pydantic.field_validator("fanout")
    @classmethod
    def _fanout_draws(cls, value: int) -> int:
        return _drawing(value)


def _drawing(fanouts: Any) -> Any:
    if fanouts == [] or 0 in (fanouts if isinstance(fanouts, list) else [fanouts]):
        raise ValueError("must draw something: a number from 1 on, or -1 for all neighbours")
    return fanouts


#: What an epoch may be, by name.
BATCHINGS: dict[str, type[Part]] = {
    "full": Full,
    "clusters": Clusters,
    "neighbours": Neighbours,
    "shadow": Shadow,
}


def _named(value: Any) -> Any:
    """A name alone as a mapping; refuses names and keys that there are not, with the nearest."""
    value = {"name": value} if isinstance(value, str) else value
    if not isinstance(value, dict):
        return value
    name = value.get("name")
    if not isinstance(name, str) or name not in BATCHINGS:
        words = f"no batching {name!r}" if "name" in value else "needs a key 'name'"
        raise ValueError(f"{words}{did_you_mean(name, BATCHINGS)}")
    for key in value:
        if key not in BATCHINGS[name].model_fields:
            known = BATCHINGS[name].model_fields
            raise ValueError(f"unknown key {key!r} of {name}{did_you_mean(key, known)}")
    return value


#: What trains on parts: processes that exchange rows in each layer, or DistDGL, which samples.
Engine = Literal["torchrun", "distdgl"]

#: A mapping with a ``name``, or a name alone.
Batching = Annotated[
    Annotated[Full | Clusters | Neighbours | Shadow, pydantic.Field(discriminator="name")],
    pydantic.BeforeValidator(_named),
]


class FitSettings(Part):
    """What the training loop needs to know, for training and fine-tuning alike.

    With ``ema_decay`` d, what is validated, chosen and exported are the averaged weights
    ``m <- d m + (1 - d) w`` after each epoch (an exponential moving average, from the first epoch's
    weights on), in place of the weights w themselves.

    ``batching`` says what an epoch is: one step on the whole graph (``full``), or steps on parts of
    it or samples; see :mod:`lipzoo.training.batching`.
    """

    epochs: Annotated[Count, pydantic.Field(description="epochs at most")] = 500
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    early_stopping: EarlyStopping = EarlyStopping()
    eval_every: Count = 1
    label_smoothing: Annotated[float, pydantic.Field(ge=0, lt=1)] = 0.0
    grad_clip: Annotated[float, pydantic.Field(gt=0)] | None = None
    consistency: Consistency | None = None
    ema_decay: Annotated[float, pydantic.Field(gt=0, lt=1)] | None = None
    batching: Batching = Full(name="full")

    @pydantic.model_validator(mode="after")
    def _waits_for_an_evaluation(self) -> FitSettings:
        patience = self.early_stopping.patience
        if patience < self.eval_every < self.epochs:
            raise ValueError(
                f"early_stopping: patience is {patience} epochs, and eval_every {self.eval_every}: "
                "training would stop before the second evaluation; patience must be at least "
                "eval_every"
            )
        return self

    @pydantic.model_serializer(mode="wrap")
    def _without_default(self, dump: pydantic.SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Cards and recipes from before there was any batching do not name it, and are the same."""
        content = dump(self)
        if isinstance(self.batching, Full):
            content.pop("batching", None)
        return content


class FinetuneSettings(FitSettings):
    """All that shapes fine-tuned weights, beside data, model and the weights of the classes."""

    epochs: Annotated[Count, pydantic.Field(description="epochs at most")] = 200
    early_stopping: EarlyStopping = EarlyStopping(patience=50, ties="break")
    warm_start: Annotated[
        bool,
        pydantic.Field(
            description="let the head begin as a logistic regression on what the body gives"
        ),
    ] = False
    freeze: Annotated[
        Literal[FREEZE],
        pydantic.Field(description=f"what keeps its weights: {', '.join(FREEZE)}"),
    ] = "none"
    unfreeze_every: Annotated[
        Annotated[int, pydantic.Field(ge=1)] | None,
        pydantic.Field(
            description="thaw what is frozen, a layer every so many epochs, from the head downwards"
        ),
    ] = None
    layer_lr_decay: Annotated[
        float,
        pydantic.Field(
            gt=0,
            le=1,
            description="of the learning rate, for each layer below the head, such as 0.9",
        ),
    ] = 1.0
    seed: Annotated[
        int, pydantic.Field(ge=0, description="seed of the fresh layers and of dropout")
    ] = 0


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


def per_seed(options: Any) -> list[str]:
    """Which options of a recipe's ``dataset`` or ``start`` are another for each seed."""
    return [key for key in _PER_SEED if isinstance(options, dict) and options.get(key) == SEED]
