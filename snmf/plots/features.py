"""The class `TopFeaturesDisplay`: the features with the largest entries of every component."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from snmf.plots.drawing import figure_of, shortened
from snmf.plots.given import components_of, matrix, names_of

Array = Any

POSITIVE, NEGATIVE = "#b2182b", "#2166ac"  # the ends of the colours of ComponentsDisplay


class TopFeaturesDisplay:
    """The features with the largest entries of every component, as bars.

    Each component has a panel. Red bars are positive, and blue bars are negative; entries that are
    zero are left out. All panels have the same scale.

    Parameters
    ----------
    components : array of shape (n_components, n_features)
        The components H.
    feature_names : sequence of str of shape (n_features,), default=None
        The names of the features. None takes their numbers.
    n_top : int, default=10
        Limits the number of features in a panel.

    Attributes
    ----------
    features_ : list of ndarray of int
        The features shown, from top to bottom: at most n_top for every component.
    axes_ : list of matplotlib Axes
        The panels, one for every component.
    figure_ : matplotlib Figure

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn.preprocessing import scale
    >>> from snmf import SNMF, plots
    >>> wine = load_wine()
    >>> model = SNMF(3, fit_intercept=True, random_state=0).fit(scale(wine.data))
    >>> display = plots.TopFeaturesDisplay(model.components_, feature_names=wine.feature_names)
    >>> display.plot()  # doctest: +SKIP
    """

    def __init__(
        self,
        components: Array,
        *,
        feature_names: Sequence[str] | None = None,
        n_top: int = 10,
    ) -> None:
        self.components = matrix(components, "components")
        p = self.components.shape[1]
        self.feature_names = names_of(feature_names, p)
        if n_top < 1:
            raise ValueError(f"n_top must be at least 1; got {n_top}")
        self.n_top = min(n_top, p)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        feature_names: Sequence[str] | None = None,
        n_top: int = 10,
        figure: Any = None,
    ) -> Self:
        """Plot the largest entries of the components of a fitted estimator.

        Parameters
        ----------
        estimator : SNMF
            The fitted estimator.
        feature_names : sequence of str of shape (n_features,), default=None
            The names of the features. None takes ``feature_names_in_``, if the estimator has it.
        n_top : int, default=10
            Limits the number of features in a panel.
        figure : matplotlib Figure or SubFigure, default=None
            Where to plot. None makes a figure.

        Returns
        -------
        TopFeaturesDisplay

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        ValueError
            If feature_names do not go with the number of features, or if the estimator has no
            components in the space of X, or those of several levels.
        """
        components = components_of(estimator)
        if feature_names is None:
            feature_names = getattr(estimator, "feature_names_in_", None)
        display = cls(components, feature_names=feature_names, n_top=n_top)
        return display.plot(figure)

    def plot(self, figure: Any = None, **options: Any) -> Self:
        """Draw the bars.

        Parameters
        ----------
        figure : matplotlib Figure or SubFigure, default=None
            Where to plot. None makes a figure.
        **options
            Arguments for `matplotlib.axes.Axes.barh`.

        Returns
        -------
        self : TopFeaturesDisplay
        """
        H, k = self.components, len(self.components)
        order = np.argsort(-np.abs(H), axis=1, kind="stable")[:, : self.n_top]
        self.features_ = [best[h[best] != 0] for h, best in zip(H, order, strict=True)]
        names = self.feature_names or [str(j) for j in range(H.shape[1])]
        shown = [[shortened(names[j]) for j in features] for features in self.features_]
        across = min(k, 4)
        down = -(-k // across)
        room = 0.08 * max((len(name) for some in shown for name in some), default=0)
        size = across * (1.6 + room), down * (0.5 + 0.18 * self.n_top) + 0.4
        self.figure_ = figure = figure_of(figure, size)
        grid = figure.subplots(down, across, sharex=True, squeeze=False).ravel()
        self.axes_ = list(grid[:k])
        for j, (ax, features) in enumerate(zip(self.axes_, self.features_, strict=True)):
            entries = H[j, features]
            colours = [POSITIVE if entry > 0 else NEGATIVE for entry in entries]
            places = range(len(features))
            ax.barh(places, entries, **{"color": colours, **options})
            ax.set_yticks(places, shown[j], fontsize="small")
            ax.set_ylim(self.n_top - 0.4, -0.6)
            ax.tick_params(labelbottom=True)
            ax.axvline(0, color="0.2", linewidth=0.6)
            ax.set_title(f"component {j}", fontsize="medium")
        for ax in grid[k:]:
            ax.remove()
        figure.suptitle("Largest entries of each component")
        return self
