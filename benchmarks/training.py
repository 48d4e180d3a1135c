"""Fine-tuning and unlearning against the plain Hugging Face step.

- SFT: loss on answer tokens through `interp.training`, against `model(input_ids, labels=...)`,
  `backward()` and AdamW, on the same batch.
- NPO with references that were computed once, on a batch to forget and one to keep, against the
  plain step on both batches together; neither keeps a second model. Only weights of MLPs change,
  as `unlearn` has it.

Targets: SFT at most 1.1 x the time and the memory of the plain step, NPO at most 1.35 x the time.
"""

import copy
from typing import Any

import pandas as pd
import torch
from timing import arguments, median_cpu_seconds, peak_mebibytes, report

from interp import HookedModel, load_model
from interp.training import Example
from interp.training.loop import encode_all, pad
from interp.training.sft import accumulate
from interp.training.unlearning import Task, npo
from interp.training.unlearning.methods import is_mlp
from interp.training.unlearning.transforms import move


def examples(n: int, word: str) -> list[Example]:
    """Questions and answers of about forty tokens."""
    question = "Question: What does the {} author number {} say about the sea in the second book?"
    answer = " That it is never the same twice, and that whoever leaves it comes back to it."
    return [Example(prompt=question.format(word, k) + "\nAnswer:", answer=answer) for k in range(n)]


class Plain:
    """The step that everybody writes."""

    def __init__(self, model: HookedModel, rows: list[Example], chosen: Any) -> None:
        self._module: Any = copy.deepcopy(model.module)
        batch = pad(encode_all(model, rows))
        labels = batch.ids.masked_fill(~batch.answer, -100)
        self._inputs = {
            "input_ids": batch.ids, "attention_mask": batch.mask.long(), "labels": labels
        }  # fmt: skip
        for name, weight in self._module.named_parameters():
            weight.requires_grad_(chosen(name, weight))
        weights = [w for w in self._module.parameters() if w.requires_grad]
        self._optimizer = torch.optim.AdamW(weights, lr=1e-6)

    def __call__(self) -> None:
        """One step."""
        self._optimizer.zero_grad()
        self._module(**self._inputs).loss.backward()
        self._optimizer.step()


class Sft:
    """A step of `train_sft`."""

    def __init__(self, model: HookedModel, rows: list[Example]) -> None:
        self._module = copy.deepcopy(model.module)
        self._rows = encode_all(model, rows)
        self._optimizer = torch.optim.AdamW(self._module.parameters(), lr=1e-6)

    def __call__(self) -> None:
        """One step."""
        self._optimizer.zero_grad()
        accumulate(self._module, self._rows)
        torch.nn.utils.clip_grad_norm_(self._module.parameters(), 1.0)
        self._optimizer.step()


class Npo:
    """A step of NPO in `unlearn`, without the search for its size."""

    def __init__(self, model: HookedModel, forget: list[Example], retain: list[Example]) -> None:
        module = copy.deepcopy(model.module)
        for name, weight in module.named_parameters():
            weight.requires_grad_(is_mlp(name, weight))
        self._task = Task(
            model=HookedModel(module, tokenizer=model.tokenizer),
            weights={n: w for n, w in module.named_parameters() if w.requires_grad},
            forget=(pad(encode_all(model, forget)),),
            retain=(pad(encode_all(model, retain)),),
            seed=0,
        )
        self._method, self._step = npo(), 0

    def __call__(self) -> None:
        """One step."""
        move(self._task.weights, self._method.direction(self._task, self._step), rate=1e-6)
        self._step += 1


def main() -> None:
    options = arguments(__doc__ or "")
    model = load_model("smollm2-135m-instruct")
    n, repeats = (4, 2) if options.quick else (8, 5)
    forget, retain = examples(n, "first"), examples(n, "other")
    makers = {
        "plain, all weights": lambda: Plain(model, forget, lambda n, w: True),
        "SFT": lambda: Sft(model, forget),
        "plain, MLPs, both batches": lambda: Plain(model, forget + retain, is_mlp),
        "NPO": lambda: Npo(model, forget, retain),
    }
    seconds, memory = {}, {}
    for pair in (("plain, all weights", "SFT"), ("plain, MLPs, both batches", "NPO")):
        for name in pair:
            memory[name] = peak_mebibytes(lambda name=name: [makers[name]()() for _ in range(1)])
        steps = {name: makers[name]() for name in pair}
        seconds |= median_cpu_seconds(steps, repeats=repeats)
    table = pd.DataFrame({"CPU seconds a step": seconds, "peak MiB": memory})
    ratios = {
        "sft_time": seconds["SFT"] / seconds["plain, all weights"],
        "sft_memory": memory["SFT"] / memory["plain, all weights"],
        "npo_time": seconds["NPO"] / seconds["plain, MLPs, both batches"],
        "npo_memory": memory["NPO"] / memory["plain, MLPs, both batches"],
    }
    report(
        {"steps": table, "ratios to the plain step": pd.DataFrame({"ratio": ratios})},
        {"seconds": seconds, "mebibytes": memory, "ratios": ratios},
        options.json,
    )


if __name__ == "__main__":
    main()
