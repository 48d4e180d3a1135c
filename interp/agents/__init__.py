"""Agents: language models that act, on back ends whose insides can be read and changed.

| question | use |
|---|---|
| what answers? | `HookedBackend`, `OpenAICompatible`, `Scripted`, `Replay` in front of any |
| who talks to whom? | `Player`, `Arena`, `run_arena`, `replay`, `Transcript` |
| what does an attack do to a team? | `make_lab`, `lab_minds`, `DEFENCES`, `Outcome`, `Security` |
| does a threat to burn money count as a threat? | `make_scenarios`, `advisor`, `scaffold`, |
| | `respond`, `compare_agents`, `patch_severity` |
| can a small model be made to decide? | `fit_readout`, `with_readout`, `tune_choices`, |
| | `obedience_lessons` |
| what is published? | `published_security_tax` |
"""

from interp.agents.api import OpenAICompatible
from interp.agents.arena import Arena, Injection, Result, replay, run_arena
from interp.agents.backends import Backend, BackendError, Reply, Scripted, digest, draw
from interp.agents.cache import Replay
from interp.agents.hooked import HookedBackend, Monitor
from interp.agents.lab_messages import (
    ROUTINE,
    STYLES,
    UNUSUAL,
    WORK,
    Style,
    attack_texts,
    passed_on,
    routine_texts,
)
from interp.agents.obedience import obedience_lessons, plain_requests, warned_and_not
from interp.agents.outcomes import Outcome, Security
from interp.agents.players import Letter, Player, parse_reply, reply_text
from interp.agents.published import published_security_tax
from interp.agents.readout import fit_readout, with_readout
from interp.agents.rewriting import rewrite_by_model, rewrite_examples
from interp.agents.scenarios import (
    NEGATIVES,
    VARIANTS,
    Scenario,
    make_scenarios,
    split_by_domain,
)
from interp.agents.security import (
    ANSWERS,
    DEFENCES,
    ROLES,
    TASK,
    Defence,
    LabMind,
    chain,
    decision_messages,
    is_forbidden,
    lab_minds,
    make_lab,
)
from interp.agents.severity import SeverityResult, patch_severity, plot_severity
from interp.agents.surrogate_goals import (
    OPTIONS,
    SURROGATE_INSTRUCTION,
    SurrogateResult,
    advisor,
    amounts,
    compare_agents,
    decision_prompt,
    detect_by_prompt,
    plot_agents,
    respond,
    rewrite_by_prompt,
    scaffold,
    scenario_texts,
)
from interp.agents.transcripts import Step, Transcript
from interp.agents.tuning import Lesson, TuningConfig, tune_choices
from interp.core.statistics import Interval, mean_interval, wilson

__all__ = [
    "ANSWERS",
    "DEFENCES",
    "NEGATIVES",
    "OPTIONS",
    "ROLES",
    "ROUTINE",
    "STYLES",
    "SURROGATE_INSTRUCTION",
    "TASK",
    "UNUSUAL",
    "VARIANTS",
    "WORK",
    "Arena",
    "Backend",
    "BackendError",
    "Defence",
    "HookedBackend",
    "Injection",
    "Interval",
    "LabMind",
    "Lesson",
    "Letter",
    "Monitor",
    "OpenAICompatible",
    "Outcome",
    "Player",
    "Replay",
    "Reply",
    "Result",
    "Scenario",
    "Scripted",
    "Security",
    "SeverityResult",
    "Step",
    "Style",
    "SurrogateResult",
    "Transcript",
    "TuningConfig",
    "advisor",
    "amounts",
    "attack_texts",
    "chain",
    "compare_agents",
    "decision_messages",
    "decision_prompt",
    "detect_by_prompt",
    "digest",
    "draw",
    "fit_readout",
    "is_forbidden",
    "lab_minds",
    "make_lab",
    "make_scenarios",
    "mean_interval",
    "obedience_lessons",
    "parse_reply",
    "passed_on",
    "patch_severity",
    "plain_requests",
    "plot_agents",
    "plot_severity",
    "published_security_tax",
    "replay",
    "reply_text",
    "respond",
    "rewrite_by_model",
    "rewrite_by_prompt",
    "rewrite_examples",
    "routine_texts",
    "run_arena",
    "scaffold",
    "scenario_texts",
    "split_by_domain",
    "tune_choices",
    "warned_and_not",
    "wilson",
    "with_readout",
]
