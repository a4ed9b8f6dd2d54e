"""The scikit-learn estimator `ConvexNMF`: components made of the data, also through a kernel."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from numbers import Real
from os import PathLike
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.metrics.pairwise import PAIRWISE_KERNEL_FUNCTIONS
from sklearn.utils import check_array
from sklearn.utils._param_validation import Interval, StrOptions, validate_parameter_constraints
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from snmf import _advice
from snmf._arguments import (
    check_factor,
    check_options,
    check_random_state,
    check_start,
    check_weights,
    is_whole,
    number_of_components,
)
from snmf._callbacks import CallbackSupportMixin, reporter, with_callbacks
from snmf._checkpoint import Checkpoint
from snmf._data import Data
from snmf._factorize import Iteration, advice_on_run, best_run, checkpoint_of
from snmf._fitted import FittedComponents
from snmf._progress import bars_named
from snmf._transform import Explained, handed_back
from snmf.backends import Backend, choose, owner
from snmf.core import nnls
from snmf.core.convex import ConvexProblem, linear, through
from snmf.core.hull import solver, squared_error
from snmf.core.kernels import Kernel, KernelRows, scale_of
from snmf.core.options import Options
from snmf.core.solve import Alternation, Point
from snmf.storage.parts import check_output
from snmf.storage.rows import Rows, RowWise, check_range, measure, taking_part

Array = Any

MOST = 2000  # candidates, unless more are asked for

OPTIONS = (
    "tol", "max_iter", "progress_bar", "random_state", "sparsity", "verbose", "solver",
    "accelerate", "init", "n_init", "backend", "device", "n_jobs", "checkpoint",
    "checkpoint_interval",
)  # fmt: skip
CONSTRAINTS: dict[str, list[Any]] = {
    "solver": [StrOptions({"hals", "mu"})],
    "kernel": [StrOptions({*PAIRWISE_KERNEL_FUNCTIONS, "precomputed"}), callable],
    "gamma": [Interval(Real, 0, None, closed="left"), None],
    "degree": [Interval(Real, 0, None, closed="left")],
    "coef0": [Interval(Real, None, None, closed="neither")],
    "kernel_params": [dict, None],
}


def _has_score(estimator: Any) -> bool:
    if estimator.kernel == "precomputed":
        raise AttributeError("score needs k(x, x) of new rows, which a precomputed kernel lacks")
    return True


class ConvexNMF(CallbackSupportMixin, FittedComponents):  # type: ignore[misc] # untyped bases
    """Convex and kernel NMF: components that are nonnegative combinations of the data.

    Factorizes data of any sign as ``X ≈ W C Y``, with weights ``W ≥ 0`` and ``C ≥ 0``. The rows of
    Y are candidates: rows of X, or others. So every component is a weighted sum of a few rows that
    exist. The fit minimises ``½‖X − W C Y‖²_F + λ Σ W`` [1]_. With a kernel, the norm is that of
    its space.

    Parameters
    ----------
    n_components : int, default=None
        Sets the number of components k. None takes the number in a given C or W, or else
        min(n_samples, n_features).
    tol : float, default=1e-5
        Stops the fit when the objective, divided by ½‖X‖², falls by less than this in an
        iteration.
    max_iter : int, default=200
        Limits the number of iterations. One iteration is one pass over the rows of X.
    progress_bar : bool, default=True
        Shows a progress bar on a terminal or in a notebook.
    random_state : int, RandomState or Generator instance, or None, default=None
        Seeds the start, and the sample of candidates.
    sparsity : float, default=0.01
        Penalizes weights, as for `SNMF`: λ = sparsity × the root-mean-square norm of the rows of
        X, with components of norm at most 1. 0 is the objective of [1]_. On data without negative
        entries the candidates bound the components, and 0 gives about the same result. Keep the
        default on centred data: the combinations of their rows can be anything, so that 0 leaves
        the components as undetermined as those of `SNMF`.
    verbose : bool, default=False
        Prints a line for every iteration.
    candidates : int or array-like, default=None
        Selects the rows that components are made of. None takes all rows of X, or a random sample
        of 2000 if X has more. An int takes a random sample of so many rows. An array of ints, of
        shape (m,), holds indices of rows of X. A matrix (m, n_features), dense or sparse, holds
        the candidates themselves, such as centres of k-means. More candidates give a lower error.
        Time in an iteration and memory grow with m².
    kernel : str or callable, default="linear"
        Selects the kernel: "linear", any other name of `sklearn.metrics.pairwise.kernel_metrics`,
        a function of two rows, or "precomputed". X is then the kernel matrix of the training rows,
        (n_samples, n_samples), and `transform` takes that of new and training rows. Only the
        linear kernel has components in the space of X. A kernel that is not positive semidefinite
        is an error, as "additive_chi2" and mostly "sigmoid" are.
    gamma : float, default=None
        Sets the parameter γ of kernels that have one. None is the default of scikit-learn.
    degree : float, default=3
        Sets the degree of ``kernel="poly"``.
    coef0 : float, default=1
        Sets the constant of ``kernel="poly"`` and "sigmoid".
    kernel_params : dict, default=None
        Further arguments of a kernel that is a function. Ignored by other kernels.
    solver : {"hals", "mu"}, default="hals"
        Selects the updates of W and C. "mu" is the multiplicative updates of [1]_. "hals" is
        coordinate descent for W, and active sets for the rows of C. It needs fewer iterations, and
        makes exact zeros, so that a component is made of few candidates.
    accelerate : bool, default=True
        Repeats the steps within a pass, and extrapolates C between passes. The objective never
        rises either way.
    init : {"auto", "skewness", "varimax", "kmeans", "svd", "random", "custom"}, default="auto"
        Selects the start of W, as for `SNMF`; "kmeans" is that of [1]_. C then follows by least
        squares. With another kernel the start is made from the rows of the kernel matrix. "custom"
        starts from the W, or the W and C, that `fit` gets.
    n_init : int, default=1
        Repeats the fit from this many starts, and keeps the one with the lowest objective. All
        have the same candidates.
    backend : str or Backend, default="auto"
        Selects the library that does the arithmetic. Kernels other than "linear" need NumPy, and
        rows in this process rather than on Dask.
    device : object, default=None
        Selects the device of that library.
    n_jobs : int, default=None
        Sets the number of threads; each works on a block of rows. −1 takes all cores.
    checkpoint : path-like, default=None
        Saves the state of the fit in this file, as for `SNMF`. If candidates are sampled it needs
        a `random_state`, so that the same call has the same candidates.
    checkpoint_interval : float, default=60.0
        Sets the least number of seconds between two writes of the checkpoint.

    Attributes
    ----------
    components_ : array of shape (n_components, n_features)
        ``C Y``. Its rows have unit norm, and are in the order of decreasing norm of the columns of
        W. Only with the linear kernel.
    combination_ : array of shape (n_components, n_candidates)
        C. Divide a row by its sum for the share of each candidate.
    candidates_ : array or sparse matrix of shape (n_candidates, n_features)
        Y. Not with a precomputed kernel.
    candidate_indices_ : array of int, of shape (n_candidates,), or None
        The rows of X that are the candidates. None if a matrix was given.
    gram_ : ndarray of shape (n_components, n_components)
        The products of the components in the space of the kernel. Not with the linear kernel.
    n_components_ : int
        The number of components.
    n_iter_ : int
        The number of iterations.
    reconstruction_err_ : float
        ‖X − W C Y‖_F, weighted by `sample_weight` if that was given.
    penalty_ : float
        sparsity × `rms_`: the λ of the fit. `transform` uses it too.
    rms_ : float
        The root mean square norm of the rows of X.
    loss_curve_ : array of shape (n_iter + 1,)
        The objective divided by ½‖X‖², before the first and after every iteration. The fit then
        solves for W exactly.
    n_features_in_ : int
        The number of features in `fit`.
    feature_names_in_ : ndarray of shape (n_features,)
        The feature names, if X had names that are all strings.

    See Also
    --------
    SNMF : Components of any sign, which need not be made of the data.

    References
    ----------
    .. [1] C. Ding, T. Li, M. I. Jordan, "Convex and Semi-Nonnegative Matrix Factorizations",
       IEEE Transactions on Pattern Analysis and Machine Intelligence 32(1), 2010.

    Examples
    --------
    >>> import numpy as np
    >>> from snmf import ConvexNMF
    >>> X = np.array([[4.0, -2.0], [1.0, 2.0], [-1.0, 3.0], [1.0, 1.0]])
    >>> model = ConvexNMF(n_components=2, random_state=0).fit(X)
    >>> bool(np.allclose(model.combination_ @ X, model.components_))
    True
    >>> model.combination_.round(1)
    array([[0.2, 0. , 0. , 0. ],
           [0. , 0. , 0.3, 0. ]])
    """

    def __init__(
        self,
        n_components: int | None = None,
        tol: float = 1e-5,
        max_iter: int = 200,
        progress_bar: bool = True,
        random_state: Any = None,
        sparsity: float = 0.01,
        verbose: bool = False,
        *,
        candidates: Any = None,
        kernel: str | Callable[..., float] = "linear",
        gamma: float | None = None,
        degree: float = 3,
        coef0: float = 1,
        kernel_params: dict[str, Any] | None = None,
        solver: str = "hals",
        accelerate: bool = True,
        init: str = "auto",
        n_init: int = 1,
        backend: str | Backend = "auto",
        device: Any = None,
        n_jobs: int | None = None,
        checkpoint: str | PathLike[str] | None = None,
        checkpoint_interval: float = 60.0,
    ) -> None:
        self.n_components = n_components
        self.tol = tol
        self.max_iter = max_iter
        self.progress_bar = progress_bar
        self.random_state = random_state
        self.sparsity = sparsity
        self.verbose = verbose
        self.candidates = candidates
        self.kernel = kernel
        self.gamma = gamma
        self.degree = degree
        self.coef0 = coef0
        self.kernel_params = kernel_params
        self.solver = solver
        self.accelerate = accelerate
        self.init = init
        self.n_init = n_init
        self.backend = backend
        self.device = device
        self.n_jobs = n_jobs
        self.checkpoint = checkpoint
        self.checkpoint_interval = checkpoint_interval

    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        W: Any = None,
        C: Any = None,
    ) -> ConvexNMF:
        """Learn the components of X.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The data, of any sign; with ``kernel="precomputed"`` the kernel matrix.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each row counts, ≥ 0. None is 1 for each. Rows of weight 0 are no candidates.
        W : array-like of shape (n_samples, n_components), default=None
            Weights to start from, with ``init="custom"``.
        C : array-like of shape (n_components, n_candidates), default=None
            Combinations to start from, beside W.

        Returns
        -------
        self : ConvexNMF
            The fitted estimator.

        Raises
        ------
        ValueError, TypeError
            If a parameter, X, W or C is invalid. The estimator is then unchanged.
        OSError
            If rows of X cannot be read, or the checkpoint cannot be written.
        """
        self._fit(X, y, W=W, C=C, sample_weight=sample_weight, out=False)
        return self

    def fit_transform(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        W: Any = None,
        C: Any = None,
        out: str | PathLike[str] | None = None,
    ) -> Array:
        """Learn the components of X, and return the weights of X.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The data, of any sign; with ``kernel="precomputed"`` the kernel matrix.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each row counts, ≥ 0. None is 1 for each.
        W : array-like of shape (n_samples, n_components), default=None
            Weights to start from, with ``init="custom"``.
        C : array-like of shape (n_components, n_candidates), default=None
            Combinations to start from, beside W.
        out : path, default=None
            Writes W to this .npy file: see `transform`.

        Returns
        -------
        W : array of shape (n_samples, n_components)
            The weights, ≥ 0; `transform` returns the same for X.
        """
        return self._fit(X, y, W=W, C=C, sample_weight=sample_weight, out=out)

    @with_callbacks  # type: ignore[untyped-decorator] # scikit-learn has no types
    def _fit(self, X: Any, y: Any, *, W: Any, C: Any, sample_weight: Any, out: Any) -> Array:
        data = self._checked(X)
        found = data.features_of(self)
        options, shape, source = self._options(), data.shape, data.owner
        if self.kernel == "precomputed" and shape[0] != shape[1]:
            raise ValueError(
                "X must be the kernel matrix, of shape (n_samples, n_samples), with "
                f"kernel='precomputed'; got {shape}"
            )
        callback = reporter(self, X, y, found, self._factor)
        D, weight_exponent = check_weights(sample_weight, shape[0])
        k = number_of_components(self.n_components, shape, D, W, C)
        if C is not None and W is None:
            raise ValueError("C is a start beside W; got C alone. Pass W=… too, or leave C out.")
        W, _ = check_start(options, W, None, None, shape, k, source)
        check_output(out, data.X, (shape[0], k), data.dtype)
        backend = choose(self.backend, source, self.device)
        with (
            backend.active(),
            data.threaded(backend, self.n_jobs) as every,
            ExitStack() as stack,
        ):
            rows, D, members = taking_part(every, D, missing=False)
            others = every if members is not None and out is not False else None
            start = W if W is None or members is None else W[members], C
            problem, candidates = self._problem(rows, others, options, k, start, D, source)
            found.update(candidates)
            exponent = problem.scale.exponent
            check_range("float64", problem.scale.square**0.5, exponent + weight_exponent // 2)
            rms = math.ldexp(problem.rms, exponent)

            def tell(number: int, point: Point) -> bool:
                if callback is None:
                    return False
                factor = problem.components(point.H)
                if self.kernel != "linear":
                    found["gram_"] = problem.products(factor)
                known = partial(factor.astype, data.dtype, copy=False)
                return bool(callback(Iteration(number, point.loss, rms, problem.penalty, known)))

            checkpoint = self._checkpoint(problem, candidates, rows, out)
            if checkpoint:
                stack.enter_context(checkpoint).is_of(rows, problem.scale)
            with bars_named("ConvexNMF"):
                run = best_run(problem, problem.hull, checkpoint, tell, False)
            result, combination = problem.combined(run.H)
            if self.kernel == "linear":
                found["components_"] = source.asarray(result.H, data.dtype)
            else:
                found["gram_"] = problem.products(result.H.astype("float64"))
            found.update(
                combination_=source.asarray(combination, data.dtype),
                n_components_=k,
                n_iter_=len(run.loss_curve) - 1,
                reconstruction_err_=math.ldexp(result.error, weight_exponent // 2),
                penalty_=problem.penalty,
                rms_=rms,
                loss_curve_=source.asarray(np.array(run.loss_curve)),
            )
            of_w = problem.rows if problem.everything is None else problem.everything[0]
            weights_of_x = handed_back(of_w, result.W, source, data.dtype, out)
            advice = [*advice_on_run(problem, run, result)]
        _advice.warn(advice)
        self._become(found)  # only now: a fit which fails or is interrupted changes nothing
        if callback is not None:
            self._callback_fit_ctx.call_on_fit_task_end(estimator=self, X=X, y=y)
        return weights_of_x

    def _problem(
        self,
        rows: Rows,
        others: Rows | None,
        options: Options,
        k: int,
        start: tuple[Any, Any],
        D: Any,
        source: Backend,
    ) -> tuple[ConvexProblem, dict[str, Any]]:
        """Return the problem of a fit, and the attributes that name its candidates.

        The fit is to `rows`, from W and C; `others` are all rows, if they get weights too.
        """
        indices, points = self._chosen(rows)
        weights = None if D is None else rows.split(D)
        W, C = start
        kernel = self._kernel()
        if kernel is None:
            space = linear(rows, others, weights, points)
        else:
            space = through(kernel, rows, others, weights, points)
        problem = ConvexProblem(
            space.rows,
            options,
            k,
            W=W,
            H=None,
            fixed=None,
            sample_weight=D,
            everything=None if space.everything is None else (space.everything, None),
            space=space,
            C=_checked_combination(C, (k, len(space.gram)), source),
        )
        places = None if indices is None else source.asarray(rows.places(indices))
        found = {"candidate_indices_": places}
        if self.kernel != "precomputed":
            found["candidates_"] = points if issparse(points) else source.asarray(points)
        return problem, found

    def _checkpoint(
        self, problem: ConvexProblem, found: dict[str, Any], rows: Rows, out: Any
    ) -> Checkpoint | None:
        """Return the checkpoint of a fit to these rows of X, whose H is C; None for none."""
        if self.checkpoint is None:
            return None
        candidates = found.get("candidates_", found["candidate_indices_"])
        return checkpoint_of(
            problem.options,
            rows,
            out,
            columns=len(problem.space.gram),
            n_components=problem.n_components,
            W=problem.W,
            C=problem.C,
            sample_weight=problem.sample_weight,
            candidates=owner(candidates).to_host(candidates),
            kernel=getattr(self.kernel, "__qualname__", self.kernel),
            kernel_params=repr(self.kernel_params),
            **{name: getattr(self, name) for name in ("gamma", "degree", "coef0")},
        )

    @property
    def _factor(self) -> str:
        """The attribute that holds what a callback sees of the components."""
        return "components_" if self.kernel == "linear" else "combination_"

    def _options(self) -> Options:
        """Return the parameters that `SNMF` has too; raise ValueError if any is invalid."""
        values = {name: getattr(self, name) for name in CONSTRAINTS}
        validate_parameter_constraints(CONSTRAINTS, values, caller_name="ConvexNMF")
        shared = {name: getattr(self, name) for name in OPTIONS}
        return check_options(self.n_components, shared, "ConvexNMF")

    def _kernel(self) -> Kernel | None:
        """Return the kernel; None for the linear one, whose products need no matrix (n, m)."""
        if self.kernel == "linear":
            return None
        if callable(self.kernel):
            return Kernel(self.kernel, self.kernel_params or {})
        gamma = {} if self.gamma is None else {"gamma": self.gamma}
        return Kernel(self.kernel, {**gamma, "degree": self.degree, "coef0": self.coef0})

    def _chosen(self, rows: Rows) -> tuple[np.ndarray | None, Any]:
        """Return the indices of the candidates, or None, and the candidates themselves.

        With a precomputed kernel these are the columns of X. Both are those of the rows that take
        part in the fit.
        """
        n, p = rows.shape
        given, rng = self.candidates, check_random_state(self.random_state)
        if given is None or is_whole(given, 1):
            if given is not None and given > n:
                raise ValueError(f"candidates must be at most n_samples={n}; got {given}")
            count = min(n, MOST) if given is None else int(given)
            if count < n and self.checkpoint is not None and self.random_state is None:
                raise ValueError(
                    "checkpoint needs a random_state if candidates are sampled, so that the same "
                    f"call has the same {count} candidates. Set random_state to an int."
                )
            indices = np.sort(rng.permutation(n)[:count])
        elif np.ndim(given) < 2:
            indices = _checked_indices(given, rows)
        elif self.kernel == "precomputed":
            raise ValueError(
                "candidates must be an int or indices of rows with kernel='precomputed'; got "
                "a matrix, whose kernel with X is not known"
            )
        else:
            points = check_array(
                given, accept_sparse="csr", dtype=rows.dtype, input_name="candidates"
            )
            if points.shape[1] != p:
                raise ValueError(f"candidates must have {p} columns, as X; got {points.shape[1]}")
            return None, points
        if self.kernel == "precomputed":
            return indices, rows.places(indices)
        ascending, places = np.unique(indices, return_inverse=True)  # the order that rows come in
        return indices, rows.take(ascending)[places]

    def _checked(self, X: Any) -> Data:
        """Return X as data; raise TypeError if its library has no convex NMF here."""
        data = Data.of(X).sized()
        if self.kernel == "linear":
            return data
        needs = f"kernel={self.kernel!r} needs NumPy arrays or SciPy sparse matrices"
        of_dask = data.owner.namespace == "dask.array"
        if (library := "Dask" if of_dask else data.owner.name) != "numpy":
            raise TypeError(f"{needs}; got an array of {library}. Convert X first.")
        if (backend := choose(self.backend, data.owner, self.device).name) != "numpy":
            raise TypeError(f"{needs}, and backend='numpy'; got {backend!r}.")
        return data

    def transform(self, X: Any, *, out: str | PathLike[str] | None = None) -> Array:
        """Compute the weights of X: solve one nonnegative least-squares problem per row.

        The problems have the λ of the fit. They are solved exactly.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The data; with ``kernel="precomputed"`` their kernel with the rows of the fit.
        out : path, default=None
            Writes W to this .npy file, and returns the file memory-mapped.

        Returns
        -------
        W : array of shape (n_samples, n_components)
            The minimiser of ``½‖X − W C Y‖² + λ Σ W`` over ``W ≥ 0``.
        """
        if self.kernel == "linear":
            return super().transform(X, out=out)
        data = self._data_for(X, "transform")
        check_output(out, data.X, (data.shape[0], self.n_components_), data.dtype)
        with data.owner.active(), data.threaded(data.owner, self.n_jobs) as rows:
            W = self._weights_through(self._in_space(rows))
            return handed_back(rows, W, data.owner, data.dtype, out)

    def _in_space(self, rows: Rows) -> KernelRows:
        measure(rows)  # X must be finite
        kernel = self._kernel()
        assert kernel is not None
        precomputed = self.kernel == "precomputed"
        return KernelRows(
            rows, kernel, self.candidate_indices_ if precomputed else self.candidates_
        )

    def _weights_through(self, rows: Any) -> RowWise:
        solve = solver(self.combination_, self.gram_)
        W: RowWise = nnls.exact_weights(rows, self.combination_, self.penalty_, solve=solve)[0]
        return W

    @available_if(_has_score)  # type: ignore[untyped-decorator] # scikit-learn has no types
    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return the share of X that the model explains: ``1 − ‖X − W C Y‖² / ‖X‖²``.

        W is ``transform(X)``. With a kernel the norms are those of its space.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The data.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each row counts. None is 1 for each.

        Returns
        -------
        score : float
            At most 1. It is 1 for X = 0.
        """
        if self.kernel == "linear":
            return super().score(X, y, sample_weight)
        data = self._data_for(X, "score")
        D, _ = check_weights(sample_weight, data.shape[0])
        with data.owner.active(), data.threaded(data.owner, self.n_jobs) as rows:
            kernel, inside = self._kernel(), self._in_space(rows)
            assert kernel is not None
            weights = None if D is None else rows.split(D)
            square = scale_of(rows, kernel, weights).square
            W = self._weights_through(inside)
            S, T, _ = Alternation(inside, square, 0.0, "kept", 1, weights).sums(W)
            left = squared_error(square, S, T, self.combination_, self.gram_)
            return 1.0 - left / square if square else 1.0

    def inverse_transform(self, X: Any) -> Array:
        """Reconstruct data from weights: return ``W C Y``, with the linear kernel.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components)
            The weights W.

        Returns
        -------
        X_original : array of shape (n_samples, n_features)
            The product of the weights and the components.
        """
        if self.kernel != "linear":
            raise self._refusal("inverse_transform")
        return super().inverse_transform(X)

    def _explained(self, X: Any, method: str, **given: Any) -> Explained:
        if self.kernel != "linear":
            raise self._refusal(method)
        return super()._explained(X, method, **given)

    def _refusal(self, method: str) -> ValueError:
        return ValueError(
            f"{method} needs components in the space of X, which only the linear kernel has; got "
            f"kernel={self.kernel!r}. Set kernel='linear'."
        )

    def _data_for(self, X: Any, method: str) -> Data:
        check_is_fitted(self)
        if self.kernel == "linear":
            return super()._data_for(X, method)
        data = self._checked(X)
        data.name_features(self, reset=False)
        return data

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.pairwise = self.kernel == "precomputed"
        tags.array_api_support = self.kernel == "linear"
        return tags


def _checked_indices(given: Any, rows: Rows) -> np.ndarray:
    """Return the places among `rows` of candidates that are given by their indices in X."""
    indices = np.asarray(given)
    members = rows.places(np.arange(len(rows)))
    whole = indices.ndim == 1 and indices.size > 0 and indices.dtype.kind in "iu"
    if not whole or not np.isin(indices, members).all():
        raise ValueError(
            "candidates must be an int from 1, indices of rows of X with a sample weight above "
            f"zero, or a matrix; got {given!r}"
        )
    found: np.ndarray = np.searchsorted(members, indices)
    return found


def _checked_combination(C: Any, shape: tuple[int, int], source: Backend) -> np.ndarray | None:
    checked = check_factor(C, "C", [shape], source)
    if checked is not None and checked.min() < 0:
        raise ValueError(f"C must be nonnegative; its smallest entry is {checked.min():g}")
    return checked
