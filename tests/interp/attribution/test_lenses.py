"""Tuned lenses: published files are read, the identity is the logit lens, a fitted one better."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from interp import HookedModel
from interp.attribution import TunedLens, fit_tuned_lens, lens_divergence, logit_lens
from tests.interp.attribution.conftest import WORDS

TEXTS = [f"the capital of land{k} is" for k in range(4)]
ANSWERS = np.arange(15, 19)


def random_lens(model: HookedModel, scale: float = 0.1) -> TunedLens:
    draw = torch.Generator().manual_seed(0)
    n, d = model.n_layers, model.d_model
    return TunedLens(
        weights=scale * torch.randn(n, d, d, generator=draw),
        biases=scale * torch.randn(n, d, generator=draw),
        base_model=model.name,
    )


def random_texts(n: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS[1:], 8)) for _ in range(n)]


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_the_identity_is_the_logit_lens(name: str, request: pytest.FixtureRequest) -> None:
    model: HookedModel = request.getfixturevalue(name)
    plain = logit_lens(model, TEXTS, ANSWERS)
    found = logit_lens(model, TEXTS, ANSWERS, lens=TunedLens.identity(model))
    np.testing.assert_array_equal(found, plain)


def test_translators_equal_the_published_formula(llama: HookedModel, tmp_path: Path) -> None:
    """Translator k is added to `hidden_states[k]`; the last hidden state has none."""
    n, d = 3, 32
    translators = nn.ModuleList([nn.Linear(d, d) for _ in range(n)])
    torch.save(translators.state_dict(), tmp_path / "params.pt")
    config = {"base_model_name_or_path": llama.name, "d_model": d, "num_hidden_layers": n}
    config |= {"bias": True, "base_model_revision": None, "lens_type": "linear_tuned_lens"}
    (tmp_path / "config.json").write_text(json.dumps(config | {"unembed_hash": "0"}))
    lens = TunedLens.load(tmp_path)
    with torch.no_grad():
        output = llama.module(**llama.tokenize(TEXTS).batch(range(4)), output_hidden_states=True)
        for layer in (0, 1):
            value = output.hidden_states[layer + 1][:, -1]
            value = value + translators[layer + 1](value)
            logits = llama.module.lm_head(llama.module.model.norm(value))
            expected = logits.log_softmax(-1)[torch.arange(4), torch.from_numpy(ANSWERS)]
            found = logit_lens(llama, TEXTS, ANSWERS, lens=lens)
            np.testing.assert_allclose(found[:, layer], expected, atol=1e-5)
        last = output.logits[:, -1].log_softmax(-1)[torch.arange(4), torch.from_numpy(ANSWERS)]
    np.testing.assert_allclose(found[:, 2], last, atol=1e-5)


def test_a_saved_lens_comes_back(llama: HookedModel, tmp_path: Path) -> None:
    lens = random_lens(llama)
    back = TunedLens.load(lens.save(tmp_path / "lens"))
    torch.testing.assert_close(back.weights, lens.weights, rtol=0, atol=0)
    torch.testing.assert_close(back.biases, lens.biases, rtol=0, atol=0)
    assert back.base_model == llama.name


def test_a_lens_without_biases_is_read(llama: HookedModel, tmp_path: Path) -> None:
    folder = random_lens(llama).save(tmp_path)
    state = torch.load(folder / "params.pt")
    torch.save({k: v for k, v in state.items() if "bias" not in k}, folder / "params.pt")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"bias": False}))
    assert not TunedLens.load(folder).biases.any()


def test_a_fitted_lens_beats_the_logit_lens_on_other_texts(llama: HookedModel) -> None:
    lens = fit_tuned_lens(llama, random_texts(150, seed=0))
    held_out = random_texts(40, seed=1)
    plain, tuned = (lens_divergence(llama, held_out, lens=given) for given in (None, lens))
    assert plain[-1] == tuned[-1] == pytest.approx(0, abs=1e-6)
    assert (tuned[:-1] < 0.8 * plain[:-1]).all()
    wrong = TunedLens(weights=lens.weights.roll(1, 0), biases=lens.biases.roll(1, 0))
    assert (lens_divergence(llama, held_out, lens=wrong)[:-1] > tuned[:-1]).all()
    strict = fit_tuned_lens(llama, random_texts(150, seed=0), ridge=1e9)
    assert strict.weights.abs().max() < 1e-6  # drawn to the identity


def test_divergence_equals_its_formula(gpt2: HookedModel) -> None:
    with torch.no_grad():
        output = gpt2.module(**gpt2.tokenize(TEXTS).batch(range(4)), output_hidden_states=True)
        said = output.logits[:, 1:].log_softmax(-1)
        value = gpt2.module.transformer.ln_f(output.hidden_states[1][:, 1:])
        read = gpt2.module.lm_head(value).log_softmax(-1)
    expected = nn.functional.kl_div(read, said, log_target=True, reduction="none").sum(-1).mean()
    assert lens_divergence(gpt2, TEXTS)[0] == pytest.approx(float(expected), rel=1e-4)


def test_a_lens_of_another_model_is_refused(
    llama: HookedModel, gpt2: HookedModel, tmp_path: Path
) -> None:
    lens = random_lens(llama)
    other = TunedLens(weights=lens.weights[:2], biases=lens.biases[:2])
    with pytest.raises(ValueError, match=r"lens is for 2 layers of width 32, but 'tiny-llama-0'"):
        logit_lens(llama, TEXTS, ANSWERS, lens=other)
    with pytest.warns(UserWarning, match="made for 'tiny-llama-0', and is used on 'tiny-gpt2-0'"):
        logit_lens(gpt2, TEXTS, ANSWERS, lens=lens)
    with pytest.raises(ValueError, match="24 tokens for maps of width 32: more are needed"):
        fit_tuned_lens(llama, ["the old of is the capital was"] * 4)


def test_broken_lens_files_are_refused(llama: HookedModel, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"a lens is a folder with config\.json"):
        TunedLens.load(tmp_path / "nothing")
    folder = random_lens(llama).save(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 4}))
    with pytest.raises(ValueError, match=r"'3\.weight' has shape None, but the config says"):
        TunedLens.load(folder)
    (folder / "config.json").write_text(json.dumps(config | {"lens_type": "mlp"}))
    with pytest.raises(ValueError, match="lens_type='mlp'"):
        TunedLens.load(folder)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "params.pt").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="no tensors that torch can load safely"):
        TunedLens.load(folder)
