"""Activations with a planted direction, for the tests of probes."""

import numpy as np
import pytest
import torch

from interp import Activations, Origin, Records

D_MODEL = 24


@pytest.fixture(scope="session")
def planted() -> Activations:
    """Pairs whose difference grows with the layer along one axis; one dimension is huge."""
    rng = np.random.default_rng(0)
    n, strengths = 160, (0.0, 1.0, 3.0)
    labels, pairs = np.arange(n) % 2, np.arange(n) // 2
    topics = rng.normal(size=(n // 2, D_MODEL))[pairs]
    layers = []
    for strength in strengths:
        X = rng.normal(size=(n, D_MODEL)) + 0.5 * topics
        X[:, 3] += strength * (labels - 0.5)
        X[:, 7] = 200 * X[:, 7] + 500
        layers.append(X)
    values = torch.from_numpy(np.stack(layers, axis=1)).float()
    return Activations(
        tensors={"resid_post": values},
        layers=(0, 4, 8),
        labels=labels,
        groups=np.array([f"pair-{pair}" for pair in pairs]),
        pooling="mean",
        origin=Origin(model="planted", fingerprint="0", d_model=D_MODEL),
    )


@pytest.fixture(scope="session")
def planted_records(planted: Activations) -> Records:
    """Texts for the planted activations: words and lengths say nothing."""
    rng = np.random.default_rng(1)
    words = np.array("calm sea wind stone river light paper".split())
    texts = [" ".join(rng.choice(words, size=rng.integers(5, 30))) for _ in range(len(planted))]
    return Records.from_texts(texts, labels=planted.labels.tolist(), groups=planted.groups.tolist())
