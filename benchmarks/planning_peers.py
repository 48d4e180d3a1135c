"""Steps of `gym-sokoban` per CPU second, on boards of 10x10 with four boxes.

It needs gym instead of gymnasium, so this script runs in an environment of its own and imports
nothing of ours:

    python3 -m venv peers
    peers/bin/pip install gym-sokoban
    python benchmarks/planning.py --peers peers/bin/python

The peer renders an observation in every step; its smallest, `tiny_rgb_array`, has a pixel for each
square and is what stands beside our planes. Jumanji is left out: it takes its levels from a hub
when it is made, and runs on JAX.
"""

import json
import random
import sys
import time
from pathlib import Path

import numpy as np
from gym_sokoban.envs import SokobanEnv

N_STEPS = 1000


def main() -> None:
    """Write steps per CPU second by kind of observation to the file that is named."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  the peer draws its levels from the global generator
    game = SokobanEnv(dim_room=(10, 10), num_boxes=4, max_steps=120)
    rates = {}
    for observation, n_steps in (("tiny_rgb_array", N_STEPS), ("rgb_array", N_STEPS // 5)):
        actions = np.random.default_rng(0).integers(0, 5, n_steps)
        start = time.process_time()
        for action in actions:
            game.step(int(action), observation_mode=observation)
        rates[f"gym-sokoban, {observation}"] = n_steps / (time.process_time() - start)
    Path(sys.argv[1]).write_text(json.dumps(rates))


if __name__ == "__main__":
    main()
