"""Training: the base model, and the HR-CAM head on features that are pooled once."""

from hrcam.training.base import evaluate_classifier, fit_base_model
from hrcam.training.head import fit_hrcam_head
from hrcam.training.pooling import PooledFeatures, pool_features

__all__ = [
    "PooledFeatures",
    "evaluate_classifier",
    "fit_base_model",
    "fit_hrcam_head",
    "pool_features",
]
