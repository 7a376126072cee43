"""What a model predicts, held against the labels, as parts of a report."""

from __future__ import annotations

from collections.abc import Sequence

from sklearn.metrics import precision_recall_fscore_support

from lipzoo import plots
from lipzoo._page import Picture, Section, Table, cell
from lipzoo._tables import with_spread
from lipzoo.errors import DataError
from lipzoo.plots.curves import column_words
from lipzoo.plots.neighbours import Group
from lipzoo.plots.style import tidy
from lipzoo.report.subject import Absent, Subject
from lipzoo.training.metrics import measure
from lipzoo.weights.curve import losses_words

__all__ = ["calibration", "confusion", "curves", "degree", "embedding", "figures", "homophily"]

#: Classes up to which the counts themselves stand in a table.
_COUNTED = 12


def figures(subject: Subject) -> Section:
    """The metrics of each split, measured now, and those on the card."""
    task, card = subject.task, getattr(subject.model, "card", None)
    measured = {}
    for split in ("train", "val", "test"):
        if subject.mask_of(split).any():
            try:
                measured |= measure(subject.logits.to(task.labels.device), task, (split,))
            except DataError:  # a metric that is not defined on these nodes
                continue
    known = card.metrics if card is not None else {}
    if not measured and not known:
        raise Absent("no node of the data has a label and a split, and nothing was measured before")
    heads, words = ["metric", "these weights"], ""
    if known:
        heads.append(f"card, {len(card.seeds)} seed{'s' * (len(card.seeds) != 1)}")
        words = (
            " Beside it the mean and the standard deviation over the seeds, as on the card, of the "
            "data that the weights were trained on."
        )
    rows = []
    for name in {**measured, **known}:
        row = [name.replace("_", " "), f"{measured[name]:.4f}" if name in measured else "-"]
        if name in known:
            row.append(with_spread(known[name].mean, known[name].std, len(known[name].values)))
        elif known:
            row.append("-")
        rows.append(row)
    sizes = [f"{int(subject.mask_of(s).sum()):,} {s}" for s in ("train", "val", "test")]
    words = f"Measured on the labelled nodes of each split ({', '.join(sizes)}).{words}"
    return Section("figures", "Figures", words, (), (Table("Metrics", heads, rows),), measured)


def curves(subject: Subject) -> Section:
    """Loss and metric over the epochs, a line a seed."""
    histories = subject.histories
    if not histories:
        raise Absent(
            subject.note
            or "no curve of the training was given; the folder that `lipzoo train --out` or "
            "`lipzoo finetune --out` wrote holds one, and a report on that draws it"
        )
    metrics = [key for rows in histories.values() for key in rows[0] if key.startswith("val_")]
    metric = next((key for key in metrics if key != "val_loss"), None)
    columns = [["train_loss"], ["val_loss"], *([[metric]] if metric else [])]
    drawn = [each for (each,) in columns if _has_values(histories, each)]
    if not drawn:
        raise Absent("no finite loss was recorded: the network diverged in the first epoch")
    pictures = []
    losses = [each for each in drawn if each.endswith("_loss")]
    for name, group in (("curves_loss", losses), ("curves_metric", [metric])):
        if group and set(group) <= set(drawn):
            axes = plots.training_curves(histories, group, best=subject.best)
            words = " and ".join(column_words(each) for each in group).capitalize()
            count = f"{len(histories)} seed{'s' * (len(histories) > 1)}"
            alt = f"{words} over the epochs, {count}."
            pictures.append(Picture(name, axes, alt))
    rows, facts = [], {}
    for seed, history in histories.items():
        epoch = subject.best.get(seed)
        at = next((row for row in history if row["epoch"] == epoch), history[-1])
        rows.append((str(seed), *(cell(x) for x in (int(history[-1]["epoch"]), epoch))))
        rows[-1] += tuple(cell(at.get(each)) for each in drawn)
        facts[str(seed)] = {"epochs": int(history[-1]["epoch"]), "best_epoch": epoch}
        facts[str(seed)] |= {each: at.get(each) for each in drawn}
    heads = ("seed", "epochs", "best epoch", *(each.replace("_", " ") for each in drawn))
    count = len(histories)
    words = subject.note or f"Recorded while one seed was trained. {losses_words()}"
    if count > 1:
        words = (
            f"Recorded while {count} seeds were trained: thin lines are seeds, thick ones their "
            f"mean, as far as all of them went. {losses_words()}"
        )
    words += " Dots mark the epoch whose weights were kept."
    table = Table("At the epoch that was kept", heads, rows)
    return Section("curves", "Training curves", words, pictures, (table,), {"seeds": facts})


