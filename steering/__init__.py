"""Steering: vectors that are added to a model's activations while it runs."""

from steering import methods, operators
from steering.affine import (
    AffineMap,
    AffineSteering,
    conceptor,
    low_rank,
    match_moments,
    nullspace,
    spectral,
)
from steering.applying import Combined, PrefixSteering, Steering, act_add, in_order
from steering.baking import Baked, bake_ablation, bake_addition, baked_addition
from steering.contrast import (
    PROMPT_TYPES,
    Instruction,
    PairLint,
    Pairs,
    PromptType,
    StatementData,
    contrast_pairs,
    letter_pairs,
    lint,
    statements,
)
from steering.fitting import fit, fit_vector
from steering.gating import Gate, cast_similarity, cosine_similarity, fit_gate
from steering.items import Item, balanced, load_items, split_items
from steering.reading import PairActivations, extract_pairs
from steering.vectors import SteeringVector

__all__ = [
    "PROMPT_TYPES",
    "AffineMap",
    "AffineSteering",
    "Baked",
    "Combined",
    "Gate",
    "Instruction",
    "Item",
    "PairActivations",
    "PairLint",
    "Pairs",
    "PrefixSteering",
    "PromptType",
    "StatementData",
    "Steering",
    "SteeringVector",
    "act_add",
    "bake_ablation",
    "bake_addition",
    "baked_addition",
    "balanced",
    "cast_similarity",
    "conceptor",
    "contrast_pairs",
    "cosine_similarity",
    "extract_pairs",
    "fit",
    "fit_gate",
    "fit_vector",
    "in_order",
    "letter_pairs",
    "lint",
    "load_items",
    "low_rank",
    "match_moments",
    "methods",
    "nullspace",
    "operators",
    "spectral",
    "split_items",
    "statements",
]
