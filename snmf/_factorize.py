"""From the caller's data to the caller's factors: choose backend and rows, start, solve."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from functools import partial
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_array, check_random_state

from snmf import _init, _local, _missing, _nnls, _wide
from snmf._checkpoint import Checkpoint
from snmf._options import UPDATES, Options
from snmf._parts import Output, check_output, write_npy
from snmf._progress import progress
from snmf._rows import Rows, RowWise, Scale, check_range, measure, working_dtype
from snmf._solve import Alternation, Point, Run, State, solve, steps_per_pass
from snmf.backends import Backend, choose, owner

Array = Any

ALL_ZERO = 1e30  # a sparsity from which on no weight is left, whatever the number of rows
CANCELLING = 100.0  # times ‖X‖_F: from there on a component says more of the others than of X
FAR = 60  # powers of two, beyond which rows have nothing to do with the prototypes of a fit
ANY_OF = {  # what a fit that goes on may have otherwise
    "progress_bar", "verbose", "backend", "device", "n_jobs", "checkpoint", "checkpoint_interval",
}  # fmt: skip
DRAWN = ("kmeans", "random")  # the starts that a restart can change


class Iteration(NamedTuple):
    """What a callback sees.

    Attributes
    ----------
    number : int
        From 1.
    loss : float
        The objective over ½‖X‖².
    rms, penalty : float
        As those of the `Factorization`.
    components : callable
        Gives H as it stands, (n_components, n_features), on the host.
    """

    number: int
    loss: float
    rms: float
    penalty: float
    components: Callable[[], np.ndarray]


Callback = Callable[[Iteration], bool | None]


@dataclass(frozen=True)
class Factorization:
    """A semi-nonnegative matrix factorization ``X ≈ W H``.

    Attributes
    ----------
    W : array of shape (n_samples, n_components)
        The weights, ≥ 0: the exact minimiser for H. They carry the scale.
    H : array of shape (n_components, n_features)
        The components, of unit norm (a component that died is a zero row, and a zero column of
        W), in the order of decreasing norm of their columns in W unless a start was given. With
        locality they are prototypes, at the scale of X.
    error : float
        ‖X − W H‖_F, its rows weighted where `sample_weight` was given.
    rms : float
        The root mean square norm of the rows of X.
    penalty : float
        The λ of the objective ½‖X − W H‖² + λ Σ W, in units of X: sparsity × rms. With locality,
        where W has no unit, λ is this times rms.
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
    rms: float
    penalty: float
    n_iter: int
    loss_curve: np.ndarray
    converged: bool
    reason: str


