"""The peers `steering-vectors` and `repeng` on pairs that `steering.py` wrote: CPU time and vector.

They need older transformers and numpy than this package, so this script runs in an environment of
its own and imports nothing of ours:

    python3 -m venv peers
    peers/bin/pip install torch "transformers<5" "numpy<2" steering-vectors repeng
    python benchmarks/steering.py --peers peers/bin/python
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from repeng import ControlModel, ControlVector, DatasetEntry
from steering_vectors import train_steering_vector
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

N_WARM = 4


def main() -> None:
    """Read `pairs.json` and the model in a folder; write `peers.json` there."""
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    task = json.loads((folder / "pairs.json").read_text())
    pairs, layer = [tuple(pair) for pair in task["pairs"]], task["layer"]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), pad_token=task["pad_token"]
    )
    model = AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float32).eval()
    found = {}

    def by_steering_vectors(chosen: list[Any]) -> torch.Tensor:
        made = train_steering_vector(
            model, tokenizer, chosen, layers=[layer], batch_size=16, show_progress=False
        )
        return made.layer_activations[layer]

    found["steering-vectors, batch 16"] = _timed(by_steering_vectors, pairs)
    controlled = ControlModel(model, [layer])  # replaces blocks of the model: it comes last

    def by_repeng(chosen: list[Any]) -> torch.Tensor:
        entries = [DatasetEntry(positive=a, negative=b) for a, b in chosen]
        made = ControlVector.train(
            controlled, tokenizer, entries, hidden_layers=[layer], batch_size=32
        )
        return torch.from_numpy(made.directions[layer])

    found["repeng, batch 32"] = _timed(by_repeng, pairs)
    (folder / "peers.json").write_text(json.dumps(found))


def _timed(run: Callable[[list[Any]], torch.Tensor], pairs: list[Any]) -> dict[str, Any]:
    """CPU seconds on all pairs, after a small run that is not counted."""
    run(pairs[:N_WARM])
    start = time.process_time()
    vector = run(pairs)
    seconds = time.process_time() - start
    return {"seconds": seconds, "vector": vector.float().flatten().tolist()}


if __name__ == "__main__":
    main()
