"""Whether an agent's states hold its plan: probes on every layer, beside what they must beat.

After Bush et al. 2025 (arXiv 2504.01871). A probe of a layer means something only above

- the same probe on the observation, and one that sees more of the board: the plan may be obvious;
- the same probe on untrained networks that see the same boards: features may be rich by chance;
- a probe fitted to shuffled labels, whose score is that of guessing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm import tqdm

from interp import viz
from interp.core.seeds import derive
from interp.planning.concepts import ConceptLabels, label_concept
from interp.planning.drc import Drc
from interp.planning.resnet import ResNet
from interp.planning.rollouts import Episodes, read_activations
from probes.evaluation import Estimate
from probes.planning.scores import PlanScore, compare_plans, score_plan
from probes.planning.spatial import SpatialProbe

PLAN_CONCEPTS = ("agent_approach", "box_push")
"""The two concepts of the paper, C_A and C_B."""
OBSERVATION, UNTRAINED, SHUFFLED = "observation", "untrained", "shuffled labels"


@dataclass(frozen=True, kw_only=True)
class ReadingConfig:
    """Which probes are fitted, and to how much."""

    concepts: tuple[str, ...] = PLAN_CONCEPTS
    """Names of concepts."""
    kernels: tuple[int, ...] = (1, 3)
    """Widths of the neighborhoods that probes of layers see."""
    observation_kernels: tuple[int, ...] = (1, 3, 5)
    """Widths for the probes of the observation."""
    n_untrained: int = 2
    """How many untrained networks are read with kernel 1."""
    max_rows: int = 4000
    """At most so many steps are drawn to fit a probe; all test steps are scored."""
    C: float = 1.0
    """Strength of the data against the regularization."""
    seed: int = 0
    """Seed of the draws and of the untrained networks."""


@dataclass(frozen=True, kw_only=True)
class ProbedState:
    """One probe and its score."""

    concept: str
    """What is read."""
    subject: str
    """Where: "layer 0", "observation", "untrained", "shuffled labels"."""
    layer: int | None
    """Number of the layer, None for the observation."""
    kernel: int
    """Width of the neighborhood."""
    score: PlanScore
    """On the test episodes."""
    above_observation: Estimate | None
    """Macro F1 above the observation's at the same kernel, paired; None for the observation."""
    probe: SpatialProbe = field(repr=False)
    """The probe itself."""

    @property
    def is_own(self) -> bool:
        """Whether this is a probe of the agent's layers, and not a control."""
        return self.subject.startswith("layer")

    def to_row(self) -> dict[str, Any]:
        """Place, macro F1 with its interval, and how far above the observation."""
        f1, above = self.score.macro_f1, self.above_observation
        return {
            "concept": self.concept,
            "subject": self.subject,
            "layer": np.nan if self.layer is None else self.layer,
            "kernel": self.kernel,
            "macro_f1": f1.value,
            "low": f1.low,
            "high": f1.high,
            "above_observation": np.nan if above is None else above.value,
            "above_low": np.nan if above is None else above.low,
            "above_high": np.nan if above is None else above.high,
        }


