"""Speed and memory of the backends beside their peers, as ratios in one run."""

from lab.benchmark.cases import Case, default_cases
from lab.benchmark.measurements import read_rows, run_benchmark
from lab.benchmark.report import compilation_lines, ratio_table, write_report

__all__ = [
    "Case",
    "compilation_lines",
    "default_cases",
    "ratio_table",
    "read_rows",
    "run_benchmark",
    "write_report",
]
