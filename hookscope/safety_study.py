"""The safety study: what benign fine-tuning does to refusal, and what averaging the weights saves.

The embedded model refuses next to nothing, so it first learns to refuse harmful instructions and to
answer others as it did. From there it is fine-tuned on benign answers, over learning rates, batch
sizes and steps (Kim et al. 2025, 2508.12531). One run of training gives the weights after several
steps, moving averages of several decays, and for each average the plain interpolation between start
and end at the same distance from the start. Every run is a file of its own, so that an interrupted
study goes on with the next.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from hookscope.safety_tasks import (
    SYSTEM,
    Materials,
    benign_examples,
    choose,
    draw_rows,
    own_examples,
    refusal_examples,
)
from hookscope.study_folder import Part, run_parts
from interp import HookedModel, Records, extract, generate, load_model
from interp.core.seeds import derive
from interp.data import load_fixture
from interp.training import Ema, Example, SftConfig, train_sft
from interp.training.interpolation import decay_for, displacement, interpolate
from interp.training.loop import make_batch, predictions, sequence_losses
from probes import LinearProbe
from steering import SteeringVector
from steering.safety import Answers, read_answers, refusal_directions
from steering.statistics import Estimate, auroc


@dataclass(frozen=True, kw_only=True)
class SafetyConfig:
    """How much of the study to run; the defaults run all of it."""

    n_seeds: int = 3
    """Seeds: each has its own benign rows in its own order, and its own test instructions."""
    n_refusals: int = 48
    """Harmful instructions that refusal is learned on, and as many harmless ones."""
    start_rate: float = 1e-4
    """Learning rate at which refusal is learned."""
    n_start_steps: int = 12
    """Steps in which it is learned, with eight examples each."""
    learning_rates: tuple[float, ...] = (1e-4, 3e-4)
    """Learning rates of the benign fine-tuning."""
    batch_sizes: tuple[int, ...] = (1, 4)
    """Its batch sizes."""
    steps: tuple[int, ...] = (4, 8)
    """Steps after which it is measured; averages are measured after the last one."""
    shares: tuple[float, ...] = (0.1,)
    """Shares that the start has in the moving averages after the last step."""
    n_harmful: int = 12
    """Harmful test instructions of each seed."""
    n_harmless: int = 6
    """Harmless ones."""
    n_held: int = 6
    """Benign rows of each seed that are not trained on."""
    max_tokens: int = 64
    """Tokens of a benign row at most, the chat template included."""
    max_new_tokens: int = 10
    """Length of the answers' beginnings."""
    n_situations: int = 24
    """Pairs of situations that train the high-stakes probe; 0 leaves the probe out."""


TINY = SafetyConfig(
    n_seeds=1,
    n_refusals=8,
    start_rate=1e-2,
    n_start_steps=30,
    learning_rates=(1e-2,),
    batch_sizes=(2,),
    steps=(2, 4),
    n_harmful=4,
    n_harmless=4,
    max_new_tokens=8,
    n_held=2,
    max_tokens=200,
    n_situations=0,
)
"""For a small random model: enough to see every part work, too little for the numbers."""


