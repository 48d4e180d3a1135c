"""Steering: vectors that are added to a model's activations while it runs."""

from steering import operators
from steering.applying import Combined, PrefixSteering, Steering, act_add, in_order
from steering.gating import Gate, cast_similarity, cosine_similarity, fit_gate
from steering.vectors import SteeringVector

__all__ = [
    "Combined",
    "Gate",
    "PrefixSteering",
    "Steering",
    "SteeringVector",
    "act_add",
    "cast_similarity",
    "cosine_similarity",
    "fit_gate",
    "in_order",
    "operators",
]
