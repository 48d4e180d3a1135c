"""The pipeline: identification, operationalization and control as one expression."""

from dataclasses import dataclass

from interp.core.hooks import Intervention
from interp.core.model import HookedModel
from steering.contrast import Pairs
from steering.repe.control import Control
from steering.repe.identification import Identification
from steering.repe.operationalization import Concept, Operationalization


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """Three steps; any of each goes with any of the others whose type it takes."""

    identification: Identification
    """How the concept is looked for."""
    operationalization: Operationalization
    """What stands for it."""
    control: Control
    """How that acts on the model."""

    def fit(self, model: HookedModel, pairs: Pairs) -> "FittedPipeline":
        """Look for the concept in a model; the model is not changed.

        Args:
            model: A language model.
            pairs: Contrast pairs.
        """
        concept = self.operationalization(self.identification(model, pairs))
        return FittedPipeline(concept=concept, control=self.control)


@dataclass(frozen=True, kw_only=True)
class FittedPipeline:
    """A concept that was found, and how it acts."""

    concept: Concept
    """What stands for it."""
    control: Control
    """How it acts."""

    def intervention(self, coefficient: float = 1.0) -> Intervention:
        """The intervention at a coefficient, for `model.intervene`."""
        return self.control(self.concept, coefficient)
