"""Sokoban agents that plan: levels, environment, solver, networks, training and shipped agents.

- `levels`, `symmetry`, `generation`: levels as arrays, from text, by symmetry, newly generated.
- `environment`: the batched game and a single one; `solver`: optimal play.
- `drc`, `resnet`: the networks; `imitation`, `reinforcement`, `training`: how they learn.
- `evaluation`: how many levels an agent solves; `agents`: those that come with the package.
"""

from interp.planning.agents import AgentInfo, list_agents, load_agent, load_agent_info
from interp.planning.drc import AgentOutput, Drc, DrcConfig, hook_names
from interp.planning.environment import (
    BUSH_RULES,
    GUEZ_RULES,
    Action,
    Rules,
    SokobanBatch,
    SokobanGame,
)
from interp.planning.evaluation import PlayResult, play_levels
from interp.planning.generation import GenerationConfig, generate_levels
from interp.planning.imitation import ImitationConfig
from interp.planning.levels import LevelError, Levels, load_levels, parse_levels
from interp.planning.reinforcement import ReinforcementConfig, vtrace_targets
from interp.planning.resnet import ResNet, ResNetConfig
from interp.planning.solver import (
    DistanceTable,
    UnsolvableError,
    solve_distances,
    solve_optimally,
)
from interp.planning.symmetry import transform_action, transform_levels
from interp.planning.training import TrainingConfig, TrainingSchedule, train_agent

__all__ = [
    "BUSH_RULES",
    "GUEZ_RULES",
    "Action",
    "AgentInfo",
    "AgentOutput",
    "DistanceTable",
    "Drc",
    "DrcConfig",
    "GenerationConfig",
    "ImitationConfig",
    "LevelError",
    "Levels",
    "PlayResult",
    "ReinforcementConfig",
    "ResNet",
    "ResNetConfig",
    "Rules",
    "SokobanBatch",
    "SokobanGame",
    "TrainingConfig",
    "TrainingSchedule",
    "UnsolvableError",
    "generate_levels",
    "hook_names",
    "list_agents",
    "load_agent",
    "load_agent_info",
    "load_levels",
    "parse_levels",
    "play_levels",
    "solve_distances",
    "solve_optimally",
    "train_agent",
    "transform_action",
    "transform_levels",
    "vtrace_targets",
]
