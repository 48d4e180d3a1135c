"""What every probe shares: labels, scores, and where in a model its activations were read.

A probe of pooled activations says how to get weights for several training sets at once; that is
`fit_sets`, and all it has to bring. Everything else follows: `fit` is the case of one training set,
cross-validation that of one for each fold. Classes beyond two are fitted one against the rest.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_consistent_length, check_is_fitted, validate_data
from torch import Tensor

from interp import Activations, Direction, Origin

_FLOATS = [np.float64, np.float32]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the activations that a probe takes are read."""

    site: str
    """Name of the site."""
    layers: tuple[int, ...]
    """Layers, whose activations are joined where there are several."""
    pooling: str | None = None
    """How tokens were pooled."""
    origin: Origin | None = None
    """The model."""

    @classmethod
    def of(cls, activations: object) -> "Place | None":
        """The place of activations of one site; `None` for arrays."""
        if not isinstance(activations, Activations):
            return None
        return cls(
            site=activations.site,
            layers=activations.layers,
            pooling=activations.pooling,
            origin=activations.origin,
        )

    def check(self, activations: object) -> None:
        """Refuse activations of another place; arrays, which do not tell, pass.

        Raises:
            ValueError: If site or layers differ.
            ModelMismatchError: If the model differs.
        """
        other = Place.of(activations)
        if other is None:
            return
        if (other.site, other.layers) != (self.site, self.layers):
            mine, its = (", ".join(map(str, place.layers)) for place in (self, other))
            raise ValueError(
                f"the probe was fitted to {self.site} of layer {mine}, and these activations are "
                f"{other.site} of layer {its}; choose with activations.at()"
            )
        if self.origin is not None and other.origin is not None:
            self.origin.check(other.origin, "the probe")


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Weights in the space of the activations, for several training sets and classes."""

    coef: Float[Tensor, "set target feature"]
    """Weights."""
    intercept: Float[Tensor, "set target"]
    """Intercepts."""

    def scores(self, X: Float[Tensor, "example feature"]) -> Float[Tensor, "set target example"]:
        """Score of every example."""
        return self.coef @ X.T + self.intercept[..., None]


@dataclass(frozen=True, kw_only=True)
class Targets:
    """Labels as columns of zeros and ones."""

    matrix: Float[Tensor, "target example"]
    """One row for two classes (1 is the second), else one row for each class or label."""
    classes: np.ndarray
    """Labels in the order of the rows; both of them for one row."""
    kind: str
    """`"binary"`, `"multiclass"` or `"multilabel-indicator"`."""

    @classmethod
    def of(cls, y: Any) -> "Targets":
        """The columns of labels, shape (example,), or of indicators, shape (example, label).

        Raises:
            ValueError: If there is only one class, or the labels are no classes.
        """
        y, kind = np.asarray(y), type_of_target(y)
        if kind not in ("binary", "multiclass", "multilabel-indicator"):
            check_classification_targets(y)
        if kind == "multilabel-indicator":
            return cls(matrix=_columns(y), classes=np.arange(y.shape[1]), kind=kind)
        classes = np.unique(y)
        if len(classes) < 2:
            raise ValueError(f"y has one class only, {classes[0]!r}: needed at least two classes")
        shown = classes[1:] if len(classes) == 2 else classes
        kind = "binary" if len(classes) == 2 else "multiclass"
        return cls(matrix=_columns(y[:, None] == shown), classes=classes, kind=kind)


class Probe(ClassifierMixin, BaseEstimator, ABC):
    """A classifier of activations: what follows from its scores.

    Attributes:
        classes_: Labels.
        kind_: `"binary"`, `"multiclass"` or `"multilabel-indicator"`.
        place_: Where the activations were read; `None` if the probe was fitted to an array.
    """

    classes_: np.ndarray
    kind_: str
    place_: Place | None

    @abstractmethod
    def decision_function(self, X) -> np.ndarray:
        """Scores, log-odds in the best case; shape (example,), or (example, class) beyond two."""

    def predict_proba(self, X) -> np.ndarray:
        """Probabilities, shape (example, class); those of several labels do not sum to 1."""
        p = expit(self.decision_function(X))
        if self.kind_ == "binary":
            return np.stack([1 - p, p], axis=1)
        if self.kind_ == "multiclass":
            p = np.maximum(p, np.finfo(float).tiny)
            return p / p.sum(axis=1, keepdims=True)
        return p

    def predict(self, X) -> np.ndarray:
        """The likelier class, shape (example,); indicators (example, label) for several labels."""
        scores = self.decision_function(X)
        if self.kind_ == "multilabel-indicator":
            return (scores > 0).astype(int)
        index = (scores > 0).astype(int) if self.kind_ == "binary" else scores.argmax(axis=1)
        return self.classes_[index]

    def __sklearn_tags__(self) -> Any:
        """What sklearn may try."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


