"""The methods of the persuasion study on activations with a planted direction, without a model."""

import numpy as np
import pytest
import torch

from hookscope.persuasion_devices import TURNED, others_out
from hookscope.persuasion_methods import (
    CHOSEN,
    SHUFFLED,
    TURN_WORDS,
    WORDS,
    agreement_scores,
    highest,
    probe_scores,
    with_history,
)
from hookscope.persuasion_tasks import Pieces, Task, agreeing_sentence_task, agreement_task
from interp import Activations
from probes.evaluation import auroc_value
from probes.persuasion_for_good import AGREE
from probes.transcripts import PERSUADEE, PERSUADER, Dialogue, bare

N, D_MODEL = 40, 8


@pytest.fixture(scope="module")
def dialogues() -> list[Dialogue]:
    """A question and an answer of two sentences, the first of which agrees in half of them."""
    return [
        Dialogue(
            name=f"d{k}",
            pieces=("Will you give?", "Yes." if k % 2 else "Well.", "Good day."),
            turns=(0, 1, 1),
            roles=(PERSUADER, PERSUADEE, PERSUADEE),
            meta={"acts": [(), (AGREE,) if k % 2 else (), ()], "user": f"u{k}"},
        )
        for k in range(N)
    ]


def pieces_of(dialogues: list[Dialogue], strengths: tuple[float, ...] = (0.0, 3.0)) -> Pieces:
    """Activations in which the sentence that agrees is marked along one axis of each layer."""
    rng = np.random.default_rng(0)
    agrees = np.array([AGREE in acts for d in dialogues for acts in d.meta["acts"]])
    X = rng.normal(size=(len(agrees), len(strengths), D_MODEL))
    X[:, :, 2] += np.array(strengths) * agrees[:, None]
    values = torch.from_numpy(X).float()
    groups = np.repeat([d.name for d in dialogues], 3)
    made = Activations(
        tensors={"resid_post": values}, layers=tuple(range(len(strengths))), groups=groups
    )
    return {"last": made, "mean": made}


def test_the_layer_that_holds_the_label_is_chosen(dialogues) -> None:
    task = agreeing_sentence_task(dialogues)
    scores = probe_scores(task, pieces_of(dialogues), task.folds(0))
    np.testing.assert_array_equal(scores[CHOSEN], scores["layer 1, last"])
    assert auroc_value(task.labels, scores[CHOSEN]) > 0.9
    assert abs(auroc_value(task.labels, scores["layer 0, mean"]) - 0.5) < 0.25
    assert abs(auroc_value(task.labels, scores[SHUFFLED]) - 0.5) < 0.25


def test_labels_of_a_fold_have_no_say_in_its_scores(dialogues) -> None:
    task, pieces = agreeing_sentence_task(dialogues), pieces_of(dialogues, (0.5, 0.6))
    folds = task.folds(0)
    scores = probe_scores(task, pieces, folds)
    other = task.labels.copy()
    other[folds == 2] = np.random.default_rng(1).permutation(other[folds == 2])
    assert (other != task.labels).any()
    columns = {"name": task.name, "texts": task.texts, "groups": task.groups, "rows": task.rows}
    changed = probe_scores(Task(labels=other, **columns), pieces, folds)
    for name in set(scores) - {SHUFFLED}:
        np.testing.assert_array_equal(scores[name][folds == 2], changed[name][folds == 2])
    assert any((scores[CHOSEN] != changed[CHOSEN])[folds == k].any() for k in (0, 1, 3, 4))


def test_a_turn_scores_as_its_highest_sentence(dialogues) -> None:
    (sentences, by_sentence), (turns, by_turn) = agreement_scores(dialogues, pieces_of(dialogues))
    assert (len(sentences.labels), len(turns.labels)) == (2 * N, N)
    for name in (CHOSEN, WORDS, "layer 1, mean"):
        np.testing.assert_array_equal(by_turn[name], by_sentence[name].reshape(N, 2).max(1))
    assert turns.labels.tolist() == [k % 2 for k in range(N)]
    assert auroc_value(turns.labels, by_turn[CHOSEN]) > 0.9
    assert auroc_value(turns.labels, by_turn[TURN_WORDS]) == 1  # it is said aloud here
    assert agreement_task(dialogues).texts[1] == "Yes. Good day."


def test_highest_goes_by_turn() -> None:
    scores, at = np.array([1.0, 3.0, -2.0, -5.0]), np.array([0, 0, 1, 2])
    np.testing.assert_array_equal(highest(scores, at, 3), [3.0, -2.0, -5.0])


def test_history_is_the_mean_of_what_a_speaker_said(dialogues) -> None:
    pieces = pieces_of(dialogues)
    said, so_far = pieces["mean"].values, with_history(dialogues, pieces)["mean so far"].values
    first, second = so_far[0::3], so_far[1::3]
    torch.testing.assert_close(first, said[0::3])
    torch.testing.assert_close(second, said[1::3])
    torch.testing.assert_close(so_far[2::3], (said[1::3] + said[2::3]) / 2)


def test_as_many_other_words_are_left_out() -> None:
    dialogue = Dialogue(
        name="x",
        pieces=("No, do not go.", "No, I can not give a single thing now.", "No!"),
        turns=(0, 1, 1),
        roles=(PERSUADER, PERSUADEE, PERSUADEE),
    )
    changed = others_out(dialogue).pieces
    assert (changed[0], changed[2]) == (dialogue.pieces[0], "No!")
    assert len(changed[1].split()) == len(dialogue.pieces[1].split()) - 2
    assert [w for w in changed[1].split() if bare(w) in TURNED] == ["No,", "not"]
    assert others_out(dialogue) == others_out(dialogue)
