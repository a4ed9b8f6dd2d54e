"""The class `UsageDisplay`: the mean weights of groups of rows, as a heat map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from snmf.plots.drawing import axes_of, count_ticks, shortened
from snmf.plots.given import matrix

Array = Any
Axes = Any


class UsageDisplay:
    """The mean weight of each component in each group of rows, such as cell types.

    Each component is drawn relative to the group that uses it most, since components differ in
    their weights.

    Parameters
    ----------
    usage : array of shape (n_groups, n_components)
        The mean weights, ≥ 0.
    groups : sequence of shape (n_groups,)
        The names of the groups.

    Attributes
    ----------
    image_ : matplotlib AxesImage
    colorbar_ : matplotlib Colorbar
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    Examples
    --------
    >>> from snmf import plots
    >>> plots.UsageDisplay([[2.0, 0.1], [0.5, 0.3]], groups=["B", "T"]).plot()  # doctest: +SKIP
    """

    def __init__(self, usage: Array, *, groups: Sequence[Any]) -> None:
        self.usage = matrix(usage, "usage")
        if self.usage.min() < 0:
            raise ValueError(f"usage must be nonnegative; the least is {self.usage.min():g}")
        self.groups = [str(group) for group in groups]
        if len(self.groups) != len(self.usage):
            raise ValueError(
                f"groups must have {len(self.usage)} entries, one for every row of usage; "
                f"got {len(self.groups)}"
            )

    def plot(self, ax: Axes = None, **options: Any) -> Self:
        """Draw the mean weights.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to plot. None makes a figure.
        **options
            Arguments for `matplotlib.axes.Axes.imshow`.

        Returns
        -------
        self : UsageDisplay
        """
        n, k = self.usage.shape
        size = float(np.clip(2.5 + 0.35 * k, 4, 12)), float(np.clip(1 + 0.3 * n, 2, 10))
        self.ax_ = ax = axes_of(ax, size)
        self.figure_ = ax.figure
        most = self.usage.max(axis=0)
        options = {"cmap": "Blues", "vmin": 0, "vmax": 1, "aspect": "auto", **options}
        self.image_ = ax.imshow(
            self.usage / np.where(most > 0, most, 1), interpolation="nearest", **options
        )
        self.colorbar_ = self.figure_.colorbar(
            self.image_, ax=ax, label="mean weight ÷ the largest"
        )
        count_ticks(ax.xaxis, k)
        ax.set_yticks(range(n), [shortened(group) for group in self.groups])
        ax.set_xlabel("component")
        return self
