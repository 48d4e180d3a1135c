"""Copies of an agent that see something else, to ask what its plan depends on.

After Bush et al. 2025 (arXiv 2504.01871), who read plans of an agent that does not see itself, and
of convolutional cores on boards much larger than those of their training.
"""

import copy
from dataclasses import replace

import torch

from interp.planning.drc import Drc
from interp.planning.environment import PLANES


def blinded(agent: Drc) -> Drc:
    """A copy that does not see where it stands.

    Its encoder's weights for the planes of the player are 0, as if these planes were empty.

    Args:
        agent: An agent that reads the planes of `SokobanBatch.observe`.
    """
    blind = copy.deepcopy(agent)
    planes = [number for number, name in enumerate(PLANES) if name.startswith("player")]
    with torch.no_grad():
        blind.encoder.weight[:, planes] = 0
    return blind


def resized(agent: Drc, size: tuple[int, int]) -> Drc:
    """The convolutional core of an agent, for boards of another size.

    What comes before policy and value is bound to the size and is new and random in the copy: its
    states mean something, its actions do not.

    Args:
        agent: The agent.
        size: Height and width of the boards, without their border.
    """
    other = Drc(replace(agent.config, size=size))
    core = {k: v for k, v in agent.state_dict().items() if not k.startswith("head.")}
    other.load_state_dict(core, strict=False)
    return other.eval().requires_grad_(False)
