"""Speed of the Sokoban environment, of the DRC agent and of the expert, on one core.

The environment has a floor of 500,000 steps a second at 1,024 games. The agent is timed beside the
same network written as published, with one convolution over [encoding, below, hidden, pool]. With
`--peers PYTHON` gym-sokoban runs too, in an environment of its own: `planning_peers.py` says how to
make it. It is slower by orders of magnitude, and plays one game at a time.
"""

import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from timing import arguments, median_cpu_seconds, report
from torch.nn import functional

from interp.planning import Drc, DrcConfig, SokobanBatch, generate_levels, solve_distances

FLOOR = 500_000
N_GAMES, N_STEPS = 1024, 64


def published_forward(
    agent: Drc, observation: torch.Tensor, state: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The agent's step with nothing taken apart and without hooks; returns logits and state."""
    encoding = agent.encoder(observation)
    hidden, cell = list(state[0]), list(state[1])
    for _ in range(agent.config.ticks):
        below = hidden[-1]
        for d, layer in enumerate(agent.layers):
            mix = layer.pool_weight
            pool = mix[0] * hidden[d].mean((2, 3)) + mix[1] * hidden[d].amax((2, 3))
            pool = (pool + layer.pool_bias)[:, :, None, None].expand_as(below)
            inputs = torch.cat([encoding, below, hidden[d], pool], 1)
            gates = functional.conv2d(inputs, layer.conv.weight, layer.conv.bias, padding=1)
            write, keep, show, candidate = gates.chunk(4, 1)
            cell[d] = keep.sigmoid() * cell[d] + write.sigmoid() * candidate.tanh()
            hidden[d] = below = show.sigmoid() * cell[d].tanh()
    features = torch.cat([encoding, hidden[-1]], 1).flatten(1)
    features = functional.relu(agent.head(features))
    return agent.policy(features), torch.stack([torch.stack(hidden), torch.stack(cell)])


def peer_rates(python: str) -> dict[str, float]:
    """Steps per CPU second of the peer, in the environment whose interpreter is given."""
    with tempfile.TemporaryDirectory() as folder:
        rates = Path(folder) / "rates.json"
        script = Path(__file__).with_name("planning_peers.py")
        subprocess.run([python, "-W", "ignore", str(script), str(rates)], check=True)
        return json.loads(rates.read_text())


@torch.no_grad()
def main() -> None:
    help_of_peers = "interpreter of an environment that has gym-sokoban"
    options = arguments(__doc__.split("\n")[0], peers=help_of_peers)
    repeats = 2 if options.quick else 7
    levels = generate_levels(32, seed=0)
    batch = SokobanBatch(levels, N_GAMES)
    actions = torch.randint(5, (N_STEPS, N_GAMES), generator=torch.Generator().manual_seed(0))
    agent = Drc(DrcConfig(channels=16, size=(6, 6), d_hidden=128)).eval()
    games = SokobanBatch(levels, 64)
    observation, state = games.observe(), agent.initial_state(64)
    logits, _ = published_forward(agent, observation, state)
    np.testing.assert_allclose(agent(observation, state).logits, logits, atol=1e-5)
    seconds = median_cpu_seconds(
        {
            "environment": lambda: [batch.step(row) for row in actions],
            "environment and observation": lambda: [
                (batch.step(row), batch.observe()) for row in actions
            ],
            "agent": lambda: agent(observation, state),
            "agent as published": lambda: published_forward(agent, observation, state),
            "expert table": lambda: solve_distances(levels[[0]]),
        },
        repeats=repeats,
    )
    n_done = {
        "environment": N_GAMES * N_STEPS,
        "environment and observation": N_GAMES * N_STEPS,
        "agent": 64,
        "agent as published": 64,
        "expert table": 1,
    }
    rates = {name: n_done[name] / each for name, each in seconds.items()}
    if options.peers is not None:
        rates |= peer_rates(options.peers)
    table = pd.DataFrame({"per CPU second": rates})
    numbers = {
        "per_cpu_second": rates,
        "environment_over_floor": rates["environment"] / FLOOR,
        "agent_over_published": rates["agent"] / rates["agent as published"],
    }
    report({"steps, transitions and tables": table}, numbers, options.json)
    print(f"environment against the floor of {FLOOR}: {numbers['environment_over_floor']:.2f}")
    print(f"agent against the published form: {numbers['agent_over_published']:.2f}")


if __name__ == "__main__":
    main()
