"""Agents: language models that act, on back ends whose insides can be read and changed.

| question | use |
|---|---|
| what answers? | `HookedBackend`, `OpenAICompatible`, `Scripted`, `Replay` in front of any |
| who talks to whom? | `Player`, `Arena`, `run_arena`, `replay`, `Transcript` |
"""

from interp.agents.api import OpenAICompatible
from interp.agents.arena import Arena, Injection, Result, replay, run_arena
from interp.agents.backends import Backend, BackendError, Reply, Scripted, digest, draw
from interp.agents.cache import Replay
from interp.agents.hooked import HookedBackend, Monitor
from interp.agents.players import Letter, Player, parse_reply, reply_text
from interp.agents.transcripts import Step, Transcript

__all__ = [
    "Arena",
    "Backend",
    "BackendError",
    "HookedBackend",
    "Injection",
    "Letter",
    "Monitor",
    "OpenAICompatible",
    "Player",
    "Replay",
    "Reply",
    "Result",
    "Scripted",
    "Step",
    "Transcript",
    "digest",
    "draw",
    "parse_reply",
    "replay",
    "reply_text",
    "run_arena",
]
