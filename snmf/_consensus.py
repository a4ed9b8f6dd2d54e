"""Many fits made one: `consensus` clusters their components, `merge` joins those of models."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Unpack

import numpy as np
from joblib import Parallel, delayed
from scipy.sparse import issparse
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import silhouette_samples

from snmf import _advice
from snmf._agreement import (
    NOT_TAKEN,
    Samples,
    Stability,
    align,
    check_same_scale,
    check_samples,
    checked_estimator,
    components_of,
    fitted,
    scale_of,
    with_scale_of_all_rows,
)
from snmf._arguments import OfManyFits, check_random_state, check_weights, is_whole
from snmf._data import Data
from snmf._factorize import Factorization, factorize
from snmf._fitted import FittedComponents
from snmf._html import table
from snmf.core.options import Options, RandomState, limits_of
from snmf.core.start import unit_rows

Array = Any

NEIGHBOURS = 0.3  # of the runs: so many components are the neighbours of one
NOT_HERE = (*NOT_TAKEN, "locality", "n_jobs")


@dataclass(frozen=True, eq=False, repr=False)
class Consensus:
    """The components on which many runs agree: the result of `consensus` for one number.

    Attributes
    ----------
    W : array of shape (n_samples, n_components)
        The weights of X: exact for `components`.
    components : array of shape (n_components, n_features)
        The consensus components, at unit norm. With `scale` they are those of X / scale, with
        ``factorization.scale`` for all runs.
    factorization : Factorization
        The fit that gave W, with these components fixed: its intercept, error and penalty.
    stability : Stability
        The cosine of each consensus component to its match in every run, and the mean cosine of
        every two runs.
    silhouettes : ndarray of shape (n_components,)
        The mean silhouette of the clusters: near 1 if the components of a cluster are far closer
        to each other than to those of the next cluster. NaN for one component.
    labels : ndarray of int of shape (n_runs, n_components)
        The consensus component that each component of each run belongs to. −1 if it was dropped.
    densities : ndarray of shape (n_runs, n_components)
        The mean distance of each component of each run to its nearest neighbours.
    distances : ndarray of shape (m, m)
        The distance of every two of the m = n_runs × n_components components, run by run.
    error : float
        ‖X − W H‖ / ‖X‖; with an intercept relative to X less its mean.
    """

    W: Array
    components: Array
    factorization: Factorization
    stability: Stability
    silhouettes: np.ndarray
    labels: np.ndarray
    densities: np.ndarray
    distances: np.ndarray
    error: float

    @property
    def dropped(self) -> float:
        """The share of the components of the runs that belong to no consensus component."""
        return float(np.mean(self.labels < 0))

    def __str__(self) -> str:
        lines = (
            f"{j:>9}   {runs:>4}   {c:>9}   {width:>10}" for j, runs, c, width in self._cells()
        )
        return "\n".join(["component   runs   stability   silhouette", *lines, self._summary()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head = ("component", "runs", "stability", "silhouette")
        return table(head, self._cells(), self._summary())

    def _cells(self) -> list[tuple[str, str, str, str]]:
        runs = [np.sum(np.any(self.labels == j, axis=1)) for j in range(self.labels.shape[1])]
        return [
            (str(j), str(count), f"{cosine:.4f}", f"{width:.4f}")
            for j, (count, cosine, width) in enumerate(
                zip(runs, self.stability.per_component, self.silhouettes, strict=True)
            )
        ]

    def _summary(self) -> str:
        return (
            f"{len(self.labels)} runs, {self.dropped:.1%} of their components dropped; "
            f"relative error {self.error:.4f}"
        )

    def plot(self, ax: Any = None) -> Any:
        """Plot the cosines of the components of all runs, sorted by consensus component.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to plot. None makes a figure.

        Returns
        -------
        snmf.plots.ConsensusDisplay
        """
        from snmf.plots import ConsensusDisplay

        return ConsensusDisplay(1 - self.distances**2 / 2, self.labels.ravel()).plot(ax=ax)


@dataclass(frozen=True, eq=False, repr=False)
class ConsensusTable:
    """Consensus for several numbers of components: the result of `consensus` for a list of them.

    ``table[k]`` is the `Consensus` of k components.

    Attributes
    ----------
    results : tuple of Consensus
        One for each number, in ascending order.
    """

    results: tuple[Consensus, ...]

    def __getitem__(self, k: int) -> Consensus:
        numbers = self.n_components.tolist()
        if k not in numbers:
            raise KeyError(f"{k}: the numbers of components are {numbers}")
        found: Consensus = self.results[numbers.index(k)]
        return found

    @property
    def n_components(self) -> np.ndarray:
        """The numbers of components."""
        return np.array([found.labels.shape[1] for found in self.results])

    @property
    def stability(self) -> np.ndarray:
        """The mean cosine of consensus components to their matches in the runs, by number."""
        return np.array([found.stability.per_component.mean() for found in self.results])

    @property
    def silhouettes(self) -> np.ndarray:
        """The mean silhouette, by number."""
        return np.array([found.silhouettes.mean() for found in self.results])

    @property
    def dropped(self) -> np.ndarray:
        """The share of the components of the runs that were dropped, by number."""
        return np.array([found.dropped for found in self.results])

    @property
    def errors(self) -> np.ndarray:
        """The relative error, by number."""
        return np.array([found.error for found in self.results])

    def __str__(self) -> str:
        lines = (
            f"{k:>10}   {cosine:>9}   {width:>10}   {dropped:>7}   {error:>14}"
            for k, cosine, width, dropped, error in self._cells()
        )
        head = "components   stability   silhouette   dropped   relative error"
        return "\n".join([head, *lines])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head = ("components", "stability", "silhouette", "dropped", "relative error")
        return table(head, self._cells())

    def _cells(self) -> list[tuple[str, str, str, str, str]]:
        columns = self.n_components, self.stability, self.silhouettes, self.dropped, self.errors
        return [
            (str(k), f"{cosine:.4f}", f"{width:.4f}", f"{dropped:.1%}", f"{error:.4f}")
            for k, cosine, width, dropped, error in zip(*columns, strict=True)
        ]

    def plot(self, ax: Any = None) -> Any:
        """Plot the error and the stability against the number of components.

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
            self.n_components, self.errors, stability=self.stability, error_name="relative error"
        ).plot(ax=ax)


