"""The class `SelectionDisplay`: the held-out error against the number of components."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from snmf.plots.drawing import axes_of, points_of, spaced, titled
from snmf.plots.given import matrix, on_host, vector

Array = Any
Axes = Any

LABEL_POINTS = 24  # the width of a number


class SelectionDisplay:
    """The held-out error against the number of components, with its spread.

    Parameters
    ----------
    k : array-like of int of shape (n_k,)
        The numbers of components.
    errors : array-like of shape (n_k, n_repeats)
        The held-out error of every repeat. Shape (n_k,) is one repeat.
    stability : array-like of shape (n_k,), default=None
        The stability over restarts, drawn on a second axis.
    chosen : int, default=None
        The chosen number of components, marked by a line.
    error_name : str, default="held-out error"
        The label of the error axis.

    Attributes
    ----------
    line_ : matplotlib Line2D
        The means.
    ax_ : matplotlib Axes
    stability_ax_ : matplotlib Axes or None
    figure_ : matplotlib Figure

    Examples
    --------
    >>> from snmf import plots
    >>> display = plots.SelectionDisplay([2, 3, 4], [[3.0, 3.2], [1.1, 1.0], [1.2, 1.3]], chosen=3)
    >>> display.plot()  # doctest: +SKIP
    """

    def __init__(
        self,
        k: Array,
        errors: Array,
        *,
        stability: Array = None,
        chosen: int | None = None,
        error_name: str = "held-out error",
    ) -> None:
        k = vector(k, "k")
        errors = on_host(errors)
        errors = matrix(errors[:, None] if errors.ndim == 1 else errors, "errors")
        if len(errors) != len(k):
            raise ValueError(
                f"errors must have {len(k)} rows, one for every k; got shape {errors.shape}"
            )
        order = np.argsort(k)
        self.k, self.errors = k[order], errors[order]
        self.stability = None if stability is None else vector(stability, "stability")
        if self.stability is not None:
            if len(self.stability) != len(k):
                raise ValueError(
                    f"stability must have {len(k)} entries, one for every k; "
                    f"got {len(self.stability)}"
                )
            self.stability = self.stability[order]
        if chosen is not None and chosen not in k:
            raise ValueError(f"chosen must be one of k, {k.tolist()}; got {chosen}")
        self.chosen = chosen
        self.error_name = error_name

    def plot(self, ax: Axes = None, **options: Any) -> Self:
        """Draw the errors.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to plot. None makes a figure.
        **options
            Arguments for `matplotlib.axes.Axes.plot`, which draws the means.

        Returns
        -------
        self : SelectionDisplay
        """
        self.ax_ = ax = axes_of(ax, (6.4, 4))
        self.figure_ = ax.figure
        mean, spread = self.errors.mean(axis=1), self.errors.std(axis=1)
        options = {"marker": "o", "label": self.error_name, **options}
        (self.line_,) = ax.plot(self.k, mean, **options)
        handles = [self.line_]
        if self.errors.shape[1] > 1:
            color = self.line_.get_color()
            label = f"± one deviation of {self.errors.shape[1]} repeats"
            handles.append(
                ax.fill_between(
                    self.k, mean - spread, mean + spread, color=color, alpha=0.2, label=label, lw=0
                )
            )
        if self.chosen is not None:
            label = f"chosen: k = {self.chosen}"
            handles.append(ax.axvline(self.chosen, color="black", ls="--", lw=1, label=label))
        self.stability_ax_ = None
        if self.stability is not None:
            self.stability_ax_ = other = ax.twinx()
            style = {"color": "tab:orange", "marker": "s", "markersize": 4, "label": "stability"}
            handles += other.plot(self.k, self.stability, **style)
            other.set(ylabel="stability", ylim=(min(0, self.stability.min()), None))
        ax.set(xlabel="number of components k", ylabel=self.error_name)
        some = spaced(self.k, points_of(ax)[0], np.ptp(self.k) or 1, LABEL_POINTS)
        ax.set_xticks(self.k[some], [f"{k:g}" for k in self.k[some]])
        titled(ax, "Number of components")
        ax.legend(handles=handles, fontsize="small")
        return self
