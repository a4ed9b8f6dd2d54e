"""The scikit-learn estimator `SNMF`."""

from __future__ import annotations

from os import PathLike
from typing import Any, Literal, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from snmf._arguments import (
    check_fixed,
    check_scale,
    is_whole,
)
from snmf._callbacks import CallbackSupportMixin, reporter, with_callbacks
from snmf._data import Data
from snmf._factorize import Factorization, factorize
from snmf._fitted import FittedComponents
from snmf._selection import n_components_of
from snmf.backends import Backend
from snmf.core.options import Init, RandomState, Solver


class SNMF(CallbackSupportMixin, FittedComponents):  # type: ignore[misc]
    """Semi-nonnegative matrix factorization.

    Factorizes data of any sign as ``X ≈ W H``, with weights ``W ≥ 0`` and components ``H`` of any
    sign. The fit minimises ``½‖X − W H‖²_F + λ Σ W`` [1]_.

    Parameters
    ----------
    n_components : int or "auto", default=None
        Sets the number of components k. None takes the number in a given H or W, or else
        min(n_samples, n_features). "auto" compares several numbers, and takes the one that
        `select_n_components` would call the best. If there is none, it warns and takes 1.
        `n_components_` holds the number. "auto" compares about 3 log₂ k numbers on at most 5000
        rows, with three fits each.
    tol : float, default=1e-5
        Stops the fit when the objective, divided by ½‖X‖², falls by less than this in an
        iteration. Lower it for a more accurate H; the fit then makes more iterations.
    max_iter : int, default=200
        Limits the number of iterations. One iteration is one pass over the rows of X. Raise it if
        a warning says that the fit has not converged.
    progress_bar : bool, default=True
        Shows a progress bar on a terminal, or in a notebook that has ipywidgets.
    random_state : int, RandomState or Generator instance, or None, default=None
        Seeds the start. The same seed gives the same bits; on a device, the same result up to
        rounding.
    sparsity : float, default=0.01
        Penalizes weights: λ = sparsity × the root-mean-square norm of the rows of X. The penalty
        decides which of many equally good W and H is the answer. 0 is the objective of [1]_: its
        answers are not identified, since ``W H = (W T)(T⁻¹ H)`` for many T. Useful values: 0.01 to
        0.1. Larger values make more weights zero, and the error larger. At 1 or above, all weights
        are zero if the rows of X have equal norm. With sparsity > 0 each row of H has norm at most
        1 during the fit.
    verbose : bool, default=False
        Prints a line for every iteration.
    solver : {"auto", "mu", "hals"}, default="auto"
        Selects the update of W. "mu" is the multiplicative update of [1]_. "hals" is coordinate
        descent, which needs fewer iterations and makes exact zeros. "auto" is "mu", and "hals"
        with `positive_components`, where "mu" is slow and ends at a larger error.
    accelerate : bool, default=True
        Repeats the W-step within a pass, and extrapolates H between passes. False is the plain
        alternation of [1]_. The objective never rises either way.
    init : {"auto", "skewness", "varimax", "kmeans", "svd", "random", "custom"}, default="auto"
        Selects the start. "auto" is "skewness", and "kmeans" with `locality`. "skewness" and
        "varimax" start from principal components, rotated so that their third [5]_ or fourth [4]_
        moments are largest; if X has fewer than k of them, from k-means clusters. "kmeans" starts
        from clusters, as [1]_ does; "svd" from the singular value decomposition [2]_; "random" from
        random weights; "custom" from the W, H or both that `fit` gets. Use "kmeans" for the results
        of the paper.
    n_init : int, default=1
        Repeats the fit from this many starts, and keeps the one with the lowest objective. The
        starts differ by the first rotation and the sample of rows, by the clusters, or by the
        weights. "svd" and "custom" always make one.
    fit_intercept : bool, default=False
        Adds a row m to the model, ``X ≈ 1 mᵀ + W H``. For X + 1 cᵀ the fit then has the same W and
        H as for X, and m + c. Set it for centred data, where components can have no weights near
        zero without it. λ is sparsity × the root-mean-square norm of the rows less their mean. It
        goes with no locality, and no fixed W.
    n_nonzero_features : int or float, default=None
        Limits each component to this many entries that are not zero, as a number, or as a share of
        the features (0 to 1). None is no limit. Rows of H that are kept (`fixed`) have none.
    positive_components : bool, default=False
        Allows no entry of a component below zero: nonnegative matrix factorization of X of any
        sign. Set ``sparsity=0`` with it for the objective of `sklearn.decomposition.NMF`. Rows of
        H that are kept (`fixed`) stay as they are.
    scale : bool or array of shape (n_features,), default=False
        Divides the columns of X, so that columns of different units count alike. True divides by
        the standard deviations; a constant column stays as it is. An array divides by its entries.
        X is not copied, and a sparse X stays sparse. The result is that of X / `scale_`, whose
        units `components_`, `intercept_`, `rms_`, `penalty_` and `reconstruction_err_` have;
        `inverse_transform` returns the units of X. The deviations are those about the mean, with
        sample weights and over the observed entries, but the mean is not subtracted: set
        `fit_intercept` for that.
    backend : str or Backend, default="auto"
        Selects the library that does the arithmetic. "auto" takes the library of the array X. If
        a backend or its device is missing, snmf raises an error that says what to install.
    device : object, default=None
        Selects the device of that library, as the library names it, for example "cuda". None
        takes the device of X, if X is an array of that library.
    n_jobs : int, default=None
        Sets the number of threads; each works on a block of rows. −1 takes all cores. None takes
        as many as BLAS would, and respects a limit set by threadpoolctl or in the environment.
        BLAS itself has one thread during a call. On Dask it is the number of threads in each task,
        and None is 1.
    missing_values : None or numpy.nan, default=None
        Says how a missing value is marked in X. With ``numpy.nan`` the fit, `transform` and
        `score` sum the objective over the observed entries only, and
        ``inverse_transform(transform(X))`` estimates the missing ones. With None, NaN in X is an
        error. An entry that a sparse X does not store is 0, not missing.
    locality : float, default=0.0
        Makes every row a mixture of components near it, with weights that sum to about 1. It adds
        ``μ Σ_i [½ Σ_j w_ij ‖x_i − h_j‖² + rms² (Σ_j w_ij − 1)²]`` to the objective, where μ is
        this parameter. The first term is the local coordinate term of [3]_. The components are
        then prototypes at the scale of X, not of unit norm. Useful values: 0.1 to 0.3 for sparse
        mixtures; about 2 to assign each row to the class of its largest weight, as k-means does.
        Set ``solver="hals"`` with it, and centre X.
    checkpoint : path-like, default=None
        Saves the state of the fit in this file. If the fit is interrupted or killed, the same call
        continues from the file to the same result. The fit removes the file at its end. A file
        that was written with other data or parameters is an error.
    checkpoint_interval : float, default=60.0
        Sets the least number of seconds between two writes of the checkpoint. The fit also writes
        it when it is interrupted or fails.
    warm_start : bool, default=False
        Starts every further `fit` from the components of the last one. With n_components None or
        "auto" their number stays the same. With ``scale=True`` so does `scale_`.

    Attributes
    ----------
    components_ : array of shape (n_components, n_features)
        H. Its rows have unit norm. They are in the order of decreasing norm of the columns of W,
        or in the order of the given start. A component that died is a zero row. With `locality`
        the rows are prototypes, at the scale of X.
    intercept_ : array of shape (n_features,) or None
        m, the row that the model adds to all rows. None without `fit_intercept`.
    scale_ : array of shape (n_features,) or None
        What the columns of X were divided by. None without `scale`.
    n_components_ : int
        The number of components.
    n_iter_ : int
        The number of iterations.
    reconstruction_err_ : float
        ‖X − W H‖_F, weighted by `sample_weight` if that was given.
    penalty_ : float
        sparsity × `rms_`: the λ of the fit, in units of X. `transform` uses it too. With locality,
        where W has no unit, λ is this times `rms_`.
    rms_ : float
        The root mean square norm of the rows of X.
    loss_curve_ : array of shape (n_iter + 1,)
        The objective divided by ½‖X‖², before the first and after every iteration. The fit then
        solves for W exactly, so the objective of the result is at most the last value.
    n_features_in_ : int
        The number of features in `fit`.
    feature_names_in_ : ndarray of shape (n_features,)
        The feature names, if X had names that are all strings.

    References
    ----------
    .. [1] C. Ding, T. Li, M. I. Jordan, "Convex and Semi-Nonnegative Matrix Factorizations",
       IEEE Transactions on Pattern Analysis and Machine Intelligence 32(1), 2010.
    .. [2] N. Gillis, A. Kumar, "Exact and heuristic algorithms for semi-nonnegative matrix
       factorization", SIAM Journal on Matrix Analysis and Applications 36(4), 2015.
    .. [3] Y. Chen, J. Zhang, D. Cai, W. Liu, X. He, "Nonnegative local coordinate factorization
       for image representation", IEEE Transactions on Image Processing 22(3), 2013.
    .. [4] K. Rohe, M. Zeng, "Vintage factor analysis with varimax performs statistical inference",
       Journal of the Royal Statistical Society B 85(4), 2023.
    .. [5] P. Comon, "Independent component analysis, a new concept?", Signal Processing 36(3),
       1994.

    Examples
    --------
    >>> import numpy as np
    >>> from snmf import SNMF
    >>> X = np.array([[2.0, -1.0], [4.0, -2.0], [-1.0, 3.0], [0.0, 0.0]])
    >>> model = SNMF(n_components=2, random_state=0)
    >>> W = model.fit_transform(X)
    >>> bool(W.min() >= 0), bool(np.allclose(W @ model.components_, X, atol=0.1))
    (True, True)
    """

    components_: np.ndarray
    intercept_: np.ndarray | None
    scale_: np.ndarray | None
    n_components_: int
    n_iter_: int
    reconstruction_err_: float
    penalty_: float
    rms_: float
    loss_curve_: np.ndarray
    n_features_in_: int
    feature_names_in_: np.ndarray

    def __init__(
        self,
        n_components: int | Literal["auto"] | None = None,
        tol: float = 1e-5,
        max_iter: int = 200,
        progress_bar: bool = True,
        random_state: RandomState = None,
        sparsity: float = 0.01,
        verbose: bool = False,
        *,
        solver: Solver = "auto",
        accelerate: bool = True,
        init: Init = "auto",
        n_init: int = 1,
        fit_intercept: bool = False,
        n_nonzero_features: float | None = None,
        positive_components: bool = False,
        scale: Any = False,
        backend: str | Backend = "auto",
        device: Any = None,
        n_jobs: int | None = None,
        missing_values: float | None = None,
        locality: float = 0.0,
        checkpoint: str | PathLike[str] | None = None,
        checkpoint_interval: float = 60.0,
        warm_start: bool = False,
    ) -> None:
        self.n_components = n_components
        self.tol = tol
        self.max_iter = max_iter
        self.progress_bar = progress_bar
        self.random_state = random_state
        self.sparsity = sparsity
        self.verbose = verbose
        self.solver = solver
        self.accelerate = accelerate
        self.init = init
        self.n_init = n_init
        self.fit_intercept = fit_intercept
        self.n_nonzero_features = n_nonzero_features
        self.positive_components = positive_components
        self.scale = scale
        self.backend = backend
        self.device = device
        self.n_jobs = n_jobs
        self.missing_values = missing_values
        self.locality = locality
        self.checkpoint = checkpoint
        self.checkpoint_interval = checkpoint_interval
        self.warm_start = warm_start

    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        W: Any = None,
        H: Any = None,
        fixed: Literal["W"] | int | None = None,
    ) -> Self:
        """Learn the components of X.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The data, of any sign.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each row counts, ≥ 0. None is 1 for each.
        W : array-like of shape (n_samples, n_components), default=None
            Weights to start from, with ``init="custom"``.
        H : array-like of shape (n_components, n_features), default=None
            Components to start from, with ``init="custom"``.
        fixed : "W" or int, default=None
            Keeps W, or the first rows of H, as they were given: see `factorize`.

        Returns
        -------
        self : SNMF
            The fitted estimator.

        Raises
        ------
        ValueError, TypeError
            If a parameter, X, W or H is invalid. The estimator is then unchanged.
        OSError
            If rows of X cannot be read, or the checkpoint cannot be written.
        """
        self._fit(X, y, W=W, H=H, sample_weight=sample_weight, fixed=fixed, out=False)
        return self

    def fit_transform(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        W: Any = None,
        H: Any = None,
        fixed: Literal["W"] | int | None = None,
        out: str | PathLike[str] | None = None,
    ) -> np.ndarray:
        """Learn the components of X, and return the weights of X.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The data, of any sign.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each row counts, ≥ 0. None is 1 for each.
        W : array-like of shape (n_samples, n_components), default=None
            Weights to start from, with ``init="custom"``.
        H : array-like of shape (n_components, n_features), default=None
            Components to start from, with ``init="custom"``.
        fixed : "W" or int, default=None
            Keeps W, or the first rows of H, as they were given: see `factorize`.
        out : path, default=None
            Writes W to this .npy file: see `transform`.

        Returns
        -------
        W : array of shape (n_samples, n_components)
            The weights, ≥ 0; `transform` returns the same for X.
        """
        given = {"W": W, "H": H, "sample_weight": sample_weight, "fixed": fixed, "out": out}
        result: Factorization = self._fit(X, y, **given)
        return result.W

    def add_components(self, X: Any, m: int = 1, *, sample_weight: Any = None) -> Self:
        """Learn m more components of X, and keep the existing ones unchanged.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The data.
        m : int, default=1
            The number of new components.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each row counts, ≥ 0. None is 1 for each.

        Returns
        -------
        self : SNMF
            The estimator. The new components follow the old ones in `components_`.

        Raises
        ------
        ValueError
            If m or X is invalid. The estimator is then unchanged.
        """
        check_is_fitted(self)
        if not is_whole(m, 1):
            raise ValueError(f"m must be a positive whole number; got {m!r}")
        data, k = Data.of(X).sized(), self.n_components_
        old = data.owner.asarray(self._components_on_host())
        init = "auto" if self.init == "custom" else self.init
        scale = self._on_host("scale_")
        more = {
            "n_components": k + int(m),
            "init": init,
            "scale": False if scale is None else scale,
        }
        self._fit(X, None, data, H=old, fixed=k, sample_weight=sample_weight, out=False, **more)
        return self

    @with_callbacks  # type: ignore[untyped-decorator]
    def _fit(self, X: Any, y: Any, data: Data | None = None, **given: Any) -> Factorization:
        data = Data.of(X).sized() if data is None else data
        seen = data.features_of(self)
        self._check_n_components()
        check_fixed(given.get("fixed"))
        callback = reporter(self, X, y, seen)
        parameters = {**self.get_params(deep=False), **given, "warm_start": False}
        if self.warm_start and hasattr(self, "components_") and not self._has_start(given):
            parameters.update(self._warm_start(data))
        if parameters["n_components"] == "auto":
            parameters["n_components"] = n_components_of(data, parameters)
        result = factorize(data, **parameters, callback=callback)
        fitted = dict(
            seen,
            components_=result.H,
            intercept_=result.intercept,
            scale_=result.scale,
            n_components_=result.H.shape[0],
            n_iter_=result.n_iter,
            reconstruction_err_=result.error,
            penalty_=result.penalty,
            rms_=result.rms,
            loss_curve_=data.owner.asarray(result.loss_curve),
        )
        self._become(fitted)  # only now: a fit which fails or is interrupted changes nothing
        if callback is not None:
            self._callback_fit_ctx.call_on_fit_task_end(estimator=self, X=X, y=y)
        return result

    def _check_n_components(self) -> None:
        k = self.n_components
        if k is not None and not (isinstance(k, str) and k == "auto") and not is_whole(k, 1):
            raise ValueError(f"n_components must be an int ≥ 1, 'auto' or None; got {k!r}")

    @staticmethod
    def _has_start(given: dict[str, Any]) -> bool:
        return any(given.get(name) is not None for name in ("W", "H"))

    def _warm_start(self, data: Data) -> dict[str, Any]:
        """Return the parameters that start a fit from the last components."""
        k, p = self.components_.shape
        if self.n_components not in (k, None, "auto") or data.shape[1] != p:
            raise ValueError(
                f"warm_start=True continues from {k} components of {p} features; X has "
                f"{data.shape[1]} features, and n_components={self.n_components}. Set "
                "warm_start=False to begin anew."
            )
        started = {"n_components": k, "H": self._components_on_host(), "init": "custom"}
        scale = self._on_host("scale_")
        if scale is not None and check_scale(self.scale, p) is True:
            started["scale"] = scale
        if self.fit_intercept:
            started["intercept"] = self._on_host("intercept_")
        arrays = {n: data.owner.asarray(A) for n, A in started.items() if hasattr(A, "dtype")}
        return started | arrays
