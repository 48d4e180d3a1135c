"""Generation: a batch gives what single prompts give, and nothing else is disturbed."""

import numpy as np
import pytest
import torch

from interp import Records, add, generate
from interp.core.generation import end_ids

PROMPTS = ["a fire in the house", "tea", "the old bridge", "x"]


@pytest.mark.parametrize("temperature", [0.0, 1.5])
@pytest.mark.parametrize("chat", [False, True])
def test_a_batch_gives_what_single_prompts_give(any_model, temperature: float, chat: bool) -> None:
    records = Records.from_texts(PROMPTS)
    records = records.as_chat() if chat else records
    options = {"max_new_tokens": 8, "temperature": temperature, "seed": 3}
    single = [generate(any_model, records[[i]], **options).tokens[0] for i in range(4)]
    for batch_size in (2, 16):
        assert list(generate(any_model, records, batch_size=batch_size, **options).tokens) == single


def test_greedy_equals_hugging_face(tiny) -> None:
    ids = tiny.tokenizer(PROMPTS[0], return_tensors="pt")
    expected = tiny.module.generate(**ids, max_new_tokens=8, do_sample=False, pad_token_id=2)
    mine = generate(tiny, PROMPTS[:1], max_new_tokens=8)
    assert mine.tokens[0] == tuple(expected[0, ids["input_ids"].shape[1] :].tolist())
    assert mine.texts[0] == tiny.tokenizer.decode(mine.tokens[0], skip_special_tokens=True)
    assert mine.prompts == (PROMPTS[0],)


def test_the_seed_decides_the_sample(tiny) -> None:
    options = {"max_new_tokens": 10, "temperature": 2.0}
    first = generate(tiny, PROMPTS, seed=1, **options).tokens
    assert generate(tiny, PROMPTS, seed=1, **options).tokens == first
    assert generate(tiny, PROMPTS, seed=2, **options).tokens != first
    assert generate(tiny, PROMPTS[::-1], seed=1, **options).tokens == first[::-1]


def test_repetitions_of_a_prompt_are_different_samples(tiny) -> None:
    tokens = generate(tiny, ["tea"] * 5, max_new_tokens=6, temperature=2.0).tokens
    assert len(set(tokens)) == 5


def test_samples_follow_the_distribution_of_the_model(tiny) -> None:
    n, temperature = 400, 1.3
    tokens = generate(tiny, ["tea"] * n, max_new_tokens=1, temperature=temperature, batch_size=n)
    with torch.no_grad():
        logits = tiny.module(**tiny.tokenize(["tea"]).batch([0])).logits[0, -1]
    expected = (logits / temperature).softmax(-1)
    found = torch.bincount(torch.tensor([ids[0] for ids in tokens.tokens]), minlength=len(expected))
    likely = expected * n > 8
    z = (found - n * expected) / (n * expected * (1 - expected)).sqrt()
    assert likely.sum() >= 4
    assert z[likely].abs().max() < 4.5


def test_top_p_leaves_out_the_tail(tiny) -> None:
    with torch.no_grad():
        logits = tiny.module(**tiny.tokenize(["tea"]).batch([0])).logits[0, -1]
    ranked = logits.softmax(-1).sort(descending=True)
    n_kept = int((ranked.values.cumsum(-1) < 0.4).sum()) + 1
    nucleus = set(ranked.indices[:n_kept].tolist())
    tokens = generate(tiny, ["tea"] * 100, max_new_tokens=1, temperature=1.0, top_p=0.4).tokens
    assert {ids[0] for ids in tokens} <= nucleus
    assert len({ids[0] for ids in tokens}) > 1


def test_global_generators_are_untouched(tiny) -> None:
    states = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    generate(tiny, PROMPTS, max_new_tokens=4, temperature=1.0)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.random.get_state()[1].tolist() == states[1]  # noqa: NPY002


def end_soon(model, text: str = "tea") -> int:
    """The second token of the greedy answer, to be declared the end of texts."""
    return generate(model, [text], max_new_tokens=4).tokens[0][1]


def test_a_text_ends_at_the_end_of_text_token_and_others_go_on(make_model) -> None:
    model = make_model("llama")
    free = generate(model, PROMPTS, max_new_tokens=6).tokens
    end = end_soon(model)
    model.module.generation_config.eos_token_id = [end, 300]
    assert end_ids(model) == [end, 300]
    expected = [ids[: ids.index(end) + 1] if end in ids else ids for ids in map(tuple, free)]
    found = generate(model, PROMPTS, max_new_tokens=6)
    assert list(found.tokens) == expected
    assert found.tokens[1][-1] == end
    assert found.to_frame()["n_tokens"].tolist() == [len(ids) for ids in expected]


def test_on_token_stops_texts_without_adding_to_them(tiny) -> None:
    free = generate(tiny, PROMPTS, max_new_tokens=6).tokens
    widths: list[int] = []

    def stop_second_row(ids: torch.Tensor) -> torch.Tensor:
        widths.append(ids.shape[1])
        return torch.tensor([False, len(widths) == 2, False, False])

    stopped = generate(tiny, PROMPTS, max_new_tokens=6, on_token=stop_second_row).tokens
    assert widths == list(range(widths[0], widths[0] + 6))
    # rows of a batch go from the longest prompt to the shortest: the second row is prompt 2
    assert stopped[2] == free[2][:2]
    assert [stopped[i] for i in (0, 1, 3)] == [free[i] for i in (0, 1, 3)]
    none = generate(tiny, PROMPTS, max_new_tokens=6, on_token=lambda ids: None).tokens
    assert none == free
    everything = lambda ids: torch.ones(len(ids), dtype=torch.bool)  # noqa: E731
    assert [len(t) for t in generate(tiny, PROMPTS, on_token=everything).tokens] == [1] * 4


def test_an_error_in_on_token_leaves_no_intervention(tiny, count_hooks) -> None:
    def fail(ids: torch.Tensor) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        with tiny.intervene(add(torch.ones(16), layers=1)):
            generate(tiny, PROMPTS, on_token=fail)
    assert count_hooks(tiny) == 0


def test_conversations_get_the_header_of_the_answer(tiny) -> None:
    answers = generate(tiny, Records.from_texts(["tea"]).as_chat(), max_new_tokens=2)
    assert answers.prompts[0].endswith("<|im_start|>assistant\n")


@pytest.mark.parametrize(
    "options", [{"temperature": -1.0}, {"top_p": 0.0}, {"top_p": 1.1}, {"max_new_tokens": 0}]
)
def test_options_out_of_range_are_refused(tiny, options: dict) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(options))}={next(iter(options.values()))}"):
        generate(tiny, PROMPTS, **options)


def test_an_answer_that_does_not_fit_is_refused(tiny) -> None:
    with pytest.raises(ValueError, match="may take 103 tokens, but 96 fit"):
        generate(tiny, ["tea"], max_new_tokens=100)
