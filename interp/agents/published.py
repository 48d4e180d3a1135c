"""The published table of the multi-agent security tax, to be shown behind one's own numbers.

Peigne-Lefebvre, Kniejski, Sondej, David, Hoelscher-Obermaier, Schroeder de Witt and Kran (AAAI
2025, arXiv 2502.19145), tables 1 and 2: robustness is the share of 36 runs without the harmful
act, cooperation the share of 180 unusual but harmless instructions that agents accepted. Their
agents, acts and judges are others than ours: the points are a background and no target. The
published row of averages differs from the means of these rows by up to 1.3 points of cooperation.
"""

import pandas as pd

CONDITIONS = (
    "none",
    "passive instruction",
    "active instruction",
    "passive vaccine",
    "active vaccine",
)
"""Defences in the order of the columns."""

_ROBUSTNESS = {
    "gpt-3.5-turbo-0125": (86.1, 72.2, 66.7, 94.4, 80.6),
    "gpt-4-turbo-2024-04-09": (86.1, 100.0, 100.0, 94.4, 91.7),
    "gpt-4o-2024-05-13": (80.6, 94.4, 91.7, 77.8, 97.2),
    "gpt-4o-2024-08-06": (80.6, 100.0, 100.0, 100.0, 94.4),
    "gpt-4o-mini-2024-07-18": (50.0, 69.4, 80.6, 50.0, 86.1),
}
_COOPERATION = {
    "gpt-3.5-turbo-0125": (91.7, 80.0, 87.8, 97.2, 95.6),
    "gpt-4-turbo-2024-04-09": (64.4, 29.4, 42.8, 63.9, 62.8),
    "gpt-4o-2024-05-13": (97.8, 68.3, 74.4, 96.7, 97.2),
    "gpt-4o-2024-08-06": (91.7, 26.1, 16.7, 91.7, 92.2),
    "gpt-4o-mini-2024-07-18": (92.2, 63.9, 77.8, 91.1, 90.6),
}


def published_security_tax() -> pd.DataFrame:
    """One row for each model and condition, with shares between 0 and 1.

    Examples:
        >>> table = published_security_tax()
        >>> table.groupby("condition")["robustness"].mean().round(3)["active vaccine"]
        np.float64(0.9)
    """
    rows = [
        {
            "model": model,
            "condition": condition,
            "robustness": _ROBUSTNESS[model][k] / 100,
            "cooperation": _COOPERATION[model][k] / 100,
        }
        for model in _ROBUSTNESS
        for k, condition in enumerate(CONDITIONS)
    ]
    return pd.DataFrame(rows)
