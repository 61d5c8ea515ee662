"""A report of a sweep: one HTML file that needs nothing else, or Markdown for a README."""

from results.report.writing import FORMATS, write

__all__ = ["FORMATS", "write"]
