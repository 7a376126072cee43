"""A stack of models on a device, with the state of its training; :mod:`.together` runs it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from lipzoo.attention import as_structure
from lipzoo.nn.dropout import Dropout
from lipzoo.training.loop import make_optimizer
from lipzoo.training.metrics import only_class, score, selection_key, smooth, warn_if_diverged
from lipzoo.training.recipe import Schedule
from lipzoo.training.schedules import make_scheduler
from lipzoo.training.stopping import Chosen

__all__ = ["Stack", "has_own_rate"]


def has_own_rate(name: str, module: nn.Module) -> bool:
    """Whether it is a dropout whose rate may be another in each model."""
    return isinstance(module, Dropout) and name.split(".")[-1] not in ("attn_drop", "node_drop")


class _RatedDropout(nn.Module):
    """Dropout whose rate is a buffer, so that each model of a stack has its own."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.register_buffer("kept", torch.tensor(1 - p))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        return x * (torch.rand_like(x) < self.kept) / self.kept


def _with_rates(models: Sequence[nn.Module]) -> list[nn.Module]:
    """Copies of the models, where dropouts whose rates differ have them as buffers."""
    rated = [copy.deepcopy(model) for model in models]
    for name, module in models[0].named_modules(remove_duplicate=False):
        if not has_own_rate(name, module) or len({m.get_submodule(name).p for m in models}) == 1:
            continue
        parent, _, last = name.rpartition(".")
        for model in rated:
            rate = model.get_submodule(name).p
            setattr(model.get_submodule(parent), last, _RatedDropout(rate))
    return rated


@dataclass
class _Nodes:
    """A node set of each model: weights (R, N) whose rows sum to 1, and indices."""

    weight: Tensor
    index: list[Tensor]

    @classmethod
    def of(cls, tasks, split: str, device) -> _Nodes:
        masks = torch.stack([getattr(task, f"{split}_mask") for task in tasks]).to(device)
        weight = masks.double() / masks.sum(1, keepdim=True)
        return cls(weight, [mask.nonzero().squeeze(1) for mask in masks])


