"""Methods of unlearning that minimize a loss, by Adam."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from interp.core.seeds import generator
from interp.core.sites import Site
from interp.training.dpo import dpo_loss
from interp.training.loop import Batch, answers_of, nll, pad, prompts_of, sequence_losses
from interp.training.unlearning import losses
from interp.training.unlearning.methods import adam, retain_nll
from interp.training.unlearning.task import Task, of_step, without_first
from interp.training.unlearning.transforms import Gradients, combine

StepLoss = Callable[[Task, int], Tensor]
"""A loss of the batches of a step."""
REFUSALS = (
    " I do not know.",
    " I have no information about that.",
    " That is not something I can answer.",
    " I am not familiar with this.",
)
"""Answers that say nothing, for `idk_dpo`."""
NOVICE = "Written by someone who has never heard of this and can only guess.\n"
EXPERT = "Written by someone who knows everything about this.\n"
"""What `elm` puts before a prompt."""


@dataclass(frozen=True, kw_only=True)
class LossMethod:
    """Adam on a loss of the forget set plus a loss of the retain set."""

    forget: StepLoss
    """What unlearns."""
    retain: StepLoss | None
    """What retains, `None` for nothing."""
    alpha: float = 1.0
    """Weight of what retains."""
    n_steps: int = 10
    """Steps of a run."""

    def direction(self, task: Task, step: int) -> Gradients:
        """Adam's direction; the two losses run one after the other, so as to halve the memory."""
        found = task.gradient(lambda: self.forget(task, step))
        if self.retain is not None:
            kept = self.retain
            found = combine((1.0, found), (self.alpha, task.gradient(lambda: kept(task, step))))
        return adam(found, task)


def _gradient_ascent(task: Task, step: int) -> Tensor:
    return losses.gradient_ascent(task.predict(of_step(task.forget, step)))


def grad_ascent(*, n_steps: int = 10) -> LossMethod:
    """Ascent on the loss of the forget set, and nothing that retains."""
    return LossMethod(forget=_gradient_ascent, retain=None, n_steps=n_steps)


def grad_diff(*, alpha: float = 1.0, n_steps: int = 10) -> LossMethod:
    """Ascent on the loss of the forget set, descent on that of the retain set."""
    return LossMethod(forget=_gradient_ascent, retain=retain_nll, alpha=alpha, n_steps=n_steps)


def npo(*, beta: float = 0.1, alpha: float = 1.0, n_steps: int = 10) -> LossMethod:
    """Negative preference optimization."""

    def forget(task: Task, step: int) -> Tensor:
        reference = task.reference(
            "losses", lambda b: sequence_losses(task.predict(b)), task.forget, step
        )
        return losses.npo(task.predict(of_step(task.forget, step)), reference, beta=beta)

    return LossMethod(forget=forget, retain=retain_nll, alpha=alpha, n_steps=n_steps)


def simnpo(
    *, beta: float = 4.5, delta: float = 0.0, alpha: float = 1.0, n_steps: int = 10
) -> LossMethod:
    """NPO without a reference."""

    def forget(task: Task, step: int) -> Tensor:
        return losses.simnpo(task.predict(of_step(task.forget, step)), beta=beta, delta=delta)

    return LossMethod(forget=forget, retain=retain_nll, alpha=alpha, n_steps=n_steps)


def idk_dpo(
    *,
    refusals: Sequence[str] = REFUSALS,
    beta: float = 0.1,
    alpha: float = 1.0,
    n_steps: int = 10,
) -> LossMethod:
    """Direct preference for answers that refuse over those to forget (Maini et al. 2024).

    Args:
        refusals: What is preferred, given to the examples in turn.
        beta: How soon it saturates.
        alpha: Weight of what retains.
        n_steps: Steps of a run.
    """

    def refused(task: Task, batch: Batch) -> Batch:
        ids = [task.encode(one) for one in refusals]
        rows = enumerate(prompts_of(batch))
        return pad([(row, ids[k % len(ids)]) for k, row in rows], batch.ids.device)

    def logprobs(task: Task, batch: Batch) -> Tensor:
        return -torch.stack(
            [sequence_losses(task.predict(b)) for b in (refused(task, batch), batch)]
        )

    def forget(task: Task, step: int) -> Tensor:
        before = task.reference("preference", partial(logprobs, task), task.forget, step)
        now = logprobs(task, of_step(task.forget, step))
        return 2 / beta * dpo_loss(*now, *before, beta=beta).mean()

    return LossMethod(forget=forget, retain=retain_nll, alpha=alpha, n_steps=n_steps)


def undial(*, beta: float = 10.0, alpha: float = 1.0, n_steps: int = 10) -> LossMethod:
    """Distillation from the model's own logits, lowered at the answers."""

    def forget(task: Task, step: int) -> Tensor:
        reference = task.reference("logits", lambda b: task.predict(b).logits, task.forget, step)
        return losses.undial(task.predict(of_step(task.forget, step)), reference, beta=beta)

    return LossMethod(forget=forget, retain=retain_nll, alpha=alpha, n_steps=n_steps)


def ce_u(*, alpha: float = 1.0, n_steps: int = 10) -> LossMethod:
    """Cross entropy to the model's own predictions without the answers."""

    def forget(task: Task, step: int) -> Tensor:
        return losses.ce_u(task.predict(of_step(task.forget, step)))

    return LossMethod(forget=forget, retain=retain_nll, alpha=alpha, n_steps=n_steps)


