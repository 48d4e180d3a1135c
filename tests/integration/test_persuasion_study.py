"""Reading dialogues with the embedded model, and the study on a few made-up ones."""

from pathlib import Path

import numpy as np
import pytest
import torch

from hookscope.persuasion_reading import read_to_disk
from hookscope.persuasion_study import PersuasionConfig, run_persuasion_study
from interp import HookedModel
from probes.persuasion_for_good import AGREE, PersuasionForGood
from probes.transcripts import PERSUADEE, PERSUADER, Dialogue, read_pieces

pytestmark = pytest.mark.model

SAID = Dialogue(
    name="said",
    pieces=("Hello there.", "Would you give a dollar?", "Maybe. What for?", "For a well."),
    turns=(0, 0, 1, 2),
    roles=(PERSUADER, PERSUADER, PERSUADEE, PERSUADER),
)


def test_a_piece_is_read_as_if_the_rest_were_unwritten(smollm2: HookedModel) -> None:
    whole = read_pieces(smollm2, [SAID], layers=[0, 3])
    for n in (1, 2, 3):
        prefix = read_pieces(smollm2, [SAID.pick(range(n))], layers=[0, 3])
        for at in ("last", "mean"):
            expected = prefix[at].values[n - 1]
            torch.testing.assert_close(whole[at].values[n - 1], expected, rtol=1e-3, atol=2e-2)


def test_a_later_piece_depends_on_its_context(smollm2: HookedModel) -> None:
    whole = read_pieces(smollm2, [SAID], layers=[3])["last"].values[3]
    alone = read_pieces(smollm2, [SAID.alone(3)], layers=[3])["last"].values[0]
    assert float((whole - alone).norm() / whole.norm()) > 0.05


def test_reading_goes_on_where_it_stopped(smollm2: HookedModel, tmp_path: Path) -> None:
    first = read_to_disk(smollm2, [SAID], tmp_path, layers=[1])
    written = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = read_to_disk(smollm2, [SAID], tmp_path, layers=[1])
    assert written == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert torch.equal(first["last"].values, again["last"].values)
    with pytest.raises(ValueError, match="choose another folder"):
        read_to_disk(smollm2, [SAID], tmp_path, layers=[2])


def test_the_study_runs_on_made_up_dialogues(smollm2: HookedModel, tmp_path: Path) -> None:
    data = PersuasionForGood(annotated=tuple(map(_made_up, range(12))), others=())
    config = PersuasionConfig(layers=(1,), n_devices=3, n_prompted=4)
    study = run_persuasion_study(data, tmp_path, smollm2, config=config)
    strategy = study.frame("strategy").set_index("method")
    assert strategy.loc["layer 1, mean", "value"] > 0.9
    errors = study.frame("turn of persuasion").set_index("method")["error"]
    assert np.isfinite(errors).all()
    alone = study.frame("context").set_index("method")["value"]
    assert alone["probe, alone"].between(0, 1).all()
    ablations = study.frame("ablations")
    assert set(ablations["probe"]) == {"agreement", "donation"}
    assert len(ablations) == 6  # two probes, three ways
    assert np.isfinite(study.frame("prompted")["value"]).all()
    assert study.examples[0]["scores"]["agreement"][0] is None  # the persuader's piece
    assert "strategy" in study.summary()


def _made_up(k: int) -> Dialogue:
    appeals = (
        ("Good day to you.", ("greeting",)),
        ("Nine of ten dollars reach a child.", ("logical-appeal",)),
        ("Think of a child that is crying.", ("emotion-appeal",)),
        ("We are a registered charity.", ("credibility-appeal",)),
    )
    pieces, acts = zip(*appeals, strict=True)
    answers = (
        "Good day.",
        "I see.",
        "Yes, I will donate." if k % 3 else "No, thank you.",
        "Bye now.",
    )
    said = [AGREE if "Yes" in answer else "other" for answer in answers]
    mixed = [x for pair in zip(pieces, answers, strict=True) for x in pair]
    return Dialogue(
        name=f"dialogue {k}",
        pieces=tuple(mixed),
        turns=tuple(range(8)),
        roles=(PERSUADER, PERSUADEE) * 4,
        meta={
            "acts": [x for pair in zip(acts, [(s,) for s in said], strict=True) for x in pair],
            "donation": float(k % 2),
            "user": f"user {k}",
            "traits": dict.fromkeys(
                ("extraversion", "agreeableness", "conscientiousness", "neuroticism", "openness"),
                float(k % 4),
            ),
        },
    )
