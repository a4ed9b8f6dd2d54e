"""The functions `factorize` and `fit_transform`, and the result `Factorization`.

`factorize` checks its arguments, chooses the backend, makes the starts, runs the loop of
`snmf.core.solve` and returns the factors in the array library of X.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, fields
from functools import partial
from operator import call
from typing import Any, Literal, NamedTuple, Unpack

import numpy as np
from sklearn.utils import check_random_state

from snmf import _advice
from snmf._arguments import (
    OfOneFit,
    check_fixed,
    check_intercept,
    check_nonzero_features,
    check_options,
    check_scale,
    check_start,
    check_weights,
    number_of_components,
)
from snmf._checkpoint import Checkpoint
from snmf._data import Data
from snmf._html import table
from snmf._progress import progress
from snmf._transform import handed_back
from snmf.backends import choose
from snmf.core.canonical import Canonical
from snmf.core.deviations import divisors
from snmf.core.options import DRAWN, Options, chosen
from snmf.core.problem import Problem
from snmf.core.solve import Alternation, Point, Run, State, solve
from snmf.storage.parts import Output, check_output
from snmf.storage.rows import Rows, check_range, taking_part

ANY_OF = {  # a fit may continue from a checkpoint with other values of these parameters
    "progress_bar", "verbose", "backend", "device", "n_jobs", "checkpoint", "checkpoint_interval",
}  # fmt: skip


class Iteration(NamedTuple):
    """The argument of a callback: the state after one iteration.

    Attributes
    ----------
    number : int
        The number of the iteration, from 1.
    loss : float
        The objective divided by ½‖X‖².
    rms, penalty : float
        As in `Factorization`.
    components : callable
        Returns the current H, (n_components, n_features), as a NumPy array.
    """

    number: int
    loss: float
    rms: float
    penalty: float
    components: Callable[[], np.ndarray]


Callback = Callable[[Iteration], bool | None]


@dataclass(frozen=True, repr=False)
class Factorization:
    """A semi-nonnegative matrix factorization ``X ≈ W H``.

    Attributes
    ----------
    W : array of shape (n_samples, n_components)
        The weights, ≥ 0: the exact minimiser for H. They carry the scale of X.
    H : array of shape (n_components, n_features)
        The components. The rows have unit norm. They are in the order of decreasing norm of the
        columns of W, or in the order of the given start. A component that died is a zero row of H
        and a zero column of W. With locality the rows are prototypes, at the scale of X, and one
        that died is a zero column of W only.
    error : float
        ‖X − W H‖_F, weighted by `sample_weight` if that was given.
    rms : float
        The root mean square norm of the rows of X.
    penalty : float
        sparsity × rms: the λ of the objective ½‖X − W H‖² + λ Σ W, in units of X. With locality,
        where W has no unit, λ is this times rms.
    n_iter : int
        The number of iterations.
    loss_curve : ndarray of shape (n_iter + 1,)
        The objective divided by ½‖X‖², before the first and after every iteration.
    converged : bool
        Whether the last iteration lowered the objective by less than tol, or rounding stopped it.
    reason : str
        Why the fit stopped, in words.
    intercept : array of shape (n_features,) or None
        The intercept m of ``X ≈ 1 mᵀ + W H``. None without `fit_intercept`. With it, `error` is
        ‖X − 1 mᵀ − W H‖_F, and `rms` and `loss_curve` are those of X less its mean.
    scale : array of shape (n_features,) or None
        What the columns of X were divided by. None without `scale`. With it, everything above is
        that of X / scale, and (1 mᵀ + W H) × scale is near X.
    """

    W: np.ndarray
    H: np.ndarray
    error: float
    rms: float
    penalty: float
    n_iter: int
    loss_curve: np.ndarray
    converged: bool
    reason: str
    intercept: np.ndarray | None = None
    scale: np.ndarray | None = None

    def __str__(self) -> str:
        return "\n".join(f"{name:<16} {words}" for name, words in self._facts())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return table((), self._facts())

    def _facts(self) -> list[tuple[str, str]]:
        W = "not kept" if self.W is None else " × ".join(map(str, self.W.shape))
        vectors = (("intercept", self.intercept), ("scale", self.scale))
        return [
            ("W", W),
            ("H", " × ".join(map(str, self.H.shape))),
            *((name, str(len(vector))) for name, vector in vectors if vector is not None),
            ("error ‖X − W H‖", f"{self.error:.6g}"),
            ("penalty λ", f"{self.penalty:.6g}"),
            ("iterations", str(self.n_iter)),
            ("stopped because", self.reason),
        ]


def factorize(
    X: Any,
    n_components: int | None = None,
    *,
    W: Any = None,
    H: Any = None,
    sample_weight: Any = None,
    fixed: Literal["W"] | int | None = None,
    intercept: Any = None,
    exact: bool = True,
    out: Output = None,
    callback: Callback | None = None,
    **parameters: Unpack[OfOneFit],
) -> Factorization:
    """Factorise X into nonnegative weights and components of any sign, ``X ≈ W H``.

    Parameters
    ----------
    X : array-like or sparse matrix of shape (n_samples, n_features)
        The data, of any sign.
    n_components : int, default=None
        Sets the number of components k. None takes the number in a given H or W, or else
        min(n_samples, n_features).
    W : array-like of shape (n_samples, n_components), default=None
        Weights to start from, with ``init="custom"``.
    H : array-like of shape (n_components, n_features), default=None
        Components to start from, with ``init="custom"``. With `scale` they are those of X / scale.
    sample_weight : array-like of shape (n_samples,), default=None
        Sets how much each row counts, ≥ 0: the objective sums over the rows with these weights.
        None is 1 for each.
    fixed : "W" or int, default=None
        Keeps a given factor, where W and H would only be a start. ``"W"`` keeps the given W, and
        finds H by least squares; the result is W with its columns multiplied by the norms of the
        rows of H. An integer m keeps the first m rows of the given H, up to their norms. If H has
        m rows, `init` starts the others. If H has all k rows, the others start from it.
    intercept : array-like of shape (n_features,), default=None
        The intercept to start from with a given H, if `fit_intercept` is true. None starts from
        the mean of X.
    exact : bool, default=True
        Solves for W exactly at the end, for the H that was found. With False, W is as the last
        iteration left it, in the order of the start: the G of Ding, Li & Jordan, with
        ``solver="mu", accelerate=False, sparsity=0, init="kmeans"``. It goes with no checkpoint,
        no locality, no intercept, and no rows of weight 0.
    out : path, default=None
        Writes W to this .npy file, and returns the file memory-mapped. Set it if W does not fit
        in memory. The file appears when it is complete, and replaces a file of that name. With
        False, W is not computed for the caller, and is None in the result.
    callback : callable, default=None
        Is called with an `Iteration` after every iteration. If it returns a true value, the fit
        stops and returns the current factors.
    **parameters
        Any parameter of `SNMF`, with the same meaning and default.

    Returns
    -------
    Factorization
        W, H, and how the fit went.

    Raises
    ------
    ValueError
        If a parameter, X, W or H is invalid.
    TypeError
        If a parameter is unknown, or X does not hold numbers.
    OSError
        If rows of X cannot be read, or W cannot be written.

    Warns
    -----
    ConvergenceWarning
        If the fit reaches `max_iter`, or if components died, cancel each other, or are all zero.

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
        raise TypeError(f"got unknown parameters {unknown}; those of SNMF are {names}")
    options = check_options(n_components, parameters)
    if options.warm_start:
        raise ValueError("warm_start is for SNMF; give an H to start from, with init='custom'")
    check_fixed(fixed)
    if not exact:
        _check_inexact(options, fixed)
    data = Data.of(X).sized()
    source, dtype = data.owner, data.dtype
    backend = choose(options.backend, source, options.device)
    D, weight_exponent = check_weights(sample_weight, data.shape[0])
    check_nonzero_features(options.n_nonzero_features, data.shape[1])
    k = number_of_components(n_components, data.shape, D, W, H)
    W, H = check_start(options, W, H, fixed, data.shape, k, source)
    intercept = check_intercept(intercept, options, H, data.shape[1], source)
    scale = check_scale(options.scale, data.shape[1])
    check_output(out, data.X, (data.shape[0], k), dtype)
    with (
        backend.active(),
        data.threaded(backend, options.n_jobs) as every,
        ExitStack() as stack,
    ):
        given = {"W": W, "H": H, "sample_weight": D, "fixed": fixed, "intercept": intercept,
                 "scale": scale}  # fmt: skip
        missing = options.missing_values is not None
        as_given, D, members = taking_part(every, D, missing)
        units = divisors(scale, as_given, D, missing)
        rows, every = as_given.divided(units), every.divided(units)
        if members is not None and not exact:
            raise ValueError("exact=False goes with no rows of weight 0. Leave these rows out.")
        everything = None if members is None or out is False else (every, W)
        W = W if W is None or members is None else W[members]
        problem = Problem(rows, options, k, W, H, fixed, D, everything, intercept)
        norm, exponent = problem.scale.square**0.5, problem.scale.exponent + weight_exponent // 2
        check_range("float64", norm, exponent)  # the reported ‖X − W H‖ has the sample weights
        checkpoint = checkpoint_of(options, rows, out, n_components=k, **given)
        if checkpoint:
            stack.enter_context(checkpoint).is_of(as_given, problem.scale)
        fitted, expand = problem.fitted(checkpoint.recall if checkpoint else call)
        rms, penalty = math.ldexp(problem.rms, problem.scale.exponent), problem.penalty

        def components(point: Point) -> np.ndarray:
            H = problem.components(expand(point.H))
            return H.astype(dtype, copy=False)

        def tell(number: int, point: Point) -> bool:
            if callback is None:
                return False
            return bool(
                callback(Iteration(number, point.loss, rms, penalty, partial(components, point)))
            )

        if problem.nothing_free:
            run = problem.run_of_given()
        else:
            run = best_run(problem, problem.alternation(fitted), checkpoint, tell, not exact)
        found = problem.canonical(expand(run.H), None if exact else run.W)
        result = Factorization(
            W=handed_back(every, found.W, source, dtype, out),
            H=source.asarray(found.H, dtype),
            error=math.ldexp(found.error, weight_exponent // 2),
            rms=rms,
            penalty=penalty,
            n_iter=len(run.loss_curve) - 1,
            loss_curve=np.array(run.loss_curve),
            converged=run.converged,
            reason=run.reason,
            intercept=None if found.intercept is None else source.asarray(found.intercept, dtype),
            scale=None if units is None else source.asarray(units, dtype),
        )
        advice = [*_advice_on_data(problem), *advice_on_run(problem, run, found)]
    _advice.warn(advice)
    return result


def fit_transform(
    X: Any,
    n_components: int | None = None,
    *,
    W: Any = None,
    H: Any = None,
    sample_weight: Any = None,
    fixed: Literal["W"] | int | None = None,
    out: Output = None,
    **parameters: Unpack[OfOneFit],
) -> np.ndarray:
    """Factorise X and return the weights: ``factorize(X, …).W``.

    Parameters
    ----------
    X : array-like or sparse matrix of shape (n_samples, n_features)
        The data, of any sign.
    n_components : int, default=None
        Sets the number of components k. None takes the number in a given H or W, or else
        min(n_samples, n_features).
    W, H : array-like, default=None
        A start, with ``init="custom"``: see `factorize`.
    sample_weight : array-like of shape (n_samples,), default=None
        How much each row counts.
    fixed : "W" or int, default=None
        Keeps W, or the first rows of H, as they were given: see `factorize`.
    out : path, default=None
        Writes W to this .npy file: see `factorize`.
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


def _check_inexact(options: Options, fixed: Any) -> None:
    """Raise ValueError if W must be solved for at the end."""
    given = {"fixed": fixed, "checkpoint": options.checkpoint, "locality": options.locality or None,
             "fit_intercept": options.fit_intercept or None}  # fmt: skip
    if names := [name for name, value in given.items() if value is not None]:
        raise ValueError(f"exact=False does not go with {' or '.join(names)}. Leave one out.")


def checkpoint_of(
    options: Options, rows: Rows, out: Output, columns: int | None = None, **given: Any
) -> Checkpoint | None:
    """Return the checkpoint of this fit, or None if the options ask for none.

    H has as many columns as X, or `columns`.
    """
    if options.checkpoint is None:
        return None
    if out and _place_of(out) == _place_of(options.checkpoint):
        raise ValueError(f"out and checkpoint must be two files; got '{os.fspath(out)}' for both")
    parameters = {f.name: getattr(options, f.name) for f in fields(options)}
    parameters["solver"] = chosen(options.solver, options.positive_components)
    numbers = {n: value for n, value in (parameters | given).items() if n not in ANY_OF}
    return Checkpoint(options.checkpoint, options.checkpoint_interval, rows, numbers, columns)


def _place_of(path: str | os.PathLike[str]) -> str:
    """Return the path with links resolved; on Windows in lower case, where case does not count."""
    return os.path.normcase(os.path.realpath(path))


def best_run(
    problem: Problem,
    alternation: Alternation,
    checkpoint: Checkpoint | None,
    tell: Callable[[int, Point], bool],
    with_weights: bool,
) -> Run:
    """Run every restart, and return the one with the lowest objective, perhaps with its W."""
    options, rng = problem.options, check_random_state(problem.options.random_state)
    first, best = checkpoint.restarts(rng) if checkpoint else (0, None)

    def begin(number: int) -> State:
        if checkpoint and (saved := checkpoint.state(number, alternation.rows)):
            return saved
        state = State.of(problem.begin(alternation, rng))
        if checkpoint:
            checkpoint.remember(alternation.rows, rng, number, best, state)
        return state

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
        if not with_weights:
            run = run._replace(W=None)
        best = min(best or run, run, key=lambda run: run.loss_curve[-1])
    assert best is not None
    return problem.better(best)


def _advice_on_data(problem: Problem) -> Iterator[str]:
    options = problem.options
    plain = problem.fixed is None and not options.locality
    if plain and not options.fit_intercept and problem.rms:
        yield from _advice.of_mean(problem.mean_share)
    yield from _advice.of_level(problem.level, problem.rows.dtype)
    if problem.fixed is None:
        penalized = bool(options.sparsity or options.locality)
        yield from _advice.of_number(problem.n_components, *problem.rows.shape, penalized)
    if problem.seen is not None:
        yield from _advice.of_missing(problem.seen)


def advice_on_run(problem: Problem, run: Run, found: Canonical) -> Iterator[str]:
    """Yield advice on how a fit ended, and on its components."""
    options, rms = problem.options, problem.rms
    yield from _advice.of_iterations(
        len(run.loss_curve) - 1, options.max_iter, options.tol,
        converged=run.converged, reason=run.reason,
    )  # fmt: skip
    largest = problem.scale.longest / rms if rms else 0.0
    mass = problem.mass(found)
    yield from _advice.of_components(found.shares, mass, options.init, options.sparsity, largest)
