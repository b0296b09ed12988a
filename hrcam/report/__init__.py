"""Writes results to a folder: pictures, tables and what made them.

With `cli`, the only package that reaches for `plots`.
"""

from hrcam._directory import claim_directory
from hrcam.report.comparison import write_comparison
from hrcam.report.heatmap_callback import HeatmapCallback
from hrcam.report.layers import write_layer_analysis
from hrcam.report.response import write_response
from hrcam.report.shortcuts import write_shortcuts
from hrcam.report.study import write_study

__all__ = [
    "HeatmapCallback",
    "claim_directory",
    "write_comparison",
    "write_layer_analysis",
    "write_response",
    "write_shortcuts",
    "write_study",
]
