"""The scikit-learn estimator `MiniBatchSNMF`: a fit by mini-batches, of an array or a stream."""

from __future__ import annotations

import math
from collections.abc import Iterable
from copy import copy
from numbers import Real
from typing import Any, Self

import numpy as np
from scipy.sparse import issparse, vstack
from sklearn.utils._param_validation import Interval, validate_parameter_constraints

from snmf import _advice
from snmf._arguments import (
    PARAMETERS,
    Whole,
    check_factor,
    check_nonzero_features,
    check_random_state,
    check_scale,
    check_weights,
    number_of_components,
)
from snmf._data import Data
from snmf._fitted import FittedComponents
from snmf._progress import bars_named, progress
from snmf.backends import Backend, adapter, choose, owner
from snmf.core import start as _init
from snmf.core.deviations import divisors
from snmf.core.limits import Limits
from snmf.core.options import UPDATES, Init, RandomState, Solver, l1_at_scale, l1_of, limits_of
from snmf.core.stream import Batch, Stream, start, step
from snmf.storage.rows import Rows, cut, taking_part, working_dtype

ENOUGH = 10  # rows per component: until a stream has seen so many, each call makes the start anew
START = 1024  # rows for the start of `fit`: from fewer, it may miss components for good
HEAVIEST = 2.0**500  # the largest sample weight; with larger ones the sums would overflow

NOT_HERE = (
    "accelerate", "n_init", "missing_values", "locality", "checkpoint", "checkpoint_interval",
    "warm_start",
)  # fmt: skip
CONSTRAINTS = {
    **{name: kinds for name, kinds in PARAMETERS.items() if name not in NOT_HERE},
    "max_iter": [Whole(1)],
    "batch_size": [Whole(1)],
    "forget_factor": [Interval(Real, 0, 1, closed="both")],
    "max_no_improvement": [Whole(1), None],
}


