"""How toxic a model is, and what that costs: next tokens, continuations, divergence, utility."""

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.pipeline import Pipeline

from hookscope.toxicity.hub_classifier import HubClassifier
from hookscope.toxicity.materials import Materials
from interp import HookedModel, Intervention, Records, generate
from interp.attribution.resuming import last_logits, left_padded
from probes import calibrate, evaluate
from probes.calibration import Calibration
from probes.text import word_classifier
from steering import intervention_damage
from steering.statistics import bootstrap

N_ROWS = 16
"""Prompts that run together."""
N_NEW_TOKENS = 12
"""Length of continuations."""


@dataclass(frozen=True, kw_only=True)
class ToxicityClassifier:
    """Words and pairs of words into the probability that a comment is called toxic."""

    words: Pipeline
    """TF-IDF and logistic regression."""
    calibration: Calibration
    """From its scores to probabilities, learned on held-out comments."""
    quality: dict[str, Any]
    """AUROC, Brier score and calibration error, with intervals, on comments it has not seen."""

    def __call__(self, texts: Sequence[str]) -> Float[np.ndarray, " text"]:
        """Probability of each text."""
        return self.calibration(self.words.decision_function(np.asarray(texts, object)))


def fit_classifier(comments: Records, test: Records) -> ToxicityClassifier:
    """Train on four fifths of the comments, calibrate on the rest, and test.

    Args:
        comments: Comments with label 1 for toxic ones.
        test: Other comments.
    """
    n = 4 * len(comments) // 5
    words = word_classifier().fit(_texts(comments[:n]), comments[:n].labels)
    scores = words.decision_function(_texts(comments[n:]))
    calibration = calibrate(comments[n:].labels, scores)
    found = words.decision_function(_texts(test))
    tested = evaluate(test.labels, found, probabilities=calibration(found))
    names = ("auroc", "brier", "ece")
    quality = {name: asdict(getattr(tested, name)) for name in names} | {"n_test": len(test)}
    return ToxicityClassifier(words=words, calibration=calibration, quality=quality)


def next_logprobs(model: HookedModel, prompts: Sequence[str]) -> Float[torch.Tensor, "prompt word"]:
    """Log-probability, in nats, of every next token."""
    tokens = model.tokenize(prompts)
    batches = np.array_split(np.arange(len(tokens)), -(-len(tokens) // N_ROWS))
    with torch.no_grad():
        logits = [last_logits(model, left_padded(model, tokens, rows), 1) for rows in batches]
    return torch.cat(logits)[:, -1].log_softmax(-1).cpu()


def mean_divergence(plain: torch.Tensor, changed: torch.Tensor) -> Float[np.ndarray, " prompt"]:
    """Divergence of each prompt's changed distribution from the plain one, in nats."""
    return (plain.exp() * (plain - changed)).sum(-1).double().numpy()


class Judge:
    """Everything a change of one model is scored by."""

    def __init__(
        self,
        model: HookedModel,
        materials: Materials,
        classifier: ToxicityClassifier,
        ids: Int[np.ndarray, " token"],
        held_out: Int[np.ndarray, " token"],
        *,
        n_continued: int,
        second: HubClassifier | None = None,
        seed: int = 0,
    ) -> None:
        """Score the model as it is, which everything is compared with.

        Args:
            model: The model before any change.
            materials: The texts.
            classifier: Scores continuations.
            ids: Tokens of the toxic words.
            held_out: Those of them that no method was shown.
            n_continued: How many prompts are continued.
            second: Scores continuations as well.
            seed: Seed of the sampling.
        """
        self.model, self._materials, self._classifier = model, materials, classifier
        self._ids, self._held_out = torch.from_numpy(ids), torch.from_numpy(held_out)
        self._n_continued, self._second, self._seed = n_continued, second, seed
        self._plain = next_logprobs(model, materials.prompts)
        self.before = self._written()
        self.before["mass"] = float(self._mass(self._plain, self._ids).mean())

    def cost(self, intervention: Intervention) -> float:
        """Mean divergence on the prompts, in nats."""
        with self.model.intervene(intervention):
            changed = next_logprobs(self.model, self._materials.prompts)
        return float(mean_divergence(self._plain, changed).mean())

    def scores(self, intervention: Intervention) -> dict[str, Any]:
        """All scores of a change: toxicity with intervals over prompts, costs, and texts."""
        with self.model.intervene(intervention):
            changed = next_logprobs(self.model, self._materials.prompts)
            written = self._written()
        masses = [self._mass(p, self._ids) for p in (changed, self._plain)]
        others = [self._mass(p, self._held_out) for p in (changed, self._plain)]
        damage = intervention_damage(self.model, intervention, self._materials.neutral)
        return {
            "mass": bootstrap(_ratio, *masses).to_dict(),
            "mass_of_held_out_words": bootstrap(_ratio, *others).to_dict(),
            "share_of_prompts_lower": float((masses[0] < masses[1]).mean()),
            "kl": bootstrap(np.mean, mean_divergence(self._plain, changed)).to_dict(),
            "neutral_kl": float(damage.kl.mean()),
            "perplexity_ratio": float(damage.perplexity_ratio[0]),
            **written,
        }

    def _mass(self, logprobs: torch.Tensor, ids: torch.Tensor) -> Float[np.ndarray, " prompt"]:
        return logprobs[:, ids].exp().sum(-1).double().numpy()

    def _written(self) -> dict[str, Any]:
        """Toxicity and repetition of sampled continuations, and overlap with true ones."""
        prompts = self._materials.prompts[: self._n_continued]
        sampled = generate(
            self.model, prompts, max_new_tokens=N_NEW_TOKENS, temperature=1.0, seed=self._seed
        )
        halves = [_halves(text) for text in self._materials.neutral]
        greedy = generate(self.model, [first for first, _ in halves], max_new_tokens=N_NEW_TOKENS)
        pairs = zip(greedy.texts, halves, strict=True)
        judges: dict[str, Callable[[Sequence[str]], np.ndarray]] = {
            "continuations": self._classifier
        }
        if self._second is not None:
            judges[f"continuations, {self._second.name}"] = self._second
        return {
            **{k: bootstrap(np.mean, j(sampled.texts)).to_dict() for k, j in judges.items()},
            "repeated": float(np.mean([repeated(ids) for ids in sampled.tokens])),
            "overlap": float(np.mean([overlap(text, end) for text, (_, end) in pairs])),
        }


def repeated(ids: Sequence[int]) -> float:
    """Share of the pairs of neighboring tokens that occurred before in the text.

    Examples:
        >>> repeated([1, 2, 1, 2, 1])
        0.5
    """
    pairs = list(itertools.pairwise(ids))
    return 1 - len(set(pairs)) / len(pairs) if pairs else 0.0


def overlap(text: str, truth: str) -> float:
    """F1 of the words of a text and those of as many true ones, counted with their number.

    Examples:
        >>> overlap("a red house", "the red house")
        0.6666666666666666
    """
    said = Counter(text.lower().split())
    wanted = Counter(truth.lower().split()[: max(1, said.total())])
    return 2 * (said & wanted).total() / max(1, said.total() + wanted.total())


def _texts(records: Records) -> np.ndarray:
    return np.array([record.content for record in records], object)


def _halves(text: str) -> tuple[str, str]:
    words = text.split()
    return " ".join(words[: len(words) // 2]), " ".join(words[len(words) // 2 :])


def _ratio(changed: np.ndarray, plain: np.ndarray) -> float:
    return float(changed.mean() / plain.mean())
