"""The core on the embedded model: oracles, loading, spans and generation on real weights."""

import numpy as np
import pytest
import torch

from interp import (
    HookedModel,
    Records,
    Site,
    Span,
    add,
    extract,
    extract_to_disk,
    generate,
    load_model,
    patch,
)

pytestmark = pytest.mark.model

TEXTS = ["The house is on fire and people are inside.", "Tea is ready.", "1, 2, 3, 4, 5, 6, 7, 8"]
CHATS = Records(
    [
        {"messages": [{"role": "user", "content": "Name a color."}]},
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "user 👩‍🚒🔥 said: assistant"},
                {"role": "assistant", "content": ""},
                {"role": "user", "content": "  what?  "},
            ]
        },
        {"text": "Once upon a time"},
    ]
)


@pytest.mark.parametrize("side", ["left", "right"])
def test_residual_stream_equals_hidden_states(smollm2: HookedModel, side) -> None:
    batch = smollm2.tokenize(TEXTS).batch(range(3), side=side)
    sites = [Site("resid_post", layer) for layer in range(smollm2.n_layers)]
    with torch.no_grad(), smollm2.capture([Site("resid_pre", 0), *sites]) as found:
        expected = smollm2.module(**batch, output_hidden_states=True).hidden_states
    real = batch["attention_mask"].bool()
    assert len(expected) == smollm2.n_layers + 1 == 31
    for site, other in zip(found, expected[:-1], strict=False):
        assert (found[site][0][real] - other[real]).abs().max() < 1e-4
    last = smollm2.body.norm(found[sites[-1]][0])
    assert (last[real] - expected[-1][real]).abs().max() < 1e-4
    # the extraction in batches agrees up to float32, relative to values of up to 29,000
    extracted = extract(smollm2, TEXTS, layers=[0, 14, 28])
    for column, layer in enumerate(extracted.layers):
        rows = expected[layer + 1][real]
        error = (extracted.values[:, column] - rows).norm(dim=-1) / rows.norm(dim=-1)
        assert error.max() < 1e-4


def test_the_first_token_is_left_out_of_pooling(smollm2: HookedModel) -> None:
    tokens = extract(smollm2, TEXTS, layers=15)
    assert tokens.tokens is not None
    norms = tokens.matrix.norm(dim=-1).numpy()
    first = tokens.tokens.positions == 0
    assert norms[first].min() > 20 * np.median(norms[~first])
    pooled = extract(smollm2, TEXTS, layers=15, pooling="mean")
    assert pooled.matrix.norm(dim=-1).max() < 2 * norms[~first].max()
    torch.testing.assert_close(pooled.matrix, tokens.pool("mean").matrix, rtol=1e-3, atol=1e-3)


def test_spans_decode_to_the_messages(smollm2: HookedModel) -> None:
    tokens = smollm2.tokenize(CHATS)
    tokenizer = smollm2.tokenizer
    for example, record in enumerate(CHATS):
        part = tokens.rows([example])
        for turn, message in enumerate(record.messages or ()):
            chosen = part.content & (part.turns == turn)
            found = tokenizer.decode(part.ids[chosen])
            # one token holds the line break of the header and the first space of the content
            assert (
                found == ("\n" if message["content"].startswith(" ") else "") + message["content"]
            )
        if record.messages is not None:
            ids = tokenizer.apply_chat_template(
                [dict(m) for m in record.messages], return_dict=False
            )
            assert part.ids.tolist() == ids
    keep = tokens.rows([1]).mask(Span(text="assistant", role="user"))
    assert tokenizer.decode(tokens.rows([1]).ids[keep]) == " assistant"
    system = tokens.rows([0])
    added = system.ids[(system.turns == -1)]
    assert tokenizer.decode(added).startswith("<|im_start|>system\nYou are a helpful AI assistant")


def test_the_model_can_be_saved_trained_and_loaded_again(smollm2: HookedModel, tmp_path) -> None:
    assert not hasattr(smollm2.module.config, "quantization_config")
    copied = load_model(smollm2.save(tmp_path / "model"))
    assert copied.origin.fingerprint == smollm2.origin.fingerprint
    assert copied.origin.template == smollm2.origin.template
    ours, theirs = smollm2.module.state_dict(), copied.module.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    batch = copied.tokenize(TEXTS[:1]).batch([0])
    optimizer = torch.optim.SGD(copied.module.parameters(), lr=1e-2)
    losses = []
    for _ in range(2):
        loss = copied.module(**batch, labels=batch["input_ids"]).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[1] < losses[0]
    assert copied.origin.fingerprint != smollm2.origin.fingerprint


def test_answers_are_sensible_and_a_batch_gives_what_single_prompts_give(
    smollm2: HookedModel,
) -> None:
    single = [generate(smollm2, CHATS[[i]], max_new_tokens=8).tokens[0] for i in range(3)]
    together = generate(smollm2, CHATS, max_new_tokens=8)
    assert list(together.tokens) == single
    counting = generate(smollm2, TEXTS[2:], max_new_tokens=3).texts[0]
    assert counting.startswith(", 9")


def test_steering_is_the_same_cached_and_uncached(smollm2: HookedModel) -> None:
    vector = extract(smollm2, TEXTS[:2], layers=12, pooling="mean").matrix
    vector = 3 * (vector[0] - vector[1])
    with smollm2.intervene(add(vector, layers=12, positions="generated")):
        cached = generate(smollm2, TEXTS[1:], max_new_tokens=4)
        anew = generate(smollm2, TEXTS[1:], max_new_tokens=4, use_cache=False)
    assert cached.tokens == anew.tokens
    assert cached.tokens != generate(smollm2, TEXTS[1:], max_new_tokens=4).tokens


def test_patching_every_layer_restores_the_clean_answer(smollm2: HookedModel) -> None:
    clean, corrupted = (
        "When Mary and John went home, Mary gave",
        "When Mary and John went home, John gave",
    )
    tokens = smollm2.tokenize([clean, corrupted])
    assert tokens.lengths[0] == tokens.lengths[1]
    source = extract(smollm2, [clean])

    def logits(example: int) -> torch.Tensor:
        with torch.no_grad():
            return smollm2.module(**tokens.batch([example])).logits[0, -1]

    with smollm2.intervene(patch(source, layers=20)):
        patched = logits(1)
    torch.testing.assert_close(patched, logits(0), atol=1e-3, rtol=1e-3)
    assert (logits(1) - logits(0)).abs().max() > 0.1


def test_half_the_disk_holds_the_same_activations(smollm2: HookedModel, tmp_path) -> None:
    store = extract_to_disk(smollm2, CHATS, tmp_path, layers=[5, 20], dtype=torch.float16)
    exact = extract(smollm2, CHATS, layers=[5, 20]).values
    read = store.read([5, 20]).values.float()
    assert ((read - exact).norm(dim=-1) / exact.norm(dim=-1)).max() < 2e-3
