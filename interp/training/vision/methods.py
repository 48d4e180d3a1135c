"""The methods that are compared: a change of the weights, a loss, or both.

The strengths in `METHODS` are not the authors', whose networks have a thousand times as many
weights: they were chosen on digits, on seeds of their own, so that forgetting costs every method
about one or two points of test accuracy, and methods can be compared.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from interp.training.vision import losses, transforms
from interp.training.vision.networks import Networks
from interp.training.vision.tasks import Task
from interp.training.vision.training import (
    Loss,
    Schedules,
    Trained,
    cross_entropy_on_retain,
    decayed,
    train_to_forget,
)

Transform = Callable[..., Networks]
"""From networks, task and `seeds=` to changed networks."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """One way to forget."""

    name: str
    """What it is called."""
    loss: Loss = cross_entropy_on_retain
    """Minimized in passes over the retained images."""
    forget_pass: Loss | None = None
    """Minimized in a pass over the forgotten images before each of those."""
    transform: Transform | None = None
    """Change of the weights before training."""
    weight_space: bool = False
    """Whether it is made to move the weights away, rather than to change the outputs."""
    after: str | None = None
    """Method from whose networks it begins."""
    factor: float = 1.0
    """By how much its strength was scaled."""

    @property
    def label(self) -> str:
        """Its name, and the factor if there is one."""
        return self.name if self.factor == 1 else f"{self.name} x{self.factor:g}"

    def scaled(self, factor: float) -> "Method":
        """The same with its strength, the number that its parts are given, times a factor.

        Raises:
            ValueError: If its parts are given no number.
        """
        parts = {name: getattr(self, name) for name in ("loss", "forget_pass", "transform")}
        scaled = {
            name: partial(
                part.func, *part.args, **{key: value * factor for key, value in given.items()}
            )
            for name, part in parts.items()
            if isinstance(part, partial) and (given := part.keywords)
        }
        if not scaled:
            raise ValueError(f"{self.name} has no strength: needed a part with a number to scale")
        return replace(self, factor=self.factor * factor, **scaled)


METHODS = (
    Method(name="fine-tuning with decay", loss=decayed(cross_entropy_on_retain, 1e-3)),
    Method(name="NegGrad+", forget_pass=partial(losses.ascent_on_forget, strength=0.02)),
    Method(name="random relabel", loss=partial(losses.random_relabel, strength=0.3)),
    Method(
        name="SCRUB",
        loss=losses.scrub_on_retain,
        forget_pass=partial(losses.depart_on_forget, strength=0.07),
    ),
    Method(name="circuit breakers", loss=partial(losses.circuit_breaker, strength=1.0)),
    Method(name="SSD", transform=partial(transforms.dampen, strength=1.0)),
    Method(name="L1-sparse", loss=partial(losses.l1_sparse, strength=10.0)),
    Method(
        name="TAR",
        loss=partial(losses.tamper_resistant, strength=0.2),
        after="circuit breakers",
    ),
    Method(
        name="weight distortion",
        transform=partial(transforms.distort, scale=0.08),
        weight_space=True,
    ),
    Method(
        name="weight attenuation",
        transform=partial(transforms.attenuate, factor=0.25),
        weight_space=True,
    ),
    Method(name="weight dropout", transform=partial(transforms.drop, share=0.3), weight_space=True),
    Method(
        name="weight distance",
        loss=partial(losses.keep_distance, strength=3.0),
        weight_space=True,
    ),
    Method(name="CBFT", loss=partial(losses.disconnect, strength=0.03), weight_space=True),
)
"""The table of the paper."""


def unlearn(
    networks: Networks,
    task: Task,
    method: Method,
    *,
    how: Schedules,
    begin: Networks | None = None,
    seeds: Sequence[int],
) -> Trained:
    """Make each network forget; the given networks stay as they are.

    Args:
        networks: Networks that were trained on everything.
        task: What each run forgets.
        method: How.
        how: How long and how fast.
        begin: Where to begin, for a method that comes after another one.
        seeds: Seed of each run.

    Raises:
        ValueError: If the method comes after another one and `begin` is missing.
    """
    if method.after is not None and begin is None:
        raise ValueError(
            f"{method.name} begins from networks of {method.after!r}: pass them as begin"
        )
    first = networks if begin is None else begin
    if method.transform is not None:
        first = method.transform(first, task, seeds=seeds)
    return train_to_forget(
        first,
        task,
        how,
        loss=method.loss,
        forget_pass=method.forget_pass,
        start=networks,
        seeds=seeds,
    )
