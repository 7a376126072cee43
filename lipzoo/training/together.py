"""Train many models of one shape on one graph at once: seeds, masks, learning rates, dropout rates.

One model of the zoo keeps a CPU busy and a GPU waiting: its kernels are over before the next one is
called. Here the parameters of R models are stacked (``torch.func.stack_module_state``), and each
operation is called once for all of them (``torch.func.vmap``); on a GPU a stack of 64 models takes
little more time than one. What is computed is what :func:`~lipzoo.training.loop.fit` computes for
each model alone, but for the masks of dropout and, on a GPU, for the order of sums, which is not
the same twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from lipzoo.attention import as_structure
from lipzoo.datasets import GraphTask
from lipzoo.encoding import encode_for
from lipzoo.errors import ConfigError
from lipzoo.training.loop import FitResult
from lipzoo.training.metrics import check_metric
from lipzoo.training.recipe import FitSettings
from lipzoo.training.stack import Stack, has_own_rate

__all__ = ["check_together", "fit_together", "shape_of"]

#: What all models of a stack have in common; the rest is each model's own.
_COMMON = ("epochs", "eval_every", "label_smoothing", "grad_clip", "ema_decay")


def shape_of(model: nn.Module, settings: FitSettings) -> tuple:
    """What models have to have in common to be trained together; hashable.

    All but the values of parameters and buffers, the rates of dropout between layers, learning
    rate, weight decay, schedule and early stopping.
    """
    modules = [
        (name, type(module), *_attributes(module, has_own_rate(name, module)))
        for name, module in model.named_modules()
    ]
    sizes = [(name, tuple(tensor.shape)) for name, tensor in model.state_dict().items()]
    common = [getattr(settings, name) for name in _COMMON]
    return (*modules, *sizes, *common, settings.optimizer.name)


def _attributes(module: nn.Module, is_rated: bool) -> list[tuple[str, str]]:
    """All that a module says of itself in plain values: numbers, names, flags and lists of them."""
    left_out = {"training", "p"} if is_rated else {"training"}
    plain = (bool, int, float, str, tuple, list, type(None))
    return sorted(
        (name, repr(value))
        for name, value in vars(module).items()
        if isinstance(value, plain) and name not in left_out
    )


def check_together(settings: FitSettings) -> None:
    """Refuse settings that only :func:`~lipzoo.training.loop.fit` trains with.

    Raises
    ------
    ConfigError
    """
    if settings.consistency is not None:
        raise ConfigError("consistency: cannot be trained together; leave it, or the device, out")
    if settings.batching.name != "full":
        raise ConfigError(
            f"batching: {settings.batching.name!r} cannot be trained together; leave it, or the "
            "device, out"
        )
    if settings.schedule.name == "plateau":
        raise ConfigError(
            "schedule: 'plateau' cannot be trained together; choose another, or leave the device "
            "out"
        )


def fit_together(
    models: Sequence[nn.Module],
    tasks: Sequence[GraphTask],
    settings: Sequence[FitSettings],
    *,
    device: torch.device | str = "cpu",
    on_evaluation: Callable[[int, list[dict[str, float]]], None] | None = None,
    splits: tuple[str, ...] = ("train", "val", "test"),
) -> list[FitResult]:
    """Train R models, each on its own masks; choose each one's epoch on its validation nodes.

    Parameters
    ----------
    models : sequence of R torch.nn.Module
        On the CPU, of one :func:`shape_of`; each then holds the weights of its best epoch, in
        evaluation mode.
    tasks : sequence of R GraphTask
        One graph with its features and labels; the masks may differ.
    settings : sequence of R FitSettings
    device : torch.device or str
        Where the stack is trained. DGL need not know it: only index tensors go there.
    on_evaluation : callable, optional
        Called with the epoch and the rows of the R histories.
    splits : tuple of {"train", "val", "test"}
        The node sets that the metrics at the end are of.

    Returns
    -------
    list of R FitResult

    Raises
    ------
    ConfigError
        If the models are not of one shape or frozen in part, the tasks not of one graph and
        features, or the settings ask for what only :func:`~lipzoo.training.loop.fit` does
        (consistency training, a schedule that waits for a plateau).
    DataError
        If the metric is not for the labels, or not defined on the nodes of a split.
    """
    _check_models(models, settings)
    tasks = _check_tasks(models, tasks)
    run = Stack(models, tasks, settings, torch.device(device))
    epoch = 0
    histories: list[list[dict[str, float]]] = [[] for _ in models]
    common = settings[0]
    while epoch < common.epochs and not run.is_over(epoch):
        epoch += 1
        losses = run.train_epoch(epoch)
        if epoch % common.eval_every == 0 or epoch == common.epochs:
            rows = run.evaluate(epoch, losses)
            for history, row, is_done in zip(histories, rows, run.is_done.tolist(), strict=True):
                if not is_done:
                    history.append(row)
            run.keep_best(epoch, rows)
            if on_evaluation is not None:
                on_evaluation(epoch, rows)
    metrics, only = run.finish(models, splits)
    epochs = [chosen.best_epoch for chosen in run.chosen]
    parts = zip(metrics, epochs, histories, only, strict=True)
    return [FitResult(*each) for each in parts]


def _check_models(models: Sequence[nn.Module], settings: Sequence[FitSettings]) -> None:
    if not models or len(models) != len(settings):
        raise ConfigError(
            f"{len(models)} models and {len(settings)} settings: give as many, at least one"
        )
    for one in settings:
        check_together(one)
    shapes = {shape_of(*pair) for pair in zip(models, settings, strict=True)}
    if len(shapes) > 1:
        raise ConfigError(
            f"the models are of {len(shapes)} shapes (shape_of): only those of one can be trained "
            "together"
        )
    if not all(p.requires_grad for model in models for p in model.parameters()):
        raise ConfigError("frozen parameters cannot be trained together: thaw them, or use fit")


def _check_tasks(models: Sequence[nn.Module], tasks: Sequence[GraphTask]) -> list[GraphTask]:
    """The tasks as the models read them."""
    if len(tasks) != len(models):
        raise ConfigError(f"{len(models)} models and {len(tasks)} tasks: give as many")
    for task in tasks:
        check_metric(task)
    tasks = [encode_for(model, task) for model, task in zip(models, tasks, strict=True)]
    if any(task.reads_labels for task in tasks):
        raise ConfigError("start: cannot be trained together; leave it, or the device, out")
    first, edges = tasks[0], as_structure(tasks[0].graph)
    reads_edges = bool(getattr(models[0], "edge_feats", 0))
    for task in tasks[1:]:
        own = as_structure(task.graph)
        pairs = [(task.feat, first.feat), (task.labels, first.labels)]
        pairs += [(own.src, edges.src), (own.dst, edges.dst)]
        pairs += [(task.edge_feat, first.edge_feat)] if reads_edges else []
        is_same = all(
            a is b or (a is not None and b is not None and torch.equal(a, b)) for a, b in pairs
        )
        if task.metric != first.metric or not is_same:
            raise ConfigError(
                f"{task.name}: has another graph, features, labels or metric than {first.name}; "
                "only the masks may differ"
            )
    return tasks
