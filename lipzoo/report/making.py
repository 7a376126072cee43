"""All parts of a report, one after the other, and how they are written."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lipzoo._figures import need
from lipzoo._json import plain
from lipzoo._output import OutputFolder
from lipzoo._page import Section, files_of, page
from lipzoo._progress import Verbose, stage
from lipzoo._torch import evaluating
from lipzoo._writing import writing
from lipzoo.datasets import GraphTask
from lipzoo.datasets.loading import as_task
from lipzoo.encoding import encode_for
from lipzoo.errors import DataError, LipzooError
from lipzoo.models import check_has_head
from lipzoo.report import layers, predictions
from lipzoo.report.subject import Subject, split_if_labelled
from lipzoo.training.metrics import check_labels, with_classes_of

__all__ = ["SECTIONS", "Report", "make_report"]

#: By name: the heading, and what makes it.
_MAKERS: dict[str, tuple[str, Callable[[Subject], Section | list[Section]]]] = {
    "figures": ("Figures", predictions.figures),
    "curves": ("Training curves", predictions.curves),
    "confusion": ("Confusion matrix", predictions.confusion),
    "calibration": ("Calibration", predictions.calibration),
    "degree": ("Accuracy by degree", predictions.degree),
    "homophily": ("Accuracy by neighbourhood homophily", predictions.homophily),
    "embedding": ("Embedding", predictions.embedding),
    "attention": ("Attention around nodes", layers.attention),
    "gradients": ("Gradient norm by layer", layers.gradients),
    "entropy": ("Attention entropy by layer", layers.entropy),
    "bound": ("Lipschitz bound and certified radii", layers.bound),
}
#: The parts of a report, by name; certified radii come with the bound.
SECTIONS = (*_MAKERS, "radii")

PAGE_FILE, FIGURES_FILE = "report.html", "report.json"


@dataclass(frozen=True)
class Report:
    """What :func:`make_report` made.

    Parameters
    ----------
    title : str
        Model and data.
    facts : dict
        Name, data, split, number of nodes, seed.
    sections : list of Section
        One for each of ``SECTIONS``; where there is nothing to draw it says why.
    """

    title: str
    facts: dict[str, Any]
    sections: list[Section] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """All figures as plain values for JSON; ``not_drawn`` says why a part is not there."""
        parts = {}
        for section in self.sections:
            is_there = section.pictures or section.tables
            parts[section.name] = section.facts if is_there else {"not_drawn": section.words}
        pictures = [each for section in self.sections for each in section.pictures]
        files = [PAGE_FILE, *(name for each in pictures for name in each.names)]
        return plain({**self.facts, "sections": parts, "files": files})

    def write(self, folder: str | os.PathLike, overwrite: bool = False) -> Path:
        """Write ``report.html``, an SVG and a PNG a picture and, last, ``report.json``.

        Where that is absent, a process was killed while it wrote the others.

        Raises
        ------
        OutputError
            If the folder holds something and ``overwrite`` is false, or cannot be written.
        """
        files = files_of(self.sections)
        content = self.to_dict()
        text = page(self.title, self._words(), self.sections, files)
        files = {**files, PAGE_FILE: text.encode("utf-8")}
        files[FIGURES_FILE] = f"{json.dumps(content, indent=2, ensure_ascii=False)}\n".encode()
        with writing(folder):
            output = OutputFolder(folder)
            return output.fill(files, overwrite, _pictures_of(output.path / FIGURES_FILE))

    def _words(self) -> list[str]:
        facts = self.facts
        seed = "" if facts["weights_seed"] is None else f" Weights of seed {facts['weights_seed']}."
        return [
            f"{facts['nodes']:,} nodes, {facts['edges']:,} edges, {facts['classes']} "
            f"{'labels' if facts['multilabel'] else 'classes'}; {facts['parameters']:,} parameters."
            f"{seed}",
            f"Nodes that are looked at, where nothing else is said: {facts['split_nodes']:,} "
            f"labelled ones, split: {facts['split']}. {facts['split_note']} Samples are drawn with "
            f"seed {facts['seed']}.",
        ]


def _pictures_of(file: Path) -> set[str]:
    """The pictures of a report that was written before."""
    try:
        names = json.loads(file.read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    kinds = (".svg", ".png")
    return {n for n in names if isinstance(n, str) and Path(n).name == n and n.endswith(kinds)}


def make_report(
    model: nn.Module,
    task: GraphTask | Any,
    *,
    name: str = "",
    split: str = "test",
    nodes: Sequence[int] | Tensor | None = None,
    embedding: str = "tsne",
    sample: int = 800,
    radii: str = "auto",
    histories: Mapping[int, Sequence[Mapping[str, float]]] | None = None,
    best: Mapping[int, int] | None = None,
    note: str = "",
    seed: int = 0,
    verbose: Verbose = False,
) -> Report:
    """Pictures and figures of a model on a graph.

    Parameters
    ----------
    model : torch.nn.Module
        With the card that `load_pretrained` gives it, or without one. Left in the mode it was in.
    task : GraphTask, or anything that `lipzoo.datasets.as_task` takes
        Encoded here where the model's card says so. Labels are not needed; without them there is
        less to draw.
    name : str
        Of the model; by default that on the card, or its class.
    split : {"test", "val", "train", "all"}
        Nodes that predictions are judged on.
    nodes : sequence of int, optional
        Rows of the nodes whose attention is drawn; by default three are chosen.
    embedding : {"tsne", "pca"}
        How features become two dimensions.
    sample : int
        The most nodes that are embedded; of more, some are drawn at random.
    radii : {"auto", "yes", "no"}
        Whether radii are certified; by default where it takes no more than a minute or so.
    histories : mapping of int to sequence of dict, optional
        By seed, what was recorded of the training (``finetune(…).history``).
    best : mapping of int to int, optional
        By seed, the epoch whose weights were kept.
    note : str
        What training the histories are of, or why there are none.
    seed : int
        Of what is drawn at random.
    verbose : bool or "json"
        Say on stderr what is being made, where it takes a while.

    Raises
    ------
    ConfigError
        If the model is a body without a head, an option is unknown, or matplotlib or networkx is
        not installed.
    DataError
        If the graph does not fit the model, or has labels that it does not know.
    """
    need("matplotlib.figure"), need("networkx")
    check_has_head(model, name)
    card = getattr(model, "card", None)
    name = name or (card.full_name if card is not None else type(model).__name__)
    task = split_if_labelled(lambda required: as_task(task, required))
    task = with_classes_of(model, task)
    subject = Subject(
        model,
        encode_for(model, task),
        name,
        split=split,
        seed=seed,
        sample=sample,
        method=embedding,
        chosen=_rows(nodes, task),
        histories=histories or {},
        best=best or {},
        note=note,
        radii=radii,
    )
    sections: list[Section] = []
    with evaluating(model):
        if subject.known.any():
            check_labels(subject.task, subject.multilabel, subject.num_classes)
        for part, (title, make) in _MAKERS.items():
            with stage(verbose, f"drawing: {title.lower()}"):
                sections += _made(part, title, make, subject)
    facts = {
        "name": name,
        "dataset": task.name,
        "nodes": task.num_nodes,
        "edges": task.num_edges,
        "classes": subject.num_classes,
        "multilabel": subject.multilabel,
        "parameters": sum(p.numel() for p in model.parameters()),
        "weights_seed": card.weights.seed if card is not None else None,
        "split": split,
        "split_note": _split_note(model, task),
        "split_nodes": int(subject.mask_of(split).sum()),
        "seed": seed,
    }
    return Report(f"{name} on {task.name}", facts, sections)


def _made(
    part: str, title: str, make: Callable[[Subject], Section | list[Section]], subject: Subject
) -> list[Section]:
    """What is made, or, where there is nothing to draw, a section that says why."""
    try:
        made = make(subject)
    except LipzooError as fault:
        made = Section(part, title, f"Not drawn: {str(fault).rstrip('.')}.")
        if part == "bound":
            made = [made, Section("radii", "Certified radii", made.words)]
    return made if isinstance(made, list) else [made]


def _rows(nodes: Sequence[int] | Tensor | None, task: GraphTask) -> list[int]:
    found = [] if nodes is None else torch.as_tensor(nodes).flatten().tolist()
    for node in found:
        if not (isinstance(node, int) and 0 <= node < task.num_nodes):
            raise DataError(f"{task.name}: no node {node}; rows go from 0 to {task.num_nodes - 1}")
    return list(dict.fromkeys(found))


def _split_note(model: nn.Module, task: GraphTask) -> str:
    """What is to be known of a split that nobody gave."""
    if task.options.get("split") != "random":
        return ""
    words = f"It was drawn at random (split_seed {task.options.get('split_seed', 0)})"
    card = getattr(model, "card", None)
    if card is not None and card.dataset.fingerprint == task.fingerprint:
        return f"{words}, as for the training."
    return f"{words}: weights that learnt on this graph with another split have seen some of them."
