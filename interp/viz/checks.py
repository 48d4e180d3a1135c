"""Checks at the boundary of the figure functions: forms of arrays, labels that fit, limits.

Each one returns the clean value or raises a ValueError that says what came and what was needed.
"""

from collections.abc import Sized

import numpy as np
from numpy.typing import ArrayLike

Real = float | int | np.floating | np.integer
"""A single number (spelled out, as checkers at run time do not take an int for a float)."""


def numbers(name: str, values: ArrayLike, ndim: int = 1) -> np.ndarray:
    """The values as a float64 array; NaN stands for "no value" and stays.

    Args:
        name: What messages call the argument.
        values: Anything that numpy reads as numbers.
        ndim: Dimensions that are needed.

    Raises:
        ValueError: If the values are no numbers, have another number of dimensions, are empty, or
            hold infinities.
    """
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must hold numbers, got {values!r:.80}") from error
    if array.ndim != ndim:
        raise ValueError(f"{name} must have {ndim} dimension(s), got shape {array.shape}")
    if not array.size:
        raise ValueError(f"{name} is empty (shape {array.shape}); at least one value is needed")
    if n_infinite := int(np.isinf(array).sum()):
        raise ValueError(f"{name} has {n_infinite} infinite value(s); clip them or set them to NaN")
    return array


def fits(name: str, items: Sized, n: int, owner: str, unit: str) -> None:
    """Raise unless there is one item for each of `n` units of `owner`.

    Raises:
        ValueError: Such as "tokens has 2 labels, but effect has 3 positions".
    """
    if len(items) != n:
        raise ValueError(f"{name} has {len(items)} labels, but {owner} has {n} {unit}")


def pair(name: str, values: ArrayLike, owner: str, reference: np.ndarray) -> np.ndarray:
    """The values as one-dimensional numbers, as many as `reference` has.

    Raises:
        ValueError: As `numbers` does, or if the lengths differ.
    """
    array = numbers(name, values)
    if len(array) != len(reference):
        raise ValueError(f"{name} has {len(array)} values, but {owner} has {len(reference)}")
    return array


def shares(name: str, values: ArrayLike) -> np.ndarray:
    """The values as one-dimensional numbers between 0 and 1 (NaN passes).

    Raises:
        ValueError: As `numbers` does, or if a value lies outside 0 to 1.
    """
    array = numbers(name, values)
    outside = array[(array < -1e-9) | (array > 1 + 1e-9)]
    if len(outside):
        raise ValueError(f"{name} must lie between 0 and 1, got {outside[0]:g}")
    return np.clip(array, 0, 1)


def interval(
    name: str, low: ArrayLike | None, high: ArrayLike | None, center: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """Both ends of an interval around each center, or None where there is no interval.

    Raises:
        ValueError: If only one end is given, lengths differ, or an end is on the wrong side.
    """
    if low is None and high is None:
        return None
    if low is None or high is None:
        missing = "low" if low is None else "high"
        raise ValueError(f"{name} has no {missing} end: an interval needs low and high")
    bottom = pair(f"low of {name}", low, "its center", center)
    top = pair(f"high of {name}", high, "its center", center)
    wrong = np.flatnonzero((bottom > center + 1e-9) | (top < center - 1e-9))
    if len(wrong):
        at = wrong[0]
        raise ValueError(
            f"the interval of {name} at index {at} is [{bottom[at]:g}, {top[at]:g}] and does not "
            f"hold its center {center[at]:g}; low and high are ends, not distances"
        )
    return bottom, top


def color_range(
    values: np.ndarray, limits: tuple[Real, Real] | None, *, diverging: bool
) -> tuple[float, float]:
    """Values at the two ends of the color scale.

    Args:
        values: What is colored; NaN is left out.
        limits: Ends that the caller wants, or None for those of the data.
        diverging: Whether the scale is centered on 0; then the farther end counts for both.

    Raises:
        ValueError: If the limits are not two rising finite numbers.
    """
    finite = values[np.isfinite(values)]
    low, high = limits or ((finite.min(), finite.max()) if finite.size else (0, 1))
    low, high = float(low), float(high)
    if limits is not None and not -np.inf < low < high < np.inf:
        raise ValueError(f"limits must be two finite numbers (low < high), got {limits!r}")
    if diverging:
        bound = max(abs(low), abs(high)) or 1.0
        return -bound, bound
    return (low, high) if low < high else (low - 0.5, high + 0.5)