def consensus(
    X: Any,
    n_components: int | Iterable[int],
    *,
    n_runs: int = 20,
    subsample: float = 0.9,
    density_threshold: float = 0.5,
    random_state: RandomState = None,
    n_jobs: int | None = None,
    sample_weight: Any = None,
    estimator: FittedComponents | None = None,
    **parameters: Unpack[OfManyFits],
) -> Consensus | ConsensusTable:
    """Fit X many times, and return the components on which the fits agree.

    This is consensus NMF [1]_ for data of any sign. The components of all runs, at unit norm, are
    clustered by k-means. Those that are far from all others are dropped before. The consensus
    components are the medians of the clusters, within the limits that `n_nonzero_features` and
    `positive_components` set, and W is the exact one for them.

    Parameters
    ----------
    X : array-like or sparse matrix of shape (n_samples, n_features)
        The data, of any sign; also on disk, or a Dask array.
    n_components : int or iterable of int
        Sets the number of components k, or the numbers to compare.
    n_runs : int, default=20
        Sets the number of fits for each k, at least 2.
    subsample : float, default=0.9
        Sets the share of the rows in each run. Each run draws its own rows and its own seed. With
        1, all runs have all rows, and only their seeds differ; `init` must then be a random start.
        The default start, "skewness", then differs little from run to run.
    density_threshold : float, default=0.5
        Drops a component if its mean distance to its nearest neighbours is above this. So many
        components are its neighbours as 0.3 of the runs are, at least 1. Distances are Euclidean,
        between components of unit norm: 0.5 is a cosine of 0.875, and 2 keeps all. Lower it to
        drop more.
    random_state : int, RandomState or Generator instance, or None, default=None
        Seeds the draws and the fits. The result for one k does not depend on the others.
    n_jobs : int, default=None
        Sets how many runs are made at a time, each in a process. −1 takes all cores. It needs X
        in memory, on the host; for other data None is the only value.
    sample_weight : array-like of shape (n_samples,), default=None
        Sets how much each row counts, ≥ 0. None is 1 for each. Rows of weight 0 are not drawn.
    estimator : SNMF, MiniBatchSNMF or ConvexNMF, default=None
        Sets what is fitted in the runs, with all its parameters, where None is an `SNMF` with
        `parameters`. Each run has its own number of components and its own seed, and no progress
        bar. A `ConvexNMF` needs the linear kernel; medians of its components need not be
        combinations of candidates.
    **parameters
        Any parameter of `SNMF`, for every fit, except those of checkpoints and warm starts, and
        locality. `progress_bar` is off here. ``scale=True`` divides by the deviations of all rows
        in every run.

    Returns
    -------
    Consensus or ConsensusTable
        For an int, the components, W, stability and silhouettes. For several numbers, a table of
        these. Print it for a table; call its `plot` for a figure.

    Raises
    ------
    ValueError
        If X or a parameter is invalid, or the runs have less than k different components, or a
        median is zero.
    TypeError
        If a parameter is unknown, or X does not hold numbers.

    Warns
    -----
    ConvergenceWarning
        If runs have not converged, or `density_threshold` leaves less than k components: the k
        that are nearest to others are then kept. Else as `factorize`, for the last step.

    See Also
    --------
    stability : Compares fits of halves of the rows with the fit to all rows.
    select_n_components : Compares numbers of components by held-out error.

    Notes
    -----
    The runs of [1]_ see all rows, and start at random. Here they see different rows, which also
    averages out what depends on few rows. Components come in the order of their mean place in the
    runs, where those with larger weights come first.

    References
    ----------
    .. [1] D. Kotliar, A. Veres, M. A. Nagy, S. Tabrizi, E. Hodis, D. A. Melton, P. C. Sabeti,
       "Identifying gene expression programs of cell-type identity and cellular activity with
       single-cell RNA-Seq", eLife 8, 2019.

    Examples
    --------
    >>> import numpy as np, snmf
    >>> rng = np.random.default_rng(0)
    >>> X = rng.exponential(size=(300, 3)) @ rng.normal(size=(3, 20))
    >>> X = X + 0.1 * rng.normal(size=X.shape)
    >>> found = snmf.consensus(X, 3, n_runs=5, solver="hals", sparsity=0.03, random_state=0)
    >>> found.W.shape, found.components.shape, found.dropped
    ((300, 3), (3, 20), 0.0)
    >>> bool(found.stability.mean > 0.99)
    True
    >>> table = snmf.consensus(X, [2, 3, 4], n_runs=5, solver="hals", random_state=0)
    >>> table.n_components, bool(table[3].error < table[2].error)
    (array([2, 3, 4]), True)
    """
    check_samples("n_runs", n_runs, subsample)
    estimator = checked_estimator("consensus", estimator, parameters, NOT_HERE)
    several = isinstance(n_components, Iterable) and not isinstance(n_components, str)
    numbers = list(n_components) if isinstance(n_components, Iterable) else [n_components]
    if not numbers or not all(is_whole(k, 1) for k in numbers):
        raise ValueError(
            f"n_components must be a positive whole number, or some of them; got {n_components!r}"
        )
    if not density_threshold > 0:
        raise ValueError(f"density_threshold must be above 0; got {density_threshold}")
    data = Data.of(X).sized()
    in_memory = isinstance(data.X, np.ndarray) or issparse(data.X)
    if n_jobs not in (None, 1) and not in_memory:
        raise ValueError(
            f"n_jobs={n_jobs} needs X in memory, on the host, since each process gets a copy. "
            "Leave n_jobs out."
        )
    samples = Samples.of(data, subsample, sample_weight, estimator)
    estimator = with_scale_of_all_rows(estimator, data, sample_weight)
    seed = check_random_state(random_state).randint(2**31 - 1)
    found = []
    with Parallel(n_jobs=n_jobs) as parallel:
        for k in sorted({int(k) for k in numbers}):
            draws = samples.drawn(n_runs, np.random.RandomState(seed))
            runs = parallel(delayed(_run)(estimator, data, k, *draw) for draw in draws)
            _advice.warn(_advice.of_runs(k, sum(not done for _, done in runs), n_runs))
            components = np.array([unit_rows(H)[0] for H, _ in runs])
            found.append(
                _of_runs(
                    data, components, density_threshold, sample_weight, seed, _options(estimator)
                )
            )
    return ConsensusTable(tuple(found)) if several else found[0]


