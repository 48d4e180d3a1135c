"""Plans in the states of agents: read, watched as they form, and changed.

- `SpatialProbe` reads a class off every square; `score_plan` and `compare_plans` judge it.
- `read_plans` probes every layer beside its controls; `measure_formation` follows the plan over
  ticks of thinking, and `find_motifs` finds examples of how it grows and changes.
- `measure_steering` adds the probe's vectors to the plan on levels with two ways;
  `measure_thinking` gives the agent time; `measure_emergence` follows all of it over training;
  `measure_unseen` reads plans on boards unlike those of the training.
- `rank_channels` asks whether single channels are the plan.
- `published_probes` and its neighbors hold what others measured.

The labels come from `interp.planning.concepts`, the states from `interp.planning.rollouts`.
"""

from probes.planning.channels import rank_channels
from probes.planning.formation import PlanFormation, measure_formation, thinking_plans
from probes.planning.interventions import (
    SteeringConfig,
    SteeringResult,
    measure_steering,
    plot_steering,
    probe_vectors,
    random_vectors,
    steer_along,
    wilson_interval,
)
from probes.planning.motifs import Motif, count_motifs, find_motifs, follow_route, shuffle_ticks
from probes.planning.published import (
    published_emergence,
    published_formation,
    published_probes,
    published_solve_rates,
)
from probes.planning.reading import PlanReading, ProbedState, ReadingConfig, decode, read_plans
from probes.planning.scores import PlanScore, compare_plans, score_plan
from probes.planning.spatial import SpatialProbe
from probes.planning.thinking import (
    ThinkingResult,
    measure_emergence,
    measure_thinking,
    plot_emergence,
)
from probes.planning.unseen import measure_unseen, plot_unseen

__all__ = [
    "Motif",
    "PlanFormation",
    "PlanReading",
    "PlanScore",
    "ProbedState",
    "ReadingConfig",
    "SpatialProbe",
    "SteeringConfig",
    "SteeringResult",
    "ThinkingResult",
    "compare_plans",
    "count_motifs",
    "decode",
    "find_motifs",
    "follow_route",
    "measure_emergence",
    "measure_formation",
    "measure_steering",
    "measure_thinking",
    "measure_unseen",
    "plot_emergence",
    "plot_steering",
    "plot_unseen",
    "probe_vectors",
    "published_emergence",
    "published_formation",
    "published_probes",
    "published_solve_rates",
    "random_vectors",
    "rank_channels",
    "read_plans",
    "score_plan",
    "shuffle_ticks",
    "steer_along",
    "thinking_plans",
    "wilson_interval",
]
