"""Agents: language models that act, on back ends whose insides can be read and changed.

| question | use |
|---|---|
| what answers? | `HookedBackend`, `OpenAICompatible`, `Scripted`, `Replay` in front of any |
| who talks to whom? | `Player`, `Arena`, `run_arena`, `replay`, `Transcript` |
| what does an attack do to a team? | `make_lab`, `lab_minds`, `DEFENCES`, `Outcome`, `Security` |
| what is published? | `published_security_tax` |
"""

from interp.agents.api import OpenAICompatible
from interp.agents.arena import Arena, Injection, Result, replay, run_arena
from interp.agents.backends import Backend, BackendError, Reply, Scripted, digest, draw
from interp.agents.cache import Replay
from interp.agents.hooked import HookedBackend, Monitor
from interp.agents.intervals import Interval, mean_interval, wilson
from interp.agents.lab_messages import (
    ROUTINE,
    STYLES,
    UNUSUAL,
    Style,
    attack_texts,
    passed_on,
    routine_texts,
)
from interp.agents.outcomes import Outcome, Security
from interp.agents.players import Letter, Player, parse_reply, reply_text
from interp.agents.published import published_security_tax
from interp.agents.security import (
    ANSWERS,
    DEFENCES,
    Defence,
    LabMind,
    chain,
    decision_messages,
    is_forbidden,
    lab_minds,
    make_lab,
)
from interp.agents.transcripts import Step, Transcript

__all__ = [
    "ANSWERS",
    "DEFENCES",
    "ROUTINE",
    "STYLES",
    "UNUSUAL",
    "Arena",
    "Backend",
    "BackendError",
    "Defence",
    "HookedBackend",
    "Injection",
    "Interval",
    "LabMind",
    "Letter",
    "Monitor",
    "OpenAICompatible",
    "Outcome",
    "Player",
    "Replay",
    "Reply",
    "Result",
    "Scripted",
    "Security",
    "Step",
    "Style",
    "Transcript",
    "attack_texts",
    "chain",
    "decision_messages",
    "digest",
    "draw",
    "is_forbidden",
    "lab_minds",
    "make_lab",
    "mean_interval",
    "parse_reply",
    "passed_on",
    "published_security_tax",
    "replay",
    "reply_text",
    "routine_texts",
    "run_arena",
    "wilson",
]
