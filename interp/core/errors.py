"""Errors of the package: each is an `InterpError` and the builtin that callers would catch."""

import difflib
from collections.abc import Iterable


class InterpError(Exception):
    """Base of every error that this project defines."""


class HookNotFoundError(InterpError, KeyError):
    """A site or hook name that the model does not have."""

    def __str__(self) -> str:
        """The bare message: `KeyError` alone would quote it."""
        return str(self.args[0])


class ModelNotFoundError(InterpError, FileNotFoundError):
    """A model that is not on this machine; the message names the command that gets it."""


class ModelMismatchError(InterpError, ValueError):
    """A value (direction, store, probe) that was made with another model."""


class LeakageError(InterpError, ValueError):
    """The same text or the same group on both sides of a split."""


class StoreError(InterpError, OSError):
    """A store of activations that cannot be written or read."""


def near_miss(name: str, known: Iterable[str]) -> str:
    """The ending of an error message that offers the closest known name.

    Examples:
        >>> near_miss("resid_pots", ["resid_post", "z"])
        "; did you mean 'resid_post'?"
        >>> near_miss("banana", ["resid_post", "z"])
        ''
    """
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""
