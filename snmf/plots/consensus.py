"""The class `ConsensusDisplay`: how alike the components of many runs are."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from snmf.plots.drawing import axes_of
from snmf.plots.given import matrix, vector

Array = Any
Axes = Any


class ConsensusDisplay:
    """The cosines of the components of all runs, sorted by consensus component.

    Runs agree where the picture has dark squares along the diagonal, and little elsewhere. What
    was dropped comes last.

    Parameters
    ----------
    cosines : array of shape (m, m)
        The cosine of every two of the m components of all runs.
    labels : array of int of shape (m,)
        The consensus component that each belongs to. −1 if it was dropped.

    Attributes
    ----------
    image_ : matplotlib AxesImage
    order_ : ndarray of int
        The components of the runs, from left to right.
    colorbar_ : matplotlib Colorbar
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> import snmf
    >>> found = snmf.consensus(load_iris().data, 2, n_runs=5, random_state=0)
    >>> found.plot()  # doctest: +SKIP
    """

    def __init__(self, cosines: Array, labels: Array) -> None:
        self.cosines = matrix(cosines, "cosines")
        self.labels = vector(labels, "labels")
        m = len(self.labels)
        if self.cosines.shape != (m, m):
            raise ValueError(
                f"cosines must have shape {(m, m)}, a row and a column for every label; "
                f"got {self.cosines.shape}"
            )

    def plot(self, ax: Axes = None, **options: Any) -> Self:
        """Draw the cosines.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to plot. None makes a figure.
        **options
            Arguments for `matplotlib.axes.Axes.imshow`.

        Returns
        -------
        self : ConsensusDisplay
        """
        dropped = self.labels < 0
        self.order_ = np.lexsort((self.labels, dropped))
        groups, sizes = np.unique(self.labels, return_counts=True)
        last = np.argsort(groups < 0, kind="stable")
        groups, sizes = groups[last], sizes[last]
        self.ax_ = ax = axes_of(ax, (5.6, 4.6))
        self.figure_ = ax.figure
        m = len(self.labels)
        options = {"cmap": "RdBu_r", "vmin": -1, "vmax": 1, **options}
        self.image_ = ax.imshow(
            self.cosines[np.ix_(self.order_, self.order_)],
            interpolation="nearest",
            extent=(0, m, m, 0),
            **options,
        )
        self.colorbar_ = self.figure_.colorbar(self.image_, ax=ax, label="cosine")
        ends = np.cumsum(sizes)
        names = ["dropped" if group < 0 else str(group) for group in groups]
        ax.set_xticks(ends - sizes / 2, names, rotation=90 if len(names) > 15 else 0)
        ax.set_yticks(ends - sizes / 2, names)
        for end in ends[:-1]:
            ax.axhline(end, color="0.2", linewidth=0.6)
            ax.axvline(end, color="0.2", linewidth=0.6)
        ax.set(
            xlabel="components of all runs, by consensus component", ylabel="the same components"
        )
        return self
