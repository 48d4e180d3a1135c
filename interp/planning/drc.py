"""Deep repeating ConvLSTM (DRC), the planning agent of Guez et al. 2019 (arXiv 1901.03559).

A stack of `depth` convolutional LSTM cells over the board runs `ticks` times at every step of the
environment, and so can compute before it acts. Written as in Bush et al. 2025 (arXiv 2504.01871):
every cell reads the encoded observation (bottom-up skip), the hidden state of the layer below (at
the lowest layer, of the top layer one tick earlier: top-down skip), its own hidden state, and a
per-channel mix of that state's mean and maximum over the board (pool-and-inject).

The model is hooked: `layers.{layer}.ticks.{tick}.hook_cell` is the cell state before the output
gate reads it, `hook_hidden` what the gate lets out, and there is one hook for each gate.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, cast, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from interp.core.bridge import HookedRootModule, HookPoint
from interp.planning.environment import N_ACTIONS, N_PLANES

GATES = ("input", "forget", "output", "candidate")
"""Order of the gates in the output channels of a cell's convolution."""


@dataclass(frozen=True, kw_only=True)
class DrcConfig:
    """Size and form of a DRC."""

    depth: int = 3
    """Layers of cells."""
    ticks: int = 3
    """Times that the stack runs at each step."""
    channels: int = 32
    """Channels of the encoding and of every state."""
    size: tuple[int, int] = (8, 8)
    """Height and width of the board, without its border."""
    d_hidden: int = 256
    """Width of the layer before policy and value."""
    n_planes: int = N_PLANES
    """Planes of an observation."""
    n_actions: int = N_ACTIONS
    """Actions of the policy."""
    output_gate: Literal["sigmoid", "tanh"] = "sigmoid"
    """Function of the output gate: sigmoid in Bush et al., tanh in Taufeeque et al. 2024."""
    forget_bias: float = 0.0
    """Added to the forget gates' bias at initialization: 1 makes states last from the start."""

    def __post_init__(self) -> None:
        if self.output_gate not in ("sigmoid", "tanh"):
            raise ValueError(f"output_gate is {self.output_gate!r}; 'sigmoid' or 'tanh' is needed")
        for name in ("depth", "ticks", "channels", "d_hidden", "n_planes", "n_actions"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)!r}; at least 1 is needed")


@dataclass(frozen=True, kw_only=True)
class AgentOutput:
    """What an agent answers to one observation."""

    logits: Float[Tensor, "batch action"]
    """Unnormalized log-probabilities of the actions."""
    value: Float[Tensor, " batch"]
    """Expected discounted return."""
    state: Float[Tensor, "2 layer batch channel height width"]
    """Hidden and cell states to go on with."""


@runtime_checkable
class Agent(Protocol):
    """An actor-critic with a recurrent state that is zero at the start of an episode."""

    def initial_state(self, batch: int) -> Tensor:
        """The state of new episodes."""
        ...

    def __call__(self, observation: Tensor, state: Tensor) -> AgentOutput:
        """Policy, value and the next state."""
        ...


def clear_state(
    state: Float[Tensor, "2 layer batch channel height width"], ended: Bool[Tensor, " batch"]
) -> Float[Tensor, "2 layer batch channel height width"]:
    """The state with zeros where an episode ended."""
    return state * (~ended)[:, None, None, None]


class TickHooks(nn.Module):
    """The hook points of one cell at one tick."""

    def __init__(self) -> None:
        super().__init__()
        self.hook_pool = HookPoint()
        self.hook_input_gate = HookPoint()
        self.hook_forget_gate = HookPoint()
        self.hook_output_gate = HookPoint()
        self.hook_candidate = HookPoint()
        self.hook_cell = HookPoint()
        self.hook_hidden = HookPoint()


