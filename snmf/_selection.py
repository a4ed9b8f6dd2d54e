"""The choice of the number of components: `select_n_components`, and n_components="auto".

Both compare the error in held-out entries of X. `select_n_components` can also compare how stable
the result is over restarts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from scipy.cluster.hierarchy import cophenet, linkage
from scipy.spatial.distance import squareform
from sklearn.utils import check_array

from snmf._arguments import check_random_state, check_weights, is_whole
from snmf._data import Data
from snmf._factorize import factorize
from snmf.storage.rows import taking_part

Array = Any

ROWS = 1000  # the most rows for the stability
SAMPLE = 5000  # the most rows for "auto"
HELD_OUT = 0.1  # the share of their entries that "auto" holds out
# The defaults of all fits here. A penalty would shrink W, and more components make up for that.
FIT = {"solver": "hals", "sparsity": 0, "progress_bar": False}


@dataclass(frozen=True)
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
    best : int
        The smallest number of components whose mean error is at most the lowest mean error plus
        its standard error.
    """

    n_components: np.ndarray
    errors: np.ndarray
    stability: np.ndarray | None
    best: int

    def __str__(self) -> str:
        spread = self.errors.std(axis=1)
        head = "components   held-out error" + ("" if self.stability is None else "   stability")
        lines = [
            f"{k:10d}   {mean:.4f} ± {sd:.4f}"
            + ("" if self.stability is None else f"   {self.stability[i]:9.4f}")
            + ("   best" if k == self.best else "")
            for i, (k, mean, sd) in enumerate(
                zip(self.n_components, self.errors.mean(axis=1), spread, strict=True)
            )
        ]
        return "\n".join([head, *lines])

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
    held_out: float = 0.1,
    repeats: int = 3,
    restarts: int = 0,
    random_state: Any = None,
    n_jobs: int | None = None,
    **parameters: Any,
) -> Selection:
    """Compare numbers of components by the error in held-out entries of X.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        The data: a dense array in memory. NaN is a missing value.
    n_components : iterable of int
        The numbers to compare.
    held_out : float, default=0.1
        Sets the share of the entries that is held out. They are drawn at random from all of X
        [1]_, and W and H are fitted to the other entries.
    repeats : int, default=3
        Sets the number of random draws. Each draw makes one fit for every number of components.
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
        Any parameter of `SNMF`, for every fit. The default of `solver` is "hals" here, and that of
        `sparsity` is 0: with a penalty too many components predict best, since they make up for
        the smaller weights.

    Returns
    -------
    Selection
        The errors and the best number. Print it for a table; call its `plot` for a figure.

    Raises
    ------
    ValueError
        If X or a parameter is invalid.

    References
    ----------
    .. [1] S. Wold, "Cross-validatory estimation of the number of components in factor and
       principal components models", Technometrics 20(4), 1978.
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
    if not isinstance(data, np.ndarray):
        got = "a sparse one" if hasattr(data, "nnz") else f"a {type(X).__qualname__}"
        raise ValueError(f"X must be a dense array in memory, on the host; got {got}")
    X = check_array(data, ensure_all_finite="allow-nan", input_name="X")
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
            delayed(held_out_error)(X, int(k), held_out, int(seed), settings)
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
    return Selection(counts, table, stability, int(counts[smallest_within_one_error(table)]))


def n_components_of(data: Data, parameters: dict[str, Any]) -> int:
    """The number of components for data, where n_components is "auto"."""
    if hasattr(data.X, "nnz"):
        raise ValueError(
            "n_components='auto' needs a dense X, to hold out entries of it; got a sparse one. "
            "Set n_components to a number."
        )
    if parameters["locality"]:
        raise ValueError(
            "n_components='auto' has no meaning with locality. Set n_components to a number."
        )
    seed = int(check_random_state(parameters["random_state"]).randint(2**31 - 1))
    names = ("solver", "tol", "max_iter", "accelerate", "init")
    same = {name: parameters[name] for name in names}
    if same["init"] == "custom":
        raise ValueError(
            "n_components='auto' cannot use a custom start; got init='custom'. Set n_components "
            "to a number, or choose another init."
        )
    D, _ = check_weights(parameters.get("sample_weight"), data.shape[0])
    rows, D, _ = taking_part(
        data.owner.rows(data.X), D, missing=parameters["missing_values"] is not None
    )
    some = _sampled_rows(len(rows), seed)
    return _automatic(rows.take(some), seed, same, None if D is None else D[some, 0])


def _sampled_rows(n_samples: int, seed: int) -> np.ndarray:
    """The rows that `automatic` is to see."""
    return np.sort(np.random.default_rng(seed).permutation(n_samples)[:SAMPLE])


def _automatic(
    X: np.ndarray, seed: int, parameters: dict[str, Any], weights: np.ndarray | None = None
) -> int:
    """Return the number of components with the lowest held-out error, from about 3 log₂ k fits.

    The search increases k by a half until the error has risen twice. It then narrows the interval
    around the lowest error from both sides.
    """
    settings, most = {**FIT, **parameters}, max(1, min(X.shape) - 1)

    @cache
    def error(k: int) -> float:
        return held_out_error(X, k, HELD_OUT, seed, settings, weights)

    tried = [1]
    while tried[-1] < most and not _has_risen_twice([error(k) for k in tried]):
        tried.append(min(most, max(tried[-1] + 1, round(1.5 * tried[-1]))))
    best = min(tried, key=error)
    low = max((k for k in tried if k < best), default=best)
    high = min((k for k in tried if k > best), default=best)
    while inside := [
        k for k in ((low + best) // 2, (best + high + 1) // 2) if low < k < high and k != best
    ]:
        new = min(inside, key=error)
        if error(new) < error(best):
            low, best, high = (low, new, best) if new < best else (best, new, high)
        else:
            low = max([low, *(k for k in inside if k < best)])
            high = min([high, *(k for k in inside if k > best)])
    return best


def _has_risen_twice(errors: list[float]) -> bool:
    return len(errors) > 2 and errors[-1] > errors[-2] > errors[-3]


def held_out_error(
    X: np.ndarray,
    k: int,
    held_out: float,
    seed: int,
    parameters: dict[str, Any],
    weights: np.ndarray | None = None,
) -> float:
    """Return the relative error in the held-out entries, after a fit to the other entries."""
    X = X.astype(X.dtype if X.dtype.kind == "f" else "float64")
    drawn = np.random.default_rng(seed).random(X.shape) < held_out
    drawn &= ~np.isnan(X)
    truth = X[drawn].astype("float64")
    X[drawn] = np.nan
    settings = {"random_state": seed, **parameters, "missing_values": np.nan}
    result = factorize(X, k, sample_weight=weights, **settings)
    rows, columns = np.nonzero(drawn)
    model = np.einsum("ij,ij->i", result.W[rows].astype("float64"), result.H.T[columns])
    roots = 1.0 if weights is None else np.sqrt(weights[rows])
    whole = np.linalg.norm(roots * truth)
    return float(np.linalg.norm(roots * (truth - model)) / whole) if whole else 0.0


def smallest_within_one_error(errors: np.ndarray) -> int:
    """Return the first row whose mean is at most the smallest mean plus its standard error."""
    means = errors.mean(axis=1)
    least = int(np.argmin(means))
    spread = errors[least].std(ddof=1) / errors.shape[1] ** 0.5 if errors.shape[1] > 1 else 0.0
    return int(np.argmax(means <= means[least] + spread))


def _labels(X: np.ndarray, k: int, seed: int, parameters: dict[str, Any]) -> np.ndarray:
    """Return the component with the largest weight, for at most `ROWS` rows."""
    missing = {"missing_values": np.nan} if np.isnan(X).any() else {}
    W = factorize(X, k, **{"random_state": seed, **missing, **parameters}).W
    some = np.random.default_rng(0).permutation(len(W))[:ROWS]
    labels: np.ndarray = W[some].argmax(axis=1)
    return labels


def _cophenetic(labels: np.ndarray) -> float:
    """Return the cophenetic correlation of the consensus of labels of shape (restarts, rows)."""
    together = np.mean(labels[:, :, None] == labels[:, None, :], axis=0)
    distances = squareform(1 - together, checks=False)
    if np.ptp(distances) == 0:
        return 1.0  # one cluster, or each row for itself, every time
    return float(cophenet(linkage(distances, "average"), distances)[0])