class MiniBatchSNMF(FittedComponents):
    """Semi-nonnegative matrix factorization by mini-batches, for many rows or a stream of them.

    The objective and the updates are those of `SNMF`. The estimator does not keep the rows. It
    keeps two sums over them, ``WᵀX`` and ``WᵀW``, in which earlier batches fade [1]_.

    Parameters
    ----------
    n_components : int, default=None
        Sets the number of components k. None takes the number of rows of a given H. Without an H
        it is min(n_samples, n_features), or n_features for `partial_fit` and for batches from an
        iterator.
    tol : float, default=1e-4
        Stops `fit` when the smoothed objective, divided by ½‖X‖², falls by less than this in an
        epoch. The smoothed objective is an exponential average over about an epoch. 0 turns this
        test off.
    max_iter : int, default=200
        Limits the number of epochs. One epoch is one pass over the rows of X.
    progress_bar : bool, default=True
        Shows a progress bar on a terminal, or in a notebook that has ipywidgets.
    random_state : int, RandomState or Generator instance, or None, default=None
        Seeds the start and the order of the rows.
    sparsity : float, default=0.01
        Penalizes weights, as for `SNMF`: λ = sparsity × the root-mean-square norm of the rows seen
        so far.
    verbose : bool, default=False
        Prints a line for every epoch.
    solver : {"auto", "mu", "hals"}, default="auto"
        Selects the update of W, as for `SNMF`; "auto" is "mu", which begins with coordinate
        descent in every mini-batch.
    init : {"auto", "skewness", "varimax", "kmeans", "svd", "random", "custom"}, default="auto"
        Selects the start, as for `SNMF`; "auto" is "skewness". In `fit` of an array, the start uses
        a mini-batch of random rows, of at least 1024; in a stream, the first rows. "custom" uses
        a given H.
    fit_intercept : bool, default=False
        Adds a row m to the model, ``X ≈ 1 mᵀ + W H``, as for `SNMF`. The sums of the rows and of
        their weights, which give m, fade as the other sums do. λ is sparsity × the
        root-mean-square norm of the rows seen so far, less their mean.
    scale : bool or array of shape (n_features,), default=False
        Divides the columns of X, as for `SNMF`. With True, `fit` divides by the standard
        deviations of all rows of an array; `partial_fit`, and `fit` of an iterator, by those of
        the first batch, for all batches. Give an array if the first batch is small, or not like
        the others.
    n_nonzero_features : int or float, default=None
        Limits each component to this many entries that are not zero, as for `SNMF`.
    positive_components : bool, default=False
        Allows no entry of a component below zero, as for `SNMF`.
    batch_size : int, default=1024
        Sets the number of rows in a mini-batch. If `partial_fit` gets more rows, it splits them
        into mini-batches of this size.
    forget_factor : float, default=0.7
        Sets how much of the sums is kept, from 0 to 1. In `fit` it applies to an epoch; in
        `partial_fit`, and for batches from an iterator, to `batch_size` rows. Lower it if the
        data change over time. At the beginning the sums keep less, since the first components
        are poor: batch t weighs t³. Rows count with their weights.
    max_no_improvement : int, default=10
        Stops `fit` after this many mini-batches in a row that did not lower the smoothed
        objective. None turns this test off.
    backend : str or Backend, default="auto"
        Selects the library that does the arithmetic. "auto" takes the library of the array X. If
        a backend or its device is missing, snmf raises an error that says what to install.
    device : object, default=None
        Selects the device of that library, as the library names it, for example "cuda". None
        takes the device of X, if X is an array of that library.
    n_jobs : int, default=None
        Sets the number of threads; each works on a block of rows. −1 takes all cores. None takes
        as many as BLAS would, and respects a limit set by threadpoolctl or in the environment.
        BLAS itself has one thread during a call.

    Attributes
    ----------
    components_ : array of shape (n_components, n_features)
        H. Its rows have unit norm. After `fit` they are in the order of decreasing norm of the
        faded columns of W, or in the order of the given H. A component without weight is a zero
        row.
    intercept_ : array of shape (n_features,) or None
        m, the row that the model adds to all rows. None without `fit_intercept`.
    scale_ : array of shape (n_features,) or None
        What the columns of X were divided by. None without `scale`.
    n_components_ : int
        The number of components.
    n_iter_ : int
        The number of epochs of the last `fit`.
    n_steps_ : int
        The number of mini-batches that went into the sums.
    penalty_ : float
        The current λ, in units of X. `transform` uses it too.
    rms_ : float
        The root mean square norm of the rows seen so far.
    loss_ : float
        The objective of the batches so far, divided by their ½‖X‖². Each batch is evaluated
        before H learns from it; earlier batches fade as in the sums.
    n_features_in_ : int
        The number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        The feature names, if X had names that are all strings.

    References
    ----------
    .. [1] J. Mairal, F. Bach, J. Ponce, G. Sapiro, "Online learning for matrix factorization and
       sparse coding", Journal of Machine Learning Research 11, 2010.

    Examples
    --------
    >>> import numpy as np
    >>> from snmf import MiniBatchSNMF
    >>> rng = np.random.default_rng(0)
    >>> model = MiniBatchSNMF(n_components=3, random_state=0)
    >>> for _ in range(5):
    ...     model = model.partial_fit(rng.standard_normal((100, 8)))
    >>> model.components_.shape, model.n_steps_
    ((3, 8), 5)
    """

    components_: np.ndarray
    intercept_: np.ndarray | None
    scale_: np.ndarray | None
    n_components_: int
    n_iter_: int
    n_steps_: int
    penalty_: float
    rms_: float
    loss_: float
    n_features_in_: int
    feature_names_in_: np.ndarray
    _stream: dict[str, Any]  # a Stream on the host
    _scale_was_given: bool  # as an array, with the first rows
    _first_rows: list[Any] | None  # rows and weights, as NumPy arrays, until there are ENOUGH

    def __init__(
        self,
        n_components: int | None = None,
        tol: float = 1e-4,
        max_iter: int = 200,
        progress_bar: bool = True,
        random_state: RandomState = None,
        sparsity: float = 0.01,
        verbose: bool = False,
        *,
        solver: Solver = "auto",
        init: Init = "auto",
        fit_intercept: bool = False,
        scale: Any = False,
        n_nonzero_features: float | None = None,
        positive_components: bool = False,
        batch_size: int = 1024,
        forget_factor: float = 0.7,
        max_no_improvement: int | None = 10,
        backend: str | Backend = "auto",
        device: Any = None,
        n_jobs: int | None = None,
    ) -> None:
        self.n_components = n_components
        self.tol = tol
        self.max_iter = max_iter
        self.progress_bar = progress_bar
        self.random_state = random_state
        self.sparsity = sparsity
        self.verbose = verbose
        self.solver = solver
        self.init = init
        self.fit_intercept = fit_intercept
        self.scale = scale
        self.batch_size = batch_size
        self.forget_factor = forget_factor
        self.max_no_improvement = max_no_improvement
        self.n_nonzero_features = n_nonzero_features
        self.positive_components = positive_components
        self.backend = backend
        self.device = device
        self.n_jobs = n_jobs

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None, *, H: Any = None) -> Self:
        """Learn the components of X, and forget what was learned before.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features), or iterable of such
            The data, of any sign. `fit` reads an array in shuffled mini-batches, epoch after
            epoch. It reads batches from an iterator, or from an iterable such as a DataLoader of
            PyTorch, once and in their order, as `partial_fit` would.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each row counts, ≥ 0: 2 counts the row twice, 0 leaves it out. None is 1 for
            each. With an iterator, call `partial_fit` for every batch and its weights instead.
        H : array-like of shape (n_components, n_features), default=None
            Components to start from, with ``init="custom"``.

        Returns
        -------
        self : MiniBatchSNMF
            The fitted estimator.

        Raises
        ------
        ValueError, TypeError
            If a parameter, X or H is invalid. The estimator is then unchanged.
        OSError
            If rows of X cannot be read.
        """
        self._fit(X, sample_weight, H)
        return self

    def fit_transform(
        self, X: Any, y: Any = None, sample_weight: Any = None, *, H: Any = None
    ) -> np.ndarray:
        """Learn the components of X, and return the weights of X: ``fit(X).transform(X)``.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The data, of any sign.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each row counts, ≥ 0: 2 counts the row twice, 0 leaves it out. None is 1 for
            each.
        H : array-like of shape (n_components, n_features), default=None
            Components to start from, with ``init="custom"``.

        Returns
        -------
        W : array of shape (n_samples, n_components)
            The weights, ≥ 0.
        """
        if is_stream(X):
            raise ValueError(
                "X must be an array for fit_transform, which reads it twice; got an iterator of "
                "batches. Call fit, then transform every batch."
            )
        data = Data.of(X)
        self._fit(data, sample_weight, H)
        return self._explained(data, "transform").W

    def partial_fit(
        self, X: Any, y: Any = None, sample_weight: Any = None, *, H: Any = None
    ) -> Self:
        """Learn from more rows.

        The first rows make the start. A good start needs ten rows (of weight above zero) per
        component. Until so many have come, the estimator keeps the rows, and every call makes the
        start anew from all of them.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The rows. More than `batch_size` rows are split into mini-batches of that size.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each row counts, ≥ 0: 2 counts the row twice, 0 leaves it out. None is 1 for
            each. If all weights are zero, the model does not change; in the first call that is an
            error.
        H : array-like of shape (n_components, n_features), default=None
            Components to start from, in the first call, with ``init="custom"``.

        Returns
        -------
        self : MiniBatchSNMF
            The estimator.

        Raises
        ------
        ValueError, TypeError
            If a parameter, X or H is invalid. The estimator is then unchanged.
        OSError
            If rows of X cannot be read.
        """
        self._check_parameters()
        fitted = copy(self)  # so that a call which fails or is interrupted leaves nothing behind
        fitted._take(X, sample_weight, H)
        fitted._warn()
        self.__dict__ = fitted.__dict__
        return self

    def _fit(self, X: Any, sample_weight: Any, H: Any) -> None:
        self._check_parameters()
        fitted, unfinished = copy(self), None
        fitted.__dict__.pop("_stream", None)
        if not is_stream(X):
            unfinished = fitted._learn_in_epochs(X, sample_weight, H)
        elif sample_weight is None:
            fitted._go_through(X, H)
        else:
            raise ValueError(
                "sample_weight goes with an array X; got an iterator of batches. Call partial_fit "
                "for every batch, with its weights."
            )
        fitted._warn(unfinished)
        self.__dict__ = fitted.__dict__

    def _check_parameters(self) -> None:
        values = self.get_params(deep=False)
        validate_parameter_constraints(CONSTRAINTS, values, caller_name=type(self).__name__)

    def _warn(self, unfinished: str | None = None) -> None:
        stream, advice = Stream(**self._stream), [unfinished] if unfinished else []
        if stream.mean is not None and stream.rms:
            level = float(np.linalg.norm(stream.mean)) / stream.rms
            advice += _advice.of_level(level, working_dtype(self.components_.dtype))
        if self._first_rows is None:  # before that the components are not final
            largest = stream.longest / stream.rms if stream.rms else 0.0
            advice += _advice.of_components(stream.shares(), 0.0, self.init, self.sparsity, largest)
        _advice.warn(advice)

    # The methods below change the estimator step by step, so they are called on a copy

    def _go_through(self, batches: Iterable[Any], H: Any) -> None:
        number = -1
        for number, X in enumerate(batches):
            try:
                _refuse_several(X)
                self._take(X, None, None if number else H)
            except Exception as error:
                error.add_note(f"in batch {number} of the iterator")
                raise
        if number < 0:
            raise ValueError(
                "X must have batches; got an iterator that is at its end. Make a new iterator."
            )
        components = self.components_
        self._settle(self._in_order(Stream(**self._stream)), owner(components), components.dtype)
        self.n_iter_ = 1

    def _take(self, X: Any, sample_weight: Any, H: Any) -> None:
        """Check these rows, and learn from them."""
        ops, data = self._checked(X)
        begun = hasattr(self, "_stream")
        weights = _checked_weights(sample_weight, data.shape[0], may_be_zero=begun)
        if not begun:
            p = data.shape[1]
            k = number_of_components(self.n_components, (p, p), None, H=H)
            self._begin(k, p, H, data.owner)
        elif H is not None:
            raise ValueError(
                "H begins a stream, in the first partial_fit; got one in a later call. Leave H "
                "out, or begin a new stream with a new estimator."
            )
        elif self.n_components not in (None, self.n_components_):
            raise ValueError(
                f"n_components must stay {self.n_components_} from one partial_fit to the next; "
                f"got {self.n_components}. Call fit to begin anew with another number."
            )
        else:
            self._check_same_model(Stream(**self._stream), data.shape[1])
        if weights is not None and not weights.any():
            return
        with ops.active():
            with data.threaded(ops, self.n_jobs) as rows:
                batch = self._taking_part(rows, weights, data, first=not begun)
                stream = Stream(**self._stream).saw(batch)
                alone = self._first_rows is None or self._are_enough(batch, self._first_rows)
                # rows of zeros only count, and with an intercept rows that are all the same
                learns = stream.rows_square if self.fit_intercept else batch.scale.square
                if learns and alone:
                    stream = self._learn(stream, batch)
            if learns and not alone:
                collected, D = self._collected(batch)
                with ops.rows(ops.asarray(collected)).threads(self.n_jobs) as rows:
                    stream = self._learn(stream, Batch(rows, D))
        self._settle(stream, data.owner, data.dtype)
        if not begun and self.scale is True:
            _advice.warn(_advice.of_scale(len(batch.rows)))

    def _learn(self, stream: Stream, batch: Batch) -> Stream:
        if self._first_rows is not None:
            stream = self._started(stream, batch, check_random_state(self.random_state))
            if len(batch.rows) >= self._enough(stream):
                self._first_rows = None
        for part in map(batch.part, cut(0, len(batch.rows), self.batch_size)):
            stream, _ = self._step(
                stream, part, self.forget_factor ** (part.count / self.batch_size)
            )
        return stream

    def _learn_in_epochs(self, X: Any, sample_weight: Any, H: Any) -> str | None:
        """Fit X in epochs; return a warning if the fit has not converged, else None."""
        ops, data = self._checked(X)
        weights = _checked_weights(sample_weight, data.shape[0])
        k = number_of_components(self.n_components, data.shape, weights, H=H)
        self._begin(k, data.shape[1], H, data.owner)
        rng = check_random_state(self.random_state)
        with ops.active(), data.threaded(ops, self.n_jobs) as rows:
            batch = self._taking_part(rows, weights, data, first=True)
            stream = Stream(**self._stream).saw(batch)
            if self._first_rows is not None:
                order = rng.permutation(len(batch.rows))
                some = order[: max(START, self.batch_size, self._enough(stream))]
                stream = self._started(stream, batch.some(np.sort(some)), rng)
                self._first_rows = None
            stream, unfinished = self._epochs(stream, batch, rng)
        self._settle(self._in_order(stream), data.owner, data.dtype)
        return unfinished

    def _epochs(
        self, stream: Stream, rows: Batch, rng: np.random.RandomState
    ) -> tuple[Stream, str | None]:
        n, idle = rows.count, 0
        lowest = before = smoothed = math.inf
        with (
            bars_named("MiniBatchSNMF"),
            progress(self.max_iter, self.progress_bar, self.verbose) as watch,
        ):
            for epoch in range(1, self.max_iter + 1):
                self.n_iter_ = epoch
                for batch in rows.shuffled(self.batch_size, rng):
                    share = batch.count / n
                    stream, loss = self._step(stream, batch, self.forget_factor**share)
                    smoothed = (
                        loss if smoothed == math.inf else smoothed + share * (loss - smoothed)
                    )
                    idle = 0 if smoothed < lowest else idle + 1
                    lowest = min(smoothed, lowest)
                    if idle == self.max_no_improvement:
                        return stream, None
                watch(epoch, smoothed)
                if self.tol and before - smoothed < self.tol:
                    return stream, None
                before = smoothed
        if not self.tol:
            return stream, None
        return stream, (
            f"The fit has not converged: max_iter={self.max_iter} epochs were made, and in the "
            f"last the objective fell by more than tol={self.tol:g}. Raise max_iter, or tol; for "
            "a given number of epochs, set tol=0."
        )

    def _checked(self, X: Any) -> tuple[Backend, Data]:
        """Check X, and return the backend that does the arithmetic, and X as `Data`."""
        data = Data.of(X)
        if data.owner.namespace == "dask.array":
            raise ValueError(
                "MiniBatchSNMF takes rows in this process; got a Dask collection. Compute its "
                "blocks one by one and give each to partial_fit, or give the collection to SNMF."
            )
        data.name_features(self, reset=not hasattr(self, "_stream"))
        return choose(self.backend, data.owner, self.device), data

    def _begin(self, k: int, n_features: int, H: Any, source: Backend) -> None:
        if (H is not None) != (self.init == "custom"):
            raise ValueError(
                "init='custom' and H go together: pass H with it, and not without it; "
                f"got init={self.init!r} and {'no H' if H is None else 'an H'}"
            )
        check_nonzero_features(self.n_nonzero_features, n_features)
        stream, self._first_rows = Stream.empty(k, n_features, self.fit_intercept), []
        if H is not None:
            H = check_factor(H, "H", [(k, n_features)], source)
            of_entries = self._limits(stream).of_entries(H)
            stream.components[:] = _init.unit_rows(of_entries)[0]
            self._first_rows = None
        self._stream = vars(stream)

    def _check_same_model(self, stream: Stream, n_features: int) -> None:
        """Raise ValueError if a stream goes on with another intercept or scale."""
        before, scale = self._on_host("scale_"), check_scale(self.scale, n_features)
        other = (scale is False) != (before is None)
        if scale is True:  # a model file of an older version does not say where its scale is from
            other = other or getattr(self, "_scale_was_given", False)
        if before is not None and isinstance(scale, np.ndarray):
            other = not np.array_equal(scale.astype(before.dtype), before)
        changes = {"scale": other, "fit_intercept": self.fit_intercept != (stream.mean is not None)}
        if changed := [name for name, is_other in changes.items() if is_other]:
            raise ValueError(
                f"{' and '.join(changed)} must stay the same from one partial_fit to the next. "
                "Call fit to begin anew."
            )

    def _taking_part(
        self, rows: Rows, weights: np.ndarray | None, data: Data, first: bool
    ) -> Batch:
        """Return the rows with a weight, scaled; the first rows say by what."""
        some, D, _ = taking_part(rows, weights, missing=False)
        if first:
            given = check_scale(self.scale, data.shape[1])
            scale = divisors(given, some, D)
            self._scale_was_given = isinstance(given, np.ndarray)
            self.scale_ = None if scale is None else data.owner.asarray(scale, data.dtype)
        return Batch(some.divided(self._on_host("scale_")), D)

    def _are_enough(self, batch: Batch, before: list[Any]) -> bool:
        """Whether a stream can start from these rows alone."""
        return not before and len(batch.rows) >= self._enough(Stream(**self._stream))

    def _collected(self, batch: Batch) -> tuple[Any, np.ndarray | None]:
        """Keep these rows, and return all rows kept so far, with their weights."""
        host = batch.rows.take(np.arange(len(batch.rows)))
        some = np.arange(host.shape[0])
        if not self.fit_intercept:
            some = np.flatnonzero(adapter("numpy").row_maxima(host))  # not the rows of zeros
        weights = np.ones((len(batch.rows), 1)) if batch.weights is None else batch.weights
        self._first_rows = pairs = [*(self._first_rows or []), [host[some], weights[some]]]
        parts, D = [rows for rows, _ in pairs], np.concatenate([of_rows for _, of_rows in pairs])
        sparse = any(issparse(part) for part in parts)
        rows = vstack(parts, format="csr") if sparse else np.concatenate(parts)
        return rows, None if np.all(D == 1) else D

    def _enough(self, stream: Stream) -> int:
        return ENOUGH * len(stream.components)

    def _started(self, stream: Stream, batch: Batch, rng: np.random.RandomState) -> Stream:
        k, limits = len(stream.components), self._limits(stream)
        H = start(stream.at(batch), k, self.init, rng, limits, self.fit_intercept)
        return stream.restarted(H)

    def _step(self, stream: Stream, batch: Batch, keep: float) -> tuple[Stream, float]:
        l1, limits = self._l1(stream), self._limits(stream)
        return step(stream, stream.at(batch), l1, UPDATES[self.solver], keep, limits)

    def _l1(self, stream: Stream) -> float:
        return l1_of(self.sparsity, stream.rms)

    def _limits(self, stream: Stream) -> Limits:
        return limits_of(
            self.n_nonzero_features,
            stream.H.shape[1],
            self.positive_components,
            ball=bool(self._l1(stream)),
        )

    def _in_order(self, stream: Stream) -> Stream:
        if self.init == "custom":
            return stream
        return stream.ordered(np.argsort(-stream.squares, kind="stable"))

    def _settle(self, stream: Stream, source: Backend, dtype: Any) -> None:
        """Set the fitted attributes from a stream on the host; `source` makes `components_`."""
        alive = stream.squares > 0
        H = _init.unit_rows(stream.components)[0] * alive[:, None]
        self._stream = vars(stream)
        self.components_ = source.asarray(H, working_dtype(dtype))
        self.intercept_ = None
        if self.fit_intercept:
            intercept = np.ldexp(stream.H[-1], stream.exponent or 0)
            self.intercept_ = source.asarray(intercept, working_dtype(dtype))
        self.n_components_ = len(H)
        self.n_steps_ = stream.n_steps
        self.penalty_ = l1_at_scale(self._l1(stream), stream.exponent or 0)
        self.rms_ = float(np.ldexp(stream.rms, stream.exponent or 0))
        self.loss_ = stream.loss


