"""A report on a model and a graph: one HTML page, its pictures, and the figures as JSON."""

from lipzoo.report.making import SECTIONS, Report, make_report

__all__ = ["SECTIONS", "Report", "make_report"]
