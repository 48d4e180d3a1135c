"""The provider for inspect-ai, on a small random model."""

import asyncio
import gc
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import torch

from interp import HookedModel, Records, extract
from interp.agents import HookedBackend
from probes import LinearProbe, ProbeMonitor
from tests.tiny_models import tiny_llama

inspect_ai = pytest.importorskip("inspect_ai", reason="needs the extra inspect")

from inspect_ai import model as inspect_models  # noqa: E402 (nothing of it without the library)
from inspect_ai.dataset import Sample  # noqa: E402
from inspect_ai.log import read_eval_log  # noqa: E402
from inspect_ai.scorer import includes  # noqa: E402
from inspect_ai.tool import ToolInfo  # noqa: E402

from interp.agents.inspect_provider import inspect_model  # noqa: E402

# tenacity deprecates what inspect-ai says to it
pytestmark = pytest.mark.filterwarnings("ignore:The .initial. parameter:DeprecationWarning")

ASK = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Yes or no?"}]
TURNS = [
    inspect_models.ChatMessageSystem(content="Be brief."),
    inspect_models.ChatMessageUser(content=[inspect_models.ContentText(text="Yes or no?")]),
]


@pytest.fixture(scope="module")
def model() -> HookedModel:
    return tiny_llama()


@pytest.fixture(scope="module")
def probe(model: HookedModel) -> Any:
    texts = ["one two", "three", "four five six", "seven"]
    activations = extract(model, texts, layers=2, pooling="mean")
    return LinearProbe().fit(activations, [0, 1, 0, 1])


def ask(backend: HookedBackend, turns: Any = TURNS, **options: Any) -> Any:
    config = inspect_models.GenerateConfig(**options)
    return asyncio.run(inspect_model(backend).generate(turns, config=config))


class Reading:
    """A monitor that keeps the ids, and may stop at the first token."""

    def __init__(self, stop: bool = False) -> None:
        self.stop, self.scores, self.ids = stop, {}, torch.zeros(1, 0)

    def watching(self, model: HookedModel) -> AbstractContextManager[None]:
        return nullcontext()

    def on_token(self, ids: torch.Tensor) -> torch.Tensor:
        self.ids = ids
        return torch.full((len(ids),), self.stop)


def test_the_tokenizers_own_template_writes_the_prompt(model: HookedModel) -> None:
    seen = Reading()
    output = ask(HookedBackend(model, monitor=seen), max_tokens=6)
    text = model.tokenizer.apply_chat_template(ASK, tokenize=False, add_generation_prompt=True)
    prompt = model.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert seen.ids[0, : len(prompt)].tolist() == prompt
    assert output.completion == HookedBackend(model).generate(ASK, max_tokens=6).text
    assert output.usage.input_tokens == len(prompt)
    assert output.usage.output_tokens == seen.ids.shape[1] - len(prompt) == 6
    assert output.usage.total_tokens == len(prompt) + 6


def test_scores_are_the_monitors_own(model: HookedModel, probe: Any) -> None:
    backend = HookedBackend(model, monitor=ProbeMonitor({"even": probe}))
    scores = ask(backend, max_tokens=6).metadata["probe_scores"]
    assert scores == backend.generate(ASK, max_tokens=6).scores
    asked = Records([{"messages": ASK}])
    written = ProbeMonitor({"even": probe}).generate(model, asked, max_new_tokens=6)
    assert scores["even"] == pytest.approx(float(written.scores["even"][0][-1, 0]), abs=1e-5)
    assert ask(HookedBackend(model), max_tokens=6).metadata["probe_scores"] == {}


def test_seed_decides_what_is_drawn(model: HookedModel) -> None:
    backend, options = HookedBackend(model), {"max_tokens": 8, "temperature": 1.0}
    first, again, other = (ask(backend, seed=s, **options).completion for s in (3, 3, 4))
    assert first == again == backend.generate(ASK, seed=3, **options).text
    assert first != other


def test_stop_reason_says_what_ended_the_reply(model: HookedModel) -> None:
    backend = HookedBackend(model)
    full = ask(backend, max_tokens=8)
    assert full.stop_reason == "max_tokens"
    mark = full.completion[3]
    cut = ask(backend, max_tokens=8, stop_seqs=[mark])
    assert (cut.stop_reason, cut.completion) == ("stop", full.completion.split(mark)[0].strip())
    assert cut.usage.output_tokens == 8
    stopped = ask(HookedBackend(model, monitor=Reading(stop=True)), max_tokens=8)
    assert (stopped.stop_reason, stopped.usage.output_tokens) == ("content_filter", 1)


