"""A residual network without memory: the baseline of Bush et al. 2025 for planning in ticks.

It computes in depth what a DRC computes in ticks, has no state between steps, and answers like a
`Drc`, so that training, evaluation and probes take either.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from interp.core.bridge import HookedRootModule, HookPoint
from interp.planning.drc import AgentOutput
from interp.planning.environment import N_ACTIONS, N_PLANES


@dataclass(frozen=True, kw_only=True)
class ResNetConfig:
    """Size of a residual agent."""

    n_blocks: int = 24
    """Residual blocks of two convolutions."""
    channels: int = 32
    """Channels of the residual stream."""
    size: tuple[int, int] = (8, 8)
    """Height and width of the board, without its border."""
    d_hidden: int = 256
    """Width of the layer before policy and value."""
    n_planes: int = N_PLANES
    """Planes of an observation."""
    n_actions: int = N_ACTIONS
    """Actions of the policy."""


class ResidualBlock(nn.Module):
    """Two convolutions added to the residual stream; `hook_out` is the stream after it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.hook_out = HookPoint()

    def forward(
        self, stream: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch channel height width"]:
        """The stream after the block."""
        change = self.second(functional.relu(self.first(functional.relu(stream))))
        return self.hook_out(stream + change)


class ResNet(HookedRootModule):
    """Residual actor-critic; its state is empty.

    Args:
        config: Size.
        seed: Seed of the initial weights.
    """

    def __init__(self, config: ResNetConfig, *, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.encoder = nn.Conv2d(config.n_planes, config.channels, 3, padding=1)
            self.blocks = nn.ModuleList(
                ResidualBlock(config.channels) for _ in range(config.n_blocks)
            )
            n_cells = config.size[0] * config.size[1]
            self.head = nn.Linear(config.channels * n_cells, config.d_hidden)
            self.policy = nn.Linear(config.d_hidden, config.n_actions)
            self.value = nn.Linear(config.d_hidden, 1)
        self.hook_encoding = HookPoint()
        self.setup()

    def initial_state(self, batch: int) -> Float[Tensor, "2 0 batch 0 0 0"]:
        """An empty state of the form that a DRC has."""
        return torch.zeros((2, 0, batch, 0, 0, 0), device=self.encoder.weight.device)

    def forward(
        self, observation: Float[Tensor, "batch plane height width"], state: Tensor
    ) -> AgentOutput:
        """Policy and value of an observation; the state comes back as it is."""
        stream = self.hook_encoding(self.encoder(observation))
        for block in self.blocks:
            stream = block(stream)
        features = functional.relu(self.head(functional.relu(stream).flatten(1)))
        return AgentOutput(
            logits=self.policy(features), value=self.value(features)[:, 0], state=state
        )