def _run(
    estimator: Any, data: Data, k: int, sample_weight: Any, seed: int
) -> tuple[np.ndarray, bool]:
    """Return the components of one fit, and whether it has converged."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # said once, for all runs
        model = fitted(estimator, data, k, sample_weight, seed)
    curve = getattr(model, "loss_curve_", [])
    fell_less = len(curve) > 1 and bool(curve[-2] - curve[-1] < model.tol)
    return components_of(model, "estimator"), model.n_iter_ < model.max_iter or fell_less


def _options(estimator: Any) -> dict[str, Any]:
    """Return the parameters of an estimator that `factorize` has too, for the last step."""
    names = {f.name for f in fields(Options)}.difference(NOT_TAKEN)
    return {n: value for n, value in estimator.get_params(deep=False).items() if n in names}


def _of_runs(
    data: Data,
    runs: np.ndarray,
    threshold: float,
    sample_weight: Any,
    seed: int,
    parameters: dict[str, Any],
) -> Consensus:
    """Return the consensus of components of shape (n_runs, k, p), all of unit norm or zero."""
    n_runs, k, p = runs.shape
    points = runs.reshape(-1, p)
    distances = _distances(points)
    densities = _densities(distances, max(1, int(NEIGHBOURS * n_runs)))
    kept = _kept(points, densities, threshold, k)
    labels = np.full(len(points), -1)
    labels[kept] = _clusters(points[kept], k, seed)
    place = np.tile(np.arange(k), n_runs)
    order = np.argsort([place[labels == j].mean() for j in range(k)], kind="stable")
    labels[kept] = np.argsort(order)[labels[kept]]
    H = _medians(points, labels, k, parameters)
    fit = factorize(
        data,
        k,
        H=data.owner.asarray(H, data.dtype),
        fixed=k,
        sample_weight=sample_weight,
        random_state=seed,
        **parameters,
    )
    D, exponent = check_weights(sample_weight, data.shape[0])
    total = data.shape[0] if D is None else np.ldexp(D.sum(), exponent)
    norm = fit.rms * float(total) ** 0.5
    return Consensus(
        W=fit.W,
        components=fit.H,
        factorization=fit,
        stability=Stability.of(components_of(fit, "H"), list(runs)),
        silhouettes=_silhouettes(distances, labels, k),
        labels=labels.reshape(n_runs, k),
        densities=densities.reshape(n_runs, k),
        distances=distances,
        error=fit.error / norm if norm else 0.0,
    )


def _distances(points: np.ndarray) -> np.ndarray:
    """Return the Euclidean distances of points of unit norm; a zero row is at distance 2."""
    distances: np.ndarray = np.sqrt(np.clip(2 - 2 * points @ points.T, 0, 4))
    dead = ~np.any(points, axis=1)
    distances[dead, :] = distances[:, dead] = 2
    np.fill_diagonal(distances, 0)
    return distances


def _densities(distances: np.ndarray, neighbours: int) -> np.ndarray:
    """Return the mean distance of every point to its nearest neighbours."""
    nearest = np.partition(distances, neighbours, axis=1)[:, : neighbours + 1]
    density: np.ndarray = nearest.sum(axis=1) / neighbours  # the point itself is at distance 0
    return density


def _kept(points: np.ndarray, densities: np.ndarray, threshold: float, k: int) -> np.ndarray:
    """Return which points are dense; at least k of those that are not zero."""
    alive = np.any(points, axis=1)
    if alive.sum() < k:
        raise ValueError(
            f"the runs have {alive.sum()} components that are not zero, for n_components={k}. "
            "Lower n_components or sparsity."
        )
    kept: np.ndarray = alive & (densities <= threshold)
    if kept.sum() >= k:
        return kept
    _advice.warn(_advice.of_density(k, int(kept.sum()), threshold))
    kept[np.argsort(np.where(alive, densities, np.inf), kind="stable")[:k]] = True
    return kept


def _clusters(points: np.ndarray, k: int, seed: int) -> np.ndarray:
    """Return the cluster of every point, from k-means; raise ValueError if one is empty."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of too few distinct points
        labels: np.ndarray = KMeans(k, n_init=10, random_state=seed).fit_predict(points)
    if (different := len(np.unique(labels))) < k:
        raise ValueError(
            f"the runs have only {different} different components, for n_components={k}. Lower "
            "n_components, or raise density_threshold."
        )
    return labels


