"""From the caller's data to the caller's factors: choose backend and rows, start, solve."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_array, check_random_state
from sklearn.utils._param_validation import Interval, StrOptions, validate_parameter_constraints

from snmf import _init, _nnls, _wide
from snmf._progress import progress
from snmf._rows import Rows, Scale, check_range, measure, working_dtype
from snmf._solve import Alternation, Run, solve, steps_per_pass
from snmf.backends import Backend, choose, owner

Array = Any

UPDATES = {"mu": "multiplicative", "hals": "hals"}
ALL_ZERO = 1e30  # a sparsity from which on no weight is left, whatever the number of rows
CANCELLING = 100.0  # times ‖X‖_F: from there on a component says more of the others than of X
DRAWN = ("kmeans", "random")  # the starts that a restart can change

PARAMETERS: dict[str, list[Any]] = {
    "n_components": [Interval(Integral, 1, None, closed="left"), None],
    "tol": [Interval(Real, 0, None, closed="left")],
    "max_iter": [Interval(Integral, 0, None, closed="left")],
    "progress_bar": ["boolean"],
    "random_state": ["random_state"],
    "sparsity": [Interval(Real, 0, None, closed="left")],
    "verbose": ["verbose"],
    "solver": [StrOptions(set(UPDATES))],
    "accelerate": ["boolean"],
    "init": [StrOptions({*_init.STARTS, "custom"})],
    "n_init": [Interval(Integral, 1, None, closed="left")],
    "backend": [str, Backend],  # `choose` knows the names
    "device": [object],
    "n_jobs": [
        Interval(Integral, 1, None, closed="left"),
        Interval(Integral, None, -1, closed="right"),
        None,
    ],
}


@dataclass(frozen=True)
class Factorization:
    """A semi-nonnegative matrix factorization ``X ≈ W H``.

    Attributes
    ----------
    W : array of shape (n_samples, n_components)
        The weights, ≥ 0: the exact minimiser for H. They carry the scale.
    H : array of shape (n_components, n_features)
        The components, of unit norm (a component that died is a zero row, and a zero column of
        W), in the order of decreasing norm of their columns in W unless a start was given.
    error : float
        ‖X − W H‖_F.
    penalty : float
        The λ of the objective ½‖X − W H‖² + λ Σ W, in units of X.
    n_iter : int
        The number of iterations.
    loss_curve : ndarray of shape (n_iter + 1,)
        The objective over ½‖X‖², before the first and after every iteration.
    converged : bool
        Whether the objective fell by less than tol at last, or rounding was reached.
    reason : str
        Why it stopped, in words.
    """

    W: Array
    H: Array
    error: float
    penalty: float
    n_iter: int
    loss_curve: np.ndarray
    converged: bool
    reason: str


@dataclass(frozen=True)
class Options:
    """The parameters of a fit; `snmf.SNMF` documents them."""

    n_components: int | None = None
    tol: float = 1e-5
    max_iter: int = 200
    progress_bar: bool = True
    random_state: Any = None
    sparsity: float = 0.0
    verbose: bool = False
    solver: str = "mu"
    accelerate: bool = True
    init: str = "kmeans"
    n_init: int = 1
    backend: str | Backend = "auto"
    device: Any = None
    n_jobs: int | None = None

    def __post_init__(self) -> None:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        validate_parameter_constraints(PARAMETERS, values, caller_name="SNMF")


def factorize(
    X: Any,
    n_components: int | None = None,
    *,
    W: Any = None,
    H: Any = None,
    **parameters: Any,
) -> Factorization:
    """Factorise X into nonnegative weights and free components, ``X ≈ W H``.

    Parameters
    ----------
    X : array-like or sparse matrix of shape (n_samples, n_features)
        The data, of any sign.
    n_components : int, default=None
        The number of components k. None is min(n_samples, n_features).
    W : array-like of shape (n_samples, n_components), default=None
        Weights to start from, with ``init="custom"``.
    H : array-like of shape (n_components, n_features), default=None
        Components to start from, with ``init="custom"``.
    **parameters
        Any parameter of `SNMF`, with the same meaning and default.

    Returns
    -------
    Factorization
        W, H, and how the fit went.

    Raises
    ------
    ValueError
        If a parameter, or X, W or H, is not what it must be.

    Warns
    -----
    ConvergenceWarning
        If `max_iter` came first, or if components died, cancel, or are all zero.

    Examples
    --------
    >>> import numpy as np, snmf
    >>> X = np.random.default_rng(0).normal(size=(100, 20))
    >>> result = snmf.factorize(X, 5, solver="hals", random_state=0)
    >>> result.W.shape, result.H.shape, bool(result.W.min() >= 0)
    ((100, 5), (5, 20), True)
    >>> result.reason
    'the objective fell by less than tol=1e-05'
    """
    names = [f.name for f in fields(Options)]
    if unknown := [name for name in parameters if name not in names]:
        raise TypeError(f"unknown parameters {unknown}; those of SNMF are {names}")
    options = Options(n_components, **parameters)
    source = owner(X)
    X = source.check(X)
    backend = choose(options.backend, source, options.device)
    k = int(n_components or min(X.shape))
    W, H = _check_start(options, W, H, X.shape, k, source)
    with backend.active(), backend.rows(backend.bring(X, source)).threads(options.n_jobs) as rows:
        scale = measure(rows)
        rms = (scale.square / len(rows)) ** 0.5
        l1 = min(float(options.sparsity), ALL_ZERO) * rms
        fitted = rows.scaled(scale.exponent)
        narrow = H is None and _wide.pays(rows)
        fitted, expand = _wide.coordinates(fitted) if narrow else (fitted, _as_it_is)
        update = UPDATES[options.solver]
        steps = steps_per_pass(update, fitted.shape[1], k) if options.accelerate else 1

        def start(rng: np.random.RandomState) -> _init.Start:
            if options.init == "custom":
                return _init.custom(fitted, W, H, l1, scale.exponent, lift=options.solver == "mu")
            return _init.STARTS[options.init](fitted, k, rng)

        run = _best_run(Alternation(fitted, scale.square, l1, update, steps), options, start)
        found = expand(backend.algebra.to_host(run.H))
        result, shares = _finished(rows, run, found, scale, l1, keep_order=options.init == "custom")
        dtype = working_dtype(X.dtype)
        result = replace(
            result,
            W=source.asarray(source.bring(result.W, backend), dtype),
            H=source.asarray(result.H, dtype),
        )
    for complaint in _complaints(result, options, shares, scale.longest / rms if rms else 0.0):
        warnings.warn(complaint, ConvergenceWarning, stacklevel=callers_level())
    return result


def fit_transform(
    X: Any,
    n_components: int | None = None,
    *,
    W: Any = None,
    H: Any = None,
    **parameters: Any,
) -> Array:
    """Factorise X and return the weights: ``factorize(X, …).W``.

    Parameters
    ----------
    X : array-like or sparse matrix of shape (n_samples, n_features)
        The data, of any sign.
    n_components : int, default=None
        The number of components k. None is min(n_samples, n_features).
    W, H : array-like, default=None
        A start, with ``init="custom"``: see `factorize`.
    **parameters
        Any parameter of `SNMF`, with the same meaning and default.

    Returns
    -------
    W : array of shape (n_samples, n_components)
        The weights, ≥ 0.

    Examples
    --------
    >>> import numpy as np, snmf
    >>> snmf.fit_transform(np.eye(3) - 0.5, 2, random_state=0).shape
    (3, 2)
    """
    return factorize(X, n_components, W=W, H=H, **parameters).W


def exact_transform(
    X: Any, H: np.ndarray, penalty: float, *, backend: Any, device: Any, n_jobs: int | None
) -> tuple[Array, float]:
    """The exact W of data for given components, and the share of ‖X‖² that it leaves.

    Parameters
    ----------
    X : array or sparse matrix of shape (n_samples, n_features)
        Checked by its owner.
    H : ndarray of shape (n_components, n_features)
        As a fit returns them.
    penalty : float
        The λ of the fit.
    backend, device, n_jobs
        As for `SNMF`.

    Returns
    -------
    W : array of shape (n_samples, n_components)
    unexplained : float
        ‖X − W H‖² / ‖X‖², and 0 for X = 0.
    """
    source = owner(X)
    ops = choose(backend, source, device)
    with ops.active(), ops.rows(ops.bring(X, source)).threads(n_jobs) as rows:
        scale = measure(rows)
        exponent = scale.exponent + math.frexp(scale.longest)[1]
        W, square, squares = _nnls.exact_weights(rows, H, penalty, exponent)
        check_range(rows.dtype, float(np.sqrt(squares.max())), exponent)
        whole = math.ldexp(scale.square, -2 * (exponent - scale.exponent))
        W = source.asarray(source.bring(rows.join(W), ops), working_dtype(X.dtype))
        return W, square / whole if whole else 0.0


def _check_start(
    options: Options, W: Any, H: Any, shape: tuple[int, int], k: int, source: Backend
) -> tuple[np.ndarray | None, np.ndarray | None]:
    given = W is not None or H is not None
    if given != (options.init == "custom"):
        raise ValueError(
            "init='custom' and a start go together: pass W, H or both with it, and neither "
            f"without it; got init={options.init!r} and {'a start' if given else 'no start'}"
        )
    W = check_factor(W, "W", (shape[0], k), source)
    H = check_factor(H, "H", (k, shape[1]), source)
    if W is not None and W.min() < 0:
        raise ValueError(f"W must be nonnegative; its smallest entry is {W.min():g}")
    return W, H


def check_factor(A: Any, name: str, shape: tuple[int, int], source: Backend) -> np.ndarray | None:
    if A is None:
        return None
    theirs = owner(A)
    if theirs != source:
        raise ValueError(
            f"{name} must be an array of the library and the device of X, {source.place}; "
            f"got one of {theirs.place}"
        )
    A = check_array(theirs.to_host(A), dtype="float64", input_name=name)
    if A.shape != shape:
        raise ValueError(f"{name} must have shape {shape}; got {A.shape}")
    return A  # type: ignore[no-any-return]


def _as_it_is(H: np.ndarray) -> np.ndarray:
    return H


def _best_run(alternation: Alternation, options: Options, start: Callable[..., Any]) -> Run:
    """The best of the restarts, by its objective."""
    rng = check_random_state(options.random_state)
    runs = []
    for _ in range(options.n_init if options.init in DRAWN else 1):
        with progress(options.max_iter, options.progress_bar, options.verbose) as watch:
            runs.append(
                solve(
                    alternation.start(*start(rng)),
                    alternation.advance,
                    tol=options.tol,
                    max_iter=options.max_iter,
                    accelerate=options.accelerate,
                    watch=watch,
                )
            )
    return min(runs, key=lambda run: run.loss_curve[-1])


def _finished(
    rows: Rows, run: Run, H: np.ndarray, scale: Scale, l1: float, *, keep_order: bool
) -> tuple[Factorization, np.ndarray]:
    """The canonical form: H of unit rows, its exact W, components by decreasing weight.

    And ‖w_j‖ / ‖X‖_F for every component j (for X = 0, one: there is nothing to say of it).
    """
    ops = rows.backend
    H = _init.unit_rows(H)[0].astype(rows.dtype)
    penalty = float(np.ldexp(l1, scale.exponent))
    exponent = scale.exponent + math.frexp(scale.longest)[1]
    W, square, squares = _nnls.exact_weights(rows, H, penalty, exponent)
    order = np.arange(len(H)) if keep_order else np.argsort(-squares, kind="stable")
    unique = not _nnls.is_delicate(H)
    H, squares = H[order], squares[order]
    if unique:
        alive = ops.asarray((squares > 0).astype(rows.dtype))
        columns = ops.asarray(order)
        W, _ = rows.map_sum(lambda X, part: (ops.xp.take(part, columns, axis=1) * alive, ()), W)
    while not unique:  # the order has a part in W, and so has every row of H
        H[squares == 0] = 0
        W, square, squares = _nnls.exact_weights(rows, H, penalty, exponent)
        unique = not np.any((squares == 0) & np.any(H != 0, axis=1))
    H[squares == 0] = 0
    check_range(rows.dtype, float(np.sqrt(squares.max())), exponent)
    whole = np.ldexp(scale.square, 2 * (scale.exponent - exponent))
    shares = np.sqrt(squares / whole) if whole else np.ones_like(squares)
    result = Factorization(
        W=rows.join(W),
        H=H,
        error=float(np.ldexp(square**0.5, exponent)),
        penalty=penalty,
        n_iter=len(run.loss_curve) - 1,
        loss_curve=np.array(run.loss_curve),
        converged=run.converged,
        reason=run.reason,
    )
    return result, shares


def _complaints(
    result: Factorization, options: Options, shares: np.ndarray, largest_sparsity: float
) -> Iterator[str]:
    """What a person should know of the result, with advice."""
    if options.tol > 0 and not result.converged:
        last = f", and the last fell by more than tol={options.tol:g}" if result.n_iter else ""
        yield f"The fit has not converged: {result.reason}{last}. Raise max_iter, or tol."
    yield from complaints_of_components(shares, options.init, options.sparsity, largest_sparsity)


def complaints_of_components(
    shares: np.ndarray, init: str, sparsity: float, largest_sparsity: float
) -> Iterator[str]:
    """What there is to say of components that died, or that cancel.

    `shares` are ‖w_j‖ / ‖X‖_F for every component j.
    """
    dead = int(np.sum(shares == 0))
    if dead == len(shares) and init == "custom":
        yield "All weights are zero. Start from positive weights, or lower sparsity."
    elif dead == len(shares):
        yield (
            f"All weights are zero: sparsity={sparsity:g} is too large. For this X any "
            f"value from {largest_sparsity:.3g} on does that; useful ones are mostly below a "
            "third of it."
        )
    elif dead:
        yield (
            f"{dead} of {len(shares)} components died: their weights are all zero. Lower "
            "n_components or sparsity, or try another init."
        )
    if np.max(shares) > CANCELLING:
        yield (
            "Components are nearly collinear, so that their weights cancel: a single one is "
            f"{np.max(shares):.3g} times as large as X. Lower n_components, or set sparsity."
        )


def callers_level() -> int:
    """The stack level, for `warnings.warn`, of the first frame that is not this library's."""
    frame, level = sys._getframe(1), 1
    while frame.f_back and frame.f_globals["__name__"].split(".")[0] in ("snmf", "sklearn"):
        frame, level = frame.f_back, level + 1
    return level
