"""Which embedded models are on this machine."""

from typing import Any

from interp.core.loading import EMBEDDED


def installed_models() -> dict[str, dict[str, Any]]:
    """Each embedded model, whether it is installed, and the command that gets it."""
    return {
        name: {"installed": bool(embedded.pieces()), "install": embedded.install}
        for name, embedded in EMBEDDED.items()
    }