def is_stream(X: Any) -> bool:
    """Whether X gives batches: an iterator, or an iterable that is neither an array nor a list."""
    array = any(hasattr(X, name) for name in ("shape", "__array__", "__getitem__"))
    return hasattr(X, "__next__") or (hasattr(X, "__iter__") and not array)


def _refuse_several(batch: Any) -> None:
    """Raise TypeError if the batch is a list of matrices, as of data with their labels."""
    if isinstance(batch, list | tuple) and any(getattr(part, "ndim", 0) > 1 for part in batch):
        raise TypeError(
            f"a batch must be an array of rows; got a {type(batch).__name__} of {len(batch)} "
            "arrays. Give the array with the rows alone: fit(batch[0] for batch in X)"
        )


def _checked_weights(
    sample_weight: Any, n_samples: int, may_be_zero: bool = False
) -> np.ndarray | None:
    """Return the weights as an array (n, 1), or None; raise ValueError if they are invalid."""
    scaled, exponent = check_weights(sample_weight, n_samples, may_be_zero)
    if scaled is None or not scaled.any():
        return scaled
    D: np.ndarray = np.ldexp(scaled, exponent)
    if not 1 / HEAVIEST <= D.max() <= HEAVIEST:
        raise ValueError(
            f"the largest sample_weight must be from {1 / HEAVIEST:.3g} to {HEAVIEST:.3g}; got "
            f"{D.max():.3g}. A weight of 1 counts a row once: multiply the weights by a constant."
        )
    return D
