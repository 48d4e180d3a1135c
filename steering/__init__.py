"""Steering: vectors that change what a model does, and whether they do so reliably.

| question | use |
|---|---|
| what differs? | `Pairs`, `contrast_pairs` (seven types), `letter_pairs`, `statements`, `lint` |
| which vector? | `fit_vector`, or `extract_pairs` and `fit` with one of `methods` |
| how does it act? | `SteeringVector.applied` with one of `operators`, a position rule, a `Gate` |
| several at once? | `model.intervene(first.steering(), second.steering())` or `in_order` |
| without hooks? | `bake_addition`, `bake_ablation` |
| a map instead? | `MapSteering` with `match_moments`, `nullspace`, `spectral_edit`, ... |
| found by its effect? | `optimize_vector`, `optimize_rank_one`, `optimize_low_rank` |
| without labels? | `discover_vectors` |
| do the pairs agree? | `coherence` |
| does it steer? | `sweep` of `choices` or `statement_contests`; `judge` with `random_vector` |
| what does it cost? | `damage`, `calibrate`, `front`, `repetition` |
| when does it work? | `run_study`, `run_refusal_study` |

`steering.repe` composes published methods out of three steps, and compares them.

    vector = fit_vector(model, Pairs.from_texts(kind, unkind), layers=15)
    with vector.applied(model, coefficient=0.2, unit="residual", positions="generated"):
        texts = generate(model, prompts)
"""

from steering import methods, operators
from steering.affine import (
    AffineMap,
    MapSteering,
    conceptor,
    least_squares,
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
    intervention_damage,
    repetition,
)
from steering.discovery import discover_vectors
from steering.fitting import fit, fit_vector
from steering.gating import Gate, JoinedGate, cast_similarity, cosine_similarity, fit_gate
from steering.items import Item, balanced, load_items, split_items
from steering.optimizing import (
    OptimizationConfig,
    bipo,
    likelihood,
    optimize_low_rank,
    optimize_rank_one,
    optimize_vector,
)
from steering.propensity import (
    Contests,
    assistant_prompt,
    choices,
    letter_choices,
    statement_contests,
)
from steering.reading import PairActivations, extract_pairs
from steering.refusal import (
    Instructions,
    RefusalChoice,
    choose_refusal_vector,
    first_tokens,
    is_refusal,
    refusal_log_odds,
    refusal_vector,
)
from steering.refusal_study import RefusalConfig, RefusalResult, run_refusal_study
from steering.reliability import DataSet, StudyConfig, load_datasets, run_study
from steering.rotation import PseudoRotation, fit_pseudo_rotation
from steering.spectral_editing import SpectralEdit, spectral_edit
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
    "Instructions",
    "Item",
    "JoinedGate",
    "MapSteering",
    "OptimizationConfig",
    "PairActivations",
    "PairLint",
    "Pairs",
    "PrefixSteering",
    "PromptType",
    "PseudoRotation",
    "RefusalChoice",
    "RefusalConfig",
    "RefusalResult",
    "SpectralEdit",
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
    "choose_refusal_vector",
    "coherence",
    "conceptor",
    "contrast_pairs",
    "cosine_similarity",
    "damage",
    "discover_vectors",
    "extract_pairs",
    "first_tokens",
    "fit",
    "fit_gate",
    "fit_pseudo_rotation",
    "fit_vector",
    "front",
    "in_order",
    "intervention_damage",
    "is_refusal",
    "judge",
    "least_squares",
    "letter_choices",
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
    "optimize_rank_one",
    "optimize_vector",
    "random_vector",
    "refusal_log_odds",
    "refusal_vector",
    "repetition",
    "run_refusal_study",
    "run_study",
    "spectral",
    "spectral_edit",
    "split_items",
    "statement_contests",
    "statements",
    "sweep",
    "sweep_layers",
    "vector_cosines",
]
