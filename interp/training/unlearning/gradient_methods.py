"""Methods of unlearning that are compositions of the parts in `transforms`."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from interp.core.seeds import derive
from interp.core.sites import Site
from interp.training.loop import nll
from interp.training.unlearning import losses
from interp.training.unlearning.methods import adam, retain_nll
from interp.training.unlearning.task import Task, of_step, without_first
from interp.training.unlearning.transforms import (
    Collapse,
    Gradients,
    adversary,
    collapse_components,
    combine,
    gradient,
    mask_disruption,
    move,
    normalize,
    project_out,
    restored,
    write,
)


@dataclass(frozen=True, kw_only=True)
class Mudman:
    """Masked, normalized gradients taken at an adversary that learns the forget set."""

    momentum: float = 0.9
    """Of the average of retain gradients, by which gradients are masked."""
    adversary_rate: float = 1e-3
    """Step size of the adversary."""
    fork_every: int = 8
    """Steps after which the adversary begins anew at the model."""
    alpha: float = 0.01
    """Weight of the retain gradient, beside a unit step of unlearning."""
    n_steps: int = 10
    """Steps of a run."""

    def direction(self, task: Task, step: int) -> Gradients:
        """Unlearning where it does not go against retaining, plus retaining."""
        new = task.gradient(lambda: retain_nll(task, step))
        old = task.memory.get("kept", {name: torch.zeros_like(g) for name, g in new.items()})
        kept = combine((self.momentum, old), (1 - self.momentum, new))
        found = self._at_adversary(task, step)
        task.memory["kept"] = kept
        return combine(
            (1.0, normalize(mask_disruption(found, kept), like=found)), (self.alpha, kept)
        )

    def _at_adversary(self, task: Task, step: int) -> Gradients:
        """The gradient that unlearns at the adversary, who then learns from the same pass."""
        if step % self.fork_every == 0:
            task.memory["adversary"] = {n: w.detach().clone() for n, w in task.weights.items()}
        with restored(task.weights):
            write(task.weights, task.memory["adversary"])
            output = task.predict(of_step(task.forget, step))
            loss = nll(output)
            learn = torch.autograd.grad(loss, list(task.weights.values()), retain_graph=True)
            found = task.gradient(lambda: losses.negative_entropy(output))
        for values, part in zip(task.memory["adversary"].values(), learn, strict=True):
            values.sub_(part, alpha=self.adversary_rate)
        return found


@dataclass(frozen=True, kw_only=True)
class Tar:
    """Tamper resistance: entropy is raised where adversaries arrive (Tamirisa et al. 2024).

    First order, as the authors: gradients at the adversary's weights are applied to the model's.
    """

    n_inner: int = 4
    """Steps of each adversary on the forget set."""
    inner_rates: tuple[float, ...] = (2e-6, 2e-5, 4e-5)
    """Step sizes of Adam from which each adversary draws its own."""
    scale: float = 4.0
    """Weight of the gradients at the adversaries."""
    alpha: float = 1.0
    """Weight of what retains."""
    n_steps: int = 10
    """Steps of a run."""

    def direction(self, task: Task, step: int) -> Gradients:
        """Adam's direction on retaining plus what the adversary of this step met."""
        found = combine(
            (self.alpha, task.gradient(lambda: self._retain(task, step))),
            (self.scale, self._tampered(task, step)),
        )
        return adam(found, task)

    def _retain(self, task: Task, step: int) -> Tensor:
        site = [Site("resid_post", task.model.n_layers - 1)]
        before = task.reference("hidden", lambda b: task.read(b, site)[0], task.retain, step)
        batch = of_step(task.retain, step)
        distance = losses.representation_distance(
            task.read(batch, site)[0], before, without_first(batch)
        )
        return nll(task.predict(batch)) + distance / before.norm(dim=-1).mean()

    def _tampered(self, task: Task, step: int) -> Gradients:
        draw = derive(task.seed, "tar", step) % len(self.inner_rates)
        optimizer = torch.optim.Adam(task.weights.values(), lr=self.inner_rates[draw])
        total = None
        with restored(task.weights):
            for inner in range(self.n_inner):
                output = task.predict(of_step(task.forget, step + inner))
                learn = torch.autograd.grad(
                    nll(output), list(task.weights.values()), retain_graph=True
                )
                found = task.gradient(lambda output=output: losses.negative_entropy(output))
                total = found if total is None else combine((1.0, total), (1.0, found))
                for weight, part in zip(task.weights.values(), learn, strict=True):
                    weight.grad = part
                optimizer.step()
        optimizer.zero_grad()
        assert total is not None, "n_inner is 0"
        return combine((1 / self.n_inner, total))


