"""Figures: maps beside the images they explain, and scores as box plots.

The only modules that import matplotlib. They build `matplotlib.figure.Figure`
directly and never import pyplot, so the user's backend, open figures and settings
stay as they are: `figure.savefig("sheet.png", dpi=150)`.
"""

from hrcam.plots.boxes import score_box_plots
from hrcam.plots.curves import threshold_curves
from hrcam.plots.faithfulness import insertion_deletion_curves
from hrcam.plots.layers import layer_share_bars, layer_sheet, layer_weight_plots
from hrcam.plots.response import response_sheet
from hrcam.plots.sanity import sanity_curves
from hrcam.plots.sheet import comparison_sheet
from hrcam.plots.shortcuts import shortcut_sheet
from hrcam.plots.units import unit_sheet

__all__ = [
    "comparison_sheet",
    "insertion_deletion_curves",
    "layer_share_bars",
    "layer_sheet",
    "layer_weight_plots",
    "response_sheet",
    "sanity_curves",
    "score_box_plots",
    "shortcut_sheet",
    "threshold_curves",
    "unit_sheet",
]
