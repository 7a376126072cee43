"""The paper's experiments: sweeps of models over depths and seeds, their tables and plots."""

from lab.studies.points import run_sweep
from lab.studies.report import write_report
from lab.studies.sweep import Point, Sweep, list_sweeps, load_sweep

__all__ = ["Point", "Sweep", "list_sweeps", "load_sweep", "run_sweep", "write_report"]
