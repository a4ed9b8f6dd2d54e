"""The scikit-learn face."""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np
from sklearn import get_config
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from snmf._factorize import Factorization, exact_transform, factorize
from snmf._rows import working_dtype
from snmf.backends import Backend, owner

Array = Any


class SNMF(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Semi-nonnegative matrix factorization.

    Data of any sign is written as ``X ≈ W H``, with weights ``W ≥ 0`` and components ``H`` of any
    sign, by minimising ``½‖X − W H‖²_F + λ Σ W`` [1]_.

    Parameters
    ----------
    n_components : int, default=None
        The number of components k. None is min(n_samples, n_features).
    tol : float, default=1e-5
        The fit stops when the objective, over ½‖X‖², falls by less than this in an iteration.
    max_iter : int, default=200
        The most iterations. One is one pass over the rows of X.
    progress_bar : bool, default=True
        Show a bar on a terminal or in a notebook.
    random_state : int, RandomState instance or None, default=None
        The seed of the start. The same seed gives the same bits.
    sparsity : float, default=0.0
        How much a weight costs: λ = sparsity × the root-mean-square norm of the rows of X.
        From 0.05 to 0.3 is a useful range; on rows of equal norm W is all zero from 1 on. With
        sparsity > 0 the rows of H are held in the unit ball.
    verbose : bool, default=False
        Print a line for every iteration.
    solver : {"mu", "hals"}, default="mu"
        The update of W: the multiplicative one of [1]_, or coordinate descent, which needs
        fewer iterations and makes exact zeros.
    accelerate : bool, default=True
        Repeat the W-step within a pass, and extrapolate H between passes. False is the plain
        alternation of [1]_. The objective never rises either way.
    init : {"kmeans", "svd", "random", "custom"}, default="kmeans"
        The start: k-means clusters, the singular value decomposition [2]_, random weights, or
        W, H or both as given to `fit`.
    n_init : int, default=1
        The number of restarts, of which the best is kept. "svd" and "custom" have one.
    backend : str or Backend, default="auto"
        The library that does the arithmetic. "auto" takes the one that X is an array of.
    device : object, default=None
        Where it is done, in that library's words.
    n_jobs : int, default=None
        The number of threads, each on a block of rows. None leaves threads to BLAS, −1 takes
        all cores.

    Attributes
    ----------
    components_ : array of shape (n_components, n_features)
        H, of unit rows, in the order of decreasing norm of the columns of W unless a start was
        given. A component that died is a zero row.
    n_components_ : int
        The number of components.
    n_iter_ : int
        The number of iterations.
    reconstruction_err_ : float
        ‖X − W H‖_F.
    penalty_ : float
        The λ of the fit, in units of X, which `transform` keeps.
    loss_curve_ : array of shape (n_iter_ + 1,)
        The objective over ½‖X‖², before the first and after every iteration. W is then solved
        for exactly, so that the result is not above its end.
    n_features_in_ : int
        The number of features seen by `fit`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, where X had names that are all strings.

    References
    ----------
    .. [1] C. Ding, T. Li, M. I. Jordan, "Convex and Semi-Nonnegative Matrix Factorizations",
       IEEE Transactions on Pattern Analysis and Machine Intelligence 32(1), 2010.
    .. [2] N. Gillis, A. Kumar, "Exact and heuristic algorithms for semi-nonnegative matrix
       factorization", SIAM Journal on Matrix Analysis and Applications 36(4), 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from snmf import SNMF
    >>> X = np.array([[2.0, -1.0], [4.0, -2.0], [-1.0, 3.0], [0.0, 0.0]])
    >>> model = SNMF(n_components=2, random_state=0)
    >>> W = model.fit_transform(X)
    >>> bool(W.min() >= 0), bool(np.allclose(W @ model.components_, X))
    (True, True)
    """

    def __init__(
        self,
        n_components: int | None = None,
        tol: float = 1e-5,
        max_iter: int = 200,
        progress_bar: bool = True,
        random_state: Any = None,
        sparsity: float = 0.0,
        verbose: bool = False,
        *,
        solver: str = "mu",
        accelerate: bool = True,
        init: str = "kmeans",
        n_init: int = 1,
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
        self.accelerate = accelerate
        self.init = init
        self.n_init = n_init
        self.backend = backend
        self.device = device
        self.n_jobs = n_jobs

    def fit(self, X: Any, y: Any = None, *, W: Any = None, H: Any = None) -> SNMF:
        """Learn the components of X.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The data, of any sign.
        y : None
            Ignored.
        W : array-like of shape (n_samples, n_components), default=None
            Weights to start from, with ``init="custom"``.
        H : array-like of shape (n_components, n_features), default=None
            Components to start from, with ``init="custom"``.

        Returns
        -------
        self : SNMF
            The fitted estimator.
        """
        self._fit(X, W, H)
        return self

    def fit_transform(self, X: Any, y: Any = None, *, W: Any = None, H: Any = None) -> Array:
        """Learn the components of X, and return its weights.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The data, of any sign.
        y : None
            Ignored.
        W : array-like of shape (n_samples, n_components), default=None
            Weights to start from, with ``init="custom"``.
        H : array-like of shape (n_components, n_features), default=None
            Components to start from, with ``init="custom"``.

        Returns
        -------
        W : array of shape (n_samples, n_components)
            The weights, ≥ 0: what `transform` gives for X.
        """
        return self._fit(X, W, H).W

    def _fit(self, X: Any, W: Any, H: Any) -> Factorization:
        fitted = copy(self)  # so that a fit which fails or is interrupted leaves nothing behind
        data = owner(X).check(X)
        validate_data(fitted, X, skip_check_array=True)
        result = factorize(data, W=W, H=H, **self.get_params(deep=False))
        fitted.components_ = result.H
        fitted.n_components_ = result.H.shape[0]
        fitted.n_iter_ = result.n_iter
        fitted.reconstruction_err_ = result.error
        fitted.penalty_ = result.penalty
        fitted.loss_curve_ = owner(X).asarray(result.loss_curve)
        self.__dict__ = fitted.__dict__
        return result

    def transform(self, X: Any) -> Array:
        """The exact weights of X: nonnegative least squares, row by row, with the λ of the fit.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The data.

        Returns
        -------
        W : array of shape (n_samples, n_components)
            The minimiser of ``½‖X − W H‖² + λ Σ W`` over ``W ≥ 0``.
        """
        return self._weights(X, "transform")[0]

    def _weights(self, X: Any, method: str) -> tuple[Array, float]:
        check_is_fitted(self)
        source, fitted = owner(X), owner(self.components_)
        if get_config()["array_api_dispatch"] and source != fitted:  # scikit-learn's rule
            raise ValueError(
                f"Inputs passed to {type(self).__name__}.{method}() must use the same namespace "
                f"and device as those passed to fit(), {fitted.place}; got {source.place}"
            )
        data = source.check(X)
        validate_data(self, X, reset=False, skip_check_array=True)
        return exact_transform(
            data,
            self._components_on_host(),
            self.penalty_,
            backend=self.backend,
            device=self.device,
            n_jobs=self.n_jobs,
        )

    def inverse_transform(self, X: Any) -> Array:
        """The data that weights stand for: ``W H``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components)
            Weights W.

        Returns
        -------
        X_original : array of shape (n_samples, n_features)
        """
        check_is_fitted(self)
        ops = owner(X)
        W = ops.check(X)
        if W.shape[1] != self.n_components_:
            raise ValueError(
                f"X must have {self.n_components_} columns, one for every component; "
                f"got {W.shape[1]}"
            )
        dtype = working_dtype(W.dtype)
        with ops.active():
            return ops.matmul(ops.asarray(W, dtype), ops.asarray(self._components_on_host(), dtype))

    def _components_on_host(self) -> np.ndarray:
        return owner(self.components_).to_host(self.components_)

    def score(self, X: Any, y: Any = None) -> float:
        """The share of X that is explained: ``1 − ‖X − transform(X) H‖² / ‖X‖²``.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The data.
        y : None
            Ignored.

        Returns
        -------
        score : float
            At most 1, which it is for X = 0.
        """
        return 1.0 - self._weights(X, "score")[1]

    @property
    def _n_features_out(self) -> int:
        return int(self.n_components_)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.array_api_support = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
