"""The small random models, each made once, and a vector for them."""

import pytest
import torch

from interp import HookedModel
from tests.tiny_models import tiny_gpt2, tiny_llama


@pytest.fixture(scope="session")
def llama() -> HookedModel:
    """Tests leave it as they found it."""
    return tiny_llama()


@pytest.fixture(scope="session")
def gpt2() -> HookedModel:
    """Tests leave it as they found it."""
    return tiny_gpt2()


@pytest.fixture
def vector() -> torch.Tensor:
    """A vector long enough to change what the small models write."""
    return 6 * torch.nn.functional.normalize(
        torch.randn(32, generator=torch.Generator().manual_seed(3)), dim=0
    )
