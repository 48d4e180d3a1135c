"""Tokens: every span decodes to the text it stands for, whatever the template does."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interp import Records, Span, Tokens
from interp.core.tokenizing import tokenize
from interp.core.tokens import join_tokens, token_tensors, tokens_from_tensors

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CHATML_WITH_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are helpful<|im_end|>\n' }}{% endif %}" + CHATML
)
LLAMA3 = (
    "{{ '<|begin_of_text|>' }}{% if messages[0]['role'] != 'system' %}"
    "{{ '<|start_header_id|>system<|end_header_id|>\n\nToday: now<|eot_id|>' }}{% endif %}"
    "{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n'"
    " + m['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
GEMMA = (
    "{{ '<bos>' }}{% if messages[0]['role'] == 'system' %}"
    "{% set head = messages[0]['content'] + '\n\n' %}{% set rest = messages[1:] %}"
    "{% else %}{% set head = '' %}{% set rest = messages %}{% endif %}"
    "{% for m in rest %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\n'"
    " + (head if loop.first else '') + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
PLAIN = (
    "{% for m in messages %}{{ m['role'] + ': ' + m['content'] | trim + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
)
TEMPLATES = {
    "chatml": CHATML,
    "chatml with a system prompt": CHATML_WITH_SYSTEM,
    "llama 3": LLAMA3,
    "gemma": GEMMA,
    "plain": PLAIN,
}
CONTENTS = st.one_of(
    st.sampled_from(
        ["user", "assistant", "", " ", "  hello  ", "\n", "🙂", "👩‍👩‍👧 é", "a\n", "model\n\nmodel"]
    ),
    st.text(max_size=12).filter(lambda text: "<" not in text and "\ue000" not in text),
)


def conversation(contents: list[str], *, system: bool) -> Records:
    roles = (["system"] if system else []) + ["user", "assistant"] * len(contents)
    messages = [{"role": r, "content": c} for r, c in zip(roles, contents, strict=False)]
    return Records([{"messages": messages}])


@pytest.fixture
def templated(tokenizer):
    """The tokenizer with another chat template for the length of a test."""
    before = tokenizer.chat_template

    def use(template: str | None):
        tokenizer.chat_template = template
        return tokenizer

    yield use
    tokenizer.chat_template = before


def chosen_text(tokens: Tokens, span: Span, tokenizer) -> str:
    """What a span's tokens decode to; '' where it picks none."""
    try:
        keep = tokens.mask(span)
    except ValueError:
        return ""
    return tokenizer.decode(tokens.ids[keep])


@pytest.mark.parametrize("name", TEMPLATES)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(contents=st.lists(CONTENTS, min_size=2, max_size=5), system=st.booleans())
def test_every_turn_decodes_to_its_message(templated, name: str, contents, system: bool) -> None:
    tokenizer = templated(TEMPLATES[name])
    records = conversation(contents, system=system)
    messages = records[0].messages or ()
    strips = name in ("llama 3", "plain", "gemma")
    for prompt in (False, True):
        tokens = tokenize(tokenizer, records, add_generation_prompt=prompt)
        ids = tokenizer.apply_chat_template(
            [dict(m) for m in messages], add_generation_prompt=prompt, return_dict=False
        )
        assert tokens.ids.tolist() == ids
        for turn, message in enumerate(messages):
            found = chosen_text(tokens, Span(turn=turn, first=True), tokenizer)
            is_merged = name == "gemma" and system and turn == 0
            kept = message["content"].strip() if strips and not is_merged else message["content"]
            assert found == kept, turn
            assert found == chosen_text(tokens, Span(turn=turn - len(messages)), tokenizer)


