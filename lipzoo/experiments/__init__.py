"""The paper's experiments: sweeps of models over depths and seeds, their tables and plots."""

from lipzoo.experiments.report import write_report
from lipzoo.experiments.sweep import Point, Sweep, list_sweeps, load_sweep
from lipzoo.experiments.work import run_sweep

__all__ = ["Point", "Sweep", "list_sweeps", "load_sweep", "run_sweep", "write_report"]
