import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM

from interp import HookedModel, ModelMismatchError, Site, generate
from probes.base import Place
from probes.linear import LinearProbe
from probes.monitor import ProbeMonitor
from probes.pooling import Attention, Ema, Last, Max, Mean, RollingAttention, RollingMean, Softmax
from probes.sequence import SequenceProbe
from probes.sequence_fitting import TokenWeights
from tests.tiny_models import tiny_llama

D_MODEL, N_NEW = 32, 14
PROMPTS = ["once upon a time", "hello", "the cat sat on", "hi there"]
RULES = [Mean(), Last(), Max(n_heads=2), Softmax(), Attention(n_heads=2), Ema()]
RULES += [RollingMean(window=4), RollingMean(window=50), RollingAttention(window=3)]


@pytest.fixture(scope="module")
def model() -> HookedModel:
    return tiny_llama(n_layers=3)


def random_probe(model: HookedModel, rule, layers: tuple[int, ...] = (1,)) -> SequenceProbe:
    """A probe with random weights, as if it had been fitted."""
    g = torch.Generator().manual_seed(0)
    n = D_MODEL * len(layers)
    probe = SequenceProbe(rule)
    heads = rule.n_heads if rule.has_queries else 0
    probe.weights_ = TokenWeights(
        value=0.3 * torch.randn(1, rule.n_heads, n, generator=g),
        intercept=torch.randn(1, rule.n_heads, generator=g),
        query=torch.randn(1, heads, n, generator=g),
    )
    probe.classes_, probe.kind_ = np.array([0, 1]), "binary"
    probe.place_ = Place(site="resid_post", layers=layers, origin=model.origin)
    return probe


def afterwards(model: HookedModel, probe: SequenceProbe, prompt: str, written: tuple[int, ...]):
    """Scores of the written tokens from one plain pass over prompt and answer."""
    ids = model.tokenizer(prompt)["input_ids"]
    whole = torch.tensor([[*ids, *written]])
    layers = probe.place_.layers
    with model.capture([Site("resid_post", layer) for layer in layers]) as seen, torch.no_grad():
        model.module(whole)
    joined = torch.cat([seen[Site("resid_post", layer)][0] for layer in layers], -1)[0]
    values, queries = probe.weights_(joined[len(ids) : -1])
    rule = probe.rule
    scores = []
    for n in range(1, len(values) + 1):
        v, q = values[:n].movedim(0, 1), queries[:n].movedim(0, 1)
        mask = torch.ones(1, n, dtype=torch.bool)
        scores.append(rule.pooled(v, rule.logits(v, q), mask).item())
    return scores


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_scores_while_writing_are_those_of_the_finished_text(model: HookedModel, rule) -> None:
    probe = random_probe(model, rule)
    result = ProbeMonitor(probe).generate(model, PROMPTS, max_new_tokens=N_NEW, batch_size=3)
    plain = generate(model, PROMPTS, max_new_tokens=N_NEW)
    assert result.generations.texts == plain.texts
    for k, prompt in enumerate(PROMPTS):
        expected = afterwards(model, probe, prompt, plain.tokens[k])
        trace = result.scores["probe"][k]
        assert trace.shape == (N_NEW - 1, 1)
        np.testing.assert_allclose(trace[:, 0], expected, atol=1e-5)


def test_several_probes_at_several_layers_read_along(model: HookedModel) -> None:
    probes = {"one": random_probe(model, Mean(), (2,)), "two": random_probe(model, Max(), (0, 2))}
    result = ProbeMonitor(probes).generate(model, PROMPTS, max_new_tokens=5)
    for name, probe in probes.items():
        expected = afterwards(model, probe, PROMPTS[0], result.generations.tokens[0])
        np.testing.assert_allclose(result.scores[name][0][:, 0], expected, atol=1e-5)
    frame = result.to_frame()
    assert len(frame) == 2 * 4 * 4
    assert len(result.plot(1).data) >= 2


def test_prompts_may_be_read_too(model: HookedModel) -> None:
    probe = random_probe(model, Attention())
    result = ProbeMonitor(probe, positions="all").generate(model, PROMPTS, max_new_tokens=3)
    lengths = [len(prompt) - 1 + 2 for prompt in PROMPTS]
    assert [len(trace) for trace in result.scores["probe"]] == lengths


def test_alarm_comes_once_at_the_first_high_score_and_stops_the_text(model: HookedModel) -> None:
    probe = random_probe(model, Last())
    free = ProbeMonitor(probe).generate(model, PROMPTS, max_new_tokens=N_NEW)
    threshold = float(np.median(np.concatenate(free.scores["probe"])))
    seen = []
    monitor = ProbeMonitor(probe, threshold=threshold, on_alarm=seen.append, stop=True)
    result = monitor.generate(model, PROMPTS, max_new_tokens=N_NEW, batch_size=3)
    assert tuple(seen) == result.alarms == monitor.alarms
    first = {a.prompt: a for a in result.alarms}
    assert len(first) == len(result.alarms) > 0
    for k, trace in enumerate(free.scores["probe"]):
        above = np.flatnonzero(trace[:, 0] > threshold)
        assert (k in first) == (len(above) > 0)
        if len(above):
            assert first[k].token == above[0]
            assert len(result.scores["probe"][k]) == above[0] + 1


def test_nothing_stays_attached(model: HookedModel) -> None:
    monitor = ProbeMonitor(random_probe(model, Mean()))

    def interrupted() -> None:
        with monitor.watching(model):
            assert model.hooks.active
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        interrupted()
    assert not model.hooks.active


def test_state_does_not_grow_with_the_text(model: HookedModel) -> None:
    monitor = ProbeMonitor(random_probe(model, RollingAttention(window=3)))
    sizes = []
    with monitor.watching(model):
        for n in (2, 12):
            generate(model, PROMPTS[:1], max_new_tokens=n)
            sizes.append(sum(t.numel() for t in monitor._tracks["probe"].state))
    assert sizes[0] == sizes[1]


def test_probe_of_another_model_is_refused(model: HookedModel) -> None:
    probe = random_probe(model, Mean())
    other = LlamaForCausalLM(model.module.config).eval()
    with pytest.raises(ModelMismatchError, match="probe 'probe' was made with 'tiny-llama-0'"):
        ProbeMonitor(probe).generate(HookedModel(other, tokenizer=model.tokenizer), PROMPTS)


def test_bad_options_are_refused(model: HookedModel) -> None:
    with pytest.raises(ValueError, match="stop=True needs a threshold"):
        ProbeMonitor(random_probe(model, Mean()), stop=True)
    loose = LinearProbe(C=1.0).fit(np.eye(4), [0, 1, 0, 1])
    with pytest.raises(ValueError, match="fitted to an array"):
        ProbeMonitor(loose)