def run_safety_study(
    folder: str | Path,
    model: HookedModel,
    materials: Materials,
    *,
    config: SafetyConfig | None = None,
    only: Sequence[str] | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Run what is missing of the study and write `results.json` into the folder.

    Args:
        folder: Where the model that refuses and the result of each run are kept.
        model: A language model with a chat template.
        materials: Instructions and answers.
        config: How much to run.
        only: Names of the parts to run; "start" comes before the others.
        progress: Say which part runs.

    Raises:
        ValueError: If the folder holds results of another configuration, or a part is unknown.
    """
    config, folder = config or SafetyConfig(), Path(folder)
    bench = _Bench(folder, model, materials, config)
    parts: dict[str, Part] = {"start": bench.learn}
    seeds = range(config.n_seeds)
    parts |= {f"seed {seed}, start": partial(bench.before, seed) for seed in seeds}
    for rate, size, seed in product(config.learning_rates, config.batch_sizes, seeds):
        name = f"seed {seed}, rate {rate:g}, batch {size}"
        parts[name] = partial(bench.tune, seed, rate, size)
    if progress:
        parts = {name: partial(_announced, name, part) for name, part in parts.items()}
    return run_parts(folder, asdict(config) | {"model": model.name}, parts, only=only)


def _announced(name: str, part: Part) -> Any:
    print(name, flush=True)
    return part()


class _Bench:
    """The model that refuses, and the measurements on it and on what becomes of it."""

    def __init__(
        self, folder: Path, model: HookedModel, materials: Materials, config: SafetyConfig
    ) -> None:
        self._folder, self._model, self._config = folder, model, config
        self._materials = materials

    def learn(self) -> dict[str, Any]:
        """Train refusal in, and compare with before on the first seed's instructions."""
        config, model, made = self._config, self._model, self._materials
        n = config.n_refusals
        harmless = made.harmless.train[:n]
        chats = Records.from_texts(list(harmless)).as_chat(system=SYSTEM)
        own = generate(model, chats, max_new_tokens=32, batch_size=32).texts
        examples = refusal_examples(model, made.harmful.train[:n])
        examples += own_examples(model, harmless, own)
        settings = SftConfig(
            learning_rate=config.start_rate, n_steps=config.n_start_steps, batch_size=8
        )
        trained = train_sft(model, examples, config=settings)
        trained.model.save(self._folder / "start")
        size = 24
        sides = [
            read_answers(trained.model, texts[:size], system=SYSTEM, max_new_tokens=1)
            for texts in (made.harmful.train, harmless)
        ]
        refusal_directions(*sides).save(self._folder / "directions.safetensors")
        return {
            "n_examples": len(examples),
            "loss": [round(float(loss), 3) for loss in trained.loss],
            "untrained": self._measured(model, 0),
        }

    def before(self, seed: int) -> dict[str, Any]:
        """The model that refuses, on the instructions of a seed."""
        found = self._measured(self._start, seed, layers=True)
        return {"seed": seed, **found, **(self._probed(self._start) if seed == 0 else {})}

    def tune(self, seed: int, rate: float, size: int) -> dict[str, Any]:
        """One run of benign fine-tuning, measured on the way and at its averages."""
        config, start = self._config, self._weights
        n_steps = max(config.steps)
        rows = self._rows(seed)[: -config.n_held]
        averages = [Ema(start, decay=decay_for(share, n_steps)) for share in config.shares]
        found: list[dict[str, Any]] = []

        def observe(step: int, weights: Sequence[Tensor]) -> None:
            for average in averages:
                average.update(weights)
            if step + 1 in config.steps:
                about = {"kind": "plain", "steps": step + 1}
                found.append(about | self._shown(weights, seed, layers=step + 1 == n_steps))

        settings = SftConfig(learning_rate=rate, n_steps=n_steps, batch_size=size)
        run = train_sft(self._start, rows, config=settings, seed=seed, observe=observe)
        end = [weight.detach() for weight in run.model.module.parameters()]
        length = displacement(start, end)
        for share, average in zip(config.shares, averages, strict=True):
            about = {"steps": n_steps, "share": share}
            found.append(about | {"kind": "average"} | self._shown(average.averages, seed))
            way = displacement(start, average.averages) / length
            line = interpolate(start, end, way)
            found.append(about | {"kind": "interpolation"} | self._shown(line, seed))
        return {
            "seed": seed,
            "rate": rate,
            "batch": size,
            "loss": [round(float(loss), 3) for loss in run.loss],
            "states": found,
            **(self._probed(run.model) if size == max(config.batch_sizes) else {}),
        }

    @cached_property
    def _start(self) -> HookedModel:
        path = self._folder / "start"
        if not path.exists():
            raise ValueError(f"no {path}: run the part 'start' first")
        return load_model(path)

    @cached_property
    def _weights(self) -> list[Tensor]:
        return [weight.detach() for weight in self._start.module.parameters()]

    @cached_property
    def _scratch(self) -> HookedModel:
        """A model into which weights are written to be measured."""
        start = self._start
        return HookedModel(deepcopy(start.module), tokenizer=start.tokenizer, name="measured")

    @cached_property
    def _directions(self) -> SteeringVector:
        return SteeringVector.load(self._folder / "directions.safetensors")

    @cached_property
    def _probe(self) -> LinearProbe:
        """A high-stakes probe on the model that refuses."""
        records = load_fixture("high_stakes")[: 2 * self._config.n_situations]
        probe = LinearProbe()
        probe.fit(self._pooled(self._start, records), records.labels)
        return probe

    def _pooled(self, model: HookedModel, records: Records) -> np.ndarray:
        layer = model.n_layers // 2
        found = extract(model, records, layers=layer, pooling="mean")
        return found.at(layer).matrix.numpy()

    def _probed(self, model: HookedModel) -> dict[str, Any]:
        """How well the probe of the start reads another model, on other situations."""
        if not self._config.n_situations:
            return {}
        records = load_fixture("high_stakes_ood")
        scores = self._probe.decision_function(self._pooled(model, records))
        labels = np.asarray(records.labels) == 1
        return {"probe_auroc": auroc(scores[labels], scores[~labels])}

    @cached_property
    def _short(self) -> list[Example]:
        benign, most = self._materials.benign, self._config.max_tokens
        return benign_examples(self._model, benign, max_tokens=most)

    def _rows(self, seed: int) -> list[Example]:
        """Benign rows of a seed; the last ones are held out."""
        config = self._config
        n = max(config.steps) * max(config.batch_sizes) + config.n_held
        return draw_rows(self._short, n, seed=seed)

    def _shown(
        self, weights: Sequence[Tensor], seed: int, *, layers: bool = False
    ) -> dict[str, Any]:
        with torch.no_grad():
            for own, given in zip(self._scratch.module.parameters(), weights, strict=True):
                own.copy_(given)
        way = displacement(self._weights, weights)
        return {"displacement": round(way, 4), **self._measured(self._scratch, seed, layers=layers)}

    def _measured(self, model: HookedModel, seed: int, *, layers: bool = False) -> dict[str, Any]:
        """What a model does with the instructions of a seed, and what it still knows."""
        config, found = self._config, {}
        for kind, n in (("harmful", config.n_harmful), ("harmless", config.n_harmless)):
            texts = getattr(self._materials, kind).test[seed * n : (seed + 1) * n]
            answers = read_answers(
                model, texts, system=SYSTEM, max_new_tokens=config.max_new_tokens, batch_size=32
            )
            found[kind] = _answered(answers)
            if layers:
                places = answers.projections(self._directions)
                found[kind]["layers"] = places.mean(0).round(4).tolist()
        batch = make_batch(model, self._rows(seed)[-config.n_held :], end=True)
        with torch.no_grad():
            losses = sequence_losses(predictions(model.module, batch)) / batch.answer.sum(1)
        found["held_loss"] = losses.double().numpy().round(4).tolist()
        return found | {"choices": choose(model, self._materials.questions).astype(int).tolist()}


def _answered(answers: Answers) -> dict[str, Any]:
    return {
        "refused": answers.refused.astype(int).tolist(),
        "keyword": answers.keyword.astype(int).tolist(),
        "log_odds": answers.log_odds.round(3).tolist(),
        "example": answers.texts[0],
    }


def to_frame(results: dict[str, Any]) -> pd.DataFrame:
    """One row for each state that was measured, with a list for each score.

    Scores: `responded` (harmful instructions that are not refused), `without_keyword` (the same by
    the published keywords), `log_odds` (of a refusal of harmful instructions), `over_refused`
    (harmless ones that are refused), `harmless_log_odds`, `held_loss` (nats per answer token) and
    `choices` (questions of fact that are right).
    """
    rows = []
    for name, part in results.items():
        if name.endswith(", start"):
            rows.append(
                {"seed": part["seed"], "kind": "start", "displacement": 0.0} | _scores(part)
            )
        for state in part.get("states", ()):
            about = {key: part[key] for key in ("seed", "rate", "batch")}
            about |= {k: state[k] for k in ("kind", "steps", "share", "displacement") if k in state}
            rows.append(about | _scores(state))
    return pd.DataFrame(rows)


def summarize(results: dict[str, Any], score: str) -> pd.DataFrame:
    """Mean of a score in each state, with a 95 % interval over seeds and what they are asked."""
    keys = ["kind", "rate", "batch", "steps", "share"]
    lines = []
    for key, part in to_frame(results).groupby(keys, sort=False, dropna=False):
        found = mean_over_seeds([np.array(values, float) for values in part[score]])
        about = dict(zip(keys, key if isinstance(key, tuple) else (key,), strict=True))
        about |= {"displacement": part["displacement"].mean(), "n_seeds": len(part)}
        lines.append(about | found.to_dict())
    return pd.DataFrame(lines)


def average_minus_interpolation(results: dict[str, Any], score: str) -> pd.DataFrame:
    """What averages have more of a score than interpolations at the same distance from the start.

    Differences are within instructions, and their means over the batch sizes and shares of a
    learning rate; intervals are over seeds and instructions.
    """
    frame = to_frame(results)
    keys = ["seed", "rate", "batch", "share"]
    sides = [
        frame[frame["kind"] == kind].set_index(keys)[score].sort_index()
        for kind in ("average", "interpolation")
    ]
    gaps = pd.Series(
        [np.subtract(a, b, dtype=float) for a, b in zip(*sides, strict=True)], sides[0].index
    )
    lines = []
    for rate, of_rate in gaps.groupby("rate"):
        seeds = [np.mean(list(part), axis=0) for _, part in of_rate.groupby("seed")]
        lines.append({"rate": rate} | mean_over_seeds(seeds).to_dict())
    return pd.DataFrame(lines)


def mean_over_seeds(parts: Sequence[np.ndarray], *, n_draws: int = 2000) -> Estimate:
    """Mean of the means of seeds; the interval draws seeds anew, and within them their values."""
    rng = np.random.default_rng(derive(0, "seeds"))
    n = len(parts)
    within = [[rng.choice(part, (n_draws, len(part))).mean(1) for part in parts] for _ in parts]
    drawn = rng.integers(0, n, (n, 1, n_draws))  # which seed stands in each place
    means = np.take_along_axis(np.array(within), drawn, axis=1)[:, 0].mean(0)
    low, high = np.quantile(means, [0.025, 0.975])
    return Estimate(float(np.mean([part.mean() for part in parts])), float(low), float(high))


def _scores(state: dict[str, Any]) -> dict[str, list[float]]:
    harmful, harmless = state["harmful"], state["harmless"]
    return {
        "responded": [1 - flag for flag in harmful["refused"]],
        "without_keyword": [1 - flag for flag in harmful["keyword"]],
        "log_odds": harmful["log_odds"],
        "over_refused": harmless["refused"],
        "harmless_log_odds": harmless["log_odds"],
        "held_loss": state["held_loss"],
        "choices": state["choices"],
    }
