"""Back ends without a model: rules, the cache, and a server of our own."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from interp.agents import Backend, BackendError, OpenAICompatible, Replay, Scripted

ASK = [{"role": "user", "content": "Yes or no?"}]


def test_rules_reply_and_choose() -> None:
    backend = Scripted(reply=lambda m, seed: f"{seed}: a STOP b", weigh=lambda m, o: [1, 3])
    assert isinstance(backend, Backend)
    assert backend.generate(ASK, seed=4, stop=["STOP"]).text == "4: a"
    assert backend.choice(ASK, ["yes", "no"]).tolist() == [0.25, 0.75]
    with pytest.raises(ValueError, match="needed 3, not negative"):
        backend.choice(ASK, ["a", "b", "c"])
    with pytest.raises(BackendError, match="no rule that replies"):
        Scripted().generate(ASK)


class Counting:
    """A back end that counts how often it is asked."""

    name = "counting"

    def __init__(self) -> None:
        self.asked = 0

    def generate(self, messages: Any, **options: Any) -> Any:
        self.asked += 1
        return Scripted(reply=lambda m, seed: f"reply {seed}").generate(messages, **options)

    def choice(self, messages: Any, options: Any) -> Any:
        self.asked += 1
        return np.array([0.1, 0.9])


def test_cache_asks_once_and_replays_without_a_back_end(tmp_path: Path) -> None:
    path, behind = tmp_path / "cache" / "replies.jsonl", Counting()
    cache = Replay(path, behind)
    first = [cache.generate(ASK, seed=k % 2) for k in range(4)]
    cache.choice(ASK, ["a", "b"])
    cache.choice(ASK, ["a", "b"])
    assert behind.asked == 3
    alone = Replay(path, name="counting")
    assert [alone.generate(ASK, seed=k % 2) for k in range(4)] == first
    assert alone.choice(ASK, ["a", "b"]).tolist() == [0.1, 0.9]
    for other in ({"seed": 7}, {"max_tokens": 1}, {"temperature": 1.0}, {"stop": ["x"]}):
        with pytest.raises(BackendError, match="no such entry"):
            alone.generate(ASK, **other)
    with pytest.raises(BackendError, match="'another'"):
        Replay(path, name="another").generate(ASK, seed=0)


def test_cache_that_was_cut_off_goes_on(tmp_path: Path) -> None:
    path, behind = tmp_path / "replies.jsonl", Counting()
    for seed in range(3):
        Replay(path, behind).generate(ASK, seed=seed)
    path.write_bytes(path.read_bytes()[:-15])
    cache = Replay(path, behind)
    assert [cache.generate(ASK, seed=k).text for k in range(3)] == [f"reply {k}" for k in range(3)]
    assert behind.asked == 4
    assert len(path.read_text().splitlines()) == 3
    path.write_text("not JSON\n")
    with pytest.raises(ValueError, match="line 1: no entry of a cache"):
        Replay(path, behind)
    with pytest.raises(ValueError, match="needs the name"):
        Replay(path)


class Handler(BaseHTTPRequestHandler):
    """A server that echoes; the model's name says what goes wrong."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server: Any = self.server
        server.bodies.append(body)
        status, answer = 200, {"choices": [{"message": {"content": "I say: END no"}}]}
        if body.get("logprobs"):
            top = [{"token": " Ye", "logprob": np.log(0.6)}, {"token": "No", "logprob": -2.0}]
            answer["choices"][0]["logprobs"] = {"content": [{"top_logprobs": top}]}
        if body["model"] == "moody" and len(server.bodies) < 3:
            status = 503
        if body["model"] == "unknown":
            status = 404
        if body["model"] == "odd":
            answer = {"choices": []}
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def server() -> Iterator[Any]:
    server: Any = HTTPServer(("127.0.0.1", 0), Handler)
    server.bodies = []
    server.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_server_is_asked_in_its_own_language(server: Any) -> None:
    backend = OpenAICompatible("echo", base_url=server.url + "/")
    reply = backend.generate(ASK, max_tokens=9, temperature=0.5, seed=2**40 + 3, stop=["END"])
    assert reply.text == "I say:"
    assert server.bodies[0] == {
        "model": "echo",
        "messages": ASK,
        "max_tokens": 9,
        "temperature": 0.5,
        "seed": 3,
        "stop": ["END"],
    }
    chosen = backend.choice(ASK, ["Yes", "No"])
    assert chosen == pytest.approx([0.6 / (0.6 + np.exp(-2)), np.exp(-2) / (0.6 + np.exp(-2))])


def test_server_that_fails_is_tried_again_or_named(server: Any) -> None:
    assert OpenAICompatible("moody", base_url=server.url).generate(ASK).text
    assert len(server.bodies) == 3
    with pytest.raises(BackendError, match="status 404"):
        OpenAICompatible("unknown", base_url=server.url).generate(ASK)
    assert len(server.bodies) == 4
    with pytest.raises(BackendError, match="sent no choices"):
        OpenAICompatible("odd", base_url=server.url).generate(ASK)
    with pytest.raises(BackendError, match="none of"):
        OpenAICompatible("echo", base_url=server.url).choice(ASK, ["maybe", "perhaps"])
    with pytest.raises(ValueError, match="begins with another"):
        OpenAICompatible("echo", base_url=server.url).choice(ASK, ["no", "nothing"])


def test_server_that_is_gone_is_a_backend_error() -> None:
    gone = OpenAICompatible("x", base_url="http://127.0.0.1:9/v1", timeout=0.2)
    with pytest.raises(BackendError, match="does not answer"):
        gone.generate(ASK)