class PooledProbe(Probe):
    """A linear classifier of one vector for each example.

    Attributes:
        coef_: Weights in the space of the activations, shape (1, feature) for two classes, else
            (class, feature).
        intercept_: Intercepts, shape (1,) or (class,).
    """

    coef_: np.ndarray
    intercept_: np.ndarray

    @abstractmethod
    def fit_sets(
        self,
        X: Float[Tensor, "example feature"],
        targets: Float[Tensor, "target example"],
        train: Bool[Tensor, "set example"],
        groups: Int[np.ndarray, " example"],
    ) -> Weights:
        """Weights for several training sets.

        Args:
            X: Activations.
            targets: Labels 0 and 1, one row for each classifier.
            train: Which examples belong to each training set.
            groups: Group of each example.
        """

    def fit(self, X, y: Any = None, groups: Any = None) -> "PooledProbe":
        """Fit the probe.

        Args:
            X: Array of shape (example, feature), or pooled `Activations` of one layer.
            y: Labels, shape (example,), or indicators, shape (example, label); those of the
                activations by default.
            groups: Group of each example, shape (example,), which inner cross-validation keeps
                together; those of the activations by default.

        Raises:
            ValueError: If labels are missing or of one class, or if X is not finite.
        """
        if isinstance(X, Activations):
            y = X.labels if y is None else y
            groups = X.groups if groups is None else groups
        place = Place.of(X)
        checked: Any = validate_data(self, matrix_of(X), y, dtype=_FLOATS, multi_output=True)
        matrix, y = checked
        y = column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y
        targets = Targets.of(y)
        values = torch.from_numpy(np.array(matrix, np.float64))
        train = torch.ones(1, len(values), dtype=torch.bool)
        weights = self.fit_sets(
            values, targets.matrix.double(), train, encoded_groups(groups, len(values))
        )
        self.coef_, self.intercept_ = weights.coef[0].numpy(), weights.intercept[0].numpy()
        self.classes_, self.kind_, self.place_ = targets.classes, targets.kind, place
        return self

    def decision_function(self, X) -> np.ndarray:
        """Scores, log-odds in the best case; shape (example,), or (example, class) beyond two."""
        check_is_fitted(self)
        if self.place_ is not None:
            self.place_.check(X)
        matrix: Any = validate_data(self, matrix_of(X), dtype=_FLOATS, reset=False)
        scores = matrix @ self.coef_.T + self.intercept_
        return scores[:, 0] if self.kind_ == "binary" else scores

    @property
    def directions_(self) -> tuple[Direction, ...]:
        """The unit vectors of the weights, one for each row of `coef_`.

        Raises:
            AttributeError: If the probe was fitted to an array, which has no place in a model.
        """
        check_is_fitted(self)
        if self.place_ is None:
            raise AttributeError(
                "a direction needs a place in a model: fit the probe to Activations, not an array"
            )
        place = self.place_
        provenance = {"probe": type(self).__name__, "pooling": place.pooling}
        provenance |= {name: value for name, value in self.get_params().items() if _plain(value)}
        return tuple(
            Direction(
                vector=torch.from_numpy(row),
                layer=place.layers[0],
                site=place.site,
                origin=place.origin,
                provenance=provenance,
            )
            for row in self.coef_
        )

    @property
    def direction_(self) -> Direction:
        """The unit vector along which the second class lies.

        Raises:
            AttributeError: If there are more than two classes, or no place in a model.
        """
        first, *others = self.directions_
        if others:
            raise AttributeError(f"there are {1 + len(others)} classes: choose from directions_")
        return first


def matrix_of(X: Any) -> Any:
    """Activations as the array that they hold; anything else as it is."""
    return np.asarray(X) if isinstance(X, Activations) else X


def encoded_groups(groups: Any, n: int) -> Int[np.ndarray, " example"]:
    """Groups as numbers from 0; without groups each example is one of its own."""
    if groups is None:
        return np.arange(n)
    check_consistent_length(groups, np.empty(n))
    return np.unique(np.asarray(groups), return_inverse=True)[1]


def _columns(indicators: np.ndarray) -> Float[Tensor, "target example"]:
    return torch.from_numpy(np.ascontiguousarray(indicators.T, dtype=np.float32))


def _plain(value: object) -> bool:
    return value is None or isinstance(value, bool | int | float | str)