@dataclass(frozen=True, kw_only=True)
class PlanReading:
    """Probes of all layers and of the controls."""

    states: tuple[ProbedState, ...]
    """Every probe with its score."""
    site: str
    """The site that was read."""
    n_train: int
    """Steps to which each probe was fitted."""
    n_test: int
    """Steps on which it was scored."""
    n_test_episodes: int
    """Episodes of these steps."""

    def at(
        self, concept: str, *, layer: int | None, kernel: int = 1, subject: str | None = None
    ) -> ProbedState:
        """The probe of one concept at one place.

        Args:
            concept: Name of the concept.
            layer: The layer; None for the observation.
            kernel: Width of the neighborhood.
            subject: "untrained" or "shuffled labels" for a control; else the agent itself.

        Raises:
            KeyError: If there is no such probe.
        """
        wanted = subject or (OBSERVATION if layer is None else f"layer {layer}")
        for state in self.states:
            place = (state.concept, state.subject, state.layer, state.kernel)
            if place == (concept, wanted, layer, kernel):
                return state
        raise KeyError(f"no probe of {concept!r} at {wanted!r}, layer {layer}, kernel {kernel}")

    def best_layer(self, concept: str, *, kernel: int = 1) -> int:
        """The layer with the highest macro F1."""
        own = [
            state
            for state in self.states
            if (state.concept, state.kernel) == (concept, kernel) and state.is_own
        ]
        best = max(own, key=lambda state: state.score.macro_f1.value)
        assert best.layer is not None
        return best.layer

    def probes(self, concept: str, *, kernel: int = 1) -> dict[int, SpatialProbe]:
        """The probes of the agent's layers."""
        return {
            state.layer: state.probe
            for state in self.states
            if state.layer is not None
            and state.is_own
            and (state.concept, state.kernel) == (concept, kernel)
        }

    def to_frame(self) -> pd.DataFrame:
        """One row for each probe: macro F1 with its interval, and how far above the observation."""
        return pd.DataFrame([state.to_row() for state in self.states])

    def to_dict(self) -> dict[str, Any]:
        """The scores as plain values."""
        rows = self.to_frame().replace({np.nan: None}).to_dict("records")
        return {
            "site": self.site,
            "n_train": self.n_train,
            "n_test": self.n_test,
            "n_test_episodes": self.n_test_episodes,
            "probes": rows,
        }

    def plot(self, concept: str, **layout: Any) -> viz.Figure:
        """Macro F1 of all probes of one concept, controls in gray."""
        states = [state for state in self.states if state.concept == concept]
        scores = [state.score.macro_f1 for state in states]
        return viz.bars(
            [score.value for score in scores],
            [score.low for score in scores],
            [score.high for score in scores],
            labels=[_label(state) for state in states],
            controls=[_label(state) for state in states if not state.is_own],
            title=f"{concept.replace('_', ' ')}: what probes read",
            x_title="macro F1",
            **layout,
        )


def read_plans(
    agent: Drc | ResNet,
    train: Episodes,
    test: Episodes,
    *,
    config: ReadingConfig = ReadingConfig(),
    progress: bool = False,
) -> PlanReading:
    """Fit probes of every layer, of the observation and of the controls, and score them.

    Args:
        agent: The agent whose states after the last tick are read.
        train: Episodes to fit to.
        test: Episodes on other levels.
        config: Which probes.
        progress: Whether to show a progress bar.
    """
    rows = _drawn_rows(train, config)
    site = last_site(agent)
    tables = _States(agent, train, test, rows, config, site)
    results: list[ProbedState] = []
    plan = list(_plan(config, _n_layers(agent)))
    for concept in config.concepts:
        fitted, scored = label_concept(train, concept), label_concept(test, concept)
        levels: dict[int, np.ndarray] = {}
        for subject, layer, kernel in tqdm(plan, desc=concept, disable=not progress):
            X, unseen = tables.get(subject, layer)
            y = _labels(fitted, rows, subject, config.seed)
            probe = SpatialProbe(kernel, C=config.C).fit(X, y)
            predicted = probe.predict(unseen)
            if subject == OBSERVATION:
                levels[kernel] = predicted
            results.append(
                _scored((concept, subject, layer, kernel), probe, predicted, scored, levels)
            )
    return PlanReading(
        states=tuple(results),
        site=site,
        n_train=len(rows),
        n_test=len(test.row_episodes),
        n_test_episodes=len(test),
    )


def last_site(agent: Drc | ResNet) -> str:
    """The site at which plans are read: the cell state after the last tick, or a block's output."""
    return f"cell_{agent.config.ticks - 1}" if isinstance(agent, Drc) else "out"


def make_untrained(agent: Drc | ResNet, seed: int) -> Drc | ResNet:
    """A network like the agent's, with new random weights."""
    made = type(agent)(agent.config, seed=derive(seed, "untrained"))  # pyright: ignore[reportArgumentType]
    return made.eval().requires_grad_(False)