def test_end_of_text_is_a_stop_even_at_the_last_token() -> None:
    model, seen = tiny_llama(), Reading()
    n_prompt = ask(HookedBackend(model, monitor=seen), max_tokens=3).usage.input_tokens
    written = seen.ids[0, n_prompt:].tolist()
    model.module.generation_config.eos_token_id = written[-1]
    n_tokens = written.index(written[-1]) + 1
    for max_tokens in (n_tokens, n_tokens + 5):
        output = ask(HookedBackend(model), max_tokens=max_tokens)
        assert (output.stop_reason, output.usage.output_tokens) == ("stop", n_tokens)


def test_back_ends_of_one_name_stay_apart(model: HookedModel) -> None:
    one, two = (HookedBackend(model, name="same") for _ in range(2))
    assert [inspect_model(b).api.backend for b in (one, two)] == [one, two]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"top_p": 0.9}, "top_p=0.9"),
        ({"logprobs": True, "top_k": 5}, "logprobs=True"),
        ({"num_choices": 2}, "num_choices=2"),
        ({"timeout": 3}, "timeout=3"),
    ],
)
def test_options_without_effect_are_refused(
    model: HookedModel, options: dict[str, Any], named: str
) -> None:
    with pytest.raises(ValueError, match=f"cannot honor .*{named}.*takes max_tokens"):
        ask(HookedBackend(model), **options)


def test_neutral_options_are_taken(model: HookedModel) -> None:
    plain = ask(HookedBackend(model), max_tokens=4)
    neutral = {"top_p": 1.0, "num_choices": 1, "max_retries": 2, "frequency_penalty": 0.0}
    assert ask(HookedBackend(model), max_tokens=4, **neutral).completion == plain.completion


def test_tools_and_images_are_refused(model: HookedModel) -> None:
    picture = inspect_models.ContentImage(image="data:image/png;base64,AAAA")
    with pytest.raises(ValueError, match="got a message of 'user' with image"):
        ask(HookedBackend(model), [inspect_models.ChatMessageUser(content=[picture])])
    answer = inspect_models.ChatMessageTool(content="4", tool_call_id="1")
    with pytest.raises(ValueError, match="'tool' with tool calls"):
        ask(HookedBackend(model), [*TURNS, answer])
    tool = ToolInfo(name="add", description="adds")
    with pytest.raises(ValueError, match="no tools, got \\['add'\\]"):
        asyncio.run(inspect_model(HookedBackend(model)).generate(TURNS, tools=[tool]))


@pytest.mark.filterwarnings("ignore:Unclosed .MemoryObject:ResourceWarning")  # inspect-ai's own
def test_an_evaluation_logs_texts_and_scores(
    model: HookedModel, probe: Any, tmp_path: Path
) -> None:
    backend = HookedBackend(model, monitor=ProbeMonitor({"even": probe}))
    asked = ["Yes or no?", "Left or right?"]
    replies = [
        backend.generate([{"role": "user", "content": text}], max_tokens=6) for text in asked
    ]
    task = inspect_ai.Task(
        dataset=[
            Sample(input=asked[0], target=replies[0].text),
            Sample(input=asked[1], target="?"),
        ],
        scorer=includes(),
    )
    (log,) = inspect_ai.eval(
        task,
        model=inspect_model(backend),
        max_tokens=6,
        log_dir=str(tmp_path),
        display="none",
    )
    gc.collect()  # the streams that it left open
    assert log.status == "success"
    kept = read_eval_log(log.location)
    assert Path(kept.location).parent.name == tmp_path.name
    assert [sample.output.completion for sample in kept.samples] == [r.text for r in replies]
    for sample, reply in zip(kept.samples, replies, strict=True):
        assert sample.output.metadata["probe_scores"] == reply.scores
        assert sample.output.stop_reason == "max_tokens"
    assert kept.samples[0].scores["includes"].value == "C"


def test_inspect_finds_the_provider_by_its_entry_point() -> None:
    (found,) = entry_points(group="inspect_ai", name="hookscope")
    assert found.load().inspect_model is inspect_model