@pytest.mark.parametrize("name", TEMPLATES)
def test_turns_and_their_headers_cover_the_rendered_text(templated, name: str) -> None:
    tokenizer = templated(TEMPLATES[name])
    records = conversation(["Be kind.", "Hi 🙂", "user", "assistant"], system=True)
    tokens = tokenize(tokenizer, records, add_generation_prompt=True)
    parts = [
        chosen_text(tokens, Span(turn=turn, template=True, first=True), tokenizer)
        for turn in range(5)
    ]
    assert "".join(parts) == tokens.texts[0]
    expected = {
        "chatml": ["<|im_start|>user\nHi 🙂<|im_end|>\n", "<|im_start|>assistant\n"],
        "chatml with a system prompt": [
            "<|im_start|>user\nHi 🙂<|im_end|>\n",
            "<|im_start|>assistant\n",
        ],
        "llama 3": [
            "<|start_header_id|>user<|end_header_id|>\n\nHi 🙂<|eot_id|>",
            "<|start_header_id|>assistant<|end_header_id|>\n\n",
        ],
        "gemma": ["\n\nHi 🙂<end_of_turn>\n", "<start_of_turn>model\n"],
        "plain": ["\nuser: Hi 🙂", "\nassistant:"],
    }[name]
    if name != "plain":  # without control tokens nothing says where a turn ends
        assert [parts[1], parts[4]] == expected
    assert set(tokens.token_roles[tokens.turns == 4]) == {"assistant"}


def test_a_system_prompt_of_the_template_belongs_to_no_message(templated) -> None:
    tokenizer = templated(CHATML_WITH_SYSTEM)
    tokens = tokenize(tokenizer, conversation(["Hi", "Hello"], system=False))
    added = chosen_text(tokens, Span(role="system", template=True, first=True), tokenizer)
    assert added == "<|im_start|>system\nYou are helpful<|im_end|>\n"
    assert not tokens.content[tokens.turns == -1].any()
    assert chosen_text(tokens, Span(role="system"), tokenizer) == ""


def test_roles_select_all_their_turns(templated) -> None:
    tokenizer = templated(LLAMA3)
    tokens = tokenize(tokenizer, conversation(["one", "two", "three", "four"], system=False))
    assert chosen_text(tokens, Span(role="user"), tokenizer) == "onethree"
    assert chosen_text(tokens, Span(role="assistant"), tokenizer) == "twofour"
    assert chosen_text(tokens, Span(), tokenizer) == "onetwothreefour"
    assert tokenizer.decode(tokens.ids[tokens.mask("last")]) == "r"
    assert tokens.mask("all").all()


def test_a_substring_is_found_in_the_content_and_not_in_the_template(templated) -> None:
    tokenizer = templated(CHATML_WITH_SYSTEM)
    tokens = tokenize(tokenizer, conversation(["a helpful user", "user", "no"], system=False))
    for text in ("helpful", "user"):
        keep = tokens.mask(Span(text=text))
        assert tokenizer.decode(tokens.ids[keep]) == text
        assert set(tokens.turns[keep]) == {0}
    keep = tokens.mask(Span(text="user", role="assistant"))
    assert set(tokens.turns[keep]) == {1}
    with pytest.raises(ValueError, match="picks no token of example 0"):
        tokens.mask(Span(text="absent"))


def test_a_substring_of_a_text_may_overlap_itself_and_be_an_emoji(tokenizer) -> None:
    tokens = tokenize(tokenizer, ["aab 🙂🙂", "🙂 end"])
    keep = tokens.mask(Span(text="🙂", first=True))
    assert [tokens.chars[keep & (tokens.examples == i)].tolist() for i in (0, 1)] == [
        [[4, 5]] * 4,
        [[0, 1]] * 4,
    ]
    keep = tokens.rows([0]).mask(Span(text="ab"))
    assert np.flatnonzero(keep).tolist() == [1, 2]


@pytest.mark.parametrize("token", ["<|im_end|>", "<|im_start|>", "<|eot_id|>", "<end_of_turn>"])
def test_control_tokens_in_messages_are_refused(templated, token: str) -> None:
    tokenizer = templated(CHATML)  # most of these are in no list of `all_special_tokens`
    records = conversation(["fine", f"not {token} fine"], system=False)
    with pytest.raises(ValueError, match="record 0: message 1 contains the control token") as error:
        tokenize(tokenizer, records)
    assert token in str(error.value)
    allowed = tokenize(tokenizer, records, allow_control_tokens=True)
    assert tokenizer.convert_tokens_to_ids(token) in allowed.ids[allowed.content]
    assert len(tokenize(tokenizer, [f"a text may have {token}"])) == 1


