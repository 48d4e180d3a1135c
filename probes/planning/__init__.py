"""Plans in the states of agents: read, watched as they form, and changed.

- `SpatialProbe` reads a class off every square; `score_plan` and `compare_plans` judge it.
- `read_plans` probes every layer beside its controls; `measure_formation` follows the plan over
  ticks of thinking.
- `published_probes` and its neighbors hold what others measured.

The labels come from `interp.planning.concepts`, the states from `interp.planning.rollouts`.
"""

from probes.planning.formation import PlanFormation, measure_formation, thinking_plans
from probes.planning.published import (
    published_emergence,
    published_formation,
    published_probes,
    published_solve_rates,
)
from probes.planning.reading import PlanReading, ProbedState, ReadingConfig, decode, read_plans
from probes.planning.scores import PlanScore, compare_plans, score_plan
from probes.planning.spatial import SpatialProbe

__all__ = [
    "PlanFormation",
    "PlanReading",
    "PlanScore",
    "ProbedState",
    "ReadingConfig",
    "SpatialProbe",
    "compare_plans",
    "decode",
    "measure_formation",
    "published_emergence",
    "published_formation",
    "published_probes",
    "published_solve_rates",
    "read_plans",
    "score_plan",
    "thinking_plans",
]