def factorize(
    X: Any,
    n_components: int | None = None,
    *,
    W: Any = None,
    H: Any = None,
    sample_weight: Any = None,
    fixed: str | int | None = None,
    out: Output = None,
    callback: Callback | None = None,
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
    sample_weight : array-like of shape (n_samples,), default=None
        How much each row counts, ≥ 0: the objective is summed over rows with these weights. None
        is 1 for each.
    fixed : "W" or int, default=None
        What of W and H is no start, but stays. ``"W"``: the given W, to whose scale no row of H is
        bound, so that H is by least squares; then W is not solved for in the end either, only
        multiplied by the norms of the rows of H. m: the first m rows of the given H, up to their
        norms; H has m rows, and `init` starts the others, or all of them, which are then a start.
    out : path, default=None
        A .npy file to write W to: W then is this file, memory-mapped, and needs no memory of its
        own. The file is there when it is whole; one of that name is replaced. With False there
        is no W on return.
    callback : callable, default=None
        It is called with an `Iteration` after every one of them; where it returns a true value
        the fit ends with what it has.
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
    OSError
        If rows of X cannot be read, or W cannot be written.

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
    if options.warm_start:
        raise ValueError("warm_start is for SNMF; give an H to start from, with init='custom'")
    source = owner(X)
    X = source.sized(source.check(X))
    dtype = working_dtype(X.dtype)
    backend = choose(options.backend, source, options.device)
    k = int(n_components or min(X.shape))
    W, H = _check_start(options, W, H, fixed, X.shape, k, source)
    check_output(out, X, (X.shape[0], k), dtype)
    if options.locality and fixed is not None:
        raise ValueError("locality goes with no fixed part: set locality=0, or leave fixed out")
    kept = None if fixed in (None, "W") else _init.unit_rows(H[:fixed])[0]
    D, weight_exponent = _check_weights(sample_weight, X.shape[0])
    with backend.active(), source.rows(X, backend).threads(options.n_jobs) as rows:
        given = {"W": W, "H": H, "sample_weight": D, "fixed": fixed}
        checkpoint = _checkpoint(options, rows, n_components=k, **given)
        weights = None if D is None else rows.split(D)
        zeros = None if options.missing_values is None else np.zeros(X.shape[1])
        scale = measure(rows.filled(zeros), weights)
        if checkpoint:
            checkpoint.is_of(rows, scale)
        total = len(rows) if D is None else float(D.sum())
        rms = (scale.square / total) ** 0.5
        l1 = min(float(options.sparsity), ALL_ZERO) * rms
        fitted = rows.scaled(scale.exponent)
        seen = None if zeros is None else _missing.observed(fitted)
        narrow = H is None and seen is None and _wide.pays(rows)
        expand: Callable[[np.ndarray], np.ndarray] = _as_it_is
        if narrow:
            make = partial(_wide.coordinates, fitted)
            fitted, expand = _wide.over(fitted, checkpoint.recall(make) if checkpoint else make())
        complete = fitted if seen is None else fitted.filled(seen.means)
        update = "kept" if fixed == "W" else UPDATES[options.solver]
        steps = steps_per_pass(update, X.shape[1], k) if options.accelerate else 1

        def start(rng: np.random.RandomState) -> _init.Start:
            lift = options.solver == "mu"
            if W is not None or (H is not None and len(H) == k):
                return _init.custom(complete, W, H, l1, scale.exponent, lift)
            if kept is None:
                return _init.STARTS[options.init](complete, k, rng, D)
            rest, _ = _init.STARTS[options.init](complete, k - len(kept), rng, D)
            return _init.beside(complete, kept, rest, l1, lift), None

        beside = None if D is None else fitted.split(D)  # in the blocks of these rows
        alternation = Alternation(
            fitted, scale.square, 0.0 if fixed == "W" else l1, update, steps, beside,
            None if kept is None else backend.algebra.asarray(kept),
        )  # fmt: skip
        if seen is not None:
            alternation = _missing.Incomplete(**vars(alternation), means=seen.means)
        if options.locality:
            steps = steps_per_pass("multiplicative", X.shape[1], k) if options.accelerate else 1
            alternation = _local.Local(
                fitted, scale.square, l1 * rms, update, steps, beside,
                mu=options.locality, total=total,
            )  # fmt: skip

        def tell(number: int, point: Point) -> bool:
            if callback is None:
                return False

            def components() -> np.ndarray:
                H = expand(backend.algebra.to_host(point.H))
                whole = np.ldexp(H, scale.exponent) if options.locality else _init.unit_rows(H)[0]
                return whole.astype(dtype)

            size, penalty = (math.ldexp(value, scale.exponent) for value in (rms, l1))
            return bool(callback(Iteration(number, point.loss, size, penalty, components)))

        run = _best_run(alternation, options, start, checkpoint, tell)
        found = expand(backend.algebra.to_host(run.H))
        keep_order = options.init == "custom" or fixed is not None
        exact = partial(
            _nnls.exact_weights, rows, weights=weights,
            solve=None if seen is None else _missing.best_weights,
        )  # fmt: skip
        if fixed == "W":
            exact = partial(
                _as_given,
                rows,
                start(check_random_state(None))[0],
                _init.unit_rows(found)[1],
                scale,
                weights,
            )
        if options.locality:
            exact = partial(
                _local.exact_weights, rows.scaled(scale.exponent), mu=options.locality,
                mean_square=rms**2, l1=l1 * rms, weights=weights,
            )  # fmt: skip
        finished = _finished_local if options.locality else _finished
        result, shares = finished(
            rows, run, found, scale, l1, exact, keep_order=keep_order,
            fixed=0 if kept is None else len(kept),
        )  # fmt: skip
        result = replace(result, rms=math.ldexp(rms, scale.exponent))
        result = replace(
            result,
            error=math.ldexp(result.error, weight_exponent // 2),
            W=_handed_back(rows, result.W, source, dtype, out),
            H=source.asarray(result.H, dtype),
        )
        if checkpoint:
            checkpoint.remove()
    largest = scale.longest / rms if rms else 0.0
    for complaint in [*_of_missing(seen), *_complaints(result, options, shares, largest)]:
        warnings.warn(complaint, ConvergenceWarning, stacklevel=callers_level())
    return result


def fit_transform(
    X: Any,
    n_components: int | None = None,
    *,
    W: Any = None,
    H: Any = None,
    sample_weight: Any = None,
    fixed: str | int | None = None,
    out: Output = None,
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
    sample_weight : array-like of shape (n_samples,), default=None
        How much each row counts.
    fixed : "W" or int, default=None
        What of W and H stays: see `factorize`.
    out : path, default=None
        A .npy file to write W to: see `factorize`.
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
    given = {"W": W, "H": H, "sample_weight": sample_weight, "fixed": fixed, "out": out}
    return factorize(X, n_components, **given, **parameters).W


class Explained(NamedTuple):
    """Data, and what components say of them.

    Attributes
    ----------
    W : array of shape (n_samples, n_components)
        The exact weights.
    n_samples : int
    left : float
        ‖X − W H‖², in units of 4 ** exponent.
    whole : float
        ‖X‖², in the same units.
    exponent : int
        About that of the largest row norm.
    entries : int
        The number of (observed) entries of X.
    """

    W: Array
    n_samples: int
    left: float
    whole: float
    exponent: int
    entries: int


def exact_transform(
    X: Any,
    H: np.ndarray,
    penalty: float,
    *,
    backend: Any,
    device: Any,
    n_jobs: int | None,
    missing_values: float | None,
    locality: float,
    rms: float,
    sample_weight: Any = None,
    out: Output = None,
) -> Explained:
    """The exact W of data for given components, and what it leaves of X.

    Parameters
    ----------
    X : array or sparse matrix of shape (n_samples, n_features)
        Checked by its owner.
    H : ndarray of shape (n_components, n_features)
        As a fit returns them.
    penalty : float
        The λ of the fit.
    backend, device, n_jobs, missing_values, locality
        As for `SNMF`.
    rms : float
        The root mean square norm of the rows of the fit.
    sample_weight : array-like of shape (n_samples,), default=None
        How much each row counts in the share.
    out : path, default=None
        A .npy file to write W to; with False there is no W.

    Returns
    -------
    Explained
    """
    source = owner(X)
    ops = choose(backend, source, device)
    X = source.sized(X)
    D, _ = _check_weights(sample_weight, X.shape[0])
    check_output(out, X, (X.shape[0], len(H)), working_dtype(X.dtype))
    with ops.active(), source.rows(X, ops).threads(n_jobs) as rows:
        weights = None if D is None else rows.split(D)
        zeros = None if missing_values is None else np.zeros(X.shape[1])
        scale = measure(rows.filled(zeros), weights)
        exponent = scale.exponent + math.frexp(scale.longest)[1]
        if locality:
            exponent = _exponent_of_fit(rms, exponent)
            unit_rms = math.ldexp(rms, -exponent)
            W, square, squares = _local.exact_weights(
                rows.scaled(exponent), np.ldexp(H, -exponent), locality, unit_rms**2,
                math.ldexp(penalty, -exponent) * unit_rms, weights,
            )  # fmt: skip
        else:
            solver = None if zeros is None else _missing.best_weights
            W, square, squares = _nnls.exact_weights(rows, H, penalty, exponent, weights, solver)
        check_range(rows.dtype, float(np.sqrt(squares.max())), exponent)
        whole = math.ldexp(scale.square, -2 * (exponent - scale.exponent))
        W = _handed_back(rows, W, source, working_dtype(X.dtype), out)
        count = X.shape[0] * X.shape[1] if zeros is None else _missing.observed(rows).entries
        return Explained(W, X.shape[0], square, whole, exponent, count)


def exact_weights(X: Any, H: np.ndarray, *, backend: Any, device: Any, **fitted: Any) -> Array:
    """The W of `exact_transform` alone, row by row: where X is lazy, W is."""
    source = owner(X)
    ops = choose(backend, source, device)
    check_output(fitted["out"], X, (X.shape[0], len(H)), working_dtype(X.dtype))
    weights = partial(_exact_weights, H=H, backend=ops, device=device, **fitted)
    return source.map_rows(weights, X, len(H))


def _exact_weights(X: Any, **fitted: Any) -> Array:
    return exact_transform(X, **fitted).W


def _handed_back(rows: Rows, W: RowWise, source: Backend, dtype: str, out: Output) -> Array:
    """W as an array of the caller's library, or in the file out."""
    if out is False:
        return None
    if out is None:
        return source.asarray(source.bring(rows.join(W), rows.backend), dtype)
    shape = len(rows), W[0].shape[1]
    return write_npy(out, map(rows.backend.to_host, W), rows.slices, shape, dtype)


def _exponent_of_fit(rms: float, exponent: int) -> int:
    """That of the data of the fit, if X, whose exponent is given, is not far larger."""
    own = math.frexp(rms)[1]
    if rms and exponent - own > FAR:
        raise ValueError(
            f"X is too large: its rows are 2**{exponent - own} times as long as those of the fit"
        )
    return own if rms else exponent


def _check_start(
    options: Options, W: Any, H: Any, fixed: Any, shape: tuple[int, int], k: int, source: Backend
) -> tuple[np.ndarray | None, np.ndarray | None]:
    given = W is not None or H is not None
    if fixed is None and given != (options.init == "custom"):
        raise ValueError(
            "init='custom' and a start go together: pass W, H or both with it, and neither "
            f"without it; got init={options.init!r} and {'a start' if given else 'no start'}"
        )
    rows_of_h = (k,) if fixed is None else _check_fixed(options, W, H, fixed, k)
    W = check_factor(W, "W", [(shape[0], k)], source)
    H = check_factor(H, "H", [(m, shape[1]) for m in rows_of_h], source)
    if W is not None and W.min() < 0:
        raise ValueError(f"W must be nonnegative; its smallest entry is {W.min():g}")
    return W, H


def _check_fixed(options: Options, W: Any, H: Any, fixed: Any, k: int) -> tuple[int, ...]:
    """How many rows the given H may have."""
    if fixed == "W":
        if W is None or H is not None:
            raise ValueError("fixed='W' asks for the W that stays, and for no H")
        return (k,)
    if not isinstance(fixed, Integral) or not 1 <= int(fixed) <= k:
        raise ValueError(f"fixed must be None, 'W', or from 1 to n_components={k}; got {fixed!r}")
    if H is None or W is not None:
        raise ValueError(f"fixed={fixed} asks for an H whose first rows stay, and for no W")
    return (k,) if options.init == "custom" else (int(fixed), k)


def check_factor(
    A: Any, name: str, shapes: list[tuple[int, int]], source: Backend
) -> np.ndarray | None:
    if A is None:
        return None
    theirs = owner(A)
    if theirs.home != source.home:
        raise ValueError(
            f"{name} must be an array of the library and the device of X, {source.place}; "
            f"got one of {theirs.place}"
        )
    A = check_array(theirs.to_host(A), dtype="float64", input_name=name)
    if A.shape not in shapes:
        words = " or ".join(map(str, shapes))
        raise ValueError(f"{name} must have shape {words}; got {A.shape}")
    return A  # type: ignore[no-any-return]


def _check_weights(sample_weight: Any, n_samples: int) -> tuple[np.ndarray | None, int]:
    """The weights over 2 ** exponent, (n, 1), so that the largest is about 1; None as it is."""
    if sample_weight is None:
        return None, 0
    D = owner(sample_weight).to_host(owner(sample_weight).asarray(sample_weight))
    D = check_array(D, ensure_2d=False, dtype="float64", input_name="sample_weight")
    if D.shape != (n_samples,):
        raise ValueError(f"sample_weight must have shape ({n_samples},); got {D.shape}")
    if D.min() < 0:
        raise ValueError(f"sample_weight must be nonnegative; its smallest entry is {D.min():g}")
    if not D.any():
        raise ValueError("sample_weight must not be zero for every row")
    exponent = math.frexp(D.max())[1]
    exponent += exponent % 2  # so that its root is a power of two as well
    return np.ldexp(D, -exponent)[:, None], exponent


def _as_it_is(H: np.ndarray) -> np.ndarray:
    return H


def _checkpoint(options: Options, rows: Rows, **given: Any) -> Checkpoint | None:
    """The checkpoint that the options ask for, of this fit."""
    if options.checkpoint is None:
        return None
    parameters = {f.name: getattr(options, f.name) for f in fields(options)}
    numbers = {n: value for n, value in (parameters | given).items() if n not in ANY_OF}
    return Checkpoint(options.checkpoint, options.checkpoint_interval, rows, numbers)


def _best_run(
    alternation: Alternation,
    options: Options,
    start: Callable[..., Any],
    checkpoint: Checkpoint | None,
    tell: Callable[[int, Point], bool],
) -> Run:
    """The best of the restarts, by its objective."""
    rng = check_random_state(options.random_state)
    first, best = checkpoint.restarts(rng) if checkpoint else (0, None)

    def begin(number: int) -> State:
        if checkpoint and (saved := checkpoint.state(number, alternation.rows)):
            return saved
        return State.of(alternation.start(*start(rng)))

    for number in range(first, options.n_init if options.init in DRAWN else 1):
        keep = None
        if checkpoint:
            keep = partial(checkpoint.keep, alternation.rows, rng, number, best)
        with progress(options.max_iter, options.progress_bar, options.verbose) as show:

            def watch(number: int, point: Point, show: Callable[..., None] = show) -> bool:
                show(number, point.loss)
                return tell(number, point)

            run = solve(
                begin(number),
                alternation.advance,
                tol=options.tol,
                max_iter=options.max_iter,
                accelerate=options.accelerate,
                watch=watch,
                keep=keep,
            )
        best = min(best or run, run, key=lambda run: run.loss_curve[-1])
    assert best is not None
    return best


def _as_given(
    rows: Rows,
    W: RowWise,
    norms: np.ndarray,
    scale: Scale,
    weights: RowWise | None,
    H: np.ndarray,
    penalty: float,
    exponent: int,
) -> tuple[RowWise, float, np.ndarray]:
    """`snmf._nnls.exact_weights` where W is given: what it is for H of unit rows."""
    ops = rows.backend
    factors = ops.asarray(np.ldexp(norms, scale.exponent - exponent), rows.dtype)
    components = ops.asarray(H, rows.dtype)

    def of_block(X: Array, W: Array, D: Array | None = None) -> tuple[Array, tuple[Array, Array]]:
        W = W * factors
        errors, squares = ops.row_errors(ops.filled(X, W, components), W, components), W * W
        if D is not None:
            errors, squares = errors * D[:, 0], squares * D
        return W, (ops.xp.sum(errors), ops.xp.sum(squares, axis=0))

    W, (square, squares) = rows.scaled(exponent).map_sum(
        of_block, W, *(() if weights is None else (weights,))
    )
    half = exponent // 2
    W = rows.each(lambda part: part * 2.0**half * 2.0 ** (exponent - half), W)
    return W, float(square), ops.algebra.to_host(squares)


def _finished(
    rows: Rows,
    run: Run,
    H: np.ndarray,
    scale: Scale,
    l1: float,
    exact: Callable[..., Any],
    *,
    keep_order: bool,
    fixed: int,
) -> tuple[Factorization, np.ndarray]:
    """The canonical form: H of unit rows, its exact W, components by decreasing weight.

    And ‖w_j‖ / ‖X‖_F for every component j (for X = 0, one: there is nothing to say of it).
    """
    ops = rows.backend
    H = _init.unit_rows(H)[0].astype(rows.dtype)
    penalty = float(np.ldexp(l1, scale.exponent))
    exponent = scale.exponent + math.frexp(scale.longest)[1]
    W, square, squares = exact(H, penalty, exponent)
    order = np.arange(len(H)) if keep_order else np.argsort(-squares, kind="stable")
    unique = not _nnls.Components.of(ops.algebra, H).delicate
    H, squares = H[order], squares[order]
    if unique:
        alive = ops.asarray((squares > 0).astype(rows.dtype))
        columns = ops.asarray(order)
        W = rows.each(lambda part: ops.xp.take(part, columns, axis=1) * alive, W)
    may_die = np.arange(len(H)) >= fixed
    while not unique:  # the order has a part in W, and so has every row of H
        H[may_die & (squares == 0)] = 0
        W, square, squares = exact(H, penalty, exponent)
        unique = not np.any(may_die & (squares == 0) & np.any(H != 0, axis=1))
    H[may_die & (squares == 0)] = 0
    check_range(rows.dtype, float(np.sqrt(squares.max())), exponent)
    whole = np.ldexp(scale.square, 2 * (scale.exponent - exponent))
    shares = np.sqrt(squares / whole) if whole else np.ones_like(squares)
    return _result(W, H, np.ldexp(square**0.5, exponent), penalty, run), shares


def _finished_local(
    rows: Rows,
    run: Run,
    H: np.ndarray,
    scale: Scale,
    l1: float,
    exact: Callable[..., Any],
    *,
    keep_order: bool,
    fixed: int,
) -> tuple[Factorization, np.ndarray]:
    """With locality: H at the scale of X, its exact W, components by decreasing weight."""
    ops = rows.backend
    H = H.astype(rows.dtype)
    W, square, squares = exact(H)
    order = np.arange(len(H)) if keep_order else np.argsort(-squares, kind="stable")
    columns = ops.asarray(order)
    W = rows.each(lambda part: ops.xp.take(part, columns, axis=1), W)
    error = np.ldexp(square**0.5, scale.exponent)
    shares = np.sqrt(squares[order] / len(rows)) if scale.square else np.ones(len(H))
    penalty = float(np.ldexp(l1, scale.exponent))
    return _result(W, np.ldexp(H[order], scale.exponent), error, penalty, run), shares


def _result(W: Array, H: np.ndarray, error: float, penalty: float, run: Run) -> Factorization:
    return Factorization(
        W=W,
        H=H,
        error=float(error),
        rms=0.0,
        penalty=penalty,
        n_iter=len(run.loss_curve) - 1,
        loss_curve=np.array(run.loss_curve),
        converged=run.converged,
        reason=run.reason,
    )


def _complaints(
    result: Factorization, options: Options, shares: np.ndarray, largest_sparsity: float
) -> Iterator[str]:
    """What a person should know of the result, with advice."""
    if options.tol > 0 and not result.converged and result.n_iter == options.max_iter:
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


def _of_missing(seen: _missing.Observed | None) -> Iterator[str]:
    if seen is None:
        return
    if not seen.rows.all():
        yield f"{np.sum(~seen.rows)} rows of X have no observed entry: their weights are zero."
    if not seen.columns.all():
        yield (f"{np.sum(~seen.columns)} columns of X have no observed entry: H is zero there.")


def callers_level() -> int:
    """The stack level, for `warnings.warn`, of the first frame that is not this library's."""
    frame, level = sys._getframe(1), 1
    while frame.f_back and str(frame.f_globals.get("__name__")).split(".")[0] in (
        "snmf",
        "sklearn",
    ):
        frame, level = frame.f_back, level + 1
    return level