def test_templates_that_rewrite_or_drop_messages_are_refused(templated) -> None:
    upper = "{% for m in messages %}{{ m['content'] | upper }}|{% endfor %}"
    with pytest.raises(ValueError, match="rewrites message 0"):
        tokenize(templated(upper), conversation(["hi", "ho"], system=False))
    first = "{{ messages[0]['content'] }}|"
    with pytest.raises(ValueError, match="leaves message 1 out"):
        tokenize(templated(first), conversation(["hi", "ho"], system=False))
    with pytest.raises(
        ValueError, match="record 0: the chat template refuses these messages: roles"
    ):
        tokenize(
            templated(GEMMA),
            Records([{"messages": [{"role": "user", "content": c} for c in ("a", "b")]}]),
        )
    with pytest.raises(ValueError, match="no chat template"):
        tokenize(templated(None), conversation(["hi", "ho"], system=False))


def test_a_text_that_brings_its_own_first_token_gets_no_second(tokenizer) -> None:
    from tokenizers.processors import TemplateProcessing

    backend = tokenizer.backend_tokenizer
    before, bos = backend.post_processor, tokenizer.bos_token
    ids = tokenizer.convert_tokens_to_ids("<bos>")
    try:
        tokenizer.bos_token = "<bos>"
        backend.post_processor = TemplateProcessing(
            single="<bos> $A", special_tokens=[("<bos>", ids)]
        )
        tokens = tokenize(tokenizer, ["<bos>tea", "tea"])
    finally:
        backend.post_processor, tokenizer.bos_token = before, bos
    assert tokens.lengths.tolist() == [4, 4]
    assert tokens.ids[:4].tolist() == tokens.ids[4:].tolist()
    assert tokens.mask(Span()).tolist() == [False, True, True, True] * 2
    assert tokens.strings[4] == f"<{ids}>"


@given(
    texts=st.lists(st.text(min_size=1, max_size=9).filter(str.strip), min_size=1, max_size=5),
    side=st.sampled_from(["left", "right"]),
)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_batches_hold_the_tokens_at_their_side(tokenizer, texts: list[str], side) -> None:
    tokens = tokenize(tokenizer, [*texts, "<|im_end|><|im_end|>"])  # padding as real tokens
    batch = tokens.batch(range(len(tokens)), side=side)
    real = batch["attention_mask"].bool()
    assert torch.equal(batch["input_ids"][real], torch.from_numpy(tokens.ids))
    assert torch.equal(batch["position_ids"][real], torch.from_numpy(tokens.positions))
    assert real.sum(-1).tolist() == tokens.lengths.tolist()
    edge = real[:, -1] if side == "left" else real[:, 0]
    assert edge.all()
    assert "".join(tokens.strings).startswith(texts[0][:1])


def test_tables_are_cut_joined_and_kept(templated, tokenizer) -> None:
    templated(CHATML)
    tokens = tokenize(
        tokenizer,
        Records([{"text": "tea"}, {"messages": [{"role": "user", "content": "héé🙂"}]}]),
    )
    same = tokens_from_tensors(token_tensors(tokens))
    joined = join_tokens([tokens.rows([0]), tokens.rows([1])])
    swapped = tokens.rows([1, 0]).rows([1, 0])
    for other in (same, joined, swapped):
        assert other.texts == tokens.texts
        assert other.roles == tokens.roles
        for name in ("ids", "lengths", "positions", "turns", "content", "chars"):
            np.testing.assert_array_equal(getattr(other, name), getattr(tokens, name))
    cut = tokens.take(tokens.positions > 0)
    assert (cut.lengths == tokens.lengths - 1).all()
    assert tokens.whole
    assert not cut.whole
    assert tokens.digest() == same.digest() != cut.digest()


def test_a_single_token_has_no_content_but_the_first(tokenizer) -> None:
    tokens = tokenize(tokenizer, ["tea", "x"])
    with pytest.raises(ValueError, match=r"picks no token of example 1 \('x'\)"):
        tokens.mask("content")
    assert tokens.mask(Span(first=True)).all()


def test_slow_tokenizers_are_refused() -> None:
    class Slow:
        is_fast = False

    with pytest.raises(TypeError, match="Slow is not a fast tokenizer"):
        tokenize(Slow(), ["tea"])
