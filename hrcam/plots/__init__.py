"""Figures: maps beside the images they explain, and scores as box plots.

The only modules that import matplotlib. They build `matplotlib.figure.Figure`
directly and never import pyplot, so the user's backend, open figures and settings
stay as they are: `figure.savefig("sheet.png", dpi=150)`.
"""

from hrcam.plots.boxes import score_box_plots
from hrcam.plots.sheet import comparison_sheet

__all__ = ["comparison_sheet", "score_box_plots"]
