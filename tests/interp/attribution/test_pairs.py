"""Pairs: tokens that correspond, answers of one token."""

import pytest

from interp import HookedModel
from interp.attribution import make_pairs, same_texts


def test_tokens_of_equal_length_correspond_one_to_one(gpt2: HookedModel) -> None:
    pairs = make_pairs(
        gpt2, ["the capital of land0 is"], ["the capital of land1 is"], answers=["city0"],
        wrong_answers=["city1"],
    )  # fmt: skip
    frame = pairs.to_frame()
    assert frame["clean"].tolist() == ["the", "capital", "of", "land0", "is"]
    assert frame["corrupted"].tolist() == ["the", "capital", "of", "land1", "is"]
    assert frame["differs"].tolist() == [False, False, False, True, False]


def test_unequal_lengths_are_refused_and_can_be_aligned(gpt2: HookedModel) -> None:
    clean, corrupted = ["the old capital of land0 is"], ["the capital of land1 is"]
    with pytest.raises(ValueError, match=r"pair 0, has 6 tokens and 5.*align=True"):
        make_pairs(gpt2, clean, corrupted)
    frame = make_pairs(gpt2, clean, corrupted, align=True).to_frame()
    assert frame["clean"].tolist() == ["the", "capital", "of", "land0", "is"]
    assert frame["clean_position"].tolist() == [0, 2, 3, 4, 5]
    assert frame["corrupted_position"].tolist() == [0, 1, 2, 3, 4]


def test_answers_of_two_tokens_are_refused(gpt2: HookedModel) -> None:
    with pytest.raises(ValueError, match=r"answer 1 .*is 2 tokens.*continuation_logprob"):
        make_pairs(gpt2, ["the", "of"], ["is", "is"], answers=["city0", "city1 city2"])


def test_numbers_have_to_fit(gpt2: HookedModel) -> None:
    with pytest.raises(ValueError, match="2 clean texts, but 1"):
        make_pairs(gpt2, ["the", "of"], ["is"])
    with pytest.raises(ValueError, match="answers has 1 entries, but clean has 2"):
        make_pairs(gpt2, ["the", "of"], ["is", "is"], answers=["city0"])


def test_shuffling_gives_every_pair_the_answers_of_another(gpt2: HookedModel) -> None:
    answers = [f"city{k}" for k in range(8)]
    pairs = make_pairs(
        gpt2, ["the"] * 8, ["of"] * 8, answers=answers, wrong_answers=answers[1:] + answers[:1]
    )
    shuffled = pairs.shuffled(seed=3)
    assert sorted(shuffled.answers) == sorted(pairs.answers)
    assert (shuffled.answers != pairs.answers).all()
    partner = dict(zip(pairs.answers, pairs.wrong_answers, strict=True))
    assert [partner[a] for a in shuffled.answers] == shuffled.wrong_answers.tolist()
    assert (shuffled.clean.ids == pairs.clean.ids).all()
    with pytest.raises(ValueError, match="cannot be shuffled"):
        same_texts(gpt2, ["the", "of"]).shuffled()


def test_taking_pairs_keeps_them_together(gpt2: HookedModel) -> None:
    pairs = make_pairs(
        gpt2, ["the land0", "the land1"], ["the land2", "the land3"],
        answers=["city0", "city1"], wrong_answers=["city2", "city3"],
    )  # fmt: skip
    one = pairs.take([1])
    assert len(one) == 1
    assert one.clean.texts == ("the land1",)
    assert one.answers.tolist() == pairs.answers[1:].tolist()
