"""Plain text and frames as HTML that shows them literally."""

import html

import numpy as np
import pandas as pd


def escaped(text: object) -> str:
    """Text as HTML that shows it literally; what is no valid Unicode becomes a question mark."""
    return html.escape(str(text).encode("utf-8", "replace").decode("utf-8"))


def table(frame: pd.DataFrame, controls: set[object], digits: int) -> str:
    """The frame as an HTML table."""
    kinds = ["number" if _is_numeric(frame.iloc[:, at]) else "" for at in range(frame.shape[1])]
    head = "".join(
        f'<th class="{kind}">{escaped(_column_name(name))}</th>'
        for kind, name in zip(kinds, frame.columns, strict=True)
    )
    rows = []
    for row in frame.itertuples(index=False, name=None):
        cells = "".join(
            f'<td class="{kind}">{escaped(_cell(value, digits))}</td>'
            for kind, value in zip(kinds, row, strict=True)
        )
        rows.append(f'<tr class="{"control" if row[0] in controls else ""}">{cells}</tr>')
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _is_numeric(column: pd.Series) -> bool:
    """Whether a column holds numbers (truth values are words)."""
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def _column_name(name: object) -> str:
    """A column's name; the levels of a nested one are joined."""
    return (
        " ".join(str(level) for level in name if str(level))
        if isinstance(name, tuple)
        else str(name)
    )


def _cell(value: object, digits: int) -> str:
    """A value as text: floats rounded, tiny ones in powers, missing ones as a dash."""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{int(value):,}".replace("-", "−")
    if isinstance(value, float | np.floating):
        if np.isnan(value):
            return "–"
        tiny = 0 < abs(value) < 0.5 * 10**-digits
        return (f"{value:.1e}" if tiny else f"{value:,.{digits}f}").replace("-", "−", 1)
    return "–" if value is None or value is pd.NA or value is pd.NaT else str(value)
