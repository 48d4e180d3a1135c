"""Sokoban agents that plan: levels, environment, solver, networks, training and shipped agents.

- `levels`, `pictures`, `symmetry`, `generation`: levels as arrays, from text and pictures, by
  symmetry, newly generated.
- `environment`: the batched game and a single one; `solver`: optimal play.
- `drc`, `resnet`: the networks; `imitation`, `reinforcement`, `training`: how they learn.
- `evaluation`: how many levels an agent solves; `agents`: trained ones as folders; `recipes`: how
  they were trained.
- `rollouts`: episodes, and what a network held at every step of them; `concepts`: what the agent
  will do to each square; `shortcuts`: levels with a short and a long way; `variants`: agents that
  see something else.
"""

from interp.planning.agents import AgentInfo, list_agents, load_agent, load_agent_info
from interp.planning.concepts import CLASSES, CONCEPTS, ConceptLabels, label_concept
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
from interp.planning.generation import (
    LEVEL_SET,
    GenerationConfig,
    generate_levels,
    load_level_set,
)
from interp.planning.imitation import ImitationConfig
from interp.planning.levels import LevelError, Levels, load_levels, parse_levels
from interp.planning.pictures import from_pictures, to_pictures
from interp.planning.recipes import (
    train_boxoban_agent,
    train_reinforced_agent,
    train_small_agent,
)
from interp.planning.reinforcement import ReinforcementConfig, vtrace_targets
from interp.planning.resnet import ResNet, ResNetConfig
from interp.planning.rollouts import (
    Episodes,
    hook_agent,
    observe,
    optimal_episodes,
    play_episodes,
    read_activations,
    replay_actions,
)
from interp.planning.shortcuts import (
    Shortcuts,
    find_shortcuts,
    generate_shortcuts,
    took_long_way,
    with_symmetries,
)
from interp.planning.solver import (
    DistanceTable,
    UnsolvableError,
    solve_distances,
    solve_optimally,
)
from interp.planning.symmetry import transform_action, transform_levels
from interp.planning.training import TrainingConfig, TrainingSchedule, train_agent
from interp.planning.variants import blinded, resized

__all__ = [
    "BUSH_RULES",
    "CLASSES",
    "CONCEPTS",
    "GUEZ_RULES",
    "LEVEL_SET",
    "Action",
    "AgentInfo",
    "AgentOutput",
    "ConceptLabels",
    "DistanceTable",
    "Drc",
    "DrcConfig",
    "Episodes",
    "GenerationConfig",
    "ImitationConfig",
    "LevelError",
    "Levels",
    "PlayResult",
    "ReinforcementConfig",
    "ResNet",
    "ResNetConfig",
    "Rules",
    "Shortcuts",
    "SokobanBatch",
    "SokobanGame",
    "TrainingConfig",
    "TrainingSchedule",
    "UnsolvableError",
    "blinded",
    "find_shortcuts",
    "from_pictures",
    "generate_levels",
    "generate_shortcuts",
    "hook_agent",
    "hook_names",
    "label_concept",
    "list_agents",
    "load_agent",
    "load_agent_info",
    "load_level_set",
    "load_levels",
    "observe",
    "optimal_episodes",
    "parse_levels",
    "play_episodes",
    "play_levels",
    "read_activations",
    "replay_actions",
    "resized",
    "solve_distances",
    "solve_optimally",
    "to_pictures",
    "took_long_way",
    "train_agent",
    "train_boxoban_agent",
    "train_reinforced_agent",
    "train_small_agent",
    "transform_action",
    "transform_levels",
    "vtrace_targets",
    "with_symmetries",
]
