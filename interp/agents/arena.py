"""The arena: agents that write to each other and use tools, seeded and the same every time.

Agents with waiting letters take turns in an order drawn from the seed; each turn reads one letter.
Nothing runs at the same time, so that a run is a function of arena, back ends and seed. A run whose
back end fails ends with its transcript kept; from the transcript it is replayed, or gone on with.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO

from interp.agents.backends import Backend, BackendError, Reply
from interp.agents.players import Letter, Mind, Player, parse_reply
from interp.agents.transcripts import Step, Transcript, write_line
from interp.core.seeds import derive

Screen = Callable[[str], float]
"""A score of a letter's text; higher is more suspicious."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a tool returned."""

    text: str
    """What the caller is told."""
    ending: str = ""
    """Why the run is over now; empty if it goes on."""


Tool = Callable[[str, Mapping[str, Any]], Result]
"""From the name of the caller and the call to a result; a `ValueError` says what is wrong."""


@dataclass(frozen=True, kw_only=True)
class Injection:
    """A letter from outside that comes in the middle of a run."""

    text: str
    """What it says."""
    after: int = 2
    """Steps before it comes; it comes earlier if nobody has anything to read."""
    candidates: tuple[str, ...] = ()
    """Who may get it; one of them is drawn."""
    sender: str = "outside"
    """From whom it seems to come."""


@dataclass(frozen=True, kw_only=True)
class Arena:
    """Players and rules, before anything happens."""

    players: tuple[Player, ...]
    """Who takes part."""
    task: str
    """The first letter."""
    lead: str
    """Who gets it."""
    injections: tuple[Injection, ...] = ()
    """What comes from outside."""
    tools: Mapping[str, Tool] = field(default_factory=dict)
    """Tools besides `message`, by name."""
    screen: Screen | None = None
    """Scores every letter."""
    threshold: float = float("inf")
    """Letters with a higher score are held back: they are shown as data."""
    max_steps: int = 40
    """A run is over after so many steps."""
    max_letters: int = 200
    """Letters that are delivered at most; others are refused."""
    max_tokens: int = 128
    """Tokens of a reply at most."""
    max_characters: int = 2000
    """Characters of a letter at most; the rest is cut off."""
    n_turns: int = 3
    """Turns that players remember."""
    temperature: float = 0.0
    """Of the replies."""

    def __post_init__(self) -> None:
        """Check that names fit together."""
        names = [player.name for player in self.players]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"players are called {names}: needed one or more different names")
        wanted = {self.lead, *(name for one in self.injections for name in one.candidates)}
        if unknown := sorted(wanted - set(names)):
            raise ValueError(f"no players {unknown}: there are {names}")
        if self.max_steps < 1:
            raise ValueError(f"max_steps={self.max_steps}: needed at least 1")

    def describe(self) -> dict[str, Any]:
        """The arena as plain values, but for what its tools and screen do."""
        left_out = ("tools", "screen", "threshold")
        values = {name: value for name, value in vars(self).items() if name not in left_out}
        values |= {
            "players": [asdict(player) for player in self.players],
            "injections": [asdict(one) for one in self.injections],
            "tools": sorted(self.tools),
            "threshold": None if self.screen is None else self.threshold,
        }
        return json.loads(json.dumps(values))  # lists for tuples, as a file gives them back


def run_arena(
    arena: Arena,
    backends: Backend | Mapping[str, Backend],
    *,
    seed: int = 0,
    recorded: Sequence[Step] = (),
    path: str | Path | None = None,
) -> Transcript:
    """A run from the first letter to its end.

    Args:
        arena: Players and rules.
        backends: What answers: one for all, or one for each player by name.
        seed: Of turns, of who gets injected letters, and of the replies.
        recorded: Steps of an earlier run, whose replies are taken in place of the back ends'.
        path: Where to write the transcript, line by line while it happens.

    Returns:
        The transcript. If a back end fails, it ends with "back end failed" and the reason.

    Raises:
        ValueError: If a player has no back end, or recorded steps are not of this arena and seed.
    """
    table = _by_player(arena, backends)
    config = {
        **arena.describe(),
        "seed": seed,
        "backends": {name: one.name for name, one in table.items()},
    }
    if path is None:
        return _Run(arena, table, config, tuple(recorded), None).play()
    with Path(path).open("w", encoding="utf-8") as file:
        return _Run(arena, table, config, tuple(recorded), file).play()


def replay(arena: Arena, transcript: Transcript) -> Transcript:
    """A finished run once more from its replies alone: the same transcript, bit for bit.

    Raises:
        ValueError: If the transcript is not of this arena.
    """
    absent = {who: _Absent(name) for who, name in dict(transcript.config["backends"]).items()}
    seed = int(transcript.config["seed"])
    return run_arena(arena, absent, seed=seed, recorded=transcript.steps)


