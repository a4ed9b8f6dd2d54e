"""The choice of the number of components: `select_n_components`, and n_components="auto".

Both compare the error in held-out entries of X, and both choose by `supported`. They differ in the
numbers that they compare. `select_n_components` can also compare how stable the result is over
restarts.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, Unpack

import numpy as np
from joblib import Parallel, delayed
from scipy.sparse import issparse
from scipy.spatial.distance import squareform
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_array

from snmf import _advice
from snmf._arguments import OfManyFits, check_random_state, check_weights, is_whole
from snmf._data import Data
from snmf._factorize import Factorization, factorize
from snmf._html import table
from snmf._transform import exact_transform
from snmf.backends import adapter
from snmf.core.missing import observed
from snmf.core.options import RandomState
from snmf.storage.rows import taking_part
from snmf.storage.stored import Store

ROWS = 1000  # the most rows for the stability
SAMPLE = 5000  # the most rows for "auto"
HELD_OUT = 0.2
REPEATS = 3
FIT = {"solver": "hals", "progress_bar": False}  # the defaults of all fits here
OF_THE_MODEL = ("fit_intercept", "scale", "n_nonzero_features", "positive_components")
LEAST_ERROR = {"sparsity": 0.0, "init": "svd"}  # the defaults of fits that are to predict


@dataclass(frozen=True, repr=False)
class Selection:
    """The result of `select_n_components`: errors and stability by number of components.

    Attributes
    ----------
    n_components : ndarray of shape (m,)
        The numbers of components.
    errors : ndarray of shape (m, repeats)
        ‖X − W H‖ / ‖X‖ over the held-out entries, for every repeat.
    stability : ndarray of shape (m,) or None
        The cophenetic correlation of the consensus of the restarts, at most 1. None if it was not
        computed.
    best : int or None
        The number of components that the errors support, or None if they support none. It is the
        smallest number whose mean error is above the lowest by at most the standard error of the
        difference. Without components the error is 1, and a number counts only if it is less than
        min(n_samples, n_features).
    """

    n_components: np.ndarray
    errors: np.ndarray
    stability: np.ndarray | None
    best: int | None

    def __str__(self) -> str:
        rows = [self._head(), *self._cells()]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = (
            "   ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True))
            for row in rows
        )
        return "\n".join(line.rstrip() for line in [*lines, *self._notes()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return table(self._head(), self._cells(), *self._notes())

    def _head(self) -> list[str]:
        stability = [] if self.stability is None else ["stability"]
        return ["components", "held-out error", *stability, ""]

    def _cells(self) -> list[list[str]]:
        return [
            [
                str(k),
                f"{errors.mean():.4f} ± {errors.std():.4f}",
                *([] if self.stability is None else [f"{self.stability[i]:.4f}"]),
                "best" if k == self.best else "",
            ]
            for i, (k, errors) in enumerate(zip(self.n_components, self.errors, strict=True))
        ]

    def _notes(self) -> list[str]:
        if self.best is not None:
            return []
        return ["No number of components is supported: no components predict as well."]

    def plot(self, ax: Any = None) -> Any:
        """Plot the held-out error against the number of components.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to plot. None makes a figure.

        Returns
        -------
        snmf.plots.SelectionDisplay
        """
        from snmf.plots import SelectionDisplay

        return SelectionDisplay(
            self.n_components, self.errors, stability=self.stability, chosen=self.best
        ).plot(ax=ax)


def select_n_components(
    X: Any,
    n_components: Iterable[int],
    *,
    held_out: float = HELD_OUT,
    repeats: int = REPEATS,
    restarts: int = 0,
    random_state: RandomState = None,
    n_jobs: int | None = None,
    **parameters: Unpack[OfManyFits],
) -> Selection:
    """Compare numbers of components by the error in held-out entries of X.

    Some rows are left out of a fit, and some of their columns are predicted from the others. This
    is bi-cross-validation [1]_. The attribute `best` of the result is the number to take.

    Parameters
    ----------
    X : array-like or sparse matrix of shape (n_samples, n_features)
        The data, in memory. A sparse matrix may lie on disk; it is then read into memory. NaN is
        a missing value.
    n_components : iterable of int
        The numbers to compare.
    held_out : float, default=0.2
        Sets the share of the rows that is held out, and the share of the columns that is
        predicted at a time. With 0.2, H is fitted to four fifths of the rows. Each fifth of the
        columns of the other rows is then predicted with weights from the other four.
    repeats : int, default=3
        Sets the number of random draws of rows and columns. Each draw makes one fit for every
        number of components.
    restarts : int, default=0
        Computes the stability too [2]_, from 2 or more restarts, which are further fits. Two rows
        are close if many restarts give them their largest weight in the same component. The
        stability says how well a tree of average linkage keeps these distances, over at most
        1000 rows. 0 leaves the stability out.
    random_state : int, RandomState or Generator instance, or None, default=None
        Seeds the draws and the fits.
    n_jobs : int, default=None
        Sets how many fits run at a time, each in a process. −1 takes all cores.
    **parameters
        Any parameter of `SNMF`, for every fit. The default of `solver` is "hals" here. For the
        errors the defaults of `sparsity` and `init` are 0 and "svd", which come closest to X. With
        a penalty the error goes on falling after all components are found, since more of them
        make up for what it takes away.

    Returns
    -------
    Selection
        The errors and the best number, as its attribute `best`: an int, or None if the data
        support no number. Print it for a table; call its `plot` for a figure.

    Raises
    ------
    ValueError
        If X or a parameter is invalid.

    Notes
    -----
    The errors count whatever columns share. Noise that is correlated over columns counts as
    components as well. Components whose signal is weaker than the noise are not counted. If the
    mean of X was subtracted, the best number may be one larger, unless `fit_intercept` is true;
    errors are then relative to those of the mean. More components than columns cannot be told from
    noise.

    References
    ----------
    .. [1] A. B. Owen, P. O. Perry, "Bi-cross-validation of the SVD and the nonnegative matrix
       factorization", Annals of Applied Statistics 3(2), 2009.
    .. [2] J.-P. Brunet, P. Tamayo, T. R. Golub, J. P. Mesirov, "Metagenes and molecular pattern
       discovery using matrix factorization", PNAS 101(12), 2004.

    Examples
    --------
    >>> import numpy as np, snmf
    >>> rng = np.random.default_rng(0)
    >>> X = rng.random((200, 3)) @ rng.normal(size=(3, 20)) + 0.1 * rng.normal(size=(200, 20))
    >>> snmf.select_n_components(X, range(1, 6), random_state=0).best
    3
    """
    data = Data.of(X).X
    if isinstance(data, Store) and data.sparse:
        data = data.read(slice(0, len(data)))
    if not isinstance(data, np.ndarray) and not issparse(data):
        raise ValueError(
            "X must be an array in memory, on the host, or a sparse matrix; got a "
            f"{type(X).__qualname__}"
        )
    X = check_array(data, accept_sparse="csr", ensure_all_finite="allow-nan", input_name="X")
    numbers = list(n_components)
    if not numbers or not all(is_whole(k, 1) for k in numbers):
        raise ValueError(f"n_components must be positive whole numbers; got {numbers}")
    if not 0 < held_out < 1:
        raise ValueError(f"held_out must be above 0 and below 1; got {held_out}")
    if not is_whole(repeats, 1):
        raise ValueError(f"repeats must be a positive whole number; got {repeats!r}")
    if restarts == 1:
        raise ValueError("restarts must be 0, or at least 2, since stability compares them; got 1")
    if not is_whole(restarts, 0):
        raise ValueError(f"restarts must be 0, or a whole number from 2; got {restarts!r}")
    rng = check_random_state(random_state)
    seeds = rng.randint(2**31 - 1, size=max(repeats, restarts))
    settings = {**FIT, **parameters}
    with Parallel(n_jobs=n_jobs) as parallel:
        errors = parallel(
            delayed(held_out_error)(X, int(k), held_out, int(seed), {**LEAST_ERROR, **settings})
            for k in numbers
            for seed in seeds[:repeats]
        )
        labels = parallel(
            delayed(_labels)(X, int(k), int(seed), settings)
            for k in numbers
            for seed in seeds[:restarts]
        )
    table = np.array(errors).reshape(len(numbers), repeats)
    stability = None
    if restarts:
        runs = np.array(labels).reshape(len(numbers), restarts, -1)
        stability = np.array([_cophenetic(of_k) for of_k in runs])
    order = np.argsort(numbers, kind="stable")
    counts = np.array(numbers)[order]
    table, stability = table[order], None if stability is None else stability[order]
    return Selection(counts, table, stability, supported(counts, table, min(X.shape) - 1) or None)


def n_components_of(data: Data, parameters: dict[str, Any]) -> int:
    """The number of components for data, where n_components is "auto"."""
    if parameters["locality"]:
        raise ValueError(
            "n_components='auto' has no meaning with locality. Set n_components to a number."
        )
    if parameters["init"] == "custom":
        raise ValueError(
            "n_components='auto' cannot use a custom start; got init='custom'. Set n_components "
            "to a number, or choose another init."
        )
    seeds = check_random_state(parameters["random_state"]).randint(2**31 - 1, size=REPEATS)
    D, _ = check_weights(parameters.get("sample_weight"), data.shape[0])
    rows, D, _ = taking_part(
        data.owner.rows(data.X), D, missing=parameters["missing_values"] is not None
    )
    some = _sampled_rows(len(rows), int(seeds[0]))
    weights = None if D is None else D[some, 0]
    same = {name: parameters[name] for name in OF_THE_MODEL}
    k = _automatic(rows.take(some), seeds, weights, same)
    _advice.warn(_advice.of_choice(k))
    return max(k, 1)


def _sampled_rows(n_samples: int, seed: int) -> np.ndarray:
    """The rows that `automatic` is to see."""
    return np.sort(np.random.default_rng(seed).permutation(n_samples)[:SAMPLE])


def _automatic(
    X: Any, seeds: np.ndarray, weights: np.ndarray | None, parameters: dict[str, Any]
) -> int:
    """Return the number of components that X supports, or 0, from about 3 log₂ k numbers.

    The search increases k by a half until the mean error has risen twice. It then narrows the
    interval around the lowest error from both sides.
    """
    settings = {**FIT, **LEAST_ERROR, **parameters}
    most = max(1, min(X.shape) - 1)

    @cache
    def errors(k: int) -> list[float]:
        return [held_out_error(X, k, HELD_OUT, int(seed), settings, weights) for seed in seeds]

    @cache
    def error(k: int) -> float:
        return float(np.mean(errors(k)))

    tried = [1]
    while tried[-1] < most and not _has_risen_twice([error(k) for k in tried]):
        tried.append(min(most, max(tried[-1] + 1, round(1.5 * tried[-1]))))
    best = min(tried, key=error)
    low = max((k for k in tried if k < best), default=best)
    high = min((k for k in tried if k > best), default=best)
    while inside := [
        k for k in ((low + best) // 2, (best + high + 1) // 2) if low < k < high and k != best
    ]:
        tried += inside
        new = min(inside, key=error)
        if error(new) < error(best):
            low, best, high = (low, new, best) if new < best else (best, new, high)
        else:
            low = max([low, *(k for k in inside if k < best)])
            high = min([high, *(k for k in inside if k > best)])
    numbers = np.array(sorted(set(tried)))
    return supported(numbers, np.array([errors(int(k)) for k in numbers]), min(X.shape) - 1)


def _has_risen_twice(errors: list[float]) -> bool:
    return len(errors) > 2 and errors[-1] > errors[-2] > errors[-3]


def supported(numbers: np.ndarray, errors: np.ndarray, most: int) -> int:
    """Return the number of components that held-out errors support, or 0: the rule of this module.

    It is the smallest number whose mean error exceeds the lowest mean by at most the standard
    error of the difference over repeats. The number 0 has the error 1.

    Parameters
    ----------
    numbers : ndarray of shape (m,)
        The numbers of components, increasing.
    errors : ndarray of shape (m, repeats)
        The relative errors.
    most : int
        The largest number that may be chosen. One more component than this, and X is fitted
        exactly.
    """
    allowed = numbers <= most
    numbers = np.append(0, numbers[allowed])
    errors = np.vstack([np.ones(errors.shape[1]), errors[allowed]])
    above = errors - errors[np.argmin(errors.mean(axis=1))]
    repeats = errors.shape[1]
    spread = above.std(axis=1, ddof=1) / repeats**0.5 if repeats > 1 else 0.0
    return int(numbers[np.argmax(above.mean(axis=1) <= spread)])


def held_out_error(
    X: Any,
    k: int,
    held_out: float,
    seed: int,
    parameters: dict[str, Any],
    weights: np.ndarray | None = None,
) -> float:
    """Return the relative error of predicted entries of rows that the fit has not seen.

    Every part of the columns of these rows is predicted from the other parts. The error is 1 if
    there is nothing to predict, or nothing to predict it from.
    """
    n, p = X.shape
    rng = np.random.default_rng(seed)
    order, parts = rng.permutation(n), max(2, round(1 / held_out))
    part = rng.permutation(p) % min(p, parts)
    test, train = np.split(order, [min(n - 1, max(1, round(held_out * n)))])
    if min(n, p) < 2:
        return 1.0
    missing = np.nan if _has_nan(X) else None
    settings = {"random_state": seed, **parameters, "missing_values": missing}
    D = None if weights is None else weights[train]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # what it says of H does not matter
        fit = factorize(X[train], k, sample_weight=D, **settings)
    if fit.scale is not None:
        X = X.multiply(1 / fit.scale).tocsr() if issparse(X) else X / fit.scale
    truth = X[test].astype("float64")
    entries = truth.data if issparse(truth) else truth
    unit = float(np.nanmax(np.abs(entries), initial=0)) or 1.0
    roots = np.ones(len(test)) if weights is None else np.sqrt(weights[test])
    mean = None if fit.intercept is None else _mean(X[train], D)
    left = whole = 0.0
    for j in range(part.max() + 1):
        seen = part != j
        W = _weights_from(truth[:, seen], seen, fit, settings)
        hidden, W, H = truth[:, ~seen] / unit, W / unit, fit.H[:, ~seen].astype("float64")
        intercept = None if fit.intercept is None else fit.intercept[~seen] / unit
        left += _square(hidden, W, H, intercept, roots)
        without = None if mean is None else mean[~seen] / unit
        whole += _square(hidden, 0 * W, H, without, roots)
    return float(np.sqrt(left / whole)) if whole else 1.0


def _has_nan(X: Any) -> bool:
    return bool(np.isnan(X.data if issparse(X) else X).any())


def _mean(X: Any, weights: np.ndarray | None) -> np.ndarray:
    """Return the weighted mean of the rows, of each column over its observed entries."""
    rows = adapter("numpy").rows(X)
    return observed(rows, None if weights is None else rows.split(weights[:, None])).means


def _square(
    X: Any, W: np.ndarray, H: np.ndarray, intercept: np.ndarray | None, roots: np.ndarray
) -> float:
    """Return the weighted ‖X − 1 mᵀ − W H‖² over the observed entries; X may be sparse."""
    if intercept is not None:
        W, H = np.column_stack([W, np.ones(len(W))]), np.vstack([H, intercept])
    if not issparse(X):
        return float(np.nansum((roots[:, None] * (X - W @ H)) ** 2))
    X = adapter("numpy").filled(X, W, H)  # a missing entry then has no error
    X, W = X.multiply(roots[:, None]).tocsr(), roots[:, None] * W
    square = X.multiply(X).sum() - 2 * np.sum((X.T @ W).T * H) + np.sum((W.T @ W) * (H @ H.T))
    return max(0.0, float(square))


def _weights_from(
    X: Any, seen: np.ndarray, fit: Factorization, settings: dict[str, Any]
) -> np.ndarray:
    """Return the weights of rows of which these columns are seen."""
    unit = seen.mean() ** 0.5  # their squared error then counts as that of all columns
    of_fit = {"backend": "auto", "device": None, "n_jobs": None, "locality": 0.0, **settings}
    names = ("backend", "device", "n_jobs", "locality", "missing_values")
    found = exact_transform(
        Data.of(X / unit),
        np.asarray(fit.H[:, seen], dtype="float64") / unit,
        fit.penalty,
        intercept=None if fit.intercept is None else fit.intercept[seen] / unit,
        rms=fit.rms,
        **{name: of_fit[name] for name in names},
    )
    return np.asarray(found.W)


def _labels(X: Any, k: int, seed: int, parameters: dict[str, Any]) -> np.ndarray:
    """Return the component with the largest weight, for at most `ROWS` rows."""
    missing = {"missing_values": np.nan} if _has_nan(X) else {}
    W = factorize(X, k, **{"random_state": seed, **missing, **parameters}).W
    some = np.random.default_rng(0).permutation(len(W))[:ROWS]
    labels: np.ndarray = W[some].argmax(axis=1)
    return labels


def _cophenetic(labels: np.ndarray) -> float:
    """Return the cophenetic correlation of the consensus of labels of shape (restarts, rows)."""
    from scipy.cluster.hierarchy import cophenet, linkage  # every import of SNMF would pay for it

    together = np.mean(labels[:, :, None] == labels[:, None, :], axis=0)
    distances = squareform(1 - together, checks=False)
    if np.ptp(distances) == 0:
        return 1.0  # one cluster, or each row for itself, every time
    return float(cophenet(linkage(distances, "average"), distances)[0])
