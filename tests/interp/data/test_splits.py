"""Splits: groups and repeated texts stay on one side, or there is an error."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp import LeakageError, Records
from interp.data import check_leakage, split

ROWS = st.lists(
    st.tuples(st.sampled_from("abcdefghij"), st.sampled_from([None, *"vwxyz"])),
    min_size=6,
    max_size=30,
)


def records(rows: list[tuple[str, str | None]]) -> Records:
    return Records([{"text": text, "group": group} for text, group in rows])


@given(rows=ROWS, seed=st.integers(0, 5))
@settings(max_examples=100, deadline=None)
def test_no_text_and_no_group_is_on_both_sides(rows, seed: int) -> None:
    whole = records([*rows, ("one more", None), ("and another", None)])
    train, test = split(whole, test_size=0.5, seed=seed)
    check_leakage(train, test)
    assert {r.text for r in train} & {r.text for r in test} == set()
    assert {r.group for r in train} & {r.group for r in test} <= {None}
    assert sorted(map(repr, [*train, *test])) == sorted(map(repr, whole))


def test_a_chain_of_duplicates_links_its_groups() -> None:
    chain = [("a", "1"), ("b", "2"), ("a", "2"), ("b", "3"), ("c", "3"), ("x", "4"), ("y", "5")]
    for seed in range(20):
        train, test = split(records(chain), test_size=0.4, seed=seed)
        sides = [{r.group for r in side} & {"1", "2", "3"} for side in (train, test)]
        assert sorted(map(len, sides)) == [0, 3]


def test_the_seed_decides_the_split() -> None:
    whole = records([(text, None) for text in "abcdefghij"])
    first = [r.text for r in split(whole, seed=1)[1]]
    assert [r.text for r in split(whole, seed=1)[1]] == first
    assert any([r.text for r in split(whole, seed=s)[1]] != first for s in range(2, 6))
    assert len(first) == 2


@pytest.mark.parametrize("test_text", ["A  fire", "a fire\n"])
def test_leaks_are_refused(test_text: str) -> None:
    train = records([("a fire", "g"), ("tea", None)])
    with pytest.raises(LeakageError, match="1 texts are on both sides, such as test record 1"):
        check_leakage(train, records([("new", None), (test_text, None)]))
    with pytest.raises(LeakageError, match="1 groups are on both sides, such as 'g'"):
        check_leakage(train, records([("new", "g")]))
    check_leakage(train, records([("new", "h"), ("old", None)]))


def test_a_split_with_an_empty_side_is_refused() -> None:
    with pytest.raises(ValueError, match=r"test_size=0.5 of 1 groups leaves one side empty"):
        split(records([("a", "g"), ("b", "g")]), test_size=0.5)