class Stack:
    """R models on a device, with the state of their training."""

    def __init__(self, models, tasks, settings, device: torch.device) -> None:
        self.size, self.settings = len(models), settings
        self.tasks, self.task = tasks, tasks[0]
        rated = _with_rates(models)
        params, buffers = stack_module_state(rated)
        self.params = {k: t.detach().to(device).requires_grad_() for k, t in params.items()}
        self.buffers = {k: t.to(device) for k, t in buffers.items()}
        self.model = rated[0].to(device)
        if getattr(self.model, "checkpoint_layers", False):
            self.model.checkpoint_layers = False  # vmap cannot run a layer again; the values stay
        self.feat = self.task.feat.to(device)
        self.labels = self.task.labels.to(device)
        if not self.task.multilabel:
            self.labels = self.labels.clamp(min=0)  # nodes without a label are in no split
        self.structure = as_structure(self.task.graph)
        self.options = {}
        if getattr(self.model, "edge_feats", 0) and self.task.edge_feat is not None:
            self.options["edge_feat"] = self.task.edge_feat.to(device)
        self.nodes = {split: _Nodes.of(tasks, split, device) for split in ("train", "val", "test")}
        self._read_optimizers(models, settings, device)
        self.chosen = [Chosen() for _ in range(self.size)]
        self.average: dict[str, Tensor] | None = None
        self.best = {k: t.detach().clone() for k, t in self._state().items()}
        self.is_done = torch.zeros(self.size, dtype=torch.bool)

    def _state(self) -> dict[str, Tensor]:
        """What is judged: parameters and buffers, or their averages."""
        return {**self.params, **self.buffers} if self.average is None else self.average

    def _read_optimizers(self, models, settings, device) -> None:
        """Learning rates (epochs, R) and weight decays of each parameter (R,), as `fit` has them.

        A step of Adam is proportional to its learning rate: the stack's is taken with the rate 1,
        then each model's share of it.
        """
        decays: dict[str, list[float]] = {name: [] for name in self.params}
        for model, one in zip(models, settings, strict=True):
            groups = make_optimizer(model, one.optimizer).param_groups
            decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
            for name, parameter in model.named_parameters():
                decays[name].append(decay[id(parameter)])
        # The seeds of a recipe share one list.
        rates = cache(_learning_rates)
        self.rates = torch.tensor(
            [rates(one.optimizer.lr, one.schedule, one.epochs) for one in settings],
            dtype=torch.float64,
        ).t()
        self.decays = {
            name: torch.tensor(d, dtype=torch.float64).to(device) for name, d in decays.items()
        }
        self.is_decoupled = settings[0].optimizer.name == "adamw"
        self.optimizer = torch.optim.Adam(list(self.params.values()), lr=1.0)

    def logits(self, training: bool) -> Tensor:
        """(R, N, C); in evaluation mode of what is judged."""
        self.model.train(training)
        params, buffers = self.params, self.buffers
        if not training:
            state = self._state()
            params, buffers = ({k: state[k] for k in part} for part in (params, buffers))

        def one(params, buffers):
            inputs = self.structure, self.feat
            return functional_call(self.model, (params, buffers), inputs, self.options)

        return vmap(one, randomness="different")(params, buffers)

    def losses(self, logits: Tensor, split: str, smoothing: float = 0.0) -> Tensor:
        """Mean loss over the nodes of each model, (R,)."""
        flat = logits.flatten(0, 1)
        if self.task.multilabel:
            labels = smooth(self.labels.to(flat.dtype), smoothing).repeat(self.size, 1)
            each = F.binary_cross_entropy_with_logits(flat, labels, reduction="none").mean(1)
        else:
            labels = self.labels.repeat(self.size)
            each = F.cross_entropy(flat, labels, reduction="none", label_smoothing=smoothing)
        weight = self.nodes[split].weight.to(each.dtype)
        # What is not of the split counts nothing, even where it is no number.
        return (each.view(self.size, -1).masked_fill(weight == 0, 0) * weight).sum(1)

    def train_epoch(self, epoch: int) -> Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        smoothing = self.settings[0].label_smoothing
        losses = self.losses(self.logits(training=True), "train", smoothing)
        losses.sum().backward()
        self._step(self.rates[epoch - 1].masked_fill(self.is_done, 0).to(losses.device))
        if self.settings[0].ema_decay is not None:
            self._add_to_average(self.settings[0].ema_decay)
        return losses.detach()

    @torch.no_grad()
    def _step(self, rates: Tensor) -> None:
        if self.settings[0].grad_clip is not None:
            self._clip(self.settings[0].grad_clip)
        before = {name: p.detach().clone() for name, p in self.params.items()}
        if not self.is_decoupled:
            for name, p in self._moving():
                p.grad += _along(self.decays[name], p).to(p.dtype) * before[name]
        self.optimizer.step()
        for name, p in self._moving():
            step = p - before[name]
            if self.is_decoupled:
                step -= _along(self.decays[name], p).to(p.dtype) * before[name]
            rate = _along(rates, p).to(p.dtype)
            # A model that has diverged and is over must not move either: 0 * nan is nan.
            p.copy_(torch.where(rate == 0, before[name], before[name] + rate * step))

    def _moving(self) -> list[tuple[str, Tensor]]:
        """The parameters that the loss depends on."""
        return [(name, p) for name, p in self.params.items() if p.grad is not None]

    @torch.no_grad()
    def _add_to_average(self, decay: float) -> None:
        state = {**self.params, **self.buffers}
        if self.average is None:
            self.average = {name: t.detach().clone() for name, t in state.items()}
            return
        for name, tensor in state.items():
            if tensor.is_floating_point():
                self.average[name].lerp_(tensor.detach(), 1 - decay)
            else:
                self.average[name].copy_(tensor)

    def _clip(self, largest: float) -> None:
        grads = [p.grad for _, p in self._moving()]
        total = torch.stack([g.flatten(1).square().sum(1) for g in grads]).sum(0).sqrt()
        share = (largest / (total + 1e-6)).clamp(max=1)
        for g in grads:
            g *= _along(share, g)

    @torch.no_grad()
    def evaluate(self, epoch: int, train_losses: Tensor) -> list[dict[str, float]]:
        logits = self.logits(training=False)
        losses, scores = self.losses(logits, "val").tolist(), self._scores(logits, "val")
        rates, metric = self.rates[epoch - 1].tolist(), f"val_{self.task.metric}"
        return [
            {"epoch": epoch, "lr": lr, "train_loss": train, metric: value, "val_loss": loss}
            for lr, train, value, loss in zip(
                rates, train_losses.tolist(), scores, losses, strict=True
            )
        ]

    def _scores(self, logits: Tensor, split: str) -> list[float]:
        nodes = self.nodes[split]
        if self.task.metric == "accuracy":
            is_right = (logits.argmax(-1) == self.labels).double() * (nodes.weight > 0)
            return (is_right.sum(1) / (nodes.weight > 0).sum(1)).tolist()
        if self.task.metric == "roc_auc" and not self.task.multilabel:
            margin = (logits[..., 1] - logits[..., 0]).nan_to_num()
            areas = [_roc_auc(margin[r][i], self.labels[i]) for r, i in enumerate(nodes.index)]
            return torch.stack(areas).tolist()
        return [
            score(logits[r][i], self.labels[i], self.task.metric) for r, i in enumerate(nodes.index)
        ]

    def keep_best(self, epoch: int, rows: list[dict[str, float]]) -> None:
        is_better = torch.zeros(self.size, dtype=torch.bool)
        for r, (row, one) in enumerate(zip(rows, self.settings, strict=True)):
            if not self.is_done[r]:
                key = selection_key(row, self.task.metric, one.early_stopping.monitor)
                is_better[r] = self.chosen[r].judge(epoch, key)
        is_better = is_better.to(self.feat.device)
        for name, tensor in self._state().items():
            best = self.best[name]
            best.copy_(torch.where(_along(is_better, best), tensor.detach(), best))

    def is_over(self, epoch: int) -> bool:
        """Whether all models have stopped, after so many epochs."""
        for r, one in enumerate(self.settings):
            if self.chosen[r].is_over(epoch, one.early_stopping):
                self.is_done[r] = True
        return bool(self.is_done.all())

    @torch.no_grad()
    def finish(
        self, models, splits: tuple[str, ...]
    ) -> tuple[list[dict[str, float]], list[int | None]]:
        """Put the best weights into the models; their metrics, and where each predicts one class
        for every node, which.
        """
        self.average = self.best
        logits = self.logits(training=False)
        state = {name: t.cpu() for name, t in self.best.items()}
        for r, model in enumerate(models):
            # A tensor with two names has one here.
            model.load_state_dict({name: t[r] for name, t in state.items()}, strict=False)
            model.eval()
        metrics: list[dict[str, float]] = [{} for _ in models]
        for split in splits:
            losses = self.losses(logits, split).tolist()
            for r, (index, loss) in enumerate(zip(self.nodes[split].index, losses, strict=True)):
                value = score(logits[r][index], self.labels[index], self.task.metric)
                metrics[r][f"{split}_{self.task.metric}"] = value
                metrics[r][f"{split}_loss"] = loss
        for each, task in zip(logits, self.tasks, strict=True):
            warn_if_diverged(each, task.name)
        only = [only_class(each, task) for each, task in zip(logits, self.tasks, strict=True)]
        return metrics, only


def _learning_rates(lr: float, schedule: Schedule, epochs: int) -> list[float]:
    """Of each epoch."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=lr)
    scheduler = make_scheduler(optimizer, schedule, epochs)
    rates = []
    for _ in range(epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def _along(values: Tensor, like: Tensor) -> Tensor:
    """(R,) to (R, 1, …), beside a stack."""
    return values.view(-1, *[1] * (like.dim() - 1))


def _roc_auc(margin: Tensor, labels: Tensor) -> Tensor:
    """The share of pairs of a 1 and a 0 that are in order; a tie counts half."""
    others = margin[labels == 0].sort().values
    ones = margin[labels == 1]
    below = torch.searchsorted(others, ones) + torch.searchsorted(others, ones, right=True)
    return below.double().mean() / (2 * len(others))