def _has_values(histories, column: str) -> bool:
    rows = [{**row} for history in histories.values() for row in history]
    return any(abs(row.get(column, float("inf"))) < float("inf") for row in rows)


def confusion(subject: Subject) -> Section:
    """Which classes are taken for which."""
    mask, count = subject.mask, int(subject.mask.sum())
    if subject.multilabel:
        raise Absent(
            "a node may have several labels: none of them is mistaken for another, each is decided "
            "for itself"
        )
    subject.check_finite(subject.logits, "the logits")
    truth, predicted = subject.labels[mask], subject.logits[mask].argmax(1)
    counts = plots.confusion_counts(truth, predicted, subject.num_classes)
    names = tidy(subject.classes, subject.num_classes)
    precision, recall, f1, support = precision_recall_fscore_support(
        truth.numpy(), predicted.numpy(), labels=range(len(names)), zero_division=0
    )
    rows = [
        (name, cell(int(n)), *(f"{value:.3f}" for value in values))
        for name, n, *values in zip(names, support, precision, recall, f1)
    ]
    tables = [Table("By class", ("class", "nodes", "precision", "recall", "F1"), rows)]
    if len(names) <= _COUNTED:
        lines = [(name, *map(cell, line.tolist())) for name, line in zip(names, counts)]
        tables.append(Table("Nodes: true class by predicted", ("true", *names), lines))
    off = counts.copy()
    off[range(len(names)), range(len(names))] = 0
    worst = divmod(int(off.argmax()), len(names))
    common = (
        f" The most frequent mistake: {int(off[worst]):,} of class {names[worst[0]]} are taken for "
        f"{names[worst[1]]}."
        if off.any()
        else " There is no mistake."
    )
    words = (
        f"Each row is a true class, each column a predicted one, of the {count:,} {subject.words} "
        f"nodes; the diagonal is right.{common}"
    )
    alt = f"Confusion matrix of {len(names)} classes, {int(counts.trace()):,} of {count:,} right."
    picture = Picture("confusion", plots.confusion_matrix(counts, subject.classes), alt)
    facts = {"counts": counts.tolist(), "classes": names, "nodes": count}
    return Section("confusion", "Confusion matrix", words, (picture,), tables, facts)


def calibration(subject: Subject) -> Section:
    """A reliability diagram, and the expected calibration error."""
    confidence, right, _ = subject.decisions
    bins = plots.reliability(confidence, right)
    error = plots.expected_calibration_error(confidence, right)
    rows = [
        (f"{b.low:.2f}–{b.high:.2f}", cell(b.count), f"{b.confidence:.3f}", f"{b.accuracy:.3f}")
        for b in bins
    ]
    mean = float(confidence.mean()), float(right.double().mean())
    tends = "over" if mean[0] > mean[1] else "under"
    of = (
        f"the {len(right):,} decisions (node, label)" if subject.multilabel
        else f"the {len(right):,} {subject.words} nodes"
    )  # fmt: skip
    words = (
        f"The probability of what is predicted against how often it is right, on {of}, in 15 bins "
        f"of equal width. Expected calibration error {error:.4f}: the mean gap between the two. "
        f"The model is {tends}confident: {mean[0]:.3f} on average, and {mean[1]:.3f} is right."
    )
    alt = f"Reliability diagram, expected calibration error {error:.3f}."
    picture = Picture("calibration", plots.calibration(confidence, right), alt)
    table = Table("Bins", ("confidence", subject.unit, "mean confidence", "accuracy"), rows)
    facts = {
        "expected_calibration_error": error,
        "mean_confidence": mean[0],
        "accuracy": mean[1],
        subject.unit: len(right),
        "bins": [vars(each) for each in bins],
    }
    return Section("calibration", "Calibration", words, (picture,), (table,), facts)


def degree(subject: Subject) -> Section:
    """Accuracy by the number of in-neighbours."""
    _, right, nodes = subject.decisions
    groups = plots.by_degree(plots.node_degrees(subject.task.graph)[nodes], right)
    words = (
        f"Accuracy of the {subject.words} nodes by the number of in-edges from other nodes. Lines "
        "are 95 % intervals (Wilson): where they are long there are few nodes."
    )
    axes = plots.accuracy_by_degree(groups, unit=subject.unit)
    alt = "Accuracy by the number of in-neighbours of a node, with intervals."
    return _grouped(subject, "degree", "Accuracy by degree", words, axes, alt, groups, "degree")


