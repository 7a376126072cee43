#!/usr/bin/env python3
"""Write the README's tables: pretrained weights from their cards, the benchmark from its CSV."""

from pathlib import Path

from lab.benchmark import compilation_lines, ratio_table, read_rows
from lipzoo.info import pretrained_table

ROOT = Path(__file__).resolve().parents[1]


def benchmark_table() -> str:
    """What `results/benchmark/benchmark.csv` says, ratios first."""
    rows = list(read_rows(ROOT / "results/benchmark").values())
    return f"{ratio_table(rows)}\n\n{compilation_lines(rows)}".strip()


TABLES = {"pretrained": pretrained_table, "benchmark": benchmark_table}


def with_table(text: str) -> str:
    """``text`` with what stands between each pair of markers replaced."""
    for name, make in TABLES.items():
        begin, end = f"<!-- {name}: begin (tools/table.py writes this) -->", f"<!-- {name}: end -->"
        before, rest = text.split(begin)
        _, after = rest.split(end)
        text = f"{before}{begin}\n{make()}\n{end}{after}"
    return text


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(with_table(readme.read_text(encoding="utf-8")), encoding="utf-8")
