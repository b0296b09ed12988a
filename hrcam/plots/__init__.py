"""Figures: maps beside the images they explain, and scores as box plots.

The only modules that import matplotlib. They build `matplotlib.figure.Figure`
directly and never import pyplot, so the user's backend, open figures and settings
stay as they are: `figure.savefig("sheet.png", dpi=150)`.
"""

from hrcam.plots.boxes import score_box_plots
from hrcam.plots.response import response_sheet
from hrcam.plots.sanity import sanity_curves
from hrcam.plots.sheet import comparison_sheet
from hrcam.plots.units import unit_sheet

__all__ = [
    "comparison_sheet",
    "response_sheet",
    "sanity_curves",
    "score_box_plots",
    "unit_sheet",
]
