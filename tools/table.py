#!/usr/bin/env python3
"""Write the tables of README and docs: weights from their cards, the benchmark from its CSV."""

from pathlib import Path

from lab.benchmark import compilation_lines, ratio_table, read_rows
from lipzoo.info import pretrained_table

ROOT = Path(__file__).resolve().parents[1]


def benchmark_table() -> str:
    """What `results/benchmark/benchmark.csv` says, ratios first."""
    rows = list(read_rows(ROOT / "results/benchmark").values())
    return f"{ratio_table(rows)}\n\n{compilation_lines(rows)}".strip()


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
