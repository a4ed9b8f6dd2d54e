"""Axes, ticks and colours, for all displays."""

from __future__ import annotations

from typing import Any

import numpy as np

Axes = Any

SEEN = 99.8  # percent of the entries within the range of the colours
NUMBER_POINTS = 14  # the room that a number of two digits takes


def axes_of(ax: Axes, size: tuple[float, float]) -> Axes:
    """Return `ax`, or the axes of a new figure; raise ImportError if matplotlib is missing."""
    return figure_of(None, size).subplots() if ax is None else ax


def figure_of(figure: Any, size: tuple[float, float]) -> Any:
    """Return `figure`, or a new one; raise ImportError if matplotlib is missing."""
    if figure is not None:
        return figure
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install 'snmf[plots]'") from error
    return plt.figure(figsize=size, layout="constrained")


def titled(ax: Axes, title: str) -> None:
    """Set the title, if the axes have none yet."""
    if not ax.get_title():
        ax.set_title(title)


def spaced(places: np.ndarray, axis_points: float, span: float, label_points: float) -> np.ndarray:
    """Return the indices of the places whose labels do not overlap, the first place included.

    Parameters
    ----------
    places : ndarray
        Where the labels belong, increasing, in units of the axis.
    axis_points : float
        The length of the axis, in points.
    span : float
        Its length in its own units.
    label_points : float
        The room that a label takes along the axis, in points.
    """
    least, kept = label_points * span / axis_points, [0]
    for i in range(1, len(places)):
        if places[i] - places[kept[-1]] >= least:
            kept.append(i)
    return np.array(kept)


def points_of(ax: Axes) -> tuple[float, float]:
    """Return the width and the height of the axes, in points."""
    box, dots = ax.get_window_extent(), ax.figure.dpi
    return box.width * 72 / dots, box.height * 72 / dots


def count_ticks(axis: Any, n: int) -> None:
    """Set ticks at whole numbers: at all of them up to 20 if there is room, else at some."""
    room = int(points_of(axis.axes)[axis.axis_name == "y"] / NUMBER_POINTS)
    if n <= min(20, room):
        axis.set_ticks(range(n))
    else:
        from matplotlib.ticker import MaxNLocator

        axis.set_major_locator(MaxNLocator(max(1, min(9, room - 1)), integer=True))


def end_of_colours(values: np.ndarray) -> tuple[float, bool]:
    """Return the value at the end of the colours, and whether some outliers are larger."""
    largest = float(values.max(initial=0.0))
    most = float(np.percentile(values, SEEN)) if values.size else 0.0
    if 0 < most < largest / 1.5:
        return most, True
    return largest or 1.0, False


def shortened(name: str) -> str:
    """Return a name cut in the middle to at most 24 characters; names often differ at the end."""
    return name if len(name) <= 24 else f"{name[:11]}…{name[-12:]}"
