"""How well a plan is read: macro F1 over the classes, with intervals over episodes.

Squares of one episode are not independent, so that the bootstrap draws whole episodes. Macro F1
depends on how often each class occurs, and so on the skill of the agent: compare agents by the
supports too.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from interp.planning.concepts import CLASSES
from probes.evaluation import Estimate, group_draws, summarized


@dataclass(frozen=True, kw_only=True, eq=False)
class PlanScore:
    """How predicted classes agree with the labels."""

    confusion: Int[np.ndarray, "label prediction"]
    """Squares by label and prediction."""
    macro_f1: Estimate
    """Mean of the F1 of the classes; a class without label and prediction counts as 1."""

    def to_frame(self) -> pd.DataFrame:
        """One row for each class: precision, recall, F1 and support."""
        hits, labels = np.diag(self.confusion), self.confusion.sum(1)
        predictions = self.confusion.sum(0)
        return pd.DataFrame(
            {
                "class": CLASSES[: len(hits)],
                "precision": _ratio(hits, predictions),
                "recall": _ratio(hits, labels),
                "f1": class_f1(self.confusion),
                "support": labels,
            }
        )


def score_plan(
    labels: Int[np.ndarray, "row height width"],
    predictions: Int[np.ndarray, "row height width"],
    episodes: Int[np.ndarray, " row"],
    *,
    n_classes: int = len(CLASSES),
    n_draws: int = 1000,
    seed: int = 0,
) -> PlanScore:
    """Compare predicted with true classes.

    Args:
        labels: Classes of the squares.
        predictions: What a probe says.
        episodes: Episode of each row.
        n_classes: How many classes there are.
        n_draws: Draws of the bootstrap over episodes.
        seed: Which draws.
    """
    tables, draws = _tables(labels, predictions, episodes, n_classes, n_draws, seed)
    values = class_f1(np.tensordot(draws, tables, 1)).mean(-1)
    whole = tables.sum(0)
    value = float(class_f1(whole).mean())
    return PlanScore(confusion=whole, macro_f1=summarized(value, values, 0.95))


def compare_plans(
    labels: Int[np.ndarray, "row height width"],
    predictions: Int[np.ndarray, "row height width"],
    others: Int[np.ndarray, "row height width"],
    episodes: Int[np.ndarray, " row"],
    *,
    n_classes: int = len(CLASSES),
    n_draws: int = 1000,
    seed: int = 0,
) -> Estimate:
    """Macro F1 of one prediction minus that of another, paired in every draw of episodes.

    Args:
        labels: Classes of the squares.
        predictions: What one probe says.
        others: What the other says.
        episodes: Episode of each row.
        n_classes: How many classes there are.
        n_draws: Draws of the bootstrap.
        seed: Which draws.
    """
    first, draws = _tables(labels, predictions, episodes, n_classes, n_draws, seed)
    second, _ = _tables(labels, others, episodes, n_classes, 1, seed)

    def difference(weights: np.ndarray) -> np.ndarray:
        one, other = (np.tensordot(weights, tables, 1) for tables in (first, second))
        return (class_f1(one) - class_f1(other)).mean(-1)

    value = difference(np.ones((1, len(first)), np.float32))
    return summarized(float(value[0]), difference(draws), 0.95)


def class_f1(
    confusion: Int[np.ndarray, "*draw label prediction"]
    | Float[np.ndarray, "*draw label prediction"],
) -> Float[np.ndarray, "*draw label"]:
    """F1 of each class, 1 where it neither occurs nor is predicted."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    return _ratio(2 * hits, confusion.sum(-1) + confusion.sum(-2))


def _tables(
    labels: np.ndarray,
    predictions: np.ndarray,
    episodes: np.ndarray,
    n_classes: int,
    n_draws: int,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """The confusion of each episode, and how often each comes in each draw."""
    if labels.shape != predictions.shape or len(labels) != len(episodes):
        raise ValueError(
            f"labels has shape {labels.shape}, predictions {predictions.shape} and episodes "
            f"{len(episodes)} rows; all must agree"
        )
    names, which = np.unique(episodes, return_inverse=True)
    rows = which[:, None] * n_classes**2
    cells = labels.reshape(len(labels), -1) * n_classes + predictions.reshape(len(labels), -1)
    counts = np.bincount((rows + cells).ravel(), minlength=len(names) * n_classes**2)
    tables = counts.reshape(len(names), n_classes, n_classes)
    return tables, group_draws(np.arange(len(names)), n_draws=n_draws, seed=seed)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Part of the whole, 1 where there is nothing."""
    return np.where(whole > 0, part / np.maximum(whole, 1), 1.0)
