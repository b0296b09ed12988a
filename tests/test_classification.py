import numpy as np
import pytest
from sklearn import metrics as sk

from hrcam.classification import classification_scores


def test_classification_scores_golden():
    labels = [0, 0, 0, 1, 2]
    probabilities = [
        [0.8, 0.1, 0.1],
        [0.5, 0.3, 0.2],
        [0.3, 0.6, 0.1],  # wrong: 1 for 0
        [0.2, 0.7, 0.1],
        [0.5, 0.1, 0.4],  # wrong: 0 for 2
    ]

    scores = classification_scores(labels, probabilities)

    assert scores["accuracy"] == scores["f1_micro"] == 3 / 5
    # Sensitivities 2/3, 1/1 and 0/1.
    np.testing.assert_allclose(scores["balanced_accuracy"], 5 / 9)
    # F1 = 2 hits / (predicted + true): 4/6, 2/3, 0.
    np.testing.assert_allclose(scores["f1_macro"], 4 / 9)
    # Class 0: .8 .5 .3 over .2 .5 has 4.5 of 6 pairs (.5 = .5 is half); class 1: .7
    # over all; class 2: .4 over all.
    np.testing.assert_allclose(scores["auc"], (4.5 / 6 + 1 + 1) / 3)
    assert scores["auc_reason"] == ""


def test_classification_scores_replicate_scikit_learn():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 60)
    probabilities = rng.dirichlet(np.ones(4), 60)
    predicted = probabilities.argmax(1)

    scores = classification_scores(labels, probabilities)

    np.testing.assert_allclose(
        [scores[k] for k in ("accuracy", "balanced_accuracy", "f1_macro", "auc")],
        [
            sk.accuracy_score(labels, predicted),
            sk.balanced_accuracy_score(labels, predicted),
            sk.f1_score(labels, predicted, average="macro"),
            sk.roc_auc_score(labels, probabilities, multi_class="ovr"),
        ],
    )


def test_sigmoid_equals_softmax_over_two():
    positive = np.array([0.9, 0.2, 0.6, 0.4, 0.7])
    labels = [1, 0, 0, 1, 1]

    two = classification_scores(labels, np.stack([1 - positive, positive], 1))

    assert classification_scores(labels, positive) == two
    assert classification_scores(labels, positive[:, None]) == two


def test_a_sigmoid_of_one_half_is_class_1():
    assert classification_scores([1, 0], [0.5, 0.2])["accuracy"] == 1


def test_auc_says_which_class_is_missing():
    scores = classification_scores([0, 1], [[0.9, 0.1, 0], [0.2, 0.1, 0.7]])

    assert np.isnan(scores["auc"])
    assert scores["auc_reason"].endswith("of classes [2]")
    assert scores["balanced_accuracy"] == 0.5  # of the two classes that are there


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        ([0, 1], [[0.5, 0.5]], r"Received: \(2,\) and \(1, 2\)"),
        ([], [], r"Received: \(0,\) and \(0,\)"),
        ([0], [[-1.0, 2.0]], "softmax or sigmoid.*from -1 to 2"),
        ([0], [[np.nan, 1]], "from nan"),
        ([0], [[0.9, 0.9]], "sums from 1.8"),
        ([2], [[0.5, 0.5]], r"from 0 to 1. Received: int64 values \[2\]"),
        ([2], [0.5], r"from 0 to 1. Received: int64 values \[2\]"),
        ([0.5], [0.5], "float64 values"),
    ],
)
def test_classification_scores_rejects(labels, probabilities, message):
    with pytest.raises(ValueError, match=message):
        classification_scores(labels, probabilities)
