"""Published methods as expressions of three steps; each is tested against its formula.

Layers, ranks and positions are arguments where the papers choose them per model. LoRRA and circuit
breakers train weights and belong to `interp.training`.
"""

from collections.abc import Sequence

from interp.core.positions import PositionRule
from interp.core.records import Records
from interp.core.tokens import Selection
from steering.gating import Gate, JoinedGate
from steering.methods import mean_centered, paired_pca
from steering.operators import add_keeping_norm
from steering.optimizing import FROM_LAST, OptimizationConfig
from steering.repe import control as c
from steering.repe import identification as i
from steering.repe import operationalization as o
from steering.repe.pipeline import Pipeline
from steering.spectral_editing import Feature


def caa(layer: int, *, positions: PositionRule = "generated") -> Pipeline:
    """Contrastive activation addition (Rimsky et al. 2024, 2312.06681)."""
    return Pipeline(
        identification=i.reading_inputs(layers=layer),
        operationalization=o.as_vector(),
        control=c.steer(positions=positions),
    )


def activation_addition(layer: int) -> Pipeline:
    """Activation addition with one pair (Turner et al. 2023, 2308.10248)."""
    return Pipeline(
        identification=i.reading_positions(layer=layer),
        operationalization=o.as_found(layer),
        control=c.add_to_prefix(),
    )


def inference_time_intervention(n_heads: int, layers: Sequence[int] | None = None) -> Pipeline:
    """Mean shift of the best heads in units of their spread (ITI, Li et al. 2023, 2306.03341).

    It acts at the last token of the prompt and at every token that is written.
    """
    return Pipeline(
        identification=i.reading_inputs(layers=layers, site="z"),
        operationalization=o.as_best_heads(n_heads),
        control=c.steer(positions=FROM_LAST),
    )


def linear_artificial_tomography(layers: Sequence[int]) -> Pipeline:
    """First component of the differences, added at every token (RepE, Zou et al. 2023)."""
    return Pipeline(
        identification=i.reading_inputs(layers=layers),
        operationalization=o.as_vector(paired_pca),
        control=c.steer(),
    )


def in_context_vector(layers: Sequence[int]) -> Pipeline:
    """First component, added with the length of activations kept (ICV, Liu et al. 2024)."""
    return Pipeline(
        identification=i.reading_inputs(layers=layers),
        operationalization=o.as_vector(paired_pca),
        control=c.steer(add_keeping_norm),
    )


def mean_centring(layer: int) -> Pipeline:
    """Positive mean minus the mean of a background, the negative side (Jorgensen et al. 2023)."""
    return Pipeline(
        identification=i.reading_inputs(layers=layer),
        operationalization=o.as_vector(mean_centered),
        control=c.steer(),
    )


def refusal_ablation(layer: int, *, in_weights: bool = False) -> Pipeline:
    """The direction of one layer removed everywhere (Arditi et al. 2024, 2406.11717)."""
    return Pipeline(
        identification=i.reading_inputs(layers=layer),
        operationalization=o.as_vector(),
        control=c.edit_weights("ablation") if in_weights else c.ablate_everywhere(),
    )


def conditional_steering(layers: Sequence[int], gate: Gate | JoinedGate) -> Pipeline:
    """First component behind a gate on the prompt (CAST, Lee et al. 2025, 2409.05907).

    Conditions join: `first | second`, `first & ~second`.
    """
    return Pipeline(
        identification=i.reading_inputs(layers=layers),
        operationalization=o.as_vector(paired_pca),
        control=c.steer(gate=gate),
    )


def loreft(layer: int, *, rank: int = 4, config: OptimizationConfig | None = None) -> Pipeline:
    """Low-rank representation fine-tuning (Wu et al. 2024, 2404.03592).

    It acts where it was trained to: at `config.positions`.
    """
    return Pipeline(
        identification=i.optimizing_low_rank(layer=layer, rank=rank, config=config),
        operationalization=o.as_found(layer),
        control=c.transform(positions=_trained_at(config)),
    )


def reft_r1(layer: int, *, top_k: int = 8, config: OptimizationConfig | None = None) -> Pipeline:
    """One vector that detects and steers (ReFT-r1, Wu et al. 2025, 2501.17148)."""
    return Pipeline(
        identification=i.optimizing_rank_one(layer=layer, top_k=top_k, config=config),
        operationalization=o.as_found(),
        control=c.steer(),
    )


def bidirectional_preference(layer: int, *, config: OptimizationConfig | None = None) -> Pipeline:
    """A vector from preferences in both directions (BiPO, Cao et al. 2024, 2406.00045).

    It acts where it was trained to: at `config.positions`.
    """
    return Pipeline(
        identification=i.optimizing_outputs(layer=layer, config=config),
        operationalization=o.as_found(),
        control=c.steer(positions=_trained_at(config)),
    )


def spectral_editing(
    layer: int,
    neutral: Records | Sequence[str],
    *,
    keep: float = 0.99,
    feature: Feature | None = None,
    read: Selection = "last",
) -> Pipeline:
    """Projections by covariance with both sides (SEA, Qiu et al. 2024, 2405.09719).

    With a feature function such as `steering.spectral_editing.elu` it is the non-linear form.
    """
    return Pipeline(
        identification=i.reading_with_neutral(neutral, layers=layer, read=read),
        operationalization=o.as_spectral(keep=keep, feature=feature),
        control=c.transform(),
    )


def mimic(layer: int) -> Pipeline:
    """Means and covariances of the classes matched (MiMiC, Singh et al. 2024, 2402.09631)."""
    return Pipeline(
        identification=i.reading_inputs(layers=layer),
        operationalization=o.as_map(),
        control=c.transform(),
    )


def conceptors(layer: int, *, aperture: float = 10.0) -> Pipeline:
    """Soft projection on the positive activations (Postmus and Abreu 2024, 2410.16314)."""
    return Pipeline(
        identification=i.reading_inputs(layers=layer),
        operationalization=o.as_conceptor(aperture=aperture),
        control=c.transform(),
    )


def householder_rotation(layer: int, *, seed: int = 0) -> Pipeline:
    """Negative activations turned by a predicted angle (HPR, Pham and Nguyen 2024, 2409.10053)."""
    return Pipeline(
        identification=i.reading_inputs(layers=layer),
        operationalization=o.as_rotation(seed=seed),
        control=c.transform(),
    )


def unsupervised(layer: int, target_layer: int, *, number: int = 0, n_steps: int = 40) -> Pipeline:
    """One of the vectors that change later layers most (MELBO, Mack and Turner 2024)."""
    return Pipeline(
        identification=i.discovering(
            layer=layer, target_layer=target_layer, number=number, n_steps=n_steps
        ),
        operationalization=o.as_found(),
        control=c.steer(),
    )


def _trained_at(config: OptimizationConfig | None) -> PositionRule:
    return (config or OptimizationConfig()).positions
