"""What pretrained weights are worth on a graph that they have not seen, at few labels."""

from lab.transfer.points import run_study
from lab.transfer.report import write_report
from lab.transfer.study import Study, load_study

__all__ = ["Study", "load_study", "run_study", "write_report"]
