"""Actor-critic learning of an agent from rewards alone, with V-trace targets.

Espeholt et al. 2018 (arXiv 1802.01561), as Bush et al. 2025 train their agent: n-step returns with
clipped importance weights, an entropy bonus, a penalty on large logits. Here the games are played
by the agent that learns, so that the weights are 1 and one forward pass serves both.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.core.seeds import generator
from interp.planning.drc import Agent, clear_state
from interp.planning.environment import Rules, SokobanBatch
from interp.planning.imitation import Unroll
from interp.planning.levels import Levels


@dataclass(frozen=True, kw_only=True)
class ReinforcementConfig:
    """Returns and losses of actor-critic learning; the defaults are those of Bush et al."""

    discount: float = 0.97
    """Discount of rewards, per step."""
    trace: float = 0.97
    """Lambda of the returns: 0 trusts the value after one step, 1 only the rewards."""
    entropy_weight: float = 1e-2
    """Weight of the entropy bonus."""
    value_weight: float = 0.5
    """Weight of the squared error of the value."""
    logit_weight: float = 1e-3
    """Weight of the squared logits."""
    policy_warmup: int = 0
    """Transitions in which only the value learns: after imitation its errors are large, and a
    policy that followed them would get worse."""


class Reinforcement:
    """The games of an agent that learns from rewards; `unroll` plays and gives the loss."""

    def __init__(
        self,
        levels: Levels,
        n_envs: int,
        *,
        config: ReinforcementConfig,
        rules: Rules,
        seed: int = 0,
        device: torch.device | str | None = None,
    ) -> None:
        self.config = config
        self.batch = SokobanBatch(levels, n_envs, rules=rules, seed=seed, device=device)
        self.transitions = 0
        self._state: Tensor | None = None
        self._generator = generator(seed, "reinforcement", device=self.batch.device)

    def unroll(self, agent: Agent, length: int) -> Unroll:
        """Play some steps of every game and return the loss on them.

        Args:
            agent: The agent in training.
            length: Steps of each game.
        """
        state = agent.initial_state(len(self.batch)) if self._state is None else self._state
        logits, values, actions, rewards, dones, n_solved = [], [], [], [], [], 0
        for _ in range(length):
            output = agent(self.batch.observe(), state)
            logits.append(output.logits.float())
            values.append(output.value.float())
            probabilities = logits[-1].detach().softmax(1)
            actions.append(torch.multinomial(probabilities, 1, generator=self._generator)[:, 0])
            steps = self.batch.step(actions[-1])
            rewards.append(steps.reward)
            dones.append(steps.done)
            n_solved += int(steps.solved.sum())
            state = clear_state(output.state.float(), steps.done)
        with torch.no_grad():
            last = agent(self.batch.observe(), state).value.float()
        self._state = state.detach()
        self.transitions += length * len(self.batch)
        done = torch.stack(dones)
        loss, terms = self._loss(
            torch.stack(logits),
            torch.stack(values),
            last,
            torch.stack(actions),
            torch.stack(rewards),
            done,
        )
        return Unroll(loss=loss, terms={**terms, "solved": n_solved, "ends": int(done.sum())})

    def state_dict(self) -> dict[str, Any]:
        """All that a later `load_state_dict` needs to go on exactly here."""
        return {
            "batch": self.batch.state_dict(),
            "transitions": self.transitions,
            "state": self._state,
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self.batch.load_state_dict(state["batch"])
        self.transitions, self._state = state["transitions"], state["state"]
        self._generator.set_state(state["generator"])

    def _loss(
        self,
        logits: Tensor,
        values: Tensor,
        last: Tensor,
        actions: Tensor,
        rewards: Tensor,
        done: Tensor,
    ) -> tuple[Tensor, dict[str, int | float]]:
        config = self.config
        log_probs = logits.log_softmax(2)
        chosen = log_probs.gather(2, actions[..., None])[..., 0]
        targets, advantages = vtrace_targets(
            values.detach(),
            last,
            rewards,
            done,
            torch.zeros_like(rewards),
            discount=config.discount,
            trace=config.trace,
        )
        policy_loss = -(chosen * advantages).mean()
        value_loss = (values - targets).square().mean()
        entropy = -(log_probs.exp() * log_probs).sum(2).mean()
        penalty = config.logit_weight * logits.square().sum(2).mean()
        loss = config.value_weight * value_loss
        if self.transitions > config.policy_warmup:
            loss = loss + policy_loss - config.entropy_weight * entropy + penalty
        terms = {"policy": policy_loss, "value": value_loss, "entropy": entropy}
        return loss, {name: float(term.detach()) for name, term in terms.items()}


def vtrace_targets(
    values: Float[Tensor, "time env"],
    last_value: Float[Tensor, " env"],
    rewards: Float[Tensor, "time env"],
    done: Bool[Tensor, "time env"],
    log_ratios: Float[Tensor, "time env"],
    *,
    discount: float,
    trace: float = 1.0,
) -> tuple[Float[Tensor, "time env"], Float[Tensor, "time env"]]:
    """Targets of the value and advantages of the actions.

    Args:
        values: Value of each observation.
        last_value: Value of the observation after the last step.
        rewards: Reward of each step.
        done: Whether the episode ended at each step.
        log_ratios: Log of the learner's over the player's probability of each action; 0 where the
            learner played itself.
        discount: Discount per step.
        trace: Lambda.

    Returns:
        The V-trace targets and the advantages (importance weights are clipped at 1).
    """
    weights = log_ratios.exp().clamp(max=1.0)
    going_on = discount * (~done).float()
    next_values = torch.cat([values[1:], last_value[None]])
    errors = weights * (rewards + going_on * next_values - values)
    correction, corrections = torch.zeros_like(last_value), []
    for t in reversed(range(len(rewards))):
        correction = errors[t] + going_on[t] * trace * weights[t] * correction
        corrections.append(correction)
    targets = values + torch.stack(corrections[::-1])
    next_targets = torch.cat([targets[1:], last_value[None]])
    bootstrap = trace * next_targets + (1 - trace) * next_values
    return targets, weights * (rewards + going_on * bootstrap - values)
