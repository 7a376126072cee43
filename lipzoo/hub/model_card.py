"""The Hub's model card (``README.md`` with YAML metadata), written from ``card.yaml``."""

from __future__ import annotations

import math
from pathlib import PurePath

from huggingface_hub import EvalResult, ModelCardData

from lipzoo._tables import markdown_table, with_spread
from lipzoo._yaml import to_yaml
from lipzoo.card import Card, Summary

__all__ = ["model_card"]

# The Hub knows licences by these identifiers, and wants "other" with a name for the rest.
_LICENCES = {
    *("apache-2.0", "mit", "bsd", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0"),
    *("cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "gpl-2.0", "gpl-3.0", "agpl-3.0"),
    *("lgpl-3.0", "mpl-2.0", "unlicense", "isc", "openrail", "wtfpl", "zlib"),
}


def model_card(card: Card, repo_id: str) -> str:
    """The text of ``README.md`` in a repository on the Hugging Face Hub.

    Parameters
    ----------
    card : Card
        Of the checkpoint.
    repo_id : str
        ``user/name``.

    Returns
    -------
    str
        Metadata between ``---`` lines (licence, library, tags, ``model-index`` with the test
        metrics over the seeds), then the same for people.

    References
    ----------
    https://huggingface.co/docs/hub/model-cards
    """
    sections = [
        f"---\n{_metadata(card).to_yaml()}\n---",
        f"# {card.full_name}",
        card.description,
        f"`{card.architecture.model}` with {card.weights.num_parameters:,} parameters, trained "
        f"with [DGL](https://www.dgl.ai) on {_dataset(card)}."
        + (f" Source: {card.source}." if card.source else ""),
        "## Use",
        "```\npip install 'lipzoo[hub]'\n```",
        f'```python\nimport lipzoo\n\nmodel = lipzoo.load_pretrained("hf-hub:{repo_id}")\n```',
        "The SHA-256 of the weights, which loading checks against `card.yaml`: "
        f"`{card.weights.sha256}`.",
        *_figures(card),
        *_bound(card),
        "## Architecture",
        _fenced(card.architecture.model_dump(mode="json")),
        "## Data",
        *(
            _fenced(entry.model_dump(mode="json", exclude_none=True))
            for entry in card.pretrained_on or [card.dataset]
        ),
        *_reading(card),
    ]
    if card.recipe:
        is_replayed = "architecture" in card.recipe
        command = "python tools/pretrain.py" if card.pretrained_on else "lipzoo train"
        sections += [
            "## Recipe" if is_replayed else "## How it was fine-tuned",
            f"`{command} card.yaml --out DIR` replays it." if is_replayed else "",
            _fenced(card.recipe),
        ]
    if card.versions:
        versions = ", ".join(f"{name} {version}" for name, version in card.versions.items())
        sections.append(f"Trained with {versions}.")
    sections.append(f"Licence: {card.licence}.")
    return "\n\n".join(section for section in sections if section) + "\n"


def _metadata(card: Card) -> ModelCardData:
    licence = card.licence.lower()
    licensing = (
        {"license": licence}
        if licence in _LICENCES
        else {"license": "other", "license_name": licence.replace(" ", "-")}
    )
    results = [
        EvalResult(
            task_type="node-classification",
            task_name="Node classification",
            dataset_type=_dataset(card),
            dataset_name=_dataset(card),
            dataset_split="test",
            metric_type=name.removeprefix("test_"),
            metric_name=f"{name.removeprefix('test_')}, mean of {len(summary.values)} seed(s)",
            metric_value=round(summary.mean, 6),
        )
        for name, summary in card.metrics.items()
        if name.startswith("test_") and name != "test_loss" and math.isfinite(summary.mean)
    ]
    return ModelCardData(
        **licensing,
        library_name="lipzoo",
        pipeline_tag="graph-ml",
        tags=["dgl", "graph-neural-networks", "graph-attention", "lipschitz", card.name],
        metrics=sorted({result.metric_type for result in results}) or None,
        model_name=card.full_name,
        eval_results=results or None,
    )


def _dataset(card: Card) -> str:
    """Names of the data, which for a graph of one's own is a path."""
    entries = card.pretrained_on or [card.dataset]
    return ", ".join(PurePath(entry.name).name for entry in entries)


def _reading(card: Card) -> list[str]:
    if card.reads_context:
        words = (
            "They read what the labels of a task's training nodes say, and no features of a width "
            "of their own: `evaluate` and `predict` take any graph, without training."
        )
        return ["## Features", words, _fenced(card.encoding)]
    if card.start is not None:
        words = (
            "They read, beside the features, what the labels of the training nodes say, and "
            "correct it: `evaluate`, `predict` and `finetune` need those labels, and compute it."
        )
        return ["## Features", words, _fenced(card.start.model_dump())]
    if not card.encoding:
        return []
    words = "They read encoded features; `finetune`, `evaluate` and `predict` encode a raw task:"
    return ["## Features", words, _fenced(card.encoding)]


def _figures(card: Card) -> list[str]:
    """A table of the metrics over the seeds, those of the baselines beside them."""
    columns = {"this recipe": card.metrics, **card.baselines}
    rows = [name for name in card.metrics if any(name in column for column in columns.values())]
    if not rows:
        return []
    heads = ["metric", *(name.replace("_", " ") for name in columns)]
    cells = [
        [row.replace("_", " "), *(_cell(column.get(row)) for column in columns.values())]
        for row in rows
    ]
    seeds = f"{', '.join(map(str, card.seeds))}{card.words_per_seed}"
    chosen = ", ".join(f"{n.replace('_', ' ')} {v:.4f}" for n, v in card.weights.metrics.items())
    return [
        "## Figures",
        f"Mean ± standard deviation over the seeds {seeds}.",
        "\n".join(markdown_table(heads, cells)),
        f"These weights (seed {card.weights.seed}): {chosen}." if chosen else "",
    ]


def _cell(summary: Summary | None) -> str:
    if summary is None:
        return "-"
    return with_spread(summary.mean, summary.std, len(summary.values))


def _bound(card: Card) -> list[str]:
    if card.lipschitz is None or card.lipschitz.bound is None:
        return []
    return [
        f"Proven Lipschitz bound on this data (Frobenius norms): {card.lipschitz.bound:.4g}; "
        "`lipzoo certify` derives it again."
    ]


def _fenced(content: dict) -> str:
    return f"```yaml\n{to_yaml(content).decode().rstrip()}\n```"
