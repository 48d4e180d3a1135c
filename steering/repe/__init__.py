r"""Representation engineering as three steps, after the survey of Wehner et al. (2025, 2502.19649).

A `Pipeline` is an *identification* (how the concept is looked for), an *operationalization* (what
stands for it) and a *control* (how that acts on the model). Any cell of the survey's tables is an
expression of three parts; `steering.repe.published` has these:

| method | identification | operationalization | control |
|---|---|---|---|
| CAA | `reading_inputs` | `as_vector()` | `steer()` |
| ActAdd | `reading_positions` | `as_found` | `add_to_prefix()` |
| ITI | `reading_inputs(site="z")` | `as_best_heads` | `steer(positions=Window(start=-1))` |
| RepE / LAT | `reading_inputs` | `as_vector(paired_pca)` | `steer()` |
| ICV | `reading_inputs` | `as_vector(paired_pca)` | `steer(add_keeping_norm)` |
| mean-centring | `reading_inputs` | `as_vector(mean_centered)` | `steer()` |
| refusal ablation | `reading_inputs` | `as_vector()` | `ablate_everywhere()` |
| the same in weights | `reading_inputs` | `as_vector()` | `edit_weights("ablation")` |
| CAST | `reading_inputs` | `as_vector(paired_pca)` | `steer(gate=first \| second)` |
| LoReFT | `optimizing_low_rank` | `as_found` | `transform()` |
| ReFT-r1 | `optimizing_rank_one` | `as_found` | `steer()` |
| BiPO | `optimizing_outputs` | `as_found` | `steer()` |
| SEA | `reading_with_neutral` | `as_spectral` | `transform()` |
| MiMiC | `reading_inputs` | `as_map()` | `transform()` |
| conceptors | `reading_inputs` | `as_conceptor` | `transform()` |
| HPR | `reading_inputs` | `as_rotation` | `transform()` |
| MELBO | `discovering` | `as_found` | `steer()` |

LoRRA and circuit breakers train weights towards steered activations: they need `interp.training`.
"""

from steering.repe import published
from steering.repe.benchmark import BenchmarkResult, Concept, benchmark, propensities
from steering.repe.control import (
    ablate_everywhere,
    add_to_prefix,
    edit_weights,
    steer,
    transform,
)
from steering.repe.identification import (
    NeutralReading,
    contests_of,
    discovering,
    optimizing_low_rank,
    optimizing_outputs,
    optimizing_rank_one,
    reading_inputs,
    reading_positions,
    reading_with_neutral,
)
from steering.repe.operationalization import (
    Maps,
    PositionDifferences,
    as_best_heads,
    as_conceptor,
    as_found,
    as_map,
    as_nullspace,
    as_rotation,
    as_spectral,
    as_vector,
)
from steering.repe.pipeline import FittedPipeline, Pipeline

__all__ = [
    "BenchmarkResult",
    "Concept",
    "FittedPipeline",
    "Maps",
    "NeutralReading",
    "Pipeline",
    "PositionDifferences",
    "ablate_everywhere",
    "add_to_prefix",
    "as_best_heads",
    "as_conceptor",
    "as_found",
    "as_map",
    "as_nullspace",
    "as_rotation",
    "as_spectral",
    "as_vector",
    "benchmark",
    "contests_of",
    "discovering",
    "edit_weights",
    "optimizing_low_rank",
    "optimizing_outputs",
    "optimizing_rank_one",
    "propensities",
    "published",
    "reading_inputs",
    "reading_positions",
    "reading_with_neutral",
    "steer",
    "transform",
]
