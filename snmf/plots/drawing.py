"""Axes, ticks and colours, for all displays."""

from __future__ import annotations

from typing import Any

import numpy as np

Axes = Any

SEEN = 99.8  # percent of the entries within the range of the colours


def axes_of(ax: Axes, size: tuple[float, float]) -> Axes:
    """Return `ax`, or the axes of a new figure; raise ImportError if matplotlib is missing."""
    if ax is not None:
        return ax
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install 'snmf[plots]'") from error
    return plt.subplots(figsize=size, layout="constrained")[1]


def count_ticks(axis: Any, n: int) -> None:
    """Set ticks at whole numbers: at all of them up to 20, else at some."""
    if n <= 20:
        axis.set_ticks(range(n))
    else:
        from matplotlib.ticker import MaxNLocator

        axis.set_major_locator(MaxNLocator(integer=True))


def end_of_colours(values: np.ndarray) -> tuple[float, bool]:
    """Return the value at the end of the colours, and whether some outliers are larger."""
    largest = float(values.max(initial=0.0))
    most = float(np.percentile(values, SEEN)) if values.size else 0.0
    if 0 < most < largest / 1.5:
        return most, True
    return largest or 1.0, False


def shortened(name: str) -> str:
    """Return a name cut to at most 24 characters."""
    return name if len(name) <= 24 else f"{name[:23]}…"
