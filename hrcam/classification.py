"""Scores of predictions against labels.

With n_cc' the images of class c predicted as c', sensitivity of c is n_cc over the
images of c and F1 of c is 2 n_cc / (images of c + predicted as c). Macro scores are
means over classes, so that a rare class counts as much as a common one; micro F1 is
that of the summed counts. AUC of c is the chance that an image of c has a higher
probability of c than another image; equal values count half.

scikit-learn computes them. Left open and chosen here: macro F1 is the mean of the
classes' F1, not F1 of their mean precision and sensitivity; AUC is one class against
the rest, not pairs of classes. Of a class without an image, balanced accuracy takes
no notice, macro F1 only where it is predicted, and the AUC is NaN. A sigmoid of one
half is class 1.

Reference:
    Balanced accuracy: Brodersen et al. (2010), doi:10.1109/ICPR.2010.764. The two
    macro F1: Opitz and Burst (2019), arXiv:1911.03347. AUC as a chance: Hanley and
    McNeil (1982), doi:10.1148/radiology.143.1.7063747.
"""

import numpy as np
from sklearn.metrics import f1_score, recall_score, roc_auc_score


def classification_scores(
    labels: np.ndarray, probabilities: np.ndarray
) -> dict[str, float | str]:
    """Scores predictions; the predicted class is the most probable one.

    Args:
        labels: `(images,)` integers, class indices.
        probabilities: `(images, classes)` softmax, or `(images,)` / `(images, 1)`
            sigmoid, the probability of class 1 (predicted from 0.5 on).

    Returns:
        `accuracy`, `balanced_accuracy` (mean sensitivity over the classes that
        have images), `f1_micro` (equal to the accuracy here), `f1_macro` (mean
        over the classes in `labels` or predicted), `auc` (mean of each class
        against the rest; NaN if a class has no image or all of them) and
        `auc_reason` (why it is NaN, or "").

    Raises:
        ValueError: If the shapes do not fit, a label is not a class index, or the
            probabilities are not in [0, 1] with rows that sum to 1.
    """
    labels, probabilities = _checked_predictions(labels, probabilities)
    if probabilities.shape[1] == 1:
        predicted = (probabilities[:, 0] >= 0.5).astype(np.int64)
        probabilities = np.hstack([1 - probabilities, probabilities])
    else:
        predicted = probabilities.argmax(axis=1)
    classes = np.arange(probabilities.shape[1])
    lone = [c for c in classes.tolist() if len(set(labels == c)) == 1]
    aucs = [
        np.nan if c in lone else roc_auc_score(labels == c, probabilities[:, c])
        for c in classes
    ]
    return {
        "accuracy": float((labels == predicted).mean()),
        "balanced_accuracy": float(
            recall_score(
                labels,
                predicted,
                labels=np.unique(labels),
                average="macro",
                zero_division=0,
            )
        ),
        "f1_micro": float(f1_score(labels, predicted, average="micro")),
        "f1_macro": float(
            f1_score(labels, predicted, average="macro", zero_division=0)
        ),
        "auc": float(np.mean(aucs)),
        "auc_reason": f"no image, or every image, is of classes {lone}" if lone else "",
    }


def _checked_predictions(labels, probabilities) -> tuple[np.ndarray, np.ndarray]:
    labels = np.asarray(labels)
    probabilities = np.asarray(probabilities, np.float64)
    shape = probabilities.shape
    if labels.ndim != 1 or len(shape) not in (1, 2) or not 0 < len(labels) == shape[0]:
        raise ValueError(
            "`labels` must be (images,) and `probabilities` (images, classes), or "
            "(images,) for a sigmoid. "
            f"Received: {labels.shape} and {shape}"
        )
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise ValueError(
            "`probabilities` must be in [0, 1]: apply softmax or sigmoid to logits. "
            f"Received: from {probabilities.min():.3g} to {probabilities.max():.3g}"
        )
    probabilities = probabilities.reshape(len(labels), -1)
    sums = probabilities.sum(axis=1)
    if probabilities.shape[1] > 1 and np.abs(sums - 1).max() > 0.01:
        raise ValueError(
            "Each row of `probabilities` must sum to 1 (one class an image). "
            f"Received: sums from {sums.min():.3g} to {sums.max():.3g}"
        )
    num_classes = max(2, probabilities.shape[1])
    if labels.dtype.kind not in "iub" or not np.isin(labels, range(num_classes)).all():
        raise ValueError(
            f"`labels` must be integers from 0 to {num_classes - 1}. "
            f"Received: {labels.dtype} values {np.unique(labels)[:10].tolist()}"
        )
    return labels.astype(np.int64), probabilities
