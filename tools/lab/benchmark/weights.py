"""What the pretrained weights cost: a pass, a training step, memory; `speed_cpu.csv`."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

import lipzoo
from lab.benchmark.process import apart, growth_of, in_turns
from lipzoo._atomic import write_atomically
from lipzoo._tables import read_csv, to_csv
from lipzoo.encoding import encode_for
from lipzoo.errors import UnknownNameError, did_you_mean
from lipzoo.training.metrics import model_feat, task_loss

__all__ = ["BACKENDS", "measure_weights"]

#: Ours, and the same model through DGL's own kernels.
BACKENDS = ("auto", "dgl")
_REPEATS = 7


def measure_weights(
    file: Path, names: Sequence[str] = (), raw_dir: str | None = None, say: Callable = print
) -> None:
    """Write a row for each set of pretrained weights; each is measured in a process of its own.

    With ``names`` only those are, and the rows that the file has of the others stay.

    ``forward_ms`` is the median of 7 passes without gradients, ``step_ms`` of 7 training steps
    (forward, backward, Adam) on all nodes of the card's graph, with one thread; ``peak_mib`` is
    what a step holds at its peak above what the process holds before it. ``dgl_…`` is the same
    model with ``backend="dgl"``, measured in turns with ours. A body without a head is given one.
    """
    known = lipzoo.list_models(pretrained=True)
    for name in names:
        if name not in known:
            raise UnknownNameError(f"no pretrained weights {name!r}{did_you_mean(name, known)}")
    kept = {row["name"]: row for row in read_csv(file)} if names and file.is_file() else {}
    for name in names or known:
        kept[name] = row = apart(_row, raw_dir, name)
        write_atomically(file, to_csv([kept[each] for each in known if each in kept]))
        say(f"{name}: {row['forward_ms']} ms, {row['step_ms']} ms")


def _row(raw_dir: str | None, name: str) -> dict[str, object]:
    torch.manual_seed(0)
    models = {backend: lipzoo.load_pretrained(name, backend=backend) for backend in BACKENDS}
    card = models["auto"].card
    data = next(iter(card.pretrained_on), card.dataset)
    name_of_data, options = data.name, data.options
    if card.reads_context:  # any graph will do
        name_of_data, options = "digits", {}
    task = lipzoo.load_dataset(name_of_data, raw_dir=raw_dir, **options)
    task = encode_for(models["auto"], task)
    passes, steps, times, peaks = {}, {}, {}, {}
    for backend, model in models.items():
        if not (model.num_classes or card.reads_context):
            model.reset_classifier(task.num_classes)
        passes[backend] = partial(_forward, model, task)
        steps[backend] = _training_step(model, task)
    for what, actions in {"forward": passes, "step": steps}.items():
        turns = in_turns(actions, _REPEATS)
        times[what] = {backend: statistics.median(turns[backend]) for backend in BACKENDS}
    for backend, step in steps.items():
        growth = growth_of(step)
        peaks[backend] = "" if growth is None else round(growth / 1024)
    row = {
        "name": name,
        "dataset": name_of_data,
        "num_nodes": task.graph.num_nodes(),
        "num_edges": task.graph.num_edges(),
        "num_layers": models["auto"].num_layers,
    }
    for prefix, backend in (("", "auto"), ("dgl_", "dgl")):
        row |= {f"{prefix}{what}_ms": round(1000 * times[what][backend], 1) for what in times}
        row[f"{prefix}peak_mib"] = peaks[backend]
    return row


def _forward(model, task) -> None:
    model.eval()
    with torch.no_grad():
        model(task.graph, model_feat(model, task))


def _training_step(model, task) -> Callable[[], None]:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)

    def step() -> None:
        model.train()
        logits = model(task.graph, model_feat(model, task))
        optimizer.zero_grad()
        labels = task.labels[task.train_mask]
        task_loss(logits[task.train_mask], labels, task.multilabel).backward()
        optimizer.step()

    return step
