"""A back end behind an OpenAI-compatible server: OpenAI, vLLM, Ollama, llama.cpp and others.

Needs the extra `api`. The insides of the model cannot be read or changed there, and the same seed
need not give the same reply: put `Replay` in front of it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from interp.agents.backends import BackendError, Reply, until
from interp.core.records import Message

N_TOP = 20
"""Most likely tokens that a server tells at most."""


class OpenAICompatible:
    """A chat model on a server.

    Examples:
        >>> backend = OpenAICompatible("llama3", base_url="http://localhost:11434/v1")
        >>> backend.name
        'llama3'
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str,
        api_key: str = "none",
        timeout: float = 60.0,
        n_tries: int = 3,
    ) -> None:
        """Name a model on a server; nothing is sent yet.

        Args:
            model: Its name on the server.
            base_url: Address up to and with `/v1`.
            api_key: Sent with every request; local servers take any.
            timeout: Seconds that a request may take.
            n_tries: Requests until the server counts as gone; only failures that may pass (no
                connection, status 429 or 5xx) are tried again.
        """
        self.name = model
        self.base_url, self.api_key = base_url.rstrip("/"), api_key
        self.timeout, self.n_tries = timeout, n_tries

    def generate(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int = 128,
        temperature: float = 0.0,
        seed: int = 0,
        stop: Sequence[str] = (),
    ) -> Reply:
        """See `Backend.generate`."""
        # servers take seeds of 32 bits only
        options: dict[str, Any] = {"max_tokens": max_tokens, "temperature": temperature}
        options |= {"seed": seed % 2**31}
        choice = self._ask(messages, options | ({"stop": list(stop)} if stop else {}))
        try:
            return Reply(text=until(choice["message"]["content"] or "", stop))
        except (KeyError, TypeError) as error:
            raise BackendError(f"{self.base_url} sent no message: {choice!r}") from error

    def choice(
        self, messages: Sequence[Message], options: Sequence[str]
    ) -> Float[np.ndarray, " option"]:
        """See `Backend.choice`; by the likeliest first tokens, as far as the server tells them."""
        if any(a != b and b.startswith(a) for a in options for b in options):
            raise ValueError(f"options {list(options)!r}: one begins with another")
        asked = {"max_tokens": 1, "temperature": 0.0, "logprobs": True, "top_logprobs": N_TOP}
        found = self._ask(messages, asked)
        try:
            top = found["logprobs"]["content"][0]["top_logprobs"]
            likely = [(one["token"].strip(), float(one["logprob"])) for one in top]
        except (KeyError, TypeError, IndexError, ValueError) as error:
            raise BackendError(f"{self.base_url} sends no log-probabilities") from error
        weights = np.zeros(len(options))
        for token, logprob in likely:
            fits = [k for k, option in enumerate(options) if token and option.startswith(token)]
            if len(fits) == 1:  # a token that begins several options tells nothing
                weights[fits[0]] += np.exp(logprob)
        if not weights.sum() > 0:
            raise BackendError(f"none of {list(options)!r} is among the likeliest {N_TOP} tokens")
        return weights / weights.sum()

    def _ask(self, messages: Sequence[Message], options: dict[str, Any]) -> dict[str, Any]:
        """The first choice of the server's answer."""
        import httpx

        body = {"model": self.name, "messages": list(map(dict, messages)), **options}
        address, problem = f"{self.base_url}/chat/completions", ""
        for _ in range(self.n_tries):
            try:
                answer = httpx.post(
                    address,
                    json=body,
                    timeout=self.timeout,
                    headers={"Authorization": f"Bearer {self.api_key}"},
                )
            except httpx.HTTPError as error:
                problem = f"{type(error).__name__}: {error}"
                continue
            if answer.status_code == 200:
                return _first_choice(address, answer)
            problem = f"status {answer.status_code}: {answer.text[:200]}"
            if answer.status_code != 429 and answer.status_code < 500:
                break
        raise BackendError(f"{address} does not answer ({problem})")


def _first_choice(address: str, answer: Any) -> dict[str, Any]:
    try:
        return answer.json()["choices"][0]
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise BackendError(f"{address} sent no choices: {answer.text[:200]}") from error
