"""Does a map depend on what the network has learned? Two checks of Adebayo et al.

* `cascading_randomization`: layer after layer loses its weights.
* `label_randomization`: the network learns labels that say nothing of the images.

A map that explains the network must change with it; one that stays shows the image,
whatever the network has learned. `map_similarity` says how much a map has changed.
"""

from hrcam.sanity.cascade import Randomization, cascading_randomization
from hrcam.sanity.labels import LabelRandomization, label_randomization
from hrcam.sanity.similarity import MapSimilarity, map_similarity

__all__ = [
    "LabelRandomization",
    "MapSimilarity",
    "Randomization",
    "cascading_randomization",
    "label_randomization",
    "map_similarity",
]
