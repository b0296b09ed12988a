"""Studies: many methods on many images, in bounded memory, resumable."""

from hrcam.study.run import Study, faithfulness_scores, score_study
from hrcam.study.scores import ImageScores

__all__ = ["ImageScores", "Study", "faithfulness_scores", "score_study"]
