"""The class `ConvergenceDisplay`: the objective against the iterations."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from snmf.plots.bound import svd_bound
from snmf.plots.drawing import axes_of, titled
from snmf.plots.given import check_is_one_fit, data_of_fit, vector

Array = Any
Axes = Any

ROUNDING = 1e-12


class ConvergenceDisplay:
    """The objective against the iterations, and the lowest value that rank k allows.

    Parameters
    ----------
    loss_curve : array of shape (n_iter + 1,)
        The objective divided by ½‖X‖², before the first and after every iteration.
    bound : float, default=None
        The lowest value of any factorization of rank k: Σ_{i>k} σ_i² / Σ σ_i². None draws no
        bound.
    name : str, default=None
        The name of the curve in the legend.

    Attributes
    ----------
    line_ : matplotlib Line2D
        The curve.
    bound_line_ : matplotlib Line2D or None
        The bound.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from snmf import SNMF, plots
    >>> X = load_digits().data - 8
    >>> model = SNMF(10, random_state=0).fit(X)
    >>> display = plots.ConvergenceDisplay.from_estimator(model, X)  # doctest: +SKIP
    """

    def __init__(
        self, loss_curve: Array, *, bound: float | None = None, name: str | None = None
    ) -> None:
        self.loss_curve = vector(loss_curve, "loss_curve")
        self.bound = bound
        self.name = name

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Array = None, *, name: str | None = None, ax: Axes = None
    ) -> Self:
        """Plot the convergence of a fitted estimator.

        Parameters
        ----------
        estimator : SNMF
            The fitted estimator.
        X : array-like or sparse matrix of shape (n_samples, n_features), default=None
            The data of the fit. With X the plot shows the SVD bound, which costs a pass over X.
        name : str, default=None
            The name of the curve in the legend. None is the name of the class.
        ax : matplotlib Axes, default=None
            Where to plot. None makes a figure.

        Returns
        -------
        ConvergenceDisplay

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        ValueError
            If X does not have the columns of the data of the fit, or has missing values, or the
            estimator has no loss curve, or several levels.
        """
        check_is_one_fit(estimator)
        if not hasattr(estimator, "loss_curve_"):
            raise ValueError(
                f"estimator must have a loss_curve_; this {type(estimator).__name__} has none. "
                "Mini-batches leave none, and of a hierarchy only the first level has one."
            )
        bound, centred = None, getattr(estimator, "fit_intercept", False)
        scale = getattr(estimator, "scale_", None)
        if X is not None:
            if getattr(estimator, "kernel", "linear") != "linear":
                raise ValueError(
                    "The SVD bound of X is no bound in the space of a kernel; got "
                    f"kernel={estimator.kernel!r}. Leave X out."
                )
            X, k = data_of_fit(X, estimator), estimator.n_components_
            bound = svd_bound(X, k, centred=centred, scale=scale)
        name = type(estimator).__name__ if name is None else name
        return cls(estimator.loss_curve_, bound=bound, name=name).plot(ax)

    def plot(self, ax: Axes = None, **options: Any) -> Self:
        """Draw the objective.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to plot. None makes a figure.
        **options
            Arguments for `matplotlib.axes.Axes.plot`.

        Returns
        -------
        self : ConvergenceDisplay
        """
        self.ax_ = ax = axes_of(ax, (6.4, 4))
        self.figure_ = ax.figure
        loss = self.loss_curve
        few = len(loss) < 3
        options = {"label": self.name, "marker": "o" if few else None, "clip_on": False, **options}
        (self.line_,) = ax.plot(np.arange(len(loss)), loss, **options)
        self.bound_line_ = None
        if self.bound is not None:
            label = f"SVD bound: {self.bound:.4g}"
            self.bound_line_ = ax.axhline(self.bound, color="black", ls="--", lw=1, label=label)
            _zoom_towards(ax, self.bound, loss)
        elif loss.min() > 0 and loss.max() > 10 * loss.min():
            ax.set_yscale("log")
        elif ax.get_yscale() == "linear":
            ax.ticklabel_format(axis="y", useOffset=False)
        ax.set(xlabel="iteration", ylabel="objective / ½‖X‖²")
        titled(ax, "Convergence")
        ax.set_xlim(left=0)
        ax.xaxis.get_major_locator().set_params(integer=True)
        if len(ax.get_legend_handles_labels()[1]) > 1:
            ax.legend(loc="upper right")
        return self


def _zoom_towards(ax: Axes, bound: float, loss: np.ndarray) -> None:
    """Make the y axis logarithmic in the distance to the bound, and keep the bound visible."""
    above = loss - bound
    top = float(above.max())
    if not top > ROUNDING:  # the curve is at the bound from the start
        return
    unit = max(float(above.min()), 1e-6 * top, ROUNDING) / 2
    ax.set_yscale(
        "function",
        functions=(
            lambda y: np.log(np.maximum(np.asarray(y) - bound, -0.9 * unit) + unit),
            lambda t: np.exp(np.asarray(t)) - unit + bound,
        ),
    )
    decades = 10.0 ** np.arange(np.floor(np.log10(unit)), np.log10(top) + 1)
    fine = (1, 2, 5) if top < 100 * unit else (1,)
    steps = [m * d for d in decades for m in fine if unit <= m * d <= top]
    ax.set_yticks([bound, *(bound + step for step in steps)])
    ax.set_yticklabels([f"{bound:.4g}", *(f"+ {step:.9g}" for step in steps)])
    ax.minorticks_off()
    ax.set_ylim(bound - 0.25 * unit, bound + 1.2 * top)
