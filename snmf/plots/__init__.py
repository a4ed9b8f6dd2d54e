"""Pictures of a fitted model, as scikit-learn's displays: ``from_estimator``, then ``plot``.

They read fitted attributes only, and import matplotlib when they plot.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any, Self

import numpy as np
from scipy.sparse import issparse
from scipy.sparse.linalg import svds
from sklearn.utils.validation import check_is_fitted

__all__ = ["ComponentsDisplay", "ConvergenceDisplay", "SelectionDisplay", "WeightsDisplay"]

Array = Any
Axes = Any

MOST_NAMES = 60  # features whose names can be read side by side
MOST_ROWS = 1000  # of a map: more than a screen has lines for
GRAM = 4096  # the largest Gram matrix whose eigenvalues are taken
BLOCK_ROWS = 4096
ROUNDING = 1e-12
SEEN = 99.8  # percent of the entries that the colours tell apart


class ConvergenceDisplay:
    """The objective over the iterations, and the bound that none of that rank can pass.

    Parameters
    ----------
    loss_curve : array of shape (n_iter + 1,)
        The objective over ½‖X‖², before the first and after every iteration.
    bound : float, default=None
        The least value of any factorization of that rank: Σ_{i>k} σ_i² / Σ σ_i².
    name : str, default=None
        What the legend calls the curve.

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
        self.loss_curve = _vector(loss_curve, "loss_curve")
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
            Fitted.
        X : array-like or sparse matrix of shape (n_samples, n_features), default=None
            The data of the fit, for the SVD bound: one pass over its rows.
        name : str, default=None
            What the legend calls the curve. None is the name of the class.
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
            If X has not the shape of the data of the fit.
        """
        check_is_fitted(estimator, "loss_curve_")
        bound = None if X is None else svd_bound(_of_the_fit(X, estimator), estimator.n_components_)
        name = type(estimator).__name__ if name is None else name
        return cls(estimator.loss_curve_, bound=bound, name=name).plot(ax)

    def plot(self, ax: Axes = None, **options: Any) -> Self:
        """Draw it.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to plot. None makes a figure.
        **options
            For `matplotlib.axes.Axes.plot`.

        Returns
        -------
        self : ConvergenceDisplay
        """
        self.ax_ = ax = _axes(ax, (6.4, 4))
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
        ax.set_xlim(left=0)
        ax.xaxis.get_major_locator().set_params(integer=True)
        if len(ax.get_legend_handles_labels()[1]) > 1:
            ax.legend(loc="upper right")
        return self


def _zoom_towards(ax: Axes, bound: float, loss: np.ndarray) -> None:
    """A logarithmic axis for what is above the bound, with the bound itself at a finite place."""
    above = loss - bound
    top = float(above.max())
    if not top > ROUNDING:  # the bound from the start
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


def svd_bound(X: Array, k: int) -> float:
    """The least ‖X − X_k‖² / ‖X‖² of any X_k of rank k: from the singular values of X.

    Parameters
    ----------
    X : array or sparse matrix of shape (n_samples, n_features)
        Its rows are read in blocks, where there are more of them than columns.
    k : int

    Returns
    -------
    bound : float
        0 for X = 0.
    """
    n, p = X.shape
    if k >= min(n, p):
        return 0.0
    places = [slice(i, i + BLOCK_ROWS) for i in range(0, n, BLOCK_ROWS)]
    scale = max(float(abs(_block(X, rows)).max()) for rows in places)
    if scale == 0:
        return 0.0
    if p <= n and p <= GRAM:
        gram = sum(_dense(block.T @ block) for block in (_block(X, r) / scale for r in places))
        return _tail(np.linalg.eigvalsh(gram).clip(0), k)
    whole = _block(X, slice(None)) / scale
    if n <= GRAM:
        return _tail(np.linalg.eigvalsh(_dense(whole @ whole.T)).clip(0), k)
    squares = svds(whole, k, return_singular_vectors=False, v0=np.ones(min(n, p))) ** 2
    values = whole.data if issparse(whole) else whole.ravel()
    return max(0.0, 1 - float(squares.sum() / (values @ values)))


def _block(X: Array, rows: slice) -> Array:
    """Those rows in float64: NumPy, or SciPy sparse."""
    block = X[rows]
    return (block if issparse(block) else _on_host(block)).astype("float64")


def _tail(squares: np.ndarray, k: int) -> float:
    return float(squares[:-k].sum() / squares.sum())


def _dense(A: Array) -> np.ndarray:
    dense: np.ndarray = A.toarray() if issparse(A) else A
    return dense


class ComponentsDisplay:
    """The components: a heat map, or images, red where a part adds and blue where it takes away.

    Parameters
    ----------
    components : array of shape (n_components, n_features)
        H.
    feature_names : sequence of str of shape (n_features,), default=None
        What the columns are called. Where they are too many to be read, those that weigh most in
        each component are shown, component by component.
    image_shape : tuple of two int, default=None
        Draw every component as an image of so many rows and columns.

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
        self.components = _matrix(components, "components")
        p = self.components.shape[1]
        self.feature_names = None if feature_names is None else [str(f) for f in feature_names]
        if self.feature_names is not None and len(self.feature_names) != p:
            raise ValueError(
                f"feature_names must have {p} entries, one for every feature; "
                f"got {len(self.feature_names)}"
            )
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
            Fitted.
        feature_names : sequence of str of shape (n_features,), default=None
            None is ``feature_names_in_``, where the estimator has it.
        image_shape : tuple of two int, default=None
            Draw every component as an image of so many rows and columns.
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
            If the names or the shape are not for that number of features.
        """
        check_is_fitted(estimator, "components_")
        if feature_names is None:
            feature_names = getattr(estimator, "feature_names_in_", None)
        display = cls(estimator.components_, feature_names=feature_names, image_shape=image_shape)
        return display.plot(ax)

    def plot(self, ax: Axes = None, **options: Any) -> Self:
        """Draw it.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to plot. None makes a figure.
        **options
            For `matplotlib.axes.Axes.imshow`.

        Returns
        -------
        self : ComponentsDisplay
        """
        self.features_ = np.arange(self.components.shape[1])
        if self.image_shape is None and self.feature_names is not None:
            self.features_ = _strongest(self.components, MOST_NAMES)
        most, beyond = _seen(np.abs(self.components[:, self.features_]))
        options = {"cmap": "RdBu_r", "vmin": -most, "vmax": most, **options}
        draw = self._heat_map if self.image_shape is None else self._images
        draw(ax, {"interpolation": "nearest", **options})
        self.figure_ = self.ax_.figure
        self.colorbar_ = self.figure_.colorbar(
            self.image_, ax=self.ax_, label="H", extend="both" if beyond else "neither"
        )
        return self

    def _heat_map(self, ax: Axes, options: dict[str, Any]) -> None:
        k, p = self.components.shape
        shown = len(self.features_)
        names = (
            [_short(self.feature_names[j]) for j in self.features_] if self.feature_names else []
        )
        room = 0.08 * max(map(len, names), default=0)
        self.ax_ = ax = _axes(
            ax,
            (float(np.clip(2 + 0.2 * shown, 5, 12)), float(np.clip(0.25 * k, 1.6, 8)) + 0.8 + room),
        )
        self.image_ = ax.imshow(self.components[:, self.features_], aspect="auto", **options)
        _count(ax.yaxis, k)
        ax.set_ylabel("component")
        if not names:
            _count(ax.xaxis, p)
            ax.set_xlabel("feature")
            return
        ax.set_xticks(range(shown), names, rotation=90, fontsize="small" if shown > 25 else None)
        if shown < p:
            ax.set_xlabel(f"the {shown} features of {p} that weigh most in a component")

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
        self.ax_ = ax = _axes(ax, size)
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
    """All features if they are at most so many, or those of largest |h|, by component."""
    if H.shape[1] <= most:
        return np.arange(H.shape[1])
    each, rest = divmod(most, len(H))
    chosen: dict[int, None] = {}
    for i, h in enumerate(np.abs(H)):
        new = (int(j) for j in np.argsort(-h, kind="stable") if j not in chosen)
        chosen |= dict.fromkeys(islice(new, each + (i < rest)))
    return np.array(list(chosen))


class WeightsDisplay:
    """The weights as a map of membership: a row for every sample, sorted.

    Rows are sorted by the component that weighs most in them, then by that weight; with labels, by
    label first.

    Parameters
    ----------
    weights : array of shape (n_samples, n_components)
        W.
    labels : sequence of shape (n_samples,), default=None
        What the rows are known to be: groups of rows, named on the axis.
    max_rows : int, default=1000
        Of more rows every so-manieth is drawn, in the order of the map.

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
        self.weights = _matrix(weights, "weights")
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
        """Plot the weights that a fitted estimator gives to data.

        Parameters
        ----------
        estimator : SNMF
            Fitted.
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Its weights are ``estimator.transform(X)``.
        labels : sequence of shape (n_samples,), default=None
            What the rows are known to be.
        max_rows : int, default=1000
            Of more rows every so-manieth is drawn.
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
            If X or the labels have not the shape that they must have.
        """
        check_is_fitted(estimator, "components_")
        return cls(estimator.transform(X), labels=labels, max_rows=max_rows).plot(ax)

    def plot(self, ax: Axes = None, **options: Any) -> Self:
        """Draw it.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to plot. None makes a figure.
        **options
            For `matplotlib.axes.Axes.imshow`.

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
        self.ax_ = ax = _axes(ax, (float(np.clip(3 + 0.25 * k, 4, 10)), 5))
        self.figure_ = ax.figure
        most, beyond = _seen(W[W > 0])
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
        _count(ax.xaxis, k)
        thinned = "" if len(self.rows_) == n else f", {len(self.rows_)} of {n} shown"
        ax.set(xlabel="component", ylabel=f"rows of X, sorted{thinned}")
        if self.labels is not None:
            ends = np.cumsum(np.bincount(groups))
            middles = ends - np.bincount(groups) / 2
            ax.set_yticks(middles, [_short(str(name)) for name in names])
            for end in ends[:-1]:
                ax.axhline(end, color="0.2", linewidth=0.6)
        return self


class SelectionDisplay:
    """Held-out error against the number of components, with its spread.

    Parameters
    ----------
    k : array-like of int of shape (n_k,)
        The numbers of components tried.
    errors : array-like of shape (n_k, n_repeats)
        The held-out error of every repeat; shape (n_k,) is one repeat.
    stability : array-like of shape (n_k,), default=None
        How much the components of the repeats agree: a second axis.
    chosen : int, default=None
        The k that was chosen, which is marked.
    error_name : str, default="held-out error"
        The label of the axis.

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
        k = _vector(k, "k")
        errors = _on_host(errors)
        errors = _matrix(errors[:, None] if errors.ndim == 1 else errors, "errors")
        if len(errors) != len(k):
            raise ValueError(
                f"errors must have {len(k)} rows, one for every k; got shape {errors.shape}"
            )
        order = np.argsort(k)
        self.k, self.errors = k[order], errors[order]
        self.stability = None if stability is None else _vector(stability, "stability")
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
        """Draw it.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to plot. None makes a figure.
        **options
            For `matplotlib.axes.Axes.plot`, for the means.

        Returns
        -------
        self : SelectionDisplay
        """
        self.ax_ = ax = _axes(ax, (6.4, 4))
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
        if len(self.k) <= 20:
            ax.set_xticks(self.k, [f"{k:g}" for k in self.k])
        else:
            ax.xaxis.get_major_locator().set_params(integer=True)
        ax.legend(handles=handles, fontsize="small")
        return self


