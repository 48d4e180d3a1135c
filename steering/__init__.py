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
from steering.coherence import CoherenceReport, CosineTable, coherence, vector_cosines
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
from steering.damage import (
    Calibration,
    DamageResult,
    Front,
    calibrate,
    damage,
    front,
    repetition,
)
from steering.fitting import fit, fit_vector
from steering.gating import Gate, cast_similarity, cosine_similarity, fit_gate
from steering.items import Item, balanced, load_items, split_items
from steering.optimizing import (
    OptimizationConfig,
    bipo,
    discover_vectors,
    likelihood,
    optimize_low_rank,
    optimize_vector,
)
from steering.propensity import Contests, assistant_prompt, choices, statement_contests
from steering.reading import PairActivations, extract_pairs
from steering.reliability import DataSet, StudyConfig, load_datasets, run_study
from steering.statistics import Estimate
from steering.study_results import StudyResult
from steering.sweep_results import SweepResult, merged
from steering.sweeps import COEFFICIENTS, SweepPlan, sweep, sweep_layers
from steering.vectors import SteeringVector
from steering.verdicts import Verdict, judge, random_vector

__all__ = [
    "COEFFICIENTS",
    "PROMPT_TYPES",
    "AffineMap",
    "AffineSteering",
    "Baked",
    "Calibration",
    "CoherenceReport",
    "Combined",
    "Contests",
    "CosineTable",
    "DamageResult",
    "DataSet",
    "Estimate",
    "Front",
    "Gate",
    "Instruction",
    "Item",
    "OptimizationConfig",
    "PairActivations",
    "PairLint",
    "Pairs",
    "PrefixSteering",
    "PromptType",
    "StatementData",
    "Steering",
    "SteeringVector",
    "StudyConfig",
    "StudyResult",
    "SweepPlan",
    "SweepResult",
    "Verdict",
    "act_add",
    "assistant_prompt",
    "bake_ablation",
    "bake_addition",
    "baked_addition",
    "balanced",
    "bipo",
    "calibrate",
    "cast_similarity",
    "choices",
    "coherence",
    "conceptor",
    "contrast_pairs",
    "cosine_similarity",
    "damage",
    "discover_vectors",
    "extract_pairs",
    "fit",
    "fit_gate",
    "fit_vector",
    "front",
    "in_order",
    "judge",
    "letter_pairs",
    "likelihood",
    "lint",
    "load_datasets",
    "load_items",
    "low_rank",
    "match_moments",
    "merged",
    "methods",
    "nullspace",
    "operators",
    "optimize_low_rank",
    "optimize_vector",
    "random_vector",
    "repetition",
    "run_study",
    "spectral",
    "split_items",
    "statement_contests",
    "statements",
    "sweep",
    "sweep_layers",
    "vector_cosines",
]