class DrcLayer(nn.Module):
    """One ConvLSTM cell, whose weights serve all ticks.

    The published cell convolves [encoding, below, hidden, pooled hidden]. The sum over these four
    is taken apart: the encoding does not change between ticks, and the pooled vector is constant
    over the board, so that both cost little, with the same result.
    """

    def __init__(self, config: DrcConfig) -> None:
        super().__init__()
        self.config = config
        width = config.channels
        self.conv = nn.Conv2d(4 * width, len(GATES) * width, 3, padding=1)
        self.pool_weight = nn.Parameter(torch.full((2, width), 0.5))
        self.pool_bias = nn.Parameter(torch.zeros(width))
        self.ticks = nn.ModuleList(TickHooks() for _ in range(config.ticks))
        with torch.no_grad():
            cast(Tensor, self.conv.bias)[width : 2 * width] += config.forget_bias
        self._inside: Tensor
        self.register_buffer("_inside", _taps_inside(config.size), persistent=False)

    def encode(
        self, encoding: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch gate height width"]:
        """The part of the gates that comes from the observation: the same at every tick."""
        weight = self.conv.weight[:, : self.config.channels]
        return functional.conv2d(encoding, weight, self.conv.bias, padding=1)

    def pool_kernel(self) -> Float[Tensor, "channel gate_cell"]:
        """The linear map from the pooled vector to the gates of every cell of the board."""
        weight = self.conv.weight[:, 3 * self.config.channels :]
        kernel = weight.flatten(2) @ self._inside  # gate, channel, cell
        return kernel.transpose(0, 1).flatten(1)

    def forward(
        self,
        drive: Float[Tensor, "batch gate height width"],
        kernel: Float[Tensor, "channel gate_cell"],
        below: Float[Tensor, "batch channel height width"],
        hidden: Float[Tensor, "batch channel height width"],
        cell: Float[Tensor, "batch channel height width"],
        tick: int,
    ) -> tuple[
        Float[Tensor, "batch channel height width"], Float[Tensor, "batch channel height width"]
    ]:
        """Hidden and cell state after one tick.

        Args:
            drive: What `encode` returned at this step.
            kernel: What `pool_kernel` returned.
            below: Hidden state of the layer below.
            hidden: Own hidden state.
            cell: Own cell state.
            tick: Number of the tick, for its hooks.
        """
        hooks, width = cast(TickHooks, self.ticks[tick]), self.config.channels
        pooled = self.pool_weight[0] * hidden.mean((2, 3)) + self.pool_weight[1] * hidden.amax(
            (2, 3)
        )
        pooled = hooks.hook_pool(pooled + self.pool_bias)
        weight = self.conv.weight[:, width : 3 * width]
        gates = functional.conv2d(torch.cat([below, hidden], 1), weight, padding=1)
        gates = gates + drive + (pooled @ kernel).view_as(drive)
        opening = torch.sigmoid(gates[:, : 2 * width])
        write = hooks.hook_input_gate(opening[:, :width])
        keep = hooks.hook_forget_gate(opening[:, width:])
        squash = torch.sigmoid if self.config.output_gate == "sigmoid" else torch.tanh
        show = hooks.hook_output_gate(squash(gates[:, 2 * width : 3 * width]))
        candidate = hooks.hook_candidate(torch.tanh(gates[:, 3 * width :]))
        cell = hooks.hook_cell(keep * cell + write * candidate)
        return hooks.hook_hidden(show * torch.tanh(cell)), cell


class Drc(HookedRootModule):
    """DRC(depth, ticks) actor-critic.

    `forward(observation, state)` is one step of the environment. The state of a new episode is
    `initial_state(batch)`.

    Args:
        config: Size and form.
        seed: Seed of the initial weights.
    """

    def __init__(self, config: DrcConfig, *, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.encoder = nn.Conv2d(config.n_planes, config.channels, 3, padding=1)
            self.layers = nn.ModuleList(DrcLayer(config) for _ in range(config.depth))
            n_cells = config.size[0] * config.size[1]
            self.head = nn.Linear(2 * config.channels * n_cells, config.d_hidden)
            self.policy = nn.Linear(config.d_hidden, config.n_actions)
            self.value = nn.Linear(config.d_hidden, 1)
            _initialize(self)
        self.hook_encoding = HookPoint()
        self.hook_head = HookPoint()
        self.setup()

    def initial_state(self, batch: int) -> Float[Tensor, "2 layer batch channel height width"]:
        """The state at the start of an episode: zeros on the model's device."""
        config = self.config
        shape = (2, config.depth, batch, config.channels, *config.size)
        return torch.zeros(
            shape, device=self.encoder.weight.device, dtype=self.encoder.weight.dtype
        )

    def forward(
        self,
        observation: Float[Tensor, "batch plane height width"],
        state: Float[Tensor, "2 layer batch channel height width"],
    ) -> AgentOutput:
        """Compute `ticks` ticks on one observation.

        Args:
            observation: Planes of the board, as `SokobanBatch.observe` gives them.
            state: State after the step before, or `initial_state`.

        Returns:
            Policy, value and the state after the last tick.

        Raises:
            ValueError: If the observation is not of the configured size.
        """
        self._check(observation)
        encoding = self.hook_encoding(self.encoder(observation))
        layers = [cast(DrcLayer, layer) for layer in self.layers]
        drives = [layer.encode(encoding) for layer in layers]
        kernels = [layer.pool_kernel() for layer in layers]
        hidden, cell = list(state[0].unbind(0)), list(state[1].unbind(0))
        for tick in range(self.config.ticks):
            below = hidden[-1]
            for d, layer in enumerate(layers):
                hidden[d], cell[d] = layer(drives[d], kernels[d], below, hidden[d], cell[d], tick)
                below = hidden[d]
        features = torch.cat([encoding, hidden[-1]], 1).flatten(1)
        features = self.hook_head(functional.relu(self.head(features)))
        return AgentOutput(
            logits=self.policy(features),
            value=self.value(features)[:, 0],
            state=torch.stack([torch.stack(hidden), torch.stack(cell)]),
        )

    def _check(self, observation: Tensor) -> None:
        needed = (self.config.n_planes, *self.config.size)
        if tuple(observation.shape[1:]) != needed:
            raise ValueError(
                f"observation has planes and board {tuple(observation.shape[1:])}, but this agent "
                f"was made for {needed}; give it boards of its size"
            )


def hook_names(
    config: DrcConfig, kind: str = "cell", *, layers: Sequence[int] | None = None
) -> list[str]:
    """Names of the hooks of one kind, by tick and then by layer.

    Args:
        config: The agent's config.
        kind: `pool`, `input_gate`, `forget_gate`, `output_gate`, `candidate`, `cell` or `hidden`.
        layers: The layers; all if None.

    Examples:
        >>> hook_names(DrcConfig(depth=1, ticks=2))
        ['layers.0.ticks.0.hook_cell', 'layers.0.ticks.1.hook_cell']
    """
    chosen = range(config.depth) if layers is None else layers
    return [
        f"layers.{layer}.ticks.{tick}.hook_{kind}"
        for tick in range(config.ticks)
        for layer in chosen
    ]


def _initialize(agent: nn.Module) -> None:
    """Weights that keep the variance of their inputs; what policy and value add starts small."""
    for name, part in agent.named_modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            scale = 0.1 if name in ("policy", "value") else 1.0
            nn.init.normal_(part.weight, std=scale * part.weight[0].numel() ** -0.5)


def _taps_inside(size: tuple[int, int]) -> Float[Tensor, "tap cell"]:
    """For each tap of a 3x3 kernel, on which cells it falls inside the zero-padded board."""
    board = torch.ones(1, 1, *size)
    return functional.unfold(board, 3, padding=1)[0]
