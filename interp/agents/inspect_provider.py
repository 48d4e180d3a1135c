"""A provider for inspect-ai: its evaluations run on a hooked model and log the scores of probes.

Needs the extra `inspect`. Messages become those of `HookedBackend`, so the model's own chat
template writes the prompt. What the monitor said of a reply stands in the output's metadata under
`probe_scores`. What the back end cannot do is refused, not ignored: tools, images, and options
other than `max_tokens`, `temperature`, `seed` and `stop_seqs`.

`inspect eval task.py --model hookscope/smollm2-135m-instruct` loads a model by its name, without
interventions and probes; `inspect_model` takes a back end that has them.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.agents.hooked import HookedBackend, Monitor
from interp.core.generation import end_ids
from interp.core.loading import load_model
from interp.core.model import HookedModel
from interp.core.records import Message

try:
    from inspect_ai.model import (
        ChatCompletionChoice,
        ChatMessage,
        ChatMessageAssistant,
        GenerateConfig,
        Model,
        ModelAPI,
        ModelOutput,
        ModelUsage,
        StopReason,
        get_model,
        modelapi,
    )
    from inspect_ai.tool import ToolChoice, ToolInfo
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"{error}: this provider needs inspect-ai, pip install hookscope[inspect]"
    ) from error

_OPTIONS = {
    "max_tokens": "max_tokens",
    "temperature": "temperature",
    "seed": "seed",
    "stop_seqs": "stop",
}
"""What the back end calls the options that it honors."""
_ELSEWHERE = {
    "adaptive_connections",
    "cache",
    "fail_on_refusal",
    "max_connections",
    "max_retries",
    "max_tool_output",
    "reasoning_history",
    "stream_idle_timeout",
    "system_message",
}
"""Options that inspect-ai acts on by itself, before or after it asks a provider."""
_NEUTRAL = {"top_p": 1.0, "num_choices": 1, "frequency_penalty": 0.0, "presence_penalty": 0.0}
"""Values of other options that change nothing."""


def inspect_model(backend: HookedBackend, *, config: GenerateConfig | None = None) -> Model:
    """A back end as a model of inspect-ai, for `inspect_ai.eval(task, model=...)`.

    Args:
        backend: The model with its interventions and monitor.
        config: Defaults of the options. What is in neither this nor the task is the back end's
            default: the likeliest reply, and seed 0, so that all epochs write the same.
    """
    # models are kept by their name alone otherwise, and two back ends may share one
    return get_model(f"hookscope/{backend.name}", config=config, memoize=False, backend=backend)


@modelapi(name="hookscope")
class HookscopeAPI(ModelAPI):
    """Hooked models, one reply at a time."""

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(),  # noqa: B008 (the signature is inspect-ai's)
        *,
        backend: HookedBackend | None = None,
    ) -> None:
        """Name a model; it is loaded where no back end is given.

        Args:
            model_name: Of `interp.load_model`, or any beside a back end.
            base_url: Means nothing to a model of this process.
            api_key: As little.
            config: Defaults of the options.
            backend: Answers instead of the model of that name.
        """
        super().__init__(model_name, base_url, api_key, [], config)
        self.backend = HookedBackend(load_model(model_name)) if backend is None else backend

    async def generate(
        self,
        input: list[ChatMessage],
        tools: list[ToolInfo],
        tool_choice: ToolChoice,
        config: GenerateConfig,
    ) -> ModelOutput:
        """A reply, with the scores of the monitor in the metadata.

        The reply counts all tokens that were written, also those behind a stop sequence. Its stop
        reason is "content_filter" where the monitor ended it.

        Raises:
            ValueError: If messages, tools or options ask for what the back end cannot do.
        """
        if tools:
            raise ValueError(f"hookscope has no tools, got {[tool.name for tool in tools]!r}")
        messages, options = [_message(turn) for turn in input], _options(config)
        model, written = self.backend.model, _Written(self.backend.monitor)
        watched = HookedBackend(
            model,
            interventions=self.backend.interventions,
            monitor=written,
            name=self.backend.name,
        )
        # nothing is awaited: hooks are on the model as a whole, so replies wait for each other
        reply = watched.generate(messages, **options)
        message = ChatMessageAssistant(content=reply.text, model=self.model_name, source="generate")
        reason = written.stop_reason(model, options.get("stop", ()))
        n_read, n_written = written.n_prompt, len(written.ids) - written.n_prompt
        return ModelOutput(
            model=self.model_name,
            choices=[ChatCompletionChoice(message=message, stop_reason=reason)],
            usage=ModelUsage(
                input_tokens=n_read, output_tokens=n_written, total_tokens=n_read + n_written
            ),
            metadata={"probe_scores": dict(reply.scores)},
        )


class _Written:
    """A monitor that passes another one on and keeps the tokens, which a reply does not tell."""

    def __init__(self, monitor: Monitor | None) -> None:
        self._monitor = monitor
        self.ids = torch.zeros(0, dtype=torch.long)
        self.n_prompt, self._stopped = 0, False

    @property
    def scores(self) -> Mapping[str, np.ndarray]:
        return {} if self._monitor is None else self._monitor.scores

    def watching(self, model: HookedModel) -> AbstractContextManager[Any]:
        return nullcontext() if self._monitor is None else self._monitor.watching(model)

    def on_token(self, ids: Tensor) -> Tensor:
        self.n_prompt = self.n_prompt or ids.shape[1] - 1
        self.ids = ids[0]
        over = torch.zeros_like(ids[:, 0], dtype=torch.bool)
        over = over if self._monitor is None else self._monitor.on_token(ids)
        self._stopped = bool(over[0])
        return over

    def stop_reason(self, model: HookedModel, stop: list[str] | tuple[()]) -> StopReason:
        """Why the reply is over: what cut or ended it first."""
        text = model.tokenizer.decode(self.ids[self.n_prompt :], skip_special_tokens=True)
        if any(mark in text for mark in stop if mark) or int(self.ids[-1]) in end_ids(model):
            return "stop"
        return "content_filter" if self._stopped else "max_tokens"


def _message(message: ChatMessage) -> Message:
    """A turn of inspect-ai as one of ours."""
    other = {part.type for part in message.content_list} - {"text"}
    if other or message.role == "tool" or getattr(message, "tool_calls", None):
        raise ValueError(
            f"hookscope takes texts of system, user and assistant, got a message of "
            f"{message.role!r} with {', '.join(sorted(other)) or 'tool calls'}"
        )
    return {"role": message.role, "content": message.text}


def _options(config: GenerateConfig) -> dict[str, Any]:
    """The options under the back end's names."""
    given = {name: value for name, value in config if value is not None}
    known = _OPTIONS.keys() | _ELSEWHERE
    refused = [
        f"{name}={value!r}"
        for name, value in given.items()
        if name not in known and value != _NEUTRAL.get(name)
    ]
    if refused:
        raise ValueError(
            f"hookscope cannot honor {', '.join(refused)}: leave it out "
            f"(it takes {', '.join(_OPTIONS)})"
        )
    return {ours: given[name] for name, ours in _OPTIONS.items() if name in given}
