"""What estimators do with components that were learned: transform, score and their like."""

from __future__ import annotations

import math
from os import PathLike
from typing import Any

import numpy as np
from sklearn import get_config
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from snmf._data import Data
from snmf._diagnostics import Diagnostics
from snmf._transform import Explained, exact_transform, exact_weights
from snmf.backends import owner


class FittedComponents(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """The methods of a fitted estimator: they use its components, and do not change it."""

    missing_values: float | None = None
    locality = 0.0

    def transform(self, X: Any, *, out: str | PathLike[str] | None = None) -> np.ndarray:
        """Compute the weights of X: solve one nonnegative least-squares problem per row.

        The problems have the λ of the fit. They are solved exactly.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The data.
        out : path, default=None
            Writes W to this .npy file, and returns the file memory-mapped. Set it if W does not
            fit in memory. The file appears when it is complete, and replaces a file of that name.

        Returns
        -------
        W : array of shape (n_samples, n_components)
            The minimiser of ``½‖X − W H‖² + λ Σ W`` over ``W ≥ 0``.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        ValueError
            If X is no matrix of finite real numbers, or has another number of features.
        OSError
            If rows of X cannot be read, or W cannot be written.
        """
        W: np.ndarray = exact_weights(self._data_for(X, "transform"), **self._fitted(), out=out)
        return W

    def _explained(self, X: Any, method: str, **given: Any) -> Explained:
        return exact_transform(self._data_for(X, method).sized(), **self._fitted(), **given)

    def _data_for(self, X: Any, method: str) -> Data:
        check_is_fitted(self)
        data = Data.of(X)
        source, fitted = data.owner.home, owner(self.components_).home
        if get_config()["array_api_dispatch"] and source != fitted:  # scikit-learn's rule
            raise ValueError(
                f"Inputs passed to {type(self).__name__}.{method}() must use the same namespace "
                f"and device as those passed to fit(), {fitted.place}; got {source.place}"
            )
        data.name_features(self, reset=False)
        return data

    def _fitted(self) -> dict[str, Any]:
        names = ("backend", "device", "n_jobs", "missing_values", "locality")
        parameters = {name: getattr(self, name) for name in names}
        factors = {
            "H": self._components_on_host(),
            "intercept": self._on_host("intercept_"),
            "scale": self._on_host("scale_"),
        }
        return {**factors, "penalty": self.penalty_, "rms": self.rms_, **parameters}

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Reconstruct data from weights, at the level and the scale of the data of the fit.

        Without an intercept and without `scale` this is ``W H``. With them it is
        ``(1 mᵀ + W H) × scale_``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components)
            The weights W.

        Returns
        -------
        X_original : array of shape (n_samples, n_features)
            The reconstruction.

        Raises
        ------
        ValueError
            If X does not have one column per component.
        """
        check_is_fitted(self)
        data = Data.of(X)
        ops, W = data.owner, data.X
        if W.shape[1] != self.n_components_:
            raise ValueError(
                f"X must have {self.n_components_} columns, one for every component; "
                f"got {W.shape[1]}. Pass the weights that transform returns."
            )
        with ops.active():
            H = ops.asarray(self._components_on_host(), data.dtype)
            found: np.ndarray = ops.matmul(ops.asarray(W, data.dtype), H)
            if (intercept := self._on_host("intercept_")) is not None:
                found = found + ops.asarray(intercept, data.dtype)
            if (scale := self._on_host("scale_")) is not None:
                found = found * ops.asarray(scale, data.dtype)
            return found

    def _become(self, found: dict[str, Any]) -> None:
        """Set the fitted attributes, in place of all earlier ones."""
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, name)
        self.__dict__.update(found)

    def _components_on_host(self) -> np.ndarray:
        return owner(self.components_).to_host(self.components_)

    def _on_host(self, name: str) -> np.ndarray | None:
        """Return a fitted array as a NumPy array, or None if the model has none."""
        found = getattr(self, name, None)
        return None if found is None else owner(found).to_host(found)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return the share of X that the model explains: ``1 − ‖X − transform(X) H‖² / ‖X‖²``.

        With an intercept m, ``1 mᵀ`` is added to ``transform(X) H``. With `scale`, X is divided by
        `scale_`.

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
        found = self._explained(X, "score", sample_weight=sample_weight, out=False)
        return found.score

    def bic(self, X: Any) -> float:
        """Return an information criterion [1]_, to compare numbers of components.

        A lower value is better. The criterion is ``N ln(‖X − W H‖² / N) + k (n + p) ln(N / (n +
        p))`` with W = ``transform(X)``. N is the number of observed entries of X, n that of its
        rows, and p that of its columns. This is N times IC_p1 of Bai and Ng.

        The Bayesian information criterion of Schwarz has ln N in place of ln(N / (n + p)). That
        is too much where parameters are added with every row and column: it takes 1 component
        where the noise is not small.

        Take it for large tables with noise alike in all entries. With less than about 50 columns
        it tends to the largest k that is compared, and so it does with a penalty if the noise is
        small: compare fits with sparsity = 0 then. `select_n_components` has neither limit.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The data.

        Returns
        -------
        bic : float
            The criterion; −inf if W H equals X.

        References
        ----------
        .. [1] J. Bai, S. Ng, "Determining the number of factors in approximate factor models",
           Econometrica 70(1), 2002.
        """
        found = self._explained(X, "bic", out=False)
        size, k = found.n_samples + self.n_features_in_, self.n_components_
        if not found.left:
            return -math.inf
        count = found.entries
        mean_square = math.log(found.left / count) + 2 * found.exponent * math.log(2)
        return float(count * mean_square + k * size * math.log(count / size))

    def diagnostics(self, X: Any, sample_weight: Any = None) -> Diagnostics:
        """Say of each component how much it explains, how often it is used, and what is near it.

        W is ``transform(X)``. With missing values, all sums are over the observed entries.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The data.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each row counts. None is 1 for each.

        Returns
        -------
        Diagnostics
            The share explained, usage, mass and largest cosine of each component. Print it for a
            table.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        ValueError
            If X is no matrix of finite real numbers, or has another number of features.

        Examples
        --------
        >>> import numpy as np
        >>> from snmf import SNMF
        >>> X = np.array([[3.0, -3.0, 0.0], [6.0, -6.0, 0.0], [0.0, 0.0, 4.0], [0.0, 0.0, 4.0]])
        >>> found = SNMF(n_components=2, sparsity=0.01, random_state=0).fit(X).diagnostics(X)
        >>> found.share.round(2), found.usage, round(found.total_mass, 2)
        (array([0.74, 0.26]), array([0.5, 0.5]), 0.99)
        """
        found = self._explained(
            X, "diagnostics", sample_weight=sample_weight, out=False, contributing=True
        )
        assert found.contributions is not None
        H = self._components_on_host()
        return Diagnostics.of(found.contributions, H, found.score)

    @property
    def _n_features_out(self) -> int:
        return int(self.n_components_)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.allow_nan = self.missing_values is not None
        tags.array_api_support = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