@dataclass(frozen=True, kw_only=True)
class Cir:
    """Collapse of irrelevant representations: what tokens share is taken out of each gradient."""

    layers: tuple[int, ...]
    """Blocks whose MLPs are confused."""
    n_inputs: int = 23
    """Principal components taken out of the inputs of each weight, beside the mean."""
    n_outputs: int = 35
    """The same for the gradients of its outputs."""
    alpha: float = 1.5e-3
    """Weight of the gradient that retains hidden states, beside a unit step of unlearning."""
    n_steps: int = 10
    """Steps of a run."""

    def direction(self, task: Task, step: int) -> Gradients:
        """A unit step of unlearning, plus retaining the hidden states behind the last layer."""
        found = normalize(self._collapsed(task, step))
        return combine((1.0, found), (self.alpha, task.gradient(lambda: self._retain(task, step))))

    def _loss(self, task: Task, step: int) -> Tensor:
        sites = [Site("mlp_out", layer) for layer in self.layers]
        before = task.reference(
            "mlps", lambda b: torch.stack(task.read(b, sites)), task.forget, step
        )
        batch = of_step(task.forget, step)
        counted = without_first(batch)
        pairs = zip(task.read(batch, sites), before, strict=True)
        return torch.stack([losses.mlp_confusion(a, b, counted) for a, b in pairs]).mean()

    def _retain(self, task: Task, step: int) -> Tensor:
        site = [Site("resid_post", max(self.layers))]
        before = task.reference("hidden", lambda b: task.read(b, site)[0], task.retain, step)
        batch = of_step(task.retain, step)
        hidden = task.read(batch, site)[0]
        counted = without_first(batch)
        distance = losses.representation_distance(hidden, before, counted)
        return distance / before[counted].norm(dim=-1).mean()

    def _collapsed(self, task: Task, step: int) -> Gradients:
        """Each weight's gradient from the tokens' inputs and output gradients, collapsed."""
        keep = without_first(of_step(task.forget, step))
        seen: dict[str, tuple[Tensor, Tensor]] = {}
        handles = []
        for name in task.weights:
            linear = task.model.module.get_submodule(name.removesuffix(".weight"))
            handles.append(
                linear.register_forward_hook(
                    lambda _, inputs, output, name=name: seen.update(
                        {name: (inputs[0].detach(), output)}
                    )
                )
            )
        try:
            loss = self._loss(task, step)
        finally:
            for handle in handles:
                handle.remove()
        outputs = [output for _, output in seen.values()]
        parts: Any = torch.autograd.grad(loss, outputs, allow_unused=True)
        found = {name: torch.zeros_like(weight) for name, weight in task.weights.items()}
        for (name, (inputs, _)), part in zip(seen.items(), parts, strict=True):
            if part is not None and bool(part.any()):
                rows = project_out(inputs[keep], n=self.n_inputs, seed=task.seed)
                found[name] = project_out(part[keep], n=self.n_outputs, seed=task.seed).mT @ rows
        return found


@dataclass(frozen=True, kw_only=True)
class RepSelect:
    """One gradient, taken at an adversary and collapsed, applied as far as the budget allows.

    No retain data enter.
    """

    n: int = 64
    """Singular directions that are collapsed on each side."""
    how: Collapse = "soft"
    """How they are collapsed."""
    rank: int | None = 8
    """Rank of the adversary's adapters; `None` for no adversary."""
    adversary_rate: float = 0.05
    """Step size of the adversary, who goes over the forget set once."""
    n_steps: int = 1
    """Steps of a run, all in the same direction."""

    def direction(self, task: Task, step: int) -> Gradients:
        """The collapsed gradient, computed before the first step."""
        if "direction" not in task.memory:
            task.memory["direction"] = collapse_components(
                self._at_adversary(task), n=self.n, how=self.how, seed=task.seed
            )
        return task.memory["direction"]

    def _at_adversary(self, task: Task) -> Gradients:
        """Ascent on the forget set, summed over its batches."""

        def ascent() -> Gradients:
            parts = [
                (1.0, task.gradient(lambda b=b: losses.gradient_ascent(task.predict(b))))
                for b in task.forget
            ]
            return combine(*parts)

        if self.rank is None:
            return ascent()
        names = [name.removesuffix(".weight") for name in task.weights]
        seed = derive(task.seed, "adversary")
        with adversary(task.model.module, names, rank=self.rank, seed=seed) as factors:
            for batch in task.forget:
                found = gradient(lambda b=batch: nll(task.predict(b)), factors)
                move(factors, found, rate=self.adversary_rate)
            return ascent()
