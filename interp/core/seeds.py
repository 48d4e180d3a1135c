"""Seeds of children: one number in, independent streams out, no global generator touched."""

import hashlib

import torch


def derive(seed: int, *names: object) -> int:
    """A seed for a named part of a computation, independent of the other parts.

    Args:
        seed: The seed of the whole.
        *names: What tells this part from the others (strings, numbers).

    Returns:
        An integer in [0, 2**63).

    Examples:
        >>> derive(0, "bootstrap", 3) == derive(0, "bootstrap", 3)
        True
        >>> derive(0, "bootstrap", 3) == derive(0, "bootstrap", 4)
        False
    """
    digest = hashlib.sha256(repr((seed, *names)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, *names: object, device: str | torch.device = "cpu") -> torch.Generator:
    """A torch generator seeded by `derive(seed, *names)`."""
    return torch.Generator(device).manual_seed(derive(seed, *names))
