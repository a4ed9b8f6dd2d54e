"""The class `ComponentsDisplay`: the rows of H as a heat map, or as images."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any, Self

import numpy as np

from snmf.plots.drawing import (
    axes_of,
    count_ticks,
    end_of_colours,
    points_of,
    shortened,
    titled,
)
from snmf.plots.given import components_of, matrix, names_of

Array = Any
Axes = Any

MOST_NAMES = 60  # the most feature names that fit on the axis of a figure of our own
NAME_POINTS, BAR_POINTS = 10, 60  # the height of a name; what the colour bar takes from the axes


class ComponentsDisplay:
    """The components as a heat map or as images; red is positive, blue is negative.

    Parameters
    ----------
    components : array of shape (n_components, n_features)
        The components H.
    feature_names : sequence of str of shape (n_features,), default=None
        The names of the features. If they are more than 60, or more than there is room for, the
        plot shows the features with the largest entries of each component, component by component.
    image_shape : tuple of two int, default=None
        Draws every component as an image of this height and width.

    Attributes
    ----------
    image_ : matplotlib AxesImage
    features_ : ndarray of int
        The features shown, from left to right.
    colorbar_ : matplotlib Colorbar
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from snmf import SNMF, plots
    >>> model = SNMF(10, random_state=0).fit(load_digits().data - 8)
    >>> plots.ComponentsDisplay.from_estimator(model, image_shape=(8, 8))  # doctest: +SKIP
    """

    def __init__(
        self,
        components: Array,
        *,
        feature_names: Sequence[str] | None = None,
        image_shape: tuple[int, int] | None = None,
    ) -> None:
        self.components = matrix(components, "components")
        p = self.components.shape[1]
        self.feature_names = names_of(feature_names, p)
        self.image_shape = None if image_shape is None else tuple(image_shape)
        if self.image_shape is not None and (
            len(self.image_shape) != 2 or np.prod(self.image_shape) != p
        ):
            raise ValueError(
                f"image_shape must be (height, width), of {p} pixels, one for every feature; "
                f"got {image_shape}"
            )

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        feature_names: Sequence[str] | None = None,
        image_shape: tuple[int, int] | None = None,
        ax: Axes = None,
    ) -> Self:
        """Plot the components of a fitted estimator.

        Parameters
        ----------
        estimator : SNMF
            The fitted estimator.
        feature_names : sequence of str of shape (n_features,), default=None
            The names of the features. None takes ``feature_names_in_``, if the estimator has it.
        image_shape : tuple of two int, default=None
            Draws every component as an image of this height and width.
        ax : matplotlib Axes, default=None
            Where to plot. None makes a figure.

        Returns
        -------
        ComponentsDisplay

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        ValueError
            If feature_names or image_shape do not go with the number of features, or if the
            estimator has no components in the space of X, or those of several levels.
        """
        components = components_of(estimator)
        if feature_names is None:
            feature_names = getattr(estimator, "feature_names_in_", None)
        display = cls(components, feature_names=feature_names, image_shape=image_shape)
        return display.plot(ax)

    def plot(self, ax: Axes = None, **options: Any) -> Self:
        """Draw the components.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to plot. None makes a figure.
        **options
            Arguments for `matplotlib.axes.Axes.imshow`.

        Returns
        -------
        self : ComponentsDisplay
        """
        self.features_ = np.arange(self.components.shape[1])
        if self.image_shape is None and self.feature_names is not None:
            room = MOST_NAMES if ax is None else int((points_of(ax)[0] - BAR_POINTS) / NAME_POINTS)
            self.features_ = _strongest(self.components, max(1, min(MOST_NAMES, room)))
        most, beyond = end_of_colours(np.abs(self.components[:, self.features_]))
        options = {"cmap": "RdBu_r", "vmin": -most, "vmax": most, **options}
        draw = self._heat_map if self.image_shape is None else self._images
        draw(ax, {"interpolation": "nearest", **options})
        self.figure_ = self.ax_.figure
        self.colorbar_ = self.figure_.colorbar(
            self.image_, ax=self.ax_, label="H", extend="both" if beyond else "neither"
        )
        titled(self.ax_, "Components (rows of H)")
        return self

    def _heat_map(self, ax: Axes, options: dict[str, Any]) -> None:
        k, p = self.components.shape
        shown = len(self.features_)
        names = (
            [shortened(self.feature_names[j]) for j in self.features_] if self.feature_names else []
        )
        room = 0.08 * max(map(len, names), default=0)
        self.ax_ = ax = axes_of(
            ax,
            (float(np.clip(2 + 0.2 * shown, 5, 12)), float(np.clip(0.25 * k, 1.6, 8)) + 0.8 + room),
        )
        self.image_ = ax.imshow(self.components[:, self.features_], aspect="auto", **options)
        count_ticks(ax.yaxis, k)
        ax.set_ylabel("component")
        if not names:
            count_ticks(ax.xaxis, p)
            ax.set_xlabel("feature")
            return
        ax.set_xticks(range(shown), names, rotation=90, fontsize="small")
        if shown < p:
            ax.set_xlabel(f"{shown} features of {p}, by largest entry")

    def _images(self, ax: Axes, options: dict[str, Any]) -> None:
        assert self.image_shape is not None
        (height, width), k = self.image_shape, len(self.components)
        across = int(np.ceil(np.sqrt(k * height / width * 1.6)))
        across = min(max(across, 1), k)
        down = -(-k // across)
        top, side = max(1, round(0.3 * height)), max(1, round(0.12 * width))
        sheet = np.full((down * (height + top), across * (width + side) - side), np.nan)
        inches = np.clip(6 / across, 1, 2) / max(width + side, height + top)
        size = (sheet.shape[1] * inches + 1.2, sheet.shape[0] * inches + 0.3)
        self.ax_ = ax = axes_of(ax, size)
        for j, h in enumerate(self.components):
            row, column = j // across * (height + top) + top, j % across * (width + side)
            sheet[row : row + height, column : column + width] = h.reshape(height, width)
            edges = column - 0.5, row - 0.5
            ax.add_patch(_frame(edges, width, height))
            ax.annotate(
                str(j), edges, xytext=(0, 1), textcoords="offset points", fontsize=8, va="bottom"
            )
        self.image_ = ax.imshow(sheet, **options)
        ax.set_axis_off()


def _frame(corner: tuple[float, float], width: int, height: int) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle(corner, width, height, fill=False, edgecolor="0.8", linewidth=0.5)


def _strongest(H: np.ndarray, most: int) -> np.ndarray:
    """Return the indices of at most `most` features: those with the largest |h|, by component."""
    if H.shape[1] <= most:
        return np.arange(H.shape[1])
    each, rest = divmod(most, len(H))
    chosen: dict[int, None] = {}
    for i, h in enumerate(np.abs(H)):
        new = (int(j) for j in np.argsort(-h, kind="stable") if j not in chosen)
        chosen |= dict.fromkeys(islice(new, each + (i < rest)))
    return np.array(list(chosen))
