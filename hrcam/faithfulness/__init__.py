"""Does the class probability follow the map? Changes images by their maps.

A map that explains a decision names the pixels that the decision needs. The scores here
change the image by its map and look at the class probability: what the model gives
after softmax or sigmoid; of one sigmoid unit p for class 1 and 1 - p for class 0. They
show the network images of a kind that it never saw in training: compare methods on one
network, with a control such as `hrcam.maps.controls.centre_prior` beside them.
"""

from hrcam.faithfulness.curves import Curves, insertion_deletion
from hrcam.faithfulness.drop_gain import DropGain, average_drop_gain

__all__ = ["Curves", "DropGain", "average_drop_gain", "insertion_deletion"]
