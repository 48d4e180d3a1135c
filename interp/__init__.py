"""Read and edit the residual stream of a model.

- `load_model` gives a `HookedModel`: a torch model with an address book of sites.
- `Records` are texts or conversations with labels and groups.
- `extract` reads activations of records into `Activations`, `extract_to_disk` into an
  `ActivationStore` that is resumed after an interruption.
- `add`, `ablate`, `replace`, `patch` and `edit` are interventions, which `model.intervene(...)`
  opens.
- `generate` continues texts and answers conversations, with interventions active.
- A `Direction` is what probes hand to steering and attribution.
- `interp.data` holds the shipped sets and the splits, `interp.viz` the figures and the report.
"""

from interp.core.activations import Activations, concatenate
from interp.core.directions import Direction
from interp.core.errors import (
    HookNotFoundError,
    InterpError,
    LeakageError,
    ModelMismatchError,
    ModelNotFoundError,
    StoreError,
)
from interp.core.extraction import extract
from interp.core.generation import Generations, generate
from interp.core.hooks import Call, Intervention
from interp.core.interventions import SiteEdit, ablate, add, edit, patch, replace
from interp.core.loading import load_model
from interp.core.model import HookedModel
from interp.core.origin import Origin
from interp.core.positions import Window
from interp.core.records import Record, Records
from interp.core.sites import Location, Site
from interp.core.store import ActivationStore, extract_to_disk
from interp.core.tokens import Span, Tokens

__all__ = [
    "ActivationStore",
    "Activations",
    "Call",
    "Direction",
    "Generations",
    "HookNotFoundError",
    "HookedModel",
    "InterpError",
    "Intervention",
    "LeakageError",
    "Location",
    "ModelMismatchError",
    "ModelNotFoundError",
    "Origin",
    "Record",
    "Records",
    "Site",
    "SiteEdit",
    "Span",
    "StoreError",
    "Tokens",
    "Window",
    "ablate",
    "add",
    "concatenate",
    "edit",
    "extract",
    "extract_to_disk",
    "generate",
    "load_model",
    "patch",
    "replace",
]
