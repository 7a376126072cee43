"""Speed and memory of the backends beside their peers, as ratios in one run."""

from lipzoo.benchmark.cases import Case, default_cases
from lipzoo.benchmark.run import run_benchmark

__all__ = ["Case", "default_cases", "run_benchmark"]