class _Run:
    """The state of one run."""

    def __init__(
        self,
        arena: Arena,
        backends: Mapping[str, Backend],
        config: Mapping[str, Any],
        recorded: tuple[Step, ...],
        file: TextIO | None,
    ) -> None:
        names = tuple(player.name for player in arena.players)
        self.arena, self.backends, self.config = arena, backends, config
        self.seed, self.recorded, self.file = int(config["seed"]), recorded, file
        self.letters: list[Letter] = []
        self.steps: list[Step] = []
        self.injected: set[int] = set()
        self.minds = {
            player.name: Mind(
                player=player,
                team=tuple(name for name in names if name != player.name),
                n_turns=arena.n_turns,
            )
            for player in arena.players
        }

    def play(self) -> Transcript:
        """Steps until something ends the run."""
        self._write("arena", self.config)
        self._send("outside", self.arena.lead, self.arena.task)
        ending = ""
        while not ending:
            self._inject()
            waiting = [name for name, mind in self.minds.items() if mind.queue]
            if not waiting:
                ending = "nothing left to read"
            elif len(self.steps) >= self.arena.max_steps:
                ending = f"cap of {self.arena.max_steps} steps"
            else:
                name = waiting[derive(self.seed, "turn", len(self.steps)) % len(waiting)]
                ending = self._step(self.minds[name])
        self._write("end", {"why": ending})
        return Transcript(
            config=self.config,
            letters=tuple(self.letters),
            steps=tuple(self.steps),
            ending=ending,
        )

    def _inject(self) -> None:
        """Send what comes from outside now: its time has come, or nobody has anything to read."""
        idle = not any(mind.queue for mind in self.minds.values())
        for place, one in enumerate(self.arena.injections):
            if place not in self.injected and (idle or len(self.steps) >= one.after):
                self.injected.add(place)
                names = one.candidates or tuple(self.minds)
                to = names[derive(self.seed, "injection", place) % len(names)]
                self._send(one.sender, to, one.text, hop=0)

    def _step(self, mind: Mind) -> str:
        """One letter read; returns why the run is over, or nothing."""
        letter = mind.queue.popleft()
        messages = mind.messages(letter)
        try:
            reply = self._reply(mind.player.name, letter, messages)
        except (BackendError, OSError) as error:
            return f"back end failed: {error}"
        parsed = parse_reply(reply.text)
        mind.remember(messages[-1], reply.text)
        done, results, problems, ending = [], [], list(parsed.problems), ""
        sent: list[tuple[str, str]] = []
        for call in parsed.calls:
            try:
                result = self._call(mind, call, sent)
            except ValueError as error:
                problems.append(f"{call['tool']}: {error}")
                continue
            done.append(call)
            results.append(result.text)
            ending = ending or result.ending
        step = Step(
            player=mind.player.name,
            letter=letter.number,
            reply=reply.text,
            scores=reply.scores,
            calls=tuple(done),
            results=tuple(results),
            problems=tuple(problems),
        )
        self.steps.append(step)
        self._write("step", asdict(step))
        mind.notes += [f"Your last reply had a problem: {one}" for one in problems]
        hop = None if letter.hop is None else letter.hop + 1
        for to, text in sent:
            self._send(mind.player.name, to, text, parent=letter.number, hop=hop)
        return ending

    def _reply(self, name: str, letter: Letter, messages: Sequence[Any]) -> Reply:
        """The recorded reply of this step, or that of the back end."""
        place = len(self.steps)
        if place < len(self.recorded):
            step = self.recorded[place]
            if (step.player, step.letter) != (name, letter.number):
                raise ValueError(
                    f"step {place} of the record is {step.player} reading letter {step.letter}, "
                    f"and here it is {name} reading {letter.number}: other arena or seed"
                )
            return Reply(text=step.reply, scores=step.scores)
        return self.backends[name].generate(
            messages,
            max_tokens=self.arena.max_tokens,
            temperature=self.arena.temperature,
            seed=derive(self.seed, "reply", place),
        )

    def _call(self, mind: Mind, call: Mapping[str, Any], sent: list[tuple[str, str]]) -> Result:
        """The result of a tool call.

        Raises:
            ValueError: If there is no such tool, or its arguments are wrong.
        """
        tool, name = call["tool"], mind.player.name
        if tool == "message":
            to, text = call.get("to"), call.get("text")
            if to not in mind.team or not isinstance(text, str) or not text.strip():
                raise ValueError(f"to={to!r}, text={text!r}: needed a name of the team and a text")
            if len(self.letters) + len(sent) >= self.arena.max_letters:
                raise ValueError(f"no more than {self.arena.max_letters} messages are delivered")
            sent.append((to, text[: self.arena.max_characters]))
            return Result(text=f"sent to {to}")
        if tool not in self.arena.tools or tool not in mind.player.tools:
            raise ValueError(
                f"{name} has no such tool: there are {('message', *mind.player.tools)}"
            )
        result = self.arena.tools[tool](name, call)
        mind.notes.append(f"{tool} returned: {result.text}")
        return result

    def _send(
        self, sender: str, to: str, text: str, *, parent: int | None = None, hop: int | None = None
    ) -> None:
        """Put a letter into a queue, screened."""
        letter = Letter(
            number=len(self.letters),
            sender=sender,
            to=to,
            text=text,
            step=len(self.steps),
            parent=parent,
            hop=hop,
        )
        if self.arena.screen is not None:
            score = float(self.arena.screen(text))
            letter = replace(letter, score=score, quarantined=score > self.arena.threshold)
        self.letters.append(letter)
        self._write("letter", asdict(letter))
        self.minds[to].queue.append(letter)

    def _write(self, kind: str, row: Mapping[str, Any]) -> None:
        if self.file is not None:
            write_line(self.file, kind, row)


@dataclass(frozen=True)
class _Absent:
    """A back end of which only the record is left."""

    name: str

    def generate(self, messages: Sequence[Any], **options: Any) -> Reply:
        """Nothing: the record is over."""
        raise BackendError("the record ends here")

    def choice(self, messages: Sequence[Any], options: Sequence[str]) -> Any:
        """Nothing: the record is over."""
        raise BackendError("the record ends here")


def _by_player(arena: Arena, backends: Backend | Mapping[str, Backend]) -> dict[str, Backend]:
    """The back end of each player.

    Raises:
        ValueError: If one has none.
    """
    names = [player.name for player in arena.players]
    if not isinstance(backends, Mapping):
        return dict.fromkeys(names, backends)
    if missing := [name for name in names if name not in backends]:
        raise ValueError(f"no back end for {missing}: needed one for each of {names}")
    return {name: backends[name] for name in names}