def homophily(subject: Subject) -> Section:
    """Accuracy by the share of neighbours of the same class."""
    if subject.multilabel:
        raise Absent("a node may have several labels: neighbours are not of its class or another")
    share = plots.node_homophily(subject.task.graph, subject.labels)
    found, right = share[subject.mask], subject.right[subject.mask]
    groups = plots.by_homophily(found, right)
    without = int(found.isnan().sum())
    mean = float(share[~share.isnan()].mean())
    words = (
        f"Accuracy of the {subject.words} nodes by the share of their in-neighbours that have "
        f"their class, by the labels of all nodes (on average over the graph: {mean:.3f})."
        + (f" {without:,} nodes without a labelled neighbour are left out." if without else "")
    )
    axes = plots.accuracy_by_homophily(groups)
    alt = "Accuracy by the share of neighbours of the node's class, with intervals."
    title = "Accuracy by neighbourhood homophily"
    section = _grouped(subject, "homophily", title, words, axes, alt, groups, "homophily")
    section.facts.update(mean_homophily=mean, without_labelled_neighbour=without)
    return section


def _grouped(
    subject: Subject, name: str, title: str, words: str, axes, alt: str, groups: Sequence[Group],
    head: str,
) -> Section:  # fmt: skip
    rows = [
        (g.name, cell(g.count), f"{g.accuracy:.3f}", f"{g.low:.3f}–{g.high:.3f}") for g in groups
    ]
    table = Table(f"By {head}", (head, subject.unit, "accuracy", "95 % interval"), rows)
    found = [{"group": g.name, "count": g.count, "accuracy": g.accuracy} for g in groups]
    return Section(name, title, words, (Picture(name, axes, alt),), (table,), {"groups": found})


def embedding(subject: Subject) -> Section:
    """The nodes where the last layer puts them, in two dimensions."""
    from lipzoo.training.probe import frozen_feat

    if not hasattr(subject.model, "forward_features"):
        kind = type(subject.model).__name__
        raise Absent(f"{kind} has no method forward_features, which gives what the head reads")
    mask, whose = subject.shown
    nodes = subject.drawn(mask, subject.sample)
    feat = frozen_feat(subject.model, subject.task)[nodes.to(subject.task.device)].cpu()
    subject.check_finite(feat, "the features")
    points, method = plots.embed(feat, subject.method, subject.seed)
    classes, right, colours = None, None, "one colour, for a node may have several labels"
    if not subject.multilabel:
        classes, colours = subject.logits[nodes].argmax(1), "the predicted class"
        if subject.known[nodes].all():
            classes, colours = subject.labels[nodes], "the true class"
    if subject.known[nodes].all():
        right = subject.right[nodes]
    total, shown = int(mask.sum()), {"tsne": "t-SNE", "pca": "PCA"}[method]
    some = f"{len(nodes):,} of the {total:,}" if len(nodes) < total else f"the {total:,}"
    words = (
        f"What the head reads of {some} {whose} nodes ({feat.shape[1]} numbers each), brought to "
        f"two dimensions by {shown} (seed {subject.seed}). Colours and markers: {colours}."
        + (" Crosses: predicted wrong." if right is not None and not right.all() else "")
        + (" Distances between far groups mean little in t-SNE." if method == "tsne" else "")
    )
    if len(nodes) < total:
        words += " The nodes were drawn at random."
    axes = plots.embedding(points, classes, subject.classes, right=right)
    alt = f"{len(nodes):,} nodes in two dimensions by {shown}; colours: {colours}."
    facts = {"method": method, "nodes": len(nodes), "of": total, "seed": subject.seed}
    tables = []
    if classes is not None:
        names = tidy(subject.classes, subject.num_classes)
        rows = []
        for number in classes.unique().tolist():
            middle = points[(classes == number).numpy()].mean(0)
            count = int((classes == number).sum())
            rows.append((names[number], cell(count), *(f"{x:.2f}" for x in middle)))
        heads = ("class", "nodes", "first, mean", "second, mean")
        tables.append(Table("Where the classes lie", heads, rows))
    return Section(
        "embedding", "Embedding", words, (Picture("embedding", axes, alt),), tables, facts
    )
