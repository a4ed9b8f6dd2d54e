"""The class `WeightsDisplay`: W as a map with a line for every row of X."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from snmf.plots.drawing import (
    axes_of,
    count_ticks,
    end_of_colours,
    points_of,
    shortened,
    spaced,
    titled,
)
from snmf.plots.given import check_is_one_fit, matrix

Array = Any
Axes = Any

MOST_ROWS = 1000  # a screen has no more lines than this
LABEL_POINTS = 14  # the height of a label


class WeightsDisplay:
    """The weights as a map with a line for every row of X, sorted.

    The rows are sorted by the component with the largest weight, then by this weight. With labels,
    they are sorted by label first.

    Parameters
    ----------
    weights : array of shape (n_samples, n_components)
        The weights W.
    labels : sequence of shape (n_samples,), default=None
        The class of every row. The axis shows the classes as groups of rows.
    max_rows : int, default=1000
        Limits the number of rows drawn. Of more rows, evenly spaced ones are drawn.

    Attributes
    ----------
    image_ : matplotlib AxesImage
    rows_ : ndarray of int
        The rows shown, from top to bottom.
    colorbar_ : matplotlib Colorbar
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from snmf import SNMF, plots
    >>> X, y = load_digits(return_X_y=True)
    >>> model = SNMF(10, random_state=0).fit(X - 8)
    >>> plots.WeightsDisplay.from_estimator(model, X - 8, labels=y)  # doctest: +SKIP
    """

    def __init__(self, weights: Array, *, labels: Any = None, max_rows: int = MOST_ROWS) -> None:
        self.weights = matrix(weights, "weights")
        if self.weights.min() < 0:
            raise ValueError(f"weights must be nonnegative; the least is {self.weights.min():g}")
        self.labels = None if labels is None else np.asarray(labels)
        if self.labels is not None and self.labels.shape != self.weights.shape[:1]:
            raise ValueError(
                f"labels must have shape ({len(self.weights)},), one for every row of W; "
                f"got {self.labels.shape}"
            )
        if max_rows < 1:
            raise ValueError(f"max_rows must be at least 1; got {max_rows}")
        self.max_rows = max_rows

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Array,
        *,
        labels: Any = None,
        max_rows: int = MOST_ROWS,
        ax: Axes = None,
    ) -> Self:
        """Plot the weights of data, ``estimator.transform(X)``.

        Parameters
        ----------
        estimator : SNMF
            The fitted estimator.
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The data.
        labels : sequence of shape (n_samples,), default=None
            The class of every row.
        max_rows : int, default=1000
            Limits the number of rows drawn. Of more rows, evenly spaced ones are drawn.
        ax : matplotlib Axes, default=None
            Where to plot. None makes a figure.

        Returns
        -------
        WeightsDisplay

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        ValueError
            If X or labels have the wrong shape, or the estimator has several levels.
        """
        check_is_one_fit(estimator)
        return cls(estimator.transform(X), labels=labels, max_rows=max_rows).plot(ax)

    def plot(self, ax: Axes = None, **options: Any) -> Self:
        """Draw the weights.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to plot. None makes a figure.
        **options
            Arguments for `matplotlib.axes.Axes.imshow`.

        Returns
        -------
        self : WeightsDisplay
        """
        W, (n, k) = self.weights, self.weights.shape
        leading = W.argmax(axis=1)
        names, groups = np.unique(
            np.zeros(n) if self.labels is None else self.labels, return_inverse=True
        )
        order = np.lexsort((-W.max(axis=1), leading, groups))
        self.rows_ = order[(np.arange(min(n, self.max_rows)) * n) // min(n, self.max_rows)]
        self.ax_ = ax = axes_of(ax, (float(np.clip(3 + 0.25 * k, 4, 10)), 5))
        self.figure_ = ax.figure
        most, beyond = end_of_colours(W[W > 0])
        options = {"cmap": "Blues", "vmin": 0, "vmax": most, **options}
        self.image_ = ax.imshow(
            W[self.rows_],
            aspect="auto",
            interpolation="nearest",
            extent=(-0.5, k - 0.5, n, 0),
            **options,
        )
        self.colorbar_ = self.figure_.colorbar(
            self.image_, ax=ax, label="W", extend="max" if beyond else "neither"
        )
        count_ticks(ax.xaxis, k)
        thinned = "" if len(self.rows_) == n else f", {len(self.rows_)} of {n} shown"
        ax.set(xlabel="component", ylabel=f"rows of X, sorted{thinned}")
        titled(ax, "Weights (W)")
        if self.labels is not None:
            ends = np.cumsum(np.bincount(groups))
            middles = ends - np.bincount(groups) / 2
            some = spaced(middles, points_of(ax)[1], n, LABEL_POINTS)
            ax.set_yticks(middles[some], [shortened(str(name)) for name in names[some]])
            for end in ends[:-1]:
                ax.axhline(end, color="0.2", linewidth=0.6)
        return self
