"""Which layers an HR-CAM head leans on.

The head adds up the pooled features of its layers, so the score of a class splits
over the layers without a remainder:

    logit_c = bias_c + sum_l C_l,    C_l = sum_i w_i^c * mean(f_i),  i in layer l

and C_l is the mean over pixels of the layer's part of the map (exactly where the
upsampling is by whole factors). Four looks at it:

* The weights by layer, as in the paper's figure 6. The pooled features are not
  standardised, so a weight is small where its feature is large: w mixes scale with
  importance. `w * std(feature)` is free of the scale: what the score gains when the
  feature rises by one standard deviation over the images.
* The share of the score. Signed parts have no clean shares; ours is the mean over
  images of |C_l| / sum_k |C_k|, with the signed mean of C_l beside it.
* The share of what tells images apart: cov(C_l, logit) / var(logit) over the images,
  which sums to 1. It is negative for a layer that works against the others, and 0 for
  one that adds the same to every image, however large its share of the score.
* Leaving one layer out: the scores of the map without the layer's part, and of the
  classes without its C_l. The head is not retrained, which could make up for the
  layer: this says what this head takes from the layer, not what the layer knows. The
  accuracy also falls because the mean of C_l is missing, which moves the border
  between the classes; the AUC of two classes takes no notice of that.

Reference:
    Shinde et al. (2021), PeerJ Computer Science 7:e622, figure 6,
    https://doi.org/10.7717/peerj-cs.622
"""

from hrcam.layer_analysis.leave_out import leave_one_layer_out
from hrcam.layer_analysis.weights import (
    LayerWeights,
    LogitShares,
    head_weights,
    logit_shares,
)

__all__ = [
    "LayerWeights",
    "LogitShares",
    "head_weights",
    "leave_one_layer_out",
    "logit_shares",
]
