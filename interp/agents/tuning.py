"""Fine-tuning of what a model chooses: low-rank adapters, trained on wanted probabilities.

The loss is the cross-entropy between the wanted probabilities of some options and those the model
gives them, over the whole vocabulary. Adapters (LoRA, Hu et al. 2021, arXiv 2106.09685) need the
extra `train`; they are merged, so that what comes back is a plain model. It shows what a model can
be taught with these examples, and nothing of what it knew before.
"""

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from interp.agents.hooked import disarmed, first_tokens
from interp.core.model import HookedModel
from interp.core.records import Message, Records
from interp.core.seeds import derive


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """Messages, and how likely each option should be as the reply."""

    messages: tuple[Message, ...]
    """What the model reads."""
    options: tuple[str, ...]
    """Replies that differ in their first token."""
    wanted: tuple[float, ...]
    """The probability of each; they sum to 1."""

    def __post_init__(self) -> None:
        """Check the probabilities."""
        fits = len(self.wanted) == len(self.options) and min(self.wanted, default=-1) >= 0
        if not fits or abs(sum(self.wanted) - 1) > 1e-6:
            raise ValueError(
                f"wanted is {self.wanted!r}: needed {len(self.options)} probabilities that sum to 1"
            )


@dataclass(frozen=True, kw_only=True)
class TuningConfig:
    """How to train."""

    n_steps: int = 60
    """Steps of Adam."""
    batch_size: int = 8
    """Lessons of a step."""
    lr: float = 1e-3
    """Step size."""
    rank: int = 8
    """Rank of the adapters."""
    first_layer: int = 0
    """Layers below this one stay as they are."""


def tune_choices(
    model: HookedModel,
    lessons: Sequence[Lesson],
    *,
    config: TuningConfig | None = None,
    seed: int = 0,
    progress: bool = False,
) -> tuple[HookedModel, Float[np.ndarray, " step"]]:
    """A copy of a model that was trained to choose as wanted, and the loss of each step.

    Args:
        model: A language model of which linear modules are called `q_proj`, `v_proj`, ...
        lessons: What it should choose.
        config: How to train.
        seed: Of the adapters' first values and of the order of lessons.
        progress: Show a progress bar.

    Raises:
        ValueError: If there are no lessons, or options begin with the same token.
    """
    if not lessons:
        raise ValueError("no lessons: needed at least one")
    config = config or TuningConfig()
    prepared = [_prepared(model, lesson) for lesson in lessons]
    adapted = _adapted(copy.deepcopy(model.module), model.n_layers, config, seed)
    weights = [p for p in adapted.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=config.lr, weight_decay=0.0)
    losses = []
    for step in tqdm(range(config.n_steps), disable=not progress, desc="tune"):
        rows = _batch(len(lessons), step, config.batch_size, seed)
        loss = torch.stack([_loss(adapted, *prepared[row]) for row in rows]).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        for group in optimizer.param_groups:  # a short warm-up, then linearly to zero
            group["lr"] = config.lr * min((step + 1) / 5, 1 - step / config.n_steps)
        optimizer.step()
        losses.append(float(loss.detach()))
    merged = adapted.merge_and_unload().eval().requires_grad_(False)
    tuned = HookedModel(merged, tokenizer=model.tokenizer, name=f"{model.name}-tuned")
    return tuned, np.array(losses)


def _prepared(model: HookedModel, lesson: Lesson) -> tuple[Tensor, Tensor, Tensor]:
    """Ids of a prompt, first tokens of the options, wanted probabilities."""
    records = Records([disarmed(model, lesson.messages)])
    ids = torch.from_numpy(model.tokenize(records, add_generation_prompt=True).ids)[None]
    first = torch.tensor(first_tokens(model, lesson.options))
    return ids.to(model.device), first, torch.tensor(lesson.wanted)


def _adapted(module: Any, n_layers: int, config: TuningConfig, seed: int) -> Any:
    """The module with fresh adapters; peft draws from torch's global generator, which is kept."""
    import peft

    lora = peft.LoraConfig(
        r=config.rank,
        lora_alpha=2 * config.rank,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj"],
        layers_to_transform=list(range(config.first_layer, n_layers)),
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(), warnings.catch_warnings():
        # peft asks transformers by a name that transformers is about to drop
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        torch.manual_seed(derive(seed, "adapters"))
        return peft.get_peft_model(module, lora)


def _batch(n: int, step: int, size: int, seed: int) -> np.ndarray:
    """Lessons of a step: each comes once before any comes again."""
    places = range(step * size, (step + 1) * size)
    orders = {
        epoch: np.random.default_rng(derive(seed, "order", epoch)).permutation(n)
        for epoch in {place // n for place in places}
    }
    return np.array([orders[place // n][place % n] for place in places])


def _loss(module: Any, ids: Tensor, first: Tensor, wanted: Tensor) -> Tensor:
    logits = module(input_ids=ids, use_cache=False, logits_to_keep=1).logits[0, -1].float().cpu()
    return -(wanted * logits.log_softmax(-1)[first]).sum()