def _axes(ax: Axes, size: tuple[float, float]) -> Axes:
    if ax is not None:
        return ax
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install 'snmf[plots]'") from error
    return plt.subplots(figsize=size, layout="constrained")[1]


def _count(axis: Any, n: int) -> None:
    """Ticks at whole numbers: all of a few, some of many."""
    if n <= 20:
        axis.set_ticks(range(n))
    else:
        from matplotlib.ticker import MaxNLocator

        axis.set_major_locator(MaxNLocator(integer=True))


def _seen(values: np.ndarray) -> tuple[float, bool]:
    """The value at the end of the colours, and whether a few outliers are beyond."""
    largest = float(values.max(initial=0.0))
    most = float(np.percentile(values, SEEN)) if values.size else 0.0
    if 0 < most < largest / 1.5:
        return most, True
    return largest or 1.0, False


def _short(name: str) -> str:
    return name if len(name) <= 24 else f"{name[:23]}…"


def _on_host(A: Array) -> np.ndarray:
    """A of any library as a NumPy array."""
    if hasattr(A, "get") and hasattr(A, "device"):  # CuPy
        A = A.get()
    elif hasattr(A, "cpu"):  # PyTorch
        A = A.detach().cpu()
    return np.asarray(A)


def _matrix(A: Array, name: str) -> np.ndarray:
    return _checked(A, name, 2)


def _vector(A: Array, name: str) -> np.ndarray:
    return _checked(A, name, 1)


def _checked(values: Array, name: str, ndim: int) -> np.ndarray:
    A = _on_host(values)
    if A.ndim != ndim or not A.size:
        raise ValueError(f"{name} must be an array of {ndim} dimensions; got shape {A.shape}")
    if A.dtype.kind not in "biuf":
        raise ValueError(f"{name} must hold real numbers; got dtype {A.dtype}")
    if not np.isfinite(A).all():
        raise ValueError(f"{name} must be finite; got NaN or infinity")
    return A


def _of_the_fit(X: Array, estimator: Any) -> Array:
    if issparse(X):
        X = X.tocsr()
    elif not hasattr(X, "shape"):
        X = np.asarray(X)
    p = estimator.n_features_in_
    if len(X.shape) != 2 or X.shape[1] != p:
        raise ValueError(
            f"X must have {p} columns, as the data of the fit had; got the shape {tuple(X.shape)}"
        )
    return X
