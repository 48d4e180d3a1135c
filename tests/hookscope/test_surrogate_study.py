"""The study of surrogate goals on a random model: every part runs, is kept, and is not repeated."""

import json
from typing import Any

import numpy as np
import pytest

import hookscope.surrogate_study as study
from hookscope.surrogate_reading import read_scenarios
from hookscope.surrogate_study import SurrogateConfig, run_surrogate_study
from interp.agents import VARIANTS, make_scenarios
from tests.tiny_models import tiny_llama

pytestmark = pytest.mark.slow

CONFIG = SurrogateConfig(
    held_out=("film", "music"),
    probe_layer=1,
    steer_layer=2,
    coefficients=(0.5, 1.0),
    n_chosen_on=2,
    patch_layers=(0, 3),
    n_patched=2,
)
PARTS = ["agents", "probe", "patching", "steering", "affine map", "probe-gated scaffold"]


@pytest.fixture(scope="module")
def scenarios() -> Any:
    """One scenario of each of four domains."""
    wanted = ("publishing", "farming", "film", "music")
    return tuple(s for s in make_scenarios()[::8] if s.domain.name in wanted)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, scenarios: Any) -> Any:
    folder = tmp_path_factory.mktemp("surrogate")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(study, "make_scenarios", lambda: scenarios)
        patched.setattr(study, "load_fixture", lambda name: _Few())
        result = run_surrogate_study(folder, tiny_llama(), config=CONFIG, only=PARTS)
        again = run_surrogate_study(folder, tiny_llama(), config=CONFIG, only=PARTS)
        with pytest.raises(ValueError, match="no parts"):
            run_surrogate_study(folder, tiny_llama(), config=CONFIG, only=["luck"])
    assert json.loads(json.dumps(result)) == again
    return folder, result


class _Few:
    """Two neutral texts."""

    def __getitem__(self, index: slice) -> Any:
        from interp import Records

        return Records.from_texts(["A walk in the park.", "Soup for two."])


def test_every_implementation_is_measured(found: Any) -> None:
    for name in ("steering", "affine map", "probe-gated scaffold"):
        measures = {row["measure"] for row in found[1][name]["measures"]}
        assert {"gap", "default_gap", "floor", "closed", "side_effect"} <= measures
        assert set(found[1][name]["responses"]) == set(VARIANTS)
    assert len(found[1]["patching"]["shares"]) == 4
    assert found[1]["steering"]["coefficient"] in CONFIG.coefficients


def test_default_agent_closes_nothing(found: Any) -> None:
    rows = {row["measure"]: row["value"] for row in found[1]["agents"]["default"]["measures"]}
    assert rows["closed_of_all"] == 0
    assert rows["side_effect"] == 0


def test_what_was_read_is_read_once_and_belongs_to_its_text(found: Any, scenarios: Any) -> None:
    folder, _ = found
    before = {path: path.stat().st_mtime_ns for path in (folder / "activations").iterdir()}
    reading = read_scenarios(tiny_llama(), scenarios, folder)
    assert before == {path: path.stat().st_mtime_ns for path in before}
    rows = reading.rows("surrogate", domains=["film"])
    assert [reading.texts[row] for row in rows] == [
        s.text("surrogate", wording=k % 4)
        for k, s in enumerate(scenarios)
        if s.domain.name == "film"
    ]
    assert len(np.unique(reading.last[:, 3].numpy(), axis=0)) == len(reading.texts)


def test_other_choices_need_another_folder(found: Any) -> None:
    with pytest.raises(ValueError, match="use another folder"):
        run_surrogate_study(found[0], tiny_llama(), config=SurrogateConfig())
