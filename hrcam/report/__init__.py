"""Writes results to a folder: pictures, tables and what made them.

With `cli`, the only package that reaches for `plots`.
"""

from hrcam.report.comparison import write_comparison
from hrcam.report.directory import claim_directory
from hrcam.report.response import write_response

__all__ = ["claim_directory", "write_comparison", "write_response"]