def wga(*, beta: float = 1.0, alpha: float = 1.0, n_steps: int = 10) -> LossMethod:
    """Gradient ascent weighted by the probability of each token."""

    def forget(task: Task, step: int) -> Tensor:
        return losses.wga(task.predict(of_step(task.forget, step)), beta=beta)

    return LossMethod(forget=forget, retain=retain_nll, alpha=alpha, n_steps=n_steps)


def elm(
    *,
    novice: str = NOVICE,
    expert: str = EXPERT,
    eta: float = 1000.0,
    guidance: float = 3.0,
    alpha: float = 1.0,
    n_steps: int = 10,
) -> LossMethod:
    """Erasure of language memory: answers as of one who knows less (Gandikota et al. 2024).

    Three losses of equal weight on the forget prompts and the retain set: distillation of the
    answers to forget towards `losses.elm_target`; the likelihood of what the model itself writes
    when it is guided in that direction, for fluency; distillation of the answers to keep towards
    what they were.

    Args:
        novice: Put before a prompt: who writes knows nothing of it.
        expert: Put before a prompt: who writes knows it.
        eta: How far the target moves from expert to novice.
        guidance: The same for the text that keeps the model fluent.
        alpha: Weight of what retains.
        n_steps: Steps of a run.
    """

    def target(task: Task, batch: Batch, by: float) -> Tensor:
        pairs = list(zip(prompts_of(batch), answers_of(batch), strict=True))
        starts = [[], task.encode(novice), task.encode(expert)]
        views = [pad([(s + p, a) for p, a in pairs], batch.ids.device) for s in starts]
        return losses.elm_target(*(task.predict(view).logits for view in views), eta=by)

    def guided(task: Task, batch: Batch) -> Batch:
        rows = [(prompt, []) for prompt in prompts_of(batch)]
        for _ in range(max(map(len, answers_of(batch)))):
            view = pad([(p + a, [0]) for p, a in rows], batch.ids.device)  # 0 is what comes next
            found = target(task, view, guidance)[task.predict(view).counted].argmax(-1)
            rows = [(p, [*a, new]) for (p, a), new in zip(rows, found.tolist(), strict=True)]
        return pad(rows, batch.ids.device)

    def forget(task: Task, step: int) -> Tensor:
        batch = of_step(task.forget, step)
        erased = task.reference("erased", lambda b: target(task, b, eta), task.forget, step)
        fluent = task.reference("fluent", lambda b: guided(task, b), task.forget, step)
        return losses.distillation(task.predict(batch), erased) + nll(task.predict(fluent))

    def retain(task: Task, step: int) -> Tensor:
        before = task.reference(
            "probabilities", lambda b: task.predict(b).logits.softmax(-1), task.retain, step
        )
        return losses.distillation(task.predict(of_step(task.retain, step)), before)

    return LossMethod(forget=forget, retain=retain, alpha=alpha, n_steps=n_steps)


def rmu(layer: int, *, length: float, alpha: float = 1.0, n_steps: int = 10) -> LossMethod:
    """Hidden states of the forget set to one random vector, those of the retain set kept.

    Args:
        layer: Block behind which hidden states are steered.
        length: Of the random vector, in units of the mean length of the hidden states there.
        alpha: Weight of what retains.
        n_steps: Steps of a run.
    """
    site = [Site("resid_post", layer)]

    def forget(task: Task, step: int) -> Tensor:
        batch = of_step(task.forget, step)
        (hidden,) = task.read(batch, site)
        counted = without_first(batch)
        if "target" not in task.memory:
            size = float(hidden.detach()[counted].norm(dim=-1).mean())
            random = generator(task.seed, "rmu")
            target = losses.random_target(hidden.shape[-1], length * size, random)
            task.memory["target"] = target.to(hidden)
        return losses.rmu(hidden, task.memory["target"], counted)

    def retain(task: Task, step: int) -> Tensor:
        before = task.reference("hidden", lambda b: task.read(b, site)[0], task.retain, step)
        batch = of_step(task.retain, step)
        return losses.rmu(task.read(batch, site)[0], before, without_first(batch))

    return LossMethod(forget=forget, retain=retain, alpha=alpha, n_steps=n_steps)


def circuit_breakers(layers: tuple[int, ...], *, n_steps: int = 10) -> LossMethod:
    """Hidden states of the forget set turned away from what they were; those to keep are kept.

    The weight moves from the forget to the retain set as the run goes on.
    """
    sites = [Site("resid_post", layer) for layer in layers]

    def stacked(task: Task, batch: Batch) -> Tensor:
        return torch.cat(task.read(batch, sites))  # (layer * example, pos, d_model)

    def forget(task: Task, step: int) -> Tensor:
        before = task.reference("broken", lambda b: stacked(task, b), task.forget, step)
        batch = of_step(task.forget, step)
        counted = without_first(batch).repeat(len(sites), 1)
        share = 1 - step / (2 * n_steps)
        return share * losses.circuit_breaker(stacked(task, batch), before, counted)

    def retain(task: Task, step: int) -> Tensor:
        before = task.reference("kept", lambda b: stacked(task, b), task.retain, step)
        batch = of_step(task.retain, step)
        counted = without_first(batch).repeat(len(sites), 1)
        share = step / (2 * n_steps)
        return share * losses.representation_distance(stacked(task, batch), before, counted)

    return LossMethod(forget=forget, retain=retain, n_steps=n_steps)
