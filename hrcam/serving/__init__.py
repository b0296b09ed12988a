"""Heat maps from a served model: a SavedModel that returns them with the prediction."""

from hrcam.serving.export import export_saved_model

__all__ = ["export_saved_model"]
