#!/usr/bin/env python3
"""Write the tables of README and docs: weights from their cards, the benchmark from its CSV.

And `results/models.csv`, a row a set of weights, from the cards.
"""

import json
from pathlib import Path

import lipzoo
from lab.benchmark import compilation_lines, ratio_table, read_rows
from lipzoo._tables import to_csv
from lipzoo.card import Summary
from lipzoo.info import decisive, pretrained_table
from lipzoo.registry import find_checkpoint

ROOT = Path(__file__).resolve().parents[1]


def benchmark_table() -> str:
    """What `results/benchmark/benchmark.csv` says, ratios first."""
    rows = list(read_rows(ROOT / "results/benchmark").values())
    return f"{ratio_table(rows)}\n\n{compilation_lines(rows)}".strip()


def models_csv() -> bytes:
    """All pretrained weights: figures are fractions, means over the seeds; none for a body."""
    return to_csv([_model_row(name) for name in lipzoo.list_models(pretrained=True)])


def _model_row(name: str) -> dict[str, object]:
    card = find_checkpoint(name).card
    metric = decisive(card)
    row = {
        "name": name,
        "dataset": " ".join(entry.name for entry in card.pretrained_on or [card.dataset]),
        "options": json.dumps(card.recipe.get("dataset", {})),
        "model": card.architecture.model,
        "num_layers": card.architecture.args["num_layers"],
        "num_parameters": card.weights.num_parameters,
        "num_bytes": card.weights.num_bytes,
        "metric": metric,
        "num_seeds": len(card.seeds),
    }
    for split in ("val", "test"):
        found = _figures(card.metrics.get(f"{split}_{metric}"))
        row |= {f"{split}_{key}": figure for key, figure in found.items()}
    baselines = {name: _figures(of[f"test_{metric}"]) for name, of in card.baselines.items()}
    row["test_of_baselines"] = json.dumps(baselines)
    row["bound_per_node"] = card.lipschitz.bound_per_node if card.lipschitz else ""
    row["sha256"] = card.weights.sha256
    return row


def _figures(found: Summary | None) -> dict[str, float | str]:
    return {key: round(getattr(found, key), 5) if found else "" for key in ("mean", "std")}


#: Where a table stands, and what makes it.
TABLES = {
    "README.md": ("pretrained", pretrained_table),
    "docs/backends.md": ("benchmark", benchmark_table),
}


def with_table(file: str) -> str:
    """The text of ``file`` with what stands between its markers made anew."""
    name, make = TABLES[file]
    begin, end = f"<!-- {name}: begin (tools/table.py writes this) -->", f"<!-- {name}: end -->"
    before, rest = (ROOT / file).read_text(encoding="utf-8").split(begin)
    _, after = rest.split(end)
    return f"{before}{begin}\n{make()}\n{end}{after}"


if __name__ == "__main__":
    for file in TABLES:
        (ROOT / file).write_text(with_table(file), encoding="utf-8")
    (ROOT / "results/models.csv").write_bytes(models_csv())
