"""The agreement of fits: `align` matches two sets of components, `stability` compares many fits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import combinations
from typing import Any, Unpack

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.base import BaseEstimator, clone
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from snmf._arguments import (
    OfThreadedFits,
    check_random_state,
    check_scale,
    check_weights,
    is_whole,
)
from snmf._data import Data
from snmf._estimator import SNMF
from snmf._factorize import Factorization
from snmf._fitted import FittedComponents
from snmf._html import table
from snmf.backends import choose, owner
from snmf.core.deviations import divisors
from snmf.core.options import DRAWN, Options, RandomState
from snmf.core.start import unit_rows
from snmf.storage.rows import taking_part

Array = Any

SAME_SCALE = 1e-6  # the relative difference of scales that are equal: rounding of float32
NOT_TAKEN = ("n_components", "random_state", "checkpoint", "checkpoint_interval", "warm_start")


@dataclass(frozen=True, eq=False, repr=False)
class Alignment:
    """The components of A in the order of those of B: the result of `align`.

    Attributes
    ----------
    indices : ndarray of int, of shape (k_b,)
        The component of A that is matched with each component of B. −1 if A has too few.
    cosines : ndarray of shape (k_b,)
        The cosines of these pairs. NaN where there is no pair.
    components : ndarray of shape (k_b, n_features)
        The components of A in the order of B. NaN where there is no pair.
    unmatched : ndarray of int
        The components of A without a pair, if A has more than B.
    """

    indices: np.ndarray
    cosines: np.ndarray
    components: np.ndarray
    unmatched: np.ndarray

    @property
    def mean(self) -> float:
        """The mean cosine of the pairs."""
        return float(np.nanmean(self.cosines))

    def __str__(self) -> str:
        lines = (f"{j:>4} {i:>4}   {c:>7}".rstrip() for j, i, c in self._cells())
        return "\n".join(["of B of A    cosine", *lines, *self._summary()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return table(("of B", "of A", "cosine"), self._cells(), "; ".join(self._summary()))

    def _cells(self) -> list[tuple[str, str, str]]:
        return [
            (str(j), str(i), f"{c:.4f}") if i >= 0 else (str(j), "", "")
            for j, (i, c) in enumerate(zip(self.indices, self.cosines, strict=True))
        ]

    def _summary(self) -> list[str]:
        mean = f"mean cosine {self.mean:.4f}"
        if not len(self.unmatched):
            return [mean]
        return [mean, "of A without a pair: " + ", ".join(map(str, self.unmatched))]


def align(A: Any, B: Any) -> Alignment:
    """Match the components of two fits, and bring those of A into the order of B.

    The pairs are those with the largest sum of cosines [1]_. A component and its negative are
    different, since weights are nonnegative: their cosine is −1, and they match only if nothing
    else is left. A component of zeros has cosine 0 to all.

    Parameters
    ----------
    A, B : array-like of shape (k_a, n_features) and (k_b, n_features), or fits
        The components: arrays of any library, fitted estimators, or results of `factorize`. With
        `scale`, both fits must have divided the columns by the same numbers.

    Returns
    -------
    Alignment
        The pairs, their cosines, and A in the order of B, as NumPy arrays. Print it for a table.

    Raises
    ------
    ValueError
        If A or B is no matrix of finite numbers, or they have different numbers of features, or
        they are fits with different scales.
    sklearn.exceptions.NotFittedError
        If an estimator is not fitted.

    References
    ----------
    .. [1] H. W. Kuhn, "The Hungarian method for the assignment problem", Naval Research Logistics
       Quarterly 2(1–2), 1955.

    Examples
    --------
    >>> import numpy as np, snmf
    >>> B = np.array([[1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 1.0]])
    >>> A = 2 * B[[2, 0, 1]] + 0.1
    >>> found = snmf.align(A, B)
    >>> found.indices
    array([1, 2, 0])
    >>> found
    of B of A    cosine
       0    1    0.9977
       1    2    0.9972
       2    0    0.9977
    mean cosine 0.9976
    """
    first, second = components_of(A, "A"), components_of(B, "B")
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            "A and B must have the same number of features (columns); got "
            f"{first.shape[1]} and {second.shape[1]}"
        )
    check_same_scale({"A": scale_of(A), "B": scale_of(B)})
    cosines = np.clip(unit_rows(first)[0] @ unit_rows(second)[0].T, -1, 1)
    rows, columns = linear_sum_assignment(cosines, maximize=True)
    k = len(second)
    indices, matched = np.full(k, -1), np.full(k, np.nan)
    indices[columns], matched[columns] = rows, cosines[rows, columns]
    ordered = np.where((indices >= 0)[:, None], first[indices], np.nan)
    return Alignment(indices, matched, ordered, np.setdiff1d(np.arange(len(first)), rows))


def components_of(A: Any, name: str) -> np.ndarray:
    """Return the components of an array or a fit, as a float64 array of the host."""
    if isinstance(A, Factorization):
        A = A.H
    elif hasattr(A, "components_"):
        A = A.components_
    elif isinstance(A, BaseEstimator):
        check_is_fitted(A)
        has_none = f"{name} must have components; {type(A).__name__} has no components_"
        kernel = getattr(A, "kernel", "linear")
        advice = "" if kernel == "linear" else f" with kernel={kernel!r}. Set kernel='linear'."
        raise ValueError(has_none + advice)
    source = owner(A)
    host: np.ndarray = check_array(source.to_host(A), dtype="float64", input_name=name)
    return host


def scale_of(A: Any) -> np.ndarray | None:
    """Return what a fit divided the columns by; None for an array, which goes with any fit."""
    if not isinstance(A, Factorization) and not hasattr(A, "scale_"):
        return None
    scale = A.scale if isinstance(A, Factorization) else A.scale_
    host: np.ndarray = np.ones(1) if scale is None else owner(scale).to_host(scale)
    return host


def check_same_scale(scales: Mapping[str, np.ndarray | None]) -> None:
    """Raise ValueError if two of these fits divided the columns by different numbers."""
    known = [(name, scale) for name, scale in scales.items() if scale is not None]
    for name, scale in known[1:]:
        if not np.allclose(scale, known[0][1], rtol=SAME_SCALE, atol=0):
            raise ValueError(
                f"{known[0][0]} and {name} must have the same scale; they divided the columns by "
                "different numbers, so their components are in different units. Fit both with the "
                "same array for scale."
            )


@dataclass(frozen=True, eq=False, repr=False)
class Stability:
    """How well the components of a fit are found again: the result of `stability`.

    Attributes
    ----------
    components : ndarray of shape (n_components, n_features)
        The components of the fit to all rows, or those of `consensus`.
    cosines : ndarray of shape (n_fits, n_components)
        The cosine of each of these components to its match in every other fit.
    pairs : ndarray of shape (n_fits, n_fits)
        The mean cosine of the matched components of every two of the other fits.
    """

    components: np.ndarray
    cosines: np.ndarray
    pairs: np.ndarray

    @classmethod
    def of(cls, components: np.ndarray, found: Sequence[np.ndarray]) -> Stability:
        """Return how well these components are found again in the components of fits."""
        cosines = np.array([align(H, components).cosines for H in found])
        pairs = np.eye(len(found))
        for i, j in combinations(range(len(found)), 2):
            pairs[i, j] = pairs[j, i] = align(found[i], found[j]).mean
        return cls(components, cosines, pairs)

    @property
    def per_component(self) -> np.ndarray:
        """The mean of `cosines` over the fits, of shape (n_components,)."""
        return np.asarray(self.cosines.mean(axis=0))

    @property
    def mean(self) -> float:
        """The mean of `pairs` over the pairs of different fits."""
        return float(self.pairs[np.triu_indices(len(self.pairs), 1)].mean())

    def __str__(self) -> str:
        lines = (f"{j:>9}   {mean:>11}   {low:>6}" for j, mean, low in self._cells())
        return "\n".join(["component   mean cosine   lowest", *lines, self._summary()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return table(("component", "mean cosine", "lowest"), self._cells(), self._summary())

    def _cells(self) -> list[tuple[str, str, str]]:
        means, lowest = self.per_component, self.cosines.min(axis=0)
        return [
            (str(j), f"{mean:.4f}", f"{low:.4f}")
            for j, (mean, low) in enumerate(zip(means, lowest, strict=True))
        ]

    def _summary(self) -> str:
        return f"mean over pairs of {len(self.pairs)} fits {self.mean:.4f}"


def stability(
    X: Any,
    n_components: int | None = None,
    *,
    n_fits: int = 5,
    subsample: float = 0.5,
    random_state: RandomState = None,
    sample_weight: Any = None,
    estimator: FittedComponents | None = None,
    **parameters: Unpack[OfThreadedFits],
) -> Stability:
    """Fit random halves of the rows, and compare the components with those of all rows.

    What is in the data is found in every half. What depends on the start or on a few rows is not.

    Parameters
    ----------
    X : array-like or sparse matrix of shape (n_samples, n_features)
        The data, of any sign; also on disk, or a Dask array.
    n_components : int, default=None
        Sets the number of components k. None takes that of `estimator`, or else min(n_samples,
        n_features).
    n_fits : int, default=5
        Sets the number of fits beside the one to all rows, at least 2. Each draws its own rows and
        its own seed.
    subsample : float, default=0.5
        Sets the share of the rows in each of these fits. With 1, all fits have all rows, and only
        their seeds differ; `init` must then be a random start.
    random_state : int, RandomState or Generator instance, or None, default=None
        Seeds the draws and the fits. With an int, the fit to all rows is that of `factorize` with
        the same `random_state`.
    sample_weight : array-like of shape (n_samples,), default=None
        Sets how much each row counts, ≥ 0. None is 1 for each. Rows of weight 0 are not drawn.
    estimator : SNMF, MiniBatchSNMF or ConvexNMF, default=None
        Sets what is fitted, with all its parameters, where None is an `SNMF` with `parameters`.
        Each fit has its own number of components and its own seed, and no progress bar. A
        `ConvexNMF` needs the linear kernel.
    **parameters
        Any parameter of `SNMF`, for every fit, except those of checkpoints and warm starts.
        `progress_bar` is off here. ``scale=True`` divides by the deviations of all rows in every
        fit.

    Returns
    -------
    Stability
        The cosine of each component to its match in every other fit, and the mean over all pairs
        of these fits. Print it for a table.

    Raises
    ------
    ValueError
        If X or a parameter is invalid.
    TypeError
        If a parameter is unknown, or X does not hold numbers.

    Warns
    -----
    ConvergenceWarning
        As `factorize`, for every fit.

    See Also
    --------
    align : Matches the components of two fits.

    Notes
    -----
    The rows of a fit are drawn without replacement. Two halves share half of their rows on
    average, so their agreement is higher than that of two independent samples.

    Examples
    --------
    >>> import numpy as np, snmf
    >>> rng = np.random.default_rng(0)
    >>> X = rng.exponential(size=(300, 3)) @ rng.normal(size=(3, 20))
    >>> X = X + 0.1 * rng.normal(size=X.shape)
    >>> found = snmf.stability(X, 3, sparsity=0.03, random_state=0)
    >>> found.cosines.shape, bool(found.mean > 0.99)
    ((5, 3), True)
    """
    check_samples("n_fits", n_fits, subsample)
    if n_components is not None and not is_whole(n_components, 1):
        raise ValueError(
            f"n_components must be a positive whole number, or None; got {n_components!r}"
        )
    estimator = checked_estimator("stability", estimator, parameters)
    data = Data.of(X).sized()
    samples = Samples.of(data, subsample, sample_weight, estimator)
    estimator = with_scale_of_all_rows(estimator, data, sample_weight)
    rng = check_random_state(random_state)
    whole = fitted(estimator, data, n_components, sample_weight, random_state)
    reference = components_of(whole, "estimator")
    found = [
        components_of(fitted(estimator, data, len(reference), *drawn), "estimator")
        for drawn in samples.drawn(n_fits, rng)
    ]
    return Stability.of(reference, found)


@dataclass(frozen=True)
class Samples:
    """Random samples of the rows, one for each fit.

    Attributes
    ----------
    size : int
        The number of rows in a sample.
    members : ndarray of int
        The rows that may be drawn.
    weights : ndarray of shape (n_samples,) or None
        The sample weights of all rows; None is 1 for each.
    n_samples : int
        The number of rows of X.
    """

    size: int
    members: np.ndarray
    weights: np.ndarray | None
    n_samples: int

    @classmethod
    def of(cls, data: Data, subsample: float, sample_weight: Any, estimator: Any) -> Samples:
        """Check how samples are drawn; raise ValueError if they are empty, or all the same."""
        n = data.shape[0]
        D, _ = check_weights(sample_weight, n)
        members = np.arange(n) if D is None else np.flatnonzero(D)
        size = _sample_size(subsample, len(members), estimator.init)
        return cls(size, members, None if D is None else D[:, 0], n)

    def drawn(
        self, count: int, rng: np.random.RandomState
    ) -> Iterator[tuple[np.ndarray | None, int]]:
        """Yield the sample weights and the seed of each fit."""
        for _ in range(count):
            drawn = np.zeros(self.n_samples)
            drawn[rng.permutation(self.members)[: self.size]] = 1
            if self.size == self.n_samples and self.weights is None:
                weights = None
            else:
                weights = drawn if self.weights is None else drawn * self.weights
            yield weights, int(rng.randint(2**31 - 1))


def checked_estimator(
    name: str,
    estimator: Any,
    parameters: Mapping[str, Any],
    not_taken: Sequence[str] = NOT_TAKEN,
) -> Any:
    """Return the estimator whose clones the function `name` fits; raise if it is invalid."""
    names = [f.name for f in fields(Options) if f.name not in not_taken]
    if unknown := [one for one in parameters if one not in names]:
        raise TypeError(f"{name} got the parameters {unknown}; it takes {names}")
    if estimator is None:
        estimator = SNMF(**{"progress_bar": False, **parameters})
    elif parameters:
        raise TypeError(
            f"{name} got an estimator, and the parameters {[*parameters]}. Set them in the "
            "estimator."
        )
    elif not isinstance(estimator, FittedComponents):
        raise TypeError(
            "estimator must be an SNMF, MiniBatchSNMF or ConvexNMF, or None; got "
            f"{type(estimator).__name__}"
        )
    else:
        estimator = clone(estimator).set_params(progress_bar=False)
    if getattr(estimator, "kernel", "linear") != "linear":
        raise ValueError(
            f"{name} compares components in the space of X, which only the linear kernel has; got "
            f"kernel={estimator.kernel!r}. Set kernel='linear'."
        )
    for one in {"checkpoint", "locality"}.intersection(not_taken):
        if getattr(estimator, one, None) not in (None, 0):
            raise ValueError(f"estimator must have no {one}; got {getattr(estimator, one)!r}")
    if estimator.init == "custom":
        raise ValueError(f"{name} makes its own starts; got init='custom'. Choose another init.")
    return estimator


def fitted(
    estimator: Any, data: Data, k: int | None, sample_weight: Any, random_state: RandomState
) -> Any:
    """Return a fitted clone of an estimator, with k components; None keeps its number."""
    of_number = {} if k is None else {"n_components": k}
    model = clone(estimator).set_params(random_state=random_state, **of_number)
    return model.fit(data, sample_weight=sample_weight)


def with_scale_of_all_rows(estimator: Any, data: Data, sample_weight: Any) -> Any:
    """Return the estimator with the scale of all rows, so that all its fits have the same units."""
    scale = check_scale(getattr(estimator, "scale", False), data.shape[1])
    if scale is not True:
        return estimator
    backend = choose(estimator.backend, data.owner, estimator.device)
    D, _ = check_weights(sample_weight, data.shape[0])
    missing = estimator.missing_values is not None
    with backend.active(), data.threaded(backend, estimator.n_jobs) as every:
        rows, D, _ = taking_part(every, D, missing)
        return clone(estimator).set_params(scale=divisors(scale, rows, D, missing))


def check_samples(counted: str, count: Any, subsample: Any) -> None:
    """Check how many fits there are; `counted` is what the function calls their number."""
    if not is_whole(count, 2):
        raise ValueError(f"{counted} must be a whole number from 2; got {count!r}")
    if not 0 < subsample <= 1:
        raise ValueError(f"subsample must be above 0 and at most 1; got {subsample}")


def _sample_size(subsample: float, n: int, init: str) -> int:
    """Return the number of rows in a sample; raise ValueError if the fits could not differ."""
    size = round(subsample * n)
    if size < 1:
        raise ValueError(f"subsample={subsample:g} of {n} rows leaves none. Raise subsample.")
    if size == n and init not in DRAWN:
        raise ValueError(
            f"init={init!r} is no random start, and subsample={subsample:g} takes all {n} rows: "
            f"all fits would be the same. Lower subsample, or set init to one of {DRAWN}."
        )
    return size
