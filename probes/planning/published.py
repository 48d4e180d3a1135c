"""What others measured on agents of this kind, to stand beside one's own numbers.

Bush et al. 2025 (arXiv 2504.01871): DRC(3, 3) of 32 channels, trained by reinforcement alone on 250
million transitions of Boxoban; from the result files and figures of the authors' public code.
Taufeeque et al. 2024 (arXiv 2407.15421): a DRC(3, 3) of their own, 2 billion transitions. Such
values are those of stronger agents on bigger boards than `small-drc33`.
"""

import pandas as pd

_LAYERS = (0, 1, 2)
_BUSH = "Bush et al. 2025"
_PROBES = {
    # (concept, kernel): macro F1 of the three layers, and of the observation
    ("agent_approach", 1): ((0.809, 0.863, 0.857), 0.221),
    ("box_push", 1): ((0.868, 0.935, 0.874), 0.254),
    ("agent_approach", 3): ((0.885, 0.888, 0.895), 0.462),
    ("box_push", 3): ((0.941, 0.952, 0.945), 0.518),
}
_EMERGENCE = {
    # millions of transitions: macro F1 of box_push, kernel 1, by layer
    1: (0.200, 0.200, 0.200),
    10: (0.358, 0.438, 0.444),
    30: (0.715, 0.801, 0.744),
    50: (0.769, 0.855, 0.801),
    250: (0.868, 0.935, 0.874),
}
_FORMATION = {
    # ticks 1 to 15 of the top layer, read off figure 7
    "agent_approach": (
        *(0.585, 0.675, 0.725, 0.756, 0.778, 0.798, 0.811, 0.821),
        *(0.827, 0.833, 0.837, 0.840, 0.843, 0.843, 0.845),
    ),
    "box_push": (
        *(0.609, 0.733, 0.780, 0.805, 0.822, 0.834, 0.842, 0.850),
        *(0.852, 0.856, 0.858, 0.860, 0.860, 0.861, 0.861),
    ),
}
_SOLVED = {
    # millions of transitions: share of Boxoban's unfiltered test levels solved
    10: 0.406,
    20: 0.813,
    50: 0.934,
    100: 0.954,
    200: 0.975,
    2000: 0.993,
}


def published_probes() -> pd.DataFrame:
    """Macro F1 of probes by concept, kernel and layer; the observation has no layer."""
    rows = [
        {"source": _BUSH, "concept": concept, "kernel": kernel, "layer": layer, "macro_f1": f1}
        for (concept, kernel), (layers, observed) in _PROBES.items()
        for layer, f1 in zip((None, *_LAYERS), (observed, *layers), strict=True)
    ]
    return pd.DataFrame(rows)


def published_emergence() -> pd.DataFrame:
    """Macro F1 of box_push, kernel 1, by transitions of reinforcement and layer."""
    rows = [
        {"source": _BUSH, "transitions": 1_000_000 * millions, "layer": layer, "macro_f1": f1}
        for millions, values in _EMERGENCE.items()
        for layer, f1 in zip(_LAYERS, values, strict=True)
    ]
    return pd.DataFrame(rows)


def published_formation() -> pd.DataFrame:
    """Macro F1 of the top layer by tick of thinking."""
    rows = [
        {"source": _BUSH, "concept": concept, "tick": tick, "macro_f1": f1}
        for concept, values in _FORMATION.items()
        for tick, f1 in enumerate(values, start=1)
    ]
    return pd.DataFrame(rows)


def published_solve_rates() -> pd.DataFrame:
    """Share of unfiltered test levels solved by transitions of reinforcement."""
    rows = [
        {
            "source": "Taufeeque et al. 2024",
            "transitions": 1_000_000 * millions,
            "solve_rate": solved,
        }
        for millions, solved in _SOLVED.items()
    ]
    return pd.DataFrame(rows)
