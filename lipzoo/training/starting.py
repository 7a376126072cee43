"""What a training begins from: the features alone, or what the training labels say."""

from __future__ import annotations

from torch import Tensor

from lipzoo._progress import Verbose, say, stage
from lipzoo.card import Card
from lipzoo.context import ClosedFormStack, context_rows
from lipzoo.datasets import GraphTask
from lipzoo.encoding import as_start
from lipzoo.errors import ConfigError, LipzooError
from lipzoo.models import DeepAttentionNet
from lipzoo.registry import find_class, load_pretrained
from lipzoo.settings import Evidence, Start
from lipzoo.training.adapting import was_trained_on
from lipzoo.training.metrics import infer, score

__all__ = ["AUTO", "best_start", "say_if_behind", "start_of"]

#: The start that :func:`best_start` chooses.
AUTO = "auto"

#: Nodes times classes, and edges, up to which the stack takes seconds.
_FEW_ANSWERS, _FEW_EDGES = 2_000_000, 1_000_000


def start_of(
    card: Card,
    task: GraphTask,
    start: str | Start | None,
    warm_start: bool = False,
    splits: tuple[str, ...] = ("train", "val", "test"),
    verbose: Verbose = False,
) -> Start | None:
    """What weights begin from on a task; None: as they began.

    ``"auto"`` is :func:`best_start` where the weights have not seen the data, and can begin so;
    the stack where ``splits`` has no ``"val"``.

    Raises
    ------
    UnknownNameError, ConfigError
        See :func:`~lipzoo.encoding.as_start`; also if the weights cannot begin so.
    """
    is_auto = start == AUTO
    found = None if is_auto else as_start(start)
    if found is not None and card.reads_context:
        raise ConfigError(
            f"start: {card.full_name} begin from the closed-form stack already; leave start out"
        )
    if warm_start and (found or is_auto or card.start):
        raise ConfigError("start and warm_start both say how the head begins; choose one")
    if not is_auto:
        return found
    kind = find_class(card.architecture.model)
    can_start = kind is None or issubclass(kind, DeepAttentionNet)
    if card.reads_context or not can_start or was_trained_on(card, task):
        return None
    return best_start(task, verbose) if "val" in splits else as_start("stack")


def best_start(task: GraphTask, verbose: Verbose = False) -> Start:
    """The closed-form stack or the network in context that ships: which does better on the
    validation nodes; without any, the stack.
    """
    stack, network = as_start("stack"), as_start("context")
    if task.val_mask is None:
        return stack
    name = f"val_{task.metric}"
    with stage(verbose, f"{task.name}: comparing what to start from"):
        fitted = _stack(task, network)
        model, rows = load_pretrained(network.of), context_rows(fitted)
        by_stack = _val_score(fitted.predict_logits(), task)
        by_network = _val_score(infer(model, task.to("cpu").with_feat(rows)), task)
    found = network if by_network > by_stack else stack
    say(
        verbose,
        f"{task.name}: without training the closed-form stack has {name} {by_stack:.4f}, "
        f"{network.of} {by_network:.4f}: starts from {found.of}",
        "start",
        metric=name,
        of=found.of,
        without_training={"stack": by_stack, network.of: by_network},
    )
    return found


def say_if_behind(task: GraphTask, metrics: dict[str, float], verbose: Verbose) -> None:
    """Say so where the closed-form stack, without training, does better on the validation nodes.

    Not on graphs on which the stack would take long.
    """
    name = f"val_{task.metric}"
    is_long = task.num_nodes * task.num_classes > _FEW_ANSWERS or task.num_edges > _FEW_EDGES
    if not verbose or name not in metrics or is_long:
        return
    try:
        found = _val_score(_stack(task, Evidence()).predict_logits(), task)
    except LipzooError:
        return  # the training has succeeded: this is a remark beside it
    if found > metrics[name]:
        say(
            verbose,
            f"{task.name}: the closed-form stack, without training, has {name} {found:.4f}; "
            "start='stack' begins there (--start stack)",
            "behind_stack",
            metric=name,
            stack=found,
            model=metrics[name],
        )


def _stack(task: GraphTask, evidence: Evidence) -> ClosedFormStack:
    """The fitted stack, with these settings of the evidence."""
    settings = evidence.model_dump(include=set(Evidence.model_fields))
    return ClosedFormStack(**settings).fit(task)


def _val_score(logits: Tensor, task: GraphTask) -> float:
    """The task's metric on the validation nodes."""
    mask = task.val_mask.cpu()
    return score(logits[mask], task.labels.cpu()[mask], task.metric)
