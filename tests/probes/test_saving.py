import dataclasses
import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from interp import Activations, ModelMismatchError, Origin, Span
from interp.core.tokens import Tokens
from probes import (
    LinearProbe,
    MassMeanProbe,
    Mean,
    RidgeProbe,
    RollingAttention,
    SequenceProbe,
    SequenceTraining,
)
from probes.calibration import calibrate, choose_threshold
from probes.evaluation import auroc
from probes.saving import ProbeCard, load_probe, save_probe, write_card


@pytest.fixture
def card(planted) -> ProbeCard:
    y, scores = planted.labels, planted.at(8).matrix[:, 3].numpy()
    return ProbeCard(
        name="planted",
        description="Reads what was planted.",
        data="synthetic",
        license="Apache-2.0",
        metrics={"train": {"auroc": auroc(y, scores, n_draws=50)}},
        threshold=choose_threshold(y, scores, target_fpr=0.05),
        calibration=calibrate(y, scores),
    )


def token_level(planted) -> Activations:
    """Three tokens for each example of the planted activations."""
    n = len(planted)
    total = 3 * n
    positions = np.tile(np.arange(3), n)
    tokens = Tokens(
        ids=np.zeros(total, np.int64),
        lengths=np.full(n, 3),
        positions=positions,
        turns=np.zeros(total, np.int64),
        content=np.ones(total, bool),
        chars=np.stack([positions, positions + 1], 1),
        texts=("abc",) * n,
        roles=((),) * n,
    )
    values = planted.at(8).values.repeat_interleave(3, 0)
    return Activations(
        tensors={"resid_post": values},
        layers=(8,),
        labels=planted.labels,
        groups=planted.groups,
        tokens=tokens,
        origin=planted.origin,
    )


@pytest.mark.parametrize("probe", [LinearProbe(C=0.1), MassMeanProbe()])
def test_pooled_probes_come_back_the_same(planted, card, tmp_path, probe) -> None:
    probe.fit(planted.at(8))
    path = save_probe(probe, tmp_path / "probe.safetensors", examples=planted.at(8), card=card)
    saved = load_probe(path, origin=planted.origin)
    assert type(saved.probe) is type(probe)
    assert saved.card == card
    assert saved.probe.place_ == probe.place_
    np.testing.assert_array_equal(
        saved.probe.decision_function(planted.at(8)), probe.decision_function(planted.at(8))
    )
    assert saved.probe.direction_.cosine(probe.direction_) == pytest.approx(1)
    assert saved.predict_proba(planted.at(8)).shape == (160, 2)
    assert saved.alarms(planted.at(8)).dtype == bool


@pytest.mark.parametrize(
    "probe",
    [
        SequenceProbe(RollingAttention(window=2, n_heads=2), reading=None),
        SequenceProbe(Mean(), positions=Span(first=True)),
    ],
)
def test_sequence_probes_come_back_the_same(planted, card, tmp_path, probe) -> None:
    data = token_level(planted)
    probe.set_params(training=SequenceTraining(n_epochs=2)).fit(data)
    path = save_probe(probe, tmp_path / "probe.safetensors", examples=data, card=card)
    saved = load_probe(path)
    np.testing.assert_array_equal(
        saved.probe.decision_function(data), probe.decision_function(data)
    )
    assert saved.probe.get_params() == probe.get_params()


def test_several_classes_are_kept(planted, card, tmp_path) -> None:
    y = np.array(["a", "b", "c"])[np.arange(160) % 3]
    probe = LinearProbe(C=0.1).fit(planted.at(8), y)
    path = save_probe(probe, tmp_path / "probe.safetensors", examples=planted.at(8), card=card)
    assert (
        load_probe(path).probe.predict(planted.at(8)).tolist()
        == probe.predict(planted.at(8)).tolist()
    )


def test_a_regression_comes_back_the_same(planted, card, tmp_path) -> None:
    y = planted.at(8).matrix[:, 3].double().numpy() + np.random.default_rng(0).normal(size=160)
    probe = RidgeProbe().fit(planted.at(8), y)
    bare = dataclasses.replace(card, threshold=None, calibration=None, metrics={})
    path = save_probe(probe, tmp_path / "probe.safetensors", examples=planted.at(8), card=bare)
    saved = load_probe(path, origin=planted.origin)
    assert isinstance(saved.probe, RidgeProbe)
    np.testing.assert_array_equal(saved.probe.predict(planted.at(8)), probe.predict(planted.at(8)))
    assert (saved.probe.alpha_, saved.probe.intercept_) == (probe.alpha_, probe.intercept_)
    assert saved.probe.direction_.cosine(probe.direction_) == pytest.approx(1)
    assert "predicts | a number" in write_card(saved)
    with pytest.raises(TypeError, match=r"predicts numbers: needed a calibration"):
        saved.predict_proba(planted.at(8))
    with pytest.raises(ValueError, match="these activations are"):
        saved.probe.predict(planted.at(4))


def test_the_strength_that_was_chosen_is_kept(planted, card, tmp_path) -> None:
    probe = LinearProbe().fit(planted.at(8))
    path = save_probe(probe, tmp_path / "probe.safetensors", examples=planted.at(8), card=card)
    assert load_probe(path).probe.C_ == probe.C_


def test_probe_that_does_not_fit_the_model_refuses(planted, card, tmp_path) -> None:
    probe = LinearProbe(C=0.1).fit(planted.at(8))
    path = save_probe(probe, tmp_path / "probe.safetensors", examples=planted.at(8), card=card)
    other = Origin(model="other", fingerprint="9", d_model=24)
    with pytest.raises(
        ModelMismatchError, match=r"probe probe.safetensors was made with 'planted'"
    ):
        load_probe(path, origin=other)


def test_damaged_weights_are_noticed(planted, card, tmp_path) -> None:
    probe = LinearProbe(C=0.1).fit(planted.at(8))
    path = save_probe(probe, tmp_path / "probe.safetensors", examples=planted.at(8), card=card)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    tensors["coef"][0, 3] *= -1
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(ValueError, match=r"test vectors of .* give other scores"):
        load_probe(path)


def test_another_file_is_refused(tmp_path) -> None:
    save_file(
        {"x": torch.zeros(1)}, tmp_path / "x.safetensors", metadata={"hookscope": json.dumps({})}
    )
    with pytest.raises(ValueError, match=r"has schema None: needed 'hookscope.probe/1'"):
        load_probe(tmp_path / "x.safetensors")


def test_card_says_what_a_user_must_know(planted, card, tmp_path) -> None:
    probe = LinearProbe(C=0.1).fit(planted.at(8))
    path = save_probe(probe, tmp_path / "probe.safetensors", examples=planted.at(8), card=card)
    text = write_card(load_probe(path))
    for part in (
        "# planted",
        "resid_post of layer 8",
        "Apache-2.0",
        "false-positive rate",
        "platt",
    ):
        assert part in text
    bare = dataclasses.replace(card, threshold=None)
    path = save_probe(probe, tmp_path / "bare.safetensors", examples=planted.at(8), card=bare)
    with pytest.raises(ValueError, match="without a threshold"):
        load_probe(path).alarms(planted.at(8))