def _medians(
    points: np.ndarray, labels: np.ndarray, k: int, parameters: dict[str, Any]
) -> np.ndarray:
    """Return the median of each cluster, within the limits of components; it must not be zero."""
    medians = np.array([np.median(points[labels == j], axis=0) for j in range(k)])
    most = parameters.get("n_nonzero_features")
    nonnegative = parameters.get("positive_components", False)
    H = limits_of(most, points.shape[1], nonnegative, ball=False).of_entries(medians)
    if zero := int(np.sum(~np.any(H, axis=1))):
        raise ValueError(
            f"the medians of {zero} of the {k} clusters are zero: their components have few "
            "features in common. Lower n_components or density_threshold, or raise "
            "n_nonzero_features."
        )
    return H


def _silhouettes(distances: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """Return the mean silhouette of each cluster."""
    kept = labels >= 0
    if k == 1:
        return np.full(1, np.nan)
    if kept.sum() == k:  # each alone, where a silhouette is 0
        return np.zeros(k)
    widths = silhouette_samples(distances[np.ix_(kept, kept)], labels[kept], metric="precomputed")
    return np.array([widths[labels[kept] == j].mean() for j in range(k)])


@dataclass(frozen=True, eq=False, repr=False)
class Merged:
    """The components of several fits as one set: the result of `merge`.

    Attributes
    ----------
    components : ndarray of shape (n_components, n_features)
        The merged components, at unit norm: those of the first fit, then what later fits add.
    members : ndarray of int of shape (n_fits, n_components)
        The component of each fit that went into each merged one. −1 if there is none.
    """

    components: np.ndarray
    members: np.ndarray

    def __str__(self) -> str:
        rows = [self._head(), *self._cells()]
        return "\n".join(f"{j:>9}" + "".join(f"{i:>7}" for i in of_fits) for j, *of_fits in rows)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return table(self._head(), self._cells())

    def _head(self) -> list[str]:
        return ["component", *(f"fit {i}" for i in range(len(self.members)))]

    def _cells(self) -> list[list[str]]:
        return [
            [str(j), *("–" if i < 0 else str(i) for i in of_fits)]
            for j, of_fits in enumerate(self.members.T)
        ]


def merge(
    fits: Iterable[Any], *, threshold: float = 0.9, weights: Sequence[float] | None = None
) -> Merged:
    """Join the components of several fits: average those that match, and keep all others.

    The fits come one after the other. `align` matches the components of each with those that are
    there. A pair whose cosine is at least `threshold` becomes one component, their weighted mean.
    What has no such pair is added at the end.

    Parameters
    ----------
    fits : iterable of fits or array-likes of shape (n_components, n_features)
        Fitted estimators, results of `factorize`, or arrays of components; at least one. With
        `scale`, all fits must have divided the columns by the same numbers.
    threshold : float, default=0.9
        Sets the lowest cosine of components that are one. Above 1, all components are kept.
    weights : sequence of float, default=None
        Sets how much each fit counts in the means, above 0, for example its number of rows. None
        is 1 for each.

    Returns
    -------
    Merged
        The components, at unit norm, and where they come from. Print it for a table.

    Raises
    ------
    ValueError
        If a fit has no finite components, or the numbers of features or the scales of fits differ,
        or threshold or weights are invalid.

    See Also
    --------
    consensus : Makes many fits of the same data, and clusters their components.

    Notes
    -----
    For the weights of data, solve with these components: ``factorize(X, k, H=components,
    fixed=k)``. To go on from there: ``SNMF(k, init="custom").fit(X, H=components)``. If the fits
    have a scale, the components are those of X / scale: give ``scale=fit.scale`` with them.

    Examples
    --------
    >>> import numpy as np, snmf
    >>> first = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    >>> second = np.array([[0.0, 0.0, 2.0], [0.1, 1.0, 0.0]])
    >>> found = snmf.merge([first, second], threshold=0.9)
    >>> found
    component  fit 0  fit 1
            0      0      –
            1      1      1
            2      –      0
    >>> found.components.round(2)
    array([[1.  , 0.  , 0.  ],
           [0.05, 1.  , 0.  ],
           [0.  , 0.  , 1.  ]])
    """
    sets, scales = [], {}
    for i, fit in enumerate(fits):
        sets.append(unit_rows(components_of(fit, f"fit {i}"))[0])
        scales[f"fit {i}"] = scale_of(fit)
    if not sets:
        raise ValueError("fits must have at least one fit; got none")
    if not threshold > -1:
        raise ValueError(f"threshold must be above -1; got {threshold}")
    shares = np.ones(len(sets)) if weights is None else np.asarray(weights, dtype="float64")
    if shares.shape != (len(sets),) or not np.all((shares > 0) & np.isfinite(shares)):
        raise ValueError(f"weights must be {len(sets)} numbers above 0; got {weights!r}")
    sums = shares[0] * sets[0]
    members = [np.arange(len(sums))]
    for share, H in zip(shares[1:], sets[1:], strict=True):
        found = align(H, sums)
        same = found.cosines >= threshold  # NaN, for no pair, is not
        sums[same] += share * H[found.indices[same]]
        new = np.setdiff1d(np.arange(len(H)), found.indices[same])
        members = [np.append(places, np.full(len(new), -1)) for places in members]
        members.append(np.append(np.where(same, found.indices, -1), new))
        sums = np.vstack([sums, share * H[new]])
    check_same_scale(scales)
    return Merged(unit_rows(sums)[0], np.array(members))
