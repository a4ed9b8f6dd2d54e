"""Axes, ticks and colours."""

from __future__ import annotations

from typing import Any

import numpy as np

Axes = Any

SEEN = 99.8  # percent of the entries that the colours tell apart


def axes_of(ax: Axes, size: tuple[float, float]) -> Axes:
    """These axes, or those of a new figure of that size."""
    if ax is not None:
        return ax
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install 'snmf[plots]'") from error
    return plt.subplots(figsize=size, layout="constrained")[1]


def count_ticks(axis: Any, n: int) -> None:
    """Ticks at whole numbers: all of a few, some of many."""
    if n <= 20:
        axis.set_ticks(range(n))
    else:
        from matplotlib.ticker import MaxNLocator

        axis.set_major_locator(MaxNLocator(integer=True))


def end_of_colours(values: np.ndarray) -> tuple[float, bool]:
    """The value at the end of the colours, and whether a few outliers are beyond."""
    largest = float(values.max(initial=0.0))
    most = float(np.percentile(values, SEEN)) if values.size else 0.0
    if 0 < most < largest / 1.5:
        return most, True
    return largest or 1.0, False


def shortened(name: str) -> str:
    """A name of at most 24 characters."""
    return name if len(name) <= 24 else f"{name[:23]}…"