class _States:
    """What the probes read, for training and test; each network is run once."""

    def __init__(
        self,
        agent: Drc | ResNet,
        train: Episodes,
        test: Episodes,
        rows: Int[np.ndarray, " row"],
        config: ReadingConfig,
        site: str,
    ) -> None:
        networks: Mapping[str, Drc | ResNet] = {"layer": agent} | {
            f"{UNTRAINED} {seed}": make_untrained(agent, derive(config.seed, seed))
            for seed in range(config.n_untrained)
        }
        chosen = torch.from_numpy(rows)
        self.observed = train.observations()[chosen], test.observations()
        self.read = {
            name: (
                read_activations(network, train, sites=site).values[chosen],
                read_activations(network, test, sites=site).values,
            )
            for name, network in networks.items()
        }

    def get(self, subject: str, layer: int | None) -> tuple[Tensor, Tensor]:
        """Training and test values of one probe."""
        if layer is None:
            return self.observed
        name = subject if subject.startswith(UNTRAINED) else "layer"
        return self.read[name][0][:, layer], self.read[name][1][:, layer]


def _plan(config: ReadingConfig, n_layers: int) -> Iterator[tuple[str, int | None, int]]:
    """Subject, layer and kernel of every probe; the observation's come first."""
    for kernel in sorted({*config.observation_kernels, *config.kernels}):
        yield OBSERVATION, None, kernel
    for kernel in config.kernels:
        for layer in range(n_layers):
            yield f"layer {layer}", layer, kernel
    for layer in range(n_layers):
        for seed in range(config.n_untrained):
            yield f"{UNTRAINED} {seed}", layer, 1
        yield SHUFFLED, layer, 1


def _n_layers(agent: Drc | ResNet) -> int:
    return agent.config.depth if isinstance(agent, Drc) else agent.config.n_blocks


def _drawn_rows(train: Episodes, config: ReadingConfig) -> Int[np.ndarray, " row"]:
    """The steps to which probes are fitted."""
    n_rows = len(train.row_episodes)
    random = np.random.default_rng(derive(config.seed, "rows"))
    return np.sort(random.permutation(n_rows)[: config.max_rows])


def _labels(
    labels: ConceptLabels, rows: Int[np.ndarray, " row"], subject: str, seed: int
) -> Int[np.ndarray, "row height width"]:
    """The training labels, for the control shuffled over all squares."""
    y = labels.classes[rows]
    if subject != SHUFFLED:
        return y
    return np.random.default_rng(derive(seed, SHUFFLED)).permutation(y.ravel()).reshape(y.shape)


def _scored(
    place: tuple[str, str, int | None, int],
    probe: SpatialProbe,
    predicted: Int[np.ndarray, "row height width"],
    labels: ConceptLabels,
    levels: Mapping[int, Int[np.ndarray, "row height width"]],
) -> ProbedState:
    """One probe with its score, beside the observation's at the same kernel."""
    concept, subject, layer, kernel = place
    above = None
    if subject != OBSERVATION:
        above = compare_plans(labels.classes, predicted, levels[kernel], labels.episodes)
    return ProbedState(
        concept=concept,
        subject=subject,
        layer=layer,
        kernel=kernel,
        score=score_plan(labels.classes, predicted, labels.episodes),
        above_observation=above,
        probe=probe,
    )


def _label(state: ProbedState) -> str:
    """Subject, layer where the subject does not say it, and kernel."""
    named = state.layer is None or state.is_own
    place = state.subject if named else f"{state.subject}, layer {state.layer}"
    return f"{place}, {state.kernel}x{state.kernel}"


def decode(
    probe: SpatialProbe, values: Float[Tensor, "row channel height width"]
) -> Float[np.ndarray, "row height width class"]:
    """The plan that a probe reads: probabilities of the classes on every square."""
    return np.moveaxis(probe.predict_proba(values), 1, -1)
