"""Baselines that see the text and not the model: words, and length."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline

from probes.evaluation import Metric


def word_classifier() -> Pipeline:
    """TF-IDF of words and pairs of words into logistic regression; takes texts."""
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    return make_pipeline(words, LogisticRegression(C=10.0, max_iter=1000))


def word_scores(
    texts: Sequence[str], labels: np.ndarray, folds: Int[np.ndarray, " example"]
) -> np.ndarray:
    """Score of each text by the words of the texts of other folds.

    Returns:
        Shape (example,) for two classes, else (example, class).
    """
    array, scores = np.asarray(texts, dtype=object), {}
    for fold in np.unique(folds):
        train, test = folds != fold, folds == fold
        fit = word_classifier().fit(array[train], labels[train])
        scores |= dict(zip(np.flatnonzero(test), fit.decision_function(array[test]), strict=True))
    return np.stack([scores[i] for i in range(len(array))])


def log_lengths(texts: Sequence[str]) -> Float[np.ndarray, " example"]:
    """Logarithm of the number of words of each text."""
    return np.log([max(len(text.split()), 1) for text in texts])


def length_matched_auroc(
    log_lengths: Float[np.ndarray, " example"], *, tolerance: float = 0.1
) -> Metric:
    """A metric: AUROC over those pairs of examples only whose lengths are alike.

    Length cannot tell the two examples of such a pair apart, so it cannot raise this score.

    Args:
        log_lengths: Logarithm of the length of each example.
        tolerance: Largest difference of the logarithms within a pair; 0.1 is about 10 %.
    """

    def values(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
        high, low = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
        alike = np.abs(log_lengths[high, None] - log_lengths[low]) <= tolerance
        gap = np.sign(scores[high, None] - scores[low])
        wins = np.where(alike, (gap + 1) / 2, 0).astype(np.float32)
        both = np.stack([wins, alike.astype(np.float32)])
        won, pairs = np.einsum(
            "bh,khl,bl->kb", weights[:, high], both, weights[:, low], optimize=True
        )
        with np.errstate(invalid="ignore", divide="ignore"):
            return won / pairs

    return values
