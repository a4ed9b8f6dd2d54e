"""The class `HierarchyDisplay`: components of several levels, joined to their parents."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from snmf.plots.drawing import axes_of, shortened
from snmf.plots.given import matrix

Array = Any
Axes = Any

FAINT = 0.05  # lines of a smaller share of a component's weights are not drawn


class HierarchyDisplay:
    """The components of several levels as dots, joined by lines to their parents.

    Components stand beside those with the same main parent. A line is as wide as the share that
    the parent has in the weights of the component.

    Parameters
    ----------
    mixtures : sequence of array-like of shape (k_level, k_next)
        For each level but the last, the weights of the components of the next level.
    names : sequence of str of length k_last, default=None
        The names of the components of the last level. None takes their indices.

    Attributes
    ----------
    positions_ : list of ndarray
        For each level the place of every component on the x axis.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    Examples
    --------
    >>> from snmf import plots
    >>> display = plots.HierarchyDisplay([[[1, 0], [0.5, 0.5], [0, 2]]])
    >>> display.plot()  # doctest: +SKIP
    """

    def __init__(self, mixtures: Any, *, names: Any = None) -> None:
        self.mixtures = [matrix(V, "mixtures") for V in mixtures]
        if not self.mixtures:
            raise ValueError("mixtures must have one matrix for every two levels; got none")
        for V, above in zip(self.mixtures, self.mixtures[1:], strict=False):
            if V.shape[1] != len(above):
                raise ValueError(
                    f"each of the mixtures must have a row for every column of the one before; "
                    f"got shapes {V.shape} and {above.shape}"
                )
        last = self.mixtures[-1].shape[1]
        self.names = [str(j) for j in range(last)] if names is None else [str(n) for n in names]
        if len(self.names) != last:
            raise ValueError(f"names must have {last} entries; got {len(self.names)}")

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, names: Any = None, ax: Axes = None, **options: Any
    ) -> Self:
        """Draw the levels of a fitted `snmf.HierarchicalSNMF`.

        Parameters
        ----------
        estimator : HierarchicalSNMF
            A fitted estimator.
        names : sequence of str, default=None
            The names of the components of the last level. None takes their indices.
        ax : matplotlib Axes, default=None
            Where to plot. None makes a figure.
        **options
            Arguments for `matplotlib.axes.Axes.scatter`, which draws the components.

        Returns
        -------
        display : HierarchyDisplay

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        ValueError
            If it has no levels.
        """
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(estimator)
        if not hasattr(estimator, "mixtures_"):
            raise ValueError(
                "estimator must have levels, as a HierarchicalSNMF has; got a "
                f"{type(estimator).__name__}"
            )
        return cls(estimator.mixtures_, names=names).plot(ax, **options)

    def plot(self, ax: Axes = None, **options: Any) -> Self:
        """Draw the levels, the one with the fewest components on top.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to plot. None makes a figure.
        **options
            Arguments for `matplotlib.axes.Axes.scatter`, which draws the components.

        Returns
        -------
        self : HierarchyDisplay
        """
        self.ax_ = ax = axes_of(ax, (8, 1.5 + len(self.mixtures)))
        self.figure_ = ax.figure
        self.positions_ = _positions(self.mixtures)
        for level, V in enumerate(self.mixtures):
            total = V.sum(axis=1, keepdims=True)
            shares = V / np.where(total > 0, total, 1.0)
            below, above = self.positions_[level : level + 2]
            for child, parent in zip(*np.nonzero(shares > FAINT), strict=True):
                ax.plot(
                    (below[child], above[parent]), (level, level + 1),
                    color="tab:gray", lw=2.5 * shares[child, parent], zorder=1,
                    alpha=0.2 + 0.8 * shares[child, parent],
                )  # fmt: skip
        for level, places in enumerate(self.positions_):
            ax.scatter(places, np.full(len(places), level), **{"s": 25, "zorder": 2, **options})
        last = len(self.mixtures)
        ax.set_ylim(-0.3, last + 0.2)
        for name, place in zip(self.names, self.positions_[-1], strict=True):
            ax.annotate(
                shortened(name), (place, last), (0, 6), textcoords="offset points", ha="center",
                fontsize="small",
            )  # fmt: skip
        ax.set_yticks(
            range(last + 1), [f"level {i}: {len(x)}" for i, x in enumerate(self.positions_)]
        )
        ax.set_xticks([])
        ax.spines[["top", "right", "bottom"]].set_visible(False)
        ax.set_title("Components, and the components that they are mixtures of", pad=16)
        return self


def _positions(mixtures: list[np.ndarray]) -> list[np.ndarray]:
    """Return the places of the components: of the finest level evenly, of others over the mean.

    From the last level down, components are put in the order of their main parents.
    """
    ranks = [np.arange(mixtures[-1].shape[1])]
    for V in reversed(mixtures):
        order = np.lexsort((-V.max(axis=1), ranks[0][V.argmax(axis=1)]))
        ranks.insert(0, np.argsort(order))
    places = [(ranks[0] + 0.5) / len(ranks[0])]
    for V, rank in zip(mixtures, ranks[1:], strict=True):
        main = V.argmax(axis=1)
        counts = np.bincount(main, minlength=V.shape[1])
        means = np.bincount(main, places[-1], V.shape[1]) / np.maximum(counts, 1)
        evenly = (rank + 0.5) / len(rank)
        places.append(np.where(counts > 0, means, evenly))
    return places
