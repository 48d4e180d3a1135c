"""Splits that keep groups together and refuse leakage."""

import numpy as np

from interp.core.errors import LeakageError
from interp.core.records import Records, normal_form
from interp.core.seeds import derive


def check_leakage(train: Records, test: Records) -> None:
    """Refuse two sets that share a text or a group.

    Texts are compared without regard to case and white space.

    Raises:
        LeakageError: If they share any; the message counts them and shows one.
    """
    texts = {normal_form(record.content) for record in train}
    shared = [i for i, record in enumerate(test) if normal_form(record.content) in texts]
    if shared:
        raise LeakageError(
            f"{len(shared)} texts are on both sides, such as test record {shared[0]} "
            f"({test[shared[0]].content[:60]!r}): remove the duplicates"
        )
    known = {record.group for record in train if record.group is not None}
    groups = sorted({r.group for r in test if r.group is not None and r.group in known})
    if groups:
        raise LeakageError(
            f"{len(groups)} groups are on both sides, such as {groups[0]!r}: split by group"
        )


def split(records: Records, *, test_size: float = 0.2, seed: int = 0) -> tuple[Records, Records]:
    """Train and test records: every group, and every text that occurs twice, on one side.

    Args:
        records: What to split.
        test_size: Share of the groups in the test set, between 0 and 1.
        seed: Which split.

    Raises:
        ValueError: If one side would be empty.
    """
    groups = _linked_groups(records)
    names = np.unique(groups)
    n_test = round(test_size * len(names))
    if not 0 < n_test < len(names):
        raise ValueError(f"test_size={test_size} of {len(names)} groups leaves one side empty")
    shuffled = np.random.default_rng(derive(seed, "split")).permutation(names)
    in_test = np.isin(groups, shuffled[:n_test])
    train, test = records[~in_test], records[in_test]
    check_leakage(train, test)
    return train, test


def _linked_groups(records: Records) -> np.ndarray:
    """Groups, merged where two of them share a text."""
    groups = records.groups
    first_with: dict[str, int] = {}
    for index, record in enumerate(records):
        first = groups[first_with.setdefault(normal_form(record.content), index)]
        if first != groups[index]:
            groups[groups == groups[index]] = first
    return groups
