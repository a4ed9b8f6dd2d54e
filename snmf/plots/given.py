"""Checks of the arrays that displays get, from any library; they become NumPy arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.utils.validation import check_is_fitted

from snmf.storage.sparse_group import opened

Array = Any


def on_host(A: Array) -> np.ndarray:
    """Return an array of any library as a NumPy array."""
    if hasattr(A, "get") and hasattr(A, "device"):  # CuPy
        A = A.get()
    elif hasattr(A, "cpu"):  # PyTorch
        A = A.detach().cpu()
    return np.asarray(A)


def matrix(A: Array, name: str) -> np.ndarray:
    """Return A as a NumPy array; raise ValueError if it is no matrix of finite numbers."""
    return _checked(A, name, 2)


def vector(A: Array, name: str) -> np.ndarray:
    """Return A as a NumPy array; raise ValueError if it is no vector of finite numbers."""
    return _checked(A, name, 1)


def _checked(values: Array, name: str, ndim: int) -> np.ndarray:
    A = on_host(values)
    if A.ndim != ndim or not A.size:
        raise ValueError(f"{name} must be an array of {ndim} dimensions; got shape {A.shape}")
    if A.dtype.kind not in "biuf":
        raise ValueError(f"{name} must hold real numbers; got dtype {A.dtype}")
    if not np.isfinite(A).all():
        raise ValueError(f"{name} must be finite; got NaN or infinity")
    return A


def names_of(names: Sequence[str] | None, n_features: int) -> list[str] | None:
    """Return names as a list of str; raise ValueError if they are not one for every feature."""
    if names is None:
        return None
    if len(names) != n_features:
        raise ValueError(
            f"feature_names must have {n_features} entries, one for every feature; got {len(names)}"
        )
    return [str(name) for name in names]


def check_is_one_fit(estimator: Any) -> None:
    """Raise NotFittedError if the estimator is not fitted, or ValueError if it has many levels."""
    check_is_fitted(estimator)
    if hasattr(estimator, "levels_"):
        raise ValueError(
            f"estimator must have one matrix of components; {type(estimator).__name__} has one "
            "for every level. Give one of its levels_, such as estimator.levels_[0]."
        )


def components_of(estimator: Any) -> Array:
    """Return the components of a fit; raise ValueError if it has none in X, or many levels."""
    check_is_one_fit(estimator)
    if getattr(estimator, "kernel", "linear") != "linear":
        raise ValueError(
            "estimator must have components in the space of X; got one with "
            f"kernel={estimator.kernel!r}. Fit it with kernel='linear'."
        )
    check_is_fitted(estimator, "components_")
    return estimator.components_


def data_of_fit(X: Array, estimator: Any) -> Array:
    """Return X, a sparse one as CSR; raise ValueError if it lacks the columns of the fit.

    A group of HDF5 or Zarr with a CSR matrix is opened, as a fit does.
    """
    X = opened(X)
    if issparse(X):
        X = X.tocsr()
    elif not hasattr(X, "shape"):
        X = np.asarray(X)
    p = estimator.n_features_in_
    if len(X.shape) != 2 or X.shape[1] != p:
        raise ValueError(
            f"X must have {p} columns, as the data of the fit had; got the shape {tuple(X.shape)}"
        )
    return X
